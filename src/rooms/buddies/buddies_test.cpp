// Buddies: adding once, privacy, notes, order by time and by distance, blocks and suspensions, races, what was done
// together.
#include "rooms/buddies/buddies.hpp"

#include <algorithm>
#include <set>

#include "harness/harness.hpp"
#include "rooms/gigs/gigs.hpp"

namespace hourz::harness {
namespace {

using http::Method;

class Buddies : public WorldTest {
 protected:
  static Answer add(const Person& who, const Person& whom, const json::object& more = {}) {
    json::object body{{"buddy_id", to_string(whom.id)}};
    for (const auto& pair : more) body[pair.key()] = pair.value();
    return world().post("/api/buddies", body, who.token);
  }
  static std::string path(const Person& whom) { return "/api/buddies/" + to_string(whom.id); }
  static void place(const Person& who, double latitude, double longitude) {
    const Sent body{{"latitude", latitude}, {"longitude", longitude}};
    ASSERT_EQ(world().put("/api/users/location", body, who.token).status, 200);
  }
  static void available(const Person& who, bool on) {
    ASSERT_EQ(world().put("/api/users/availability", {{"is_available", on}}, who.token).status, 200);
  }
  /// Switched on, at exactly this point for everybody.
  static Person helper_at(const std::string& latitude, const std::string& longitude) {
    const Person one = world().person("Helper");
    world().sql(
        "UPDATE users SET is_available = true, fixed_location = ST_MakePoint($2::float8, $1::float8)::geography, "
        "public_location = ST_MakePoint($2::float8, $1::float8)::geography WHERE id = $3::uuid",
        {latitude, longitude, to_string(one.id)});
    return one;
  }
  static void block(const Person& who, const Person& whom) {
    world().sql("INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1::uuid, $2::uuid)",
                {to_string(who.id), to_string(whom.id)});
  }
  static void unblock(const Person& who, const Person& whom) {
    world().sql("DELETE FROM blocks WHERE blocker_id = $1::uuid AND blocked_id = $2::uuid",
                {to_string(who.id), to_string(whom.id)});
  }
  static std::vector<std::string> ids(const Answer& answer) {
    std::vector<std::string> all;
    for (const auto& buddy : answer.at("/buddies").as_array()) all.emplace_back(buddy.at("buddy_id").as_string());
    return all;
  }
  static std::vector<std::string> ids_of(const std::vector<Person>& people) {
    std::vector<std::string> all;
    for (const Person& one : people) all.push_back(to_string(one.id));
    return all;
  }
  /// Every page of a list, joined.
  static std::vector<std::string> walk(const Person& who, const std::string& target, int limit) {
    std::vector<std::string> all;
    std::string cursor;
    do {
      const Answer page = world().get(
          target + "?limit=" + std::to_string(limit) + (cursor.empty() ? "" : "&cursor=" + cursor), who.token);
      EXPECT_EQ(page.status, 200) << page.text;
      if (page.status != 200) break;
      for (std::string& id : ids(page)) all.push_back(std::move(id));
      cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
    } while (!cursor.empty() && all.size() < 2000);
    return all;
  }
  static void complete(const Person& seeker, const Person& helper) {
    const std::string gig = "/api/gigs/" + world().post_gig(seeker);
    ASSERT_EQ(world().post(gig + "/accept", {}, helper.token).status, 200);
    for (const char* status : {"IN_PROGRESS", "COMPLETED"}) {
      ASSERT_EQ(world().put(gig + "/status", {{"status", status}}, seeker.token).status, 200);
    }
  }
};

// --- one buddy -------------------------------------------------------------------------------------------------------

TEST_F(Buddies, AddingAnswersWithTheBuddyAndItsPlace) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const Answer made = add(ann, ben, {{"notes", "  Has a ladder. "}});
  ASSERT_EQ(made.status, 201) << made.text;
  EXPECT_EQ(made.header("Location"), path(ben));
  EXPECT_EQ(made.string_at("/buddy_id"), to_string(ben.id));
  EXPECT_EQ(made.string_at("/buddy/id"), to_string(ben.id));
  EXPECT_EQ(made.string_at("/buddy/name"), "Ben");
  EXPECT_EQ(made.string_at("/notes"), "Has a ladder.");
  EXPECT_EQ(made.at("/gigs_together"), 0);
  EXPECT_NE(made.string_at("/created_at"), made.string_at("/buddy/created_at"));
  const json::object& buddy = made.at("/buddy").as_object();
  for (const char* hidden : {"email", "contact_info", "distance_km", "latitude"}) EXPECT_FALSE(buddy.contains(hidden));
  EXPECT_EQ(world().get(path(ben), ann.token).text, made.text);
  EXPECT_EQ(world().get(path(ben) + "/", ann.token).header("ETag"), made.header("ETag"));
  EXPECT_EQ(ids(world().get("/api/buddies", ann.token)), ids_of({ben}));
}

TEST_F(Buddies, RefusalsSayWhy) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), gone = world().person("Gone");
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(gone.id)});
  Answer answer = add(ann, ann);
  EXPECT_EQ(answer.status, 422);
  EXPECT_EQ(answer.code(), "self_buddy");
  ASSERT_EQ(add(ann, ben).status, 201);
  answer = add(ann, ben, {{"notes", "again"}});
  EXPECT_EQ(answer.status, 409);
  EXPECT_EQ(answer.code(), "already_buddies");
  EXPECT_TRUE(world().get(path(ben), ann.token).at("/notes").is_null());
  EXPECT_EQ(add(ann, gone).code(), "not_found");
  EXPECT_EQ(world().post("/api/buddies", {{"buddy_id", to_string(make_uuid())}}, ann.token).code(), "not_found");
  EXPECT_EQ(world().get("/api/buddies", ann.token).at("/buddies").as_array().size(), 1U);
}

TEST_F(Buddies, EveryFaultAtOnce) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  using Faults = std::vector<std::string>;
  const auto faults = [&](const char* body) { return world().post("/api/buddies", body, ann.token).faults(); };
  EXPECT_EQ(faults("{}"), Faults{"buddy_id:required"});
  const Answer many = world().post(
      "/api/buddies", json::object{{"buddy_id", "x"}, {"notes", std::string(501, 'n')}, {"owner_id", "y"}}, ann.token);
  EXPECT_EQ(many.faults(), (Faults{"buddy_id:not_a_uuid", "notes:too_long", "owner_id:unknown_field"}));
  EXPECT_EQ(faults(R"({"buddy_id":null,"notes":5})"), (Faults{"buddy_id:wrong_type", "notes:wrong_type"}));
  ASSERT_EQ(add(ann, ben, {{"notes", std::string(500, 'n')}}).status, 201);
  const auto changed = [&](const Sent& body) { return world().put(path(ben), body, ann.token).faults(); };
  EXPECT_EQ(changed(R"({"notes":"","created_at":"x"})"), (Faults{"created_at:unknown_field", "notes:empty"}));
  EXPECT_EQ(changed(json::object{{"notes", std::string(501, 'n')}}), Faults{"notes:too_long"});
  EXPECT_EQ(world().get("/api/buddies/not-an-id", ann.token).faults(), Faults{"buddy_id:not_a_uuid"});
  for (const char* list : {"/api/buddies", "/api/buddies/available"}) {
    const Answer wrong = world().get(std::string(list) + "?limit=101&include_total=maybe&x=1", ann.token);
    EXPECT_EQ(wrong.status, 422);
    EXPECT_EQ(wrong.faults().size(), 3U) << wrong.text;
    EXPECT_EQ(world().get(std::string(list) + "?cursor=x", ann.token).code(), "invalid_cursor");
  }
  EXPECT_EQ(world().get(path(ben), ann.token).string_at("/notes"), std::string(500, 'n'));
}

TEST_F(Buddies, NotesChangeAndNullClears) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  ASSERT_EQ(add(ann, ben, {{"notes", "one"}}).status, 201);
  EXPECT_EQ(world().put(path(ben), R"({"notes":"สอง"})", ann.token).string_at("/notes"), "สอง");
  EXPECT_EQ(world().put(path(ben), "{}", ann.token).string_at("/notes"), "สอง");
  Ask patch{Method::patch, path(ben), R"({"notes":null})"};
  patch.token = ann.token;
  const Answer cleared = world().send(patch);
  EXPECT_EQ(cleared.status, 200);
  EXPECT_TRUE(cleared.at("/notes").is_null());
  EXPECT_EQ(world().get(path(ben), ann.token).text, cleared.text);
}

TEST_F(Buddies, TagsTellWhatHasChanged) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string first = add(ann, ben).header("ETag");
  ASSERT_FALSE(first.empty());
  EXPECT_EQ(world().get(path(ben), ann.token, {{"if-none-match", first}}).status, 304);
  const Answer changed = world().put(path(ben), R"({"notes":"a"})", ann.token, {{"if-match", first}});
  EXPECT_EQ(changed.status, 200);
  EXPECT_EQ(world().put(path(ben), R"({"notes":"b"})", ann.token, {{"if-match", first}}).code(), "precondition_failed");
  EXPECT_EQ(world().del(path(ben), ann.token, {{"if-match", first}}).status, 412);
  EXPECT_EQ(world().get(path(ben), ann.token).string_at("/notes"), "a");
  EXPECT_EQ(world().get(path(ben), ann.token, {{"if-none-match", first}}).status, 200);
  EXPECT_EQ(world().del(path(ben), ann.token, {{"if-match", changed.header("ETag")}}).status, 204);
}

TEST_F(Buddies, RemovingIsForGoodAndAddingAgainBeginsAnew) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  ASSERT_EQ(add(ann, ben, {{"notes", "old"}}).status, 201);
  const Answer gone = world().del(path(ben), ann.token);
  EXPECT_EQ(gone.status, 204);
  EXPECT_TRUE(gone.text.empty());
  EXPECT_EQ(world().del(path(ben), ann.token).status, 404);
  EXPECT_EQ(world().get(path(ben), ann.token).status, 404);
  EXPECT_EQ(world().put(path(ben), "{}", ann.token).status, 404);
  EXPECT_TRUE(world().get("/api/buddies", ann.token).at("/buddies").as_array().empty());
  const Answer again = add(ann, ben);
  EXPECT_EQ(again.status, 201);
  EXPECT_TRUE(again.at("/notes").is_null());
}

TEST_F(Buddies, NobodySeesWhoseBuddyTheyAre) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string before = world().get("/api/users/me", ben.token).text;
  ASSERT_EQ(add(ann, ben, {{"notes", "secret"}}).status, 201);
  for (const Person* other : {&ben, &eve}) {
    for (const Person* whom : {&ann, &ben}) {
      EXPECT_EQ(world().get(path(*whom), other->token).status, 404);
      EXPECT_EQ(world().put(path(*whom), R"({"notes":"x"})", other->token).status, 404);
      EXPECT_EQ(world().del(path(*whom), other->token).status, 404);
    }
    for (const char* list : {"/api/buddies?include_total=true", "/api/buddies/available?include_total=true"}) {
      const Answer answer = world().get(list, other->token);
      EXPECT_TRUE(answer.at("/buddies").as_array().empty());
      EXPECT_EQ(answer.at("/total_count"), 0);
    }
  }
  EXPECT_EQ(world().get("/api/users/me", ben.token).text, before);
  EXPECT_EQ(world().get(path(ben), ann.token).string_at("/notes"), "secret");
  ASSERT_EQ(add(ben, ann, {{"notes", "mine"}}).status, 201);  // each has a list of their own
  EXPECT_EQ(world().get(path(ben), ann.token).string_at("/notes"), "secret");
}

TEST_F(Buddies, AKeyMakesARetrySafe) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const Sent body{{"buddy_id", to_string(ben.id)}, {"notes", "n"}};
  const Answer first = world().post("/api/buddies", body, ann.token, {{"idempotency-key", "buddy-1"}});
  const Answer second = world().post("/api/buddies", body, ann.token, {{"idempotency-key", "buddy-1"}});
  EXPECT_EQ(first.status, 201);
  EXPECT_EQ(second.status, 201);
  EXPECT_EQ(second.text, first.text);
  EXPECT_EQ(second.header("Idempotency-Replayed"), "true");
  for (int i = 0; i < 2; ++i) {
    const Answer refused = world().post("/api/buddies", body, ann.token, {{"idempotency-key", "buddy-2"}});
    EXPECT_EQ(refused.code(), "already_buddies");
  }
  const Sent other{{"buddy_id", to_string(make_uuid())}};
  EXPECT_EQ(world().post("/api/buddies", other, ann.token, {{"idempotency-key", "buddy-1"}}).code(),
            "idempotency_key_reused");
}

// --- lists -----------------------------------------------------------------------------------------------------------

TEST_F(Buddies, PagesNeitherRepeatNorSkipWhileBuddiesAreAdded) {
  const Person ann = world().person("Ann");
  std::vector<std::string> there;
  for (int i = 0; i < 23; ++i) {
    const Person one = world().person();
    ASSERT_EQ(add(ann, one).status, 201);
    there.insert(there.begin(), to_string(one.id));
  }
  for (const int limit : {1, 7, 23, 100}) EXPECT_EQ(walk(ann, "/api/buddies", limit), there) << limit;
  // All at one moment: the id decides.
  world().sql("UPDATE buddies SET created_at = '2026-01-01' WHERE owner_id = $1::uuid", {to_string(ann.id)});
  std::vector<std::string> by_id = there;
  std::sort(by_id.rbegin(), by_id.rend());
  EXPECT_EQ(walk(ann, "/api/buddies", 4), by_id);

  std::vector<std::string> seen;
  std::string cursor;
  do {
    const Answer page = world().get("/api/buddies?limit=5" + (cursor.empty() ? "" : "&cursor=" + cursor), ann.token);
    for (std::string& id : ids(page)) seen.push_back(std::move(id));
    cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
    ASSERT_EQ(add(ann, world().person()).status, 201);
  } while (!cursor.empty());
  EXPECT_EQ(seen, by_id);
  const Answer first = world().get("/api/buddies?limit=1&include_total=true", ann.token);
  EXPECT_EQ(first.at("/total_count"), 28);
  EXPECT_FALSE(world().get("/api/buddies?limit=1", ann.token).body.as_object().contains("total_count"));
}

TEST_F(Buddies, TheAvailableAreNearestFirst) {
  const Person ann = helper_at("13.75", "100.5");
  std::vector<Person> near;
  for (const char* latitude : {"13.751", "13.76", "13.80", "14.5", "-33"}) near.push_back(helper_at(latitude, "100.5"));
  const Person off = helper_at("13.7501", "100.5"), nowhere = world().person("Nowhere"),
               gone = helper_at("13.7502", "100.5"), stranger = helper_at("13.7503", "100.5");
  available(off, false);
  for (const int i : {3, 0, 4, 2, 1}) ASSERT_EQ(add(ann, near[static_cast<std::size_t>(i)]).status, 201);
  for (const Person* one : {&off, &nowhere, &gone}) ASSERT_EQ(add(ann, *one).status, 201);
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(gone.id)});

  const Answer answer = world().get("/api/buddies/available?include_total=true", ann.token);
  EXPECT_EQ(ids(answer), ids_of(near));
  EXPECT_EQ(answer.at("/total_count"), 5);
  EXPECT_NEAR(answer.number_at("/buddies/0/buddy/distance_km"), 0.111, 0.001);
  EXPECT_NEAR(answer.number_at("/buddies/3/buddy/distance_km"), 82.98, 0.1);
  for (const int limit : {1, 2, 5}) EXPECT_EQ(walk(ann, "/api/buddies/available", limit), ids_of(near)) << limit;
  // The full list knows distances too, of whoever has a place.
  const Answer one = world().get(path(near[0]), ann.token);
  EXPECT_EQ(one.at("/buddy/distance_km"), answer.at("/buddies/0/buddy/distance_km"));
  EXPECT_TRUE(world().get(path(off), ann.token).at("/buddy").as_object().contains("distance_km"));
  EXPECT_FALSE(world().get(path(nowhere), ann.token).at("/buddy").as_object().contains("distance_km"));
}

TEST_F(Buddies, DistancesAreToThePublicPoint) {
  const Person ann = helper_at("13.75", "100.5"), ben = world().person("Ben");
  place(ben, 13.7563, 100.5018);
  available(ben, true);
  ASSERT_EQ(add(ann, ben).status, 201);
  const double km = world().get("/api/buddies/available", ann.token).number_at("/buddies/0/buddy/distance_km");
  const std::string shown = world().sql(
      "SELECT round(ST_Distance(public_location, ST_MakePoint(100.5, 13.75)::geography)) / 1000 FROM users WHERE id = "
      "$1::uuid",
      {to_string(ben.id)});
  EXPECT_NEAR(km, std::stod(shown), 1e-9);
  const Answer near = world().get("/api/users/nearby?latitude=13.75&longitude=100.5&radius_km=1&limit=100", ann.token);
  for (const auto& user : near.at("/users").as_array()) {
    if (user.at("id").as_string() == to_string(ben.id)) EXPECT_EQ(user.at("distance_km").to_number<double>(), km);
  }
}

TEST_F(Buddies, WithoutAPlaceTheAvailableAreNewestFirst) {
  const Person ann = world().person("Ann");
  std::vector<std::string> newest;
  for (int i = 0; i < 7; ++i) {
    const Person one = helper_at(std::to_string(20 - i), "100");
    ASSERT_EQ(add(ann, one).status, 201);
    newest.insert(newest.begin(), to_string(one.id));
  }
  const Answer answer = world().get("/api/buddies/available", ann.token);
  EXPECT_EQ(ids(answer), newest);
  EXPECT_FALSE(answer.at("/buddies/0/buddy").as_object().contains("distance_km"));
  for (const int limit : {1, 3}) EXPECT_EQ(walk(ann, "/api/buddies/available", limit), newest);
}

TEST_F(Buddies, ACursorKeepsWhereItBegan) {
  const Person ann = helper_at("10", "100");
  std::vector<Person> near;
  for (const char* latitude : {"10.1", "10.2", "10.3"}) near.push_back(helper_at(latitude, "100"));
  for (const Person& one : near) ASSERT_EQ(add(ann, one).status, 201);
  const Answer first = world().get("/api/buddies/available?limit=1", ann.token);
  EXPECT_EQ(ids(first), ids_of({near[0]}));
  place(ann, 10.31, 100);
  const std::string cursor = first.string_at("/next_cursor");
  EXPECT_EQ(ids(world().get("/api/buddies/available?cursor=" + cursor, ann.token)), ids_of({near[1], near[2]}));
  EXPECT_EQ(ids(world().get("/api/buddies/available", ann.token)), ids_of({near[2], near[1], near[0]}));
  // A cursor is its list's and its caller's.
  EXPECT_EQ(world().get("/api/buddies?cursor=" + cursor, ann.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get("/api/buddies/available?cursor=" + cursor, near[0].token).code(), "invalid_cursor");
  const std::string newest = world().get("/api/buddies?limit=1", ann.token).string_at("/next_cursor");
  EXPECT_EQ(world().get("/api/buddies/available?cursor=" + newest, ann.token).code(), "invalid_cursor");
}

// --- who is not there ------------------------------------------------------------------------------------------------

TEST_F(Buddies, TheBlockedNeitherAppearNorCanBeAdded) {
  const Person ann = helper_at("15", "100"), ben = helper_at("15.1", "100"), eve = helper_at("15.2", "100");
  ASSERT_EQ(add(ann, ben).status, 201);
  ASSERT_EQ(add(ann, eve).status, 201);
  for (const bool by_ann : {true, false}) {
    const Person& blocker = by_ann ? ann : ben;
    const Person& blocked = by_ann ? ben : ann;
    block(blocker, blocked);
    EXPECT_EQ(ids(world().get("/api/buddies?include_total=true", ann.token)), ids_of({eve}));
    EXPECT_EQ(world().get("/api/buddies?include_total=true", ann.token).at("/total_count"), 1);
    EXPECT_EQ(ids(world().get("/api/buddies/available", ann.token)), ids_of({eve}));
    EXPECT_EQ(world().get(path(ben), ann.token).status, 404);
    EXPECT_EQ(world().put(path(ben), "{}", ann.token).status, 404);
    EXPECT_EQ(world().del(path(ben), ann.token).status, 404);
    const auto shape = [](const Answer& answer) {
      json::object body = answer.body.as_object();
      body.erase("request_id");
      body.erase("instance");
      return json::serialize(body);
    };
    // One who blocked the caller looks as one who is not there, and so in both directions.
    const Sent nobody{{"buddy_id", to_string(make_uuid())}};
    EXPECT_EQ(shape(add(ann, ben)), shape(world().post("/api/buddies", nobody, ann.token)));
    EXPECT_EQ(add(ben, ann).status, 404);
    unblock(blocker, blocked);
    EXPECT_EQ(ids(world().get("/api/buddies", ann.token)), ids_of({eve, ben}));
  }
  EXPECT_EQ(add(ann, ben).code(), "already_buddies");
}

TEST_F(Buddies, BlockedAmongCountsBothDirectionsOnceEach) {
  const Person ann = world().person(), ben = world().person(), eve = world().person(), kim = world().person();
  block(ann, ben);
  block(ben, ann);
  block(eve, ann);
  block(kim, eve);
  const auto among = [&](const Person& who, std::vector<Uuid> others) {
    auto found = world().wait(users::blocked_among(world().desk().database.reads(), who.id, std::move(others)));
    std::sort(found.begin(), found.end());
    return found;
  };
  std::vector<Uuid> both{ben.id, eve.id};
  std::sort(both.begin(), both.end());
  EXPECT_EQ(among(ann, {ben.id, eve.id, kim.id, make_uuid()}), both);
  EXPECT_EQ(among(ann, {kim.id}), std::vector<Uuid>{});
  EXPECT_EQ(among(ann, {}), std::vector<Uuid>{});
  EXPECT_EQ(among(eve, {ann.id, ben.id}), std::vector<Uuid>{ann.id});
}

TEST_F(Buddies, TheSuspendedAreAwayUntilTheyAreBack) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  ASSERT_EQ(add(ann, ben, {{"notes", "kept"}}).status, 201);
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(ben.id)});
  EXPECT_EQ(world().get(path(ben), ann.token).status, 404);
  EXPECT_TRUE(world().get("/api/buddies", ann.token).at("/buddies").as_array().empty());
  world().sql("UPDATE users SET suspended_at = NULL WHERE id = $1::uuid", {to_string(ben.id)});
  EXPECT_EQ(world().get(path(ben), ann.token).string_at("/notes"), "kept");
}

// --- together --------------------------------------------------------------------------------------------------------

TEST_F(Buddies, GigsTogetherAreTheCompletedOnesOfBothSides) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve"),
               kim = world().person("Kim");
  for (const Person* one : {&ben, &eve, &kim}) ASSERT_EQ(add(ann, *one).status, 201);
  complete(ann, ben);
  complete(ann, ben);
  complete(ben, ann);
  complete(eve, ann);
  complete(ben, eve);  // not with Ann
  const std::string open = world().post_gig(ann), dropped = world().post_gig(kim);
  ASSERT_EQ(world().post("/api/gigs/" + open + "/accept", {}, kim.token).status, 200);
  ASSERT_EQ(world().post("/api/gigs/" + dropped + "/accept", {}, ann.token).status, 200);
  ASSERT_EQ(world().del("/api/gigs/" + dropped, kim.token).status, 204);
  const Answer list = world().get("/api/buddies", ann.token);
  EXPECT_EQ(ids(list), ids_of({kim, eve, ben}));
  EXPECT_EQ(list.at("/buddies/0/gigs_together"), 0);
  EXPECT_EQ(list.at("/buddies/1/gigs_together"), 1);
  EXPECT_EQ(list.at("/buddies/2/gigs_together"), 3);
  EXPECT_EQ(world().get(path(ben), ann.token).at("/gigs_together"), 3);
  EXPECT_EQ(add(ben, ann).at("/gigs_together"), 3);
  const auto counted = world().wait(
      gigs::completed_together(world().desk().database.reads(), ann.id, {ben.id, make_uuid(), eve.id, ben.id}));
  EXPECT_EQ(counted, (std::vector<std::int64_t>{3, 0, 1, 3}));
}

// --- races and bounds ------------------------------------------------------------------------------------------------

TEST_F(Buddies, OfManyAdditionsAtOnceOneWins) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const Sent body{{"buddy_id", to_string(ben.id)}};
  std::vector<Ask> asks(40, Ask{Method::post, "/api/buddies", body, ann.token});
  int made = 0, refused = 0;
  for (const Answer& answer : world().send_all(std::move(asks))) {
    if (answer.status == 201) ++made;
    if (answer.status == 409 && answer.code() == "already_buddies") ++refused;
  }
  EXPECT_EQ(made, 1);
  EXPECT_EQ(refused, 39);
}

TEST_F(Buddies, TwoWhoAddEachOtherBothSucceed) {
  for (int round = 0; round < 10; ++round) {
    const Person ann = world().person("Ann"), ben = world().person("Ben");
    const Sent one{{"buddy_id", to_string(ben.id)}}, other{{"buddy_id", to_string(ann.id)}};
    for (const Answer& answer : world().send_all(
             {{Method::post, "/api/buddies", one, ann.token}, {Method::post, "/api/buddies", other, ben.token}})) {
      EXPECT_EQ(answer.status, 201) << answer.text;
    }
  }
}

TEST_F(Buddies, NobodyHasMoreThanTheMost) {
  const Person ann = world().person("Ann");
  const std::string missing = "20";
  world().sql(
      "WITH u AS (INSERT INTO users (id, email, password_hash) SELECT gen_random_uuid(), $2 || n || '@example.com', "
      "'x' "
      "FROM generate_series(1, $3::int - $4::int) n RETURNING id) "
      "INSERT INTO buddies (owner_id, buddy_id) SELECT $1::uuid, id FROM u",
      {to_string(ann.id), "crowd" + to_string(ann.id), std::to_string(buddies::most_buddies), missing});
  std::vector<Ask> asks;
  for (int i = 0; i < 60; ++i) {
    asks.push_back({Method::post, "/api/buddies", {{"buddy_id", to_string(world().person().id)}}, ann.token});
  }
  int made = 0, refused = 0;
  for (const Answer& answer : world().send_all(asks)) {
    if (answer.status == 201) ++made;
    if (answer.status == 409 && answer.code() == "too_many_buddies") ++refused;
  }
  EXPECT_EQ(made, 20);
  EXPECT_EQ(refused, 40);
  EXPECT_EQ(walk(ann, "/api/buddies", 100).size(), static_cast<std::size_t>(buddies::most_buddies));
  EXPECT_EQ(world().get("/api/buddies?limit=1&include_total=true", ann.token).at("/total_count"),
            buddies::most_buddies);
  // Who is there already is told so, and who is not there is not, however full the list is.
  EXPECT_EQ(world().post("/api/buddies", {{"buddy_id", to_string(make_uuid())}}, ann.token).status, 404);
  const std::string one = ids(world().get("/api/buddies?limit=1", ann.token)).at(0);
  EXPECT_EQ(world().post("/api/buddies", {{"buddy_id", one}}, ann.token).code(), "already_buddies");
  ASSERT_EQ(world().del("/api/buddies/" + one, ann.token).status, 204);
  EXPECT_EQ(world().post("/api/buddies", {{"buddy_id", one}}, ann.token).status, 201);
}

TEST_F(Buddies, ChangesAndRemovalsAtOnceLeaveOneOutcome) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(add(ann, ben).status, 201);
    std::vector<Ask> asks;
    for (int i = 0; i < 10; ++i) {
      asks.push_back({Method::put, path(ben), {{"notes", std::to_string(i)}}, ann.token});
      asks.push_back({Method::del, path(ben), {}, ann.token});
    }
    int removed = 0;
    for (const Answer& answer : world().send_all(std::move(asks))) {
      EXPECT_TRUE(answer.status == 200 || answer.status == 204 || answer.status == 404) << answer.text;
      if (answer.status == 204) ++removed;
    }
    EXPECT_EQ(removed, 1);
    EXPECT_EQ(world().get(path(ben), ann.token).status, 404);
  }
}

}  // namespace
}  // namespace hourz::harness
