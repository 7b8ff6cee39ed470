// Gigs on a real database: posting, changing, the whole life of a gig by every side, races, timers, history.
#include "rooms/gigs/gigs.hpp"

#include <cmath>
#include <random>
#include <set>

#include "app/jobs.hpp"
#include "harness/harness.hpp"
#include "rooms/gigs/area.hpp"

namespace hourz::harness {
namespace {

using gigs::sphere_distance_m;
using http::Method;

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

class Gigs : public WorldTest {
 protected:
  static Answer create(const Person& who, const json::object& change) {
    return world().post("/api/gigs", World::gig_body(change), who.token);
  }
  static Answer read(const Person& who, const std::string& gig) { return world().get("/api/gigs/" + gig, who.token); }
  static Answer accept(const Person& who, const std::string& gig) {
    return world().post("/api/gigs/" + gig + "/accept", {}, who.token);
  }
  static Answer move(const Person& who, const std::string& gig, const std::string& status,
                     const std::string& reason = {}) {
    json::object body{{"status", status}};
    if (!reason.empty()) body["reason"] = reason;
    return world().put("/api/gigs/" + gig + "/status", body, who.token);
  }
  static std::string status_of(const std::string& gig) {
    return world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {gig});
  }
  /// A gig brought to a state by its lawful way.
  static std::string gig_in(const std::string& state, const Person& seeker, const Person& helper) {
    const std::string gig = world().post_gig(seeker);
    if (state == "CANCELLED") EXPECT_EQ(move(seeker, gig, "CANCELLED").status, 200);
    if (state == "PENDING" || state == "CANCELLED") return gig;
    EXPECT_EQ(accept(helper, gig).status, 200);
    if (state == "ACCEPTED") return gig;
    EXPECT_EQ(move(helper, gig, "IN_PROGRESS").status, 200);
    if (state == "IN_PROGRESS") return gig;
    EXPECT_EQ(move(seeker, gig, "COMPLETED").status, 200);
    return gig;
  }
};

// --- posting ---------------------------------------------------------------------------------------------------------

TEST_F(Gigs, PostingGivesTheWholeGigAndWhereItIs) {
  const Person seeker = world().person("Ann");
  const Answer made = create(seeker, {{"title", "  Clean a room  "},
                                      {"category", "Cleaning"},
                                      {"address_text", "Rama I"},
                                      {"starts_at", "2099-01-02T10:00:00+07:00"},
                                      {"expires_at", "2099-01-02T00:00:00Z"}});
  ASSERT_EQ(made.status, 201) << made.text;
  EXPECT_EQ(made.header("Location"), "/api/gigs/" + made.string_at("/id"));
  EXPECT_EQ(made.string_at("/title"), "Clean a room");
  EXPECT_EQ(made.string_at("/category"), "cleaning");
  EXPECT_EQ(made.string_at("/status"), "PENDING");
  EXPECT_EQ(made.string_at("/currency"), "THB");
  EXPECT_EQ(made.number_at("/budget"), 350.5);
  EXPECT_EQ(made.string_at("/starts_at"), "2099-01-02T03:00:00Z");
  EXPECT_EQ(made.at("/version"), 1);
  EXPECT_EQ(made.string_at("/seeker/name"), "Ann");
  EXPECT_TRUE(made.at("/helper").is_null());
  EXPECT_EQ(made.number_at("/latitude"), 13.7563);
  EXPECT_EQ(made.text.find("@example.com"), std::string::npos);
  EXPECT_EQ(read(seeker, made.string_at("/id")).text, made.text);
}

TEST_F(Gigs, BoundsAreTakenAndOnePastIsNot) {
  const Person seeker = world().person();
  struct Case {
    const char* field;
    json::array fine;
    json::array wrong;
  };
  const std::vector<Case> cases{
      {"title",
       {"abc", repeated("x", 120), repeated("😀", 80), "<script>alert(1)</script>", "' ; -- \\ % _"},
       {"ab", "  ab  ", "", repeated("x", 121), 7, nullptr, "a\u202eb", std::string("a\0bc", 4), json::array{}}},
      {"description", {"x", repeated("ก", 4000)}, {"", " ", repeated("x", 4001), nullptr, true}},
      {"category", {nullptr, "x", repeated("x", 40)}, {"", repeated("x", 41), 1}},
      {"duration_hours", {0.5, 1, 24, 23.5, 2.0}, {0.4, 0, 24.5, 25, -1, 0.75, 1.1, "2", nullptr, 1e300}},
      {"budget",
       {0, 0.01, 350, 350.5, 9999999.99, 10000000},
       {-0.01, 10000000.01, 10000001, 0.001, "100", nullptr, 1e30}},
      {"latitude", {-90, 90, 0, -0.0, 89.9999}, {90.0001, -90.0001, 91, "13", nullptr, 1e300}},
      {"longitude", {-180, 180, 0, 179.9999}, {180.0001, -180.0001, 181, "100", nullptr}},
      {"address_text", {nullptr, "x", repeated("x", 300)}, {"", repeated("x", 301)}},
      {"image_urls",
       {nullptr, json::array{}},
       {json::array{"/files/x"}, "x", json::array{1}, json::array{"a", "b", "c", "d", "e", "f"}}},
      {"starts_at",
       {nullptr, "2099-01-01T00:00:00Z", "2020-01-01T00:00:00+07:00"},
       {"tomorrow", 1, "2099-02-30T00:00:00Z"}},
      {"expires_at", {nullptr, "2099-01-01T00:00:00.000001Z"}, {"2020-01-01T00:00:00Z", "x", "2099-01-01T00:00:00"}},
  };
  for (const Case& one : cases) {
    for (const json::value& value : one.fine) {
      const Answer answer = create(seeker, {{one.field, value}});
      EXPECT_EQ(answer.status, 201) << one.field << " " << json::serialize(value).substr(0, 60) << " " << answer.text;
    }
    for (const json::value& value : one.wrong) {
      const Answer answer = create(seeker, {{one.field, value}});
      ASSERT_EQ(answer.status, 422) << one.field << " " << json::serialize(value).substr(0, 60) << answer.text;
      EXPECT_TRUE(answer.faults().at(0).starts_with(one.field)) << answer.text;
    }
  }
  for (const char* owned :
       {"id", "seeker_id", "status", "currency", "version", "helper_id", "created_at", "owner_id"}) {
    EXPECT_EQ(create(seeker, {{owned, "x"}}).faults(), std::vector<std::string>{std::string(owned) + ":unknown_field"});
  }
  const Answer nothing = world().post("/api/gigs", "{}", seeker.token);
  EXPECT_EQ(nothing.faults().size(), 6U);
}

TEST_F(Gigs, MoneyComesBackExactly) {
  const Person seeker = world().person();
  for (const char* amount : {"0.01", "0.07", "1.15", "8.41", "350", "350.5", "1e2", "9999999.99", "-0"}) {
    json::object body = World::gig_body();
    const std::string text = json::serialize(body);
    const auto at = text.find("\"budget\":");
    const auto end = text.find(',', at);
    const Answer answer = world().post("/api/gigs", text.substr(0, at + 9) + amount + text.substr(end), seeker.token);
    ASSERT_EQ(answer.status, 201) << amount;
    EXPECT_EQ(answer.number_at("/budget"), std::strtod(amount, nullptr)) << amount;
  }
}

/// G05.
TEST_F(Gigs, StrangersSeeAPointThatIsOffAndAlwaysTheSame) {
  const Person seeker = world().person(), helper = world().person(), stranger = world().person();
  const Point true_place{13.7563, 100.5018};
  std::set<std::string> shown;
  std::string gig;
  for (int i = 0; i < 5; ++i) {
    gig = world().post_gig(seeker);
    const Answer seen = read(stranger, gig);
    const Point point{seen.number_at("/latitude"), seen.number_at("/longitude")};
    EXPECT_GT(sphere_distance_m(point, true_place), 0);
    EXPECT_LT(sphere_distance_m(point, true_place), 390);
    shown.insert(std::to_string(point.latitude) + "," + std::to_string(point.longitude));
  }
  EXPECT_EQ(shown.size(), 1U);  // posting again does not average it away
  EXPECT_EQ(read(seeker, gig).number_at("/latitude"), true_place.latitude);
  EXPECT_NE(read(helper, gig).number_at("/latitude"), true_place.latitude);
  // The accept's own answer already goes to a side.
  EXPECT_EQ(accept(helper, gig).number_at("/latitude"), true_place.latitude);
  EXPECT_EQ(read(helper, gig).number_at("/longitude"), true_place.longitude);
  EXPECT_NE(read(stranger, gig).number_at("/longitude"), true_place.longitude);
  world().post("/api/gigs/" + gig + "/withdraw", {}, helper.token);
  EXPECT_NE(read(helper, gig).number_at("/latitude"), true_place.latitude);
  // Neither search nor map shows the true point to strangers.
  for (const char* list :
       {"/api/gigs?latitude=13.7563&longitude=100.5018&radius_km=1",
        "/api/gigs/map?min_latitude=13.74&max_latitude=13.77&min_longitude=100.48&max_longitude=100.52&zoom=16"}) {
    const Answer answer = world().get(list, stranger.token);
    ASSERT_FALSE(answer.at("/gigs").as_array().empty());
    for (const auto& one : answer.at("/gigs").as_array()) EXPECT_NE(one.at("latitude"), true_place.latitude) << list;
  }
  // Nor do distances, edges of circles and edges of boxes tell it: all are of the point that is shown.
  const Point other{read(stranger, gig).number_at("/latitude"), read(stranger, gig).number_at("/longitude")};
  const auto found = [&](const std::string& query) {
    std::vector<double> metres;
    for (const Answer all = world().get("/api/gigs?limit=100&" + query, stranger.token);
         const auto& one : all.at("/gigs").as_array()) {
      if (one.at("id").as_string() != gig) continue;
      metres.push_back(one.as_object().contains("distance_km") ? one.at("distance_km").to_number<double>() * 1000 : 0);
    }
    return metres;
  };
  const auto near = [&](Point from, const char* radius_km) {
    return found("latitude=" + std::to_string(from.latitude) + "&longitude=" + std::to_string(from.longitude) +
                 "&radius_km=" + radius_km);
  };
  std::mt19937 random(13);
  std::uniform_real_distribution<double> around(-0.02, 0.02);
  for (int i = 0; i < 100; ++i) {
    const Point from{true_place.latitude + around(random), true_place.longitude + around(random)};
    const std::vector<double> told = near(from, "10");
    const double metres = sphere_distance_m(from, other);
    EXPECT_TRUE(told.size() == 1 && std::fabs(told[0] - metres) < 2 + 0.005 * metres) << metres;
  }
  EXPECT_EQ(near(true_place, "0.1").empty(), sphere_distance_m(other, true_place) > 100);
  EXPECT_EQ(near(other, "0.1").size(), 1U);
  EXPECT_TRUE(
      found("min_latitude=13.75628&max_latitude=13.75632&min_longitude=100.50178&max_longitude=100.50182").empty());
}

// --- changing --------------------------------------------------------------------------------------------------------

TEST_F(Gigs, APartialBodyChangesWhatItNames) {
  const Person seeker = world().person(), stranger = world().person();
  const std::string gig = world().post_gig(seeker, {{"category", "cleaning"}, {"address_text", "here"}});
  const auto change = [&](const Sent& body, Fields fields = {}) {
    return world().put("/api/gigs/" + gig, body, seeker.token, std::move(fields));
  };
  Answer now_is = change({{"title", "Another title"}});
  ASSERT_EQ(now_is.status, 200) << now_is.text;
  EXPECT_EQ(now_is.at("/version"), 2);
  EXPECT_EQ(now_is.string_at("/title"), "Another title");
  EXPECT_EQ(now_is.string_at("/description"), "One room and a kitchen.");
  EXPECT_EQ(now_is.string_at("/category"), "cleaning");
  now_is = change(R"({"category":null,"address_text":null,"budget":1.25,"duration_hours":3.5,"latitude":0,"longitude":0,
                      "starts_at":"2099-01-01T00:00:00Z","expires_at":"2099-01-01T00:00:00Z","image_urls":[]})");
  ASSERT_EQ(now_is.status, 200) << now_is.text;
  EXPECT_TRUE(now_is.at("/category").is_null());
  EXPECT_TRUE(now_is.at("/address_text").is_null());
  EXPECT_EQ(now_is.number_at("/budget"), 1.25);
  EXPECT_EQ(now_is.number_at("/latitude"), 0);
  EXPECT_EQ(change(R"({"latitude":1})").faults(), std::vector<std::string>{"longitude:required"});
  EXPECT_EQ(change(R"({"title":null})").faults(), std::vector<std::string>{"title:wrong_type"});
  EXPECT_EQ(change(R"({"status":"COMPLETED"})").faults(), std::vector<std::string>{"status:unknown_field"});
  EXPECT_EQ(change(R"({"image_urls":["/files/x"]})").faults(),
            std::vector<std::string>{"image_urls[0]:not_your_upload"});
  EXPECT_EQ(change(R"({"expires_at":"2020-01-01T00:00:00Z"})").status, 422);
  // A strangers point moved with the place.
  EXPECT_LT(sphere_distance_m(
                {0, 0}, {read(stranger, gig).number_at("/latitude"), read(stranger, gig).number_at("/longitude")}),
            390);
  const std::string timers = "SELECT count(*)::text FROM timers WHERE subject_id = $1::uuid";
  EXPECT_EQ(world().sql(timers, {gig}), "1");
  EXPECT_EQ(change(R"({"expires_at":null})").status, 200);
  EXPECT_EQ(world().sql(timers, {gig}), "0");
  Ask patch{Method::patch, "/api/gigs/" + gig, R"({"title":"By patch"})"};
  patch.token = seeker.token;
  EXPECT_EQ(world().send(patch).string_at("/title"), "By patch");
}

TEST_F(Gigs, IfMatchAndIfNoneMatchAreHonoured) {
  const Person seeker = world().person(), helper = world().person();
  const std::string gig = world().post_gig(seeker), target = "/api/gigs/" + gig;
  const std::string etag = read(seeker, gig).header("ETag");
  ASSERT_FALSE(etag.empty());
  EXPECT_EQ(world().get(target, seeker.token, {{"if-none-match", etag}}).status, 304);
  EXPECT_EQ(world().get(target, seeker.token, {{"if-none-match", "\"other\""}}).status, 200);
  const Answer changed = world().put(target, R"({"title":"Second"})", seeker.token, {{"if-match", etag}});
  ASSERT_EQ(changed.status, 200);
  EXPECT_NE(changed.header("ETag"), etag);
  EXPECT_EQ(world().put(target, R"({"title":"Third"})", seeker.token, {{"if-match", etag}}).code(),
            "precondition_failed");
  EXPECT_EQ(world().put(target, R"({"title":"Third"})", seeker.token, {{"if-match", "*"}}).status, 200);
  EXPECT_EQ(
      world().put(target, R"({"title":"Fourth"})", seeker.token, {{"if-match", "W/" + changed.header("ETag")}}).status,
      412);
  EXPECT_EQ(world().put(target + "/status", R"({"status":"CANCELLED"})", seeker.token, {{"if-match", etag}}).status,
            412);
  EXPECT_EQ(world().del(target, seeker.token, {{"if-match", etag}}).status, 412);
  EXPECT_EQ(status_of(gig), "PENDING");
  const std::string latest = read(seeker, gig).header("ETag");
  EXPECT_EQ(world().del(target, seeker.token, {{"if-match", "\"x\", " + latest}}).status, 204);
  EXPECT_EQ(read(seeker, gig).string_at("/title"), "Third");
  EXPECT_EQ(world().get(target, helper.token, {{"if-none-match", latest}}).status, 200);
}

TEST_F(Gigs, OnlyAPendingGigIsChanged) {
  const Person seeker = world().person(), helper = world().person();
  for (const char* state : {"ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED"}) {
    const std::string gig = gig_in(state, seeker, helper);
    const Answer answer = world().put("/api/gigs/" + gig, R"({"title":"Too late"})", seeker.token);
    EXPECT_EQ(answer.code(), "gig_not_editable") << state;
    EXPECT_EQ(answer.string_at("/current_status"), state);
  }
}

// --- the whole life, by every side -----------------------------------------------------------------------------------

TEST_F(Gigs, EveryStateEveryStepEverySide) {
  const Person seeker = world().person("Seeker"), helper = world().person("Helper"),
               stranger = world().person("Stranger");
  const std::vector<std::string> states{"PENDING", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED"};
  // From the contract, written out anew: what each side may do in each state.
  const std::set<std::string> legal{
      "PENDING>ACCEPTED helper",      "PENDING>ACCEPTED stranger",    "PENDING>CANCELLED seeker",
      "ACCEPTED>PENDING helper",      "ACCEPTED>IN_PROGRESS helper",  "ACCEPTED>IN_PROGRESS seeker",
      "ACCEPTED>CANCELLED seeker",    "IN_PROGRESS>COMPLETED helper", "IN_PROGRESS>COMPLETED seeker",
      "IN_PROGRESS>CANCELLED seeker", "IN_PROGRESS>CANCELLED helper"};
  const std::vector<std::pair<std::string, const Person*>> sides{
      {"seeker", &seeker}, {"helper", &helper}, {"stranger", &stranger}};
  const std::vector<std::string> ways{"status", "accept", "withdraw", "delete"};
  int tried = 0;
  for (const std::string& from : states) {
    for (const auto& [side, who] : sides) {
      for (const std::string& way : ways) {
        for (const std::string& to : states) {
          if (way == "accept" && to != "ACCEPTED") continue;
          if (way == "withdraw" && to != "PENDING") continue;
          if (way == "delete" && to != "CANCELLED") continue;
          const std::string gig = gig_in(from, seeker, helper);
          const std::string before = world().sql("SELECT g::text FROM gigs g WHERE id = $1::uuid", {gig});
          const std::string name = from + ">" + to + " " + side + " by " + way;
          const Answer answer = way == "status"   ? move(*who, gig, to, "a reason")
                                : way == "accept" ? accept(*who, gig)
                                : way == "withdraw"
                                    ? world().post("/api/gigs/" + gig + "/withdraw", R"({"reason":"ill"})", who->token)
                                    : world().del("/api/gigs/" + gig, who->token);
          ++tried;
          if (way == "delete" && from == "IN_PROGRESS" && side == "seeker") {
            // Lawful, but it wants a reason, which a DELETE does not carry.
            EXPECT_EQ(answer.faults(), std::vector<std::string>{"reason:required"}) << name;
            EXPECT_EQ(status_of(gig), from) << name;
            continue;
          }
          // DELETE is the seeker's alone.
          const bool lawful = legal.contains(from + ">" + to + " " + side) && (way != "delete" || side == "seeker");
          if (lawful) {
            EXPECT_EQ(answer.status, way == "delete" ? 204 : 200) << name << answer.text;
            EXPECT_EQ(status_of(gig), to) << name;
            EXPECT_EQ(world().sql("SELECT from_status || '>' || to_status FROM gig_events WHERE gig_id = $1::uuid "
                                  "ORDER BY version DESC LIMIT 1",
                                  {gig}),
                      from + ">" + to)
                << name;
            continue;
          }
          EXPECT_EQ(world().sql("SELECT g::text FROM gigs g WHERE id = $1::uuid", {gig}), before) << name;
          const bool cancelled_or_gone = from == "CANCELLED";
          if (to == "ACCEPTED") {
            EXPECT_EQ(answer.code(), side == "seeker"    ? "own_gig"
                                     : cancelled_or_gone ? "gig_not_open"
                                                         : "gig_already_taken")
                << name;
          } else {
            // A stranger of a pending gig is whoever never was its helper.
            const bool outsider = side == "stranger" ||
                                  (side == "helper" && (from == "PENDING" || from == "CANCELLED")) ||
                                  (side == "helper" && way == "delete");
            EXPECT_EQ(answer.code(), outsider ? "forbidden" : "invalid_transition") << name;
          }
          if (answer.code() == "invalid_transition") {
            EXPECT_EQ(answer.string_at("/current_status"), from) << name;
            std::set<std::string> allowed;
            for (const auto& one : answer.at("/allowed").as_array()) allowed.emplace(one.as_string());
            for (const std::string& target : states) {
              EXPECT_EQ(allowed.contains(target), legal.contains(from + ">" + target + " " + side))
                  << name << " " << target;
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(tried, 5 * 3 * 8);
}

TEST_F(Gigs, StoppingWorkBegunNeedsAReason) {
  const Person seeker = world().person(), helper = world().person();
  const std::string gig = gig_in("IN_PROGRESS", seeker, helper);
  EXPECT_EQ(move(helper, gig, "CANCELLED").faults(), std::vector<std::string>{"reason:required"});
  EXPECT_EQ(move(helper, gig, "cancelled", repeated("x", 501)).faults(), std::vector<std::string>{"reason:too_long"});
  const Answer done = move(helper, gig, "cancelled", repeated("x", 500));  // any case
  ASSERT_EQ(done.status, 200);
  EXPECT_EQ(done.string_at("/cancel_reason").size(), 500U);
  EXPECT_EQ(done.string_at("/helper/id"), to_string(helper.id));
  EXPECT_EQ(move(helper, gig, "DONE").faults(), std::vector<std::string>{"status:not_in_list"});
}

TEST_F(Gigs, TimesAndAssignmentsFollowTheLife) {
  const Person seeker = world().person(), first = world().person(), second = world().person();
  const std::string gig = gig_in("ACCEPTED", seeker, first);
  EXPECT_FALSE(read(seeker, gig).at("/accepted_at").is_null());
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/withdraw", {}, first.token).status, 200);
  Answer gig_now = read(seeker, gig);
  EXPECT_TRUE(gig_now.at("/accepted_at").is_null());
  EXPECT_TRUE(gig_now.at("/helper").is_null());
  ASSERT_EQ(accept(second, gig).status, 200);
  ASSERT_EQ(move(seeker, gig, "IN_PROGRESS").status, 200);
  gig_now = move(second, gig, "COMPLETED");
  EXPECT_FALSE(gig_now.at("/started_at").is_null());
  EXPECT_FALSE(gig_now.at("/completed_at").is_null());
  EXPECT_TRUE(gig_now.at("/cancelled_at").is_null());
  EXPECT_EQ(gig_now.string_at("/helper/id"), to_string(second.id));
  EXPECT_EQ(
      world().sql("SELECT count(*) || ' ' || count(ended_at) FROM gig_assignments WHERE gig_id = $1::uuid", {gig}),
      "2 2");
  // The first helper is a stranger again.
  EXPECT_EQ(world().get("/api/gigs/" + gig + "/events", first.token).status, 403);
}

TEST_F(Gigs, HistorySaysWhoDidWhat) {
  const Person seeker = world().person(), helper = world().person();
  const std::string gig = world().post_gig(seeker);
  world().put("/api/gigs/" + gig, R"({"title":"Changed"})", seeker.token);
  accept(helper, gig);
  world().post("/api/gigs/" + gig + "/withdraw", R"({"reason":"ill"})", helper.token);
  accept(helper, gig);
  move(seeker, gig, "IN_PROGRESS");
  move(helper, gig, "COMPLETED");
  const Answer history = world().get("/api/gigs/" + gig + "/events", helper.token);
  ASSERT_EQ(history.status, 200);
  std::string line;
  std::int64_t version = 0;
  for (const auto& event : history.at("/events").as_array()) {
    EXPECT_EQ(event.at("version").as_int64(), ++version);
    line += std::string(event.at("action").as_string()) +
            (event.at("actor_id").as_string() == to_string(seeker.id) ? " seeker; " : " helper; ");
  }
  EXPECT_EQ(
      line,
      "CREATE seeker; CHANGE seeker; ACCEPT helper; WITHDRAW helper; ACCEPT helper; START seeker; COMPLETE helper; ");
  EXPECT_EQ(history.string_at("/events/3/reason"), "ill");
  EXPECT_EQ(history.text, world().get("/api/gigs/" + gig + "/events", seeker.token).text);
}

TEST_F(Gigs, TheDatabaseItselfRefusesWhatTheTableDoes) {
  const Person seeker = world().person(), helper = world().person(), other = world().person();
  const std::vector<std::pair<gigs::Status, std::string>> states{{gigs::Status::PENDING, "PENDING"},
                                                                 {gigs::Status::ACCEPTED, "ACCEPTED"},
                                                                 {gigs::Status::IN_PROGRESS, "IN_PROGRESS"},
                                                                 {gigs::Status::COMPLETED, "COMPLETED"},
                                                                 {gigs::Status::CANCELLED, "CANCELLED"}};
  const auto update = [&](const std::string& gig, const std::string& set) -> std::string {
    try {
      world().sql("UPDATE gigs SET " + set + " WHERE id = $1::uuid", {gig});
      return "";
    } catch (const db::SessionError& error) {
      EXPECT_EQ(error.sqlstate.substr(0, 2), "23") << error.what();
      return error.what();
    }
  };
  for (const auto& [from, from_name] : states) {
    for (const auto& [to, to_name] : states) {
      bool lawful = from == to;
      for (const auto& transition : gigs::transitions)
        lawful = lawful || (transition.from == from && transition.to == to);
      const std::string gig = gig_in(from_name, seeker, helper);
      const std::string helper_set = to_name == "PENDING"     ? ", helper_id = NULL"
                                     : to_name == "CANCELLED" ? ""
                                                              : ", helper_id = '" + to_string(helper.id) + "'";
      EXPECT_EQ(update(gig, "status = '" + to_name + "'" + helper_set).empty(), lawful) << from_name << ">" << to_name;
      // A helper is nobody's to change while there is one, and never the seeker.
      const std::string again = gig_in(from_name, seeker, helper);
      const std::string fault = update(again, "helper_id = '" + to_string(other.id) + "'");
      if (from_name != "CANCELLED") EXPECT_FALSE(fault.empty()) << from_name;
      EXPECT_FALSE(update(again, "status = 'ACCEPTED', helper_id = seeker_id").empty()) << from_name;
      EXPECT_FALSE(update(again, "status = 'NONSENSE'").empty());
    }
  }
  const std::string gig = gig_in("ACCEPTED", seeker, helper);
  EXPECT_THROW(world().sql("INSERT INTO gig_assignments (gig_id, helper_id) VALUES ($1::uuid, $2::uuid)",
                           {gig, to_string(other.id)}),
               db::SessionError);
}

// --- my gigs ---------------------------------------------------------------------------------------------------------

TEST_F(Gigs, MyGigsArePagedBySideAndStatus) {
  const Person me = world().person(), other = world().person();
  std::vector<std::string> posted, helped;
  for (int i = 0; i < 13; ++i) posted.push_back(gig_in(i % 3 == 0 ? "CANCELLED" : "PENDING", me, other));
  for (int i = 0; i < 6; ++i) helped.push_back(gig_in("ACCEPTED", other, me));
  const auto list = [&](const std::string& query, int limit) {
    std::vector<std::string> seen;
    std::string cursor;
    do {
      const Answer page = world().get(
          "/api/gigs/my-gigs?limit=" + std::to_string(limit) + query + (cursor.empty() ? "" : "&cursor=" + cursor),
          me.token);
      EXPECT_EQ(page.status, 200) << page.text;
      if (page.status != 200) break;
      for (const auto& gig : page.at("/gigs").as_array()) seen.emplace_back(gig.at("id").as_string());
      cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
    } while (!cursor.empty());
    return seen;
  };
  std::vector<std::string> newest_first(posted.rbegin(), posted.rend());
  for (const int limit : {1, 5, 13, 100}) {
    EXPECT_EQ(list("&as=seeker", limit), newest_first);
    EXPECT_EQ(list("&as=SEEKER&status=cancelled", limit).size(), 5U);
    EXPECT_EQ(list("&as=helper", limit), std::vector<std::string>(helped.rbegin(), helped.rend()));
    EXPECT_EQ(list("", limit).size(), 19U);
  }
  EXPECT_EQ(world().get("/api/gigs/my-gigs?include_total=true&as=helper&limit=2", me.token).at("/total_count"), 6);
  EXPECT_EQ(world().get("/api/gigs/my-gigs?include_total=true&limit=2", me.token).at("/total_count"), 19);
  const std::string cursor = world().get("/api/gigs/my-gigs?limit=2&as=seeker", me.token).string_at("/next_cursor");
  EXPECT_EQ(world().get("/api/gigs/my-gigs?cursor=" + cursor, other.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get("/api/gigs/my-gigs?as=helper&cursor=" + cursor, me.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get("/api/gigs?cursor=" + cursor, me.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get("/api/gigs/my-gigs?as=owner", me.token).status, 422);
}

// --- races -----------------------------------------------------------------------------------------------------------

class GigRaces : public WorldTest {
 protected:
  /// Many asks, as many at once as the queue for a connection takes.
  static std::vector<Answer> in_waves(std::vector<Ask> asks) {
    std::vector<Answer> answers;
    for (std::size_t from = 0; from < asks.size(); from += 500) {
      const auto last = std::min(from + 500, asks.size());
      const auto first = asks.begin() + static_cast<std::ptrdiff_t>(from);
      for (Answer& answer : world().send_all({first, asks.begin() + static_cast<std::ptrdiff_t>(last)})) {
        answers.push_back(std::move(answer));
      }
    }
    return answers;
  }
};

TEST_F(GigRaces, FortyHelpersOneGig) {
  const Person seeker = world().person();
  std::vector<Person> helpers;
  for (int i = 0; i < 40; ++i) helpers.push_back(world().person());
  for (int round = 0; round < 5; ++round) {
    const std::string gig = world().post_gig(seeker);
    std::vector<Ask> asks;
    for (const Person& helper : helpers) {
      if (&helper - helpers.data() == 20)
        asks.push_back({Method::post, "/api/gigs/" + gig + "/accept", {}, seeker.token});
      Ask ask = round % 2 == 0 ? Ask{Method::post, "/api/gigs/" + gig + "/accept"}
                               : Ask{Method::put, "/api/gigs/" + gig + "/status", R"({"status":"ACCEPTED"})"};
      ask.token = helper.token;
      asks.push_back(ask);
    }
    const auto answers = world().send_all(asks);
    std::string winner;
    int own = 0, taken = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (answers[i].status == 200) {
        EXPECT_TRUE(winner.empty());
        winner = answers[i].string_at("/helper/id");
      } else if (answers[i].code() == "own_gig") {
        ++own;
      } else {
        EXPECT_EQ(answers[i].code(), "gig_already_taken");
        ++taken;
      }
    }
    EXPECT_EQ(own, 1);
    EXPECT_EQ(taken, 39);
    EXPECT_EQ(world().sql("SELECT helper_id::text FROM gigs WHERE id = $1::uuid", {gig}), winner);
    EXPECT_EQ(world().sql("SELECT count(*)::text FROM gig_events WHERE gig_id = $1::uuid AND action = 'ACCEPT'", {gig}),
              "1");
    EXPECT_EQ(world().sql("SELECT count(*)::text FROM gig_assignments WHERE gig_id = $1::uuid", {gig}), "1");
  }
}

TEST_F(GigRaces, AThousandGigsTwentyHelpersEach) {
  const Person seeker = world().person();
  std::vector<Person> helpers;
  for (int i = 0; i < 20; ++i) helpers.push_back(world().person());
  std::vector<Ask> posts;
  for (int i = 0; i < 1000; ++i) posts.push_back({Method::post, "/api/gigs", World::gig_body(), seeker.token});
  std::vector<Ask> asks;
  for (const Answer& made : in_waves(std::move(posts))) {
    for (const Person& helper : helpers) {
      asks.push_back({Method::post, "/api/gigs/" + made.string_at("/id") + "/accept", {}, helper.token});
    }
  }
  std::shuffle(asks.begin(), asks.end(), std::mt19937(5));
  std::map<int, int> statuses;
  std::set<std::string> won;
  for (const Answer& answer : in_waves(std::move(asks))) {
    ++statuses[answer.status];
    if (answer.status == 200)
      EXPECT_TRUE(won.insert(answer.string_at("/id")).second);
    else
      EXPECT_EQ(answer.code(), "gig_already_taken");
  }
  EXPECT_EQ(statuses, (std::map<int, int>{{200, 1000}, {409, 19'000}}));
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM gigs g JOIN gig_assignments a ON a.gig_id = g.id AND a.helper_id = "
                        "g.helper_id AND a.ended_at IS NULL WHERE g.seeker_id = $1::uuid AND g.status = 'ACCEPTED'",
                        {to_string(seeker.id)}),
            "1000");
}

TEST_F(GigRaces, AcceptCancelAndChangeAtOnceLeaveOneTruth) {
  const Person seeker = world().person(), one = world().person(), two = world().person();
  for (int round = 0; round < 40; ++round) {
    const std::string gig = world().post_gig(seeker), target = "/api/gigs/" + gig;
    const auto answers = world().send_all({{Method::post, target + "/accept", {}, one.token},
                                           {Method::del, target, {}, seeker.token},
                                           {Method::post, target + "/accept", {}, two.token},
                                           {Method::put, target, R"({"budget":1})", seeker.token}});
    for (const Answer& answer : answers) EXPECT_LT(answer.status, 500) << answer.text;
    const int accepted = (answers[0].status == 200) + (answers[2].status == 200);
    EXPECT_LE(accepted, 1);
    const std::string status = world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {gig});
    EXPECT_EQ(status == "CANCELLED", answers[1].status == 204) << status;
    EXPECT_EQ(world().sql("SELECT count(*)::text FROM gig_events WHERE gig_id = $1::uuid", {gig}),
              world().sql("SELECT version::text FROM gigs WHERE id = $1::uuid", {gig}));
    EXPECT_EQ(
        world().sql("SELECT count(*)::text FROM gig_assignments WHERE gig_id = $1::uuid AND ended_at IS NULL", {gig}),
        status == "ACCEPTED" ? "1" : "0");
  }
}

// --- expiry ----------------------------------------------------------------------------------------------------------

class GigExpiry : public WorldTest {
 protected:
  static std::string due_gig(const Person& seeker, const std::string& due = "now() - interval '1 s'") {
    const std::string gig = world().post_gig(seeker, {{"expires_at", "2099-01-01T00:00:00Z"}});
    world().sql("UPDATE gigs SET expires_at = " + due + " WHERE id = $1::uuid", {gig});
    world().sql("UPDATE timers SET due_at = " + due + " WHERE subject_id = $1::uuid", {gig});
    return gig;
  }
  static bool settled() {
    return world().until([] { return world().sql("SELECT count(*)::text FROM timers WHERE due_at <= now()") == "0"; },
                         std::chrono::seconds(30));
  }
};

TEST_F(GigExpiry, FiresOnceWithTwoServersOnOneDatabase) {
  const Person seeker = world().person(), helper = world().person();
  std::vector<std::string> due;
  for (int i = 0; i < 60; ++i) due.push_back(due_gig(seeker));
  const std::string later = world().post_gig(seeker, {{"expires_at", "2099-01-01T00:00:00Z"}});
  const std::string taken = due_gig(seeker, "now() + interval '1 h'");
  ASSERT_EQ(world().post("/api/gigs/" + taken + "/accept", {}, helper.token).status, 200);
  world().sql("UPDATE gigs SET expires_at = now() - interval '1 s' WHERE id = $1::uuid", {taken});
  world().sql("UPDATE timers SET due_at = now() - interval '1 s' WHERE subject_id = $1::uuid", {taken});
  {
    Runner one(world(), "gig.expire", gigs::expire), two(world(), "gig.expire", gigs::expire);
    one.jobs.start();
    two.jobs.start();
    EXPECT_TRUE(settled());
    // A late timer that another server has taken meanwhile is not fired twice: let both look once more.
    due.push_back(due_gig(seeker));
    EXPECT_TRUE(settled());
  }
  for (const std::string& gig : due) {
    EXPECT_EQ(world().sql("SELECT status || ' ' || cancel_reason FROM gigs WHERE id = $1::uuid", {gig}),
              "CANCELLED expired");
    EXPECT_EQ(
        world().sql(
            "SELECT count(*)::text FROM gig_events WHERE gig_id = $1::uuid AND action = 'EXPIRE' AND actor_id IS NULL",
            {gig}),
        "1");
  }
  EXPECT_EQ(world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {later}), "PENDING");
  EXPECT_EQ(world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {taken}), "ACCEPTED");
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM timers"), "1");
}

TEST_F(GigExpiry, SurvivesARestartAndComesBackAfterAWithdrawal) {
  const Person seeker = world().person(), helper = world().person();
  const std::string gig = due_gig(seeker), back = due_gig(seeker, "now() + interval '1 h'");
  world().restart();
  const std::string token = world().token_for(helper.id, helper.session);
  ASSERT_EQ(world().post("/api/gigs/" + back + "/accept", {}, token).status, 200);
  world().sql("DELETE FROM timers WHERE subject_id = $1::uuid", {back});
  ASSERT_EQ(world().post("/api/gigs/" + back + "/withdraw", {}, token).status, 200);
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM timers WHERE subject_id = $1::uuid", {back}), "1");
  Runner one(world(), "gig.expire", gigs::expire);
  one.jobs.start();
  EXPECT_TRUE(settled());
  EXPECT_EQ(world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {gig}), "CANCELLED");
  EXPECT_EQ(world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {back}), "PENDING");
}

TEST_F(GigExpiry, AGigPastItsTimeIsNotAcceptedEvenBeforeTheTimer) {
  const Person seeker = world().person(), helper = world().person();
  const std::string gig = due_gig(seeker);
  EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, helper.token).code(), "gig_not_open");
}

TEST_F(GigExpiry, ATimerThatFailsIsPutOffAndBlocksNobody) {
  const Person seeker = world().person();
  const std::string gig = due_gig(seeker);
  world().sql(
      "INSERT INTO timers (kind, subject_id, due_at) VALUES ('test.broken', gen_random_uuid(), now() - interval '1 "
      "d')");
  world().sql(
      "INSERT INTO timers (kind, subject_id, due_at) VALUES ('test.unknown', gen_random_uuid(), now() - interval '1 "
      "d')");
  Runner one(world(), "gig.expire", gigs::expire);
  one.jobs.on_timer("test.broken", [](db::Executor&, Uuid) -> db::Awaitable<void> {
    throw std::runtime_error("broken");
    co_return;
  });
  one.jobs.start();
  EXPECT_TRUE(world().until(
      [&] {
        return world().sql("SELECT attempts::text FROM timers WHERE kind = 'test.broken'") == "1" &&
               world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {gig}) == "CANCELLED";
      },
      std::chrono::seconds(30)));
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM timers WHERE kind = 'test.unknown'"), "1");  // a newer server's
}

}  // namespace
}  // namespace hourz::harness
