// Searching gigs: near a point, in a box, by words, by money, newest first; in pages that neither repeat nor skip.
//
// There is no one access path that is fast for every mix of area, words and order, and with a generic plan the database
// cannot choose by value. So the choice is made here, by a count that stops at `few`: what few gigs fit is gathered
// whole and sorted; what many gigs fit is found by walking an index in the order wanted, where a page is soon full.
#include <cmath>

#include "core/nearest.hpp"
#include "core/text.hpp"
#include "gigs_sql.hpp"
#include "http/cursor.hpp"
#include "rooms/gigs/area.hpp"
#include "rooms/gigs/rows.hpp"

namespace hourz::gigs {
namespace {

using http::Call;
using http::Endpoint;
using http::Method;
using http::Query;

constexpr std::int64_t few = 2000;

enum class Sort { DISTANCE, NEWEST, BUDGET };
BOOST_DESCRIBE_ENUM(Sort, DISTANCE, NEWEST, BUDGET)

struct SearchQuery {
  static constexpr std::array notes{
      Note{"latitude",
           "with longitude: gigs near this point. Without point and bounds: near the caller's fixed location, "
           "else everywhere"},
      Note{"radius_km", "0.1 to 100; 10 when left out"},
      Note{"min_longitude", "larger than max_longitude when the box crosses the antimeridian"},
      Note{"q",
           "words of title and description; all must be there. English words match by their stem, Thai ones as the "
           "dictionary breaks them"},
      Note{"sort", "DISTANCE (default with a point), NEWEST (default else), BUDGET (best paid first)"},
      Note{"include_total", "adds total_count, at the price of counting"}};
  std::optional<Latitude> latitude;
  std::optional<Longitude> longitude;
  std::optional<Real<100, 100'000>> radius_km;
  std::optional<Latitude> min_latitude;
  std::optional<Longitude> min_longitude;
  std::optional<Latitude> max_latitude;
  std::optional<Longitude> max_longitude;
  std::optional<Status> status;
  std::optional<Money> min_budget;
  std::optional<Money> max_budget;
  std::optional<Real<500, 24'000>> max_duration;
  std::optional<Text<1, 40>> category;
  std::optional<Text<1, 200>> q;
  std::optional<Timestamp> starts_after;
  std::optional<Timestamp> starts_before;
  std::optional<Sort> sort;
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
  WithDefault<bool, false> include_total;

  bool boxed() const { return min_latitude.has_value(); }

  static void check(const SearchQuery& query, std::vector<Fault>& faults) {
    if (query.latitude.has_value() != query.longitude.has_value()) {
      faults.push_back({query.latitude ? "longitude" : "latitude", "required", "comes with the other coordinate"});
    }
    check_box(query.min_latitude, query.min_longitude, query.max_latitude, query.max_longitude, faults);
    if (query.latitude && query.boxed()) {
      faults.push_back({"latitude", "conflict", "a point and bounds exclude each other"});
    }
    if (query.min_budget && query.max_budget && *query.min_budget > *query.max_budget) {
      faults.push_back({"max_budget", "out_of_range", "must not be below min_budget"});
    }
    if (query.starts_after && query.starts_before && *query.starts_after > *query.starts_before) {
      faults.push_back({"starts_before", "out_of_range", "must not be before starts_after"});
    }
    if (query.radius_km && query.boxed()) faults.push_back({"radius_km", "conflict", "bounds have no radius"});
    if (query.q && search_terms(query.q->value).empty()) faults.push_back({"q", "no_words", "must hold a word"});
  }
};
BOOST_DESCRIBE_STRUCT(SearchQuery, (),
                      (latitude, longitude, radius_km, min_latitude, min_longitude, max_latitude, max_longitude, status,
                       min_budget, max_budget, max_duration, category, q, starts_after, starts_before, sort, limit,
                       cursor, include_total))

using AnyKey = Real<-9'000'000'000'000'000'000, 9'000'000'000'000'000'000>;

/// A search with everything settled, as a cursor keeps it, and where its last page ended.
struct Position {
  bool placed = false;  ///< has an origin
  bool given = false;   ///< the origin was asked for, not the caller's own
  Latitude latitude;
  Longitude longitude;
  Real<0, 100'000> radius_km;
  std::optional<Latitude> min_latitude;
  std::optional<Longitude> min_longitude;
  std::optional<Latitude> max_latitude;
  std::optional<Longitude> max_longitude;
  Status status = Status::PENDING;
  std::optional<Money> min_budget;
  std::optional<Money> max_budget;
  std::optional<Real<500, 24'000>> max_duration;
  std::optional<Text<1, 40>> category;
  std::optional<Text<1, 200>> q;
  std::optional<Timestamp> starts_after;
  std::optional<Timestamp> starts_before;
  Sort sort = Sort::NEWEST;
  AnyKey after_key;
  Uuid after_id;
};
BOOST_DESCRIBE_STRUCT(Position, (),
                      (placed, given, latitude, longitude, radius_km, min_latitude, min_longitude, max_latitude,
                       max_longitude, status, min_budget, max_budget, max_duration, category, q, starts_after,
                       starts_before, sort, after_key, after_id))

/// All parameters that any of the search statements has; each takes those it names.
struct Parameters {
  Uuid viewer;
  bool placed = false;
  double latitude = 0, longitude = 0, radius_m = 0;
  bool boxed = false;
  double min_latitude = -90, min_longitude = -180, max_latitude = 90, max_longitude = 180;
  Status status = Status::PENDING;
  std::optional<Money> min_budget, max_budget;
  std::optional<double> max_duration;
  std::optional<std::string> category;
  std::optional<Timestamp> starts_after, starts_before;
  std::vector<std::string> words;
  std::string sort;
  double after_key = 0;
  Uuid after_id;
  Timestamp before;
  Uuid before_id;
  std::int64_t below_budget = 0;
  std::int64_t page = 0;
  std::int64_t candidates = 0;
  std::int64_t cap = few + 1;
  std::int64_t walk = 0;

  /// Nothing but a point: what most first pages are.
  bool is_plain() const {
    return status == Status::PENDING && !boxed && words.empty() && !category && !min_budget && !max_budget &&
           !max_duration && !starts_after && !starts_before;
  }
};
BOOST_DESCRIBE_STRUCT(Parameters, (),
                      (viewer, placed, latitude, longitude, radius_m, boxed, min_latitude, min_longitude, max_latitude,
                       max_longitude, status, min_budget, max_budget, max_duration, category, starts_after,
                       starts_before, words, sort, after_key, after_id, before, before_id, below_budget, page,
                       candidates, cap, walk))

/// The few that the plainest search has, away from the poles and the antimeridian: its statement runs thousands of
/// times a second.
struct PlainParameters {
  Uuid viewer;
  double latitude = 0, longitude = 0;
  std::int64_t candidates = 0;
};
BOOST_DESCRIBE_STRUCT(PlainParameters, (), (viewer, latitude, longitude, candidates))

/// Where a walk that looked at as many gigs as it may ended: the next page goes on from there.
struct WalkEnd {
  double key;
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(WalkEnd, (), (key, id))

struct NearRow : CardRow {
  double distance_m;
};
BOOST_DESCRIBE_STRUCT(NearRow, (CardRow), (distance_m))

struct SortedRow : CardRow {
  std::optional<double> distance_m;
  double sort_key;
};
BOOST_DESCRIBE_STRUCT(SortedRow, (CardRow), (distance_m, sort_key))

const db::Query<NearRow, Parameters> select_near{sql::near};
const db::Query<NearRow, PlainParameters> select_near_plain{sql::near_plain};
const db::Query<NearRow, Parameters> select_near_other{sql::near_other};
const db::Query<SortedRow, Parameters> select_newest{sql::newest};
const db::Query<SortedRow, Parameters> select_budget{sql::budget};
const db::Query<SortedRow, Parameters> gather_open{sql::gather_open};
const db::Query<SortedRow, Parameters> gather_other{sql::gather_other};
const db::Query<SortedRow, Parameters> gather_words{sql::gather_words};
const db::Query<std::int64_t, Parameters> count_few_open{sql::few_open};
const db::Query<std::int64_t, Parameters> count_few_other{sql::few_other};
const db::Query<std::int64_t, Parameters> count_few_words{sql::few_words};
const db::Query<std::int64_t, Parameters> count_all{sql::count};
const db::Query<std::int64_t, Parameters> count_open{sql::count_open};
const db::Query<std::int64_t, Parameters> count_other{sql::count_other};
const db::Query<double, Parameters> select_walk_end_open{sql::walk_end_open};
const db::Query<double, Parameters> select_walk_end_other{sql::walk_end_other};
const db::Query<WalkEnd, Parameters> select_walk_end_newest{sql::walk_end_newest};
const db::Query<WalkEnd, Parameters> select_walk_end_budget{sql::walk_end_budget};

constexpr Endpoint list_gigs{
    .method = Method::get,
    .path = "/api/gigs",
    .name = "gigs.list",
    .summary = "Search gigs",
    .description = "Open gigs near a point, inside bounds, or near the caller's fixed location.",
    .errors = {ErrorCode::invalid_cursor}};
constexpr Endpoint search_gigs{.method = Method::get,
                               .path = "/api/gigs/search",
                               .name = "gigs.search",
                               .summary = "Search gigs, under its other name",
                               .errors = {ErrorCode::invalid_cursor}};

Position position_of(const SearchQuery& query) {
  Position at;
  at.given = query.latitude.has_value();
  at.placed = at.given;
  at.latitude = query.latitude.value_or(Latitude{});
  at.longitude = query.longitude.value_or(Longitude{});
  at.radius_km.value = query.radius_km ? query.radius_km->value : 10;
  at.min_latitude = query.min_latitude;
  at.min_longitude = query.min_longitude;
  at.max_latitude = query.max_latitude;
  at.max_longitude = query.max_longitude;
  at.status = query.status.value_or(Status::PENDING);
  at.min_budget = query.min_budget;
  at.max_budget = query.max_budget;
  at.max_duration = query.max_duration;
  if (query.category) at.category = Text<1, 40>{lower_case(query.category->value)};
  at.q = query.q;
  at.starts_after = query.starts_after;
  at.starts_before = query.starts_before;
  return at;
}

/// Whether a query has nothing but what may stand beside a cursor.
bool is_bare(const SearchQuery& query) {
  SearchQuery rest;
  rest.limit = query.limit;
  rest.cursor = query.cursor;
  rest.include_total = query.include_total;
  return reflect::to_json(rest) == reflect::to_json(query);
}

Awaitable<Position> settle(const Deps& deps, Call& call, const SearchQuery& query) {
  Position at = position_of(query);
  if (query.cursor) {
    Position from = http::from_cursor<Position>(deps.cursor_key, call.user(), query.cursor->value);
    if (!is_bare(query)) {
      // The same search again, but for what the first page settled.
      if (query.sort && *query.sort != from.sort) throw Problem(ErrorCode::invalid_cursor);
      at.sort = from.sort;
      at.after_key = from.after_key;
      at.after_id = from.after_id;
      if (!from.given && !at.given) {
        at.placed = from.placed;
        at.latitude = from.latitude;
        at.longitude = from.longitude;
        if (!query.radius_km) at.radius_km = from.radius_km;
      }
      if (reflect::to_json(at) != reflect::to_json(from)) {
        throw Problem(ErrorCode::invalid_cursor, "The cursor belongs to another search.");
      }
    }
    co_return from;
  }
  if (!at.placed && !query.boxed()) {
    if (const auto home = co_await users::location_of(call.db(), call.user())) {
      at.placed = true;
      at.latitude = {home->latitude};
      at.longitude = {home->longitude};
    }
  }
  if (query.boxed()) {
    // A box is searched as the circle around it; the box itself then decides.
    const Circle circle = circle_around(
        {at.min_latitude->degrees, at.min_longitude->degrees, at.max_latitude->degrees, at.max_longitude->degrees});
    at.placed = true;
    at.latitude = {circle.middle.latitude};
    at.longitude = {circle.middle.longitude};
  }
  at.sort = query.sort.value_or(at.placed && !query.boxed() ? Sort::DISTANCE : Sort::NEWEST);
  if (at.sort == Sort::DISTANCE && !at.placed) {
    throw invalid("sort", "needs_a_point", "by distance needs a point, bounds or a fixed location of the caller's");
  }
  at.after_key.value = at.sort == Sort::DISTANCE ? -1 : -9e15;
  if (at.sort != Sort::DISTANCE) at.after_id.bytes.fill(0xff);
  co_return at;
}

Parameters parameters_of(const Position& at, const Uuid& viewer, std::int64_t limit) {
  Parameters p;
  p.viewer = viewer;
  p.placed = at.placed;
  const Point origin = canonical({at.latitude.degrees, at.longitude.degrees});
  p.latitude = origin.latitude;
  p.longitude = origin.longitude;
  p.radius_m = at.radius_km.value * 1000;
  p.boxed = at.min_latitude.has_value();
  if (p.boxed) {
    p.min_latitude = at.min_latitude->degrees;
    p.min_longitude = at.min_longitude->degrees;
    p.max_latitude = at.max_latitude->degrees;
    p.max_longitude = at.max_longitude->degrees;
    p.radius_m = circle_around({p.min_latitude, p.min_longitude, p.max_latitude, p.max_longitude}).radius_m;
  }
  p.status = at.status;
  p.min_budget = at.min_budget;
  p.max_budget = at.max_budget;
  if (at.max_duration) p.max_duration = at.max_duration->value;
  if (at.category) p.category = at.category->value;
  p.starts_after = at.starts_after;
  p.starts_before = at.starts_before;
  if (at.q) p.words = search_terms(at.q->value, 16);
  p.sort = at.sort == Sort::DISTANCE ? "distance" : at.sort == Sort::NEWEST ? "newest" : "budget";
  p.after_key = at.after_key.value;
  p.after_id = at.after_id;
  p.before_id = at.after_id;
  p.before = {std::min<std::int64_t>(static_cast<std::int64_t>(-p.after_key), 253402300799'000000)};
  p.below_budget = static_cast<std::int64_t>(-p.after_key);
  p.page = limit + 1;
  return p;
}

struct NearPage {
  std::vector<NearRow> rows;
  bool ended;  ///< fewer candidates than were asked for, of a walk that may have been cut short
};

/// A page in the order of an index of places: the number of candidates grows until its front is settled. Nothing where
/// a crowd at about one distance would take thousands of them; `p.radius_m` is then what that crowd needs.
Awaitable<std::optional<NearPage>> nearest(db::Executor& db, Parameters& p) {
  const bool on_plane = p.is_plain() && p.after_key < 0 && PlaneOrder::serves({p.latitude, p.longitude}, p.radius_m);
  double farthest_m = p.radius_m;
  for (p.candidates = first_candidates(p.page); p.candidates < few; p.candidates *= 4) {
    std::vector<NearRow> rows;
    if (on_plane) {
      const PlainParameters few_of_p{p.viewer, p.latitude, p.longitude, p.candidates};
      rows = co_await db::all(db, select_near_plain, few_of_p);
    } else {
      rows = co_await db::all(db, p.status == Status::PENDING ? select_near : select_near_other, p);
    }
    const bool ended = !on_plane && static_cast<std::int64_t>(rows.size()) < p.candidates;
    const bool settled =
        on_plane ? settle_nearest(rows, p.candidates, p.page, p.radius_m, PlaneOrder{p.latitude, p.radius_m})
                 : settle_nearest(rows, p.candidates, p.page, p.radius_m);
    if (settled) co_return NearPage{std::move(rows), ended};
    farthest_m = rows.back().distance_m;
  }
  p.radius_m = std::min(p.radius_m, farthest_m * 1.01 + 1);
  co_return std::nullopt;
}

/// A filtered search that found fewer than it asked for may only have been cut short. Drops what comes after the part
/// that is settled then, and says where that ends.
Awaitable<std::optional<WalkEnd>> cut_short(db::Executor& db, const Parameters& p, std::vector<NearRow>& rows) {
  const auto sphere_m =
      co_await db::maybe(db, p.status == Status::PENDING ? select_walk_end_open : select_walk_end_other, p);
  if (!sphere_m) co_return std::nullopt;
  WalkEnd end{*sphere_m * least_true_per_sphere, {}};
  end.id.bytes.fill(0xff);
  std::erase_if(rows, [&end](const NearRow& row) { return row.distance_m > end.key; });
  co_return end;
}

struct SortedPage {
  std::vector<SortedRow> rows;
  std::optional<WalkEnd> end;
};

/// A page in any order: gathered and sorted where few gigs fit, else along the index of the order.
Awaitable<SortedPage> sorted(db::Executor& db, const Parameters& p, bool rare) {
  const bool open = p.status == Status::PENDING;
  SortedPage page;
  if (rare) {
    page.rows = co_await db::all(db, gather_words, p);
    co_return page;
  }
  const bool gather =
      p.sort == "distance" || (p.placed && co_await db::one(db, open ? count_few_open : count_few_other, p) <= few);
  if (gather) {
    page.rows = co_await db::all(db, open ? gather_open : gather_other, p);
    co_return page;
  }
  const bool by_budget = p.sort == "budget";
  page.rows = co_await db::all(db, by_budget ? select_budget : select_newest, p);
  if (static_cast<std::int64_t>(page.rows.size()) < p.page) {
    page.end = co_await db::maybe(db, by_budget ? select_walk_end_budget : select_walk_end_newest, p);
  }
  co_return page;
}

template <class Row>
void fill(GigList& list, std::vector<Row>&& rows, std::size_t limit, std::optional<WalkEnd> end, double Row::*key,
          const std::function<std::string(WalkEnd)>& cursor_at) {
  if (rows.size() > limit) {
    rows.resize(limit);
    end = WalkEnd{rows.back().*key, rows.back().id};
  }
  if (end) list.next_cursor = cursor_at(*end);
  list.gigs.reserve(rows.size());
  for (Row& row : rows) {
    const std::optional<double> distance_m = row.distance_m;
    list.gigs.push_back(to_gig(std::move(row)));
    if (distance_m) list.gigs.back().distance_km.value = std::round(*distance_m) / 1000;
  }
}

Awaitable<std::int64_t> count(db::Executor& db, const Parameters& p) {
  const auto& query = !p.placed ? count_all : p.status == Status::PENDING ? count_open : count_other;
  co_return co_await db::one(db, query, p);
}

Awaitable<GigList> search(Deps& deps, Call& call, Query<SearchQuery> query) {
  const Position at = co_await settle(deps, call, query.value);
  const std::int64_t limit = query->limit.value.value;
  Parameters p = parameters_of(at, call.user(), limit);
  p.walk = deps.walk;
  const double radius_m = p.radius_m;
  GigList list;
  const auto page = static_cast<std::size_t>(limit);
  const auto cursor_at = [&](WalkEnd end) {
    Position next = at;
    next.after_key.value = end.key;
    next.after_id = end.id;
    return http::to_cursor(deps.cursor_key, call.user(), next);
  };
  // Rare words are gathered whatever the order; else the nearest come straight from the index.
  const bool rare = !p.words.empty() && co_await db::one(call.db(), count_few_words, p) <= few;
  std::optional<NearPage> near;
  std::optional<WalkEnd> end;
  if (at.sort == Sort::DISTANCE && !rare) near = co_await nearest(call.db(), p);
  if (near && near->ended) end = co_await cut_short(call.db(), p, near->rows);
  if (end && end->key <= p.after_key) near.reset();  // a crowd wider than the walk
  if (near) {
    fill(list, std::move(near->rows), page, end, &NearRow::distance_m, cursor_at);
  } else {
    SortedPage found = co_await sorted(call.db(), p, rare);
    fill(list, std::move(found.rows), page, found.end, &SortedRow::sort_key, cursor_at);
  }
  p.radius_m = radius_m;
  if (query->include_total.value) list.total_count.value = co_await count(call.db(), p);
  co_return list;
}

}  // namespace

void install_search(http::Router& router, Deps& deps) {
  router.add(list_gigs, search, deps);
  router.add(search_gigs, search, deps);
}

}  // namespace hourz::gigs
