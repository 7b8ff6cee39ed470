// Reviews: who, when, once, by whom changed; lists and sums; the score and what moves it; races, and no drift after a
// random history.
#include "rooms/reviews/reviews.hpp"

#include <algorithm>
#include <random>

#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

using http::Method;

class Reviews : public WorldTest {
 protected:
  /// A gig that these two have completed.
  static std::string completed(const Person& seeker, const Person& helper) {
    const std::string gig = world().post_gig(seeker);
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, helper.token).status, 200);
    move(gig, seeker, "IN_PROGRESS");
    move(gig, seeker, "COMPLETED");
    return gig;
  }
  static void move(const std::string& gig, const Person& who, const char* status) {
    const Sent body{{"status", status}, {"reason", "so it is"}};
    ASSERT_EQ(world().put("/api/gigs/" + gig + "/status", body, who.token).status, 200) << status;
  }
  static Ask asking(const Person& who, const std::string& gig, int rating) {
    return {Method::post, "/api/reviews", Sent{{"gig_id", gig}, {"rating", rating}}, who.token};
  }
  static Answer write(const Person& who, const std::string& gig, int rating, const json::object& more = {}) {
    json::object body{{"gig_id", gig}, {"rating", rating}};
    for (const auto& pair : more) body[pair.key()] = pair.value();
    return world().post("/api/reviews", body, who.token);
  }
  static std::string path(const Answer& review) { return "/api/reviews/" + review.string_at("/id"); }
  static Answer can(const Person& who, const std::string& gig) {
    return world().get("/api/reviews/can-review/" + gig, who.token);
  }
  static void age(const std::string& gig, const std::string& by) {
    world().sql("UPDATE gigs SET completed_at = now() - $2::interval WHERE id = $1::uuid", {gig, by});
  }
  static void age(const Answer& review, const std::string& by) {
    world().sql("UPDATE reviews SET created_at = now() - $2::interval WHERE id = $1::uuid",
                {review.string_at("/id"), by});
  }
  struct Kept {
    double score;
    std::int64_t count;
    bool operator==(const Kept&) const = default;
    friend std::ostream& operator<<(std::ostream& out, const Kept& kept) {
      return out << kept.score << " of " << kept.count;
    }
  };
  /// What the profile shows.
  static Kept kept(const Person& who) {
    const Answer me = world().get("/api/users/me", who.token);
    return {me.number_at("/reputation_score"), me.at("/total_reviews").as_int64()};
  }
  static Kept of(std::vector<int> ratings) {
    users::Ratings all;
    for (const int rating : ratings) all = {all.sum + rating, all.count + 1};
    return {users::score_of(all), all.count};
  }
  static std::vector<std::string> ids(const Answer& answer) {
    std::vector<std::string> all;
    for (const auto& review : answer.at("/reviews").as_array()) all.emplace_back(review.at("id").as_string());
    return all;
  }
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
    } while (!cursor.empty() && all.size() < 1000);
    return all;
  }
  static reviews::Recomputed recompute() { return world().wait(reviews::recompute(world().desk().database)); }
};

// --- writing ---------------------------------------------------------------------------------------------------------

TEST_F(Reviews, EachSideReviewsTheOtherAndTheScoreFollowsAtOnce) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = completed(ann, ben);
  const Answer made = write(ann, gig, 4, {{"comment", "  ตรงเวลา, friendly. "}, {"reviewee_id", to_string(ben.id)}});
  ASSERT_EQ(made.status, 201) << made.text;
  EXPECT_EQ(made.header("Location"), path(made));
  EXPECT_EQ(made.string_at("/gig_id"), gig);
  EXPECT_EQ(made.string_at("/gig_title"), world().get("/api/gigs/" + gig, ann.token).string_at("/title"));
  EXPECT_EQ(made.at("/rating"), 4);
  EXPECT_EQ(made.string_at("/comment"), "ตรงเวลา, friendly.");
  EXPECT_EQ(made.string_at("/reviewer/id"), to_string(ann.id));
  EXPECT_EQ(made.string_at("/reviewee/name"), "Ben");
  EXPECT_EQ(made.at("/reviewee/total_reviews"), 1);
  EXPECT_EQ(made.number_at("/reviewee/reputation_score"), 29.0 / 6);
  EXPECT_EQ(made.at("/created_at"), made.at("/updated_at"));
  const auto written = parse_timestamp(made.string_at("/created_at"));
  EXPECT_EQ(made.string_at("/editable_until"), to_string(Timestamp{written->microseconds + 172'800'000'000}));
  const Person eve = world().person("Eve");
  for (const Person* reader : {&ann, &ben, &eve}) {
    EXPECT_EQ(world().get(path(made), reader->token).text, made.text);
  }
  const Answer back = write(ben, gig, 2);
  ASSERT_EQ(back.status, 201) << back.text;
  EXPECT_TRUE(back.at("/comment").is_null());
  EXPECT_EQ(back.string_at("/reviewee/id"), to_string(ann.id));
  EXPECT_EQ(back.number_at("/reviewer/reputation_score"), 29.0 / 6);
  EXPECT_EQ(kept(ann), of({2}));
  EXPECT_EQ(kept(ben), of({4}));
  // Wherever a card of them is shown.
  const Answer shown = world().get("/api/gigs/" + gig, eve.token);
  EXPECT_EQ(shown.number_at("/helper/reputation_score"), 29.0 / 6);
  EXPECT_EQ(shown.at("/seeker/total_reviews"), 1);
  EXPECT_EQ(world().get("/api/users/" + to_string(ben.id), eve.token).number_at("/reputation_score"), 29.0 / 6);
}

TEST_F(Reviews, OnlyTheSidesOfACompletedGigInTimeAndOnce) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string none = to_string(make_uuid());
  EXPECT_EQ(write(ann, none, 5).code(), "not_found");
  EXPECT_EQ(world().get("/api/reviews/can-review/" + none, ann.token).status, 404);
  const auto refused = [&](const Person& who, const std::string& gig, const std::string& code, int status) {
    const Answer answer = write(who, gig, 1);
    EXPECT_EQ(answer.code(), code) << answer.text;
    EXPECT_EQ(answer.status, status);
    const Answer able = can(who, gig);
    EXPECT_EQ(able.at("/can_review"), false);
    EXPECT_EQ(able.string_at("/reason"), code);
    return answer;
  };
  const std::string gig = world().post_gig(ann);
  EXPECT_EQ(refused(ann, gig, "gig_not_completed", 409).string_at("/current_status"), "PENDING");
  EXPECT_TRUE(can(ann, gig).at("/reviewee_id").is_null());
  refused(eve, gig, "forbidden", 403);
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ben.token).status, 200);
  refused(ben, gig, "gig_not_completed", 409);
  EXPECT_EQ(can(ben, gig).string_at("/reviewee_id"), to_string(ann.id));
  move(gig, ann, "IN_PROGRESS");
  refused(ann, gig, "gig_not_completed", 409);
  EXPECT_TRUE(can(ann, gig).at("/until").is_null());
  move(gig, ann, "COMPLETED");
  refused(eve, gig, "forbidden", 403);
  EXPECT_TRUE(can(eve, gig).at("/reviewee_id").is_null());
  EXPECT_TRUE(can(eve, gig).at("/until").is_null());
  EXPECT_EQ(can(ann, gig).at("/can_review"), true);
  EXPECT_TRUE(can(ann, gig).at("/reason").is_null());
  EXPECT_EQ(can(ann, gig).string_at("/reviewee_id"), to_string(ben.id));
  EXPECT_EQ(can(ben, gig).string_at("/reviewee_id"), to_string(ann.id));
  for (const Uuid& wrong : {ann.id, eve.id, make_uuid()}) {
    const Answer answer = write(ann, gig, 5, {{"reviewee_id", to_string(wrong)}});
    EXPECT_EQ(answer.faults(), std::vector<std::string>{"reviewee_id:not_the_other_side"});
  }
  ASSERT_EQ(write(ann, gig, 3).status, 201);
  refused(ann, gig, "already_reviewed", 409);
  age(gig, "14 days 1 second");
  refused(ann, gig, "already_reviewed", 409);
  refused(ben, gig, "review_window_closed", 409);
  age(gig, "13 days 23 hours 59 minutes");
  EXPECT_EQ(can(ben, gig).at("/can_review"), true);
  EXPECT_EQ(write(ben, gig, 3).status, 201);
  const std::string stopped = world().post_gig(ann);
  ASSERT_EQ(world().post("/api/gigs/" + stopped + "/accept", {}, ben.token).status, 200);
  move(stopped, ann, "CANCELLED");
  EXPECT_EQ(refused(ann, stopped, "gig_not_completed", 409).string_at("/current_status"), "CANCELLED");
  EXPECT_EQ(kept(ben), of({3}));
  EXPECT_EQ(kept(ann), of({3}));
  EXPECT_EQ(kept(eve), of({}));
}

TEST_F(Reviews, EveryFaultAtOnce) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = completed(ann, ben);
  using Faults = std::vector<std::string>;
  const auto faults = [&](const Sent& body) { return world().post("/api/reviews", body, ann.token).faults(); };
  EXPECT_EQ(faults("{}"), (Faults{"gig_id:required", "rating:required"}));
  EXPECT_EQ(faults(json::object{{"gig_id", "x"},
                                {"rating", 6},
                                {"comment", std::string(2001, 'c')},
                                {"reviewee_id", 5},
                                {"reviewer_id", to_string(ben.id)}}),
            (Faults{"comment:too_long", "gig_id:not_a_uuid", "rating:out_of_range", "reviewee_id:wrong_type",
                    "reviewer_id:unknown_field"}));
  for (const char* rating : {"0", "6", "-1", "4.5", "\"5\"", "null", "true", "1e9"}) {
    EXPECT_EQ(faults(R"({"gig_id":")" + gig + R"(","rating":)" + rating + "}").size(), 1U) << rating;
  }
  const Answer made = write(ann, gig, 5, {{"comment", std::string(2000, 'c')}});
  ASSERT_EQ(made.status, 201) << made.text;
  const auto changed = [&](const Sent& body) { return world().put(path(made), body, ann.token).faults(); };
  EXPECT_EQ(changed(R"({"rating":0,"comment":7,"gig_id":"x"})"),
            (Faults{"comment:wrong_type", "gig_id:unknown_field", "rating:out_of_range"}));
  EXPECT_EQ(changed(R"({"rating":null})"), Faults{"rating:wrong_type"});
  for (const std::string& list : {std::string("/api/reviews/user/") + to_string(ben.id), "/api/reviews/gig/" + gig,
                                  std::string("/api/reviews/my-reviews")}) {
    const Answer wrong = world().get(list + "?limit=101&include_total=maybe&x=1", ann.token);
    EXPECT_EQ(wrong.faults().size(), 3U) << wrong.text;
    EXPECT_EQ(world().get(list + "?cursor=x", ann.token).code(), "invalid_cursor");
  }
  EXPECT_EQ(world().get("/api/reviews/my-reviews?as=nobody", ann.token).status, 422);
  EXPECT_EQ(world().get("/api/reviews/not-an-id", ann.token).faults(), Faults{"id:not_a_uuid"});
  EXPECT_EQ(world().get(path(made), ann.token).text, made.text);
  EXPECT_EQ(kept(ben), of({5}));
}

TEST_F(Reviews, AKeyMakesARetrySafe) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = completed(ann, ben);
  const Sent body{{"gig_id", gig}, {"rating", 1}};
  const Fields key{{"idempotency-key", "review-1"}};
  const Answer first = world().post("/api/reviews", body, ann.token, key);
  const Answer second = world().post("/api/reviews", body, ann.token, key);
  EXPECT_EQ(first.status, 201);
  EXPECT_EQ(second.status, 201);
  EXPECT_EQ(second.text, first.text);
  EXPECT_EQ(second.header("Idempotency-Replayed"), "true");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(world().post("/api/reviews", body, ann.token, {{"idempotency-key", "review-2"}}).code(),
              "already_reviewed");
  }
  EXPECT_EQ(world().post("/api/reviews", {{"gig_id", gig}, {"rating", 2}}, ann.token, key).code(),
            "idempotency_key_reused");
  EXPECT_EQ(kept(ben), of({1}));
}

// --- changing --------------------------------------------------------------------------------------------------------

TEST_F(Reviews, ItsAuthorChangesItForTwoDays) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const Answer made = write(ann, completed(ann, ben), 2, {{"comment", "Late"}});
  ASSERT_EQ(made.status, 201);
  const Answer better = world().put(path(made), {{"rating", 5}}, ann.token);
  ASSERT_EQ(better.status, 200) << better.text;
  EXPECT_EQ(better.at("/rating"), 5);
  EXPECT_EQ(better.string_at("/comment"), "Late");
  EXPECT_EQ(better.at("/created_at"), made.at("/created_at"));
  EXPECT_NE(better.at("/updated_at"), made.at("/updated_at"));
  EXPECT_EQ(better.number_at("/reviewee/reputation_score"), 5);
  EXPECT_EQ(kept(ben), of({5}));
  EXPECT_EQ(world().put(path(made), "{}", ann.token).string_at("/comment"), "Late");
  Ask patch{Method::patch, path(made), R"({"comment":null})", ann.token};
  EXPECT_TRUE(world().send(patch).at("/comment").is_null());
  EXPECT_EQ(world().put(path(made), R"({"comment":"ดี"})", ann.token).string_at("/comment"), "ดี");
  const Answer empty = world().put(path(made), R"({"comment":"  ","rating":4})", ann.token);
  EXPECT_TRUE(empty.at("/comment").is_null());
  EXPECT_EQ(kept(ben), of({4}));
  EXPECT_EQ(world().get(path(made), eve.token).text, empty.text);
  for (const Person* other : {&ben, &eve}) {
    EXPECT_EQ(world().put(path(made), {{"rating", 1}}, other->token).code(), "forbidden");
    EXPECT_EQ(world().del(path(made), other->token).code(), "forbidden");
  }
  age(made, "47 hours 59 minutes");
  EXPECT_EQ(world().put(path(made), {{"rating", 3}}, ann.token).status, 200);
  age(made, "48 hours 1 second");
  EXPECT_EQ(world().put(path(made), {{"rating", 1}}, ann.token).code(), "review_not_editable");
  EXPECT_EQ(world().del(path(made), ann.token).code(), "review_not_editable");
  EXPECT_EQ(world().get(path(made), ann.token).at("/rating"), 3);
  EXPECT_EQ(kept(ben), of({3}));
}

TEST_F(Reviews, TagsTellWhatHasChanged) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const Answer made = write(ann, completed(ann, ben), 2);
  const std::string first = made.header("ETag");
  ASSERT_FALSE(first.empty());
  EXPECT_EQ(world().get(path(made), ben.token, {{"if-none-match", first}}).status, 304);
  const Answer changed = world().put(path(made), {{"rating", 3}}, ann.token, {{"if-match", first}});
  EXPECT_EQ(changed.status, 200);
  EXPECT_EQ(world().put(path(made), {{"rating", 4}}, ann.token, {{"if-match", first}}).code(), "precondition_failed");
  EXPECT_EQ(world().del(path(made), ann.token, {{"if-match", first}}).status, 412);
  EXPECT_EQ(world().get(path(made), ann.token, {{"if-none-match", first}}).status, 200);
  EXPECT_EQ(kept(ben), of({3}));
  EXPECT_EQ(world().del(path(made), ann.token, {{"if-match", changed.header("ETag")}}).status, 204);
}

TEST_F(Reviews, TheLastOneTakenBackLeavesTheBeginning) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = completed(ann, ben), other = completed(ann, ben);
  const Answer one = write(ann, gig, 1), two = write(ann, other, 3);
  EXPECT_EQ(kept(ben), of({1, 3}));
  EXPECT_EQ(world().del(path(one), ann.token).status, 204);
  EXPECT_EQ(kept(ben), of({3}));
  EXPECT_EQ(world().del(path(two), ann.token).status, 204);
  EXPECT_EQ(kept(ben), (Kept{5.0, 0}));
  for (const Answer* gone : {&one, &two}) {
    EXPECT_EQ(world().get(path(*gone), ann.token).status, 404);
    EXPECT_EQ(world().del(path(*gone), ann.token).status, 404);
    EXPECT_EQ(world().put(path(*gone), "{}", ann.token).status, 404);
  }
  EXPECT_EQ(can(ann, gig).at("/can_review"), true);
  EXPECT_EQ(write(ann, gig, 4).status, 201);
  age(other, "15 days");
  EXPECT_EQ(write(ann, other, 4).code(), "review_window_closed");
  EXPECT_EQ(kept(ben), of({4}));
}

// --- lists -----------------------------------------------------------------------------------------------------------

TEST_F(Reviews, ListsAreNewestFirstAndTheSummaryIsOfAll) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  std::vector<std::string> of_ben, gigs;
  for (const int rating : {5, 4, 4, 1, 5, 5, 2}) {
    gigs.push_back(completed(ann, ben));
    const Answer made = write(ann, gigs.back(), rating);
    ASSERT_EQ(made.status, 201);
    of_ben.insert(of_ben.begin(), made.string_at("/id"));
  }
  const Answer back = write(ben, gigs.back(), 3);
  const std::string user = "/api/reviews/user/" + to_string(ben.id);
  const Answer page = world().get(user + "?limit=2&include_total=true", eve.token);
  EXPECT_EQ(page.at("/summary"), json::parse(R"({"average":3.7142857142857144,"count":7,
      "distribution":{"1":1,"2":1,"3":0,"4":2,"5":3}})"));
  EXPECT_EQ(page.at("/total_count"), 7);
  EXPECT_FALSE(world().get(user, eve.token).body.as_object().contains("total_count"));
  const Answer nobody = world().get("/api/reviews/user/" + to_string(eve.id), ann.token);
  EXPECT_EQ(nobody.at("/summary"), json::parse(R"({"average":null,"count":0,
      "distribution":{"1":0,"2":0,"3":0,"4":0,"5":0}})"));
  EXPECT_TRUE(nobody.at("/reviews").as_array().empty());

  const std::string mine = "/api/reviews/my-reviews", gig = "/api/reviews/gig/" + gigs.back();
  for (const int limit : {1, 3, 7, 100}) {
    EXPECT_EQ(walk(eve, user, limit), of_ben) << limit;
    EXPECT_EQ(walk(ann, mine, limit), of_ben) << limit;
    EXPECT_EQ(walk(eve, gig, limit), (std::vector<std::string>{back.string_at("/id"), of_ben[0]})) << limit;
  }
  EXPECT_EQ(ids(world().get(mine + "?as=reviewee", ben.token)), of_ben);
  EXPECT_EQ(ids(world().get(mine + "?as=REVIEWER", ben.token)), std::vector<std::string>{back.string_at("/id")});
  EXPECT_EQ(world().get(mine + "?as=reviewee&include_total=true", ben.token).at("/total_count"), 7);
  EXPECT_EQ(world().get(mine + "?include_total=true", ben.token).at("/total_count"), 1);
  EXPECT_EQ(world().get(gig + "?include_total=true", eve.token).at("/total_count"), 2);
  EXPECT_EQ(world().get("/api/reviews/gig/" + to_string(make_uuid()), eve.token).status, 404);
  EXPECT_EQ(world().get("/api/reviews/user/" + to_string(make_uuid()), eve.token).status, 404);

  // A cursor is its list's and its caller's.
  const std::string cursor = "&cursor=" + page.string_at("/next_cursor");
  EXPECT_EQ(world().get(user + "?limit=2" + cursor, eve.token).status, 200);
  EXPECT_EQ(world().get(user + "?limit=2" + cursor, ann.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get("/api/reviews/user/" + to_string(ann.id) + "?limit=2" + cursor, eve.token).code(),
            "invalid_cursor");
  EXPECT_EQ(world().get(mine + "?limit=2" + cursor, eve.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get(gig + "?limit=2" + cursor, eve.token).code(), "invalid_cursor");

  // All at one moment: the id decides.
  world().sql("UPDATE reviews SET created_at = '2026-01-01' WHERE reviewee_id = $1::uuid", {to_string(ben.id)});
  std::sort(of_ben.rbegin(), of_ben.rend());
  EXPECT_EQ(walk(eve, user, 2), of_ben);
}

TEST_F(Reviews, WhoIsSuspendedHasNoPageButTheirWordsStay) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string gig = completed(ann, ben);
  ASSERT_EQ(write(ann, gig, 2).status, 201);
  ASSERT_EQ(write(ben, gig, 4).status, 201);
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(ann.id)});
  EXPECT_EQ(world().get("/api/reviews/user/" + to_string(ann.id), eve.token).status, 404);
  EXPECT_EQ(world().get("/api/users/" + to_string(ann.id) + "/reputation", eve.token).status, 404);
  EXPECT_EQ(ids(world().get("/api/reviews/user/" + to_string(ben.id), eve.token)).size(), 1U);
  EXPECT_EQ(kept(ben), of({2}));
}

// --- the score -------------------------------------------------------------------------------------------------------

TEST_F(Reviews, TheScoreIsExplained) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string target = "/api/users/" + to_string(ben.id) + "/reputation";
  const Answer before = world().get(target, ann.token);
  EXPECT_EQ(before.body, json::parse(R"({"user_id":")" + to_string(ben.id) + R"(","reputation_score":5,
      "computed_score":5,"is_overridden":false,"prior":{"score":5,"weight":5},"count":0,"sum":0,"average":null,
      "distribution":{"1":0,"2":0,"3":0,"4":0,"5":0}})"));
  for (const int rating : {1, 2, 2}) ASSERT_EQ(write(ann, completed(ann, ben), rating).status, 201);
  const Answer after = world().get(target, ben.token);
  EXPECT_EQ(after.number_at("/reputation_score"), 30.0 / 8);
  EXPECT_EQ(after.number_at("/computed_score"), 30.0 / 8);
  EXPECT_EQ(after.number_at("/average"), 5.0 / 3);
  EXPECT_EQ(after.at("/sum"), 5);
  EXPECT_EQ(after.at("/count"), 3);
  EXPECT_EQ(after.at("/distribution/2"), 2);
  EXPECT_EQ(kept(ben), of({1, 2, 2}));
  EXPECT_EQ(world().get("/api/users/" + to_string(make_uuid()) + "/reputation", ann.token).status, 404);
}

TEST_F(Reviews, AnAdministratorsWordHoldsUntilTheScoreIsRecomputed) {
  const Person admin = world().admin(), ann = world().person("Ann"), ben = world().person("Ben");
  const std::string target = "/api/users/" + to_string(ben.id) + "/reputation";
  ASSERT_EQ(write(ann, completed(ann, ben), 2).status, 201);
  ASSERT_EQ(world().put(target, R"({"score":1.5,"reason":"complaints"})", admin.token).status, 200);
  ASSERT_EQ(write(ann, completed(ann, ben), 4).status, 201);
  EXPECT_EQ(kept(ben), (Kept{1.5, 2}));
  EXPECT_EQ(recompute().corrected, 0);
  EXPECT_EQ(kept(ben), (Kept{1.5, 2}));
  const Answer told = world().get(target, ann.token);
  EXPECT_EQ(told.number_at("/reputation_score"), 1.5);
  EXPECT_EQ(told.number_at("/computed_score"), 31.0 / 7);
  EXPECT_EQ(told.at("/is_overridden"), true);

  world().sql("UPDATE users SET rating_sum = 5, total_reviews = 1 WHERE id = $1::uuid", {to_string(ben.id)});
  const Answer again = world().put(target, {}, admin.token);
  ASSERT_EQ(again.status, 200) << again.text;
  EXPECT_EQ(again.number_at("/reputation_score"), 31.0 / 7);
  EXPECT_EQ(again.at("/total_reviews"), 2);
  EXPECT_EQ(kept(ben), of({2, 4}));
  EXPECT_EQ(world().get(target, ann.token).at("/is_overridden"), false);
  EXPECT_EQ(world().sql("SELECT string_agg(details->>'from' || ' ' || (details->>'reason'), ', ' ORDER BY at) "
                        "FROM audit_log WHERE subject_id = $1::uuid",
                        {to_string(ben.id)}),
            "4.5 complaints, 1.5 recomputed from 2 reviews");
  EXPECT_EQ(world().put("/api/users/" + to_string(make_uuid()) + "/reputation", {}, admin.token).status, 404);
}

// --- races -----------------------------------------------------------------------------------------------------------

TEST_F(Reviews, TwentyAtOnceAreOne) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  for (int round = 0; round < 5; ++round) {
    const std::string gig = completed(ann, ben);
    std::vector<Ask> asks;
    for (int i = 0; i < 20; ++i) asks.push_back(asking(ann, gig, i % 5 + 1));
    int made = 0;
    for (const Answer& answer : world().send_all(asks)) {
      if (answer.status == 201) {
        ++made;
      } else {
        EXPECT_EQ(answer.code(), "already_reviewed") << answer.text;
      }
    }
    EXPECT_EQ(made, 1);
    EXPECT_EQ(kept(ben).count, round + 1);
  }
  EXPECT_EQ(recompute().corrected, 0);
}

TEST_F(Reviews, ManyReviewOnePersonAtOnceAndNothingIsLost) {
  const Person ben = world().person("Ben");
  std::vector<Person> seekers;
  std::vector<std::string> gigs;
  for (int i = 0; i < 24; ++i) {
    seekers.push_back(world().person());
    gigs.push_back(completed(seekers.back(), ben));
  }
  std::vector<Ask> asks;
  std::vector<int> ratings;
  for (std::size_t i = 0; i < gigs.size(); ++i) {
    ratings.push_back(static_cast<int>(i % 5) + 1);
    asks.push_back(asking(seekers[i], gigs[i], ratings.back()));
    asks.push_back(asking(ben, gigs[i], 5));  // and he them: neither waits for the other for ever
  }
  std::vector<Answer> made = world().send_all(asks);
  for (const Answer& answer : made) EXPECT_EQ(answer.status, 201) << answer.text;
  EXPECT_EQ(kept(ben), of(ratings));
  for (const Person& one : seekers) EXPECT_EQ(kept(one), of({5}));
  // Half are changed, half taken back, and each asks for both twice.
  asks.clear();
  std::vector<int> left;
  for (std::size_t i = 0; i < gigs.size(); ++i) {
    const std::string target = path(made[2 * i]);
    for (int twice = 0; twice < 2; ++twice) {
      if (i % 2 == 0) {
        asks.push_back({Method::put, target, Sent{{"rating", 3}}, seekers[i].token});
      } else {
        asks.push_back({Method::del, target, {}, seekers[i].token});
      }
    }
    if (i % 2 == 0) left.push_back(3);
  }
  int removed = 0;
  for (const Answer& answer : world().send_all(asks)) {
    EXPECT_TRUE(answer.status == 200 || answer.status == 204 || answer.status == 404) << answer.text;
    removed += answer.status == 204 ? 1 : 0;
  }
  EXPECT_EQ(removed, 12);
  EXPECT_EQ(kept(ben), of(left));
  EXPECT_EQ(recompute().corrected, 0);
}

TEST_F(Reviews, ARandomHistoryLeavesNoDrift) {
  std::mt19937 dice(20261123);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(dice() % n); };
  std::vector<Person> people;
  for (int i = 0; i < 6; ++i) people.push_back(world().person());
  struct Slot {
    std::string gig;
    std::size_t reviewer, reviewee;
    std::string review;  ///< empty when there is none
  };
  std::vector<Slot> slots;
  for (std::size_t i = 0; i < 30; ++i) {
    const std::size_t seeker = below(6), helper = (seeker + 1 + below(5)) % 6;
    const std::string gig = completed(people[seeker], people[helper]);
    slots.push_back({gig, seeker, helper, {}});
    slots.push_back({gig, helper, seeker, {}});
  }
  const Person admin = world().admin();
  int posted = 0, changed = 0, removed = 0;
  for (int round = 0; round < 60; ++round) {
    std::vector<Ask> asks;
    std::vector<std::size_t> whose;
    for (int i = 0; i < 16; ++i) {
      const std::size_t at = below(slots.size());
      const Slot& slot = slots[at];
      const std::string& token = people[slot.reviewer].token;
      const int rating = static_cast<int>(below(5)) + 1;
      const std::string target = "/api/reviews/" + slot.review;
      const std::size_t what = below(4);
      if (slot.review.empty() || what == 0) {
        asks.push_back(asking(people[slot.reviewer], slot.gig, rating));
      } else if (what == 1) {
        asks.push_back({Method::del, target, {}, token});
      } else {
        asks.push_back({Method::put, target, Sent{{"rating", rating}, {"comment", "c"}}, token});
      }
      whose.push_back(at);
    }
    // Everybody's sums are made anew meanwhile, by the command's way and by the administrator's call.
    asks.push_back({Method::put, "/api/users/" + to_string(people[below(6)].id) + "/reputation", {}, admin.token});
    std::optional<reviews::Recomputed> all;
    if (round % 3 == 0) {
      boost::asio::co_spawn(world().io(), reviews::recompute(world().desk().database),
                            [&](std::exception_ptr failure, reviews::Recomputed done) {
                              EXPECT_FALSE(failure);
                              all = done;
                            });
    }
    const std::vector<Answer> answers = world().send_all(asks);
    if (round % 3 == 0) {
      ASSERT_TRUE(world().until([&] { return all.has_value(); }));
      EXPECT_EQ(all->corrected, 0);
    }
    EXPECT_EQ(answers.back().status, 200) << answers.back().text;
    for (std::size_t i = 0; i < whose.size(); ++i) {
      const Answer& answer = answers[i];
      EXPECT_TRUE(answer.status == 404 || answer.status == 409 || answer.status / 100 == 2) << answer.text;
      posted += answer.status == 201 ? 1 : 0;
      changed += answer.status == 200 ? 1 : 0;
      removed += answer.status == 204 ? 1 : 0;
    }
    for (Slot& slot : slots) {
      slot.review = world().sql(
          "SELECT coalesce((SELECT id::text FROM reviews WHERE gig_id = $1::uuid AND reviewer_id = $2::uuid), '')",
          {slot.gig, to_string(people[slot.reviewer].id)});
    }
  }
  EXPECT_GT(posted, 100);
  EXPECT_GT(changed, 100);
  EXPECT_GT(removed, 50);
  const auto counted = [&](const Person& who) {
    std::vector<int> ratings;
    for (const auto& row :
         world().rows("SELECT rating::text FROM reviews WHERE reviewee_id = $1::uuid", {to_string(who.id)})) {
      ratings.push_back(std::stoi(row[0].value()));
    }
    return of(ratings);
  };
  for (const Person& one : people) EXPECT_EQ(kept(one), counted(one));
  EXPECT_EQ(recompute().corrected, 0);

  // And it would have been found: whatever is wrong is put right, and nothing else is touched. More than one bite.
  world().sql(
      "INSERT INTO users (id, email, password_hash) SELECT gen_random_uuid(), 'many' || n || '@example.com', 'x' "
      "FROM generate_series(1, 1500) n");
  world().sql("UPDATE users SET rating_sum = 7, total_reviews = 2 WHERE id = $1::uuid", {to_string(people[0].id)});
  world().sql("UPDATE users SET reputation_score = 1 WHERE id = $1::uuid OR email = 'many750@example.com'",
              {to_string(people[1].id)});
  const auto repaired = recompute();
  EXPECT_EQ(repaired.corrected, 3);
  EXPECT_EQ(repaired.people, std::stoll(world().sql("SELECT count(*)::text FROM users")));
  EXPECT_GT(repaired.people, 1500);
  for (const Person& one : people) EXPECT_EQ(kept(one), counted(one));
  EXPECT_EQ(recompute().corrected, 0);
  // Everything is taken back: back to where everybody began.
  for (const Slot& slot : slots) {
    if (slot.review.empty()) continue;
    EXPECT_EQ(world().del("/api/reviews/" + slot.review, people[slot.reviewer].token).status, 204);
  }
  for (const Person& one : people) EXPECT_EQ(kept(one), (Kept{5.0, 0}));
}

TEST_F(Reviews, TheDatabaseRefusesSumsThatNoReviewsCanHave) {
  const Person ann = world().person("Ann");
  for (const char* sums : {"rating_sum = 1", "rating_sum = 11, total_reviews = 2", "rating_sum = -1",
                           "rating_sum = 1, total_reviews = 2"}) {
    EXPECT_ANY_THROW(world().sql(std::string("UPDATE users SET ") + sums + " WHERE id = $1::uuid", {to_string(ann.id)}))
        << sums;
  }
}

}  // namespace
}  // namespace hourz::harness
