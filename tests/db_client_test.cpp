// The PostgreSQL client while all is well: values both ways, pipelined reads, transactions, the pool.
#include <map>
#include <set>
#include <thread>

#include "db_fixture.hpp"

namespace hourz::db::testing_db {
namespace {

class DbClient : public DbTest {};

// --- values ----------------------------------------------------------------------------------------------------------

Everything sample() {
  Everything e;
  e.flag = true;
  e.small = -32768;
  e.medium = -2147483647;
  e.large = INT64_MIN;
  e.real = -0.1;
  e.words = "ไทย \"quoted\" 🛠";
  e.title.value = "title";
  e.id = make_uuid();
  e.at = {1'700'000'000'123'456};
  e.amount = {35050};
  e.latitude = {13.7563};
  e.longitude = {-180};
  e.raw.value = std::string("\0\xff\n", 3);
  e.ids = {make_uuid(), make_uuid()};
  e.tags = {"", "a,b", "{}\"\\"};
  e.numbers = {1, -1, INT64_MAX};
  e.colour = Colour::green;
  e.maybe_words = "";
  e.maybe_large = 9;
  return e;
}

void expect_same(const Everything& a, const Everything& b) {
  boost::mp11::mp_for_each<Members<Everything>>(
      [&](auto member) { EXPECT_TRUE(a.*member.pointer == b.*member.pointer) << member.name; });
}

TEST_F(DbClient, EveryTypeComesBack) {
  const Everything full = sample();
  expect_same(full, wait(one(reads(), echo, full)));
  Everything empty;
  empty.title.value = "x";
  const Everything back = wait(one(reads(), echo, empty));
  expect_same(empty, back);
  EXPECT_FALSE(back.maybe_words.has_value());
  Everything early = sample();
  early.at = {-62'135'596'800'000'000};  // year 1
  expect_same(early, wait(one(reads(), echo, early)));
}

TEST_F(DbClient, RowsThatDoNotFitAreRefused) {
  const Query<std::int32_t, std::int64_t> narrow{number_sql};
  EXPECT_THROW(wait(one(reads(), narrow, 1)), WireError);
  EXPECT_EQ(wait(one(reads(), number, 1)), 1);
}

TEST(DbParameters, OrderFollowsTheStatement) {
  constexpr Statement statement{"test.order", "c,a , b", ""};
  const std::vector<std::string_view> members{"a", "b", "c"};
  EXPECT_EQ(parameter_order(statement, members), (std::vector<std::size_t>{2, 0, 1}));
  EXPECT_THROW(parameter_order(statement, std::vector<std::string_view>{"a", "b"}), WireError);
  // A struct that serves several statements may have more members than each of them takes.
  const std::vector<std::string_view> more{"d", "a", "b", "c"};
  EXPECT_EQ(parameter_order(statement, more), (std::vector<std::size_t>{3, 1, 2}));
  EXPECT_TRUE(parameter_order(Statement{"test.none", "", ""}, {}).empty());
}

TEST(DbErrors, KindsFollowTheSqlstate) {
  EXPECT_EQ(error_kind("08006"), ErrorKind::unavailable);
  EXPECT_EQ(error_kind("57P01"), ErrorKind::unavailable);
  EXPECT_EQ(error_kind("53300"), ErrorKind::unavailable);
  EXPECT_EQ(error_kind("40P01"), ErrorKind::retryable);
  EXPECT_EQ(error_kind("55P03"), ErrorKind::retryable);
  EXPECT_EQ(error_kind("57014"), ErrorKind::timeout);
  EXPECT_EQ(error_kind("23P01"), ErrorKind::constraint);
  EXPECT_EQ(error_kind("53100"), ErrorKind::out_of_space);
  EXPECT_EQ(error_kind("42601"), ErrorKind::other);
}

TEST(DbErrors, AnUnreadableUrlIsRefused) {
  asio::io_context io;
  Options options;
  options.url = "postgres://[";
  EXPECT_THROW(Client(io, options), Error);
}

TEST_F(DbClient, ConnectionsAreSetUp) {
  EXPECT_EQ(wait(one(reads(), show_settings)), "1500ms|force_generic_plan|UTC|read committed|UTF8|hourz");
}

// --- reads -----------------------------------------------------------------------------------------------------------

Awaitable<void> ask(Executor& on, std::int64_t i, int* right, int* left) {
  try {
    if (i % 7 == 0) {
      co_await one(on, divide, 0);
    } else if (i % 11 == 0) {
      co_await one(on, broken, i);
    } else if (i % 2 == 0) {
      *right += co_await one(on, number, i) == i ? 1 : 0;
    } else {
      *right += co_await one(on, other_number, i) == i ? 1 : 0;
    }
  } catch (const Error& error) {
    const std::string expected = i % 7 == 0 ? "22012" : "42P01";
    *right += (i % 7 == 0 || i % 11 == 0) && error.sqlstate == expected ? 1 : 0;
  }
  --*left;
}

TEST_F(DbClient, AThousandReadsKeepTheirAnswers) {
  for (int round = 0; round < 3; ++round) {
    int right = 0;
    int left = 1000;
    for (int i = 0; i < 1000; ++i) asio::co_spawn(io, ask(reads(), i, &right, &left), asio::detached);
    ASSERT_TRUE(until([&] { return left == 0; }));
    EXPECT_EQ(right, 1000);
  }
  EXPECT_EQ(client->gauges().pipelined_depth, 0);
  EXPECT_EQ(cluster->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hourz'"), "2");
}

TEST_F(DbClient, LargeValuesGoBothWays) {
  // More than a socket buffer in each direction at once: the writer waits and the reader goes on meanwhile.
  Options options = quick_options(cluster->url());
  options.statement_timeout = options.answer_timeout = 60s;
  connect(options);
  int left = 20;
  Everything big = sample();
  big.words.assign(2'000'000, 'x');
  std::vector<std::optional<ErrorKind>> kinds(20);
  for (auto& kind : kinds) asio::co_spawn(io, record(one(reads(), echo, big), &kind, &left), asio::detached);
  ASSERT_TRUE(until([&] { return left == 0; }));
  for (const auto& kind : kinds) EXPECT_FALSE(kind.has_value());
}

TEST_F(DbClient, QueuesAreBounded) {
  Options options = quick_options(cluster->url());
  options.pipelined_connections = 1;
  connect(options);
  wait(one(reads(), number, 1));
  std::vector<std::optional<ErrorKind>> kinds(1100);
  int left = 1100;
  asio::co_spawn(io, record(one(reads(), sleep_for, 0.2), &kinds[0], &left), asio::detached);
  for (std::size_t i = 1; i < 1100; ++i) {
    asio::co_spawn(io, record(one(reads(), number, 1), &kinds[i], &left), asio::detached);
  }
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::optional(ErrorKind::timeout)), 1100 - 1024);
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::nullopt), 1024);
}

TEST_F(DbClient, ServerAndClientDeadlines) {
  Options options = quick_options(cluster->url());
  options.pipelined_connections = 1;
  options.statement_timeout = 400ms;
  options.answer_timeout = 500ms;
  connect(options);
  const auto pid = wait(one(reads(), backend_pid));
  const Error overdue = failure_of(one(reads(), sleep_for, 3));
  EXPECT_EQ(overdue.kind, ErrorKind::timeout);
  EXPECT_EQ(overdue.sqlstate, "57014");
  EXPECT_EQ(overdue.statement, "test.sleep");

  // Slow neighbours make a waiter's time pass; the connection lives on.
  std::vector<std::optional<ErrorKind>> kinds(3);
  int left = 3;
  for (auto& kind : kinds) asio::co_spawn(io, record(one(reads(), sleep_for, 0.3), &kind, &left), asio::detached);
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_FALSE(kinds[0].has_value());
  EXPECT_EQ(kinds[1], ErrorKind::timeout);
  EXPECT_EQ(kinds[2], ErrorKind::timeout);
  ASSERT_TRUE(until([&] { return client->gauges().pipelined_depth == 0; }));
  EXPECT_EQ(wait(one(reads(), backend_pid)), pid);
}

TEST_F(DbClient, LostPreparedStatementsAndOutdatedPlansAreMadeAgain) {
  Options options = quick_options(cluster->url());
  options.pipelined_connections = 1;
  connect(options);
  EXPECT_EQ(wait(one(reads(), number, 5)), 5);
  EXPECT_EQ(wait(one(reads(), star)), 7);
  wait(run(reads(), forget_prepared));
  EXPECT_EQ(wait(one(reads(), number, 6)), 6);
  EXPECT_EQ(wait(one(reads(), star)), 7);
  wait(run(reads(), widen));
  EXPECT_EQ(wait(one(reads(), star)), 7);

  // Inside a transaction nothing can be sent again, but running it anew works.
  auto tx = client->begin();
  wait(one(*tx, star));
  wait(tx->commit());
  cluster->sql("ALTER TABLE wide ADD COLUMN still_more text");
  tx = client->begin();
  EXPECT_EQ(failure_of(one(*tx, star)).kind, ErrorKind::retryable);
  tx = client->begin();
  EXPECT_EQ(wait(one(*tx, star)), 7);
}

TEST_F(DbClient, ManyInFlightSurviveTheLossOfTheirPreparedStatement) {
  Options options = quick_options(cluster->url());
  options.pipelined_connections = 1;
  options.statement_timeout = 300ms;
  connect(options);
  wait(one(reads(), number, 1));
  std::vector<std::optional<ErrorKind>> kinds(6);
  int left = 6;
  asio::co_spawn(io, record(run(reads(), forget_prepared), &kinds[0], &left), asio::detached);
  for (std::size_t i = 1; i < 6; ++i) {
    asio::co_spawn(io, record(one(reads(), number, 2), &kinds[i], &left), asio::detached);
  }
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::nullopt), 6);

  // The first one's Parse waits for a lock until its time is over; the others, behind it, prepare again.
  PGconn* locker = PQconnectdb(cluster->url().c_str());
  PQclear(PQexec(locker, "BEGIN; LOCK TABLE items"));
  kinds.assign(6, std::nullopt);
  left = 6;
  for (auto& kind : kinds) asio::co_spawn(io, record(maybe(reads(), get, 1), &kind, &left), asio::detached);
  ASSERT_TRUE(until([&] { return left == 5; }));
  EXPECT_EQ(kinds[0], ErrorKind::timeout);
  PQfinish(locker);
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::nullopt), 5);

  // The same with a plan that a migration outdates under many.
  EXPECT_EQ(wait(one(reads(), star)), 7);
  kinds.assign(6, std::nullopt);
  left = 6;
  cluster->sql("ALTER TABLE wide ADD COLUMN even_more text");
  for (auto& kind : kinds) asio::co_spawn(io, record(one(reads(), star), &kind, &left), asio::detached);
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::nullopt), 6);
}

TEST_F(DbClient, EveryStatementIsObserved) {
  std::map<std::string, std::pair<int, int>> seen;
  client->observe([&](const Statement& statement, std::chrono::microseconds elapsed, bool failed) {
    EXPECT_GT(elapsed.count(), 0);
    auto& [fine, bad] = seen[std::string(statement.name)];
    ++(failed ? bad : fine);
  });
  wait(one(reads(), number, 1));
  failure_of(one(reads(), divide, 0));
  auto tx = client->begin();
  wait(run(*tx, insert, Item{1, "a"}));
  wait(tx->commit());
  EXPECT_EQ(seen["test.number"], std::pair(1, 0));
  EXPECT_EQ(seen["test.divide"], std::pair(0, 1));
  EXPECT_EQ(seen["test.insert"], std::pair(1, 0));
}

void run_shard(const std::string& url, int* right) {
  asio::io_context own(1);
  Client mine(own, quick_options(url));
  int left = 300;
  for (int i = 0; i < 300; ++i) asio::co_spawn(own, ask(mine.reads(), i, right, &left), asio::detached);
  while (left > 0) own.run_one_for(100ms);
}

TEST_F(DbClient, ShardsRunBesideEachOther) {
  int right[3] = {};
  std::vector<std::thread> threads;
  for (int& mine : right) threads.emplace_back(run_shard, cluster->url(), &mine);
  for (std::thread& thread : threads) thread.join();
  for (const int mine : right) EXPECT_EQ(mine, 300);
}

// --- transactions ----------------------------------------------------------------------------------------------------

TEST_F(DbClient, CommitAndRollback) {
  auto tx = client->begin();
  EXPECT_FALSE(tx->used());
  wait(tx->commit());  // nothing to do
  tx = client->begin();
  EXPECT_EQ(wait(run(*tx, insert, Item{1, "one"})), 1);
  EXPECT_TRUE(tx->used());
  EXPECT_EQ(wait(maybe(*tx, get, 1))->name, "one");
  EXPECT_EQ(count(), "0");
  wait(tx->commit());
  EXPECT_EQ(count(), "1");
  EXPECT_EQ(failure_of(run(*tx, insert, Item{2, "two"})).kind, ErrorKind::other);

  tx = client->begin();
  wait(run(*tx, insert, Item{3, "three"}));
  tx.reset();
  ASSERT_TRUE(nothing_in_use());
  EXPECT_EQ(count(), "1");
  EXPECT_EQ(cluster->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hourz' AND state <> 'idle'"),
            "0");
  tx = client->begin();
  wait(run(*tx, insert, Item{3, "three"}));
  wait(tx->commit());
  EXPECT_EQ(count(), "2");
  EXPECT_EQ(cluster->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hourz'"), "3");
}

TEST_F(DbClient, TheLastStatementCommits) {
  auto alone = client->begin();
  EXPECT_EQ(wait(one_last(*alone, returning, Item{1, "alone"})), 1);
  EXPECT_EQ(count(), "1");
  EXPECT_EQ(client->gauges().in_use, 0);
  wait(alone->commit());

  auto second = client->begin();
  wait(run(*second, insert, Item{2, "two"}));
  wait(run_last(*second, insert, Item{3, "three"}));
  EXPECT_EQ(count(), "3");
  EXPECT_EQ(client->gauges().in_use, 0);

  auto held = client->begin();
  held->allow_early_commit(false);
  wait(run_last(*held, insert, Item{4, "four"}));
  EXPECT_EQ(count(), "3");
  wait(held->commit());
  EXPECT_EQ(count(), "4");
}

TEST_F(DbClient, AFailedLastStatementCommitsNothing) {
  auto tx = client->begin();
  wait(run(*tx, insert, Item{1, "one"}));
  const Error twice = failure_of(run_last(*tx, insert, Item{1, "again"}));
  EXPECT_EQ(twice.kind, ErrorKind::constraint);
  EXPECT_EQ(twice.constraint, "items_pkey");
  EXPECT_EQ(twice.sqlstate, "23505");
  EXPECT_EQ(twice.statement, "test.insert");
  EXPECT_EQ(failure_of(tx->commit()).kind, ErrorKind::other);
  tx.reset();
  ASSERT_TRUE(nothing_in_use());
  EXPECT_EQ(count(), "0");

  auto alone = client->begin();
  EXPECT_EQ(failure_of(run_last(*alone, insert, Item{1, std::string(60, 'x')})).constraint, "items_name_length");
  wait(run_last(*alone, insert, Item{1, "short"}));
  EXPECT_EQ(count(), "1");
}

TEST_F(DbClient, DeferredConstraintsFailAtCommit) {
  auto alone = client->begin();
  EXPECT_EQ(failure_of(run_last(*alone, deferred, 77)).constraint, "parts_item_known");
  EXPECT_EQ(client->gauges().in_use, 0);
  auto tx = client->begin();
  wait(run(*tx, insert, Item{1, "one"}));
  EXPECT_EQ(failure_of(run_last(*tx, deferred, 77)).constraint, "parts_item_known");
  tx = client->begin();
  wait(run(*tx, insert, Item{1, "one"}));
  wait(run(*tx, deferred, 77));
  EXPECT_EQ(failure_of(tx->commit()).constraint, "parts_item_known");
  EXPECT_EQ(client->gauges().in_use, 0);
  EXPECT_EQ(failure_of(run(*tx, insert, Item{1, "one"})).kind, ErrorKind::other);
  EXPECT_EQ(failure_of(tx->commit()).kind, ErrorKind::other);
  ASSERT_TRUE(nothing_in_use());
  EXPECT_EQ(count(), "0");
  EXPECT_EQ(cluster->sql("SELECT count(*) FROM parts"), "0");
}

TEST_F(DbClient, SavepointKeepsWhatCameBefore) {
  auto tx = client->begin();
  wait(run(*tx, insert, Item{1, "kept"}));
  wait(tx->savepoint());
  wait(run(*tx, insert, Item{2, "undone"}));
  EXPECT_EQ(failure_of(run(*tx, insert, Item{1, "twice"})).kind, ErrorKind::constraint);
  wait(tx->rollback_to_savepoint());
  wait(run(*tx, insert, Item{3, "after"}));
  wait(tx->rollback_to_savepoint());
  wait(run(*tx, insert, Item{4, "after"}));
  wait(tx->commit());
  EXPECT_EQ(count("id IN (1, 4)"), "2");
  EXPECT_EQ(count(), "2");

  // From the very start, its first statement failing; and rolled back with nothing after it.
  tx = client->begin();
  wait(tx->savepoint());
  EXPECT_EQ(failure_of(run(*tx, insert, Item{1, "twice"})).kind, ErrorKind::constraint);
  wait(tx->rollback_to_savepoint());
  wait(run_last(*tx, insert, Item{5, "five"}));
  EXPECT_EQ(count(), "3");
  tx = client->begin();
  wait(run(*tx, insert, Item{6, "six"}));
  wait(tx->savepoint());
  failure_of(run(*tx, insert, Item{1, "twice"}));
  wait(tx->rollback_to_savepoint());
  wait(tx->commit());
  EXPECT_EQ(count(), "4");
  tx = client->begin();
  EXPECT_EQ(failure_of(tx->rollback_to_savepoint()).kind, ErrorKind::other);
  wait(tx->savepoint());
  wait(tx->commit());  // nothing was sent
}

TEST_F(DbClient, ABrokenStatementIsPreparedAgainWhenItCanBe) {
  for (int i = 0; i < 3; ++i) {
    auto tx = client->begin();
    EXPECT_EQ(failure_of(one(*tx, broken, 1)).sqlstate, "42P01");
  }
  cluster->sql("CREATE TABLE nowhere AS SELECT 1");
  auto tx = client->begin();
  EXPECT_EQ(wait(one(*tx, broken, 4)), 4);
  tx.reset();
  ASSERT_TRUE(nothing_in_use());
  cluster->sql("DROP TABLE nowhere");
}

TEST_F(DbClient, AnExhaustedPoolMakesWaitersWaitThenFail) {
  Options options = quick_options(cluster->url());
  options.pooled_connections = 2;
  options.pool_queue = 3;
  options.pool_timeout = 200ms;
  connect(options);
  auto a = client->begin();
  auto b = client->begin();
  wait(one(*a, number, 1));
  wait(one(*b, number, 1));
  std::vector<std::unique_ptr<Transaction>> others;
  std::vector<std::optional<ErrorKind>> kinds(4);
  int left = 4;
  const auto start = Clock::now();
  for (auto& kind : kinds) {
    others.push_back(client->begin());
    asio::co_spawn(io, record(one(*others.back(), number, 1), &kind, &left), asio::detached);
  }
  ASSERT_TRUE(until([&] { return left == 3; }));  // one too many, at once
  EXPECT_LT(Clock::now() - start, 100ms);
  EXPECT_EQ(client->gauges().waiting, 3);
  EXPECT_EQ(client->gauges().in_use, 2);
  a.reset();  // the first waiter gets its connection
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_GE(Clock::now() - start, 200ms);
  EXPECT_LT(Clock::now() - start, 500ms);
  EXPECT_EQ(kinds[0], std::nullopt);
  EXPECT_EQ(kinds[1], ErrorKind::timeout);
  EXPECT_EQ(kinds[2], ErrorKind::timeout);
  EXPECT_EQ(kinds[3], ErrorKind::timeout);
  others.clear();
  b.reset();
  ASSERT_TRUE(nothing_in_use());
}

Awaitable<void> rename_both(Client& client, std::int64_t first, std::int64_t second, int* arrived, Timer& both,
                            std::optional<ErrorKind>* kind, int* left) {
  const auto tx = client.begin();
  try {
    co_await run(*tx, rename, first, "x");
    if (++*arrived == 2) {
      both.cancel();
    } else {
      boost::system::error_code ec;
      co_await both.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    }
    co_await run_last(*tx, rename, second, "y");
  } catch (const Error& error) {
    *kind = error.kind;
  }
  --*left;
}

TEST_F(DbClient, ADeadlockIsRetryable) {
  cluster->sql("INSERT INTO items VALUES (1, 'a'), (2, 'b')");
  Timer both(io, 10s);
  int arrived = 0;
  int left = 2;
  std::vector<std::optional<ErrorKind>> kinds(2);
  asio::co_spawn(io, rename_both(*client, 1, 2, &arrived, both, &kinds[0], &left), asio::detached);
  asio::co_spawn(io, rename_both(*client, 2, 1, &arrived, both, &kinds[1], &left), asio::detached);
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::optional(ErrorKind::retryable)), 1);
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::nullopt), 1);
}

}  // namespace
}  // namespace hourz::db::testing_db
