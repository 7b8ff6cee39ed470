#include "rooms/buddies/buddies.hpp"

#include <cmath>

#include "buddies_sql.hpp"
#include "http/cursor.hpp"

namespace hourz::buddies {
namespace {

using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::NoContent;
using http::Path;
using http::Query;

using Notes = Text<1, 500>;

// --- rows ------------------------------------------------------------------------------------------------------------

struct CardRow {
  Uuid buddy_id;
  std::optional<std::string> notes;
  Timestamp created_at;
  std::int64_t version;
  std::optional<std::string> name, photo_url, bio;
  bool is_available, is_verified;
  double reputation_score;
  std::int32_t total_reviews, completed_gigs;
  std::optional<std::string> district, province;
  Timestamp joined_at;
  std::optional<double> distance_m;
};
BOOST_DESCRIBE_STRUCT(CardRow, (),
                      (buddy_id, notes, created_at, version, name, photo_url, bio, is_available, is_verified,
                       reputation_score, total_reviews, completed_gigs, district, province, joined_at, distance_m))

struct AvailableRow : CardRow {
  double sort_key;
};
BOOST_DESCRIBE_STRUCT(AvailableRow, (CardRow), (sort_key))

struct NewRow {
  Uuid owner_id, buddy_id;
  std::optional<Notes> notes;
  std::int64_t most = most_buddies;
};
BOOST_DESCRIBE_STRUCT(NewRow, (), (owner_id, buddy_id, notes, most))

struct Pair {
  Uuid owner_id, buddy_id;
};
BOOST_DESCRIBE_STRUCT(Pair, (), (owner_id, buddy_id))

struct Standing {
  bool known, already;
};
BOOST_DESCRIBE_STRUCT(Standing, (), (known, already))

struct ChangeRow {
  Uuid owner_id, buddy_id;
  bool set_notes;
  std::optional<Notes> notes;
};
BOOST_DESCRIBE_STRUCT(ChangeRow, (), (owner_id, buddy_id, set_notes, notes))

struct NewestPage {
  Uuid owner_id;
  Timestamp before;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(NewestPage, (), (owner_id, before, before_id, page))

struct AvailablePage {
  Uuid owner_id;
  bool placed;
  double latitude, longitude, after_key;
  Uuid after_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(AvailablePage, (), (owner_id, placed, latitude, longitude, after_key, after_id, page))

struct Counted {
  Uuid owner_id;
  bool only_available;
};
BOOST_DESCRIBE_STRUCT(Counted, (), (owner_id, only_available))

const db::Query<Uuid, Uuid> take_turn{sql::turn};
const db::Query<CardRow, NewRow> insert_buddy{sql::add};
const db::Query<Standing, Pair> select_standing{sql::standing};
const db::Query<CardRow, Pair> select_buddy{sql::by_id};
const db::Query<std::int64_t, Pair> lock_buddy{sql::lock};
const db::Query<CardRow, ChangeRow> update_buddy{sql::change};
const db::Query<db::Nothing, Pair> delete_buddy{sql::remove};
const db::Query<CardRow, NewestPage> select_newest{sql::newest};
const db::Query<AvailableRow, AvailablePage> select_available{sql::available};
const db::Query<std::int64_t, Counted> count_buddies{sql::count};

const http::ExportQuery export_buddies{sql::export_list};
const db::Query<db::Nothing, Uuid> erase_buddies{sql::erase};

Awaitable<void> erase(db::Executor& db, Uuid user) { co_await db::run(db, erase_buddies, user); }

Buddy to_buddy(CardRow&& row, std::int64_t gigs_together) {
  Buddy made{row.buddy_id, std::move(row.notes), row.created_at, gigs_together, {}};
  users::PublicUser& user = made.buddy;
  user.id = row.buddy_id;
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
  user.created_at = row.joined_at;
  if (row.distance_m) user.distance_km.value = std::round(*row.distance_m) / 1000;
  return made;
}

/// The buddy as the answer of a call, with its ETag.
Awaitable<Buddy> answer_with(Deps& deps, Call& call, CardRow row) {
  call.version = row.version;
  const std::vector<Uuid> one{row.buddy_id};
  const auto together = co_await deps.gigs_together(call.db(), call.user(), one);
  co_return to_buddy(std::move(row), together.at(0));
}

/// A page, with what was done together asked for all of it at once.
template <class Row>
Awaitable<BuddyList> list_of(Deps& deps, Call& call, std::vector<Row> rows) {
  BuddyList list;
  if (rows.empty()) co_return list;
  std::vector<Uuid> ids;
  for (const Row& row : rows) ids.push_back(row.buddy_id);
  const auto together = co_await deps.gigs_together(call.db(), call.user(), std::move(ids));
  for (std::size_t i = 0; i < rows.size(); ++i) list.buddies.push_back(to_buddy(std::move(rows[i]), together.at(i)));
  co_return list;
}

// --- adding ----------------------------------------------------------------------------------------------------------

struct NewBuddy {
  Uuid buddy_id;
  std::optional<Notes> notes;
};
BOOST_DESCRIBE_STRUCT(NewBuddy, (), (buddy_id, notes))

constexpr Endpoint add_buddy{
    .method = Method::post,
    .path = "/api/buddies",
    .name = "buddies.add",
    .summary = "Keep somebody as a buddy",
    .description = "The buddy is not told. 1,000 at most. Whoever is suspended or blocked is 404, as if not there.",
    .effect = Effect::change,
    .status = 201,
    .errors = {ErrorCode::not_found, ErrorCode::already_buddies, ErrorCode::too_many_buddies, ErrorCode::self_buddy}};

Awaitable<Buddy> post_buddy(Deps& deps, Call& call, Body<NewBuddy> body) {
  if (body->buddy_id == call.user()) throw Problem(ErrorCode::self_buddy);
  const std::vector<Uuid> asked{body->buddy_id};
  const auto blocked = co_await users::blocked_among(call.db(), call.user(), asked);
  if (!blocked.empty()) throw Problem(ErrorCode::not_found);
  co_await db::one(call.db(), take_turn, call.user());
  const NewRow row{call.user(), body->buddy_id, body->notes};
  auto made = co_await db::maybe(call.db(), insert_buddy, row);
  if (!made) {
    const Pair pair{call.user(), body->buddy_id};
    const Standing why = co_await db::one(call.db(), select_standing, pair);
    if (!why.known) throw Problem(ErrorCode::not_found);
    throw Problem(why.already ? ErrorCode::already_buddies : ErrorCode::too_many_buddies);
  }
  call.header("Location", "/api/buddies/" + to_string(made->buddy_id));
  co_return co_await answer_with(deps, call, std::move(*made));
}

// --- one of them -----------------------------------------------------------------------------------------------------

struct BuddyPath {
  Uuid buddy_id;
};
BOOST_DESCRIBE_STRUCT(BuddyPath, (), (buddy_id))

constexpr Endpoint read_buddy{.method = Method::get,
                              .path = "/api/buddies/{buddy_id}",
                              .name = "buddies.read",
                              .summary = "One of the caller's buddies",
                              .errors = {ErrorCode::not_found},
                              .etag = true};

Awaitable<Buddy> get_buddy(Deps& deps, Call& call, Path<BuddyPath> path) {
  const Pair pair{call.user(), path->buddy_id};
  auto row = co_await db::maybe(call.db(), select_buddy, pair);
  if (!row) throw Problem(ErrorCode::not_found);
  co_return co_await answer_with(deps, call, std::move(*row));
}

/// Holds the row for a change that the caller may make.
Awaitable<void> lock(Call& call, Uuid buddy_id) {
  const Pair pair{call.user(), buddy_id};
  const auto version = co_await db::maybe(call.db(), lock_buddy, pair);
  if (!version) throw Problem(ErrorCode::not_found);
  call.require_match(*version);
}

struct ChangeBuddy {
  Change<std::optional<Notes>> notes;
};
BOOST_DESCRIBE_STRUCT(ChangeBuddy, (), (notes))

constexpr Endpoint change_buddy{.method = Method::put,
                                .path = "/api/buddies/{buddy_id}",
                                .name = "buddies.change",
                                .summary = "Change the caller's notes to a buddy",
                                .description = "null clears them.",
                                .effect = Effect::change,
                                .errors = {ErrorCode::not_found},
                                .if_match = true};

Awaitable<Buddy> put_buddy(Deps& deps, Call& call, Path<BuddyPath> path, Body<ChangeBuddy> body) {
  co_await lock(call, path->buddy_id);
  ChangeRow row{call.user(), path->buddy_id, bool(body->notes), {}};
  if (body->notes) row.notes = *body->notes.to;
  auto changed = co_await db::one(call.db(), update_buddy, row);
  co_return co_await answer_with(deps, call, std::move(changed));
}

constexpr Endpoint remove_buddy{.method = Method::del,
                                .path = "/api/buddies/{buddy_id}",
                                .name = "buddies.remove",
                                .summary = "Take somebody off the caller's buddies",
                                .effect = Effect::change,
                                .status = 204,
                                .errors = {ErrorCode::not_found},
                                .if_match = true};

Awaitable<NoContent> delete_one(Deps&, Call& call, Path<BuddyPath> path) {
  co_await lock(call, path->buddy_id);
  const Pair pair{call.user(), path->buddy_id};
  co_await db::run_last(call.db(), delete_buddy, pair);
  co_return NoContent{};
}

// --- lists -----------------------------------------------------------------------------------------------------------

struct BuddiesQuery {
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
  WithDefault<bool, false> include_total;
};
BOOST_DESCRIBE_STRUCT(BuddiesQuery, (), (limit, cursor, include_total))

struct NewestPosition {
  Timestamp before{253402300799'000000};
  Uuid before_id = http::last_uuid();
};
BOOST_DESCRIBE_STRUCT(NewestPosition, (), (before, before_id))

constexpr Endpoint list_buddies{.method = Method::get,
                                .path = "/api/buddies",
                                .name = "buddies.list",
                                .summary = "The caller's buddies, newest first",
                                .description = "Nobody sees whose buddy they are.",
                                .errors = {ErrorCode::invalid_cursor}};

Awaitable<BuddyList> get_buddies(Deps& deps, Call& call, Query<BuddiesQuery> query) {
  NewestPosition at;
  if (query->cursor) {
    at = http::from_cursor<NewestPosition>(deps.cursor_key, call.user(), query->cursor->value);
  }
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  const NewestPage wanted{call.user(), at.before, at.before_id, static_cast<std::int64_t>(limit) + 1};
  auto rows = co_await db::all(call.db(), select_newest, wanted);
  auto next = http::cut_page(rows, limit, deps.cursor_key, call.user(), at, [](auto& end, const auto& last) {
    end.before = last.created_at;
    end.before_id = last.buddy_id;
  });
  BuddyList list = co_await list_of(deps, call, std::move(rows));
  list.next_cursor = std::move(next);
  if (query->include_total.value) {
    const Counted counted{call.user(), false};
    list.total_count.value = co_await db::one(call.db(), count_buddies, counted);
  }
  co_return list;
}

using AnyKey = Real<-9'000'000'000'000'000'000, 9'000'000'000'000'000'000>;

/// Where a page ended, and from where its distances are: whoever moves between two pages goes on with the old place.
struct AvailablePosition {
  bool placed = false;
  Latitude latitude;
  Longitude longitude;
  AnyKey after_key;
  Uuid after_id;
};
BOOST_DESCRIBE_STRUCT(AvailablePosition, (), (placed, latitude, longitude, after_key, after_id))

constexpr Endpoint list_available{
    .method = Method::get,
    .path = "/api/buddies/available",
    .name = "buddies.available",
    .summary = "The caller's buddies who are switched on, nearest first",
    .description =
        "From the caller's fixed location to the public points of the buddies; newest first and without "
        "distances for a caller who has set no location.",
    .errors = {ErrorCode::invalid_cursor}};

Awaitable<BuddyList> get_available(Deps& deps, Call& call, Query<BuddiesQuery> query) {
  AvailablePosition at;
  if (query->cursor) {
    at = http::from_cursor<AvailablePosition>(deps.cursor_key, call.user(), query->cursor->value);
  } else if (const auto own = co_await users::location_of(call.db(), call.user())) {
    at.placed = true;
    at.latitude = {own->latitude};
    at.longitude = {own->longitude};
  }
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  const AvailablePage wanted{call.user(),
                             at.placed,
                             at.latitude.degrees,
                             at.longitude.degrees,
                             at.after_key.value,
                             at.after_id,
                             static_cast<std::int64_t>(limit) + 1};
  auto rows = co_await db::all(call.db(), select_available, wanted);
  auto next = http::cut_page(rows, limit, deps.cursor_key, call.user(), at, [](auto& end, const auto& last) {
    end.after_key.value = last.sort_key;
    end.after_id = last.buddy_id;
  });
  BuddyList list = co_await list_of(deps, call, std::move(rows));
  list.next_cursor = std::move(next);
  if (query->include_total.value) {
    const Counted counted{call.user(), true};
    list.total_count.value = co_await db::one(call.db(), count_buddies, counted);
  }
  co_return list;
}

}  // namespace

void install(http::Router& router, Deps& deps) {
  router.add(add_buddy, post_buddy, deps);
  router.add(list_buddies, get_buddies, deps);
  router.add(list_available, get_available, deps);
  router.add(read_buddy, get_buddy, deps);
  router.add(change_buddy, put_buddy, deps);
  router.add(remove_buddy, delete_one, deps);
}

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"buddies", &export_buddies});
  data.erasures.emplace_back(erase);
}

}  // namespace hourz::buddies
