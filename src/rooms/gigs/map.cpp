// The map: pins when few or near, clusters zoomed out, and never more than 500 marks whatever the view holds.
//
// Clusters come from counts kept per cell at every second level. A view is answered from the level whose cells are
// small enough for its zoom and few enough for the limit. Cells carry open gigs without regard to category or budget;
// with such a filter the answer is a sample: the nearest to the middle of the view, of a bounded number of gigs.
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
constexpr std::int64_t pins_up_to = 100;  ///< gigs in view; each pin costs a probe of the index of places
constexpr std::int64_t sample_size = 500;

struct MapQuery {
  static constexpr std::array notes{
      Note{"min_longitude", "larger than max_longitude when the view crosses the antimeridian"},
      Note{"zoom", "as in web maps: 0 shows the world in 256 pixels"},
      Note{"status", "other than PENDING, and category and budgets: answered by a sample, see `sampled`"}};
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
      Note{"sampled",
           "true when a filter was answered from the gigs nearest to the middle of the view and there may be "
           "more"}};
  std::vector<Pin> gigs;
  std::vector<Cluster> clusters;
  bool sampled = false;
};
BOOST_DESCRIBE_STRUCT(MapAnswer, (), (gigs, clusters, sampled))

struct CellsWanted {
  std::int32_t level, min_y, max_y, min_x, max_x;
};
BOOST_DESCRIBE_STRUCT(CellsWanted, (), (level, min_y, max_y, min_x, max_x))

struct CellRow {
  std::int32_t y, x;
  std::int64_t count, latitude_sum, longitude_sum;
};
BOOST_DESCRIBE_STRUCT(CellRow, (), (y, x, count, latitude_sum, longitude_sum))

struct PinsWanted {
  std::vector<double> latitudes, longitudes, radii_m;
  bool boxed = true;
  double min_latitude, min_longitude, max_latitude, max_longitude;
};
BOOST_DESCRIBE_STRUCT(PinsWanted, (),
                      (latitudes, longitudes, radii_m, boxed, min_latitude, min_longitude, max_latitude, max_longitude))

struct SampleWanted {
  double latitude, longitude, radius_m;
  bool boxed = true;
  double min_latitude, min_longitude, max_latitude, max_longitude;
  Status status;
  std::optional<Money> min_budget, max_budget;
  std::optional<double> max_duration;
  std::optional<std::string> category;
  std::optional<Timestamp> starts_after, starts_before;
  std::vector<std::string> words;
};
BOOST_DESCRIBE_STRUCT(SampleWanted, (),
                      (latitude, longitude, radius_m, boxed, min_latitude, min_longitude, max_latitude, max_longitude,
                       status, min_budget, max_budget, max_duration, category, starts_after, starts_before, words))

struct SampleRow : Pin {
  std::int64_t seen;
};
BOOST_DESCRIBE_STRUCT(SampleRow, (Pin), (seen))

const db::Query<CellRow, CellsWanted> select_cells{sql::cells};
const db::Query<Pin, PinsWanted> select_pins{sql::pins};
const db::Query<SampleRow, SampleWanted> sample_open{sql::sample_open};
const db::Query<SampleRow, SampleWanted> sample_other{sql::sample_other};

constexpr Endpoint map_gigs{
    .method = Method::get,
    .path = "/api/gigs/map",
    .name = "gigs.map",
    .summary = "Gigs as marks on a map",
    .description =
        "At most 500 marks. Up to some hundred open gigs in view are single pins; more are clusters, each with "
        "its count and the mean place of its gigs. With a filter the marks are pins only."};

/// A view as ranges of cells: one, or two when it crosses the antimeridian.
std::vector<CellsWanted> ranges_of(const Box& box, int level) {
  const Cell north_west = cell_of({box.max_latitude, box.min_longitude}, level);
  const Cell south_east = cell_of({box.min_latitude, box.max_longitude}, level);
  const std::int32_t last = (1 << level) - 1;
  if (box.min_longitude <= box.max_longitude) {
    return {{level, north_west.y, south_east.y, north_west.x, south_east.x}};
  }
  return {{level, north_west.y, south_east.y, north_west.x, last},
          {level, north_west.y, south_east.y, 0, south_east.x}};
}

std::int64_t cells_in(const std::vector<CellsWanted>& ranges) {
  std::int64_t count = 0;
  for (const CellsWanted& r : ranges) {
    count += static_cast<std::int64_t>(r.max_y - r.min_y + 1) * (r.max_x - r.min_x + 1);
  }
  return count;
}

/// Cells of some 64 pixels (a tile of the web map is 256), made coarser until they are no more than the marks.
int level_for(const Box& box, std::int64_t zoom) {
  int level = std::min(static_cast<int>(zoom) + 2, finest_cell_level) & ~1;
  while (level > 0 && cells_in(ranges_of(box, level)) > marks_at_most) level -= 2;
  return level;
}

/// The circle around a cell's gigs: about the cell's middle, to its farthest corner.
Circle circle_of(const CellRow& cell, int level) {
  const double side = std::ldexp(1.0, level);
  const auto latitude = [side](double y) { return std::atan(std::sinh(M_PI * (1 - 2 * y / side))) * 180 / M_PI; };
  // The outermost rows hold what lies beyond the map's edge too.
  const double north = cell.y == 0 ? 90 : latitude(cell.y);
  const double south = cell.y == static_cast<std::int32_t>(side) - 1 ? -90 : latitude(cell.y + 1);
  return circle_around({south, cell.x / side * 360 - 180, north, (cell.x + 1) / side * 360 - 180});
}

Awaitable<MapAnswer> sample(Call& call, const MapQuery& query, const Box& box) {
  const Circle circle = circle_around(box);
  SampleWanted wanted{circle.middle.latitude,
                      circle.middle.longitude,
                      circle.radius_m,
                      true,
                      box.min_latitude,
                      box.min_longitude,
                      box.max_latitude,
                      box.max_longitude,
                      query.status.value_or(Status::PENDING),
                      query.min_budget,
                      query.max_budget,
                      std::nullopt,
                      std::nullopt,
                      std::nullopt,
                      std::nullopt,
                      {}};
  if (query.category) wanted.category = fold_case(query.category->value);
  auto rows = co_await db::all(call.db(), wanted.status == Status::PENDING ? sample_open : sample_other, wanted);
  MapAnswer answer;
  for (SampleRow& row : rows) {
    answer.sampled = row.seen >= sample_size;
    answer.gigs.push_back(std::move(row));
  }
  co_return answer;
}

Awaitable<MapAnswer> get_map(Deps&, Call& call, Query<MapQuery> query) {
  const Box box{query->min_latitude.degrees, query->min_longitude.degrees, query->max_latitude.degrees,
                query->max_longitude.degrees};
  const bool filtered = query->status.value_or(Status::PENDING) != Status::PENDING || query->category ||
                        query->min_budget || query->max_budget;
  if (filtered) co_return co_await sample(call, query.value, box);
  const int level = level_for(box, query->zoom.value);
  std::vector<CellRow> cells;
  for (const CellsWanted& range : ranges_of(box, level)) {
    for (CellRow& cell : co_await db::all(call.db(), select_cells, range)) cells.push_back(cell);
  }
  std::int64_t total = 0;
  for (const CellRow& cell : cells) total += cell.count;
  MapAnswer answer;
  if (total <= pins_up_to) {
    PinsWanted wanted{{}, {}, {}, true, box.min_latitude, box.min_longitude, box.max_latitude, box.max_longitude};
    for (const CellRow& cell : cells) {
      const Circle circle = circle_of(cell, level);
      wanted.latitudes.push_back(circle.middle.latitude);
      wanted.longitudes.push_back(circle.middle.longitude);
      wanted.radii_m.push_back(circle.radius_m);
    }
    if (!cells.empty()) answer.gigs = co_await db::all(call.db(), select_pins, wanted);
    // The circles around neighbouring cells overlap.
    std::sort(answer.gigs.begin(), answer.gigs.end(), [](const Pin& a, const Pin& b) { return a.id < b.id; });
    const auto same = [](const Pin& a, const Pin& b) { return a.id == b.id; };
    answer.gigs.erase(std::unique(answer.gigs.begin(), answer.gigs.end(), same), answer.gigs.end());
    if (answer.gigs.size() > static_cast<std::size_t>(marks_at_most)) answer.gigs.resize(marks_at_most);
    co_return answer;
  }
  for (const CellRow& cell : cells) {
    const auto count = static_cast<double>(cell.count);
    const auto mean = [count](std::int64_t sum) { return std::round(static_cast<double>(sum) / count) / 1e6; };
    answer.clusters.push_back({mean(cell.latitude_sum), mean(cell.longitude_sum), cell.count});
  }
  co_return answer;
}

}  // namespace

void install_map(http::Router& router, Deps& deps) { router.add(map_gigs, get_map, deps); }

}  // namespace hourz::gigs
