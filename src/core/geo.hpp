// Points on the earth: WGS 84 degrees, the cells that the map counts in, and the blur that keeps a stranger from
// learning where somebody lives.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/ids.hpp"

namespace hourz {

inline constexpr double mean_radius_m = 6371008.8;  ///< of the sphere, IUGG

struct Latitude {
  double degrees = 0;  ///< -90..90
  bool operator==(const Latitude&) const = default;
};

struct Longitude {
  double degrees = 0;  ///< -180..180
  bool operator==(const Longitude&) const = default;
};

struct Point {
  double latitude = 0;   ///< degrees, -90..90
  double longitude = 0;  ///< degrees, -180..180
  bool operator==(const Point&) const = default;
};

/// The one way to write a point that has several: -180 for the antimeridian, longitude 0 at the poles. PostGIS takes
/// the others for different points when it walks an index by distance, and gives up ("index returned tuples in wrong
/// order").
Point canonical(Point point);

/// The public point of a place, canonical: the middle of the square of side 2 × `radius_m` that the place lies in,
/// moved by up to half a `radius_m` in a way that only the server can know. So it is off by at most 1.92 × `radius_m`,
/// and says no more than the square: asking again, posting again from the same owner and measuring the place anew give
/// the same point. The place itself when `radius_m` is 0. `key` is the server's secret.
Point blurred(std::string_view key, const Uuid& owner, Point place, double radius_m);

/// Cells of the map: the web-mercator square (EPSG:3857, latitudes to ±85.0511) cut into 2^level by 2^level, y counted
/// from the north. Latitudes beyond fall into the outermost row.
inline constexpr int finest_cell_level = 20;

struct Cell {
  std::int32_t x = 0;
  std::int32_t y = 0;
  bool operator==(const Cell&) const = default;
};

Cell cell_of(Point point, int level = finest_cell_level);

}  // namespace hourz
