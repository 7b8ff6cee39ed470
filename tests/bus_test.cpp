// The two message buses on real servers: what is said is heard, a server that is killed, frozen or restarted is found
// again, and no server, however odd, costs more than the texts of that time. Each test process makes its own PostgreSQL
// and its own Redis on the loopback, without persistence.
#include "bus_fixture.hpp"

#include <fstream>

#include "db/listener.hpp"

namespace hourz::realtime::testing_bus {
namespace {

// --- the fixture -----------------------------------------------------------------------------------------------------

/// A house of the several on one bus.
struct House {
  std::unique_ptr<db::Client> client;
  std::unique_ptr<Bus> bus;
  std::vector<std::string> heard;
  bool has(std::string_view text) const { return std::find(heard.begin(), heard.end(), text) != heard.end(); }
};

class LoopTest : public testing::Test {
 protected:
  template <class Condition>
  bool until(Condition done, milliseconds limit = 60s) {
    const auto deadline = Clock::now() + limit;
    while (!done()) {
      if (Clock::now() > deadline) return false;
      if (io->stopped()) io->restart();
      io->run_one_for(10ms);
    }
    return true;
  }

  /// Lets the loop do whatever falls into this time.
  void run_for(milliseconds length) {
    until([] { return false; }, length);
  }

  /// Whether everything on the loop comes to its end by itself.
  bool runs_out(milliseconds limit = 10s) {
    if (io->stopped()) io->restart();
    io->run_for(limit);
    return io->stopped();
  }

  static void listen(House& house) {
    house.bus->start([&house](std::string_view text) { house.heard.emplace_back(text); });
  }

  std::unique_ptr<asio::io_context> io = std::make_unique<asio::io_context>(1);
};

template <class Kind>
class Buses : public LoopTest {
 protected:
  void SetUp() override { server().go_on(); }
  void TearDown() override {
    for (House& house : houses) leave(house);
    EXPECT_TRUE(runs_out());
  }
  static Kind& server() { return server_of<Kind>(); }

  static void leave(House& house) {
    house.bus.reset();
    house.client.reset();
  }
  void open() {
    for (House& house : houses) {
      house.bus = server().make(*io, house.client);
      this->listen(house);
    }
    ASSERT_TRUE(this->until([&] { return connected(); }));
  }
  bool connected() const { return houses[0].bus->connected() && houses[1].bus->connected(); }

  /// Says something until both have heard it; what was said.
  std::string reach_both(milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    const std::string text = "reach " + std::to_string(++reached);
    while (!houses[0].has(text) || !houses[1].has(text)) {
      if (Clock::now() > deadline) return {};
      houses[0].bus->say(text);
      this->until([&] { return houses[0].has(text) && houses[1].has(text); }, 20ms);
    }
    return text;
  }

  std::array<House, 2> houses;
  int reached = 0;
};

using Kinds = testing::Types<PostgresServer, RedisServer>;
TYPED_TEST_SUITE(Buses, Kinds);

// --- both kinds ------------------------------------------------------------------------------------------------------

TYPED_TEST(Buses, CarryTextsToAllInOrder) {
  this->open();
  auto& [one, other] = this->houses;
  std::vector<std::string> said{"plain", "'quoted' \"twice\" \\ and\r\n$6\r\nbroken", "ทำความสะอาด 🧹 é",
                                std::string(Bus::longest_text, 'x')};
  std::string thai;
  while (thai.size() + 3 <= Bus::longest_text) thai += "ก";
  said.push_back(thai);
  for (int i = 0; i < 300; ++i) said.push_back("number " + std::to_string(i));
  for (const std::string& text : said) one.bus->say(text);
  ASSERT_TRUE(this->until([&] { return one.heard.size() >= said.size() && other.heard.size() >= said.size(); }));
  EXPECT_EQ(one.heard, said);
  EXPECT_EQ(other.heard, said);
  other.bus->say("and back");
  ASSERT_TRUE(this->until([&] { return one.has("and back") && other.has("and back"); }));
  harness::record_statement("db.listen");  // which the buses' own connections ran, else nothing were heard
}

TYPED_TEST(Buses, DropWhatCannotBeSaid) {
  this->open();
  auto& [one, other] = this->houses;
  one.bus->say(std::string(Bus::longest_text + 1, 'x'));
  one.bus->say("");
  one.bus->say("last");
  ASSERT_TRUE(this->until([&] { return one.has("last") && other.has("last"); }));
  EXPECT_EQ(one.heard.size(), 1U);
  EXPECT_EQ(other.heard.size(), 1U);
}

TYPED_TEST(Buses, ABurstIsBounded) {
  this->open();
  auto& [one, other] = this->houses;
  for (int i = 1; i <= 10'000; ++i) one.bus->say(std::to_string(i));
  ASSERT_TRUE(this->until([&] { return one.has("10000") && other.has("10000"); }));
  EXPECT_EQ(one.heard, other.heard);
  EXPECT_GE(one.heard.size(), 1000U);
  int last = 0;
  for (const std::string& text : one.heard) {
    EXPECT_GT(std::stoi(text), last);
    last = std::stoi(text);
  }
}

TYPED_TEST(Buses, AServerThatWasKilledIsFoundAgain) {
  this->open();
  for (int round = 0; round < 3; ++round) {
    this->server().kill_it();
    ASSERT_TRUE(
        this->until([&] { return !this->houses[0].bus->connected() && !this->houses[1].bus->connected(); }, 5s));
    this->houses[0].bus->say("into the void");
    // Long enough for the waits between attempts to reach their longest, in one round.
    this->run_for(round == 1 ? 4000ms : 100ms);
    this->server().start();
    EXPECT_FALSE(this->reach_both(soon).empty());
  }
  EXPECT_FALSE(this->houses[1].has("into the void"));
}

TYPED_TEST(Buses, AFrozenServerIsNoticedAndFoundAgain) {
  this->open();
  this->server().freeze();
  ASSERT_TRUE(this->until([&] { return !this->houses[0].bus->connected() && !this->houses[1].bus->connected(); }, 20s));
  this->run_for(1000ms);
  this->server().go_on();
  EXPECT_FALSE(this->reach_both(soon).empty());
}

TYPED_TEST(Buses, LostConnectionsComeBack) {
  this->open();
  this->server().cut_connections();
  ASSERT_TRUE(this->until([&] { return !this->connected(); }, 5s));
  EXPECT_FALSE(this->reach_both(soon).empty());
}

long resident_kib() {
  std::ifstream statm("/proc/self/statm");
  long total = 0, resident = 0;
  statm >> total >> resident;
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

TYPED_TEST(Buses, ABurstAtAFrozenServerTakesLittleMemory) {
  this->open();
  this->server().freeze();
  const long before = resident_kib();
  for (int i = 0; i < 10'000; ++i) {
    this->houses[0].bus->say(std::string(Bus::longest_text, 'x'));
    if (i % 100 == 0) this->io->poll();
  }
#ifndef HOURZ_SANITIZED
  EXPECT_LT(resident_kib() - before, 24 * 1024);
#else
  static_cast<void>(before);
#endif
  this->server().go_on();
  EXPECT_FALSE(this->reach_both(10s).empty());
}

TYPED_TEST(Buses, AServerThatIsNotThereYetIsWaitedFor) {
  this->server().kill_it();
  for (House& house : this->houses) {
    house.bus = this->server().make(*this->io, house.client);
    this->listen(house);
    house.bus->say("too early");
  }
  this->run_for(300ms);
  EXPECT_FALSE(this->connected());
  this->server().start();
  EXPECT_FALSE(this->reach_both(soon).empty());
  EXPECT_FALSE(this->houses[0].has("too early"));
}

TYPED_TEST(Buses, StopWhileConnecting) {
  this->server().freeze();
  for (const milliseconds after : {0ms, 1ms, 30ms, 200ms}) {
    for (House& house : this->houses) {
      house.bus = this->server().make(*this->io, house.client);
      this->listen(house);
    }
    if (after > 0ms) this->run_for(after);
    for (House& house : this->houses) {
      house.bus->stop();
      EXPECT_FALSE(house.bus->connected());
      house.bus->say("after the end");
      house.bus->stop();
      this->leave(house);
    }
    EXPECT_TRUE(this->runs_out(5s)) << after.count();
  }
  this->server().go_on();
}

TYPED_TEST(Buses, MayBeDestroyedAtAnyTime) {
  for (const milliseconds after : {0ms, 1ms, 2ms, 4ms, 8ms, 16ms, 500ms}) {
    House house;
    house.bus = this->server().make(*this->io, house.client);
    this->listen(house);
    if (after > 0ms) this->run_for(after);
    for (int i = 0; i < 50; ++i) house.bus->say("the last words");
    if (after.count() % 2 == 0) this->io->poll();
  }
  EXPECT_TRUE(this->runs_out(5s));
  // With its loop, which never runs again.
  for (const milliseconds after : {0ms, 3ms, 500ms}) {
    House house;
    house.bus = this->server().make(*this->io, house.client);
    this->listen(house);
    if (after > 0ms) this->run_for(after);
    house.bus->say("the last words");
    this->leave(house);
    this->io = std::make_unique<asio::io_context>(1);
  }
}

TYPED_TEST(Buses, AListenerMayThrowOrEndTheBus) {
  this->open();
  auto& [one, other] = this->houses;
  House third;
  third.bus = this->server().make(*this->io, third.client);
  bool ended = false;
  third.bus->start([&](std::string_view text) {
    if (text == "throw") throw std::runtime_error("a listener's own");
    if (text == "end") {
      third.bus.reset();
      ended = true;
    }
  });
  ASSERT_TRUE(this->until([&] { return third.bus->connected(); }));
  one.bus->say("throw");
  one.bus->say("end");
  one.bus->say("more");
  ASSERT_TRUE(this->until([&] { return ended && one.has("more") && other.has("more"); }));
  third.client.reset();
}

// --- PostgreSQL ------------------------------------------------------------------------------------------------------

using PostgresBus = Buses<PostgresServer>;

TEST_F(PostgresBus, HearsWhatOthersNotifyOutsideOfUs) {
  this->open();
  db::testing_db::Cluster alone;  // another server's notifications are not ours
  alone.sql("SELECT pg_notify('hourz_bus', 'from elsewhere')");
  houses[1].bus->say("ours");
  ASSERT_TRUE(until([&] { return houses[0].has("ours"); }));
  EXPECT_FALSE(houses[0].has("from elsewhere"));
}

TEST_F(PostgresBus, AListenerThatIsCutBetweenTwoKeepAlivesHearsAgain) {
  std::vector<std::string> heard;
  std::vector<bool> changes;
  db::Listener listener(*io, server().options(),
                        {[&](std::string_view text) { heard.emplace_back(text); },
                         [&](bool listening, const std::string& why) {
                           changes.push_back(listening);
                           EXPECT_EQ(listening, why.empty());
                         }},
                        20ms);
  listener.start();
  listener.start();
  ASSERT_TRUE(until([&] { return listener.connected(); }));
  for (int i = 0; i < 5; ++i) {
    run_for(50ms);  // keep-alives come and go
    server().cut_connections();
    ASSERT_TRUE(until([&] { return changes.size() >= 3 + 2 * static_cast<std::size_t>(i) && listener.connected(); }));
  }
  House house;
  house.bus = server().make(*io, house.client);
  listen(house);
  ASSERT_TRUE(until([&] { return house.bus->connected(); }));
  house.bus->say("hello");
  ASSERT_TRUE(until([&] { return heard.size() == 1; }));
  EXPECT_EQ(heard[0], "hello");
  listener.stop();
  EXPECT_FALSE(listener.connected());
}

// --- Redis -----------------------------------------------------------------------------------------------------------

using RedisBus = Buses<RedisServer>;

TEST_F(RedisBus, AWrongPasswordIsRefusedAndTriedAgain) {
  for (const char* password : {"wrong", "user:wrong"}) {
    House house;
    std::string url = server().url(password);
    if (std::string_view(password).starts_with("user")) url.replace(url.find(":user"), 6, "user:");
    house.bus = make_redis_bus(*io, url);
    listen(house);
    EXPECT_FALSE(until([&] { return house.bus->connected(); }, 500ms));
    house.bus->say("nobody hears");
  }
  House named;
  std::string url = server().url();
  named.bus = make_redis_bus(*io, url.replace(url.find("//:"), 3, "//default:"));
  listen(named);
  EXPECT_TRUE(until([&] { return named.bus->connected(); }));
}

TEST_F(RedisBus, ANameIsResolvedAndOneThatIsNoneIsSurvived) {
  House house;
  house.bus = make_redis_bus(*io, server().url("it's%20a%20p%40ss", "localhost"));
  listen(house);
  EXPECT_TRUE(until([&] { return house.bus->connected(); }));
  House lost;
  lost.bus = make_redis_bus(*io, "redis://nowhere.invalid");
  listen(lost);
  EXPECT_FALSE(until([&] { return lost.bus->connected(); }, 200ms));
}

TEST_F(RedisBus, DatabasesDoNotHearEachOther) {
  houses[0].bus = make_redis_bus(*io, server().url() + "/3");
  houses[1].bus = make_redis_bus(*io, server().url() + "/4");
  for (House& house : houses) listen(house);
  ASSERT_TRUE(until([&] { return connected(); }));
  houses[0].bus->say("three");
  houses[1].bus->say("four");
  ASSERT_TRUE(until([&] { return houses[0].has("three") && houses[1].has("four"); }));
  EXPECT_EQ(houses[0].heard.size() + houses[1].heard.size(), 2U);
  House none;  // Redis has sixteen
  none.bus = make_redis_bus(*io, server().url() + "/99");
  listen(none);
  EXPECT_FALSE(until([&] { return none.bus->connected(); }, 300ms));
}

TEST(RedisUrl, IsReadOrRefusedWithoutItsPassword) {
  asio::io_context io;
  for (const char* good :
       {"redis://h", "redis://h:1", "redis://h/", "redis://h:6379/15", "redis://:p@h", "redis://u:p@h",
        "redis://:p%40%3a@h:1/2", "redis://:p@q@h", "redis://[::1]", "redis://:p@[::1]:7/0"}) {
    EXPECT_NO_THROW(make_redis_bus(io, good)) << good;
  }
  for (const char* bad : {"",
                          "h",
                          "redis:",
                          "redis://",
                          "redis://:6379",
                          "rediss://h",
                          "redis://h:0",
                          "redis://h:65536",
                          "redis://h:",
                          "redis://h:x",
                          "redis://h/x",
                          "redis://h/-1",
                          "redis://hunter2@h",
                          "redis://:@h",
                          "redis://:hunter2%4@h",
                          "redis://:hunter2%zz@h",
                          "redis://:hunter2/@h",
                          "redis://[::1",
                          "redis://[::1]x",
                          "redis://h/1/2"}) {
    try {
      make_redis_bus(io, bad);
      ADD_FAILURE() << bad;
    } catch (const std::invalid_argument& error) {
      EXPECT_EQ(std::string_view(error.what()).find("hunter2"), std::string_view::npos) << bad;
    }
  }
}

class OddRedis : public LoopTest {};

TEST_F(OddRedis, NothingThatAServerSendsEndsTheProcess) {
  const std::string subscribed = "*3\r\n$9\r\nsubscribe\r\n$11\r\nhourz_bus:0\r\n:1\r\n";
  const std::vector<std::string> answers{
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      "+OK\r\n+OK\r\n:1\r\n:2\r\n",
      "*0\r\n*0\r\n",
      "*-1\r\n$-1\r\n",
      "*2147483647\r\n",
      "*99999999999999999999\r\n",
      "$999999999999\r\nx",
      "$2147483647\r\n" + std::string(200'000, 'x'),
      "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
      "-ERR\r\n",
      "-\r\n\r\n",
      std::string("\0\0\0\0\r\n", 6),
      subscribed + "*0\r\n",
      subscribed + "*3\r\n:1\r\n:2\r\n:3\r\n",
      subscribed + "*3\r\n$7\r\nmessage\r\n$-1\r\n$-1\r\n",
      subscribed + "*3\r\n$7\r\nmessage\r\n*1\r\n:1\r\n*0\r\n",
      subscribed + "*4\r\n$8\r\npmessage\r\n+a\r\n+b\r\n+c\r\n",
      subscribed + "-ERR gone\r\n",
  };
  for (const bool stays : {true, false}) {
    for (const std::string& bytes : answers) {
      OddServer server(*io, bytes, stays);
      House house;
      house.bus = make_redis_bus(*io, server.url());
      listen(house);
      EXPECT_TRUE(until([&] { return server.connections() >= (stays ? 2 : 4); }, 20s)) << bytes.substr(0, 40);
      run_for(20ms);
      house.bus->say("is anybody there");
      run_for(5ms);
      EXPECT_TRUE(house.heard.empty()) << bytes.substr(0, 40);
    }
  }
}

TEST_F(OddRedis, AReplyWithoutEndIsCutOff) {
  asio::ip::tcp::acceptor acceptor(*io, {asio::ip::address_v4::loopback(), 0});
  House house;
  house.bus = make_redis_bus(*io, "redis://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()));
  std::optional<asio::ip::tcp::socket> peer;
  acceptor.async_accept(
      [&](boost::system::error_code, asio::ip::tcp::socket socket) { peer.emplace(std::move(socket)); });
  listen(house);
  ASSERT_TRUE(until([&] { return peer.has_value(); }));
  peer->non_blocking(true);
  std::string bytes = "$100000000\r\n" + std::string(64 * 1024, 'x');
  std::size_t sent = 0;
  const auto flood = [&] {
    boost::system::error_code ec;
    sent += peer->write_some(asio::buffer(bytes), ec);
    if (sent > 0) bytes.assign(64 * 1024, 'x');
    return ec && ec != asio::error::would_block;
  };
  EXPECT_TRUE(until(flood, 10s));
  EXPECT_LT(sent, 20U << 20);
}

}  // namespace
}  // namespace hourz::realtime::testing_bus
