// Boxes of a map and the circles around them.
#pragma once
#include <optional>
#include <vector>

#include "core/geo.hpp"
#include "core/problem.hpp"
#include "reflect/leaf.hpp"

namespace hourz::gigs {

/// Degrees. `min_longitude` > `max_longitude`: across the antimeridian.
struct Box {
  double min_latitude, min_longitude, max_latitude, max_longitude;
};

struct Circle {
  Point middle;
  double radius_m;
};

/// A circle that holds the whole box: about its middle, as far as its farthest corner or edge, and a hundredth more,
/// since the earth is not the sphere that is measured on here.
Circle circle_around(const Box& box);

/// Metres on the sphere.
double sphere_distance_m(Point a, Point b);

/// All four bounds or none, and south below north.
void check_box(const std::optional<Latitude>& min_latitude, const std::optional<Longitude>& min_longitude,
               const std::optional<Latitude>& max_latitude, const std::optional<Longitude>& max_longitude,
               std::vector<Fault>& faults);

}  // namespace hourz::gigs
