#include "rooms/users/users.hpp"

#include <cmath>

#include "core/geo.hpp"
#include "core/nearest.hpp"
#include "http/cursor.hpp"
#include "rooms/users/blocks.hpp"
#include "users_sql.hpp"

namespace hourz::users {
namespace {

using http::Access;
using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::OptionalBody;
using http::Path;
using http::Query;

// --- rows ------------------------------------------------------------------------------------------------------------

struct OwnRow {
  Uuid id;
  std::string email;
  bool email_verified;
  std::optional<std::string> name, photo_url, bio, phone_number, line_id, other_contact;
  bool is_available, is_verified, is_profile_setup;
  double reputation_score;
  std::int32_t total_reviews, completed_gigs;
  bool has_location;
  std::optional<double> latitude, longitude;
  std::optional<std::string> address_text, district, province;
  http::Role role;
  Timestamp created_at, updated_at;
};
BOOST_DESCRIBE_STRUCT(OwnRow, (),
                      (id, email, email_verified, name, photo_url, bio, phone_number, line_id, other_contact,
                       is_available, is_verified, is_profile_setup, reputation_score, total_reviews, completed_gigs,
                       has_location, latitude, longitude, address_text, district, province, role, created_at,
                       updated_at))

User to_user(OwnRow&& row) {
  return {row.id,
          std::move(row.email),
          row.email_verified,
          std::move(row.name),
          std::move(row.photo_url),
          std::move(row.bio),
          {std::move(row.phone_number), std::move(row.line_id), std::move(row.other_contact)},
          row.is_available,
          row.is_verified,
          row.is_profile_setup,
          row.reputation_score,
          row.total_reviews,
          row.completed_gigs,
          row.has_location,
          row.latitude,
          row.longitude,
          std::move(row.address_text),
          std::move(row.district),
          std::move(row.province),
          row.role,
          row.created_at,
          row.updated_at};
}

struct ShownRow {
  Uuid id;
  std::optional<std::string> name, photo_url, bio;
  bool is_available, is_verified;
  double reputation_score;
  std::int32_t total_reviews, completed_gigs;
  std::optional<std::string> district, province;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(ShownRow, (),
                      (id, name, photo_url, bio, is_available, is_verified, reputation_score, total_reviews,
                       completed_gigs, district, province, created_at))

struct ProfileRow : ShownRow {
  std::optional<std::string> phone_number, line_id, other_contact;
};
BOOST_DESCRIBE_STRUCT(ProfileRow, (ShownRow), (phone_number, line_id, other_contact))

struct NearRow : ShownRow {
  double distance_m;
};
BOOST_DESCRIBE_STRUCT(NearRow, (ShownRow), (distance_m))

PublicUser to_public(ShownRow&& row) {
  PublicUser user;
  user.id = row.id;
  user.name = std::move(row.name);
  user.photo_url = std::move(row.photo_url);
  user.bio = std::move(row.bio);
  user.is_available = row.is_available;
  user.is_verified = row.is_verified;
  user.reputation_score = row.reputation_score;
  user.total_reviews = row.total_reviews;
  user.completed_gigs = row.completed_gigs;
  user.district = std::move(row.district);
  user.province = std::move(row.province);
  user.created_at = row.created_at;
  return user;
}

struct ChangeRow {
  Uuid id;
  bool set_name, set_bio, set_phone_number, set_line_id, set_other;
  std::optional<std::string> name, bio, phone_number, line_id, other;
  bool setup;
};
BOOST_DESCRIBE_STRUCT(ChangeRow, (),
                      (id, set_name, set_bio, set_phone_number, set_line_id, set_other, name, bio, phone_number,
                       line_id, other, setup))

struct LocationRow {
  Uuid id;
  double latitude, longitude, public_latitude, public_longitude;
  std::optional<Line<1, 300>> address_text;
  std::optional<Line<1, 120>> district, province;
  std::optional<Line<1, 16>> postal_code;
};
BOOST_DESCRIBE_STRUCT(LocationRow, (),
                      (id, latitude, longitude, public_latitude, public_longitude, address_text, district, province,
                       postal_code))

struct AvailableRow {
  Uuid id;
  bool is_available;
};
BOOST_DESCRIBE_STRUCT(AvailableRow, (), (id, is_available))

struct NearParameters {
  Uuid caller;
  double latitude, longitude, radius_m, after_m;
  Uuid after_id;
  std::int64_t candidates;
  bool only_available;
};
BOOST_DESCRIBE_STRUCT(NearParameters, (),
                      (caller, latitude, longitude, radius_m, after_m, after_id, candidates, only_available))

struct CountParameters {
  Uuid caller;
  double latitude, longitude, radius_m;
  bool only_available;
};
BOOST_DESCRIBE_STRUCT(CountParameters, (), (caller, latitude, longitude, radius_m, only_available))

struct OverrideRow {
  Uuid id, admin_id, audit_id;
  double score;
  std::string reason;
};
BOOST_DESCRIBE_STRUCT(OverrideRow, (), (id, admin_id, audit_id, score, reason))

struct RecountRow {
  Uuid id, admin_id, audit_id;
  std::int64_t sum, count;
  double score;
  std::string reason;
};
BOOST_DESCRIBE_STRUCT(RecountRow, (), (id, admin_id, audit_id, sum, count, score, reason))

struct AdjustRow {
  Uuid id;
  std::int64_t sum, count;
  std::int64_t prior_sum = users::prior_score * users::prior_weight;
  std::int64_t prior_weight = users::prior_weight;
};
BOOST_DESCRIBE_STRUCT(AdjustRow, (), (id, sum, count, prior_sum, prior_weight))

struct RatingRows {
  std::vector<Uuid> people;
  std::vector<std::int64_t> sums, counts;
  std::vector<double> scores;
};
BOOST_DESCRIBE_STRUCT(RatingRows, (), (people, sums, counts, scores))

struct PasswordRow {
  Uuid id;
  std::string verified, password_hash;
};
BOOST_DESCRIBE_STRUCT(PasswordRow, (), (id, verified, password_hash))

const db::Query<OwnRow, NewUser> insert_user{sql::create};
const db::Query<OwnRow, Uuid> select_own{sql::own};
struct ShownParameters {
  Uuid id, caller;
};
BOOST_DESCRIBE_STRUCT(ShownParameters, (), (id, caller))
const db::Query<ProfileRow, ShownParameters> select_shown{sql::shown};
const db::Query<OwnRow, ChangeRow> update_profile{sql::change};
const db::Query<OwnRow, LocationRow> update_location{sql::set_location};
struct PhotoRow {
  Uuid id;
  std::string url;
};
BOOST_DESCRIBE_STRUCT(PhotoRow, (), (id, url))
const db::Query<db::Nothing, PhotoRow> update_photo{sql::set_photo};
const db::Query<OwnRow, AvailableRow> update_available{sql::set_available};
const db::Query<NearRow, NearParameters> select_near{sql::near};
const db::Query<NearRow, NearParameters> select_near_available{sql::near_available};
const db::Query<NearRow, NearParameters> select_near_sorted{sql::near_sorted};
const db::Query<std::int64_t, CountParameters> select_count{sql::count_near};
struct PointRow {
  double latitude, longitude;
};
BOOST_DESCRIBE_STRUCT(PointRow, (), (latitude, longitude))
const db::Query<PointRow, Uuid> select_location{sql::location};
const db::Query<db::Nothing, Uuid> update_completed{sql::count_completed};
const db::Query<OwnRow, OverrideRow> update_reputation{sql::override_reputation};
const db::Query<Uuid, Uuid> hold_user{sql::hold};
const db::Query<OwnRow, RecountRow> recount_reputation{sql::recount_reputation};
const db::Query<Reputation, AdjustRow> update_ratings{sql::adjust_ratings};
const db::Query<Uuid, Uuid, std::int64_t> hold_users{sql::hold_some};
const db::Query<db::Nothing, RatingRows> update_all_ratings{sql::set_ratings};
const db::Query<Credentials, std::string> select_credentials{sql::credentials};
const db::Query<std::string, Uuid> select_password{sql::password_hash};
const db::Query<db::Nothing, PasswordRow> update_password{sql::set_password};
struct ResetRow {
  Uuid id;
  std::string password_hash;
};
BOOST_DESCRIBE_STRUCT(ResetRow, (), (id, password_hash))
const db::Query<db::Nothing, ResetRow> update_reset{sql::reset_password};
const db::Query<db::Nothing, Uuid> update_verified{sql::verify_email};

// --- own profile -----------------------------------------------------------------------------------------------------

constexpr Endpoint read_me{.method = Method::get,
                           .path = "/api/users/me",
                           .name = "users.me",
                           .summary = "The caller's own profile",
                           .etag = true};
constexpr Endpoint read_profile{.method = Method::get,
                                .path = "/api/users/profile",
                                .name = "users.profile",
                                .summary = "The caller's own profile, under its other name",
                                .etag = true};
constexpr Endpoint change_me{.method = Method::put,
                             .path = "/api/users/me",
                             .name = "users.change_me",
                             .summary = "Change some fields of the caller's profile",
                             .description = "Fields that are left out stay; null clears.",
                             .effect = Effect::change};

Awaitable<User> me(Deps&, Call& call) { co_return co_await own(call.db(), call.user()); }

Awaitable<User> put_me(Deps&, Call& call, Body<ProfileChange> body) {
  auto user = co_await change_profile(call.db(), call.user(), body.value, false);
  if (!user) throw Problem(ErrorCode::session_ended);
  co_return std::move(*user);
}

// --- location and availability ---------------------------------------------------------------------------------------

struct SetLocation {
  Latitude latitude;
  Longitude longitude;
  std::optional<Line<1, 300>> address_text;
  std::optional<Line<1, 120>> district;
  std::optional<Line<1, 120>> province;
  std::optional<Line<1, 16>> postal_code;
};
BOOST_DESCRIBE_STRUCT(SetLocation, (), (latitude, longitude, address_text, district, province, postal_code))

constexpr Endpoint set_location{
    .method = Method::put,
    .path = "/api/users/location",
    .name = "users.set_location",
    .summary = "Set the caller's fixed location",
    .description =
        "The whole place at once: fields that are left out are cleared. Others are shown a public point that "
        "is off by some metres (HOURZ_LOCATION_BLUR_M).",
    .effect = Effect::change};

Awaitable<User> put_location(Deps& deps, Call& call, Body<SetLocation> body) {
  const Point place{body->latitude.degrees, body->longitude.degrees};
  const Point shown = blurred(deps.blur_key, call.user(), place, static_cast<double>(deps.config.location_blur_m));
  auto row =
      co_await db::maybe_last(call.db(), update_location,
                              LocationRow{call.user(), place.latitude, place.longitude, shown.latitude, shown.longitude,
                                          body->address_text, body->district, body->province, body->postal_code});
  if (!row) throw Problem(ErrorCode::session_ended);
  co_return to_user(std::move(*row));
}

struct SetAvailability {
  bool is_available;
};
BOOST_DESCRIBE_STRUCT(SetAvailability, (), (is_available))

constexpr Endpoint set_availability{.method = Method::put,
                                    .path = "/api/users/availability",
                                    .name = "users.set_availability",
                                    .summary = "Switch being available on or off",
                                    .effect = Effect::change,
                                    .errors = {ErrorCode::location_required}};

Awaitable<User> put_availability(Deps&, Call& call, Body<SetAvailability> body) {
  auto row = co_await db::maybe_last(call.db(), update_available, AvailableRow{call.user(), body->is_available});
  if (!row) throw Problem(ErrorCode::session_ended);
  co_return to_user(std::move(*row));
}

// --- others ----------------------------------------------------------------------------------------------------------

struct UserPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(UserPath, (), (id))

constexpr Endpoint read_user{.method = Method::get,
                             .path = "/api/users/{id}",
                             .name = "users.read",
                             .summary = "Somebody's public profile",
                             .description = "Whoever is blocked, by whichever side, is 404, as if not there.",
                             .errors = {ErrorCode::not_found},
                             .etag = true};

Awaitable<PublicUser> get_user(Deps& deps, Call& call, Path<UserPath> path) {
  const ShownParameters asked{path->id, call.user()};
  auto row = co_await db::maybe(call.db(), select_shown, asked);
  if (!row) throw Problem(ErrorCode::not_found);
  ContactInfo contact{std::move(row->phone_number), std::move(row->line_id), std::move(row->other_contact)};
  PublicUser user = to_public(std::move(*row));
  if (co_await deps.share_a_gig(call.db(), call.user(), path->id)) user.contact_info.value = std::move(contact);
  co_return user;
}

struct NearbyQuery {
  static constexpr std::array notes{Note{"radius_km", "0.1 to 100"},
                                    Note{"only_available", "false also lists those switched off"}};
  Latitude latitude;
  Longitude longitude;
  WithDefault<Real<100, 100'000>, 5'000> radius_km;
  WithDefault<bool, true> only_available;
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
  WithDefault<bool, false> include_total;
};
BOOST_DESCRIBE_STRUCT(NearbyQuery, (), (latitude, longitude, radius_km, only_available, limit, cursor, include_total))

/// Where a page ended, and the search it belongs to.
struct NearbyPosition {
  Latitude latitude;
  Longitude longitude;
  Real<100, 100'000> radius_km;
  bool only_available = true;
  Real<-1, 100'000'000> after_m;
  Uuid after_id;
};
BOOST_DESCRIBE_STRUCT(NearbyPosition, (), (latitude, longitude, radius_km, only_available, after_m, after_id))

struct UserList {
  static constexpr bool is_answer = true;
  std::vector<PublicUser> users;
  std::optional<std::string> next_cursor;
  Omit<std::int64_t> total_count;
};
BOOST_DESCRIBE_STRUCT(UserList, (), (users, next_cursor, total_count))

constexpr Endpoint nearby{
    .method = Method::get,
    .path = "/api/users/nearby",
    .name = "users.nearby",
    .summary = "Helpers around a point, nearest first",
    .description =
        "Never the caller, nor who is blocked. Distances are to public points, which are off by some "
        "metres, so that nobody's home can be worked out.",
    .errors = {ErrorCode::invalid_cursor}};

constexpr std::int64_t few = 2000;

/// The `wanted` nearest. The number of candidates grows until their front is settled; where that would take thousands,
/// the database sorts them.
Awaitable<std::vector<NearRow>> nearest(db::Executor& db, NearParameters p, std::int64_t wanted) {
  double farthest_m = p.radius_m;
  for (p.candidates = first_candidates(wanted); p.candidates < few; p.candidates *= 4) {
    auto rows = co_await db::all(db, p.only_available ? select_near_available : select_near, p);
    if (settle_nearest(rows, p.candidates, wanted, p.radius_m)) co_return rows;
    farthest_m = rows.back().distance_m;
  }
  p.radius_m = std::min(p.radius_m, farthest_m * 1.01 + 1);
  p.candidates = wanted;
  co_return co_await db::all(db, select_near_sorted, p);
}

Awaitable<UserList> get_nearby(Deps& deps, Call& call, Query<NearbyQuery> query) {
  NearbyPosition at{query->latitude, query->longitude, query->radius_km.value, query->only_available.value, {-1}, {}};
  if (query->cursor) {
    const auto from = http::from_cursor<NearbyPosition>(deps.cursor_key, call.user(), query->cursor->value);
    if (from.latitude != at.latitude || from.longitude != at.longitude || from.radius_km.value != at.radius_km.value ||
        from.only_available != at.only_available) {
      throw Problem(ErrorCode::invalid_cursor, "The cursor belongs to another search.");
    }
    at = from;
  }
  const std::int64_t limit = query->limit.value.value;
  const Point origin = canonical({at.latitude.degrees, at.longitude.degrees});
  const NearParameters parameters{
      call.user(), origin.latitude,  origin.longitude, at.radius_km.value * 1000, at.after_m.value, at.after_id,
      0,           at.only_available};
  auto rows = co_await nearest(call.db(), parameters, limit + 1);
  UserList list;
  const bool more = static_cast<std::int64_t>(rows.size()) > limit;
  if (more) rows.resize(static_cast<std::size_t>(limit));
  if (more) {
    at.after_m.value = rows.back().distance_m;
    at.after_id = rows.back().id;
    list.next_cursor = http::to_cursor(deps.cursor_key, call.user(), at);
  }
  for (NearRow& row : rows) {
    const double distance_m = row.distance_m;
    list.users.push_back(to_public(std::move(row)));
    list.users.back().distance_km.value = std::round(distance_m) / 1000;
  }
  if (query->include_total.value) {
    list.total_count.value = co_await db::one(call.db(), select_count,
                                              CountParameters{call.user(), at.latitude.degrees, at.longitude.degrees,
                                                              at.radius_km.value * 1000, at.only_available});
  }
  co_return list;
}

// --- reputation ------------------------------------------------------------------------------------------------------

struct SetReputation {
  static constexpr std::array notes{Note{"score", "left out: recomputed from the reviews"}};
  std::optional<Real<0, 5'000>> score;
  std::optional<Text<1, 500>> reason;

  static void check(const SetReputation& body, std::vector<Fault>& faults) {
    if (body.score && !body.reason) faults.push_back({"reason", "required", "is required to override a score"});
    if (body.reason && !body.score) faults.push_back({"score", "required", "is required with a reason"});
  }
};
BOOST_DESCRIBE_STRUCT(SetReputation, (), (score, reason))

constexpr Endpoint set_reputation{.method = Method::put,
                                  .path = "/api/users/{id}/reputation",
                                  .name = "users.set_reputation",
                                  .summary = "Recompute somebody's reputation score from the reviews, or override it",
                                  .description =
                                      "An override holds, whatever reviews come, until the score is "
                                      "recomputed here. The old and the new score and the reason are kept "
                                      "in the audit log.",
                                  .access = Access::admin,
                                  .effect = Effect::change,
                                  .errors = {ErrorCode::not_found}};

Awaitable<User> put_reputation(Deps& deps, Call& call, Path<UserPath> path, OptionalBody<SetReputation> body) {
  if (body->score) {
    const OverrideRow row{path->id, call.user(), make_uuid(), body->score->value, body->reason->value};
    auto user = co_await db::maybe_last(call.db(), update_reputation, row);
    if (!user) throw Problem(ErrorCode::not_found);
    co_return to_user(std::move(*user));
  }
  if (!co_await db::maybe(call.db(), hold_user, path->id)) throw Problem(ErrorCode::not_found);
  const Ratings ratings = co_await deps.count_ratings(call.db(), path->id);
  const RecountRow row{path->id,
                       call.user(),
                       make_uuid(),
                       ratings.sum,
                       ratings.count,
                       score_of(ratings),
                       "recomputed from " + std::to_string(ratings.count) + " reviews"};
  co_return to_user(co_await db::one_last(call.db(), recount_reputation, row));
}

template <class T>
std::optional<std::string> text_of(const Change<std::optional<T>>& change) {
  if (!change || !*change.to) return std::nullopt;
  return (*change.to)->value;
}

}  // namespace

void install(http::Router& router, Deps& deps) {
  router.add(read_me, me, deps);
  router.add(read_profile, me, deps);
  router.add(change_me, put_me, deps);
  router.add(set_location, put_location, deps);
  router.add(set_availability, put_availability, deps);
  router.add(nearby, get_nearby, deps);
  install_blocks(router, deps);
  router.add(read_user, get_user, deps);
  router.add(set_reputation, put_reputation, deps);
}

Awaitable<User> create(db::Executor& db, NewUser user) {
  co_return to_user(co_await db::one(db, insert_user, std::move(user)));
}

Awaitable<User> own(db::Executor& db, Uuid id) {
  auto row = co_await db::maybe(db, select_own, id);
  if (!row) throw Problem(ErrorCode::not_found);
  co_return to_user(std::move(*row));
}

Awaitable<std::optional<User>> change_profile(db::Executor& db, Uuid id, const ProfileChange& change, bool setup) {
  ChangeRow row{};
  row.id = id;
  row.setup = setup;
  row.set_name = bool(change.name);
  if (change.name) row.name = change.name.to->value;
  row.set_bio = bool(change.bio);
  row.bio = text_of(change.bio);
  if (change.contact_info) {
    const ContactChange& contact = *change.contact_info.to;
    row.set_phone_number = bool(contact.phone_number);
    if (contact.phone_number && *contact.phone_number.to) row.phone_number = (*contact.phone_number.to)->value;
    row.set_line_id = bool(contact.line_id);
    row.line_id = text_of(contact.line_id);
    row.set_other = bool(contact.other);
    row.other = text_of(contact.other);
  }
  auto changed = co_await db::maybe(db, update_profile, std::move(row));
  if (!changed) co_return std::nullopt;
  co_return to_user(std::move(*changed));
}

Awaitable<std::optional<PublicUser>> find(db::Executor& db, Uuid id) {
  const ShownParameters asked{id, Uuid{}};
  auto row = co_await db::maybe(db, select_shown, asked);
  if (!row) co_return std::nullopt;
  co_return to_public(std::move(*row));
}

Awaitable<std::optional<Point>> location_of(db::Executor& db, Uuid id) {
  const auto row = co_await db::maybe(db, select_location, id);
  if (!row) co_return std::nullopt;
  co_return Point{row->latitude, row->longitude};
}

Awaitable<void> count_completed_gig(db::Executor& db, Uuid helper) { co_await db::run(db, update_completed, helper); }

Awaitable<Reputation> adjust_ratings(db::Executor& db, Uuid id, Ratings change) {
  const AdjustRow row{id, change.sum, change.count};
  co_return co_await db::one(db, update_ratings, row);
}

Awaitable<std::vector<Uuid>> hold_some(db::Executor& db, Uuid after, std::int64_t page) {
  co_return co_await db::all(db, hold_users, after, page);
}

Awaitable<std::int64_t> set_ratings(db::Executor& db, const std::vector<Uuid>& people,
                                    const std::vector<Ratings>& ratings) {
  RatingRows rows{people, {}, {}, {}};
  for (const Ratings& one : ratings) {
    rows.sums.push_back(one.sum);
    rows.counts.push_back(one.count);
    rows.scores.push_back(score_of(one));
  }
  co_return co_await db::run(db, update_all_ratings, rows);
}

Awaitable<std::optional<Credentials>> credentials(db::Executor& db, std::string email) {
  co_return co_await db::maybe(db, select_credentials, std::move(email));
}

Awaitable<std::string> password_hash(db::Executor& db, Uuid id) { co_return co_await db::one(db, select_password, id); }

Awaitable<bool> set_password(db::Executor& db, Uuid id, std::string verified, std::string password_hash) {
  const PasswordRow row{id, std::move(verified), std::move(password_hash)};
  co_return co_await db::run(db, update_password, row) == 1;
}

Awaitable<void> reset_password(db::Executor& db, Uuid id, std::string password_hash) {
  const ResetRow row{id, std::move(password_hash)};
  co_await db::run(db, update_reset, row);
}

Awaitable<void> verify_email(db::Executor& db, Uuid id) { co_await db::run(db, update_verified, id); }

Awaitable<void> set_photo(db::Executor& db, Uuid id, std::string url) {
  co_await db::run(db, update_photo, PhotoRow{id, std::move(url)});
}

}  // namespace hourz::users
