// The feed, the node and presence under faults, on a real database: transactions that commit late, are rolled back or
// stay open for long; a crash of PostgreSQL; words of the bus that are lost; events that cannot be read.
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "bus_fixture.hpp"
#include "realtime/node.hpp"
#include "realtime_sql.hpp"

namespace hourz::realtime {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using namespace std::chrono_literals;
using harness::World;
using Clock = std::chrono::steady_clock;

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HOURZ_SLOW 1
#endif
#endif
#ifdef HOURZ_SLOW
constexpr int writers_events = 300;
#else
constexpr int writers_events = 2000;
#endif

/// A transaction that a test keeps open.
class Open {
 public:
  explicit Open(const std::string& url) : session_(url) { session_.execute("BEGIN"); }
  std::int64_t add(const Uuid& topic, int number) {
    return std::stoll(*session_.value(
        "INSERT INTO outbox (kind, topic, number) VALUES ('test', $1::uuid, $2::bigint) RETURNING id::text",
        {to_string(topic), std::to_string(number)}));
  }
  void run(const std::string& text) { session_.execute(text); }
  void commit() { run("COMMIT"); }
  std::int64_t number() { return std::stoll(*session_.value("SELECT pg_current_xact_id()::text")); }

 private:
  db::Session session_;
};

/// Hands on, and does something after each statement.
class Between final : public db::Executor {
 public:
  Between(db::Executor& real, std::function<void(int)> after) : real_(real), after_(std::move(after)) {}
  Awaitable<db::Result> execute(db::Bound bound) override {
    db::Result result = co_await real_.execute(std::move(bound));
    after_(++count);
    rows += result.rows();
    co_return result;
  }
  int count = 0;
  int rows = 0;

 private:
  db::Executor& real_;
  std::function<void(int)> after_;
};

std::vector<std::int64_t> numbers(const std::vector<Event>& events) {
  std::vector<std::int64_t> found;
  for (const Event& event : events) found.push_back(event.number);
  return found;
}

using Numbers = std::vector<std::int64_t>;

// --- the feed --------------------------------------------------------------------------------------------------------

class FeedTest : public harness::WorldTest {
 protected:
  void SetUp() override { world().wait(feed.begin(reads())); }
  static db::Executor& reads() { return world().desk().database.reads(); }
  Numbers look() { return numbers(world().wait(feed.look(reads()))); }
  static void commit_one(const Uuid& topic, int number) {
    Open one(world().owner_url());
    one.add(topic, number);
    one.commit();
  }
  /// What somebody would read who goes by the highest of a column so far.
  static std::string past(const std::string& column, const std::string& last) {
    return world().sql(
        "SELECT count(*)::text FROM outbox WHERE " + column + " > $1::text::" + (column == "id" ? "bigint" : "xid8"),
        {last});
  }

  Feed feed;
  const Uuid topic = make_uuid(), other = make_uuid();
};

TEST_F(FeedTest, WhatCommitsLateIsNotSkipped) {
  Open early(world().owner_url());
  Open late(world().owner_url());
  const std::int64_t low = early.add(topic, 1);
  const std::int64_t high = late.add(other, 2);
  ASSERT_LT(low, high);
  const std::int64_t last_transaction = late.number();
  ASSERT_LT(early.number(), last_transaction);
  late.commit();
  EXPECT_EQ(look(), Numbers{2});
  EXPECT_EQ(look(), Numbers{});
  early.commit();
  // Whoever asks for higher ids, or for later transactions, never sees it.
  EXPECT_EQ(past("id", std::to_string(high)), "0");
  EXPECT_EQ(past("transaction", std::to_string(last_transaction)), "0");
  EXPECT_EQ(look(), Numbers{1});
  EXPECT_EQ(look(), Numbers{});
}

TEST_F(FeedTest, OfSavepointsOnlyWhatStandsComesAndOnce) {
  Open one(world().owner_url());
  one.add(topic, 1);
  one.run("SAVEPOINT a");
  one.add(topic, 2);
  one.run("ROLLBACK TO a");
  EXPECT_EQ(look(), Numbers{});
  commit_one(other, 10);
  EXPECT_EQ(look(), Numbers{10});
  one.run("SAVEPOINT b");
  one.add(topic, 3);
  one.run("RELEASE b");
  commit_one(other, 11);
  EXPECT_EQ(look(), Numbers{11});
  one.commit();
  EXPECT_EQ(look(), (Numbers{1, 3}));
  EXPECT_EQ(look(), Numbers{});
}

TEST_F(FeedTest, WhatIsRolledBackNeverComes) {
  Open one(world().owner_url());
  one.add(topic, 1);
  EXPECT_EQ(look(), Numbers{});
  one.run("ROLLBACK");
  commit_one(topic, 2);
  EXPECT_EQ(look(), Numbers{2});
  EXPECT_EQ(look(), Numbers{});
}

TEST_F(FeedTest, PagesShowOneMomentWhileOthersCommit) {
  feed.page = 2;
  Open slow(world().owner_url());
  slow.add(topic, 100);  // the lowest id of all, committed between pages
  for (int n = 1; n <= 7; ++n) commit_one(other, n);
  int more = 200;
  Between between(reads(), [&](int page) {
    if (page == 2) slow.commit();
    commit_one(other, more++);
  });
  EXPECT_EQ(numbers(world().wait(feed.look(between))), (Numbers{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(between.count, 4);
  EXPECT_EQ(look(), (Numbers{100, 200, 201, 202, 203}));
  EXPECT_EQ(look(), Numbers{});
}

TEST_F(FeedTest, ALookThatFailedGivesTheSameAgain) {
  feed.page = 2;
  for (int n = 1; n <= 5; ++n) commit_one(topic, n);
  Between failing(reads(), [](int page) {
    if (page == 2) throw db::Error(db::ErrorKind::unavailable, "lost");
  });
  EXPECT_THROW(world().wait(feed.look(failing)), db::Error);
  commit_one(topic, 6);
  EXPECT_EQ(look(), (Numbers{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(look(), Numbers{});
}

TEST_F(FeedTest, EightWritersAreReadOnceAndInOrder) {
  constexpr int writers = 8, topics = 12;
  world().sql("CREATE TABLE IF NOT EXISTS test_topics (n int PRIMARY KEY, id uuid NOT NULL, last bigint NOT NULL)");
  for (int n = 0; n < topics; ++n) {
    world().sql("INSERT INTO test_topics VALUES ($1::int, $2::uuid, 0)", {std::to_string(n), to_string(make_uuid())});
  }
  world().sql("GRANT SELECT, UPDATE ON test_topics TO hourz_owner");
  std::atomic<int> committed{0}, working{writers};
  std::vector<std::thread> threads;
  for (int writer = 0; writer < writers; ++writer) {
    threads.emplace_back([&, writer, url = world().owner_url()] {
      db::Session session(url);
      std::minstd_rand random(static_cast<unsigned>(writer + 1));
      for (int n = 0; n < writers_events; ++n) {
        const bool undone = random() % 10 == 0;
        // The topic's row is locked while the id is drawn; then the commit comes sooner or later.
        session.execute(
            "BEGIN; WITH one AS (UPDATE test_topics SET last = last + 1 WHERE n = " +
            std::to_string(random() % topics) +
            " RETURNING id, last) INSERT INTO outbox (kind, topic, number) SELECT 'test', id, last FROM one; "
            "SELECT pg_sleep(" +
            std::to_string(random() % 3 == 0 ? static_cast<double>(random() % 2000) / 1e6 : 0.0) + "); " +
            (undone ? "ROLLBACK" : "COMMIT"));
        if (!undone) ++committed;
      }
      --working;
    });
  }
  std::map<Uuid, std::int64_t> last;
  int looks = 0, events = 0, faults = 0;
  bool over = false;
  while (!over) {
    over = working == 0;
    ++looks;
    for (const Event& event : world().wait(feed.look(reads()))) {
      ++events;
      if (event.number != ++last[event.topic]) ++faults;
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(faults, 0);
  EXPECT_EQ(events, committed);
  std::printf("%d events of %d writers in %d looks\n", events, writers, looks);
  EXPECT_GT(looks, 50);
}

/// Rows of the outbox that a look touches, by EXPLAIN ANALYZE.
double touched(const json::value& plan) {
  double rows = 0;
  const auto& node = plan.as_object();
  const auto number = [&](const char* name) {
    const auto* value = node.if_contains(name);
    return value == nullptr ? 0.0 : value->to_number<double>();
  };
  if (const auto* relation = node.if_contains("Relation Name"); relation != nullptr && *relation == "outbox") {
    rows += (number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Index Recheck")) *
            number("Actual Loops");
  }
  if (const auto* children = node.if_contains("Plans")) {
    for (const json::value& child : children->as_array()) rows += touched(child);
  }
  return rows;
}

TEST_F(FeedTest, ALongTransactionMakesNoLookLonger) {
  world().sql("DELETE FROM outbox");
  world().sql("VACUUM ANALYZE outbox");
  // A plan made now is kept while the table grows, as on the server's own connections.
  db::Session planned(world().owner_url());
  planned.execute("SET plan_cache_mode = force_generic_plan; SET enable_sort = off");
  ASSERT_EQ(sql::tail.parameters, "previous,upto,backends,given,after_id,page");
  planned.execute("PREPARE look (text, text, bigint[], bigint, bigint, bigint) AS " + std::string(sql::tail.text));
  std::string snapshot = world().sql("SELECT pg_current_snapshot()::text");
  const std::string backend = *planned.value("SELECT pg_backend_pid()::text");
  const auto call = [&](const std::string& backends) {
    return "EXECUTE look ('" + snapshot + "', '', '{" + backends + "}', 999999999, 0, 5000)";
  };
  planned.execute(call(backend));

  Open old(world().owner_url());
  old.add(topic, 1);
  EXPECT_EQ(look(), Numbers{});
  for (int n = 0; n < 100; ++n) {  // 10,000 rows in a hundred transactions, each above the open one
    world().sql("INSERT INTO outbox (kind, topic, number) SELECT 'test', $1::uuid, n FROM generate_series(1, 100) n",
                {to_string(other)});
    Between counting(reads(), [](int) {});
    EXPECT_EQ(world().wait(feed.look(counting)).size(), 100U);
    EXPECT_EQ(counting.rows, 100);
  }
  snapshot = world().sql("SELECT pg_current_snapshot()::text");
  commit_one(other, 7);
  const auto explain = [&](const std::string& backends) {
    const auto rows = planned.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + call(backends));
    return touched(json::parse(*rows.at(0).at(0)).at(0).at("Plan"));
  };
  const double rows = explain(backend);
  std::printf("a look beside an open transaction and 10,000 rows touches %g of them; after a reconnect %g\n", rows,
              explain("1"));
  EXPECT_LE(rows, 3);
  old.commit();
  EXPECT_EQ(look(), (Numbers{1, 7}));
}

TEST_F(FeedTest, PurgingLeavesWhatIsNew) {
  world().sql("DELETE FROM outbox");
  for (const char* age : {"6 minutes", "5 minutes 1 second", "4 minutes", "0"}) {
    world().sql("INSERT INTO outbox (kind, topic, at) VALUES ('test', $1::uuid, now() - $2::interval)",
                {to_string(topic), age});
  }
  const auto transaction = world().desk().database.begin();
  EXPECT_EQ(world().wait(purge_outbox(*transaction)), 2);
  world().wait(transaction->commit());
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM outbox"), "2");
}

/// PostgreSQL is killed before it has stored that a transaction was undone: after its restart it gives the number
/// again.
TEST(FeedCrash, ATransactionNumberGivenTwiceIsNotSkipped) {
  db::testing_db::Cluster cluster;
  cluster.sql("ALTER SYSTEM SET wal_writer_delay = '10s'");
  std::ifstream file(HOURZ_SOURCE_DIRECTORY "/migrations/0002_realtime.up.sql");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto from = text.find("CREATE TABLE outbox");
  cluster.sql(text.substr(from, text.find(';', from) + 1 - from));
  cluster.end(SIGINT);
  cluster.start();

  asio::io_context io;
  db::Client client(io, db::testing_db::quick_options(cluster.url()));
  harness::record_statements(client);
  const auto wait = [&](auto awaitable) {
    using T = typename decltype(awaitable)::value_type;
    std::optional<T> value;
    asio::co_spawn(io, std::move(awaitable), [&](std::exception_ptr failure, T got) {
      if (!failure) value.emplace(std::move(got));
      io.stop();
    });
    io.restart();
    io.run_for(20s);
    return value;
  };
  Feed feed;
  const auto look = [&] {
    const auto deadline = Clock::now() + 20s;
    for (;;) {
      if (auto events = wait(feed.look(client.reads()))) return numbers(*events);
      if (Clock::now() > deadline) throw std::runtime_error("no look");
    }
  };
  const auto begin = [&]() -> Awaitable<bool> {
    co_await feed.begin(client.reads());
    co_return true;
  };
  while (!wait(begin())) continue;
  const std::string add = "INSERT INTO outbox (kind, topic, number) VALUES ('test', gen_random_uuid(), ";
  const std::string tell = ") RETURNING transaction";
  cluster.sql(add + "1" + tell);
  EXPECT_EQ(look(), Numbers{1});
  std::int64_t undone = 0;
  {
    Open one(cluster.url());
    undone = one.number();
    one.run("ROLLBACK");
  }
  EXPECT_EQ(look(), Numbers{});
  const std::string before = cluster.sql("SELECT pg_current_snapshot()");
  cluster.end(SIGQUIT);
  cluster.start();
  EXPECT_EQ(cluster.sql(add + "2" + tell), std::to_string(undone));
  // What went by visibility alone would take it for seen.
  EXPECT_EQ(cluster.sql("SELECT pg_visible_in_snapshot(transaction, '" + before + "') FROM outbox WHERE number = 2"),
            "t");
  EXPECT_EQ(look(), Numbers{2});
  cluster.sql(add + "3" + tell);
  EXPECT_EQ(look(), Numbers{3});
  EXPECT_EQ(look(), Numbers{});
  client.stop();
  io.restart();
  io.run_for(2s);
}

// --- nodes -----------------------------------------------------------------------------------------------------------

/// What several nodes say reaches all of them, unless the test has a hand over somebody's mouth or ears.
struct Air {
  struct Bus final : realtime::Bus {
    explicit Bus(Air& shared) : air(shared) { air.all.push_back(this); }
    ~Bus() override { std::erase(air.all, this); }
    void start(std::function<void(std::string_view)> hear, std::function<void()> tell_up) override {
      heard = std::move(hear);
      up = std::move(tell_up);
      if (up) up();
    }
    void stop() override { heard = {}; }
    void say(std::string text) override {
      EXPECT_LE(text.size(), longest_text);
      if (mute) return;
      ++said;
      asio::post(air.io, [shared = &air, text = std::move(text)] {
        for (Bus* one : shared->all) {
          if (one->heard && !one->deaf) one->heard(text);
        }
      });
    }
    bool connected() const override { return !mute; }

    Air& air;
    std::function<void(std::string_view)> heard;
    std::function<void()> up;
    bool mute = false, deaf = false;
    int said = 0;
  };
  explicit Air(asio::io_context& context) : io(context) {}
  asio::io_context& io;
  std::vector<Bus*> all;
};

/// Presence as one server sees it.
struct House {
  House(World& world, Air& air) : node(metrics), client(world.io(), options(world)) {
    harness::record_statements(client);
    node.attach(world.io(), hub);
    presence.emplace(node, "presence", [this](const Uuid& group, const Uuid& member, bool online) -> Spread {
      return [this, key = std::pair(group, member), online](std::size_t) {
        changes.emplace_back(key.second, online);
        EXPECT_NE(present.contains(key), online);
        if (online) {
          present.insert(key);
        } else {
          present.erase(key);
        }
      };
    });
    auto made = std::make_unique<Air::Bus>(air);
    bus = made.get();
    node.start(client, std::move(made));
  }
  static db::Options options(World& world) { return db::testing_db::quick_options(world.app_url()); }
  bool sees(const Uuid& group, const Uuid& member) const { return present.contains({group, member}); }

  Metrics metrics;
  Hub hub;
  Node node;
  db::Client client;
  Air::Bus* bus = nullptr;
  std::optional<Presence> presence;
  std::set<std::pair<Uuid, Uuid>> present;
  std::vector<std::pair<Uuid, bool>> changes;
};

class PresenceTest : public harness::WorldTest {
 protected:
  House& open() { return *houses.emplace_back(std::make_unique<House>(world(), air)); }
  void leave(House& house) {
    house.node.stop();
    house.client.stop();
  }
  void TearDown() override {
    for (auto& house : houses) leave(*house);
    world().until([] { return false; }, 50ms);
  }
  void met(std::initializer_list<House*> all, std::int64_t peers) {
    ASSERT_TRUE(world().until([&] {
      return std::all_of(all.begin(), all.end(), [&](House* house) { return house->node.peers() == peers; });
    }));
  }

  Air air{world().io()};
  std::vector<std::unique_ptr<House>> houses;
  const Uuid room = make_uuid(), mali = make_uuid(), somchai = make_uuid();
};

TEST_F(PresenceTest, IsSeenOverAllServersUntilTheLastDeviceIsGone) {
  House &one = open(), &two = open();
  met({&one, &two}, 1);
  const auto both = [&](bool online) {
    return world().until([&] { return one.sees(room, mali) == online && two.sees(room, mali) == online; }, 5s);
  };
  one.presence->enter(room, mali);
  EXPECT_TRUE(both(true));
  one.presence->enter(room, mali);
  two.presence->enter(room, mali);
  two.presence->enter(room, somchai);  // said after it, so the other knows that too
  EXPECT_TRUE(world().until([&] { return one.sees(room, somchai); }, 5s));
  one.presence->leave(room, mali);
  one.presence->leave(room, mali);
  EXPECT_TRUE(both(true));
  two.presence->leave(room, mali);
  EXPECT_TRUE(both(false));
  EXPECT_EQ(one.changes.size(), 3U);
  EXPECT_EQ(two.changes.size(), 3U);
}

TEST_F(PresenceTest, EndsAtOnceWithAGoodByeAndSoonWithoutOne) {
  House &one = open(), &two = open(), &three = open();
  met({&one, &two, &three}, 2);
  two.presence->enter(room, mali);
  three.presence->enter(room, somchai);
  ASSERT_TRUE(world().until([&] { return one.present.size() == 2; }, 5s));
  auto since = Clock::now();
  leave(two);
  EXPECT_TRUE(world().until([&] { return !one.sees(room, mali) && !three.sees(room, mali); }, 2s));
  since = Clock::now();
  three.bus->mute = true;  // as if it were killed
  EXPECT_TRUE(world().until([&] { return !one.sees(room, somchai); }, 15s));
  EXPECT_LT(Clock::now() - since, 10s);
}

TEST_F(PresenceTest, IsPutRightWhenWordsWereLost) {
  House &one = open(), &two = open();
  met({&one, &two}, 1);
  const Uuid steady = make_uuid();
  for (const Uuid& who : {mali, steady}) two.presence->enter(room, who);
  one.presence->enter(room, steady);
  ASSERT_TRUE(world().until([&] { return one.present.size() == 2 && two.present.size() == 2; }, 5s));
  two.bus->mute = one.bus->mute = true;  // both were cut off for a moment, too short to be missed
  two.presence->leave(room, mali);
  two.presence->enter(room, somchai);
  one.presence->leave(room, steady);
  ASSERT_TRUE(world().until([&] { return two.sees(room, somchai) && !two.sees(room, mali); }, 5s));
  two.bus->mute = one.bus->mute = false;
  one.bus->up();
  two.bus->up();
  EXPECT_TRUE(world().until([&] { return one.sees(room, somchai) && !one.sees(room, mali); }, 5s));
  for (const auto& [who, online] : one.changes) EXPECT_TRUE(who != steady || online) << "nobody seems to go and come";
  two.presence->leave(room, steady);
  EXPECT_TRUE(world().until([&] { return !one.sees(room, steady) && !two.sees(room, steady); }, 5s));
}

TEST_F(PresenceTest, IsKnownAgainToWhoTookTheOthersForLost) {
  House &one = open(), &two = open();
  met({&one, &two}, 1);
  two.presence->enter(room, mali);
  ASSERT_TRUE(world().until([&] { return one.sees(room, mali); }, 5s));
  one.bus->deaf = true;  // it speaks, so the other has no reason to introduce itself again
  ASSERT_TRUE(world().until([&] { return !one.sees(room, mali); }, 15s));
  EXPECT_EQ(two.node.peers(), 1);
  one.bus->deaf = false;
  EXPECT_TRUE(world().until([&] { return one.sees(room, mali); }, 5s));
}

TEST_F(PresenceTest, OfManyIsLearnedByWhoComesLater) {
  House& one = open();
  constexpr std::size_t many = 20'000;
  std::vector<Uuid> people;
  for (std::size_t n = 0; n < many; ++n) one.presence->enter(room, people.emplace_back(make_uuid()));
  ASSERT_TRUE(world().until([&] { return one.present.size() == many; }, 30s));
  House& two = open();
  const auto since = Clock::now();
  EXPECT_TRUE(world().until([&] { return two.present.size() == many; }, 30s));
  std::printf(
      "%zu present learned in %lld ms by %d texts\n", many,
      static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since).count()),
      one.bus->said);
  EXPECT_EQ(two.present, one.present);
}

struct Wire final : realtime::Wire {
  void send(Frame) override {}
  void close(CloseCode code, std::string_view) override { closed = code; }
  std::optional<CloseCode> closed;
};

/// A node on several shards, each in a thread of its own but the first, which is the test's.
class NodeTest : public harness::WorldTest {
 protected:
  void SetUp() override {
    client = std::make_unique<db::Client>(world().io(), db::testing_db::quick_options(world().app_url()));
    client->observe([this](const db::Statement& statement, std::chrono::microseconds, bool) {
      if (statement.name == "realtime.tail") ++looks;
      if (statement.name == "realtime.now") begun = true;
    });
    node.attach(world().io(), hubs[0]);
    for (std::size_t n = 0; n < 2; ++n) {
      node.attach(ios[n], hubs[n + 1]);
      threads.emplace_back([this, n] {
        const auto guard = asio::make_work_guard(ios[n]);
        ios[n].run();
      });
    }
  }
  void TearDown() override {
    node.stop();
    client->stop();
    for (asio::io_context& io : ios) io.stop();
    for (std::thread& thread : threads) thread.join();
    world().until([] { return false; }, 50ms);
  }
  void start() {
    node.start(*client, nullptr);
    ASSERT_TRUE(world().until([&] { return begun; }));
    node.count_socket(1);
  }
  static void commit(const std::string& kind, int number) {
    world().sql("INSERT INTO outbox (kind, topic, number) VALUES ($1, $2::uuid, $3::bigint)",
                {kind, to_string(make_uuid()), std::to_string(number)});
  }

  Metrics metrics;
  Node node{metrics};
  std::array<Hub, 3> hubs;
  std::array<asio::io_context, 2> ios{asio::io_context(1), asio::io_context(1)};
  std::vector<std::thread> threads;
  std::unique_ptr<db::Client> client;
  int looks = 0;
  bool begun = false;
};

TEST_F(NodeTest, WhatCannotBeReadIsSkippedAndEverybodyResumes) {
  int attempts = 0, read = 0;
  node.on_event("bad", [&](db::Executor&, std::vector<Event>) -> Awaitable<Spread> {
    ++attempts;
    throw std::runtime_error("cannot be read");
    co_return Spread();
  });
  node.on_event("good", [&](db::Executor&, std::vector<Event> events) -> Awaitable<Spread> {
    read += static_cast<int>(events.size());
    co_return Spread();
  });
  Wire wire;
  Connection connection(*client, "127.0.0.1");
  connection.caller = http::Caller{make_uuid(), make_uuid()};
  connection.wire = &wire;
  hubs[0].add(connection);
  start();
  ASSERT_TRUE(world().until([&] { return looks > 2; }));
  EXPECT_FALSE(wire.closed);
  commit("bad", 1);
  commit("good", 1);
  node.wake();
  ASSERT_TRUE(world().until([&] { return wire.closed.has_value(); }));
  EXPECT_EQ(attempts, 5);
  EXPECT_EQ(*wire.closed, CloseCode::resume);
  commit("good", 2);
  node.wake();
  EXPECT_TRUE(world().until([&] { return read > 0; }));
  EXPECT_EQ(attempts, 5);
  hubs[0].remove(connection);
  connection.abandon();
}

TEST_F(NodeTest, WhoCameBeforeTheFeedBeganResumes) {
  Wire wire;
  Connection connection(*client, "127.0.0.1");
  connection.caller = http::Caller{make_uuid(), make_uuid()};
  connection.wire = &wire;
  hubs[0].add(connection);
  node.count_socket(1);
  node.start(*client, nullptr);
  EXPECT_TRUE(world().until([&] { return wire.closed.has_value(); }));
  EXPECT_EQ(*wire.closed, CloseCode::resume);
  hubs[0].remove(connection);
  connection.abandon();
}

TEST_F(NodeTest, ManyWakeUpsAreFewLooks) {
  start();
  ASSERT_TRUE(world().until([&] { return looks > 2; }));
  const int before = looks;
  std::vector<std::thread> wakers;
  std::atomic<int> done{0};
  for (int n = 0; n < 4; ++n) {
    wakers.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) node.wake();
      ++done;
    });
  }
  for (std::thread& thread : wakers) thread.join();
  world().until([&] { return looks > before; });
  world().until([] { return false; }, 100ms);
  EXPECT_GT(looks, before);
  EXPECT_LT(looks, before + 8) << "20,000 wake-ups of one turn";
}

TEST_F(NodeTest, SpreadsComeInOneOrderToEveryShard) {
  std::array<std::vector<std::int64_t>, 3> seen;  // each its shard's
  std::array<std::atomic<int>, 3> counts{};
  const auto note = [&](std::int64_t number) -> Spread {
    return [&, number](std::size_t shard) {
      seen[shard].push_back(number);
      ++counts[shard];
    };
  };
  node.on_event("test", [&](db::Executor&, std::vector<Event> events) -> Awaitable<Spread> {
    co_return [&, events](std::size_t shard) {
      for (const Event& event : events) seen[shard].push_back(event.number);
      counts[shard] += static_cast<int>(events.size());
    };
  });
  node.on_said("word", [&](const Uuid&, const json::value& data) { return note(1'000'000 + data.as_int64()); });
  start();
  ASSERT_TRUE(world().until([&] { return looks > 2; }));
  constexpr int each = 300;
  for (int n = 0; n < each; ++n) {
    commit("test", n);
    node.wake();
    node.say("word", std::to_string(n));
    node.spread(note(2'000'000 + n));
    world().io().poll();
  }
  ASSERT_TRUE(world().until([&] { return counts[0] == 3 * each && counts[1] == 3 * each && counts[2] == 3 * each; }));
  EXPECT_EQ(seen[1], seen[0]);
  EXPECT_EQ(seen[2], seen[0]);
  for (const std::int64_t from : {0, 1'000'000, 2'000'000}) {
    Numbers of_one;
    for (const std::int64_t number : seen[0]) {
      if (number >= from && number < from + 1'000'000) of_one.push_back(number - from);
    }
    ASSERT_EQ(of_one.size(), static_cast<std::size_t>(each));
    EXPECT_TRUE(std::is_sorted(of_one.begin(), of_one.end()));
  }
}

}  // namespace
}  // namespace hourz::realtime
