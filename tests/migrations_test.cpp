// The migrator: once among many, nothing half-done, nothing altered, nothing unknown; and the application role's
// rights.
#include "db/migrations.hpp"
#include "temporary_folder.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <sstream>
#include <thread>

#include "core/crypto.hpp"
#include "db/cluster.hpp"
#include "db/session.hpp"

namespace hourz::db {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class Migrations : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = make_temporary_folder("migrations");
    cluster = std::make_unique<Cluster>(ClusterOptions{.directory = folder, .durable = false});
    cluster->start();
  }
  static void TearDownTestSuite() {
    cluster.reset();
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }

  void SetUp() override {
    database_ = "test_" + std::to_string(++counter);
    Session(cluster->superuser_url()).execute("CREATE DATABASE " + database_ + " OWNER hourz_owner TEMPLATE hourz");
  }

  std::string url(const std::string& role) const {
    std::string text = cluster->superuser_url(database_);
    const std::size_t at = text.find("user=postgres");
    return text.replace(at, 13, "user=" + role);
  }
  std::string owner() const { return url("hourz_owner"); }
  std::string app() const { return url("hourz_app"); }

  /// What pg_dump says of the schema, without its random markers.
  std::string dump() const {
    const process::Outcome outcome = process::run(
        {{"/usr/lib/postgresql/15/bin/pg_dump", "-s", "-d", cluster->superuser_url(database_)}}, identity_for(), 20s);
    EXPECT_TRUE(outcome.ok()) << outcome.output;
    EXPECT_LT(outcome.output.size(), process::output_bytes) << "the comparison would be of a part only";
    std::string text;
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")) text += line + "\n";
    }
    return text;
  }

  std::string value(const std::string& sql) { return Session(owner()).value(sql).value_or("null"); }

  static inline fs::path folder;
  static inline std::unique_ptr<Cluster> cluster;
  static inline int counter = 0;
  std::string database_;
};

std::vector<Migration> three_steps() {
  return {
      {1, "things",
       "CREATE TABLE things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, place geography(Point, 4326));",
       "DROP TABLE things;"},
      {2, "history",
       "CREATE TABLE history (id bigserial, what text);\nCOMMENT ON TABLE history IS 'append-only: what happened';",
       "DROP TABLE history;"},
      {3, "names", "ALTER TABLE things ADD name text; CREATE INDEX ON things (name);", "ALTER TABLE things DROP name;"},
  };
}

std::string failure(const std::function<void()>& work) {
  try {
    work();
  } catch (const MigrationError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    EXPECT_FALSE(error.unavailable);
    return error.what();
  }
  return "";
}

std::string refused(const std::string& url, const std::string& sql) {
  try {
    Session(url).execute(sql);
  } catch (const SessionError& error) {
    return error.sqlstate;
  }
  return "";
}

template <class Condition>
bool soon(Condition condition) {
  const auto deadline = Clock::now() + 10s;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

TEST(EmbeddedMigrations, CarryTheirChecksums) {
  ASSERT_FALSE(embedded_migrations().empty());
  for (const Migration& migration : embedded_migrations()) {
    EXPECT_EQ(migration.checksum, to_hex(as_text(sha256(migration.up)))) << migration.name;
    EXPECT_FALSE(migration.down.empty()) << migration.name;
  }
}

/// X01: from nothing, and once more.
TEST_F(Migrations, UpDownAndUpAgainGiveTheSameSchema) {
  const int all = static_cast<int>(embedded_migrations().size());
  EXPECT_EQ(migrate_up(owner()), all);
  const std::string first = dump();
  EXPECT_NE(first.find("CREATE TABLE public.schema_migrations"), std::string::npos);
  EXPECT_EQ(migrate_up(owner()), 0);
  EXPECT_EQ(dump(), first);
  EXPECT_NO_THROW(check_schema(app()));
  // Each step alone, too: down from every height leaves what up to there had made.
  for (int height = all; height > 0; --height) {
    EXPECT_EQ(migrate_down(owner(), height - 1), 1);
    const std::vector<Migration> part(embedded_migrations().begin(), embedded_migrations().begin() + height - 1);
    EXPECT_NO_THROW(check_schema(app(), part));
  }
  EXPECT_EQ(value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') "
                  "AND relowner = 'hourz_owner'::regrole"),
            "1")
      << "only the list of steps is left";
  EXPECT_EQ(value("SELECT count(*) FROM pg_proc WHERE proowner = 'hourz_owner'::regrole"), "0");
  EXPECT_EQ(value("SELECT count(*) FROM pg_type WHERE typowner = 'hourz_owner'::regrole AND typtype IN ('e', 'd')"),
            "0");
  EXPECT_EQ(migrate_up(owner()), all);
  EXPECT_EQ(dump(), first);
}

TEST_F(Migrations, FiveStartingAtOnceMigrateOnce) {
  std::vector<Migration> steps = three_steps();
  steps[1].up += "SELECT pg_sleep(0.3);";
  std::vector<pid_t> processes;
  for (int i = 0; i < 5; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      try {
        _exit(10 + migrate_up(owner(), steps));
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        _exit(1);
      }
    }
    processes.push_back(pid);
  }
  int applied = 0;
  for (pid_t pid : processes) {
    const auto status = process::wait_until(pid, Clock::now() + 30s);
    if (!status) kill(pid, SIGKILL);
    ASSERT_TRUE(status && WIFEXITED(*status) && WEXITSTATUS(*status) >= 10);
    applied += WEXITSTATUS(*status) - 10;
  }
  EXPECT_EQ(applied, 3);
  EXPECT_EQ(value("SELECT count(*) FROM schema_migrations"), "3");
}

/// X01. Killed in the middle of each step; the next try ends where an undisturbed one does.
TEST_F(Migrations, AKillInTheMiddleLeavesNothingHalfDone) {
  migrate_up(owner(), three_steps());
  const std::string whole = dump();
  migrate_down(owner(), 0, three_steps());
  for (std::size_t at = 0; at < three_steps().size(); ++at) {
    std::vector<Migration> slow = three_steps();
    slow[at].up += "; SELECT pg_sleep(60)";
    const pid_t pid = fork();
    if (pid == 0) {
      try {
        migrate_up(owner(), slow);
      } catch (const std::exception&) {
      }
      _exit(0);
    }
    ASSERT_TRUE(soon([&] {
      return value(
                 "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = "
                 "'PgSleep'") == "1";
    }));
    kill(pid, SIGKILL);
    process::wait_until(pid, Clock::now() + 5s);
    const auto start = Clock::now();
    // The step before is there, this one not, and the killed one's locks go within a second.
    EXPECT_EQ(migrate_up(owner(), {slow.begin(), slow.begin() + static_cast<long>(at)}), 0);
    EXPECT_LT(Clock::now() - start, 3s);
    EXPECT_EQ(value("SELECT count(*) FROM schema_migrations"), std::to_string(at));
    const std::vector<Migration> usual = three_steps();
    EXPECT_EQ(migrate_up(owner(), {usual.begin(), usual.begin() + static_cast<long>(at) + 1}), 1);
  }
  EXPECT_EQ(migrate_up(owner(), three_steps()), 0);
  EXPECT_EQ(dump(), whole);
}

/// X01: the same for every step that we ship, killed at its end, when all of it has been done and nothing is committed.
TEST_F(Migrations, AKillInAnyOfOurStepsLeavesNothingHalfDone) {
  migrate_up(owner());
  const std::string whole = dump();
  migrate_down(owner(), 0);
  const std::vector<Migration>& steps = embedded_migrations();
  for (std::size_t at = 0; at < steps.size(); ++at) {
    std::vector<Migration> slow = steps;
    slow[at].up += "; SELECT pg_sleep(60)";
    const pid_t pid = fork();
    if (pid == 0) {
      try {
        migrate_up(owner(), slow);
      } catch (const std::exception&) {
      }
      _exit(0);
    }
    const bool asleep = soon([&] {
      return value(
                 "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = "
                 "'PgSleep'") == "1";
    });
    kill(pid, SIGKILL);
    process::wait_until(pid, Clock::now() + 5s);
    ASSERT_TRUE(asleep) << steps[at].name;
    const auto first = steps.begin();
    EXPECT_EQ(migrate_up(owner(), {first, first + static_cast<long>(at)}), 0) << steps[at].name;
    EXPECT_EQ(value("SELECT count(*) FROM schema_migrations"), std::to_string(at));
    EXPECT_EQ(migrate_up(owner(), {first, first + static_cast<long>(at) + 1}), 1) << steps[at].name;
  }
  EXPECT_EQ(migrate_up(owner()), 0);
  EXPECT_EQ(dump(), whole);
}

TEST_F(Migrations, AFailingStepIsUndoneWhole) {
  std::vector<Migration> steps = three_steps();
  steps[2].up += " SELECT 1 / 0;";
  const std::string text = failure([&] { migrate_up(owner(), steps); });
  EXPECT_NE(text.find("0003_names"), std::string::npos) << text;
  EXPECT_NE(text.find("division by zero"), std::string::npos) << text;
  EXPECT_EQ(value("SELECT count(*) FROM schema_migrations"), "2");
  EXPECT_EQ(value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'things'::regclass AND attname = 'name'"), "0");
  EXPECT_EQ(migrate_up(owner(), three_steps()), 1);
}

TEST_F(Migrations, AStepThatEndsItsTransactionIsFound) {
  const std::vector<Migration> steps = {{1, "rude", "CREATE TABLE rude (a int); COMMIT;", "DROP TABLE rude;"}};
  EXPECT_NE(failure([&] { migrate_up(owner(), steps); }).find("ended its own transaction"), std::string::npos);
}

TEST_F(Migrations, AnAlteredStepIsRefused) {
  migrate_up(owner(), three_steps());
  std::vector<Migration> steps = three_steps();
  steps[1] = {2, "history", steps[1].up + " ", steps[1].down};
  for (const auto& work :
       std::vector<std::function<void()>>{[&] { migrate_up(owner(), steps); }, [&] { migrate_down(owner(), 0, steps); },
                                          [&] { check_schema(app(), steps); }}) {
    const std::string text = failure(work);
    EXPECT_NE(text.find("0002_history is not the one that was applied"), std::string::npos) << text;
  }
  const auto states = migration_status(app(), steps);
  ASSERT_EQ(states.size(), 3U);
  EXPECT_TRUE(states[0].checksum_ok);
  EXPECT_FALSE(states[1].checksum_ok);
}

TEST_F(Migrations, ANewerSchemaIsRefused) {
  migrate_up(owner(), three_steps());
  const std::vector<Migration> old = {three_steps()[0]};
  for (const auto& work :
       std::vector<std::function<void()>>{[&] { migrate_up(owner(), old); }, [&] { migrate_down(owner(), 0, old); },
                                          [&] { check_schema(app(), old); }}) {
    const std::string text = failure(work);
    EXPECT_NE(text.find("is at version 3, newer than this program, which knows up to 1"), std::string::npos) << text;
  }
  const auto states = migration_status(app(), old);
  ASSERT_EQ(states.size(), 3U);
  EXPECT_TRUE(states[0].known);
  EXPECT_FALSE(states[2].known);
  EXPECT_EQ(states[2].name, "names");
}

/// Expand and contract: a step that says so leaves the last program working, and its start too.
TEST_F(Migrations, ANewerSchemaThatSaysSoServesTheOlderProgram) {
  std::vector<Migration> steps = three_steps();
  steps[2] = {3, "names", "-- oldest program: 2\n" + steps[2].up, steps[2].down};
  migrate_up(owner(), steps);
  const std::vector<Migration> previous(steps.begin(), steps.begin() + 2);
  EXPECT_NO_THROW(check_schema(app(), previous));
  EXPECT_EQ(migrate_up(owner(), previous), 0);
  EXPECT_NE(failure([&] { check_schema(app(), {steps[0]}); }), "");
  EXPECT_NE(failure([&] { migrate_down(owner(), 2, previous); }).find("not known to this program"), std::string::npos);
}

TEST_F(Migrations, PendingStepsAreToldOf) {
  EXPECT_NE(failure([&] { check_schema(app(), three_steps()); }).find("lacks 3"), std::string::npos);
  migrate_up(owner(), {three_steps()[0]});
  const auto states = migration_status(app(), three_steps());
  ASSERT_EQ(states.size(), 3U);
  EXPECT_FALSE(states[0].pending());
  EXPECT_TRUE(states[0].applied_at->ends_with("Z")) << *states[0].applied_at;
  EXPECT_TRUE(states[2].pending());
  EXPECT_NE(failure([&] { check_schema(app(), three_steps()); }).find("lacks 2"), std::string::npos);
}

/// X04.
TEST_F(Migrations, TheApplicationRoleReadsAndWritesRowsAndNoMore) {
  migrate_up(owner(), three_steps());
  Session session(app());
  session.execute("INSERT INTO things (name) VALUES ('a'); UPDATE things SET name = 'b'; DELETE FROM things");
  session.execute("INSERT INTO history (what) VALUES ('x')");
  EXPECT_EQ(session.value("SELECT count(*) FROM history"), "1");
  for (const char* sql :
       {"CREATE TABLE mine (a int)", "CREATE TEMPORARY TABLE mine (a int)", "ALTER TABLE things ADD b int",
        "DROP TABLE things", "TRUNCATE things", "CREATE INDEX ON things (name)", "UPDATE history SET what = 'y'",
        "DELETE FROM history", "TRUNCATE history", "DELETE FROM schema_migrations",
        "INSERT INTO schema_migrations VALUES (9, 'a', 'b', 9)", "SET ROLE hourz_owner",
        "SELECT setval('history_id_seq', 1)"}) {
    // A clone of the template database has PUBLIC's TEMPORARY again; cluster_test looks at the real one.
    if (std::string(sql).find("TEMPORARY") != std::string::npos) continue;
    EXPECT_EQ(refused(app(), sql), "42501") << sql;
  }
}

TEST_F(Migrations, RightsFollowWhenTheRoleComesLater) {
  migrate_up(owner(), three_steps());
  Session(owner()).execute(
      "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM hourz_app; GRANT UPDATE ON history TO hourz_app");
  EXPECT_EQ(refused(app(), "SELECT FROM things"), "42501");
  EXPECT_EQ(migrate_up(owner(), three_steps()), 0);
  EXPECT_EQ(refused(app(), "SELECT FROM things"), "");
  EXPECT_EQ(refused(app(), "UPDATE history SET what = 'y'"), "42501");
}

/// A table in use: the migrator steps back after 1 s, so that nobody queues behind it for longer, and tries again.
TEST_F(Migrations, AWaitForATableIsShortAndTriedAgain) {
  const auto steps = three_steps();
  migrate_up(owner(), {steps[0], steps[1]});
  Session busy(owner());
  busy.execute("BEGIN; SELECT FROM things");
  std::thread release([&] {
    std::this_thread::sleep_for(2500ms);  // the busy work itself, not a wait for something
    busy.execute("COMMIT");
  });
  EXPECT_EQ(migrate_up(owner(), steps), 1);
  release.join();
}

TEST_F(Migrations, SaysWhatToDoWhenPostGisIsNotAllowed) {
  const std::string bare = "bare_" + std::to_string(counter);
  Session(cluster->superuser_url()).execute("CREATE DATABASE " + bare + " OWNER hourz_owner TEMPLATE template0");
  database_ = bare;
  const std::string text = failure([&] { migrate_up(owner(), three_steps()); });
  EXPECT_NE(text.find("CREATE EXTENSION postgis"), std::string::npos) << text;
  EXPECT_NE(text.find("superuser"), std::string::npos) << text;
  EXPECT_EQ(migrate_up(cluster->superuser_url(bare), three_steps()), 3) << "a superuser needs no help";
}

TEST_F(Migrations, AnAbsentServerIsWorthAnotherTry) {
  try {
    migrate_up("host=/nonexistent user=x dbname=y", three_steps());
    ADD_FAILURE();
  } catch (const MigrationError& error) {
    EXPECT_TRUE(error.unavailable) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace hourz::db
