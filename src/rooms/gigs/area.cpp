#include "rooms/gigs/area.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hourz::gigs {
namespace {
constexpr double radians = std::numbers::pi / 180;
}  // namespace

double sphere_distance_m(Point a, Point b) {
  // Haversine: exact also for small distances.
  const double up = std::sin((b.latitude - a.latitude) * radians / 2);
  const double across = std::sin((b.longitude - a.longitude) * radians / 2);
  const double h = up * up + std::cos(a.latitude * radians) * std::cos(b.latitude * radians) * across * across;
  return 2 * mean_radius_m * std::asin(std::min(1.0, std::sqrt(h)));
}

Circle circle_around(const Box& box) {
  double width = box.max_longitude - box.min_longitude;
  if (width < 0) width += 360;
  Point middle{(box.min_latitude + box.max_latitude) / 2, std::remainder(box.min_longitude + width / 2, 360.0)};
  // The farthest point of a box is on its sides, at a corner or where a side is closest to the equator; beyond a
  // quarter of the earth's width anything is possible, and the circle is the earth.
  constexpr double whole_earth_m = 20'040'000;
  if (width >= 180) return {middle, whole_earth_m};
  double radius_m = 0;
  const double west = middle.longitude - width / 2;
  for (const double latitude :
       {box.min_latitude, box.max_latitude, std::clamp(0.0, box.min_latitude, box.max_latitude)}) {
    radius_m = std::max(radius_m, sphere_distance_m(middle, {latitude, west}));
    radius_m = std::max(radius_m, sphere_distance_m(middle, {latitude, middle.longitude}));
  }
  return {middle, std::min(radius_m * 1.01 + 1, whole_earth_m)};
}

void check_box(const std::optional<Latitude>& min_latitude, const std::optional<Longitude>& min_longitude,
               const std::optional<Latitude>& max_latitude, const std::optional<Longitude>& max_longitude,
               std::vector<Fault>& faults) {
  const int given = int(min_latitude.has_value()) + int(min_longitude.has_value()) + int(max_latitude.has_value()) +
                    int(max_longitude.has_value());
  if (given == 0) return;
  const auto need = [&faults](bool present, const char* name) {
    if (!present) faults.push_back({name, "required", "comes with the other three bounds"});
  };
  need(min_latitude.has_value(), "min_latitude");
  need(min_longitude.has_value(), "min_longitude");
  need(max_latitude.has_value(), "max_latitude");
  need(max_longitude.has_value(), "max_longitude");
  if (given == 4 && min_latitude->degrees > max_latitude->degrees) {
    faults.push_back({"max_latitude", "out_of_range", "must not be south of min_latitude"});
  }
}

}  // namespace hourz::gigs
