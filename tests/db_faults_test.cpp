// The PostgreSQL client when the server is killed, frozen, restarted, or the client itself is stopped.
#include <map>
#include <set>
#include <thread>

#include <dlfcn.h>
#include <netdb.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "db/addresses.hpp"
#include "db_fixture.hpp"

/// What the loop of a test has done while a name was looked up, and whether it went on meanwhile.
static std::atomic<int> turns = 0;
static std::atomic<bool> stood_still = false;

/// In place of the C library's: `slow.hourz.test` is this machine, said after the loop has made some more turns;
/// `twice.hourz.test` has two addresses, of which nobody is at the first; of all others of hourz.test there are none.
extern "C" int getaddrinfo(const char* __restrict name, const char* __restrict service,
                           const struct addrinfo* __restrict hints, struct addrinfo** __restrict result) {
  using Real = int (*)(const char*, const char*, const struct addrinfo*, struct addrinfo**);
  static const auto real = reinterpret_cast<Real>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  const std::string_view wanted = name != nullptr ? name : "";
  if (!wanted.ends_with(".hourz.test")) return real(name, service, hints, result);
  if (wanted == "slow.hourz.test") {
    const int before = turns;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (turns < before + 10 && !stood_still) {
      stood_still = std::chrono::steady_clock::now() > deadline;
      ::poll(nullptr, 0, 1);
    }
    return real("127.0.0.1", service, hints, result);
  }
  if (wanted != "twice.hourz.test") return EAI_NONAME;
  const int first = real("127.0.0.2", service, hints, result);
  if (first != 0) return first;
  return real("127.0.0.1", service, hints, &(*result)->ai_next);
}

namespace hourz::db::testing_db {
namespace {

class DbFaults : public DbTest {};

// --- finding the server ----------------------------------------------------------------------------------------------

template <class From, class To>
Awaitable<void> pump(std::shared_ptr<From> from, std::shared_ptr<To> to) {
  std::array<char, 16 * 1024> piece;
  boost::system::error_code ec;
  while (!ec) {
    const std::size_t n =
        co_await from->async_read_some(asio::buffer(piece), asio::redirect_error(asio::use_awaitable, ec));
    if (!ec) co_await asio::async_write(*to, asio::buffer(piece, n), asio::redirect_error(asio::use_awaitable, ec));
  }
  to->close(ec);
}

/// Hands on what comes to a TCP port to the server's socket.
Awaitable<void> relay(std::shared_ptr<asio::ip::tcp::acceptor> acceptor, std::string socket) {
  for (;;) {
    boost::system::error_code ec;
    const auto peer = std::make_shared<asio::ip::tcp::socket>(acceptor->get_executor());
    co_await acceptor->async_accept(*peer, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) co_return;
    const auto server = std::make_shared<asio::local::stream_protocol::socket>(acceptor->get_executor());
    server->connect(socket, ec);
    asio::co_spawn(acceptor->get_executor(), pump(peer, server), asio::detached);
    asio::co_spawn(acceptor->get_executor(), pump(server, peer), asio::detached);
  }
}

Awaitable<void> turn() {
  for (asio::steady_timer timer(co_await asio::this_coro::executor);;) {
    ++turns;
    timer.expires_after(1ms);
    co_await timer.async_wait(asio::use_awaitable);
  }
}

TEST_F(DbFaults, NamesAreLookedUpBesideTheLoop) {
  const auto acceptor =
      std::make_shared<asio::ip::tcp::acceptor>(io, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  asio::co_spawn(io, relay(acceptor, cluster->folder() + "/.s.PGSQL.5432"), asio::detached);
  asio::co_spawn(io, turn(), asio::detached);
  const std::string port = std::to_string(acceptor->local_endpoint().port());
  const std::string rest = " user=hourz dbname=postgres sslmode=disable";
  for (const std::string& where : {"host=slow.hourz.test port=" + port, "host=twice.hourz.test port=" + port,
                                   "host=nowhere.hourz.test,slow.hourz.test port=1," + port,
                                   "host=nowhere.hourz.test," + cluster->folder() + " port=5432"}) {
    connect(quick_options(where + rest));
    EXPECT_EQ(wait(one(reads(), number, 7)), 7) << where;
    EXPECT_FALSE(stood_still) << where;
  }
  connect(quick_options("host=nowhere.hourz.test" + rest));
  EXPECT_EQ(failure_of(one(reads(), number, 7)).kind, ErrorKind::unavailable);
  client.reset();
  acceptor->close();
}

TEST_F(DbFaults, AddressesAreAddedToNamesAlone) {
  const auto found = [&](Settings settings) { return wait(with_addresses(io, std::move(settings), 10s)); };
  for (const Settings& as_it_is :
       {Settings{{"host", "/tmp,@x,127.0.0.1,::1"}, {"port", "1,2,3,4"}},
        Settings{{"host", "slow.hourz.test"}, {"hostaddr", "192.0.2.1"}},
        Settings{{"host", "a.hourz.test,b.hourz.test,c.hourz.test"}, {"port", "1,2"}}, Settings{{"dbname", "x"}}}) {
    EXPECT_EQ(found(as_it_is), as_it_is);
  }
  const Settings mixed{{"host", "/tmp,twice.hourz.test,nowhere.hourz.test,192.0.2.1"}, {"port", "1,2,3,4"}};
  EXPECT_EQ(found(mixed), (Settings{{"host", "/tmp,twice.hourz.test,twice.hourz.test,192.0.2.1"},
                                    {"port", "1,2,2,4"},
                                    {"hostaddr", ",127.0.0.2,127.0.0.1,"}}));
  EXPECT_EQ(found({{"host", "twice.hourz.test"}}),
            (Settings{{"host", "twice.hourz.test,twice.hourz.test"}, {"hostaddr", "127.0.0.2,127.0.0.1"}}));
}

// --- losing connections ----------------------------------------------------------------------------------------------

void terminate_all(const Cluster& cluster) {
  cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hourz'");
}

TEST_F(DbFaults, ATerminatedBackendIsReplaced) {
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

/// D03.
TEST_F(DbFaults, ALostCommitIsOfUnknownOutcome) {
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

TEST_F(DbFaults, AFrozenServerIsLeftInTime) {
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
  // A connection that was half up when the server froze may have come up since: it too is given up in time.
  const ErrorKind kind = failure_of(one(reads(), number, 1)).kind;
  EXPECT_TRUE(kind == ErrorKind::unavailable || kind == ErrorKind::timeout);
  EXPECT_LT(Clock::now() - again, 1300ms);
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

class DbFaultsUnderLoad : public DbFaults {
 protected:
  void start_load() {
    load.left = 16;
    for (int i = 0; i < 8; ++i) {
      asio::co_spawn(io, keep_reading(*client, load), asio::detached);
      asio::co_spawn(io, keep_writing(*client, load, i), asio::detached);
    }
  }

  /// Both kinds of work get on.
  bool thrives() {
    const int read = load.read;
    const auto written = load.acknowledged.size();
    return until([&] { return load.read > read + 200 && load.acknowledged.size() > written + 200; }, 20s);
  }

  bool meets(std::initializer_list<ErrorKind> kinds) {
    const auto count_errors = [&] {
      int sum = 0;
      for (const ErrorKind kind : kinds) sum += load.errors[kind];
      return sum;
    };
    const int before = count_errors();
    return until([&] { return count_errors() > before; }, 20s);
  }

  /// Nothing acknowledged is lost, nothing said to have failed is there.
  void finish_and_compare() {
    load.stop = true;
    ASSERT_TRUE(until([&] { return load.left == 0; }, 20s));
    EXPECT_EQ(load.odd, "");
    EXPECT_TRUE(nothing_in_use());
    std::set<std::int64_t> found;
    PGconn* raw = PQconnectdb(cluster->url().c_str());
    PGresult* rows = PQexec(raw, "SELECT id FROM items");
    for (int i = 0; i < PQntuples(rows); ++i) found.insert(std::stoll(PQgetvalue(rows, i, 0)));
    PQclear(rows);
    PQfinish(raw);
    for (const std::int64_t id : load.acknowledged) EXPECT_TRUE(found.contains(id)) << "acknowledged and lost: " << id;
    for (const std::int64_t id : load.refused) EXPECT_FALSE(found.contains(id)) << "refused and there: " << id;
  }

  Load load;
};

TEST_F(DbFaultsUnderLoad, RestartsLoseNothingAcknowledged) {
  start_load();
  for (const int signal : {SIGQUIT, SIGQUIT, SIGINT}) {
    ASSERT_TRUE(thrives());
    cluster->end(signal);
    ASSERT_TRUE(meets({ErrorKind::unavailable}));
    cluster->start();
  }
  EXPECT_TRUE(thrives());
  finish_and_compare();
}

TEST_F(DbFaultsUnderLoad, TerminatedBackendsLoseNothingAcknowledged) {
  start_load();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(thrives());
    terminate_all(*cluster);
    ASSERT_TRUE(meets({ErrorKind::unavailable, ErrorKind::outcome_unknown}));
  }
  EXPECT_TRUE(thrives());
  finish_and_compare();
}

TEST_F(DbFaultsUnderLoad, FreezesLoseNothingAcknowledged) {
  Options options = quick_options(cluster->url());
  options.statement_timeout = 300ms;
  options.answer_timeout = 400ms;
  options.connect_timeout = 500ms;
  connect(options);
  start_load();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(thrives());
    cluster->signal_all(SIGSTOP);
    const bool met = meets({ErrorKind::timeout, ErrorKind::outcome_unknown});
    cluster->signal_all(SIGCONT);
    ASSERT_TRUE(met);
  }
  EXPECT_TRUE(thrives());
  finish_and_compare();
}

TEST_F(DbFaults, WithoutAServerCallersHearItSoon) {
  Options options = quick_options("host=/nonexistent user=nobody");
  connect(options);
  const auto start = Clock::now();
  EXPECT_EQ(failure_of(one(reads(), number, 1)).kind, ErrorKind::unavailable);
  auto tx = client->begin();
  EXPECT_EQ(failure_of(one(*tx, number, 1)).kind, ErrorKind::unavailable);
  EXPECT_LT(Clock::now() - start, 1500ms);
}

// --- ending ----------------------------------------------------------------------------------------------------------

TEST_F(DbFaults, StopFailsWhatIsUnderWay) {
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

TEST_F(DbFaults, EverythingMayBeDroppedInTheMiddle) {
  for (int turns = 0; turns < 40; turns += 3) {
    asio::io_context own;
    Client mine(own, quick_options(cluster->url()));
    for (int i = 0; i < 6; ++i) asio::co_spawn(own, hold(mine, i % 2 == 0), asio::detached);
    for (int i = 0; i < turns; ++i) own.run_one_for(5ms);
  }
}

}  // namespace
}  // namespace hourz::db::testing_db
