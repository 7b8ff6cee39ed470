#include "rooms/reviews/reviews.hpp"

#include "http/cursor.hpp"
#include "reviews_sql.hpp"

namespace hourz::reviews {
namespace {

using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::NoContent;
using http::Path;
using http::Query;

/// An empty one is none.
using Comment = Text<0, 2000>;

// --- rows ------------------------------------------------------------------------------------------------------------

struct CardRow {
  Uuid id, gig_id;
  std::string gig_title;
  std::int32_t rating;
  std::optional<std::string> comment;
  Timestamp created_at, updated_at;
  std::int64_t version;
  Uuid reviewer_id;
  std::optional<std::string> reviewer_name, reviewer_photo_url;
  double reviewer_reputation_score;
  std::int32_t reviewer_total_reviews;
  Uuid reviewee_id;
  std::optional<std::string> reviewee_name, reviewee_photo_url;
  double reviewee_reputation_score;
  std::int32_t reviewee_total_reviews;
};
BOOST_DESCRIBE_STRUCT(CardRow, (),
                      (id, gig_id, gig_title, rating, comment, created_at, updated_at, version, reviewer_id,
                       reviewer_name, reviewer_photo_url, reviewer_reputation_score, reviewer_total_reviews,
                       reviewee_id, reviewee_name, reviewee_photo_url, reviewee_reputation_score,
                       reviewee_total_reviews))

struct StandingParameters {
  Uuid gig_id, user_id;
  std::int32_t window_hours = reviews::window_hours;
};
BOOST_DESCRIBE_STRUCT(StandingParameters, (), (gig_id, user_id, window_hours))

struct Standing {
  Uuid seeker_id;
  std::optional<Uuid> helper_id;
  gigs::Status status;
  std::optional<Timestamp> completed_at;
  bool closed, already;
};
BOOST_DESCRIBE_STRUCT(Standing, (), (seeker_id, helper_id, status, completed_at, closed, already))

struct NewRow {
  Uuid id, gig_id, reviewer_id, reviewee_id;
  std::int32_t rating;
  std::optional<std::string> comment;
};
BOOST_DESCRIBE_STRUCT(NewRow, (), (id, gig_id, reviewer_id, reviewee_id, rating, comment))

struct ViewParameters {
  Uuid id, viewer;
};
BOOST_DESCRIBE_STRUCT(ViewParameters, (), (id, viewer))

struct GigViewParameters {
  Uuid gig_id, viewer;
};
BOOST_DESCRIBE_STRUCT(GigViewParameters, (), (gig_id, viewer))

struct LockParameters {
  Uuid id, viewer;
  std::int32_t edit_hours = reviews::edit_hours;
};
BOOST_DESCRIBE_STRUCT(LockParameters, (), (id, viewer, edit_hours))

struct LockedRow {
  Uuid reviewer_id, reviewee_id;
  std::int32_t rating;
  std::int64_t version;
  bool editable;
};
BOOST_DESCRIBE_STRUCT(LockedRow, (), (reviewer_id, reviewee_id, rating, version, editable))

struct ChangeRow {
  Uuid id;
  bool set_rating, set_comment;
  std::int32_t rating;
  std::optional<std::string> comment;
};
BOOST_DESCRIBE_STRUCT(ChangeRow, (), (id, set_rating, set_comment, rating, comment))

struct PageRow {
  Uuid subject, viewer;
  Timestamp before;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(PageRow, (), (subject, viewer, before, before_id, page))

struct TallyParameters {
  Uuid id, viewer;
  bool in_good_standing;
};
BOOST_DESCRIBE_STRUCT(TallyParameters, (), (id, viewer, in_good_standing))

struct TallyRow {
  double reputation_score;
  bool is_overridden;
  std::int64_t sum, count, ones, twos, threes, fours, fives;
};
BOOST_DESCRIBE_STRUCT(TallyRow, (), (reputation_score, is_overridden, sum, count, ones, twos, threes, fours, fives))

struct SumRow {
  Uuid id;
  std::int64_t sum, count;
};
BOOST_DESCRIBE_STRUCT(SumRow, (), (id, sum, count))

const db::Query<Standing, StandingParameters> select_standing{sql::standing};
const db::Query<CardRow, NewRow> insert_review{sql::create};
const db::Query<CardRow, ViewParameters> select_review{sql::by_id};
const db::Query<LockedRow, LockParameters> lock_review{sql::lock};
const db::Query<CardRow, ChangeRow> update_review{sql::change};
const db::Query<db::Nothing, Uuid> delete_review{sql::remove};
const db::Query<CardRow, PageRow> select_of_reviewee{sql::of_reviewee};
const db::Query<CardRow, PageRow> select_of_reviewer{sql::of_reviewer};
const db::Query<CardRow, PageRow> select_of_gig{sql::of_gig};
const db::Query<std::int64_t, Uuid> count_of_reviewer{sql::count_of_reviewer};
const db::Query<std::int64_t, GigViewParameters> count_of_gig{sql::count_of_gig};
const db::Query<TallyRow, TallyParameters> select_tally{sql::tally};
const db::Query<SumRow, std::vector<Uuid>> select_sums{sql::sums};

const http::ExportQuery export_written{sql::export_written};
const http::ExportQuery export_received{sql::export_received};

Review to_review(CardRow&& row) {
  return {row.id,
          row.gig_id,
          std::move(row.gig_title),
          row.rating,
          std::move(row.comment),
          {row.reviewer_id, std::move(row.reviewer_name), std::move(row.reviewer_photo_url),
           row.reviewer_reputation_score, row.reviewer_total_reviews},
          {row.reviewee_id, std::move(row.reviewee_name), std::move(row.reviewee_photo_url),
           row.reviewee_reputation_score, row.reviewee_total_reviews},
          row.created_at,
          row.updated_at,
          {row.created_at.microseconds + std::int64_t{edit_hours} * 3'600'000'000}};
}

/// The review as the answer of a call, with its ETag.
Review answer_with(Call& call, CardRow&& row) {
  call.version = row.version;
  return to_review(std::move(row));
}

/// The same after a change of the reviewee's sums, which the row was read before.
Awaitable<Review> answer_after(Call& call, CardRow row, users::Ratings change) {
  const users::Reputation now = co_await users::adjust_ratings(call.db(), row.reviewee_id, change);
  row.reviewee_reputation_score = now.reputation_score;
  row.reviewee_total_reviews = now.total_reviews;
  co_return answer_with(call, std::move(row));
}

std::optional<std::string> text_of(const std::optional<Comment>& comment) {
  if (!comment || comment->value.empty()) return std::nullopt;
  return comment->value;
}

Summary summary_of(const TallyRow& row) {
  Summary summary{std::nullopt, row.count, {{row.ones, row.twos, row.threes, row.fours, row.fives}}};
  if (row.count > 0) summary.average = static_cast<double>(row.sum) / static_cast<double>(row.count);
  return summary;
}

// --- who may review --------------------------------------------------------------------------------------------------

bool is_side(const Standing& gig, const Uuid& user) { return gig.seeker_id == user || gig.helper_id == user; }

Uuid other_side(const Standing& gig, const Uuid& user) {
  return gig.seeker_id == user ? gig.helper_id.value_or(Uuid{}) : gig.seeker_id;
}

/// Why somebody may not review a gig, if so.
std::optional<ErrorCode> refusal_of(const Standing& gig, const Uuid& user) {
  if (!is_side(gig, user)) return ErrorCode::forbidden;
  if (gig.status != gigs::Status::COMPLETED) return ErrorCode::gig_not_completed;
  if (gig.already) return ErrorCode::already_reviewed;
  if (gig.closed) return ErrorCode::review_window_closed;
  return std::nullopt;
}

Awaitable<Standing> standing_of(Call& call, Uuid gig_id) {
  const StandingParameters asked{gig_id, call.user()};
  const auto standing = co_await db::maybe(call.db(), select_standing, asked);
  if (!standing) throw Problem(ErrorCode::not_found);
  co_return *standing;
}

struct GigPath {
  Uuid gig_id;
};
BOOST_DESCRIBE_STRUCT(GigPath, (), (gig_id))

struct CanReview {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"reason", "the `code` that writing a review would be refused with; null when it would not be"},
      Note{"reviewee_id", "the other side; null for who is none of the two"},
      Note{"until", "14 days after the completion; null before it and for who is none of the two sides"}};
  bool can_review = false;
  std::optional<ErrorCode> reason;
  std::optional<Uuid> reviewee_id;
  std::optional<Timestamp> until;
};
BOOST_DESCRIBE_STRUCT(CanReview, (), (can_review, reason, reviewee_id, until))

constexpr Endpoint can_review{.method = Method::get,
                              .path = "/api/reviews/can-review/{gig_id}",
                              .name = "reviews.can_review",
                              .summary = "Whether the caller may review a gig, and if not, why",
                              .errors = {ErrorCode::not_found}};

Awaitable<CanReview> get_can_review(Deps&, Call& call, Path<GigPath> path) {
  const Standing gig = co_await standing_of(call, path->gig_id);
  const auto refusal = refusal_of(gig, call.user());
  CanReview answer{!refusal, std::nullopt, std::nullopt, std::nullopt};
  answer.reason = refusal;
  if (is_side(gig, call.user())) {
    if (gig.helper_id) answer.reviewee_id = other_side(gig, call.user());
    if (gig.completed_at) {
      answer.until = Timestamp{gig.completed_at->microseconds + std::int64_t{window_hours} * 3'600'000'000};
    }
  }
  co_return answer;
}

// --- writing ---------------------------------------------------------------------------------------------------------

struct NewReview {
  static constexpr std::array notes{Note{"reviewee_id", "may be left out: it can only be the other side"},
                                    Note{"comment", "an empty one is none"}};
  Uuid gig_id;
  Integer<1, 5> rating;
  std::optional<Comment> comment;
  std::optional<Uuid> reviewee_id;
};
BOOST_DESCRIBE_STRUCT(NewReview, (), (gig_id, rating, comment, reviewee_id))

constexpr Endpoint write_review{
    .method = Method::post,
    .path = "/api/reviews",
    .name = "reviews.write",
    .summary = "Review the other side of a completed gig",
    .description = "Each side once, within 14 days of the completion. The other side's score follows at once.",
    .effect = Effect::change,
    .status = 201,
    .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::gig_not_completed, ErrorCode::already_reviewed,
               ErrorCode::review_window_closed}};

Awaitable<Review> post_review(Deps&, Call& call, Body<NewReview> body) {
  const Standing gig = co_await standing_of(call, body->gig_id);
  const auto refusal = refusal_of(gig, call.user());
  if (refusal == ErrorCode::forbidden) {
    throw Problem(ErrorCode::forbidden, "Only the two sides of a gig can review each other.");
  }
  if (refusal == ErrorCode::gig_not_completed) {
    throw Problem(ErrorCode::gig_not_completed).with("current_status", boost::describe::enum_to_string(gig.status, ""));
  }
  const Uuid reviewee = other_side(gig, call.user());
  if (body->reviewee_id && *body->reviewee_id != reviewee) {
    throw invalid("reviewee_id", "not_the_other_side", "must be the other side of the gig");
  }
  if (refusal) throw Problem(*refusal);
  const auto rating = static_cast<std::int32_t>(body->rating.value);
  const NewRow row{make_uuid(), body->gig_id, call.user(), reviewee, rating, text_of(body->comment)};
  // Before the reviewee's row is held: whoever loses the race for reviews_once has then nothing that others wait for.
  CardRow made = co_await db::one(call.db(), insert_review, row);
  call.header("Location", "/api/reviews/" + to_string(made.id));
  co_return co_await answer_after(call, std::move(made), {rating, 1});
}

// --- one review ------------------------------------------------------------------------------------------------------

struct ReviewPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(ReviewPath, (), (id))

constexpr Endpoint read_review{.method = Method::get,
                               .path = "/api/reviews/{id}",
                               .name = "reviews.read",
                               .summary = "One review",
                               .errors = {ErrorCode::not_found},
                               .etag = true};

Awaitable<Review> get_review(Deps&, Call& call, Path<ReviewPath> path) {
  const ViewParameters asked{path->id, call.user()};
  auto row = co_await db::maybe(call.db(), select_review, asked);
  if (!row) throw Problem(ErrorCode::not_found);
  co_return answer_with(call, std::move(*row));
}

/// Holds the review for a change that the caller may make.
Awaitable<LockedRow> lock(Call& call, Uuid id) {
  const LockParameters asked{id, call.user()};
  const auto row = co_await db::maybe(call.db(), lock_review, asked);
  if (!row) throw Problem(ErrorCode::not_found);
  if (row->reviewer_id != call.user()) throw Problem(ErrorCode::forbidden, "Only its author can change a review.");
  call.require_match(row->version);
  if (!row->editable) throw Problem(ErrorCode::review_not_editable);
  co_return *row;
}

struct ChangeReview {
  Change<Integer<1, 5>> rating;
  Change<std::optional<Comment>> comment;
};
BOOST_DESCRIBE_STRUCT(ChangeReview, (), (rating, comment))

constexpr Endpoint change_review{
    .method = Method::put,
    .path = "/api/reviews/{id}",
    .name = "reviews.change",
    .summary = "Change a review of the caller's",
    .description = "Within 48 hours of writing it. Fields that are left out stay; a null or empty comment clears it.",
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::review_not_editable},
    .if_match = true};

Awaitable<Review> put_review(Deps&, Call& call, Path<ReviewPath> path, Body<ChangeReview> body) {
  const LockedRow before = co_await lock(call, path->id);
  ChangeRow row{path->id, bool(body->rating), bool(body->comment), before.rating, std::nullopt};
  if (body->rating) row.rating = static_cast<std::int32_t>(body->rating.to->value);
  if (body->comment) row.comment = text_of(*body->comment.to);
  CardRow changed = co_await db::one(call.db(), update_review, row);
  if (changed.rating == before.rating) co_return answer_with(call, std::move(changed));
  co_return co_await answer_after(call, std::move(changed), {changed.rating - before.rating, 0});
}

constexpr Endpoint remove_review{
    .method = Method::del,
    .path = "/api/reviews/{id}",
    .name = "reviews.remove",
    .summary = "Take a review of the caller's back",
    .description = "Within 48 hours of writing it; another can be written while the gig's 14 days last.",
    .effect = Effect::change,
    .status = 204,
    .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::review_not_editable},
    .if_match = true};

Awaitable<NoContent> delete_one(Deps&, Call& call, Path<ReviewPath> path) {
  const LockedRow before = co_await lock(call, path->id);
  co_await db::run(call.db(), delete_review, path->id);
  co_await users::adjust_ratings(call.db(), before.reviewee_id, {-before.rating, -1});
  co_return NoContent{};
}

// --- lists -----------------------------------------------------------------------------------------------------------

enum class As { REVIEWER, REVIEWEE };
BOOST_DESCRIBE_ENUM(As, REVIEWER, REVIEWEE)

struct ReviewsQuery {
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
  WithDefault<bool, false> include_total;
};
BOOST_DESCRIBE_STRUCT(ReviewsQuery, (), (limit, cursor, include_total))

struct MyReviewsQuery : ReviewsQuery {
  static constexpr std::array notes{Note{"as", "left out: those that the caller wrote"}};
  std::optional<As> as;
};
BOOST_DESCRIBE_STRUCT(MyReviewsQuery, (ReviewsQuery), (as))

struct ReviewList {
  static constexpr bool is_answer = true;
  std::vector<Review> reviews;
  std::optional<std::string> next_cursor;
  Omit<std::int64_t> total_count;
};
BOOST_DESCRIBE_STRUCT(ReviewList, (), (reviews, next_cursor, total_count))

struct UserReviewList : ReviewList {
  static constexpr bool is_answer = true;
  Summary summary;
};
BOOST_DESCRIBE_STRUCT(UserReviewList, (ReviewList), (summary))

enum class ListOf { REVIEWEE, REVIEWER, GIG };
BOOST_DESCRIBE_ENUM(ListOf, REVIEWEE, REVIEWER, GIG)

/// Where a page ended, and the list it belongs to.
struct Position {
  ListOf list;
  Uuid subject;
  Timestamp before{253402300799'000000};
  Uuid before_id = http::last_uuid();
};
BOOST_DESCRIBE_STRUCT(Position, (), (list, subject, before, before_id))

/// One page into `list`, newest first.
Awaitable<void> read_page(Deps& deps, Call& call, const ReviewsQuery& query, ListOf of, Uuid subject,
                          ReviewList& list) {
  Position at{of, subject};
  if (query.cursor) {
    at = http::from_cursor<Position>(deps.cursor_key, call.user(), query.cursor->value);
    if (at.list != of || at.subject != subject) {
      throw Problem(ErrorCode::invalid_cursor, "The cursor belongs to another list.");
    }
  }
  const auto limit = static_cast<std::size_t>(query.limit.value.value);
  const PageRow wanted{subject, call.user(), at.before, at.before_id, static_cast<std::int64_t>(limit) + 1};
  const auto& select = of == ListOf::REVIEWEE   ? select_of_reviewee
                       : of == ListOf::REVIEWER ? select_of_reviewer
                                                : select_of_gig;
  auto rows = co_await db::all(call.db(), select, wanted);
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), at);
  for (CardRow& row : rows) list.reviews.push_back(to_review(std::move(row)));
}

Awaitable<TallyRow> tally_of(Call& call, Uuid user, bool in_good_standing) {
  const TallyParameters asked{user, call.user(), in_good_standing};
  const auto tally = co_await db::maybe(call.db(), select_tally, asked);
  if (!tally) throw Problem(ErrorCode::not_found);
  co_return *tally;
}

struct UserPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(UserPath, (), (id))

constexpr Endpoint of_user{.method = Method::get,
                           .path = "/api/reviews/user/{id}",
                           .name = "reviews.of_user",
                           .summary = "What others say of somebody, newest first",
                           .description =
                               "`summary` and `total_count` are of all reviews, whatever page is asked for; those by "
                               "people whom a block hides are counted and not shown.",
                           .errors = {ErrorCode::not_found, ErrorCode::invalid_cursor}};

Awaitable<UserReviewList> get_of_user(Deps& deps, Call& call, Path<UserPath> path, Query<ReviewsQuery> query) {
  UserReviewList list;
  list.summary = summary_of(co_await tally_of(call, path->id, true));
  co_await read_page(deps, call, query.value, ListOf::REVIEWEE, path->id, list);
  if (query->include_total.value) list.total_count.value = list.summary.count;
  co_return list;
}

constexpr Endpoint of_gig{.method = Method::get,
                          .path = "/api/reviews/gig/{gig_id}",
                          .name = "reviews.of_gig",
                          .summary = "What the two sides of a gig say of each other, newest first",
                          .errors = {ErrorCode::not_found, ErrorCode::invalid_cursor}};

Awaitable<ReviewList> get_of_gig(Deps& deps, Call& call, Path<GigPath> path, Query<ReviewsQuery> query) {
  const GigViewParameters asked{path->gig_id, call.user()};
  const auto count = co_await db::maybe(call.db(), count_of_gig, asked);
  if (!count) throw Problem(ErrorCode::not_found);
  ReviewList list;
  co_await read_page(deps, call, query.value, ListOf::GIG, path->gig_id, list);
  if (query->include_total.value) list.total_count.value = *count;
  co_return list;
}

constexpr Endpoint my_reviews{.method = Method::get,
                              .path = "/api/reviews/my-reviews",
                              .name = "reviews.mine",
                              .summary = "The reviews that the caller wrote, or those of the caller, newest first",
                              .errors = {ErrorCode::invalid_cursor}};

Awaitable<ReviewList> get_my_reviews(Deps& deps, Call& call, Query<MyReviewsQuery> query) {
  const bool written = query->as != As::REVIEWEE;
  ReviewList list;
  co_await read_page(deps, call, query.value, written ? ListOf::REVIEWER : ListOf::REVIEWEE, call.user(), list);
  if (query->include_total.value && written) {
    list.total_count.value = co_await db::one(call.db(), count_of_reviewer, call.user());
  } else if (query->include_total.value) {
    list.total_count.value = (co_await tally_of(call, call.user(), false)).count;
  }
  co_return list;
}

// --- reputation ------------------------------------------------------------------------------------------------------

struct Prior {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"score", "what everybody begins with"},
                                    Note{"weight", "how many reviews that beginning weighs as much as"}};
  double score = users::prior_score;
  std::int64_t weight = users::prior_weight;
};
BOOST_DESCRIBE_STRUCT(Prior, (), (score, weight))

struct ReputationAnswer {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"reputation_score", "as it is shown everywhere"},
      Note{"computed_score", "(prior.weight * prior.score + sum of all ratings) / (prior.weight + count)"},
      Note{"is_overridden", "an administrator's word holds instead of the computed score"},
      Note{"average", "the plain mean of the ratings; null without reviews"}};
  Uuid user_id;
  double reputation_score = users::prior_score;
  double computed_score = users::prior_score;
  bool is_overridden = false;
  Prior prior;
  std::int64_t count = 0;
  std::int64_t sum = 0;
  std::optional<double> average;
  Distribution distribution;
};
BOOST_DESCRIBE_STRUCT(ReputationAnswer, (),
                      (user_id, reputation_score, computed_score, is_overridden, prior, count, sum, average,
                       distribution))

constexpr Endpoint read_reputation{
    .method = Method::get,
    .path = "/api/users/{id}/reputation",
    .name = "reviews.reputation",
    .summary = "How somebody's reputation score comes about",
    .description =
        "A Bayesian average: the score begins at the prior and moves to the mean of the reviews as they come.",
    .errors = {ErrorCode::not_found}};

Awaitable<ReputationAnswer> get_reputation(Deps&, Call& call, Path<UserPath> path) {
  const TallyRow tally = co_await tally_of(call, path->id, true);
  const Summary summary = summary_of(tally);
  ReputationAnswer answer;
  answer.user_id = path->id;
  answer.reputation_score = tally.reputation_score;
  answer.computed_score = users::score_of({tally.sum, tally.count});
  answer.is_overridden = tally.is_overridden;
  answer.count = tally.count;
  answer.sum = tally.sum;
  answer.average = summary.average;
  answer.distribution = summary.distribution;
  co_return answer;
}

/// One bite; the last of the people looked at, or nobody when there are no more.
Awaitable<std::optional<Uuid>> recompute_some(db::Client& database, Uuid after, Recomputed& so_far) {
  constexpr std::int64_t bite = 1000;
  const auto transaction = database.begin();
  const std::vector<Uuid> people = co_await users::hold_some(*transaction, after, bite);
  if (people.empty()) co_return std::nullopt;
  // A statement of its own: it must see what was committed before the last of these rows was held.
  std::vector<Uuid> ids;
  std::vector<users::Ratings> ratings;
  for (const SumRow& row : co_await db::all(*transaction, select_sums, people)) {
    ids.push_back(row.id);
    ratings.push_back({row.sum, row.count});
  }
  so_far.corrected += co_await users::set_ratings(*transaction, ids, ratings);
  co_await transaction->commit();
  so_far.people += static_cast<std::int64_t>(people.size());
  co_return people.back();
}

}  // namespace

void install(http::Router& router, Deps& deps) {
  router.add(write_review, post_review, deps);
  router.add(my_reviews, get_my_reviews, deps);
  router.add(of_user, get_of_user, deps);
  router.add(of_gig, get_of_gig, deps);
  router.add(can_review, get_can_review, deps);
  router.add(read_review, get_review, deps);
  router.add(change_review, put_review, deps);
  router.add(remove_review, delete_one, deps);
  router.add(read_reputation, get_reputation, deps);
}

Awaitable<users::Ratings> count_ratings(db::Executor& db, Uuid user) {
  const SumRow row = co_await db::one(db, select_sums, std::vector<Uuid>{user});
  co_return users::Ratings{row.sum, row.count};
}

Awaitable<Recomputed> recompute(db::Client& database) {
  Recomputed all;
  std::optional<Uuid> last = Uuid{};
  while (last) last = co_await recompute_some(database, *last, all);
  co_return all;
}

// Reviews stay when their author goes: they are of somebody else, whose score they made.
void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"reviews_written", &export_written});
  data.parts.push_back({"reviews_received", &export_received});
}

}  // namespace hourz::reviews
