// The live half of chat without sockets: seats by themselves, and the events of two servers' floors over one database,
// with connections whose frames are caught where the network would begin.
#include "rooms/chat/floor.hpp"

#include <deque>
#include <random>

#include "harness/harness.hpp"
#include "rooms/chat/seat.hpp"

namespace hourz::harness {
namespace {

using chat::Verdict;

TEST(ChatSeat, LiveMessagesComeOnceAndInOrder) {
  chat::Seat<int> seat;
  EXPECT_EQ(seat.arrive(1, 1), Verdict::send);
  EXPECT_EQ(seat.arrive(1, 1), Verdict::drop);
  EXPECT_EQ(seat.arrive(2, 2), Verdict::send);
  EXPECT_EQ(seat.arrive(4, 4), Verdict::gap);
  EXPECT_EQ(seat.arrive(1, 1), Verdict::drop);
}

TEST(ChatSeat, WhatArrivesWhileReadingWaitsItsTurn) {
  chat::Seat<int> seat;
  seat.begin_reading();
  for (const int seq : {9, 8, 10, 9, 7}) EXPECT_NE(seat.arrive(seq, seq), Verdict::send);
  const auto rest = seat.end_reading(8);
  EXPECT_EQ(rest.items, (std::vector<int>{9, 10}));
  EXPECT_FALSE(rest.gap);
  EXPECT_EQ(seat.arrive(8, 8), Verdict::drop);
  EXPECT_EQ(seat.arrive(11, 11), Verdict::send);
}

TEST(ChatSeat, AHoleInWhatWaitedIsNoticed) {
  chat::Seat<int> seat;
  seat.begin_reading();
  seat.arrive(5, 5);
  seat.arrive(7, 7);
  const auto rest = seat.end_reading(4);
  EXPECT_EQ(rest.items, std::vector<int>{5});
  EXPECT_TRUE(rest.gap);
}

TEST(ChatSeat, JoiningAgainAndAgainNeverRepeats) {
  // A stream whose events come in order, now and then again from some way back (a look done twice), against joins that
  // read up to what is committed at that moment.
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto chance = [&](int percent) { return static_cast<int>(random() % 100) < percent; };
    chat::Seat<std::int64_t> seat;
    std::vector<std::int64_t> given;
    std::int64_t committed = 0, arrived = 0, read_to = -1;
    seat.begin_reading();
    seat.end_reading(0);
    for (int step = 0; step < 400; ++step) {
      if (chance(50)) ++committed;
      if (arrived < committed && chance(60)) {
        const std::int64_t from = chance(10) ? std::max<std::int64_t>(1, arrived - 3) : arrived + 1;
        for (std::int64_t seq = from; seq <= arrived + 1; ++seq) {
          const Verdict verdict = seat.arrive(seq, seq);
          ASSERT_NE(verdict, Verdict::gap);
          if (verdict == Verdict::send) given.push_back(seq);
        }
        ++arrived;
      }
      if (!seat.reading() && chance(10)) {
        seat.begin_reading();
        read_to = -1;
      } else if (seat.reading() && read_to < 0) {
        read_to = committed;
      } else if (seat.reading() && chance(40)) {
        // The answer to the join holds what lies between, which is not live.
        for (std::int64_t seq = seat.last() + 1; seq <= read_to; ++seq) given.push_back(seq);
        const auto rest = seat.end_reading(read_to);
        ASSERT_FALSE(rest.gap);
        given.insert(given.end(), rest.items.begin(), rest.items.end());
      }
    }
    for (std::size_t i = 0; i < given.size(); ++i) ASSERT_EQ(given[i], static_cast<std::int64_t>(i) + 1) << seed;
  }
}

// --- floors ----------------------------------------------------------------------------------------------------------

class ChatFloor : public WorldTest {
 protected:
  /// One server with two shards that share the test's thread.
  struct Server {
    Metrics metrics;
    realtime::Hub hubs[2];
    realtime::Node node{metrics};
    chat::Parts parts;
    std::unique_ptr<chat::Floor> floors[2];
    realtime::EventBook books[2];

    Server() {
      chat::install_feed(node, parts);
      for (std::size_t i = 0; i < 2; ++i) {
        floors[i] = std::make_unique<chat::Floor>(parts, world().io(), node.attach(world().io(), hubs[i]));
        chat::install_events(books[i], *floors[i]);
      }
      node.start(world().desk().database, nullptr);
      node.count_socket(1);
    }
    ~Server() {
      node.stop();
      // A look that is under way ends before what it would tell.
      const auto idle = [] { return world().desk().database.gauges().pipelined_depth == 0; };
      EXPECT_TRUE(world().until(idle));
      world().io().poll();
    }
  };

  /// A socket, so to speak: what is sent to it is kept as JSON.
  struct Socket final : realtime::Wire {
    Server& server;
    std::size_t shard;
    std::vector<json::object> frames;
    std::optional<realtime::CloseCode> closed;
    std::unique_ptr<realtime::Connection> connection;

    Socket(Server& on, std::size_t index, const Person& who)
        : server(on),
          shard(index),
          connection(std::make_unique<realtime::Connection>(world().desk().database, "127.0.0.1")) {
      connection->caller = http::Caller{who.id, who.session};
      connection->wire = this;
    }
    void send(realtime::Frame frame) override {
      const auto length = static_cast<unsigned char>(frame->at(1));
      frames.push_back(json::parse(frame->substr(length < 126 ? 2 : length == 126 ? 4 : 10)).as_object());
    }
    void close(realtime::CloseCode code, std::string_view) override { closed = code; }

    /// The code of the problem that it was answered with, or nothing.
    std::string ask(const char* type, const json::object& data, const char* reply = "7") {
      bool done = false;
      std::string code;
      realtime::Incoming in{*connection, reply};
      const json::value value = data;
      const auto end = [&](std::exception_ptr failure) {
        done = true;
        try {
          if (failure) std::rethrow_exception(failure);
        } catch (const Problem& problem) {
          code = info_of(problem.code).word;
        }
      };
      try {
        boost::asio::co_spawn(world().io(), server.books[shard].find(type)->invoke(in, value), end);
      } catch (const Problem&) {
        end(std::current_exception());  // the data is read before the handler begins
      }
      EXPECT_TRUE(world().until([&] { return done; }));
      return code;
    }
    std::string join(const std::string& room, std::optional<std::int64_t> after = {}) {
      json::object data{{"room_id", room}};
      if (after) data["after_seq"] = *after;
      return ask("join_room", data);
    }
    std::vector<const json::object*> all(std::string_view type) const {
      std::vector<const json::object*> found;
      for (const json::object& frame : frames) {
        if (frame.at("type").as_string() == type) found.push_back(&frame.at("data").as_object());
      }
      return found;
    }
    /// Waits for so many frames of a type, and gives the last.
    const json::object& wait_for(std::string_view type, std::size_t count = 1) {
      EXPECT_TRUE(world().until([&] { return all(type).size() >= count; })) << type;
      const auto found = all(type);
      static const json::object nothing;
      return found.empty() ? nothing : *found.back();
    }
    /// Numbers of the messages it was given, in the order of the frames.
    std::vector<std::int64_t> seqs() const {
      std::vector<std::int64_t> found;
      for (const json::object& frame : frames) {
        const std::string_view type = frame.at("type").as_string();
        const json::value& data = frame.at("data");
        if (type == "receive_message") found.push_back(data.at_pointer("/message/seq").as_int64());
        if (type != "room_joined") continue;
        for (const auto& message : data.at("messages").as_array()) found.push_back(message.at("seq").as_int64());
      }
      return found;
    }
  };

  static std::vector<std::int64_t> up_to(std::int64_t last) {
    std::vector<std::int64_t> all;
    for (std::int64_t i = 1; i <= last; ++i) all.push_back(i);
    return all;
  }

  struct Pair {
    Person seeker = world().person("Seeker"), helper = world().person("Helper");
    std::string gig = world().post_gig(seeker), room;
    Pair() {
      EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, helper.token).status, 200);
      room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
    }
    Uuid id() const { return parse_uuid(room).value(); }
  };
  static Answer post(const Pair& pair, const Person& who, const std::string& text) {
    return world().post("/api/chat/rooms/" + pair.room + "/messages", {{"content", text}}, who.token);
  }
};

TEST_F(ChatFloor, WhatIsSaidReachesEveryJoinedConnectionOnEveryServer) {
  Server one, other;
  const Pair pair;
  Socket seeker(one, 0, pair.seeker), phone(one, 1, pair.helper), laptop(other, 0, pair.helper),
      away(other, 1, pair.helper);
  for (Socket* socket : {&seeker, &phone, &laptop}) {
    EXPECT_EQ(socket->join(pair.room), "");
    const json::object& joined = *socket->all("room_joined").at(0);
    EXPECT_EQ(socket->frames.at(0).at("id").as_int64(), 7);
    EXPECT_TRUE(joined.at("complete").as_bool());
    EXPECT_EQ(joined.at("messages").as_array().size(), 1U);
    EXPECT_EQ(joined.at("room").at("id").as_string(), pair.room);
  }
  EXPECT_EQ(seeker.ask("send_message", {{"room_id", pair.room}, {"content", "Hello"}}), "");
  const json::value sent = seeker.wait_for("message_ack").at("message");
  EXPECT_EQ(sent.at("seq").as_int64(), 2);
  EXPECT_EQ(away.ask("send_message", {{"room_id", pair.room}, {"content", "Not joined"}}), "");  // membership is enough
  EXPECT_EQ(post(pair, pair.seeker, "By REST").status, 201);
  one.node.wake();
  for (Socket* socket : {&seeker, &phone, &laptop}) {
    socket->wait_for("receive_message", 3);
    EXPECT_EQ(socket->seqs(), up_to(4));
    EXPECT_EQ(socket->all("receive_message").at(0)->at("message"), sent);
  }
  EXPECT_EQ(away.all("receive_message").size(), 0U);

  EXPECT_EQ(laptop.ask("mark_read", {{"room_id", pair.room}, {"seq", 4}}), "");
  EXPECT_EQ(laptop.wait_for("read_receipt").at("seq").as_int64(), 4);
  EXPECT_EQ(seeker.wait_for("read_receipt").at("user_id").as_string(), to_string(pair.helper.id));
  EXPECT_EQ(phone.ask("leave_room", {{"room_id", pair.room}}), "");
  EXPECT_EQ(phone.ask("leave_room", {{"room_id", pair.room}}), "");
  EXPECT_EQ(phone.all("room_left").size(), 2U);

  // The gig ends: the last thing to be heard, and the room is closed.
  EXPECT_EQ(world().del("/api/gigs/" + pair.gig, pair.seeker.token).status, 204);
  EXPECT_EQ(laptop.wait_for("receive_message", 4).at("message").at("type").as_string(), "SYSTEM");
  EXPECT_EQ(laptop.ask("send_message", {{"room_id", pair.room}, {"content", "x"}}), "room_closed");
  EXPECT_EQ(laptop.join(pair.room, 5), "");
  EXPECT_FALSE(laptop.all("room_joined").back()->at("room").at("is_active").as_bool());
  EXPECT_EQ(phone.seqs(), up_to(4));
}

TEST_F(ChatFloor, AStrangerHearsNothingAndLeavesNoTrace) {
  Server server;
  const Pair pair;
  const Person stranger = world().person("Stranger");
  Socket socket(server, 0, stranger), seeker(server, 0, pair.seeker);
  const std::string nowhere = to_string(make_uuid());
  for (const std::string& room : {pair.room, nowhere}) {
    EXPECT_EQ(socket.join(room), "not_found");
    EXPECT_EQ(socket.ask("send_message", {{"room_id", room}, {"content", "x"}}), "not_found");
    EXPECT_EQ(socket.ask("mark_read", {{"room_id", room}, {"seq", 1}}), "not_found");
    EXPECT_EQ(socket.ask("typing", {{"room_id", room}, {"is_typing", true}}), "not_joined");
    EXPECT_FALSE(server.parts.interest.any(parse_uuid(room).value()));
  }
  EXPECT_EQ(seeker.ask("typing", {{"room_id", pair.room}, {"is_typing", true}}), "not_joined");
  EXPECT_EQ(seeker.ask("send_message", {{"room_id", pair.room}, {"content", ""}}), "validation_failed");
  EXPECT_EQ(seeker.ask("send_message", {{"room_id", pair.room}, {"content", "x"}, {"type", "SYSTEM"}}),
            "validation_failed");
  EXPECT_EQ(seeker.join(pair.room), "");
  EXPECT_EQ(post(pair, pair.seeker, "Secret").status, 201);
  server.node.wake();
  seeker.wait_for("receive_message");
  EXPECT_TRUE(socket.frames.empty());
}

TEST_F(ChatFloor, AConnectionJoinsAHundredRoomsAndNoMore) {
  Server server;
  const Pair pair;
  Socket socket(server, 0, pair.seeker);
  std::vector<Uuid> rooms;
  for (int i = 0; i < 100; ++i) {
    rooms.push_back(make_uuid());
    server.floors[0]->begin_join(*socket.connection, rooms.back());
  }
  EXPECT_EQ(socket.join(pair.room), "too_many_rooms");
  server.floors[0]->begin_join(*socket.connection, rooms[50]);  // joined already
  server.floors[0]->leave(*socket.connection, rooms[50]);
  EXPECT_EQ(socket.join(pair.room), "");
  EXPECT_TRUE(server.parts.interest.any(rooms[99]));
  socket.connection.reset();
  for (const Uuid& room : rooms) EXPECT_FALSE(server.parts.interest.any(room));
}

TEST_F(ChatFloor, AMissedMessageClosesRatherThanLies) {
  Server server;
  const Pair pair;
  Socket socket(server, 1, pair.helper);
  ASSERT_EQ(socket.join(pair.room), "");
  server.floors[1]->deliver(pair.id(), 1, realtime::text_frame("{}"));
  EXPECT_FALSE(socket.closed);
  server.floors[1]->deliver(pair.id(), 3, realtime::text_frame("{}"));
  EXPECT_EQ(socket.closed, realtime::CloseCode::resume);
  EXPECT_EQ(socket.frames.size(), 1U);
}

TEST_F(ChatFloor, PresenceIsToldToOthersAndToWhoComesLater) {
  Server server;
  const Pair pair;
  Socket seeker(server, 0, pair.seeker);
  ASSERT_EQ(seeker.join(pair.room), "");
  auto phone = std::make_unique<Socket>(server, 1, pair.helper);
  ASSERT_EQ(phone->join(pair.room), "");
  const json::object online{{"room_id", pair.room}, {"user_id", to_string(pair.helper.id)}, {"online", true}};
  EXPECT_EQ(seeker.wait_for("presence"), online);
  EXPECT_EQ(phone->wait_for("presence").at("user_id").as_string(), to_string(pair.seeker.id));
  Socket laptop(server, 0, pair.helper);
  ASSERT_EQ(laptop.join(pair.room), "");
  EXPECT_EQ(laptop.wait_for("presence").at("user_id").as_string(), to_string(pair.seeker.id));
  EXPECT_EQ(laptop.ask("leave_room", {{"room_id", pair.room}}), "");
  phone->connection.reset();  // the socket broke
  EXPECT_FALSE(seeker.wait_for("presence", 2).at("online").as_bool());
  EXPECT_EQ(seeker.all("presence").size(), 2U);  // a second device is no news
  ASSERT_EQ(laptop.join(pair.room), "");
  EXPECT_EQ(seeker.wait_for("presence", 3), online);
}

TEST_F(ChatFloor, TypingReachesTheOthersAndEndsByItself) {
  Server server;
  for (auto& floor : server.floors) {
    floor->typing_lasts = std::chrono::milliseconds(1500);
    floor->typing_pause = std::chrono::minutes(1);
  }
  const Pair pair;
  Socket seeker(server, 0, pair.seeker), helper(server, 1, pair.helper), second(server, 0, pair.helper);
  for (Socket* socket : {&seeker, &helper, &second}) ASSERT_EQ(socket->join(pair.room), "");
  const auto type = [&](bool is_typing) {
    EXPECT_EQ(helper.ask("typing", {{"room_id", pair.room}, {"is_typing", is_typing}}), "");
  };
  type(false);  // nothing to end
  type(true);
  type(true);  // known already: not said again
  EXPECT_TRUE(seeker.wait_for("typing").at("is_typing").as_bool());
  type(false);
  EXPECT_FALSE(seeker.wait_for("typing", 2).at("is_typing").as_bool());
  type(true);
  EXPECT_FALSE(seeker.wait_for("typing", 4).at("is_typing").as_bool());  // nobody said so: time did
  type(true);
  EXPECT_TRUE(seeker.wait_for("typing", 5).at("is_typing").as_bool());
  helper.connection.reset();
  second.connection.reset();
  EXPECT_FALSE(seeker.wait_for("typing", 6).at("is_typing").as_bool());
  EXPECT_EQ(seeker.all("typing").size(), 6U);
  EXPECT_EQ(helper.all("typing").size(), 0U);
  EXPECT_EQ(second.all("typing").size(), 0U);
}

TEST_F(ChatFloor, ReadersThatComeAndGoMissNothingWhileSixSend) {
  Server one, other;
  const Pair pair;
  constexpr int senders = 6, each = 60;
  int sent = 0, under_way = 0;
  const auto next = [&](int sender) {
    ++under_way;
    boost::asio::co_spawn(
        world().io(),
        chat::send(world().desk().database, pair.id(), sender % 2 == 0 ? pair.seeker.id : pair.helper.id,
                   {Text<0, 4000>{"Message"}, {}, make_uuid()}),
        [&](std::exception_ptr failure, chat::Message) {
          EXPECT_FALSE(failure);
          ++sent;
          --under_way;
          one.node.wake();
          other.node.wake();
        });
  };
  // Each reader keeps what all of its connections were given, one after the other.
  struct Reader {
    Server& server;
    std::vector<std::int64_t> seen;
    std::unique_ptr<Socket> socket;
  };
  std::vector<Reader> readers;
  for (int i = 0; i < 4; ++i) readers.push_back({i % 2 == 0 ? one : other, {}, nullptr});
  std::mt19937 random(11);
  const auto drop = [](Reader& reader) {
    if (!reader.socket) return;
    EXPECT_FALSE(reader.socket->closed);
    const auto seqs = reader.socket->seqs();
    reader.seen.insert(reader.seen.end(), seqs.begin(), seqs.end());
    reader.socket.reset();
  };
  const auto come = [&](Reader& reader) {
    reader.socket =
        std::make_unique<Socket>(reader.server, random() % 2, random() % 2 == 0 ? pair.seeker : pair.helper);
    EXPECT_EQ(reader.socket->join(pair.room, reader.seen.empty() ? 0 : reader.seen.back()), "");
  };
  int begun = 0;
  while (sent < senders * each) {
    while (begun < senders * each && under_way < senders) next(begun++);
    Reader& reader = readers[random() % readers.size()];
    if (random() % 2 == 0) drop(reader);
    if (!reader.socket) come(reader);
    world().io().poll();
  }
  const std::int64_t last = 1 + senders * each;
  for (Reader& reader : readers) {
    if (!reader.socket) come(reader);
    EXPECT_TRUE(world().until([&] {
      const auto seqs = reader.socket->seqs();
      return (seqs.empty() ? reader.seen.empty() ? 0 : reader.seen.back() : seqs.back()) == last;
    }));
    drop(reader);
    EXPECT_EQ(reader.seen, up_to(last));
  }
}

}  // namespace
}  // namespace hourz::harness
