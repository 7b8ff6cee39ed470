// Every SQL statement of the process against the schema: it can be prepared, the types that PostgreSQL infers for its
// parameters and columns are those that the C++ side sends and reads, and its parameters are all bound. The union of
// what was executed over a whole run is checked afterwards by tests/check_statements.py.
#include <libpq-fe.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "app/jobs.hpp"
#include "app/server.hpp"
#include "db/database.hpp"
#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

struct Close {
  void operator()(PGconn* raw) const { PQfinish(raw); }
  void operator()(PGresult* raw) const { PQclear(raw); }
};
using Connection = std::unique_ptr<PGconn, Close>;
using Reply = std::unique_ptr<PGresult, Close>;

class Statements : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // The linker leaves out files that nobody names, and their queries with them.
    volatile auto server = sizeof(app::Server) + sizeof(app::Jobs);
    static_cast<void>(server);
    database() = make_database();
    connection().reset(PQconnectdb(superuser_url(database()).c_str()));
    ASSERT_EQ(PQstatus(connection().get()), CONNECTION_OK) << PQerrorMessage(connection().get());
  }
  static void TearDownTestSuite() {
    connection().reset();
    drop_database(database());
  }
  static std::string& database() {
    static std::string name;
    return name;
  }
  static Connection& connection() {
    static Connection one;
    return one;
  }

  static std::string type_name(Oid type) {
    const std::string number = std::to_string(type);
    const char* values[] = {number.c_str()};
    const Reply reply(
        PQexecParams(connection().get(), "SELECT format_type($1::oid, NULL)", 1, nullptr, values, nullptr, nullptr, 0));
    return PQntuples(reply.get()) == 1 ? PQgetvalue(reply.get(), 0, 0) : number;
  }

  /// As a client prepares it: with the types it sends, or with none, so that PostgreSQL says what it would infer.
  static Reply prepare(const db::QueryInfo& query, bool typed, std::string& error) {
    std::vector<Oid> types;
    for (const auto& [name, type] : query.parameters) types.push_back(type);
    const std::string text(query.statement->text);
    const Reply prepared(PQprepare(connection().get(), "", text.c_str(), typed ? static_cast<int>(types.size()) : 0,
                                   typed ? types.data() : nullptr));
    if (PQresultStatus(prepared.get()) != PGRES_COMMAND_OK) {
      error = PQresultErrorMessage(prepared.get());
      return nullptr;
    }
    return Reply(PQdescribePrepared(connection().get(), ""));
  }
};

TEST_F(Statements, CanBePreparedWithTheTypesThatAreSent) {
  ASSERT_GT(db::all_queries().size(), 40U);
  for (const db::QueryInfo& query : db::all_queries()) {
    std::string error;
    const Reply described = prepare(query, true, error);
    if (!described) {
      ADD_FAILURE() << query.statement->name << ": " << error;
      continue;
    }
    ASSERT_EQ(PQnparams(described.get()), static_cast<int>(query.parameters.size())) << query.statement->name;
    for (int i = 0; i < PQnparams(described.get()); ++i) {
      const auto& [name, type] = query.parameters[static_cast<std::size_t>(i)];
      EXPECT_EQ(type_name(PQparamtype(described.get(), i)), type_name(type)) << query.statement->name << " " << name;
    }
  }
}

TEST_F(Statements, WouldInferTheTypesThatAreSent) {
  // Where PostgreSQL can say a parameter's type by itself it must be ours; `CASE WHEN $1` and the like leave it open,
  // and a type of the same family (text for varchar, numeric for float) is a cast away.
  for (const db::QueryInfo& query : db::all_queries()) {
    std::string error;
    const Reply described = prepare(query, false, error);
    if (!described) continue;  // not to be inferred without our types
    for (int i = 0; i < PQnparams(described.get()) && i < static_cast<int>(query.parameters.size()); ++i) {
      const auto& [name, type] = query.parameters[static_cast<std::size_t>(i)];
      const std::string inferred = type_name(PQparamtype(described.get(), i));
      const std::string sent = type_name(type);
      const bool number = sent == "integer" || sent == "bigint" || sent == "double precision";
      const bool same = inferred == sent || inferred == "unknown" || inferred == "text" ||
                        (number && (inferred == "smallint" || inferred == "integer" || inferred == "bigint" ||
                                    inferred == "numeric" || inferred == "double precision"));
      EXPECT_TRUE(same) << query.statement->name << " " << name << ": sent as " << sent << ", taken as " << inferred;
    }
  }
}

TEST_F(Statements, GiveTheColumnsThatAreRead) {
  for (const db::QueryInfo& query : db::all_queries()) {
    std::string error;
    const Reply described = prepare(query, true, error);
    if (!described) continue;  // reported above
    const int columns = PQnfields(described.get());
    if (!query.returns_rows) {
      EXPECT_EQ(columns, 0) << query.statement->name << " gives rows that nobody reads";
      continue;
    }
    const bool scalar = query.columns.size() == 1 && query.columns[0].first.empty();
    if (scalar) {
      EXPECT_EQ(columns, 1) << query.statement->name;
      if (columns > 0) {
        EXPECT_EQ(type_name(PQftype(described.get(), 0)), type_name(query.columns[0].second)) << query.statement->name;
      }
      continue;
    }
    std::set<std::string> read;
    for (const auto& [name, type] : query.columns) {
      read.insert(name);
      const int column = PQfnumber(described.get(), name.c_str());
      if (column < 0) {
        ADD_FAILURE() << query.statement->name << " has no column " << name;
        continue;
      }
      EXPECT_EQ(type_name(PQftype(described.get(), column)), type_name(type)) << query.statement->name << " " << name;
    }
    for (int i = 0; i < columns; ++i) {
      EXPECT_TRUE(read.contains(PQfname(described.get(), i)))
          << query.statement->name << " gives " << PQfname(described.get(), i) << ", which nobody reads";
    }
  }
}

TEST_F(Statements, AreEachOneQueryWithANameOfItsRoom) {
  std::set<std::string_view> names;
  for (const db::QueryInfo& query : db::all_queries()) {
    EXPECT_TRUE(names.insert(query.statement->name).second) << query.statement->name << " is bound twice";
    EXPECT_NE(query.statement->name.find('.'), std::string_view::npos) << query.statement->name;
  }
}

TEST_F(Statements, AreListedForTheCheckAtTheEnd) {
  const char* folder = std::getenv("HOURZ_TEST_RECORDS");
  if (folder == nullptr) GTEST_SKIP() << "not part of a whole run";
  std::ofstream out(std::string(folder) + "/all-statements.txt");
  for (const db::QueryInfo& query : db::all_queries()) out << query.statement->name << "\n";
  EXPECT_TRUE(out.good());
}

TEST_F(Statements, MayBeRunByTheApplicationsRole) {
  // EXPLAIN checks the rights of every table that a statement touches, without running it.
  const Connection app(PQconnectdb([] {
    std::string url = superuser_url(database());
    return url.replace(url.find("user=postgres"), 13, "user=hourz_app");
  }()
                                       .c_str()));
  ASSERT_EQ(PQstatus(app.get()), CONNECTION_OK) << PQerrorMessage(app.get());
  for (const db::QueryInfo& query : db::all_queries()) {
    const std::string text(query.statement->text);
    std::vector<Oid> types;
    for (const auto& [name, type] : query.parameters) types.push_back(type);
    const std::string name = "s" + std::to_string(&query - db::all_queries().data());
    const Reply prepared(
        PQprepare(app.get(), name.c_str(), text.c_str(), static_cast<int>(types.size()), types.data()));
    if (PQresultStatus(prepared.get()) != PGRES_COMMAND_OK) continue;  // reported above
    std::string explain = "EXPLAIN EXECUTE " + name;
    for (std::size_t i = 0; i < types.size(); ++i) explain += i == 0 ? "(NULL" : ", NULL";
    if (!types.empty()) explain += ")";
    const Reply explained(PQexec(app.get(), explain.c_str()));
    EXPECT_EQ(PQresultStatus(explained.get()), PGRES_TUPLES_OK)
        << query.statement->name << ": " << PQresultErrorMessage(explained.get());
  }
}

}  // namespace
}  // namespace hourz::harness
