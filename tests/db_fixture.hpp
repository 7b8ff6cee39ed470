// What the tests of the PostgreSQL client share: a real server that they make, stop, freeze and start again, statements
// over every type, and a fixture that runs the loop. It needs the programs of PostgreSQL 15 (HOURZ_POSTGRES_BIN, or
// where Debian puts them); as root it runs the server as user postgres. Nothing outside a folder in /tmp is touched.
#pragma once
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
#include <stdexcept>

#include "db/connection.hpp"
#include "db/database.hpp"
#include "temporary_folder.hpp"

namespace hourz::db::testing_db {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using std::chrono::milliseconds;

// --- a server of our own ---------------------------------------------------------------------------------------------

inline void become_postgres() {
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
    folder_ = make_temporary_folder("db").string();
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
    signal_all(SIGCONT);  // a test that failed may have left it frozen
    kill(server_, signal);
    waitpid(server_, nullptr, 0);
    server_ = 0;
  }

  /// Stops or continues the server with all its processes. When it returns after SIGSTOP every one of them stands
  /// still: the postmaster first, since one that still runs may be starting a process that no list has yet.
  void signal_all(int signal) {
    kill(server_, signal);
    if (signal != SIGSTOP) {
      for (const pid_t child : children()) kill(child, signal);
      return;
    }
    const auto deadline = Clock::now() + 10s;
    const auto pause = [&] {
      if (Clock::now() > deadline) throw std::runtime_error("the server does not stand still");
      poll(nullptr, 0, 1);
    };
    while (process(server_).state != 'T') pause();
    for (bool still = false; !still;) {
      still = true;
      for (const pid_t child : children()) {
        const char state = process(child).state;
        if (state == 'T' || state == 'Z' || state == 0) continue;
        kill(child, SIGSTOP);
        still = false;
      }
      if (!still) pause();
    }
  }

  const std::string& folder() const { return folder_; }
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
    // Named by its path: it looks for its siblings beside itself, or on PATH, where Debian does not put them.
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (std::size_t i = 1; i < words.size(); ++i) argv.push_back(const_cast<char*>(words[i].c_str()));
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

  struct Process {
    char state = 0;  ///< as /proc has it; 0: there is none
    long parent = 0;
  };

  static Process process(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    Process found;
    const auto after_name = line.rfind(')');
    if (after_name != std::string::npos) {
      std::sscanf(line.c_str() + after_name + 1, " %c %ld", &found.state, &found.parent);
    }
    return found;
  }

  std::vector<pid_t> children() const {
    std::vector<pid_t> found;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      const pid_t pid = std::stoi(name);
      if (process(pid).parent == server_) found.push_back(pid);
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
inline constexpr Statement echo_sql{
    "test.echo",
    "maybe_large, flag, small, medium, large, real, words, title, id, at, amount, latitude, longitude, raw, ids, tags, "
    "numbers, colour, maybe_words",
    "SELECT $2 AS flag, $3 AS small, $4 AS medium, $5 AS large, $6 AS real, $7 AS words, $8 AS title, $9 AS id, "
    "$10 AS at, $11 AS amount, $12 AS latitude, $13 AS longitude, $14 AS raw, $15 AS ids, $16 AS tags, "
    "$17 AS numbers, $18 AS colour, $19 AS maybe_words, $1 AS maybe_large"};
inline constexpr Statement number_sql{"test.number", "", "SELECT $1 AS n"};
inline constexpr Statement other_number_sql{"test.other_number", "", "SELECT $1 + 0 AS n"};
inline constexpr Statement divide_sql{"test.divide", "", "SELECT 100 / $1"};
inline constexpr Statement broken_sql{"test.broken", "", "SELECT $1 FROM nowhere"};
inline constexpr Statement insert_sql{"test.insert", "id, name", "INSERT INTO items (id, name) VALUES ($1, $2)"};
inline constexpr Statement returning_sql{"test.returning", "id, name",
                                         "INSERT INTO items (id, name) VALUES ($1, $2) RETURNING id"};
inline constexpr Statement rename_sql{"test.rename", "", "UPDATE items SET name = $2 WHERE id = $1"};
inline constexpr Statement get_sql{"test.get", "", "SELECT id, name FROM items WHERE id = $1"};
inline constexpr Statement star_sql{"test.star", "", "SELECT * FROM wide"};
inline constexpr Statement widen_sql{"test.widen", "", "ALTER TABLE wide ADD COLUMN more text"};
inline constexpr Statement sleep_sql{"test.sleep", "", "SELECT $1 FROM pg_sleep($1)"};
inline constexpr Statement slow_insert_sql{"test.slow_insert", "",
                                           "INSERT INTO items (id, name) SELECT $1, 'slow' FROM pg_sleep(30)"};
inline constexpr Statement deferred_sql{"test.deferred", "", "INSERT INTO parts (item) VALUES ($1)"};
inline constexpr Statement pid_sql{"test.pid", "", "SELECT pg_backend_pid()"};
inline constexpr Statement forget_sql{"test.forget", "", "DEALLOCATE ALL"};
inline constexpr Statement settings_sql{
    "test.settings", "",
    "SELECT concat_ws('|', current_setting('statement_timeout'), current_setting('plan_cache_mode'), "
    "current_setting('TimeZone'), current_setting('default_transaction_isolation'), "
    "current_setting('client_encoding'), current_setting('application_name'))"};

inline const Query<Everything, Everything> echo{echo_sql};
inline const Query<std::int64_t, std::int64_t> number{number_sql};
inline const Query<std::int64_t, std::int64_t> other_number{other_number_sql};
inline const Query<std::int64_t, std::int64_t> divide{divide_sql};
inline const Query<std::int64_t, std::int64_t> broken{broken_sql};
inline const Query<Nothing, Item> insert{insert_sql};
inline const Query<std::int64_t, Item> returning{returning_sql};
inline const Query<Nothing, std::int64_t, std::string> rename{rename_sql};
inline const Query<Item, std::int64_t> get{get_sql};
inline const Query<std::int64_t> star{star_sql};
inline const Query<Nothing> widen{widen_sql};
inline const Query<double, double> sleep_for{sleep_sql};
inline const Query<Nothing, std::int64_t> slow_insert{slow_insert_sql};
inline const Query<Nothing, std::int64_t> deferred{deferred_sql};
inline const Query<std::int32_t> backend_pid{pid_sql};
inline const Query<Nothing> forget_prepared{forget_sql};
inline const Query<std::string> show_settings{settings_sql};

// --- helpers ---------------------------------------------------------------------------------------------------------

inline Options quick_options(const std::string& url) {
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

class DbTest : public testing::Test {
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

/// Notes how an awaitable ended, for many at once.
template <class T>
Awaitable<void> record(Awaitable<T> awaitable, std::optional<ErrorKind>* kind, int* left) {
  try {
    co_await std::move(awaitable);
  } catch (const Error& error) {
    *kind = error.kind;
  }
  --*left;
}

}  // namespace hourz::db::testing_db
