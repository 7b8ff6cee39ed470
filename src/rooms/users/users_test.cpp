// Profiles, places, helpers nearby, and who may see what of whom.
#include "rooms/users/users.hpp"

#include <cmath>
#include <random>
#include <set>

#include "harness/harness.hpp"
#include "rooms/gigs/area.hpp"

namespace hourz::harness {
namespace {

using gigs::sphere_distance_m;

class Users : public WorldTest {
 protected:
  static Answer change(const Person& who, const Sent& body) { return world().put("/api/users/me", body, who.token); }
  static Answer place(const Person& who, double latitude, double longitude) {
    return world().put("/api/users/location", {{"latitude", latitude}, {"longitude", longitude}}, who.token);
  }
  static Answer available(const Person& who, bool on) {
    return world().put("/api/users/availability", {{"is_available", on}}, who.token);
  }
  static std::string nearby(double latitude, double longitude, const std::string& more = {}) {
    return "/api/users/nearby?latitude=" + std::to_string(latitude) + "&longitude=" + std::to_string(longitude) + more;
  }
  static std::vector<std::string> ids(const Answer& answer) {
    std::vector<std::string> all;
    for (const auto& user : answer.at("/users").as_array()) all.emplace_back(user.at("id").as_string());
    return all;
  }
};

TEST_F(Users, APartialBodyChangesWhatItNamesAndNullClears) {
  const Person ann = world().person("Ann");
  Answer me =
      change(ann, R"({"bio":"Cleans and carries.","contact_info":{"phone_number":"0812345678","line_id":"ann"}})");
  ASSERT_EQ(me.status, 200);
  EXPECT_EQ(me.string_at("/name"), "Ann");
  EXPECT_EQ(me.string_at("/contact_info/phone_number"), "+66812345678");
  me = change(ann, R"({"contact_info":{"line_id":null,"other":"ring twice"}})");
  EXPECT_EQ(me.string_at("/contact_info/phone_number"), "+66812345678");
  EXPECT_TRUE(me.at("/contact_info/line_id").is_null());
  EXPECT_EQ(me.string_at("/contact_info/other"), "ring twice");
  EXPECT_EQ(me.string_at("/bio"), "Cleans and carries.");
  me = change(ann, R"({"bio":null})");
  EXPECT_TRUE(me.at("/bio").is_null());
  EXPECT_EQ(change(ann, "{}").string_at("/name"), "Ann");
  EXPECT_EQ(change(ann, R"({"name":null})").faults(), std::vector<std::string>{"name:wrong_type"});
  Ask patch{http::Method::patch, "/api/users/me", R"({"name":"Anna"})"};
  patch.token = ann.token;
  EXPECT_EQ(world().send(patch).string_at("/name"), "Anna");
  EXPECT_EQ(world().get("/api/users/profile", ann.token).text, world().get("/api/users/me", ann.token).text);
  EXPECT_EQ(world().get("/api/auth/me", ann.token).text, world().get("/api/users/me", ann.token).text);
}

TEST_F(Users, ServerOwnedFieldsAreRefusedAndNothingChanges) {
  const Person ann = world().person("Ann");
  const std::string before = world().get("/api/users/me", ann.token).text;
  for (const char* field : {"id", "email", "email_verified", "role", "is_verified", "reputation_score", "total_reviews",
                            "completed_gigs", "created_at", "photo_url", "is_profile_setup", "latitude", "balance"}) {
    const Answer answer = change(ann, json::object{{field, "x"}, {"name", "Changed"}});
    EXPECT_EQ(answer.faults(), std::vector<std::string>{std::string(field) + ":unknown_field"});
  }
  EXPECT_EQ(world().get("/api/users/me", ann.token).text, before);
}

TEST_F(Users, LimitsAreTakenAndOnePastIsNot) {
  const Person ann = world().person("Ann");
  const auto fault = [&](const char* field, std::size_t length) {
    const Answer answer = change(ann, json::object{{field, std::string(length, 'x')}});
    return answer.status == 200 ? std::string() : answer.faults().at(0);
  };
  EXPECT_EQ(fault("name", 80), "");
  EXPECT_EQ(fault("name", 81), "name:too_long");
  EXPECT_EQ(fault("name", 0), "name:empty");
  EXPECT_EQ(fault("bio", 1000), "");
  EXPECT_EQ(fault("bio", 1001), "bio:too_long");
  const auto contact = [&](const char* field, const std::string& value) {
    const Answer answer = change(ann, json::object{{"contact_info", json::object{{field, value}}}});
    return answer.status == 200 ? std::string() : answer.faults().at(0);
  };
  EXPECT_EQ(contact("line_id", std::string(64, 'x')), "");
  EXPECT_EQ(contact("line_id", std::string(65, 'x')), "contact_info.line_id:too_long");
  EXPECT_EQ(contact("other", std::string(200, 'x')), "");
  EXPECT_EQ(contact("other", std::string(201, 'x')), "contact_info.other:too_long");
  EXPECT_EQ(contact("phone_number", "12"), "contact_info.phone_number:not_a_phone_number");
}

TEST_F(Users, ThePlaceIsWholeAndItsOwnersAlone) {
  const Person ann = world().person("Ann"), bob = world().person("Bob");
  EXPECT_EQ(world().put("/api/users/location", R"({"latitude":1})", ann.token).faults(),
            std::vector<std::string>{"longitude:required"});
  for (const auto& [latitude, longitude] : std::vector<std::pair<double, double>>{{90.0001, 0}, {0, 180.5}, {-91, 0}}) {
    EXPECT_EQ(place(ann, latitude, longitude).status, 422);
  }
  for (const auto& [latitude, longitude] :
       std::vector<std::pair<double, double>>{{0, 0}, {90, 0}, {-90, 180}, {89.9999, -180}, {13.7563, 100.5018}}) {
    const Answer me = place(ann, latitude, longitude);
    ASSERT_EQ(me.status, 200);
    EXPECT_TRUE(me.at("/has_location").as_bool());
    EXPECT_NEAR(me.number_at("/latitude"), latitude, 1e-9);
  }
  EXPECT_NEAR(world().get("/api/users/me", ann.token).number_at("/longitude"), 100.5018, 1e-9);
  const Answer whole = world().put("/api/users/location",
                                   {{"latitude", 13.7},
                                    {"longitude", 100.5},
                                    {"address_text", "1 Rama I"},
                                    {"district", "Pathum Wan"},
                                    {"province", "Bangkok"},
                                    {"postal_code", "10330"}},
                                   ann.token);
  EXPECT_EQ(whole.string_at("/address_text"), "1 Rama I");
  const Answer shown = world().get("/api/users/" + to_string(ann.id), bob.token);
  EXPECT_EQ(shown.string_at("/district"), "Pathum Wan");
  for (const char* hidden : {"latitude", "longitude", "address_text", "email", "contact_info", "postal_code", "role"}) {
    EXPECT_FALSE(shown.body.as_object().contains(hidden)) << hidden;
  }
  EXPECT_TRUE(place(ann, 13.7, 100.5).at("/address_text").is_null());  // the whole place at once
}

TEST_F(Users, AvailabilityNeedsALocation) {
  const Person ann = world().person("Ann");
  const Answer refused = available(ann, true);
  EXPECT_EQ(refused.status, 409);
  EXPECT_EQ(refused.code(), "location_required");
  EXPECT_EQ(available(ann, false).status, 200);
  place(ann, 0, 0);
  EXPECT_TRUE(available(ann, true).at("/is_available").as_bool());
  EXPECT_FALSE(available(ann, false).at("/is_available").as_bool());
  EXPECT_EQ(world().put("/api/users/availability", R"({"is_available":1})", ann.token).status, 422);
  EXPECT_EQ(world().put("/api/users/availability", R"({})", ann.token).status, 422);
}

// --- nearby ----------------------------------------------------------------------------------------------------------

class Nearby : public WorldTest {
 protected:
  static void SetUpTestSuite() {
    // No blur here: what is found is held against true points.
    world_ = std::make_unique<World>([](Config& config) { config.location_blur_m = 0; });
  }
};

TEST_F(Nearby, IsOrderedByTrueDistancePagedWholeAndNeverShowsTheCaller) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> spread(-0.08, 0.08);
  const Person caller = world().person("Caller");
  world().put("/api/users/location", R"({"latitude":60,"longitude":25})", caller.token);
  world().put("/api/users/availability", R"({"is_available":true})", caller.token);
  std::map<std::string, Point> points;
  for (int i = 0; i < 90; ++i) {
    const Person one = world().person("Helper");
    const Point point = i % 9 == 0 ? Point{60.01, 25.01} : Point{60 + spread(random), 25 + 2 * spread(random)};
    world().put("/api/users/location", {{"latitude", point.latitude}, {"longitude", point.longitude}}, one.token);
    if (i % 3 != 0) world().put("/api/users/availability", R"({"is_available":true})", one.token);
    if (i % 10 == 5)
      world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(one.id)});
    else
      points[to_string(one.id)] = point;
  }
  for (const std::string& filter : {std::string("&only_available=false"), std::string()}) {
    for (const int limit : {1, 7, 100}) {
      std::vector<std::string> seen;
      double last = -1;
      std::string cursor;
      std::int64_t total = 0;
      do {
        const Answer page = world().get("/api/users/nearby?latitude=60&longitude=25&radius_km=8" + filter +
                                            "&limit=" + std::to_string(limit) + "&include_total=true" +
                                            (cursor.empty() ? "" : "&cursor=" + cursor),
                                        caller.token);
        ASSERT_EQ(page.status, 200) << page.text;
        total = page.at("/total_count").as_int64();
        for (const auto& user : page.at("/users").as_array()) {
          seen.emplace_back(user.at("id").as_string());
          const double km = user.at("distance_km").to_number<double>();
          EXPECT_GE(km, last);
          last = km;
          const double model = sphere_distance_m({60, 25}, points.at(seen.back())) / 1000;
          EXPECT_NEAR(km, model, model * 0.0056 + 0.001);
          EXPECT_LE(km, 8.0005);
        }
        cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
      } while (!cursor.empty());
      EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), seen.size());
      EXPECT_EQ(total, static_cast<std::int64_t>(seen.size()));
      EXPECT_EQ(std::count(seen.begin(), seen.end(), to_string(caller.id)), 0);
      EXPECT_GT(seen.size(), filter.empty() ? 20U : 40U);
    }
  }
}

TEST_F(Nearby, WorksAtTheEdgesOfTheMap) {
  const Person caller = world().person("Caller");
  const std::vector<std::pair<Point, Point>> cases{{{0.5, 179.999}, {0.5, -179.999}},
                                                   {{89.9999, 10}, {89.9999, -170}},
                                                   {{-89.9995, 0}, {-89.9995, 180}},
                                                   {{0, 0}, {0, 0.001}},
                                                   {{10, 60}, {10, 60}}};
  for (const auto& [where, from] : cases) {
    const Person one = world().person("Edge");
    world().put("/api/users/location", {{"latitude", where.latitude}, {"longitude", where.longitude}}, one.token);
    const auto search = [&](Point point) {
      std::set<std::string> found;
      const Answer answer =
          world().get("/api/users/nearby?radius_km=1&only_available=false&latitude=" + std::to_string(point.latitude) +
                          "&longitude=" + std::to_string(point.longitude),
                      caller.token);
      EXPECT_EQ(answer.status, 200) << answer.text;
      for (const auto& user : answer.at("/users").as_array()) found.emplace(user.at("id").as_string());
      return found;
    };
    EXPECT_TRUE(search(from).contains(to_string(one.id))) << where.latitude << " " << where.longitude;
    if (std::fabs(where.latitude) < 80 && where.longitude <= 90 && where != Point{0, 0}) {
      EXPECT_FALSE(search({where.longitude, where.latitude}).contains(to_string(one.id)));  // the axes are not mixed up
    }
  }
}

TEST_F(Nearby, ManyAtOnePointArePagedOnceEach) {
  const Person caller = world().person("Caller");
  for (int i = 0; i < 45; ++i) {
    const Person one = world().person("Tower");
    world().sql(
        "UPDATE users SET fixed_location = ST_MakePoint(33, -33)::geography, public_location = "
        "ST_MakePoint(33, -33)::geography, is_available = true WHERE id = $1::uuid",
        {to_string(one.id)});
  }
  std::set<std::string> seen;
  std::size_t rows = 0;
  std::string cursor;
  do {
    const Answer page = world().get(
        "/api/users/nearby?latitude=-33&longitude=33.001&limit=4" + (cursor.empty() ? "" : "&cursor=" + cursor),
        caller.token);
    ASSERT_EQ(page.status, 200);
    for (const auto& user : page.at("/users").as_array()) seen.emplace(user.at("id").as_string()), ++rows;
    cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
  } while (!cursor.empty() && rows < 100);
  EXPECT_EQ(rows, 45U);
  EXPECT_EQ(seen.size(), 45U);
}

/// G07: what is fetched for a page stays bounded, wherever it is asked from.
TEST_F(Nearby, ACrowdFarAwayIsSortedByTheDatabase) {
  const Person caller = world().person("Caller");
  world().sql(
      "INSERT INTO users (id, email, password_hash, name, fixed_location, public_location, is_available) "
      "SELECT gen_random_uuid(), 'crowd' || n || '@example.com', '', 'Crowd', p, p, n % 2 = 0 FROM (SELECT n, "
      "ST_MakePoint(-60 + n % 7 * 0.00001, 40)::geography AS p FROM generate_series(1, 2500) n) c");
  int sorted = 0;
  world().desk().database.observe([&](const db::Statement& statement, std::chrono::microseconds, bool failed) {
    sorted += statement.name == "users.near_sorted" && !failed;
  });
  for (const bool all : {true, false}) {
    std::set<std::string> seen;
    std::string cursor;
    double last = -1;
    sorted = 0;
    do {
      const Answer page =
          world().get("/api/users/nearby?latitude=39.2&longitude=-60&radius_km=100&limit=100" +
                          std::string(all ? "&only_available=false" : "") + (cursor.empty() ? "" : "&cursor=" + cursor),
                      caller.token);
      ASSERT_EQ(page.status, 200) << page.text;
      for (const auto& user : page.at("/users").as_array()) {
        const double km = user.at("distance_km").to_number<double>();
        EXPECT_GE(km, last);
        EXPECT_NEAR(km, 88.8, 0.5);
        last = km;
        EXPECT_TRUE(seen.emplace(user.at("id").as_string()).second);
      }
      cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
    } while (!cursor.empty() && seen.size() < 3000);
    EXPECT_EQ(seen.size(), all ? 2500U : 1250U);
    EXPECT_EQ(sorted > 0, all);  // and not where fewer are switched on
  }
  record_statements(world().desk().database);
  record_statement("users.near_sorted");
}

TEST_F(Nearby, QueriesAreHeldToTheirLimits) {
  const Person caller = world().person("Caller");
  const auto status = [&](const std::string& query) {
    return world().get("/api/users/nearby?" + query, caller.token).status;
  };
  for (const char* wrong :
       {"", "latitude=1", "latitude=91&longitude=0", "latitude=0&longitude=181", "latitude=NaN&longitude=0",
        "latitude=0&longitude=0&radius_km=0", "latitude=0&longitude=0&radius_km=100.1",
        "latitude=0&longitude=0&radius_km=0.0999", "latitude=0&longitude=0&radius_km=-1",
        "latitude=0&longitude=0&limit=0", "latitude=0&longitude=0&limit=101", "latitude=0&longitude=0&x=1",
        "latitude=0&longitude=0&only_available=maybe"}) {
    EXPECT_EQ(status(wrong), 422) << wrong;
  }
  EXPECT_EQ(status("latitude=0&latitude=0&longitude=0"), 400);
  EXPECT_EQ(status("latitude=0&longitude=0&cursor=x"), 400);
  for (const char* fine :
       {"latitude=-90&longitude=-180", "latitude=90&longitude=180", "latitude=0&longitude=0&radius_km=0.1",
        "latitude=-0&longitude=0&radius_km=100&limit=100", "latitude=1e1&longitude=0"}) {
    EXPECT_EQ(status(fine), 200) << fine;
  }
}

TEST_F(Nearby, ACursorBelongsToItsSearch) {
  const Person caller = world().person("Caller");
  for (int i = 0; i < 3; ++i) {
    const Person one = world().person("Row");
    world().put("/api/users/location", {{"latitude", 40 + i * 0.001}, {"longitude", 40}}, one.token);
  }
  const std::string base = "/api/users/nearby?only_available=false&limit=1";
  const std::string cursor = world().get(base + "&latitude=40&longitude=40", caller.token).string_at("/next_cursor");
  EXPECT_EQ(world().get(base + "&latitude=40&longitude=40&cursor=" + cursor, caller.token).status, 200);
  EXPECT_EQ(world().get(base + "&latitude=40.1&longitude=40&cursor=" + cursor, caller.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get(base + "&latitude=40&longitude=40&radius_km=6&cursor=" + cursor, caller.token).code(),
            "invalid_cursor");
  EXPECT_EQ(world().get("/api/users/nearby?limit=1&latitude=40&longitude=40&cursor=" + cursor, caller.token).code(),
            "invalid_cursor");
  EXPECT_EQ(world().get("/api/gigs?cursor=" + cursor, caller.token).code(), "invalid_cursor");
}

// --- nobody's home ---------------------------------------------------------------------------------------------------

/// The point that fits a hundred measured distances best: what somebody would do who wants to know where another lives.
Point located(const std::vector<std::pair<Point, double>>& measured, Point guess) {
  double step = 0.01;
  const auto error = [&](Point p) {
    double sum = 0;
    for (const auto& [from, metres] : measured) {
      const double off = sphere_distance_m(from, p) - metres;
      sum += off * off;
    }
    return sum;
  };
  double best = error(guess);
  while (step > 1e-7) {
    bool better = false;
    for (const auto& [dy, dx] : std::vector<std::pair<double, double>>{{1, 0}, {-1, 0}, {0, 1}, {0, -1}}) {
      const Point next{guess.latitude + dy * step, guess.longitude + dx * step};
      if (const double e = error(next); e < best) best = e, guess = next, better = true;
    }
    if (!better) step /= 2;
  }
  return guess;
}

/// G05.
TEST_F(Users, AHundredSearchesDoNotTellWhereSomebodyLives) {
  const Person spy = world().person("Spy");
  std::mt19937 random(11);
  std::uniform_real_distribution<double> around(-0.02, 0.02);
  const Point town{18.7883, 98.9853};
  std::map<std::string, Point> homes;
  for (int i = 0; i < 60; ++i) {
    const Person helper = world().person("Helper");
    const Point home{town.latitude + around(random), town.longitude + around(random)};
    place(helper, home.latitude, home.longitude);
    available(helper, true);
    homes[to_string(helper.id)] = home;
  }
  std::map<std::string, std::vector<std::pair<Point, double>>> measured;
  for (int i = 0; i < 100; ++i) {
    const Point from{town.latitude + around(random), town.longitude + around(random)};
    const Answer answer = world().get(nearby(from.latitude, from.longitude, "&radius_km=20&limit=100"), spy.token);
    for (const auto& user : answer.at("/users").as_array()) {
      measured[std::string(user.at("id").as_string())].emplace_back(from,
                                                                    user.at("distance_km").to_number<double>() * 1000);
    }
    EXPECT_EQ(answer.text.find("latitude"), std::string::npos);
  }
  ASSERT_EQ(measured.size(), homes.size());
  int close = 0;
  for (const auto& [id, distances] : measured) {
    ASSERT_EQ(distances.size(), 100U);
    const Point home = homes.at(id);
    if (sphere_distance_m(located(distances, {home.latitude + 0.005, home.longitude}), home) < 100) ++close;
  }
  // What can be worked out is the public point, which says no more than the square of 400 m: within 100 m of home it is
  // by chance alone, in a fifth of all cases.
  EXPECT_LT(close, 60 * 45 / 100);
}

TEST_F(Users, MovingAboutInASquareShowsOnePoint) {
  const Person spy = world().person("Spy"), helper = world().person("Helper");
  std::set<double> shown;
  for (int i = 0; i < 20; ++i) {
    place(helper, -18.2001 + i * 1e-6, 12.3001);
    available(helper, true);
    const Answer answer = world().get(nearby(-18.2, 12.3), spy.token);
    shown.insert(answer.number_at("/users/0/distance_km"));
  }
  EXPECT_LE(shown.size(), 2U);  // two when the square's edge runs through the room
}

// --- contact details -------------------------------------------------------------------------------------------------

TEST_F(Users, ContactDetailsGoToTheOtherSideOfAnAcceptedGigOnly) {
  const Person seeker = world().person("Seeker"), helper = world().person("Helper"), other = world().person("Other");
  for (const Person* who : {&seeker, &helper}) change(*who, R"({"contact_info":{"phone_number":"0812345678"}})");
  const auto sees = [](const Person& who, const Person& whom) {
    const Answer answer = world().get("/api/users/" + to_string(whom.id), who.token);
    EXPECT_EQ(answer.status, 200);
    const bool contact = answer.body.as_object().contains("contact_info");
    EXPECT_EQ(contact, answer.text.find("+66812345678") != std::string::npos);
    return contact;
  };
  const auto expect_both = [&](bool seen, const char* when) {
    EXPECT_EQ(sees(seeker, helper), seen) << when;
    EXPECT_EQ(sees(helper, seeker), seen) << when;
    EXPECT_FALSE(sees(other, seeker)) << when;
    EXPECT_FALSE(sees(other, helper)) << when;
    EXPECT_FALSE(sees(seeker, other)) << when;
  };
  const auto move = [&](const Person& who, const std::string& gig, const std::string& status) {
    return world().put("/api/gigs/" + gig + "/status", {{"status", status}, {"reason", "because"}}, who.token).status;
  };
  std::string gig = world().post_gig(seeker);
  expect_both(false, "pending");
  ASSERT_EQ(move(helper, gig, "ACCEPTED"), 200);
  expect_both(true, "accepted");
  ASSERT_EQ(move(helper, gig, "PENDING"), 200);
  expect_both(false, "withdrawn");
  ASSERT_EQ(move(helper, gig, "ACCEPTED"), 200);
  ASSERT_EQ(move(seeker, gig, "CANCELLED"), 200);
  expect_both(false, "cancelled");
  gig = world().post_gig(seeker);
  ASSERT_EQ(move(helper, gig, "ACCEPTED"), 200);
  ASSERT_EQ(move(seeker, gig, "IN_PROGRESS"), 200);
  expect_both(true, "in progress");
  ASSERT_EQ(move(helper, gig, "CANCELLED"), 200);
  expect_both(false, "cancelled at work");
  gig = world().post_gig(seeker);
  ASSERT_EQ(move(helper, gig, "ACCEPTED"), 200);
  ASSERT_EQ(move(seeker, gig, "IN_PROGRESS"), 200);
  ASSERT_EQ(move(seeker, gig, "COMPLETED"), 200);
  expect_both(true, "completed");
  EXPECT_EQ(world().get("/api/users/me", helper.token).at("/completed_gigs"), 1);
  EXPECT_EQ(world().get("/api/users/me", seeker.token).at("/completed_gigs"), 0);
}

TEST_F(Users, WhoIsNotThereAndWhoIsSuspendedLookAlike) {
  const Person ann = world().person("Ann"), gone = world().person("Gone");
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(gone.id)});
  const auto shape = [&](const std::string& id) {
    const Answer answer = world().get("/api/users/" + id, ann.token);
    EXPECT_EQ(answer.status, 404);
    json::object body = answer.body.as_object();
    body.erase("request_id");
    body.erase("instance");
    return json::serialize(body);
  };
  EXPECT_EQ(shape(to_string(gone.id)), shape(to_string(make_uuid())));
  EXPECT_EQ(world().get("/api/users/not-an-id", ann.token).faults(), std::vector<std::string>{"id:not_a_uuid"});
}

TEST_F(Users, ReadsCarryAnETagThatFollowsTheContent) {
  const Person ann = world().person("Ann");
  const Answer first = world().get("/api/users/me", ann.token);
  const std::string etag = first.header("ETag");
  ASSERT_FALSE(etag.empty());
  const Answer same = world().get("/api/users/me", ann.token, {{"if-none-match", "\"x\", W/" + etag}});
  EXPECT_EQ(same.status, 304);
  EXPECT_TRUE(same.text.empty());
  EXPECT_EQ(same.header("ETag"), etag);
  change(ann, R"({"bio":"new"})");
  EXPECT_EQ(world().get("/api/users/me", ann.token, {{"if-none-match", etag}}).status, 200);
  EXPECT_EQ(world().get("/api/users/me", ann.token, {{"if-none-match", "*"}}).status, 304);
}

/// Whatever was believed of the caller a moment ago: the row has the last word.
TEST_F(Users, NothingIsWrittenToASuspendedAccount) {
  const Person ann = world().person("Ann");
  const auto row = [&] {
    return world().sql("SELECT users::text FROM users WHERE id = $1::uuid", {to_string(ann.id)});
  };
  const auto suspend = [&](const std::string& since) {
    world().sql("UPDATE users SET suspended_at = " + since + " WHERE id = $1::uuid", {to_string(ann.id)});
  };
  ASSERT_EQ(place(ann, 13.75, 100.5).status, 200);
  suspend("now()");  // past the server, which has just seen the session alive
  const std::string before = row();
  EXPECT_GE(change(ann, R"({"bio":"still here"})").status, 401);
  EXPECT_GE(place(ann, 14, 101).status, 401);
  EXPECT_GE(available(ann, true).status, 401);
  const auto transaction = world().desk().database.begin();
  world().wait(users::set_photo(*transaction, ann.id, "/files/x"));
  world().wait(transaction->commit());
  EXPECT_EQ(row(), before);
  suspend("NULL");
  EXPECT_TRUE(world().until([&] { return available(ann, true).status == 200; }, std::chrono::seconds(10)));
}

TEST_F(Users, AnAdministratorsOverrideIsKeptInTheAuditLog) {
  const Person admin = world().admin(), ann = world().person("Ann");
  const std::string target = "/api/users/" + to_string(ann.id) + "/reputation";
  const Answer done = world().put(target, R"({"score":3.5,"reason":"complaints"})", admin.token);
  ASSERT_EQ(done.status, 200) << done.text;
  EXPECT_EQ(done.number_at("/reputation_score"), 3.5);
  EXPECT_EQ(
      world().sql("SELECT details->>'from' || ' ' || (details->>'to') || ' ' || (details->>'reason') FROM audit_log "
                  "WHERE subject_id = $1::uuid AND admin_id = $2::uuid",
                  {to_string(ann.id), to_string(admin.id)}),
      "5 3.5 complaints");
  EXPECT_EQ(world().put(target, R"({"score":5.001,"reason":"x"})", admin.token).status, 422);
  EXPECT_EQ(world().put(target, R"({"score":-0.001,"reason":"x"})", admin.token).status, 422);
  EXPECT_EQ(world().put(target, R"({"score":0,"reason":""})", admin.token).status, 422);
  EXPECT_EQ(world().put(target, R"({"score":0,"reason":"x"})", admin.token).status, 200);
}

}  // namespace
}  // namespace hourz::harness
