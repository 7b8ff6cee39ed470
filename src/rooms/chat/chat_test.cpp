// Chat on a real database, over REST: rooms through the life of a gig, numbers without gaps whoever sends at once,
// retries by client_id, markers, and pages both ways.
#include "rooms/chat/chat.hpp"

#include <map>
#include <set>

#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

using http::Method;

class Chat : public WorldTest {
 protected:
  struct Pair {
    Person seeker, helper;
    std::string gig, room;
  };
  static std::string target(const std::string& room, const std::string& rest = {}) {
    return "/api/chat/rooms/" + room + rest;
  }
  static Pair pair() {
    Pair made{world().person("Seeker"), world().person("Helper"), {}, {}};
    made.gig = world().post_gig(made.seeker, {{"title", "Carry a sofa"}});
    EXPECT_EQ(accept(made.helper, made.gig).status, 200);
    made.room = room_of(made.gig);
    return made;
  }
  static Answer accept(const Person& who, const std::string& gig) {
    return world().post("/api/gigs/" + gig + "/accept", {}, who.token);
  }
  static Answer move(const Person& who, const std::string& gig, const std::string& status,
                     const char* reason = nullptr) {
    json::object body{{"status", status}};
    if (reason != nullptr) body["reason"] = reason;
    return world().put("/api/gigs/" + gig + "/status", body, who.token);
  }
  /// The open one, else the only one.
  static std::string room_of(const std::string& gig) {
    return world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid ORDER BY is_active DESC", {gig});
  }
  static Ask sending(const std::string& room, const Person& who, const std::string& text,
                     const std::string& client_id = {}) {
    json::object body{{"content", text}};
    if (!client_id.empty()) body["client_id"] = client_id;
    return {Method::post, target(room, "/messages"), body, who.token};
  }
  static Answer say(const std::string& room, const Person& who, const std::string& text,
                    const std::string& client_id = {}) {
    return world().send(sending(room, who, text, client_id));
  }
  static Answer page(const std::string& room, const Person& who, const std::string& query = {}) {
    return world().get(target(room, "/messages" + query), who.token);
  }
  static Answer read(const std::string& room, const Person& who) { return world().get(target(room), who.token); }
  static Answer mark(const std::string& room, const Person& who, std::int64_t seq) {
    return world().put(target(room, "/read"), {{"seq", seq}}, who.token);
  }
  static std::vector<std::int64_t> seqs(const Answer& answer) {
    std::vector<std::int64_t> found;
    for (const auto& message : answer.at("/messages").as_array()) found.push_back(message.at("seq").as_int64());
    return found;
  }
  static std::vector<std::int64_t> range(std::int64_t from, std::int64_t to) {
    std::vector<std::int64_t> all;
    for (std::int64_t i = from; i <= to; ++i) all.push_back(i);
    return all;
  }
  static std::int64_t unread(const std::string& room, const Person& who) {
    return read(room, who).at("/unread_count").as_int64();
  }
  /// The whole history, by its texts.
  static std::vector<std::string> texts(const std::string& room, const Person& who) {
    std::vector<std::string> found;
    const Answer answer = page(room, who, "?after_seq=0&limit=100");
    for (const auto& message : answer.at("/messages").as_array()) {
      found.emplace_back(message.at("content").as_string());
    }
    return found;
  }
  static std::string count(const std::string& table, const std::string& room) {
    return world().sql("SELECT count(*)::text FROM " + table + " WHERE room_id = $1::uuid", {room});
  }
  /// Events of the outbox, as `kind number note`, in the order of their numbers.
  static std::vector<std::string> events(const std::string& topic) {
    std::vector<std::string> found;
    for (const auto& row : world().rows(
             "SELECT kind || ' ' || number || ' ' || note FROM outbox WHERE topic = $1::uuid ORDER BY id", {topic})) {
      found.push_back(row.at(0).value());
    }
    return found;
  }
};

// --- the life of a room ----------------------------------------------------------------------------------------------

TEST_F(Chat, AnAcceptedGigHasARoomWithASystemMessage) {
  const Person seeker = world().person("Mali"), helper = world().person("Somchai");
  const std::string gig = world().post_gig(seeker, {{"title", "Carry a sofa"}});
  EXPECT_EQ(world().get("/api/chat/rooms", seeker.token).at("/rooms").as_array().size(), 0U);
  ASSERT_EQ(accept(helper, gig).status, 200);
  for (const Person& who : {seeker, helper}) {
    const Answer list = world().get("/api/chat/rooms", who.token);
    ASSERT_EQ(list.at("/rooms").as_array().size(), 1U);
    EXPECT_TRUE(list.at("/next_cursor").is_null());
    const json::value& room = list.at("/rooms/0");
    EXPECT_EQ(room, read(std::string(room.at("id").as_string()), who).body);
    EXPECT_EQ(room.at("gig_id").as_string(), gig);
    EXPECT_EQ(room.at("gig_title").as_string(), "Carry a sofa");
    EXPECT_TRUE(room.at("is_active").as_bool());
    EXPECT_EQ(room.at_pointer("/participants/0/user/id").as_string(), to_string(seeker.id));
    EXPECT_EQ(room.at_pointer("/participants/0/user/name").as_string(), "Mali");
    EXPECT_EQ(room.at_pointer("/participants/1/user/id").as_string(), to_string(helper.id));
    EXPECT_EQ(room.at_pointer("/participants/1/last_read_seq").as_int64(), 0);
    EXPECT_TRUE(room.at_pointer("/participants/1/last_read_at").is_null());
    EXPECT_EQ(room.at("last_seq").as_int64(), 1);
    EXPECT_EQ(room.at("unread_count").as_int64(), 1);
    const json::value& message = room.at("last_message");
    EXPECT_EQ(message.at("type").as_string(), "SYSTEM");
    EXPECT_TRUE(message.at("sender_id").is_null());
    EXPECT_EQ(message.at("seq").as_int64(), 1);
    EXPECT_EQ(message.at("timestamp"), room.at("updated_at"));
  }
  // In the accept's own transaction: row, message and event carry its number.
  EXPECT_EQ(
      world().sql("SELECT count(DISTINCT t)::text FROM (SELECT xmin::text t FROM chat_rooms WHERE gig_id = $1::uuid "
                  "UNION ALL SELECT xmin::text FROM gigs WHERE id = $1::uuid UNION ALL SELECT m.xmin::text FROM "
                  "chat_messages m JOIN chat_rooms r ON r.id = m.room_id WHERE r.gig_id = $1::uuid) x",
                  {gig}),
      "1");
  EXPECT_EQ(events(gig), (std::vector<std::string>{"gig.changed 1 ", "gig.changed 2 "}));
  EXPECT_EQ(events(room_of(gig)), (std::vector<std::string>{"chat.message 1 "}));
}

TEST_F(Chat, EveryMoveOfTheGigIsToldAndItsEndClosesTheRoom) {
  const Pair one = pair();
  EXPECT_EQ(say(one.room, one.helper, "On my way").status, 201);
  ASSERT_EQ(move(one.helper, one.gig, "IN_PROGRESS").status, 200);
  ASSERT_EQ(move(one.seeker, one.gig, "COMPLETED").status, 200);
  EXPECT_EQ(texts(one.room, one.seeker),
            (std::vector<std::string>{"The gig is accepted. You can talk here until it ends.", "On my way",
                                      "The work has begun.", "The gig is completed. This room is closed."}));
  EXPECT_FALSE(read(one.room, one.seeker).at("/is_active").as_bool());
  EXPECT_EQ(say(one.room, one.helper, "Thanks").code(), "room_closed");
  EXPECT_EQ(say(one.room, one.helper, "Thanks").status, 409);
  EXPECT_EQ(world().sql("SELECT completed_gigs::text FROM users WHERE id = $1::uuid", {to_string(one.helper.id)}), "1");
  // Read it can be, and marked as read.
  EXPECT_EQ(page(one.room, one.helper).status, 200);
  EXPECT_EQ(mark(one.room, one.helper, 4).number_at("/seq"), 4);

  const Pair two = pair();
  ASSERT_EQ(world().del("/api/gigs/" + two.gig, two.seeker.token).status, 204);
  EXPECT_EQ(texts(two.room, two.helper).back(), "The seeker has cancelled the gig. This room is closed.");
  EXPECT_EQ(say(two.room, two.seeker, "Sorry").code(), "room_closed");

  const Pair three = pair();
  ASSERT_EQ(move(three.helper, three.gig, "IN_PROGRESS").status, 200);
  EXPECT_EQ(move(three.helper, three.gig, "CANCELLED").status, 422);
  EXPECT_EQ(texts(three.room, three.helper).size(), 2U);
  ASSERT_EQ(move(three.helper, three.gig, "CANCELLED", "The lift is broken.").status, 200);
  EXPECT_EQ(texts(three.room, three.seeker).back(),
            "The helper has cancelled the gig. This room is closed. Reason: The lift is broken.");
}

TEST_F(Chat, AHelperWhoComesBackFindsTheRoomAgainAndAnotherGetsTheirOwn) {
  const Pair one = pair();
  const Person other = world().person("Other");
  EXPECT_EQ(say(one.room, one.helper, "Before").status, 201);
  ASSERT_EQ(world().post("/api/gigs/" + one.gig + "/withdraw", R"({"reason":"Ill"})", one.helper.token).status, 200);
  EXPECT_EQ(texts(one.room, one.seeker).back(), "The helper has stepped back. This room is closed. Reason: Ill");
  EXPECT_EQ(say(one.room, one.seeker, "Get well").code(), "room_closed");

  ASSERT_EQ(accept(other, one.gig).status, 200);
  const std::string second = room_of(one.gig);
  EXPECT_NE(second, one.room);
  EXPECT_EQ(read(second, one.helper).status, 404);
  EXPECT_EQ(read(one.room, other).status, 404);
  EXPECT_EQ(world().get("/api/chat/rooms", one.seeker.token).at("/rooms").as_array().size(), 2U);
  ASSERT_EQ(world().post("/api/gigs/" + one.gig + "/withdraw", {}, other.token).status, 200);

  ASSERT_EQ(accept(one.helper, one.gig).status, 200);
  EXPECT_EQ(room_of(one.gig), one.room);
  EXPECT_EQ(say(one.room, one.helper, "Here again").number_at("/seq"), 5);
  EXPECT_EQ(texts(one.room, one.helper).size(), 5U);
  EXPECT_EQ(say(second, other, "And me?").code(), "room_closed");
  EXPECT_EQ(read(one.room, one.helper).at("/participants").as_array().size(), 2U);
}

TEST_F(Chat, StrangersFindNothing) {
  const Pair one = pair();
  const Person stranger = world().person("Stranger");
  const auto refused = [&](const Answer& answer) {
    EXPECT_EQ(answer.status, 404);
    EXPECT_EQ(answer.code(), "not_found");
  };
  refused(read(one.room, stranger));
  refused(page(one.room, stranger));
  refused(page(one.room, stranger, "?after_seq=0"));
  refused(say(one.room, stranger, "Let me in"));
  refused(mark(one.room, stranger, 1));
  refused(say(to_string(make_uuid()), stranger, "Anybody?"));
  EXPECT_EQ(world().get("/api/chat/rooms", stranger.token).at("/rooms").as_array().size(), 0U);
  // A client_id that somebody else used in the room gives a stranger nothing, and nothing to the other side either.
  const std::string client_id = to_string(make_uuid());
  EXPECT_EQ(say(one.room, one.seeker, "Mine", client_id).status, 201);
  refused(say(one.room, stranger, "Mine?", client_id));
  const Answer theirs = say(one.room, one.helper, "Also mine", client_id);
  EXPECT_EQ(theirs.string_at("/content"), "Also mine");
  EXPECT_EQ(theirs.number_at("/seq"), 3);
  EXPECT_EQ(count("chat_messages", one.room), "3");
}

// --- sending ---------------------------------------------------------------------------------------------------------

TEST_F(Chat, AMessageComesBackAsItIsStored) {
  const Pair one = pair();
  const std::string client_id = to_string(make_uuid());
  const Answer sent = say(one.room, one.seeker, "  สวัสดี 👋 \n ok  ", client_id);
  ASSERT_EQ(sent.status, 201);
  EXPECT_EQ(sent.string_at("/content"), "สวัสดี 👋 \n ok");
  EXPECT_EQ(sent.string_at("/type"), "TEXT");
  EXPECT_EQ(sent.string_at("/room_id"), one.room);
  EXPECT_EQ(sent.string_at("/sender_id"), to_string(one.seeker.id));
  EXPECT_EQ(sent.string_at("/client_id"), client_id);
  EXPECT_TRUE(sent.at("/image_url").is_null());
  EXPECT_EQ(sent.number_at("/seq"), 2);
  EXPECT_EQ(page(one.room, one.helper, "?after_seq=1").at("/messages/0"), sent.body);
  EXPECT_EQ(read(one.room, one.helper).at("/last_message"), sent.body);
  EXPECT_EQ(events(one.room).back(), "chat.message 2 ");
}

TEST_F(Chat, FaultsAreNamed) {
  const Pair one = pair();
  const auto faults = [&](const char* body) {
    const Answer answer = world().post(target(one.room, "/messages"), body, one.seeker.token);
    EXPECT_EQ(answer.status, 422) << body;
    return answer.faults();
  };
  using Faults = std::vector<std::string>;
  EXPECT_EQ(faults("{}"), Faults{"content:required"});
  EXPECT_EQ(faults(R"({"content":null})"), Faults{"content:required"});
  EXPECT_EQ(faults(R"({"content":""})"), Faults{"content:empty"});
  EXPECT_EQ(faults(R"({"content":" \n "})"), Faults{"content:empty"});
  EXPECT_EQ(faults(R"({"content":7,"client_id":"x"})").size(), 2U);
  EXPECT_EQ(faults(R"({"content":"x","type":"SYSTEM"})"), Faults{"type:unknown_field"});
  EXPECT_EQ(faults(R"({"content":"x","sender_id":null})"), Faults{"sender_id:unknown_field"});
  EXPECT_EQ(faults(R"({"content":"x","seq":9})"), Faults{"seq:unknown_field"});
  EXPECT_EQ(faults(R"({"content":"x","image_url":"/files/1"})"), Faults{"image_url:not_your_upload"});
  EXPECT_EQ(faults(R"({"image_url":"/files/1"})"), Faults{"image_url:not_your_upload"});
  const auto send_long = [&](int characters) {
    std::string text;
    for (int i = 0; i < characters; ++i) text += "ก";
    return say(one.room, one.seeker, text);
  };
  EXPECT_EQ(send_long(4000).status, 201);
  EXPECT_EQ(send_long(4001).faults(), Faults{"content:too_long"});
  for (const char* query : {"?before_seq=0", "?after_seq=-1", "?limit=0", "?limit=101", "?before_seq=2&after_seq=1",
                            "?before_seq=x", "?before_seq=9007199254740992", "?seq=1"}) {
    EXPECT_EQ(page(one.room, one.seeker, query).status, 422) << query;
  }
  EXPECT_EQ(mark(one.room, one.seeker, 0).status, 422);
  EXPECT_EQ(mark(one.room, one.seeker, -3).status, 422);
  EXPECT_EQ(world().put(target(one.room, "/read"), "{}", one.seeker.token).status, 422);
  EXPECT_EQ(count("chat_messages", one.room), "2");
}

TEST_F(Chat, FortyAtOnceCountWithoutGaps) {
  const Pair one = pair();
  std::vector<Ask> asks;
  for (int i = 0; i < 40; ++i) {
    asks.push_back(sending(one.room, i % 3 == 0 ? one.seeker : one.helper, "Message " + std::to_string(i)));
  }
  std::set<std::int64_t> given;
  for (const Answer& answer : world().send_all(asks)) {
    ASSERT_EQ(answer.status, 201) << answer.text;
    EXPECT_TRUE(given.insert(answer.at("/seq").as_int64()).second);
  }
  EXPECT_EQ(std::vector<std::int64_t>(given.begin(), given.end()), range(2, 41));
  const Answer all = page(one.room, one.seeker, "?after_seq=0&limit=100");
  EXPECT_EQ(seqs(all), range(1, 41));
  EXPECT_FALSE(all.at("/has_more").as_bool());
  std::string before;
  for (const auto& message : all.at("/messages").as_array()) {
    const std::string time(message.at("timestamp").as_string());
    EXPECT_LE(before, time);
    before = time;
  }
  // Events stand in the order of the numbers, since both are drawn under the room's lock.
  std::vector<std::string> expected;
  for (const std::int64_t seq : range(1, 41)) expected.push_back("chat.message " + std::to_string(seq) + " ");
  EXPECT_EQ(events(one.room), expected);
}

TEST_F(Chat, AMessageSentAgainIsStoredOnce) {
  const Pair one = pair();
  const std::string client_id = to_string(make_uuid());
  const Answer first = say(one.room, one.seeker, "Once", client_id);
  const Answer again = say(one.room, one.seeker, "Once", client_id);
  EXPECT_EQ(again.status, 201);
  EXPECT_EQ(again.text, first.text);
  EXPECT_EQ(say(one.room, one.seeker, "Another text", client_id).text, first.text);
  EXPECT_EQ(count("chat_messages", one.room), "2");
  EXPECT_EQ(events(one.room).size(), 2U);

  for (int round = 0; round < 5; ++round) {
    const std::string raced = to_string(make_uuid());
    std::vector<Ask> asks;
    for (int i = 0; i < 20; ++i) {
      asks.push_back(sending(one.room, one.seeker, "Raced", raced));
      // Some bring an idempotency key as well: two ways to say the same, and still one message.
      if (i % 5 == 0) asks.back().fields = {{"idempotency-key", raced + std::to_string(i)}};
    }
    std::set<std::string> texts;
    for (const Answer& answer : world().send_all(asks)) {
      EXPECT_EQ(answer.status, 201) << answer.text;
      texts.insert(answer.text);
    }
    EXPECT_EQ(texts.size(), 1U);
    EXPECT_EQ(count("chat_messages", one.room), std::to_string(3 + round));
  }
  // Also when the room is closed by now: it is stored, and the sender may not know.
  ASSERT_EQ(world().del("/api/gigs/" + one.gig, one.seeker.token).status, 204);
  EXPECT_EQ(say(one.room, one.seeker, "Once", client_id).text, first.text);
  EXPECT_EQ(say(one.room, one.seeker, "Once", to_string(make_uuid())).code(), "room_closed");
}

TEST_F(Chat, ClosingAndSendingAtOnceLeavesTheClosingLast) {
  for (int round = 0; round < 10; ++round) {
    const Pair one = pair();
    std::vector<Ask> asks;
    for (int i = 0; i < 10; ++i) asks.push_back(sending(one.room, one.helper, "x"));
    asks.insert(asks.begin() + round, Ask{Method::del, "/api/gigs/" + one.gig, {}, one.seeker.token});
    std::int64_t stored = 1;
    for (const Answer& answer : world().send_all(asks)) {
      EXPECT_TRUE(answer.status == 201 || answer.status == 204 || answer.code() == "room_closed") << answer.text;
      stored += answer.status < 300 ? 1 : 0;
    }
    const Answer all = page(one.room, one.helper, "?after_seq=0&limit=100");
    EXPECT_EQ(seqs(all), range(1, stored));
    EXPECT_EQ(all.at("/messages").as_array().back().at("type").as_string(), "SYSTEM");
  }
}

// --- reading ---------------------------------------------------------------------------------------------------------

TEST_F(Chat, MarkersMoveForwardOnly) {
  const Pair one = pair();
  for (int i = 0; i < 4; ++i) ASSERT_EQ(say(one.room, one.seeker, "Hello").status, 201);
  // Whoever sends has read what came before.
  EXPECT_EQ(unread(one.room, one.seeker), 0);
  EXPECT_EQ(unread(one.room, one.helper), 5);
  EXPECT_EQ(mark(one.room, one.helper, 3).number_at("/seq"), 3);
  EXPECT_EQ(unread(one.room, one.helper), 2);
  EXPECT_EQ(events(one.room).back(), "chat.read 3 " + to_string(one.helper.id));
  const auto before = events(one.room).size();
  EXPECT_EQ(mark(one.room, one.helper, 2).number_at("/seq"), 3);
  EXPECT_EQ(mark(one.room, one.helper, 3).number_at("/seq"), 3);
  EXPECT_EQ(unread(one.room, one.helper), 2);
  EXPECT_EQ(events(one.room).size(), before);
  // Past the last message is up to the last: what comes later is unread.
  EXPECT_EQ(mark(one.room, one.helper, 9'007'199'254'740'991).number_at("/seq"), 5);
  EXPECT_EQ(unread(one.room, one.helper), 0);
  const Answer room = read(one.room, one.seeker);
  EXPECT_EQ(room.at("/participants/1/last_read_seq").as_int64(), 5);
  EXPECT_TRUE(room.at("/participants/1/last_read_at").is_string());
  ASSERT_EQ(say(one.room, one.helper, "Read it").status, 201);
  EXPECT_EQ(unread(one.room, one.seeker), 1);
  EXPECT_EQ(unread(one.room, one.helper), 0);
  std::vector<Ask> asks;
  for (int seq = 1; seq <= 6; ++seq) {
    asks.push_back({Method::put, target(one.room, "/read"), {{"seq", 7 - seq}}, one.seeker.token});
  }
  world().send_all(asks);
  EXPECT_EQ(unread(one.room, one.seeker), 0);
}

TEST_F(Chat, PagesGoBothWaysWhileOthersSend) {
  const Pair one = pair();
  std::vector<Ask> asks;
  for (int i = 2; i <= 300; ++i) asks.push_back(sending(one.room, one.seeker, "Message"));
  for (std::size_t at = 0; at < asks.size(); at += 100) {
    world().send_all(
        {asks.begin() + static_cast<long>(at), asks.begin() + static_cast<long>(std::min(at + 100, asks.size()))});
  }
  const Answer newest = page(one.room, one.helper);
  EXPECT_EQ(seqs(newest), range(251, 300));
  EXPECT_TRUE(newest.at("/has_more").as_bool());

  std::vector<std::int64_t> back = seqs(newest);
  for (bool more = true; more;) {
    ASSERT_EQ(say(one.room, one.helper, "Meanwhile").status, 201);
    const Answer older = page(one.room, one.helper, "?limit=37&before_seq=" + std::to_string(back.front()));
    const auto found = seqs(older);
    back.insert(back.begin(), found.begin(), found.end());
    more = older.at("/has_more").as_bool();
  }
  EXPECT_EQ(back, range(1, 300));

  std::vector<std::int64_t> forth;
  int rounds = 0;
  for (bool more = true; more;) {
    if (++rounds < 5) ASSERT_EQ(say(one.room, one.seeker, "Meanwhile").status, 201);
    const std::string after = forth.empty() ? "0" : std::to_string(forth.back());
    const Answer newer = page(one.room, one.helper, "?limit=61&after_seq=" + after);
    const auto found = seqs(newer);
    forth.insert(forth.end(), found.begin(), found.end());
    more = newer.at("/has_more").as_bool();
  }
  const auto last = read(one.room, one.helper).at("/last_seq").as_int64();
  EXPECT_EQ(forth, range(1, last));
  EXPECT_EQ(seqs(page(one.room, one.helper, "?after_seq=" + std::to_string(last))), range(1, 0));
  EXPECT_EQ(seqs(page(one.room, one.helper, "?before_seq=1")), range(1, 0));
  EXPECT_EQ(seqs(page(one.room, one.helper, "?limit=2&before_seq=" + std::to_string(last + 100))),
            range(last - 1, last));
}

TEST_F(Chat, RoomsAreListedByActivityWithoutRepeatOrSkip) {
  const Person seeker = world().person("Seeker");
  std::vector<std::string> rooms;
  std::vector<Person> helpers;
  for (int i = 0; i < 12; ++i) {
    helpers.push_back(world().person());
    const std::string gig = world().post_gig(seeker);
    ASSERT_EQ(accept(helpers.back(), gig).status, 200);
    rooms.insert(rooms.begin(), room_of(gig));
  }
  ASSERT_EQ(say(rooms[7], seeker, "First again").status, 201);
  std::rotate(rooms.begin(), rooms.begin() + 7, rooms.begin() + 8);
  std::vector<std::string> found;
  std::string cursor;
  do {
    const Answer list =
        world().get("/api/chat/rooms?limit=5" + (cursor.empty() ? "" : "&cursor=" + cursor), seeker.token);
    ASSERT_EQ(list.status, 200) << list.text;
    for (const auto& room : list.at("/rooms").as_array()) found.emplace_back(room.at("id").as_string());
    cursor = list.at("/next_cursor").is_null() ? "" : list.string_at("/next_cursor");
    // A room that is still to come and one that was given wake up, and a new one opens.
    ASSERT_EQ(say(rooms[11], seeker, "Meanwhile").status, 201);
    ASSERT_EQ(say(rooms[0], seeker, "Meanwhile").status, 201);
    const std::string gig = world().post_gig(seeker);
    ASSERT_EQ(accept(world().person(), gig).status, 200);
  } while (!cursor.empty());
  EXPECT_EQ(found, rooms);
  const Answer now = world().get("/api/chat/rooms?limit=3", seeker.token);
  EXPECT_EQ(now.string_at("/rooms/1/id"), rooms[0]);
  EXPECT_EQ(now.string_at("/rooms/2/id"), rooms[11]);
  // A cursor is its owner's.
  EXPECT_EQ(world().get("/api/chat/rooms?cursor=" + now.string_at("/next_cursor"), helpers[0].token).code(),
            "invalid_cursor");
}

TEST_F(Chat, ReadsKnowWhatTheClientHas) {
  const Pair one = pair();
  const Answer first = read(one.room, one.seeker);
  EXPECT_EQ(world().get(target(one.room), one.seeker.token, {{"if-none-match", first.header("ETag")}}).status, 304);
  ASSERT_EQ(say(one.room, one.helper, "News").status, 201);
  EXPECT_EQ(world().get(target(one.room), one.seeker.token, {{"if-none-match", first.header("ETag")}}).status, 200);
}

// --- what sockets use ------------------------------------------------------------------------------------------------

TEST_F(Chat, WhatAConnectionMissedIsTheNewestThatFits) {
  const Pair one = pair();
  db::Client& database = world().desk().database;
  const Uuid room = parse_uuid(one.room).value();
  const auto send = [&](const std::string& text) {
    return world().wait(chat::send(database, room, one.seeker.id, {Text<0, 4000>{text}, {}, {}}));
  };
  const auto missed = [&](std::optional<std::int64_t> after) {
    return world().wait(chat::read_missed(database.reads(), room, one.helper.id, after));
  };
  for (std::int64_t i = 2; i <= 60; ++i) EXPECT_EQ(send("Message").seq, i);
  chat::Missed some = missed(std::nullopt);
  EXPECT_EQ(some.messages.size(), 50U);
  EXPECT_EQ(some.messages.front().seq, 11);
  EXPECT_FALSE(some.complete);
  some = missed(40);
  EXPECT_EQ(some.messages.front().seq, 41);
  EXPECT_EQ(some.messages.size(), 20U);
  EXPECT_TRUE(some.complete);
  EXPECT_TRUE(missed(60).complete);
  EXPECT_EQ(missed(60).messages.size(), 0U);
  EXPECT_EQ(missed(60).last_seq, 60);
  EXPECT_TRUE(missed(1000).complete);
  EXPECT_EQ(missed(0).messages.size(), 60U);
  EXPECT_TRUE(missed(0).complete);

  world().sql(
      "INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, created_at) SELECT $1::uuid, n, "
      "gen_random_uuid(), $2::uuid, 'TEXT', 'Message', now() FROM generate_series(61, 1500) n",
      {one.room, to_string(one.seeker.id)});
  world().sql("UPDATE chat_rooms SET last_seq = 1500 WHERE id = $1::uuid", {one.room});
  some = missed(0);
  EXPECT_EQ(some.messages.size(), 1000U);
  EXPECT_EQ(some.messages.back().seq, 1500);
  EXPECT_FALSE(some.complete);
  EXPECT_TRUE(missed(500).complete);
  EXPECT_FALSE(missed(499).complete);
  std::string page;
  for (int i = 0; i < 4000; ++i) page += "ก";
  for (int i = 0; i < 100; ++i) send(page);
  some = missed(1000);
  EXPECT_LT(some.messages.size(), 60U);
  EXPECT_GT(some.messages.size(), 30U);
  EXPECT_EQ(some.messages.back().seq, 1600);
  EXPECT_FALSE(some.complete);
  EXPECT_THROW(world().wait(chat::read_missed(database.reads(), room, make_uuid(), 0)), Problem);

  const auto read = world().wait(chat::read_messages(database.reads(), {room, room, make_uuid()}, {3, 9999, 1}));
  ASSERT_EQ(read.size(), 1U);
  EXPECT_EQ(read[0].seq, 3);
  const auto marked = world().wait(chat::mark_read(database.reads(), room, one.helper.id, 7));
  EXPECT_TRUE(marked.moved);
  EXPECT_FALSE(world().wait(chat::mark_read(database.reads(), room, one.helper.id, 7)).moved);
}

TEST_F(Chat, SendersOverTheSocketsPathRaceAsWell) {
  const Pair one = pair();
  db::Client& database = world().desk().database;
  const Uuid room = parse_uuid(one.room).value(), client_id = make_uuid();
  std::vector<chat::Message> sent;
  for (int i = 0; i < 20; ++i) {
    boost::asio::co_spawn(world().io(),
                          chat::send(database, room, one.seeker.id, {Text<0, 4000>{"Raced"}, {}, client_id}),
                          [&](std::exception_ptr failure, chat::Message message) {
                            EXPECT_FALSE(failure);
                            sent.push_back(std::move(message));
                          });
  }
  ASSERT_TRUE(world().until([&] { return sent.size() == 20; }));
  for (const chat::Message& message : sent) {
    EXPECT_EQ(message.seq, 2);
    EXPECT_EQ(message.id, sent.front().id);
  }
}

/// The oldest page of a long room reads as few pages of the table as the newest, and so does a jump into the middle.
TEST_F(Chat, TheOldestPageOfALongRoomCostsWhatTheNewestDoes) {
  const Pair one = pair();
  world().sql(
      "INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, created_at) SELECT $1::uuid, n, "
      "gen_random_uuid(), $2::uuid, 'TEXT', 'Message ' || n, now() FROM generate_series(2, 100000) n",
      {one.room, to_string(one.seeker.id)});
  world().sql("UPDATE chat_rooms SET last_seq = 100000 WHERE id = $1::uuid", {one.room});
  world().sql("ANALYZE chat_messages");
  const auto buffers = [&](const std::string& condition, const std::string& order) {
    std::int64_t sum = 0;
    for (const auto& row : world().rows(
             "EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off) SELECT r.last_seq, m.* FROM chat_rooms r LEFT JOIN "
             "LATERAL (SELECT * FROM chat_messages WHERE room_id = '" +
             one.room + "' AND " + condition + " ORDER BY seq " + order + " LIMIT 50) m ON true WHERE r.id = '" +
             one.room + "'")) {
      const std::string line = row.at(0).value();
      const auto at = line.find("shared hit=");
      if (sum == 0 && at != std::string::npos) sum = std::stoll(line.substr(at + 11));
      EXPECT_EQ(line.find("Seq Scan on chat_messages"), std::string::npos) << line;
    }
    return sum;
  };
  const auto newest = buffers("seq < least(9223372036854775807, r.last_seq + 1)", "DESC");
  const auto middle = buffers("seq < least(50000, r.last_seq + 1)", "DESC");
  const auto oldest = buffers("seq < least(51, r.last_seq + 1)", "DESC");
  const auto first = buffers("seq > 0", "");
  EXPECT_GT(newest, 0);
  // Fifty rows, each on a page of its own at worst, and the way down the index: nothing of the 100,000.
  for (const auto cost : {newest, middle, oldest, first}) EXPECT_LE(cost, 60);
  EXPECT_EQ(seqs(page(one.room, one.helper, "?before_seq=51")), range(1, 50));
  EXPECT_EQ(seqs(page(one.room, one.helper, "?after_seq=49950")), range(49951, 50000));
}

}  // namespace
}  // namespace hourz::harness
