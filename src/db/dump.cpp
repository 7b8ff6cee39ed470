#include "db/dump.hpp"

#include <libpq-fe.h>

#include <chrono>
#include <thread>

#include "db/session.hpp"

namespace hourz::db {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

constexpr hours longest{24};

// --- PostgreSQL's own programs ---------------------------------------------------------------------------------------

struct Connection {
  std::vector<std::string> environment;
  std::string database;
};

/// A connection string as variables, so that no password stands in a command line.
Connection connection_of(const std::string& url) {
  char* message = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> parsed(PQconninfoParse(url.c_str(), &message),
                                                                            &PQconninfoFree);
  const std::unique_ptr<char, decltype(&PQfreemem)> said(message, &PQfreemem);
  if (!parsed) throw DumpError(said ? said.get() : "the connection string cannot be read");
  Connection connection;
  for (const PQconninfoOption* option = parsed.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr || *option->val == '\0') continue;
    const std::string_view keyword = option->keyword;
    if (keyword == "dbname") connection.database = option->val;
    if (option->envvar != nullptr) connection.environment.push_back(std::string(option->envvar) + "=" + option->val);
  }
  return connection;
}

void run_program(const DumpTools& tools, const char* name, std::vector<std::string> arguments, const std::string& url) {
  process::Command command;
  command.arguments = {(tools.folder / name).string()};
  Connection connection = connection_of(url);
  command.arguments.push_back("--dbname=" + connection.database);
  command.arguments.insert(command.arguments.end(), std::make_move_iterator(arguments.begin()),
                           std::make_move_iterator(arguments.end()));
  command.environment = std::move(connection.environment);
  const process::Outcome outcome = process::run(command, tools.identity, longest);
  if (outcome.ok()) return;
  std::string said = outcome.output.substr(0, 2000);
  while (said.ends_with('\n')) said.pop_back();
  throw DumpError(std::string(name) + " ended with " + process::describe_exit(outcome.status) +
                  (said.empty() ? ": is it in HOURZ_POSTGRES_BIN?" : ": " + said));
}

// --- what a database holds -------------------------------------------------------------------------------------------

std::int64_t number_of(const std::optional<std::string>& text) { return text ? std::stoll(*text) : 0; }

RowCounts count_rows(Session& session) {
  RowCounts rows;
  for (const auto& row : session.execute(R"(
    SELECT c.relname, (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM public.%I', c.relname),
                                                           false, true, '')))[1]::text
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                      AND e.deptype = 'e'))",
                                         {}, longest)) {
    rows[row.at(0).value()] = number_of(row.at(1));
  }
  return rows;
}

/// Everything that migrations made, whatever version they were of; extensions and what is theirs stay.
constexpr const char* drop_all = R"(DO $$
DECLARE item record;
BEGIN
  FOR item IN
    SELECT format('DROP %s IF EXISTS %s CASCADE', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                  WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass) AS command
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                      AND e.deptype IN ('e', 'i'))
  LOOP EXECUTE item.command; END LOOP;
  FOR item IN
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure) AS command
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid
                      AND e.deptype = 'e')
  LOOP EXECUTE item.command; END LOOP;
  FOR item IN
    SELECT format('DROP TYPE IF EXISTS %s CASCADE', t.oid::regtype) AS command
    FROM pg_type t
    WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd', 'c', 'r') AND t.typrelid = 0
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid
                      AND e.deptype IN ('e', 'i'))
  LOOP EXECUTE item.command; END LOOP;
END $$)";

}  // namespace

DumpContents take_dump(const std::string& owner_url, const DumpTools& tools, const std::filesystem::path& folder) {
  Session session(owner_url);
  session.execute(
      "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0;"
      "SET LOCAL statement_timeout = 0");
  const auto snapshot = session.value("SELECT pg_export_snapshot()");
  DumpContents contents;
  contents.schema = number_of(session.value("SELECT max(version) FROM public.schema_migrations"));
  run_program(
      tools, "pg_dump",
      {"--format=directory", "--file=" + folder.string(), "--snapshot=" + *snapshot, "--no-owner", "--no-privileges",
       "--exclude-table-data=public.spatial_ref_sys", "--lock-wait-timeout=10s", "--no-password"},
      owner_url);
  contents.rows = count_rows(session);
  return contents;
}

void check_target(const std::string& owner_url, bool replace) {
  Session session(owner_url);
  // One that was closed a moment ago, our own perhaps, is there until its process has ended: they are given some time.
  constexpr std::chrono::milliseconds patience{2000}, pause{50};
  for (auto waited = std::chrono::milliseconds(0);; waited += pause) {
    const auto others = number_of(session.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND usesysid IS NOT NULL"));  // of other roles' sessions hardly more is shown
    if (others == 0) break;
    if (waited >= patience) {
      throw DumpError("the database has " + std::to_string(others) +
                      " other connections: stop every server that uses it first");
    }
    std::this_thread::sleep_for(pause);
  }
  const bool filled = session.value("SELECT 1 WHERE to_regclass('public.users') IS NOT NULL").has_value() &&
                      session.value("SELECT 1 FROM public.users LIMIT 1").has_value();
  if (filled && !replace) throw DumpError("the database holds accounts: --replace drops all that is in it first");
  try {
    session.execute("CREATE EXTENSION IF NOT EXISTS postgis", {}, seconds(120));
  } catch (const SessionError& error) {
    if (error.lost) throw;
    throw DumpError("the database lacks PostGIS: run `CREATE EXTENSION postgis` in it as a superuser, once");
  }
}

void load_dump(const std::string& owner_url, const DumpTools& tools, const std::filesystem::path& folder,
               const RowCounts& rows) {
  Session(owner_url).execute(drop_all, {}, longest);
  run_program(tools, "pg_restore",
              {"--schema=public", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error",
               "--no-password", folder.string()},
              owner_url);
  Session session(owner_url);
  const RowCounts found = count_rows(session);
  for (const auto& [table, count] : rows) {
    const auto loaded = found.find(table);
    if (loaded == found.end() || loaded->second != count) {
      throw DumpError("table " + table + " should have " + std::to_string(count) + " rows and has " +
                      (loaded == found.end() ? "none" : std::to_string(loaded->second)));
    }
  }
}

}  // namespace hourz::db
