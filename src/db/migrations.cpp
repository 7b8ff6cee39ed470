#include "db/migrations.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <thread>

#include "core/crypto.hpp"
#include "db/session.hpp"

namespace hourz::db {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kAttempts = 10;
constexpr std::chrono::hours kLongestStep{2};

struct Applied {
  std::string name, checksum, applied_at;
  int oldest_program = 0;
};
using AppliedSteps = std::map<int, Applied>;

std::string label(int version, const std::string& name) {
  const std::string digits = std::to_string(version);
  return std::string(digits.size() < 4 ? 4 - digits.size() : 0, '0') + digits + "_" + name;
}

int to_int(const std::optional<std::string>& text) {
  int number = 0;
  if (text) std::from_chars(text->data(), text->data() + text->size(), number);
  return number;
}

AppliedSteps read_applied(Session& session) {
  AppliedSteps applied;
  if (!session.value("SELECT to_regclass('public.schema_migrations')")) return applied;
  for (const Session::Row& row : session.execute(
           "SELECT version, name, checksum, to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
           " oldest_program FROM public.schema_migrations ORDER BY version")) {
    applied[to_int(row[0])] = {row[1].value_or(""), row[2].value_or(""), row[3].value_or(""), to_int(row[4])};
  }
  return applied;
}

int newest(const std::vector<Migration>& known) { return known.empty() ? 0 : known.back().version; }

/// Throws unless what is applied is a prefix of what is known, or newer steps all allow for this program.
void check(const AppliedSteps& applied, const std::vector<Migration>& known) {
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i].version != static_cast<int>(i) + 1) throw MigrationError("migrations are not numbered 1, 2, 3 …");
  }
  for (const auto& [version, step] : applied) {
    if (version > newest(known)) {
      if (step.oldest_program > newest(known)) {
        throw MigrationError("the database's schema is at version " + std::to_string(applied.rbegin()->first) +
                             ", newer than this program, which knows up to " + std::to_string(newest(known)) +
                             ": run the newer program, or take the schema back with its `hourz migrate down`");
      }
      continue;
    }
    const Migration& migration = known[static_cast<std::size_t>(version) - 1];
    if (step.checksum != migration.checksum) {
      throw MigrationError("migration " + label(version, migration.name) +
                           " is not the one that was applied to this database on " + step.applied_at +
                           ": a step must not be changed once applied; undo the change and write a new step");
    }
  }
  const int highest = applied.empty() ? 0 : applied.rbegin()->first;
  for (const Migration& migration : known) {
    if (migration.version < highest && !applied.contains(migration.version)) {
      throw MigrationError("migration " + label(migration.version, migration.name) +
                           " is not applied to this database though later ones are");
    }
  }
}

MigrationError translated(const SessionError& error, const std::string& what) {
  return MigrationError(what + ": " + error.what(), error.lost);
}

/// A table's lock not to be had, or a deadlock: the same may well work a moment later.
bool worth_another_try(const SessionError& error) { return error.sqlstate == "55P03" || error.sqlstate == "40P01"; }

/// Runs the steps in one transaction; tries again when another session holds a lock.
template <class Steps>
void in_transaction(Session& session, const std::string& what, Steps steps) {
  for (int attempt = 1;; ++attempt) {
    try {
      // Whoever waits for a table's lock stops everyone behind it: so never for longer than a server's statements may
      // take (1.5 s unless it is set otherwise), or they would fail.
      session.execute("BEGIN; SET LOCAL lock_timeout = '1s'");
      steps();
      session.execute("COMMIT");
      return;
    } catch (const SessionError& error) {
      if (!error.lost) session.execute("ROLLBACK");
      if (!worth_another_try(error)) throw translated(error, what);
      if (attempt == kAttempts) {
        throw MigrationError(what + ": a table stayed locked by other work for " + std::to_string(kAttempts) +
                             " tries; try again when there is less of it");
      }
      std::this_thread::sleep_for(milliseconds(200 * attempt));
    } catch (...) {
      session.execute("ROLLBACK");
      throw;
    }
  }
}

/// A session that is alone in migrating this database, until it ends.
class Migrator {
 public:
  explicit Migrator(const std::string& url) : session_(url) {
    if (session_.server_version() < 150000) {
      throw MigrationError("PostgreSQL 15 or newer is needed; the database server is version " +
                           std::to_string(session_.server_version() / 10000));
    }
    // A migrator that is killed must not hold its locks until its statement is done.
    session_.execute(
        "SET client_min_messages = warning; SET search_path = public; SET statement_timeout = 0;"
        "SET client_connection_check_interval = '500ms'; SET idle_in_transaction_session_timeout = '60s';"
        "SET lock_timeout = '60s'");
    try {
      session_.execute("SELECT pg_advisory_lock(hashtextextended('hourz schema_migrations', 0))", {}, seconds(70));
    } catch (const SessionError& error) {
      if (error.sqlstate != "55P03") throw;
      throw MigrationError("another process has been migrating this database for over 60 s");
    }
  }

  Session& session() { return session_; }

  void make_extensions() {
    for (const std::string extension : {"postgis"}) {
      const auto installed = session_.value(
          "SELECT (installed_version IS NOT NULL)::int FROM pg_available_extensions WHERE name = $1", {extension});
      if (!installed) {
        throw MigrationError("the database server lacks " +
                             std::string(extension == "postgis" ? "PostGIS" : "the extension " + extension) +
                             ": install it there (on Debian: apt-get install postgresql-15-postgis-3)");
      }
      if (*installed == "1") continue;
      try {
        session_.execute("CREATE EXTENSION IF NOT EXISTS " + extension, {}, seconds(120));
      } catch (const SessionError& error) {
        if (error.sqlstate != "42501") throw;
        throw MigrationError("role " + session_.user() + " may not add the extension " + extension +
                             ": run `CREATE EXTENSION " + extension + "` in database " + session_.database() +
                             " as a superuser, once");
      }
    }
  }

  void make_table() {
    session_.execute(
        "CREATE TABLE IF NOT EXISTS public.schema_migrations ("
        " version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
        " oldest_program integer NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
        "COMMENT ON TABLE public.schema_migrations IS 'read-only: the steps applied, written by the migrator alone'");
  }

  void apply(const Migration& step) {
    in_transaction(session_, "migration " + label(step.version, step.name), [&] {
      session_.execute(step.up, {}, kLongestStep);
      must_be_open(step);
      session_.execute(
          "INSERT INTO public.schema_migrations (version, name, checksum, oldest_program) VALUES ($1, $2, $3, $4)",
          {std::to_string(step.version), step.name, step.checksum, std::to_string(step.oldest_program())});
    });
  }

  void undo(const Migration& step) {
    in_transaction(session_, "undoing migration " + label(step.version, step.name), [&] {
      session_.execute(step.down, {}, kLongestStep);
      must_be_open(step);
      session_.execute("DELETE FROM public.schema_migrations WHERE version = $1", {std::to_string(step.version)});
    });
  }

  /// Changes only what is not yet as it should be, so that a start with nothing to do writes nothing.
  void grant() {
    if (!session_.value("SELECT 1 FROM pg_roles WHERE rolname = 'hourz_app' AND rolname <> current_user")) return;
    in_transaction(session_, "the rights of role hourz_app", [&] {
      session_.execute(R"(DO $$
DECLARE
  item record;
  kind text;
BEGIN
  IF NOT has_schema_privilege('hourz_app', 'public', 'USAGE') THEN
    GRANT USAGE ON SCHEMA public TO hourz_app;
  END IF;
  IF has_schema_privilege('hourz_app', 'public', 'CREATE') THEN
    BEGIN
      REVOKE CREATE ON SCHEMA public FROM PUBLIC, hourz_app;
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_default_acl WHERE defaclrole = current_user::regrole
                 AND defaclnamespace = 'public'::regnamespace) THEN
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO hourz_app;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO hourz_app;
  END IF;
  FOR item IN
    SELECT c.oid::regclass::text AS name, p.privilege, p.wanted,
           has_table_privilege('hourz_app', c.oid, p.privilege) AS held
    FROM pg_class c
    CROSS JOIN LATERAL (SELECT coalesce(obj_description(c.oid, 'pg_class'), '') AS comment) d
    CROSS JOIN LATERAL (VALUES
      ('SELECT', true),
      ('INSERT', d.comment NOT LIKE 'read-only%'),
      ('UPDATE', d.comment NOT LIKE 'read-only%' AND d.comment NOT LIKE 'append-only%'),
      ('DELETE', d.comment NOT LIKE 'read-only%' AND d.comment NOT LIKE 'append-only%'),
      ('TRUNCATE', false)) p (privilege, wanted)
    WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = current_user::regrole
      AND c.relkind IN ('r', 'p', 'v', 'm')
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                      AND e.deptype = 'e')
  LOOP
    IF item.wanted AND NOT item.held THEN
      EXECUTE format('GRANT %s ON %s TO hourz_app', item.privilege, item.name);
    ELSIF item.held AND NOT item.wanted THEN
      EXECUTE format('REVOKE %s ON %s FROM hourz_app', item.privilege, item.name);
    END IF;
  END LOOP;
  FOR item IN
    SELECT c.oid::regclass::text AS name FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = current_user::regrole AND c.relkind = 'S'
      AND NOT (has_sequence_privilege('hourz_app', c.oid, 'USAGE')
               AND has_sequence_privilege('hourz_app', c.oid, 'SELECT'))
  LOOP
    EXECUTE format('GRANT USAGE, SELECT ON SEQUENCE %s TO hourz_app', item.name);
  END LOOP;
END $$)");
    });
  }

 private:
  void must_be_open(const Migration& step) const {
    if (!session_.in_transaction()) {
      throw MigrationError("migration " + label(step.version, step.name) +
                           " ended its own transaction; what it did up to there stays done");
    }
  }

  Session session_;
};

template <class Work>
auto translating(Work work) {
  try {
    return work();
  } catch (const SessionError& error) {
    throw translated(error, error.lost ? "the database cannot be reached" : "the database refused");
  }
}

}  // namespace

Migration::Migration(int number, std::string label_text, std::string up_text, std::string down_text, std::string sum)
    : version(number),
      name(std::move(label_text)),
      up(std::move(up_text)),
      down(std::move(down_text)),
      checksum(std::move(sum)) {
  if (checksum.empty()) checksum = to_hex(as_text(sha256(up)));
}

int Migration::oldest_program() const {
  constexpr std::string_view mark = "-- oldest program: ";
  for (std::size_t at = up.find(mark); at != std::string::npos; at = up.find(mark, at + 1)) {
    if (at != 0 && up[at - 1] != '\n') continue;
    int number = 0;
    const char* const digits = up.data() + at + mark.size();
    if (std::from_chars(digits, up.data() + up.size(), number).ec == std::errc{}) return number;
  }
  return version;
}

int migrate_up(const std::string& owner_url, const std::vector<Migration>& known) {
  return translating([&] {
    Migrator migrator(owner_url);
    AppliedSteps applied = read_applied(migrator.session());
    check(applied, known);
    migrator.make_extensions();
    migrator.make_table();
    int count = 0;
    for (const Migration& step : known) {
      if (applied.contains(step.version)) continue;
      migrator.apply(step);
      ++count;
    }
    migrator.grant();
    return count;
  });
}

int migrate_down(const std::string& owner_url, int to_version, const std::vector<Migration>& known) {
  return translating([&] {
    Migrator migrator(owner_url);
    const AppliedSteps applied = read_applied(migrator.session());
    check(applied, known);
    if (to_version < 0) throw MigrationError("there is no schema version " + std::to_string(to_version));
    int count = 0;
    for (auto step = applied.rbegin(); step != applied.rend() && step->first > to_version; ++step) {
      if (step->first > newest(known)) {
        throw MigrationError("migration " + label(step->first, step->second.name) +
                             " is not known to this program, which cannot undo it: use the newer one");
      }
      migrator.undo(known[static_cast<std::size_t>(step->first) - 1]);
      ++count;
    }
    return count;
  });
}

std::vector<MigrationState> migration_status(const std::string& url, const std::vector<Migration>& known) {
  return translating([&] {
    Session session(url);
    const AppliedSteps applied = read_applied(session);
    std::map<int, MigrationState> states;
    for (const Migration& migration : known) {
      MigrationState& state = states[migration.version];
      state.version = migration.version;
      state.name = migration.name;
      const auto found = applied.find(migration.version);
      if (found == applied.end()) continue;
      state.applied_at = found->second.applied_at;
      state.checksum_ok = found->second.checksum == migration.checksum;
    }
    for (const auto& [version, step] : applied) {
      if (!states.contains(version)) states[version] = {version, step.name, step.applied_at, true, false};
    }
    std::vector<MigrationState> list;
    for (auto& [version, state] : states) list.push_back(std::move(state));
    return list;
  });
}

void check_schema(const std::string& app_url, const std::vector<Migration>& known) {
  translating([&] {
    Session session(app_url);
    const AppliedSteps applied = read_applied(session);
    check(applied, known);
    const auto pending = std::count_if(known.begin(), known.end(),
                                       [&](const Migration& step) { return !applied.contains(step.version); });
    if (pending > 0) {
      throw MigrationError("the database lacks " + std::to_string(pending) + " of this program's migrations (" +
                           label(newest(known), known.back().name) + " is the newest): run `hourz migrate up`");
    }
  });
}

}  // namespace hourz::db
