// The map: gigs as pins when few or near, clusters zoomed out, and never more than 500 marks whatever the view holds.
//
// Clusters come from counts kept per cell at every second level. A view is answered from the level whose cells are
// small enough for its zoom and few enough for the limit; a cell is also a range of gigs.cell_key, so that the gigs of
// a cell are found whatever lies around it. Cells count open gigs without regard to category or budget: with such a
// filter or another status, gigs are looked at, all of them where they are few, else so many of each cell of the view.
#include <algorithm>
#include <cmath>

#include "core/text.hpp"
#include "gigs_sql.hpp"
#include "rooms/gigs/area.hpp"
#include "rooms/gigs/rows.hpp"

namespace hourz::gigs {
namespace {

using http::Call;
using http::Endpoint;
using http::Method;
using http::Query;

constexpr std::int64_t marks_at_most = 500;
constexpr std::int64_t pins_up_to = 100;  ///< gigs in view
constexpr std::int64_t pins_up_to_when_near = marks_at_most;
constexpr std::int64_t near_zoom = 17;
// With a filter.
constexpr std::int64_t looks_at_most = 500;  ///< gigs looked at for one answer
constexpr std::int64_t first_looks = 150;    ///< of these, before it is known where there are more
constexpr std::int64_t sampled_cells_at_most = 160;
constexpr std::int64_t spread_over = 24;  ///< cells; when fewer hold gigs, finer ones

struct MapQuery {
  static constexpr std::array notes{
      Note{"min_longitude", "larger than max_longitude when the view crosses the antimeridian"},
      Note{"zoom", "as in web maps: 0 shows the world in 256 pixels"},
      Note{"status", "PENDING when left out; any other, and category and budgets, may be answered by a sample"}};
  Latitude min_latitude;
  Longitude min_longitude;
  Latitude max_latitude;
  Longitude max_longitude;
  Integer<0, 20> zoom;
  std::optional<Status> status;
  std::optional<Text<1, 40>> category;
  std::optional<Money> min_budget;
  std::optional<Money> max_budget;

  static void check(const MapQuery& query, std::vector<Fault>& faults) {
    check_box(query.min_latitude, query.min_longitude, query.max_latitude, query.max_longitude, faults);
    if (query.min_budget && query.max_budget && *query.min_budget > *query.max_budget) {
      faults.push_back({"max_budget", "out_of_range", "must not be below min_budget"});
    }
  }
};
BOOST_DESCRIBE_STRUCT(MapQuery, (),
                      (min_latitude, min_longitude, max_latitude, max_longitude, zoom, status, category, min_budget,
                       max_budget))

struct Pin {
  static constexpr bool is_answer = true;
  Uuid id;
  std::string title;
  Money budget;
  double latitude;
  double longitude;
};
BOOST_DESCRIBE_STRUCT(Pin, (), (id, title, budget, latitude, longitude))

struct Cluster {
  static constexpr bool is_answer = true;
  double latitude;
  double longitude;
  std::int64_t count;
};
BOOST_DESCRIBE_STRUCT(Cluster, (), (latitude, longitude, count))

struct MapAnswer {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"sampled", "true when gigs may fit that are not among the marks; false when every one is"}};
  std::vector<Pin> gigs;
  std::vector<Cluster> clusters;
  bool sampled = false;
};
BOOST_DESCRIBE_STRUCT(MapAnswer, (), (gigs, clusters, sampled))

/// A view as cells of one level: one range of columns, or two when it crosses the antimeridian.
struct Region {
  std::int32_t level, min_y, max_y, min_x, max_x, second_min_x = 0, second_max_x = -1;
};

struct CellsWanted : Region {
  Uuid viewer;
  std::int64_t pins_up_to = 0;
  std::int32_t finer_by = 0;
  std::vector<std::int32_t> ys, xs;
};
BOOST_DESCRIBE_STRUCT(Region, (), (level, min_y, max_y, min_x, max_x, second_min_x, second_max_x))
BOOST_DESCRIBE_STRUCT(CellsWanted, (Region), (viewer, pins_up_to, finer_by, ys, xs))

struct CellRow {
  std::int32_t y, x;
  std::int64_t count;
};
BOOST_DESCRIBE_STRUCT(CellRow, (), (y, x, count))

struct MarkRow : CellRow {
  std::int64_t latitude_sum, longitude_sum;
  bool pinned;
  std::optional<Uuid> id;
  std::optional<std::string> title;
  std::optional<Money> budget;
  std::optional<double> latitude, longitude;
};
BOOST_DESCRIBE_STRUCT(MarkRow, (CellRow), (latitude_sum, longitude_sum, pinned, id, title, budget, latitude, longitude))

struct LooksWanted {
  Uuid viewer;
  std::vector<std::int64_t> lows, highs;
  std::int64_t looks = 0;
  Status status;
  std::optional<std::string> category;
  Money min_budget, max_budget;
  Box box;  ///< no parameter: the database is not asked about it
};
BOOST_DESCRIBE_STRUCT(LooksWanted, (), (viewer, lows, highs, looks, status, category, min_budget, max_budget))

struct LookRow : Pin {
  std::int64_t number;
  bool fits;
};
BOOST_DESCRIBE_STRUCT(LookRow, (Pin), (number, fits))

const db::Query<MarkRow, CellsWanted> select_marks{sql::map};
const db::Query<CellRow, CellsWanted> select_cells{sql::cells};
const db::Query<CellRow, CellsWanted> select_finer_cells{sql::finer_cells};
const db::Query<std::int64_t, LooksWanted> select_occupied{sql::occupied};
const db::Query<LookRow, LooksWanted> look_anywhere{sql::look};
const db::Query<LookRow, LooksWanted> look_in_category{sql::look_in_category};
const db::Query<std::int64_t, LooksWanted> count_few_in_budget{sql::few_in_budget};
const db::Query<LookRow, LooksWanted> look_in_budget{sql::look_in_budget};

constexpr Endpoint map_gigs{
    .method = Method::get,
    .path = "/api/gigs/map",
    .name = "gigs.map",
    .summary = "Gigs as marks on a map",
    .description =
        "At most 500 marks. Open gigs are single pins where a view holds up to 100 of them (500 from zoom 17 on); else "
        "those that stand alone are pins, and the others clusters, each with its count and the mean place of its gigs. "
        "A cluster at the edge of the view counts gigs that lie just outside, and may itself be marked there; pins are "
        "always inside. With a category, a budget or a status other than PENDING the marks are pins only: every gig "
        "that fits where the view holds few or few fit, else a sample spread over the view, which `sampled` says. Gigs "
        "of "
        "blocked people are never pins; clusters are counted beforehand, for everybody alike, and count them."};

Region region_of(const Box& box, int level) {
  const Cell north_west = cell_of({box.max_latitude, box.min_longitude}, level);
  const Cell south_east = cell_of({box.min_latitude, box.max_longitude}, level);
  if (box.min_longitude <= box.max_longitude) return {level, north_west.y, south_east.y, north_west.x, south_east.x};
  const std::int32_t last = (1 << level) - 1;
  // Both ends in one column: the view goes all around, and no cell may count twice.
  if (south_east.x >= north_west.x) return {level, north_west.y, south_east.y, 0, last};
  return {level, north_west.y, south_east.y, north_west.x, last, 0, south_east.x};
}

std::int64_t cells_in(const Region& r) {
  const std::int64_t columns = r.max_x - r.min_x + 1 + std::max(0, r.second_max_x - r.second_min_x + 1);
  return (r.max_y - r.min_y + 1) * columns;
}

bool holds(const Region& r, const CellRow& cell) {
  const bool in_columns =
      (cell.x >= r.min_x && cell.x <= r.max_x) || (cell.x >= r.second_min_x && cell.x <= r.second_max_x);
  return in_columns && cell.y >= r.min_y && cell.y <= r.max_y;
}

/// Counts are unknown, and one each.
std::vector<CellRow> all_cells(const Region& r) {
  std::vector<CellRow> cells;
  for (std::int32_t y = r.min_y; y <= r.max_y; ++y) {
    for (std::int32_t x = r.min_x; x <= r.max_x; ++x) cells.push_back({y, x, 1});
    for (std::int32_t x = r.second_min_x; x <= r.second_max_x; ++x) cells.push_back({y, x, 1});
  }
  return cells;
}

/// Cells of some 64 pixels (a tile of the web map is 256), coarser when they are too many, finer when the zoom is too
/// far out for the view.
int level_for(const Box& box, std::int64_t zoom, std::int64_t cells_at_most) {
  constexpr std::int64_t cells_at_least = 12;
  const auto count = [&box](int level) { return cells_in(region_of(box, level)); };
  int level = std::min(static_cast<int>(zoom) + 2, finest_cell_level) & ~1;
  while (level > 0 && count(level) > cells_at_most) level -= 2;
  while (level < finest_cell_level && count(level) < cells_at_least && count(level + 2) <= cells_at_most) level += 2;
  return level;
}

/// The database's gig_cell_key(): the digits of y and x to base 4 by turns, so that the finest cells within a cell of
/// any second level have all the keys from this, shifted, to that of the next one.
std::int64_t key_of(const CellRow& cell) {
  std::int64_t key = 0;
  for (int shift = finest_cell_level - 2; shift >= 0; shift -= 2) {
    key = key << 4 | (cell.y >> shift & 3) << 2 | (cell.x >> shift & 3);
  }
  return key;
}

void set_ranges(LooksWanted& wanted, const std::vector<CellRow>& cells, int level) {
  wanted.lows.clear();
  wanted.highs.clear();
  for (const CellRow& cell : cells) {
    wanted.lows.push_back(key_of(cell) << 2 * (finest_cell_level - level));
    wanted.highs.push_back((key_of(cell) + 1) << 2 * (finest_cell_level - level));
  }
}

bool inside(const Box& box, double latitude, double longitude) {
  const bool in_columns = box.min_longitude <= box.max_longitude
                              ? longitude >= box.min_longitude && longitude <= box.max_longitude
                              : longitude >= box.min_longitude || longitude <= box.max_longitude;
  return in_columns && latitude >= box.min_latitude && latitude <= box.max_latitude;
}

/// Rows that fit as pins: all, or as many as there may be marks, from all over.
void add_pins(MapAnswer& answer, std::vector<LookRow>&& rows, const Box& box) {
  std::erase_if(rows, [&box](const LookRow& row) { return !row.fits || !inside(box, row.latitude, row.longitude); });
  const std::size_t count = std::min(rows.size(), static_cast<std::size_t>(marks_at_most));
  if (count < rows.size()) answer.sampled = true;
  answer.gigs.reserve(count);
  for (std::size_t i = 0; i < count; ++i) answer.gigs.push_back(std::move(rows[i * rows.size() / count]));
}

/// Looks at up to `share` gigs of each cell; what those with fewer leave over of all the looks goes to the others.
Awaitable<MapAnswer> look_at_cells(Call& call, LooksWanted wanted, std::vector<CellRow> cells, int level,
                                   std::int64_t share) {
  const bool by_category = wanted.status == Status::PENDING && wanted.category;
  MapAnswer answer;
  std::vector<LookRow> kept;
  while (!cells.empty()) {
    set_ranges(wanted, cells, level);
    wanted.looks = share;
    auto rows = co_await db::all(call.db(), by_category ? look_in_category : look_anywhere, wanted);
    std::vector<std::int64_t> seen(cells.size());
    for (const LookRow& row : rows) ++seen[static_cast<std::size_t>(row.number - 1)];
    const auto full = [&](std::int64_t number) { return seen[static_cast<std::size_t>(number - 1)] >= share; };
    std::vector<CellRow> more;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      if (seen[i] >= share) more.push_back(cells[i]);
    }
    const std::int64_t looked = std::ssize(kept) + std::ssize(rows) - std::ssize(more) * share;
    const std::int64_t next_share = more.empty() ? 0 : (looks_at_most - looked) / std::ssize(more);
    // Shares at least double, so that it ends soon; what is looked at again is less than what there is to see.
    if (next_share < 2 * share) {
      answer.sampled = !more.empty();
      std::move(rows.begin(), rows.end(), std::back_inserter(kept));
      break;
    }
    std::copy_if(std::move_iterator(rows.begin()), std::move_iterator(rows.end()), std::back_inserter(kept),
                 [&full](const LookRow& row) { return !full(row.number); });
    cells = std::move(more);
    share = next_share;
  }
  add_pins(answer, std::move(kept), wanted.box);
  co_return answer;
}

/// The most of each cell that is no more than all the looks together.
std::int64_t fair_share(const std::vector<CellRow>& cells) {
  std::int64_t share = 1, too_much = looks_at_most + 1;
  while (share + 1 < too_much) {
    const std::int64_t tried = (share + too_much) / 2;
    std::int64_t looks = 0;
    for (const CellRow& cell : cells) looks += std::min(cell.count, tried);
    (looks <= looks_at_most ? share : too_much) = tried;
  }
  return share;
}

/// Those of the cells that hold gigs of the status at all.
Awaitable<std::vector<CellRow>> occupied(Call& call, LooksWanted wanted, std::vector<CellRow> cells, int level) {
  set_ranges(wanted, cells, level);
  std::vector<CellRow> found;
  for (const std::int64_t number : co_await db::all(call.db(), select_occupied, wanted)) {
    found.push_back(cells[static_cast<std::size_t>(number - 1)]);
  }
  co_return found;
}

/// What of the region's cells, within some that are `finer_by` levels coarser, holds gigs.
Awaitable<std::vector<CellRow>> finer(Call& call, const LooksWanted& looks, std::vector<CellRow> cells, Region region,
                                      int finer_by) {
  std::vector<CellRow> found;
  if (looks.status == Status::PENDING) {
    CellsWanted wanted{region, call.user(), 0, finer_by, {}, {}};
    for (const CellRow& cell : cells) {
      wanted.ys.push_back(cell.y);
      wanted.xs.push_back(cell.x);
    }
    found = co_await db::all(call.db(), select_finer_cells, wanted);
    std::erase_if(found, [&region](const CellRow& cell) { return !holds(region, cell); });
    co_return found;
  }
  const std::int32_t side = 1 << finer_by;
  for (const CellRow& cell : cells) {
    for (std::int32_t i = 0; i < side * side; ++i) {
      const CellRow child{(cell.y << finer_by) + i / side, (cell.x << finer_by) + i % side, 1};
      if (holds(region, child)) found.push_back(child);
    }
  }
  co_return co_await occupied(call, looks, std::move(found), region.level);
}

Awaitable<MapAnswer> filtered(Call& call, const MapQuery& query, const Box& box) {
  LooksWanted wanted{call.user(),
                     {},
                     {},
                     0,
                     query.status.value_or(Status::PENDING),
                     std::nullopt,
                     query.min_budget.value_or(Money{0}),
                     query.max_budget.value_or(Money{Money::maximum_satang}),
                     box};
  if (query.category) wanted.category = lower_case(query.category->value);

  int level = level_for(box, query.zoom.value, sampled_cells_at_most);
  const Region region = region_of(box, level);
  std::vector<CellRow> cells;
  if (wanted.status == Status::PENDING) {
    const CellsWanted in_view{region, call.user(), 0, 0, {}, {}};
    cells = co_await db::all(call.db(), select_cells, in_view);
    std::int64_t total = 0;
    for (const CellRow& cell : cells) total += cell.count;
    // One more than there are: that tells when others have come meanwhile.
    if (total <= looks_at_most) co_return co_await look_at_cells(call, wanted, std::move(cells), level, total + 1);
  } else {
    cells = co_await occupied(call, wanted, all_cells(region), level);
  }
  if (cells.empty()) co_return MapAnswer{};

  if (query.min_budget || query.max_budget) {
    wanted.looks = looks_at_most + 1;
    if (co_await db::one(call.db(), count_few_in_budget, wanted) <= looks_at_most) {
      MapAnswer answer;
      auto rows = co_await db::all(call.db(), look_in_budget, wanted);
      answer.sampled = std::ssize(rows) > looks_at_most;
      add_pins(answer, std::move(rows), wanted.box);
      co_return answer;
    }
  }
  // Gigs that crowd in a few cells: spread over finer ones, of some 16 pixels.
  if (std::ssize(cells) < spread_over && level < finest_cell_level) {
    level += 2;
    cells = co_await finer(call, wanted, std::move(cells), region_of(box, level), 2);
  }
  if (cells.empty()) co_return MapAnswer{};
  const bool counted = wanted.status == Status::PENDING && !wanted.category;
  const std::int64_t share = counted ? fair_share(cells) : std::max<std::int64_t>(first_looks / std::ssize(cells), 1);
  co_return co_await look_at_cells(call, wanted, std::move(cells), level, share);
}

Awaitable<MapAnswer> get_map(Deps&, Call& call, Query<MapQuery> query) {
  const Box box{query->min_latitude.degrees, query->min_longitude.degrees, query->max_latitude.degrees,
                query->max_longitude.degrees};
  const bool has_filter = query->status.value_or(Status::PENDING) != Status::PENDING || query->category ||
                          query->min_budget || query->max_budget;
  if (has_filter) co_return co_await filtered(call, query.value, box);
  const Region region = region_of(box, level_for(box, query->zoom.value, marks_at_most));
  const CellsWanted wanted{region, call.user(), query->zoom.value >= near_zoom ? pins_up_to_when_near : pins_up_to,
                           0,      {},          {}};
  MapAnswer answer;
  for (MarkRow& row : co_await db::all(call.db(), select_marks, wanted)) {
    if (row.id) {
      if (!inside(box, *row.latitude, *row.longitude)) continue;
      answer.gigs.push_back({*row.id, std::move(*row.title), *row.budget, *row.latitude, *row.longitude});
      continue;
    }
    if (row.pinned) continue;  // a blocked person's, or gone meanwhile
    const auto mean = [&row](std::int64_t sum) {
      return std::round(static_cast<double>(sum) / static_cast<double>(row.count)) / 1e6;
    };
    answer.clusters.push_back({mean(row.latitude_sum), mean(row.longitude_sum), row.count});
  }
  co_return answer;
}

}  // namespace

void install_map(http::Router& router, Deps& deps) { router.add(map_gigs, get_map, deps); }

}  // namespace hourz::gigs
