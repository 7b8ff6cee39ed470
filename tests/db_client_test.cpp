// The PostgreSQL client against a real server that this test makes, stops, freezes and starts again. It needs the
// programs of PostgreSQL 15; as root it runs the server as user postgres. Nothing outside a folder in /tmp is touched.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/describe.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "db/connection.hpp"
#include "db/database.hpp"

namespace hourz::db {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using std::chrono::milliseconds;

// --- a server of our own ---------------------------------------------------------------------------------------------

void become_postgres() {
  if (getuid() != 0) return;
  const passwd* user = getpwnam("postgres");
  if (user == nullptr || initgroups("postgres", user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
      setuid(user->pw_uid) != 0) {
    _exit(126);
  }
}

class Cluster {
 public:
  Cluster() {
    char pattern[] = "/tmp/hzdb.XXXXXX";
    folder_ = mkdtemp(pattern);
    if (const passwd* user = getpwnam("postgres"); getuid() == 0 && user != nullptr) {
      if (chown(folder_.c_str(), user->pw_uid, user->pw_gid) != 0) throw std::runtime_error("chown");
    }
    const pid_t initdb =
        spawn({"initdb", "-D", data(), "-U", "hourz", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"});
    int status = 0;
    waitpid(initdb, &status, 0);
    if (status != 0) throw std::runtime_error("initdb failed");
    start();
  }
  ~Cluster() {
    end(SIGQUIT);
    fs::remove_all(folder_);
  }

  void start() {
    server_ = spawn({"postgres", "-D", data(), "-k", folder_, "-c", "listen_addresses=", "-c", "fsync=off", "-c",
                     "deadlock_timeout=50ms", "-c", "max_connections=60", "-c", "restart_after_crash=off"});
    const auto deadline = Clock::now() + 20s;
    while (PQping(url().c_str()) != PQPING_OK) {
      if (Clock::now() > deadline) throw std::runtime_error("the server does not start");
      poll(nullptr, 0, 5);
    }
  }

  /// SIGQUIT is the immediate stop: nothing is flushed, the next start recovers from the log.
  void end(int signal) {
    if (server_ == 0) return;
    kill(server_, signal);
    waitpid(server_, nullptr, 0);
    server_ = 0;
  }

  /// Stops or continues the server with all its processes.
  void signal_all(int signal) {
    kill(server_, signal);
    for (const pid_t child : children()) kill(child, signal);
  }

  std::string url() const { return "host=" + folder_ + " user=hourz dbname=postgres"; }

  /// One statement on a connection of its own; the first value, or nothing.
  std::string sql(const std::string& text) const {
    PGconn* raw = PQconnectdb(url().c_str());
    PGresult* result = PQexec(raw, text.c_str());
    std::string value;
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0) value = PQgetvalue(result, 0, 0);
    if (PQresultStatus(result) == PGRES_FATAL_ERROR) ADD_FAILURE() << text << ": " << PQerrorMessage(raw);
    PQclear(result);
    PQfinish(raw);
    return value;
  }

 private:
  std::string data() const { return folder_ + "/data"; }

  pid_t spawn(const std::vector<std::string>& words) const {
    const char* bin = std::getenv("HOURZ_POSTGRES_BIN");
    const std::string program = std::string(bin != nullptr ? bin : "/usr/lib/postgresql/15/bin") + '/' + words[0];
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const std::string log = folder_ + "/log";
    const pid_t pid = fork();
    if (pid != 0) return pid;
    setsid();
    become_postgres();
    prctl(PR_SET_PDEATHSIG, SIGQUIT);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const int in = open("/dev/null", O_RDONLY);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    if (chdir("/") != 0) _exit(126);
    execv(program.c_str(), argv.data());
    _exit(127);
  }

  std::vector<pid_t> children() const {
    std::vector<pid_t> found;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream stat(entry.path() / "stat");
      std::string line;
      std::getline(stat, line);
      const auto after_name = line.rfind(')');
      if (after_name == std::string::npos) continue;
      char state = 0;
      long parent = 0;
      if (std::sscanf(line.c_str() + after_name + 1, " %c %ld", &state, &parent) == 2 && parent == server_) {
        found.push_back(std::stoi(name));
      }
    }
    return found;
  }

  std::string folder_;
  pid_t server_ = 0;
};

// --- statements ------------------------------------------------------------------------------------------------------

enum class Colour { red, green };
BOOST_DESCRIBE_ENUM(Colour, red, green)

struct Everything {
  bool flag = false;
  std::int16_t small = 0;
  std::int32_t medium = 0;
  std::int64_t large = 0;
  double real = 0;
  std::string words;
  Text<1, 20> title;
  Uuid id;
  Timestamp at;
  Money amount;
  Latitude latitude;
  Longitude longitude;
  Bytes raw;
  std::vector<Uuid> ids;
  std::vector<std::string> tags;
  std::vector<std::int64_t> numbers;
  Colour colour = Colour::red;
  std::optional<std::string> maybe_words;
  std::optional<std::int64_t> maybe_large;
};
BOOST_DESCRIBE_STRUCT(Everything, (),
                      (flag, small, medium, large, real, words, title, id, at, amount, latitude, longitude, raw, ids,
                       tags, numbers, colour, maybe_words, maybe_large))

struct Item {
  std::int64_t id = 0;
  std::string name;
};
BOOST_DESCRIBE_STRUCT(Item, (), (id, name))

// Parameters stand in another order than the members.
constexpr Statement echo_sql{
    "test.echo",
    "maybe_large, flag, small, medium, large, real, words, title, id, at, amount, latitude, longitude, raw, ids, tags, "
    "numbers, colour, maybe_words",
    "SELECT $2 AS flag, $3 AS small, $4 AS medium, $5 AS large, $6 AS real, $7 AS words, $8 AS title, $9 AS id, "
    "$10 AS at, $11 AS amount, $12 AS latitude, $13 AS longitude, $14 AS raw, $15 AS ids, $16 AS tags, "
    "$17 AS numbers, $18 AS colour, $19 AS maybe_words, $1 AS maybe_large"};
constexpr Statement number_sql{"test.number", "", "SELECT $1 AS n"};
constexpr Statement other_number_sql{"test.other_number", "", "SELECT $1 + 0 AS n"};
constexpr Statement divide_sql{"test.divide", "", "SELECT 100 / $1"};
constexpr Statement broken_sql{"test.broken", "", "SELECT $1 FROM nowhere"};
constexpr Statement insert_sql{"test.insert", "id, name", "INSERT INTO items (id, name) VALUES ($1, $2)"};
constexpr Statement returning_sql{"test.returning", "id, name",
                                  "INSERT INTO items (id, name) VALUES ($1, $2) RETURNING id"};
constexpr Statement rename_sql{"test.rename", "", "UPDATE items SET name = $2 WHERE id = $1"};
constexpr Statement get_sql{"test.get", "", "SELECT id, name FROM items WHERE id = $1"};
constexpr Statement star_sql{"test.star", "", "SELECT * FROM wide"};
constexpr Statement widen_sql{"test.widen", "", "ALTER TABLE wide ADD COLUMN more text"};
constexpr Statement sleep_sql{"test.sleep", "", "SELECT $1 FROM pg_sleep($1)"};
constexpr Statement slow_insert_sql{"test.slow_insert", "",
                                    "INSERT INTO items (id, name) SELECT $1, 'slow' FROM pg_sleep(30)"};
constexpr Statement deferred_sql{"test.deferred", "", "INSERT INTO parts (item) VALUES ($1)"};
constexpr Statement pid_sql{"test.pid", "", "SELECT pg_backend_pid()"};
constexpr Statement forget_sql{"test.forget", "", "DEALLOCATE ALL"};
constexpr Statement settings_sql{
    "test.settings", "",
    "SELECT concat_ws('|', current_setting('statement_timeout'), current_setting('plan_cache_mode'), "
    "current_setting('TimeZone'), current_setting('default_transaction_isolation'), "
    "current_setting('client_encoding'), current_setting('application_name'))"};

const Query<Everything, Everything> echo{echo_sql};
const Query<std::int64_t, std::int64_t> number{number_sql};
const Query<std::int64_t, std::int64_t> other_number{other_number_sql};
const Query<std::int64_t, std::int64_t> divide{divide_sql};
const Query<std::int64_t, std::int64_t> broken{broken_sql};
const Query<Nothing, Item> insert{insert_sql};
const Query<std::int64_t, Item> returning{returning_sql};
const Query<Nothing, std::int64_t, std::string> rename{rename_sql};
const Query<Item, std::int64_t> get{get_sql};
const Query<std::int64_t> star{star_sql};
const Query<Nothing> widen{widen_sql};
const Query<double, double> sleep_for{sleep_sql};
const Query<Nothing, std::int64_t> slow_insert{slow_insert_sql};
const Query<Nothing, std::int64_t> deferred{deferred_sql};
const Query<std::int32_t> backend_pid{pid_sql};
const Query<Nothing> forget_prepared{forget_sql};
const Query<std::string> show_settings{settings_sql};

// --- helpers ---------------------------------------------------------------------------------------------------------

Options quick_options(const std::string& url) {
  Options options;
  options.url = url;
  options.pipelined_connections = 2;
  options.pooled_connections = 4;
  options.connect_timeout = 1000ms;
  options.pool_timeout = 1000ms;
  options.statement_timeout = 1500ms;
  options.answer_timeout = 2000ms;
  return options;
}

class DbClient : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster = new Cluster;
    cluster->sql(
        "CREATE TABLE items (id int8 PRIMARY KEY, name text NOT NULL CONSTRAINT items_name_length CHECK "
        "(length(name) < 50));"
        "CREATE TABLE parts (item int8 CONSTRAINT parts_item_known REFERENCES items DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TABLE wide (n int8); INSERT INTO wide VALUES (7);");
  }
  static void TearDownTestSuite() {
    delete cluster;
    cluster = nullptr;
  }

  void SetUp() override {
    cluster->sql("TRUNCATE items, parts");
    connect(quick_options(cluster->url()));
  }
  void TearDown() override {
    client.reset();
    io.restart();
    io.run_for(50ms);
  }

  void connect(Options options) {
    client.reset();
    client = std::make_unique<Client>(io, std::move(options));
  }

  /// Runs the loop until `done` or a minute is over.
  template <class Condition>
  bool until(Condition done, milliseconds limit = 60s) {
    const auto deadline = Clock::now() + limit;
    while (!done()) {
      if (Clock::now() > deadline) return false;
      if (io.stopped()) io.restart();
      io.run_one_for(10ms);
    }
    return true;
  }

  template <class T>
  T wait(Awaitable<T> awaitable) {
    std::optional<T> value;
    std::exception_ptr failure;
    bool done = false;
    asio::co_spawn(io, std::move(awaitable), [&](std::exception_ptr e, T v) {
      failure = e;
      value = std::move(v);
      done = true;
    });
    if (!until([&] { return done; })) throw std::runtime_error("no answer within a minute");
    if (failure) std::rethrow_exception(failure);
    return std::move(*value);
  }
  void wait(Awaitable<void> awaitable) {
    std::exception_ptr failure;
    bool done = false;
    asio::co_spawn(io, std::move(awaitable), [&](std::exception_ptr e) {
      failure = e;
      done = true;
    });
    if (!until([&] { return done; })) throw std::runtime_error("no answer within a minute");
    if (failure) std::rethrow_exception(failure);
  }

  /// The error that an awaitable ends with.
  template <class T>
  Error failure_of(Awaitable<T> awaitable) {
    try {
      wait(std::move(awaitable));
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error";
    return Error(ErrorKind::other, "no error");
  }

  std::string count(const std::string& where = "true") {
    return cluster->sql("SELECT count(*) FROM items WHERE " + where);
  }
  Executor& reads() { return client->reads(); }
  bool nothing_in_use() {
    return until([&] { return client->gauges().in_use == 0; }, 5s);
  }

  static inline Cluster* cluster = nullptr;
  asio::io_context io;
  std::unique_ptr<Client> client;
};

template <class T>
Awaitable<void> record(Awaitable<T> awaitable, std::optional<ErrorKind>* kind, int* left) {
  try {
    co_await std::move(awaitable);
  } catch (const Error& error) {
    *kind = error.kind;
  }
  --*left;
}

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
  EXPECT_THROW(parameter_order(statement, std::vector<std::string_view>{"a", "b", "c", "d"}), WireError);
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
  int left = 20;
  Everything big = sample();
  big.words.assign(3'000'000, 'x');
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
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), std::optional(ErrorKind::unavailable)), 1100 - 1024);
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
  EXPECT_EQ(kinds[3], ErrorKind::unavailable);
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

// --- losing connections ----------------------------------------------------------------------------------------------

void terminate_all(const Cluster& cluster) {
  cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hourz'");
}

TEST_F(DbClient, ATerminatedBackendIsReplaced) {
  wait(one(reads(), number, 1));
  auto tx = client->begin();
  wait(run(*tx, insert, Item{1, "lost"}));
  terminate_all(*cluster);
  EXPECT_EQ(failure_of(run(*tx, insert, Item{2, "lost"})).kind, ErrorKind::unavailable);
  EXPECT_EQ(failure_of(run(*tx, insert, Item{3, "lost"})).kind, ErrorKind::unavailable);
  tx = client->begin();
  wait(run_last(*tx, insert, Item{4, "kept"}));
  EXPECT_EQ(count(), "1");
  // A read may still meet the end of its connection; the ones after that do not.
  int lost = 0;
  for (int fine = 0; fine < 10;) {
    try {
      fine += wait(one(reads(), number, 2)) == 2 ? 1 : 0;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, ErrorKind::unavailable);
      ASSERT_LE(++lost, 2);
    }
  }
}

TEST_F(DbClient, ALostCommitIsOfUnknownOutcome) {
  auto tx = client->begin();
  std::optional<ErrorKind> kind;
  int left = 1;
  asio::co_spawn(io, record(run_last(*tx, slow_insert, 1), &kind, &left), asio::detached);
  ASSERT_TRUE(
      until([&] { return cluster->sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"; }));
  terminate_all(*cluster);
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_EQ(kind, ErrorKind::outcome_unknown);

  tx = client->begin();
  wait(run(*tx, insert, Item{2, "two"}));
  cluster->signal_all(SIGSTOP);
  EXPECT_EQ(failure_of(tx->commit()).kind, ErrorKind::outcome_unknown);
  cluster->signal_all(SIGCONT);
  tx = client->begin();
  wait(run_last(*tx, insert, Item{3, "three"}));
}

TEST_F(DbClient, AFrozenServerIsLeftInTime) {
  Options options = quick_options(cluster->url());
  options.statement_timeout = 300ms;
  options.answer_timeout = 400ms;
  options.connect_timeout = 500ms;
  connect(options);
  wait(one(reads(), number, 1));
  auto tx = client->begin();
  wait(one(*tx, number, 1));
  cluster->signal_all(SIGSTOP);
  const auto start = Clock::now();
  std::vector<std::optional<ErrorKind>> kinds(12);
  int left = 12;
  asio::co_spawn(io, record(one(*tx, number, 1), &kinds[0], &left), asio::detached);
  for (std::size_t i = 1; i < 11; ++i) {
    asio::co_spawn(io, record(one(reads(), number, 1), &kinds[i], &left), asio::detached);
  }
  const auto fresh = client->begin();  // whose connection cannot come up
  asio::co_spawn(io, record(one(*fresh, number, 1), &kinds[11], &left), asio::detached);
  ASSERT_TRUE(until([&] { return left == 0; }));
  for (std::size_t i = 0; i < 11; ++i) EXPECT_EQ(kinds[i], ErrorKind::timeout) << i;
  EXPECT_TRUE(kinds[11] == ErrorKind::unavailable || kinds[11] == ErrorKind::timeout);
  EXPECT_LT(Clock::now() - start, 1300ms);
  tx.reset();

  // With no connection up a read fails soon, and so does a ping.
  const auto again = Clock::now();
  EXPECT_EQ(failure_of(one(reads(), number, 1)).kind, ErrorKind::unavailable);
  EXPECT_LT(Clock::now() - again, 800ms);
  const auto pinged = Clock::now();
  EXPECT_FALSE(wait(client->ping(100ms)));
  EXPECT_LT(Clock::now() - pinged, 300ms);

  cluster->signal_all(SIGCONT);
  const auto healed = Clock::now();
  while (!wait(client->ping(100ms))) ASSERT_LT(Clock::now() - healed, 5s);
  tx = client->begin();
  EXPECT_EQ(wait(one(*tx, number, 3)), 3);
}

struct Load {
  bool stop = false;
  int left = 0;
  std::int64_t next = 1;
  int read = 0;
  std::set<std::int64_t> acknowledged;
  std::set<std::int64_t> refused;  ///< with an error that says it had no effect
  std::map<ErrorKind, int> errors;
  std::string odd;
};

Awaitable<void> keep_reading(Client& client, Load& load) {
  while (!load.stop) {
    try {
      load.read += co_await one(client.reads(), number, 7) == 7 ? 1 : 0;
    } catch (const Error& error) {
      ++load.errors[error.kind];
      if (error.kind == ErrorKind::other) load.odd = error.message;
    }
  }
  --load.left;
}

Awaitable<void> keep_writing(Client& client, Load& load, int way) {
  while (!load.stop) {
    const std::int64_t id = load.next++;
    try {
      const auto tx = client.begin();
      if (way % 2 == 0) {
        co_await run_last(*tx, insert, Item{id, "x"});
      } else {
        co_await maybe(*tx, get, id);
        co_await run(*tx, insert, Item{id, "y"});
        co_await tx->commit();
      }
      load.acknowledged.insert(id);
    } catch (const Error& error) {
      ++load.errors[error.kind];
      if (error.kind == ErrorKind::other) load.odd = error.message;
      if (error.kind != ErrorKind::outcome_unknown) load.refused.insert(id);
    }
  }
  --load.left;
}

TEST_F(DbClient, RestartsUnderLoadLoseNothingAcknowledged) {
  Load load;
  load.left = 16;
  for (int i = 0; i < 8; ++i) {
    asio::co_spawn(io, keep_reading(*client, load), asio::detached);
    asio::co_spawn(io, keep_writing(*client, load, i), asio::detached);
  }
  for (const int signal : {SIGQUIT, SIGQUIT, SIGINT}) {
    const int read = load.read;
    const auto written = load.acknowledged.size();
    ASSERT_TRUE(until([&] { return load.read > read + 200 && load.acknowledged.size() > written + 200; }, 10s));
    cluster->end(signal);
    const auto errors = load.errors[ErrorKind::unavailable];
    ASSERT_TRUE(until([&] { return load.errors[ErrorKind::unavailable] > errors; }, 10s));
    cluster->start();
  }
  const int read = load.read;
  const auto written = load.acknowledged.size();
  EXPECT_TRUE(until([&] { return load.read > read + 200 && load.acknowledged.size() > written + 200; }, 10s));
  load.stop = true;
  ASSERT_TRUE(until([&] { return load.left == 0; }, 10s));
  EXPECT_EQ(load.odd, "");
  std::set<std::int64_t> found;
  PGconn* raw = PQconnectdb(cluster->url().c_str());
  PGresult* rows = PQexec(raw, "SELECT id FROM items");
  for (int i = 0; i < PQntuples(rows); ++i) found.insert(std::stoll(PQgetvalue(rows, i, 0)));
  PQclear(rows);
  PQfinish(raw);
  for (const std::int64_t id : load.acknowledged) EXPECT_TRUE(found.contains(id)) << "acknowledged and lost: " << id;
  for (const std::int64_t id : load.refused) EXPECT_FALSE(found.contains(id)) << "refused and there: " << id;
}

TEST_F(DbClient, WithoutAServerCallersHearItSoon) {
  Options options = quick_options("host=/nonexistent user=nobody");
  connect(options);
  const auto start = Clock::now();
  EXPECT_EQ(failure_of(one(reads(), number, 1)).kind, ErrorKind::unavailable);
  auto tx = client->begin();
  EXPECT_EQ(failure_of(one(*tx, number, 1)).kind, ErrorKind::unavailable);
  EXPECT_LT(Clock::now() - start, 1500ms);
}

// --- ending ----------------------------------------------------------------------------------------------------------

TEST_F(DbClient, StopFailsWhatIsUnderWay) {
  wait(one(reads(), number, 1));
  auto tx = client->begin();
  auto idle = client->begin();
  wait(one(*idle, number, 1));
  std::vector<std::optional<ErrorKind>> kinds(2);
  int left = 2;
  asio::co_spawn(io, record(one(reads(), sleep_for, 1), &kinds[0], &left), asio::detached);
  asio::co_spawn(io, record(run_last(*tx, slow_insert, 1), &kinds[1], &left), asio::detached);
  ASSERT_TRUE(until([&] { return client->gauges().pipelined_depth == 1 && client->gauges().in_use == 2; }));
  client->stop();
  ASSERT_TRUE(until([&] { return left == 0; }));
  EXPECT_EQ(kinds[0], ErrorKind::unavailable);
  EXPECT_TRUE(kinds[1] == ErrorKind::outcome_unknown || kinds[1] == ErrorKind::unavailable);
  EXPECT_EQ(failure_of(one(reads(), number, 1)).kind, ErrorKind::unavailable);
  EXPECT_EQ(failure_of(one(*idle, number, 1)).kind, ErrorKind::unavailable);
  idle.reset();
  EXPECT_EQ(client->gauges().in_use, 0);
  io.restart();
  EXPECT_TRUE(io.run_for(5s) >= 0 && io.stopped());  // nothing keeps the loop alive
}

Awaitable<void> hold(Client& client, bool pooled) {
  const auto tx = client.begin();
  if (pooled) co_await one(*tx, number, 1);
  co_await one(pooled ? static_cast<Executor&>(*tx) : client.reads(), sleep_for, 1);
}

TEST_F(DbClient, EverythingMayBeDroppedInTheMiddle) {
  for (int turns = 0; turns < 40; turns += 3) {
    asio::io_context own;
    Client mine(own, quick_options(cluster->url()));
    for (int i = 0; i < 6; ++i) asio::co_spawn(own, hold(mine, i % 2 == 0), asio::detached);
    for (int i = 0; i < turns; ++i) own.run_one_for(5ms);
  }
}

}  // namespace
}  // namespace hourz::db
