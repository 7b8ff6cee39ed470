// Blocks: silent and mutual, wherever two people could meet; and gone when they are taken back.
#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

class Blocks : public WorldTest {
 protected:
  static std::string path(const Person& other) { return "/api/users/" + to_string(other.id) + "/block"; }
  static void block(const Person& one, const Person& other) {
    const Answer answer = world().post(path(other), {}, one.token);
    ASSERT_EQ(answer.status, 204) << answer.text;
  }
  static void unblock(const Person& one, const Person& other) {
    ASSERT_EQ(world().del(path(other), one.token).status, 204);
  }
  static bool lists(const Answer& answer, const std::string& plural, const std::string& id) {
    EXPECT_EQ(answer.status, 200) << answer.text;
    for (const auto& one : answer.at("/" + plural).as_array()) {
      if (one.at("id").as_string() == id) return true;
    }
    return false;
  }
  static Answer get(const Person& who, const std::string& target) { return world().get(target, who.token); }
  static Person at_bangkok(const std::string& name) {
    const Person made = world().person(name);
    const json::object place{{"latitude", 13.75}, {"longitude", 100.5}};
    EXPECT_EQ(world().put("/api/users/location", place, made.token).status, 200);
    EXPECT_EQ(world().put("/api/users/availability", {{"is_available", true}}, made.token).status, 200);
    return made;
  }
};

TEST_F(Blocks, AreMadeAndTakenBackAgainAndAgain) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  for (int i = 0; i < 3; ++i) block(ann, ben);
  EXPECT_EQ(world().sql("SELECT count(*) FROM blocks WHERE blocker_id = $1::uuid", {to_string(ann.id)}), "1");
  EXPECT_EQ(get(ann, "/api/users/blocks").at("/blocks").as_array().size(), 1U);
  EXPECT_EQ(get(ann, "/api/users/blocks").string_at("/blocks/0/user/id"), to_string(ben.id));
  EXPECT_EQ(get(ben, "/api/users/blocks").at("/blocks").as_array().size(), 0U) << "nobody is told";
  // Whoever is blocked can block back, and cannot undo the other's.
  block(ben, ann);
  for (int i = 0; i < 2; ++i) unblock(ben, ann);
  EXPECT_EQ(get(ben, "/api/users/" + to_string(ann.id)).status, 404);
  for (int i = 0; i < 2; ++i) unblock(ann, ben);
  EXPECT_EQ(get(ben, "/api/users/" + to_string(ann.id)).status, 200);
  // Only what changed something is told to sockets.
  EXPECT_EQ(world().sql("SELECT count(*) FROM outbox WHERE kind = 'user.block'"), "4");

  EXPECT_EQ(world().post(path(ann), {}, ann.token).code(), "self_block");
  EXPECT_EQ(world().del(path(ann), ann.token).code(), "self_block");
  const std::string nobody = "/api/users/" + to_string(make_uuid()) + "/block";
  EXPECT_EQ(world().post(nobody, {}, ann.token).status, 404);
  EXPECT_EQ(world().del(nobody, ann.token).status, 404);
}

TEST_F(Blocks, AreListedInPages) {
  const Person ann = world().person("Ann");
  std::vector<std::string> made, met;
  for (int i = 0; i < 5; ++i) {
    const Person other = world().person();
    block(ann, other);
    made.insert(made.begin(), to_string(other.id));
  }
  std::string next = "/api/users/blocks?limit=2";
  for (int pages = 0; !next.empty() && pages < 9; ++pages) {
    const Answer page = get(ann, next);
    ASSERT_EQ(page.status, 200) << page.text;
    for (const auto& one : page.at("/blocks").as_array()) met.emplace_back(one.at("user").at("id").as_string());
    const auto& cursor = page.at("/next_cursor");
    next = cursor.is_null() ? "" : "/api/users/blocks?limit=2&cursor=" + std::string(cursor.as_string());
  }
  EXPECT_EQ(met, made);
}

TEST_F(Blocks, KeepTwoPeopleFromFindingEachOther) {
  const Person ann = at_bangkok("Ann"), ben = at_bangkok("Ben"), eve = at_bangkok("Eve");
  const std::string gig = world().post_gig(ann, {{"title", "Piano"}, {"latitude", 13.75}, {"longitude", 100.5}});
  const std::string near = "/api/users/nearby?latitude=13.75&longitude=100.5&include_total=true&limit=100";
  const std::vector<std::string> searches{
      "/api/gigs?limit=100&latitude=13.75&longitude=100.5",
      "/api/gigs?limit=100&latitude=13.75&longitude=100.5&min_budget=1",
      "/api/gigs?limit=100&latitude=13.75&longitude=100.5&q=piano",
      "/api/gigs?limit=100&latitude=13.75&longitude=100.5&sort=newest",
      "/api/gigs?limit=100&latitude=13.75&longitude=100.5&sort=budget",
      "/api/gigs?limit=100&min_latitude=13&min_longitude=100&max_latitude=14&max_longitude=101",
      "/api/gigs?limit=100&min_latitude=-80&min_longitude=-180&max_latitude=80&max_longitude=180&sort=budget"};
  const std::string map =
      "/api/gigs/map?min_latitude=13.7&min_longitude=100.4&max_latitude=13.8&max_longitude=100.6&zoom=18";
  const std::vector<std::string> maps{map, map + "&min_budget=1", map + "&category=moving"};
  world().wait(gigs::fold_cells(world().desk().database));
  const auto found = [&](const Person& who) {
    std::vector<bool> all;
    for (const auto& search : searches) all.push_back(lists(get(who, search + "&include_total=true"), "gigs", gig));
    all.push_back(lists(get(who, map), "gigs", gig));
    all.push_back(lists(get(who, map + "&min_budget=1"), "gigs", gig));
    all.push_back(lists(get(who, near), "users", to_string(ann.id)));
    all.push_back(get(who, "/api/users/" + to_string(ann.id)).status == 200);
    all.push_back(get(who, "/api/reviews/user/" + to_string(ann.id)).status == 200);
    all.push_back(get(who, "/api/users/" + to_string(ann.id) + "/reputation").status == 200);
    all.push_back(get(who, "/api/gigs/" + gig).status == 200);
    return all;
  };
  const auto total = [&](const std::string& target) { return get(ben, target).number_at("/total_count"); };
  const double people = total(near), open = total(searches[0] + "&include_total=true");
  for (const auto& [blocker, blocked] : {std::pair{ann, ben}, std::pair{ben, ann}}) {
    EXPECT_EQ(found(ben), std::vector<bool>(searches.size() + 7, true));
    block(blocker, blocked);
    EXPECT_EQ(found(ben), std::vector<bool>(searches.size() + 7, false)) << to_string(blocker.id);
    EXPECT_EQ(total(near), people - 1);
    EXPECT_EQ(total(searches[0] + "&include_total=true"), open - 1);
    // No mark at its place either: a single gig's cell would give it away.
    const Answer marks = get(ben, map);
    EXPECT_EQ(marks.at("/clusters").as_array().size(), 0U) << marks.text;
    EXPECT_FALSE(lists(get(ann, near), "users", to_string(ben.id)));
    // Others find what they found before.
    EXPECT_EQ(found(eve), std::vector<bool>(searches.size() + 7, true));
    unblock(blocker, blocked);
  }
}

TEST_F(Blocks, ABlockedPersonsGigIsNotThereWhateverIsTried) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = world().post_gig(ann), target = "/api/gigs/" + gig;
  block(ann, ben);
  const auto bare = [](Answer answer) {
    json::object problem = answer.body.as_object();
    for (const char* member : {"request_id", "instance"}) problem.erase(member);
    return problem;
  };
  const std::string nothing = "/api/gigs/" + to_string(make_uuid());
  const std::vector<std::pair<http::Method, std::pair<std::string, std::string>>> tries{
      {http::Method::get, {"", ""}},
      {http::Method::post, {"/accept", ""}},
      {http::Method::post, {"/withdraw", ""}},
      {http::Method::put, {"", R"({"title":"Mine now"})"}},
      {http::Method::put, {"/status", R"({"status":"ACCEPTED"})"}},
      {http::Method::del, {"", ""}},
      {http::Method::get, {"/events", ""}}};
  for (const auto& [method, rest] : tries) {
    const Answer there = world().send({method, target + rest.first, rest.second, ben.token});
    const Answer absent = world().send({method, nothing + rest.first, rest.second, ben.token});
    EXPECT_EQ(there.status, 404) << rest.first;
    EXPECT_EQ(bare(there), bare(absent)) << rest.first;
  }
  EXPECT_EQ(get(ann, target).string_at("/status"), "PENDING");
}

TEST_F(Blocks, AGigThatTheTwoHaveGoesOnWithoutWords) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = world().post_gig(ann), target = "/api/gigs/" + gig;
  ASSERT_EQ(world().post(target + "/accept", {}, ben.token).status, 200);
  const std::string room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  const std::string said = "/api/chat/rooms/" + room + "/messages";
  const json::object hello{{"content", "Hello"}, {"client_id", to_string(make_uuid())}};
  const Answer first = world().post(said, hello, ben.token);
  ASSERT_EQ(first.status, 201);
  block(ann, ben);
  for (const Person& one : {ann, ben}) {
    EXPECT_EQ(world().post(said, {{"content", "Still there?"}}, one.token).code(), "room_closed");
    EXPECT_FALSE(get(one, "/api/chat/rooms/" + room).at("/is_active").as_bool());
    EXPECT_FALSE(get(one, "/api/chat/rooms").at("/rooms/0/is_active").as_bool());
    EXPECT_EQ(get(one, said).status, 200);
    EXPECT_EQ(get(one, target).status, 200) << "a side's own gig";
  }
  EXPECT_EQ(world().post(said, hello, ben.token).string_at("/id"), first.string_at("/id")) << "sent before";
  EXPECT_EQ(get(ben, "/api/users/" + to_string(ann.id)).status, 404);
  EXPECT_EQ(world().post("/api/transactions/escrow", {{"gig_id", gig}}, ann.token).status, 201);
  for (const char* status : {"IN_PROGRESS", "COMPLETED"}) {
    EXPECT_EQ(world().put(target + "/status", {{"status", status}}, ben.token).status, 200);
  }
  EXPECT_EQ(world().post("/api/reviews", {{"gig_id", gig}, {"rating", 1}}, ann.token).status, 201);
  EXPECT_EQ(world().post("/api/reviews", {{"gig_id", gig}, {"rating", 1}}, ben.token).status, 201);
  unblock(ann, ben);
  EXPECT_EQ(get(ben, "/api/users/" + to_string(ann.id)).status, 200);
}

TEST_F(Blocks, HideWhatIsSaidInReviewsButToTheTwoThatTheyAreBetween) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string gig = world().post_gig(ann), target = "/api/gigs/" + gig;
  ASSERT_EQ(world().post(target + "/accept", {}, ben.token).status, 200);
  for (const char* status : {"IN_PROGRESS", "COMPLETED"}) {
    ASSERT_EQ(world().put(target + "/status", {{"status", status}}, ben.token).status, 200);
  }
  const Answer of_ben = world().post("/api/reviews", {{"gig_id", gig}, {"rating", 4}}, ann.token);
  const Answer of_ann = world().post("/api/reviews", {{"gig_id", gig}, {"rating", 5}}, ben.token);
  ASSERT_EQ(of_ben.status + of_ann.status, 402);
  const std::string all = "/api/reviews/gig/" + gig + "?include_total=true";
  const std::string said_of_ben = "/api/reviews/user/" + to_string(ben.id);
  const auto one = [](const Answer& review) { return "/api/reviews/" + review.string_at("/id"); };
  const auto count = [](const Answer& list) { return list.at("/reviews").as_array().size(); };
  const auto expect_all = [&](const Person& who) {
    EXPECT_EQ(count(get(who, all)), 2U);
    EXPECT_EQ(get(who, all).number_at("/total_count"), 2);
    for (const Answer& review : {of_ben, of_ann}) EXPECT_EQ(get(who, one(review)).status, 200);
  };
  for (const auto& [blocker, blocked] : {std::pair{ann, eve}, std::pair{eve, ann}}) {
    expect_all(eve);
    EXPECT_EQ(count(get(eve, said_of_ben)), 1U);
    block(blocker, blocked);
    EXPECT_EQ(get(eve, target).status, 404);
    EXPECT_EQ(get(eve, all).status, 404);
    for (const Answer& review : {of_ben, of_ann}) {
      EXPECT_EQ(get(eve, one(review)).status, 404);
      EXPECT_EQ(world().put(one(review), {{"rating", 1}}, eve.token).status, 404);
    }
    EXPECT_EQ(count(get(eve, said_of_ben)), 0U);
    expect_all(ann);
    expect_all(ben);
    unblock(blocker, blocked);
  }
  // The helper's alone: the gig is there, and so is what is not about the two.
  block(ben, eve);
  EXPECT_EQ(count(get(eve, all)), 0U);
  EXPECT_EQ(get(eve, all).number_at("/total_count"), 0);
  EXPECT_EQ(get(eve, one(of_ben)).status, 404);
  unblock(ben, eve);
  // The two keep what they said of each other.
  block(ann, ben);
  for (const Person& side : {ann, ben}) expect_all(side);
}

TEST_F(Blocks, HideHowFarTheOtherReads) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = world().post_gig(ann);
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ben.token).status, 200);
  const std::string room =
      "/api/chat/rooms/" + world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  ASSERT_EQ(world().post(room + "/messages", {{"content", "Hello"}}, ann.token).status, 201);
  const auto markers = [&](const Answer& answer, const std::string& at) {
    std::vector<std::pair<double, bool>> all;
    for (const auto& side : answer.at(at + "/participants").as_array()) {
      all.emplace_back(side.at("last_read_seq").to_number<double>(), side.at("last_read_at").is_null());
    }
    return all;
  };
  const std::vector<std::pair<double, bool>> before{{2, false}, {0, true}}, after{{2, false}, {2, false}};
  EXPECT_EQ(markers(get(ann, room), ""), before);
  block(ben, ann);
  ASSERT_EQ(world().put(room + "/read", {{"seq", 2}}, ben.token).status, 200);
  EXPECT_EQ(markers(get(ann, room), ""), before);
  EXPECT_EQ(markers(get(ann, "/api/chat/rooms"), "/rooms/0"), before);
  const std::vector<std::pair<double, bool>> own{{0, true}, {2, false}};
  EXPECT_EQ(markers(get(ben, room), ""), own);
  EXPECT_EQ(get(ben, room).number_at("/unread_count"), 0);
  unblock(ben, ann);
  EXPECT_EQ(markers(get(ann, room), ""), after);
}

/// Z08: a cursor from before the block gives nothing of what came after it, in a search as in a room; what was said
/// before stays readable to both, as it does where a helper has withdrawn.
TEST_F(Blocks, AnOldCursorShowsNothingThatTheBlockHides) {
  const Person ann = at_bangkok("Ann"), ben = at_bangkok("Ben"), eve = at_bangkok("Eve");
  const auto post = [&](const Person& who) {
    return world().post_gig(who, {{"latitude", 13.75}, {"longitude", 100.5}});
  };
  std::vector<std::string> hidden;
  for (int i = 0; i < 4; ++i) hidden.push_back(post(ann)), post(eve);
  for (const std::string& search : {std::string("/api/gigs?latitude=13.75&longitude=100.5"),
                                    std::string("/api/gigs?latitude=13.75&longitude=100.5&sort=newest"),
                                    std::string("/api/gigs?latitude=13.75&longitude=100.5&sort=budget")}) {
    const Answer first = get(ben, search + "&limit=1");
    ASSERT_EQ(first.status, 200) << first.text;
    const std::string cursor = first.string_at("/next_cursor");
    block(ann, ben);
    const Answer rest = get(ben, search + "&limit=100&cursor=" + cursor);
    ASSERT_EQ(rest.status, 200) << rest.text;
    EXPECT_FALSE(rest.at("/gigs").as_array().empty());
    for (const std::string& gig : hidden) EXPECT_FALSE(lists(rest, "gigs", gig)) << search;
    unblock(ann, ben);
  }
  ASSERT_EQ(world().post("/api/gigs/" + hidden[0] + "/accept", {}, ben.token).status, 200);
  const std::string room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {hidden[0]});
  const std::string said = "/api/chat/rooms/" + room + "/messages";
  for (int i = 0; i < 5; ++i) ASSERT_EQ(world().post(said, {{"content", "before"}}, ann.token).status, 201);
  const Answer page = get(ben, said + "?limit=2&after_seq=1");
  ASSERT_EQ(page.status, 200) << page.text;
  block(ann, ben);
  EXPECT_EQ(world().post(said, {{"content", "after"}}, ann.token).code(), "room_closed");
  const Answer later = get(ben, said + "?limit=100&after_seq=3");
  ASSERT_EQ(later.status, 200) << later.text;
  EXPECT_EQ(later.text.find(R"("content":"after")"), std::string::npos) << later.text;
  EXPECT_EQ(get(eve, said + "?limit=100&after_seq=3").status, 404);
}

TEST_F(Blocks, TakenBackTheRoomIsOpenAgain) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = world().post_gig(ann);
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ben.token).status, 200);
  const std::string room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  block(ben, ann);
  unblock(ben, ann);
  EXPECT_TRUE(get(ann, "/api/chat/rooms/" + room).at("/is_active").as_bool());
  EXPECT_EQ(world().post("/api/chat/rooms/" + room + "/messages", {{"content", "Hello"}}, ann.token).status, 201);
}

/// Z08.
TEST_F(Blocks, AMessageAfterTheAnswerIsRefusedWhateverRaces) {
  for (int round = 0; round < 20; ++round) {
    const Person ann = world().person("Ann"), ben = world().person("Ben");
    const std::string gig = world().post_gig(ann);
    ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ben.token).status, 200);
    const std::string room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
    std::vector<Ask> asks;
    for (int i = 0; i < 8; ++i) {
      if (i == 4) asks.push_back({http::Method::post, path(ben), {}, ann.token});
      asks.push_back({http::Method::post, "/api/chat/rooms/" + room + "/messages", R"({"content":"x"})", ben.token});
    }
    for (const Answer& answer : world().send_all(asks)) {
      EXPECT_TRUE(answer.status == 201 || answer.status == 204 || answer.code() == "room_closed") << answer.text;
    }
    const std::string count = world().sql("SELECT count(*) FROM chat_messages WHERE room_id = $1::uuid", {room});
    EXPECT_EQ(world().post("/api/chat/rooms/" + room + "/messages", {{"content", "late"}}, ben.token).status, 409);
    EXPECT_EQ(world().sql("SELECT count(*) FROM chat_messages WHERE room_id = $1::uuid", {room}), count);
  }
}

}  // namespace
}  // namespace hourz::harness
