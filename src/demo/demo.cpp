#include "demo/demo.hpp"

#include <chrono>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <vector>

#include "core/crypto.hpp"
#include "core/geo.hpp"
#include "core/text.hpp"
#include "demo/copy.hpp"
#include "demo/population.hpp"

namespace hourz::demo {
namespace {

using Progress = std::function<void(std::string_view)>;

constexpr auto loaded_tables = "('users'), ('gigs'), ('gig_assignments'), ('gig_events'), ('gig_cells'), ('timers')";

/// What slows a load down, as the statements that take it away and that put it back exactly as it was.
struct Dismantled {
  std::vector<std::string> take_away;
  std::vector<std::string> put_back_indexes;
  std::vector<std::string> put_back_rest;
};

/// Tables that hold people and gigs, and all that refer to them: a truncation must name them all, and an empty database
/// has nothing in any of them.
std::vector<std::string> tables_about_people(Loader& loader) {
  std::vector<std::string> tables;
  for (const auto& row : loader.rows(R"(
      WITH RECURSIVE about(id) AS (
        VALUES ('users'::regclass::oid), ('gigs'::regclass), ('gig_cells'::regclass), ('gig_cell_changes'::regclass)
        UNION SELECT conrelid FROM pg_constraint JOIN about ON confrelid = about.id WHERE contype = 'f')
      SELECT id::regclass FROM about ORDER BY id::regclass::text)")) {
    tables.push_back(row[0]);
  }
  return tables;
}

Dismantled dismantled(Loader& loader) {
  Dismantled all;
  for (const auto& row : loader.rows(std::string(R"(
      SELECT c.conrelid::regclass, quote_ident(c.conname), pg_get_constraintdef(c.oid)
      FROM pg_constraint c JOIN (VALUES )") +
                                     loaded_tables + R"() AS t(name) ON c.conrelid = t.name::regclass
      WHERE c.contype = 'f' ORDER BY c.conname)")) {
    all.take_away.push_back("ALTER TABLE " + row[0] + " DROP CONSTRAINT " + row[1]);
    all.put_back_rest.push_back("ALTER TABLE " + row[0] + " ADD CONSTRAINT " + row[1] + " " + row[2]);
  }
  for (const auto& row : loader.rows(std::string(R"(
      SELECT i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
      FROM pg_index i JOIN (VALUES )") +
                                     loaded_tables + R"() AS t(name) ON i.indrelid = t.name::regclass
      WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
      ORDER BY i.indexrelid::regclass::text)")) {
    all.take_away.push_back("DROP INDEX " + row[0]);
    all.put_back_indexes.push_back(row[1]);
  }
  return all;
}

/// Triggers that are on, of the tables given: they would count each row, or forbid truncation.
Dismantled silenced(Loader& loader, const std::vector<std::string>& tables) {
  Dismantled all;
  for (const std::string& table : tables) {
    for (const auto& row : loader.rows("SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = '" + table +
                                       "'::regclass AND NOT tgisinternal AND tgenabled = 'O' ORDER BY tgname")) {
      all.take_away.push_back("ALTER TABLE " + table + " DISABLE TRIGGER " + row[0]);
      all.put_back_rest.push_back("ALTER TABLE " + table + " ENABLE TRIGGER " + row[0]);
    }
  }
  return all;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

/// Texts and their search terms, each worked out once: there are far fewer texts than gigs, and breaking Thai into
/// words is slow.
class Texts {
 public:
  struct Entry {
    std::string title;
    std::string description;
    std::string terms;  ///< an encoded field
  };
  const Entry& of(const Gig& gig) {
    auto& entry = entries_[static_cast<std::size_t>(gig.text)];
    if (!entry) {
      Wording words = Population::words_of(gig);
      std::string terms = encode_texts(search_terms(words.title + " " + words.description));
      entry = Entry{std::move(words.title), std::move(words.description), std::move(terms)};
    }
    return *entry;
  }

 private:
  std::vector<std::optional<Entry>> entries_{static_cast<std::size_t>(Population::texts())};
};

/// Returns how many gigs each person has completed as helper.
std::vector<std::int32_t> copy_gigs(Loader& loader, const Population& population, const Options& options) {
  std::vector<std::int32_t> completed(population.people().size());
  Texts texts;
  BinaryCopy copy(loader, "gigs",
                  "id, seeker_id, helper_id, title, description, category, duration_hours, budget, location, "
                  "public_location, cell_x, cell_y, address_text, terms, status, starts_at, expires_at, created_at, "
                  "updated_at, accepted_at, started_at, completed_at, cancelled_at, cancel_reason, version",
                  true);
  for (std::int64_t i = 0; i < population.gig_count(); ++i) {
    const Gig gig = population.gig(i);
    const Texts::Entry& text = texts.of(gig);
    const Person& seeker = population.people()[static_cast<std::size_t>(gig.seeker)];
    const Point shown = blurred(options.blur_key, seeker.id, gig.pin, options.blur_radius_m);
    const Cell cell = cell_of(shown);
    copy.row(25);
    copy.uuid(gig.id);
    copy.uuid(seeker.id);
    if (gig.helper == Gig::nobody) {
      copy.null();
    } else {
      copy.uuid(population.people()[static_cast<std::size_t>(gig.helper)].id);
    }
    copy.text(text.title);
    copy.text(text.description);
    copy.text(gig.kind->category);
    copy.float64(gig.half_hours * 0.5);
    copy.int64(gig.budget_satang);
    copy.geography(gig.pin);
    copy.geography(shown);
    copy.int32(cell.x);
    copy.int32(cell.y);
    copy.text(std::string(gig.place->name) + " Soi " + std::to_string(gig.street) + ", " +
              std::string(gig.place->district) + ", " + std::string(gig.place->province) + " " +
              std::string(gig.place->postal_code));
    copy.raw(text.terms);
    copy.text(word(gig.status));
    copy.optional_time(gig.starts_at);
    copy.optional_time(gig.expires_at);
    copy.time(gig.created_at);
    copy.time(gig.events[static_cast<std::size_t>(gig.event_count - 1)].at);
    // A gig that is open again was accepted once, but is not now.
    copy.optional_time(gig.helper == Gig::nobody ? Timestamp{} : gig.time_of(Action::accept));
    copy.optional_time(gig.time_of(Action::start));
    copy.optional_time(gig.time_of(Action::complete));
    copy.optional_time(gig.time_of(Action::cancel));
    copy.optional_text(gig.reason);
    copy.int64(gig.event_count);
    if (gig.status == Status::completed) ++completed[static_cast<std::size_t>(gig.helper)];
  }
  copy.finish();
  return completed;
}

void copy_people(Loader& loader, const Population& population, const Options& options,
                 const std::vector<std::int32_t>& completed) {
  BinaryCopy copy(loader, "users",
                  "id, email, email_verified, password_hash, name, bio, phone_number, is_available, is_profile_setup, "
                  "completed_gigs, fixed_location, public_location, district, province, postal_code, created_at, "
                  "updated_at",
                  true);
  for (std::size_t i = 0; i < population.people().size(); ++i) {
    const Person& person = population.people()[i];
    copy.row(17);
    copy.uuid(person.id);
    copy.text(person.email);
    copy.boolean(true);
    copy.text(options.password_hash);
    copy.text(person.name);
    copy.optional_text(person.bio);
    copy.text(person.phone_number);
    copy.boolean(person.is_available);
    copy.boolean(true);
    copy.int32(completed[i]);
    if (person.has_location) {
      copy.geography(person.home);
      copy.geography(blurred(options.blur_key, person.id, person.home, options.blur_radius_m));
    } else {
      copy.null();
      copy.null();
    }
    copy.text(person.place->district);
    copy.text(person.place->province);
    copy.text(person.place->postal_code);
    copy.time(person.created_at);
    copy.time(person.created_at);
  }
  copy.finish();
}

void copy_events(Loader& loader, const Population& population) {
  BinaryCopy copy(loader, "gig_events", "gig_id, version, action, actor_id, from_status, to_status, reason, at", true);
  for (std::int64_t i = 0; i < population.gig_count(); ++i) {
    const Gig gig = population.gig(i);
    for (int version = 1; version <= gig.event_count; ++version) {
      const Event& event = gig.events[static_cast<std::size_t>(version - 1)];
      copy.row(8);
      copy.uuid(gig.id);
      copy.int64(version);
      copy.text(word(event.action));
      copy.uuid(population.people()[static_cast<std::size_t>(event.actor)].id);
      if (event.action == Action::create) {
        copy.null();
      } else {
        copy.text(word(event.from));
      }
      copy.text(word(event.to));
      copy.optional_text(event.action == Action::cancel ? gig.reason : std::string_view{});
      copy.time(event.at);
    }
  }
  copy.finish();
}

/// One row for each time somebody had a gig; only a gig that is still theirs has no end.
void copy_assignments(Loader& loader, const Population& population) {
  BinaryCopy copy(loader, "gig_assignments", "gig_id, helper_id, accepted_at, ended_at", true);
  for (std::int64_t i = 0; i < population.gig_count(); ++i) {
    const Gig gig = population.gig(i);
    for (int n = 0; n < gig.event_count; ++n) {
      const Event& accepted = gig.events[static_cast<std::size_t>(n)];
      if (accepted.action != Action::accept) continue;
      copy.row(4);
      copy.uuid(gig.id);
      copy.uuid(population.people()[static_cast<std::size_t>(accepted.actor)].id);
      copy.time(accepted.at);
      Timestamp ended;
      for (int later = n + 1; later < gig.event_count && ended.microseconds == 0; ++later) {
        const Event& event = gig.events[static_cast<std::size_t>(later)];
        if (event.action != Action::start) ended = event.at;
      }
      copy.optional_time(ended);
    }
  }
  copy.finish();
}

void copy_timers(Loader& loader, const Population& population) {
  BinaryCopy copy(loader, "timers", "kind, subject_id, due_at", false);
  for (std::int64_t i = 0; i < population.gig_count(); ++i) {
    const Gig gig = population.gig(i);
    if (gig.status != Status::pending || gig.expires_at.microseconds == 0) continue;
    copy.row(3);
    copy.text("gig.expire");
    copy.uuid(gig.id);
    copy.time(gig.expires_at);
  }
  copy.finish();
}

/// The finest cells first, then each coarser level from the finest: the gigs are read once.
constexpr auto fill_cells = R"(
  WITH finest AS MATERIALIZED (
    SELECT cell_y AS y, cell_x AS x, count(*) AS count,
           sum(round(ST_Y(public_location::geometry) * 1e6)::bigint) AS latitude_sum,
           sum(round(ST_X(public_location::geometry) * 1e6)::bigint) AS longitude_sum
    FROM gigs WHERE status = 'PENDING' GROUP BY cell_y, cell_x)
  INSERT INTO gig_cells (level, y, x, count, latitude_sum, longitude_sum)
  SELECT level, y >> (20 - level), x >> (20 - level), sum(count), sum(latitude_sum), sum(longitude_sum)
  FROM finest CROSS JOIN generate_series(0, 20, 2) AS level
  GROUP BY 1, 2, 3 ORDER BY 1, 2, 3)";

/// The rooms of gigs that somebody is at, as accepting them would have opened them: two people who can talk at once.
constexpr auto open_rooms = R"(
  WITH room AS (
    INSERT INTO chat_rooms (id, gig_id, gig_title, seeker_id, helper_id, last_seq, created_at, updated_at)
    SELECT md5('room of ' || id)::uuid, id, title, seeker_id, helper_id, 1, accepted_at, accepted_at
    FROM gigs WHERE status IN ('ACCEPTED', 'IN_PROGRESS') RETURNING *),
  people AS (
    INSERT INTO chat_participants (room_id, user_id)
    SELECT id, unnest(ARRAY[seeker_id, helper_id]) FROM room)
  INSERT INTO chat_messages (room_id, seq, id, type, content, created_at)
  SELECT id, 1, md5('opening of ' || id)::uuid, 'SYSTEM', 'The gig is accepted. You can talk here until it ends.', created_at
  FROM room)";

/// Says what is being done, and afterwards how long it took.
class Steps {
 public:
  explicit Steps(Progress progress) : progress_(std::move(progress)) {}
  template <typename Work>
  void operator()(const std::string& what, Work work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, ": %.1f s", took.count());
    if (progress_) progress_(what + seconds);
  }

 private:
  Progress progress_;
};

}  // namespace

bool is_empty(const std::string& owner_url) {
  Loader loader(owner_url);
  return loader.rows("SELECT FROM users LIMIT 1").empty();
}

Loaded load(const std::string& owner_url, const Options& options, Progress progress) {
  start_crypto();
  const Population population(options.seed, options.users, options.gigs, options.base_time);
  Steps step(std::move(progress));
  Loader loader(owner_url);
  loader.run("BEGIN");
  loader.run(
      "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;"
      "SET LOCAL lock_timeout = '30s'; SET LOCAL maintenance_work_mem = '512MB'; SET LOCAL work_mem = '256MB'");
  loader.run("LOCK TABLE users, gigs, timers IN ACCESS EXCLUSIVE MODE");
  const std::vector<std::string> tables = tables_about_people(loader);
  for (const std::string& table : tables) {
    // Cells are counted from the gigs; whatever they say without one is nothing.
    if (table == "gig_cells" || table == "gig_cell_changes") continue;
    if (!loader.rows("SELECT FROM " + table + " LIMIT 1").empty()) {
      throw std::runtime_error("demonstration data goes into an empty database only, and table " + table + " has rows");
    }
  }
  const Dismantled triggers = silenced(loader, tables);
  const Dismantled parts = dismantled(loader);
  for (const std::string& sql : triggers.take_away) loader.run(sql);
  // Rows copied into a table that was truncated in the same transaction can be frozen at once: no vacuum later.
  loader.run("TRUNCATE " + joined(tables));
  for (const std::string& sql : parts.take_away) loader.run(sql);

  std::vector<std::int32_t> completed;
  step(std::to_string(options.gigs) + " gigs", [&] { completed = copy_gigs(loader, population, options); });
  step(std::to_string(options.users) + " people", [&] { copy_people(loader, population, options, completed); });
  step("their history", [&] { copy_events(loader, population); });
  step("who had which gig", [&] { copy_assignments(loader, population); });
  step("expiry timers", [&] { copy_timers(loader, population); });
  step("cells of the map", [&] { loader.run(fill_cells); });
  for (const std::string& sql : parts.put_back_indexes) step(sql.substr(0, sql.find(" ON ")), [&] { loader.run(sql); });
  step("foreign keys", [&] {
    for (const std::string& sql : parts.put_back_rest) loader.run(sql);
  });
  for (const std::string& sql : triggers.put_back_rest) loader.run(sql);
  step("chat rooms", [&] { loader.run(open_rooms); });
  step("statistics", [&] {
    loader.run(
        "ANALYZE users, gigs, gig_assignments, gig_events, gig_cells, timers, chat_rooms, chat_participants, "
        "chat_messages");
  });
  step("commit", [&] { loader.run("COMMIT"); });
  return {options.users,
          options.gigs,
          {std::string(seeker_email)},
          {std::string(helper_email)},
          std::string(demo_password)};
}

}  // namespace hourz::demo
