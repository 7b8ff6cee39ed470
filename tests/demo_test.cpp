// Demonstration data: the same for a seed, true to the rules of the schema, and leaving the schema as it found it.
#include "demo/demo.hpp"
#include "temporary_folder.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <set>

#include "core/text.hpp"
#include "db/cluster.hpp"
#include "db/migrations.hpp"
#include "demo/copy.hpp"
#include "demo/population.hpp"

namespace hourz::demo {
namespace {

constexpr Timestamp base_time{1'795'000'000'000'000};  // 2026-11-18

Options options(std::uint64_t seed) {
  Options all;
  all.users = 200;
  all.gigs = 5000;
  all.seed = seed;
  all.blur_key = "a key";
  all.password_hash = "a hash";
  all.base_time = base_time;
  return all;
}

/// One throwaway cluster for all; each database has the schema and is empty.
class Demo : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder() = make_temporary_folder("demo");
    cluster() = std::make_unique<db::Cluster>(db::ClusterOptions{.directory = folder(), .durable = false});
    cluster()->start();
    db::migrate_up(cluster()->owner_url());
  }
  static void TearDownTestSuite() {
    cluster().reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder(), ignored);
  }
  static std::filesystem::path& folder() {
    static std::filesystem::path path;
    return path;
  }
  static std::unique_ptr<db::Cluster>& cluster() {
    static std::unique_ptr<db::Cluster> one;
    return one;
  }

  /// Owner's URL of an empty database with the schema.
  static std::string database(const std::string& name) {
    Loader(cluster()->superuser_url()).run("CREATE DATABASE " + name + " TEMPLATE hourz OWNER hourz_owner");
    std::string url = cluster()->owner_url();
    const auto at = url.find("/hourz?");
    if (at != std::string::npos) return url.replace(at, 6, "/" + name);
    return url + " dbname=" + name;
  }

  static std::string one(Loader& loader, const std::string& sql) { return loader.rows(sql).at(0).at(0); }

  static std::string content(Loader& loader) {
    std::string all;
    for (const std::string table : {"users", "gigs", "gig_events", "gig_assignments", "gig_cells", "timers",
                                    "chat_rooms", "chat_participants", "chat_messages"}) {
      all +=
          table + " " +
          one(loader, "SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM " + table + " t") +
          "\n";
    }
    return all;
  }

  /// Everything the load takes away for its time.
  static std::string furniture(Loader& loader) {
    return one(loader, R"(
        SELECT string_agg(line, chr(10) ORDER BY line) FROM (
          SELECT indexdef AS line FROM pg_indexes WHERE schemaname = 'public'
          UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) || convalidated
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace
          UNION ALL SELECT tgname || ' ' || tgenabled::text || ' ' || pg_get_triggerdef(oid)
            FROM pg_trigger WHERE NOT tgisinternal
          UNION ALL SELECT 'invalid ' || indexrelid::regclass FROM pg_index WHERE NOT indisvalid) AS everything)");
  }

  static std::int64_t count(Loader& loader, const std::string& from) {
    return std::stoll(one(loader, "SELECT count(*) FROM " + from));
  }
};

TEST_F(Demo, SameSeedSameContentAndAnotherSeedAnother) {
  const std::string first = database("first");
  const std::string second = database("second");
  const std::string third = database("third");
  EXPECT_TRUE(is_empty(first));
  const Loaded loaded = load(first, options(7), {});
  EXPECT_FALSE(is_empty(first));
  EXPECT_EQ(loaded.users, 200);
  EXPECT_EQ(loaded.gigs, 5000);
  load(second, options(7), {});
  load(third, options(8), {});
  Loader a(first), b(second), c(third);
  EXPECT_EQ(content(a), content(b));
  EXPECT_NE(content(a), content(c));
}

TEST_F(Demo, LeavesTheSchemaAsItWas) {
  const std::string url = database("schema_kept");
  Loader loader(url);
  const std::string before = furniture(loader);
  std::vector<std::string> lines;
  load(url, options(1), [&lines](std::string_view line) { lines.emplace_back(line); });
  EXPECT_EQ(furniture(loader), before);
  EXPECT_FALSE(lines.empty());
  // The guard of the state machine and the foreign keys work again.
  EXPECT_THROW(loader.run("UPDATE gigs SET status = 'PENDING', helper_id = NULL WHERE status = 'COMPLETED'"),
               std::runtime_error);
  EXPECT_THROW(loader.run("DELETE FROM users"), std::runtime_error);
  loader.run("UPDATE gigs SET status = 'CANCELLED' WHERE id = (SELECT id FROM gigs WHERE status = 'PENDING' LIMIT 1)");
  EXPECT_EQ(count(loader, "gig_cell_changes"), 1);
}

TEST_F(Demo, TheTablesAgreeWithEachOther) {
  const std::string url = database("agreement");
  load(url, options(1), {});
  Loader loader(url);
  EXPECT_EQ(count(loader, "users"), 200);
  EXPECT_EQ(count(loader, "gigs"), 5000);
  const auto pending = count(loader, "gigs WHERE status = 'PENDING'");
  EXPECT_GT(pending, 1000);
  EXPECT_LT(pending, 1500);
  EXPECT_EQ(count(loader, "gig_cell_changes"), 0);

  // Cells, counted again in another way.
  EXPECT_EQ(count(loader, R"((
      (SELECT level, y, x, count, latitude_sum, longitude_sum FROM gig_cells)
      EXCEPT ALL
      (SELECT level::smallint, cell_y >> (20 - level), cell_x >> (20 - level), count(*)::integer,
              sum(round(ST_Y(public_location::geometry) * 1e6))::bigint,
              sum(round(ST_X(public_location::geometry) * 1e6))::bigint
       FROM gigs, generate_series(0, 20, 2) AS level WHERE status = 'PENDING' GROUP BY 1, 2, 3)) AS wrong)"),
            0);
  EXPECT_EQ(count(loader, "(SELECT level FROM gig_cells GROUP BY level HAVING sum(count) = " + std::to_string(pending) +
                              ") AS levels"),
            11);

  // History: versions 1 to the gig's own, each event from where the last one led, ending in the gig's status.
  EXPECT_EQ(count(loader, R"(gigs g WHERE version <> (SELECT count(*) FROM gig_events e WHERE e.gig_id = g.id)
      OR version <> (SELECT max(version) FROM gig_events e WHERE e.gig_id = g.id)
      OR status <> (SELECT to_status FROM gig_events e WHERE e.gig_id = g.id ORDER BY version DESC LIMIT 1)
      OR updated_at <> (SELECT max(at) FROM gig_events e WHERE e.gig_id = g.id)
      OR created_at <> (SELECT at FROM gig_events e WHERE e.gig_id = g.id AND action = 'CREATE' AND version = 1))"),
            0);
  EXPECT_EQ(
      count(loader, R"((SELECT from_status, at, lag(to_status) OVER history AS came_from, lag(at) OVER history AS before
      FROM gig_events WINDOW history AS (PARTITION BY gig_id ORDER BY version)) AS e
      WHERE from_status IS DISTINCT FROM came_from OR at <= before)"),
      0);
  EXPECT_EQ(count(loader, "gig_events WHERE at > " + std::string("to_timestamp(1795000000)")), 0);
  EXPECT_EQ(count(loader, R"(gigs WHERE (status IN ('ACCEPTED', 'IN_PROGRESS', 'COMPLETED')) <> (accepted_at IS NOT NULL
      AND status <> 'CANCELLED') OR (status = 'COMPLETED') <> (completed_at IS NOT NULL)
      OR (status = 'CANCELLED') <> (cancelled_at IS NOT NULL) OR (status = 'PENDING' AND accepted_at IS NOT NULL))"),
            0);

  // Who has a gig now, who has done how many, and what the clock will end.
  EXPECT_EQ(
      count(loader, R"(gigs g FULL JOIN (SELECT * FROM gig_assignments WHERE ended_at IS NULL) a ON a.gig_id = g.id
      WHERE (g.status IN ('ACCEPTED', 'IN_PROGRESS')) <> (a.gig_id IS NOT NULL)
         OR (a.gig_id IS NOT NULL AND (a.helper_id <> g.helper_id OR a.accepted_at <> g.accepted_at)))"),
      0);
  EXPECT_EQ(count(loader, R"(gigs g FULL JOIN chat_rooms r ON r.gig_id = g.id
      WHERE (g.status IN ('ACCEPTED', 'IN_PROGRESS')) <> (r.id IS NOT NULL)
         OR (r.id IS NOT NULL AND (r.helper_id <> g.helper_id OR r.seeker_id <> g.seeker_id OR NOT r.is_active
             OR (SELECT count(*) FROM chat_participants p WHERE p.room_id = r.id) <> 2
             OR (SELECT count(*) FROM chat_messages m WHERE m.room_id = r.id) <> r.last_seq)))"),
            0);
  EXPECT_EQ(count(loader, R"(users u WHERE completed_gigs <>
      (SELECT count(*) FROM gigs g WHERE g.helper_id = u.id AND g.status = 'COMPLETED'))"),
            0);
  EXPECT_EQ(count(loader, R"(gigs g FULL JOIN timers t ON t.subject_id = g.id AND t.kind = 'gig.expire'
      WHERE (g.status = 'PENDING' AND g.expires_at IS NOT NULL) <> (t.kind IS NOT NULL) OR t.due_at <> g.expires_at)"),
            0);
  EXPECT_GT(count(loader, "timers"), 0);

  // Ids sort by time and say that they are version 7.
  EXPECT_EQ(count(loader, "gigs WHERE id::text !~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]'"), 0);
  EXPECT_EQ(count(loader, R"((SELECT created_at, lag(created_at) OVER (ORDER BY id) AS before FROM gigs) AS g
      WHERE date_trunc('milliseconds', created_at) < date_trunc('milliseconds', before))"),
            0);
}

TEST_F(Demo, WhatPeopleSeeIsBelievable) {
  const std::string url = database("believable");
  const Loaded loaded = load(url, options(3), {});
  Loader loader(url);
  EXPECT_EQ(count(loader, "users WHERE email = '" + loaded.seeker.email + "'"), 1);
  EXPECT_EQ(count(loader, "users WHERE is_available AND email = '" + loaded.helper.email +
                              "' AND ST_DWithin(public_location, ST_Point(100.5341, 13.7456)::geography, 2000)"),
            1);
  EXPECT_GT(count(loader, "users WHERE is_available"), 20);
  EXPECT_EQ(count(loader, "(SELECT DISTINCT category FROM gigs) AS c"), static_cast<std::int64_t>(kinds().size()));
  EXPECT_EQ(count(loader,
                  "gigs WHERE category !~ '^[a-z-]+$' OR length(title) NOT BETWEEN 3 AND 120 "
                  "OR title || description ~ '[{}]' OR length(description) > 4000"),
            0);
  EXPECT_EQ(count(loader, "gigs WHERE ST_Distance(location, public_location) > 390"), 0);
  const auto thai = count(loader, "gigs WHERE title ~ '[ก-๙]'");
  EXPECT_GT(thai, 2000);
  EXPECT_LT(thai, 3000);
  // Each city has its gigs, and the busy neighbourhoods have six in ten of all.
  for (const std::string centre : {"100.53, 13.75", "98.98, 18.79", "98.35, 7.89"}) {
    EXPECT_GT(count(loader, "gigs WHERE ST_DWithin(location, ST_Point(" + centre + ")::geography, 50000)"), 300);
  }
  std::string dense;
  for (const Place& place : dense_places()) dense += (dense.empty() ? "'" : "|") + std::string(place.name);
  const auto busy = count(loader, "gigs WHERE address_text ~ (" + dense + "')");
  EXPECT_GT(busy, 2500);
  EXPECT_LT(busy, 3700);

  // Search terms are those that the server would have made.
  for (const auto& row :
       loader.rows("SELECT title || ' ' || description, array_to_string(terms, ' ') FROM gigs LIMIT 50")) {
    std::string terms;
    for (const std::string& term : search_terms(row[0])) terms += (terms.empty() ? "" : " ") + term;
    EXPECT_EQ(row[1], terms);
  }
}

TEST_F(Demo, RefusesADatabaseInUseAndLeavesNothingBehind) {
  const std::string url = database("in_use");
  Loader loader(url);
  loader.run("INSERT INTO users (id, email, password_hash) VALUES (gen_random_uuid(), 'a@b.example', 'x')");
  EXPECT_THROW(load(url, options(1), {}), std::runtime_error);
  EXPECT_EQ(count(loader, "users"), 1);
  EXPECT_EQ(count(loader, "gigs"), 0);
  Options too_few = options(1);
  too_few.users = 3;
  EXPECT_THROW(load(url, too_few, {}), std::invalid_argument);
}

TEST(Population, AnyGigCanBeMadeAgainOnItsOwn) {
  const Population population(5, 50, 1000, base_time);
  const Gig once = population.gig(617);
  (void)population.gig(3);
  const Gig again = population.gig(617);
  EXPECT_EQ(once.id, again.id);
  EXPECT_EQ(once.pin, again.pin);
  EXPECT_EQ(once.event_count, again.event_count);
  std::set<Uuid> ids;
  for (std::int64_t i = 0; i < population.gig_count(); ++i) ids.insert(population.gig(i).id);
  EXPECT_EQ(ids.size(), 1000U);
}

}  // namespace
}  // namespace hourz::demo
