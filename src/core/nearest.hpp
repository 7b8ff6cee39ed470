// Pages of the nearest, in order of true (geodesic) distance, from an index that knows distance only on the sphere or
// on the mercator plane.
//
// True and spherical distance differ by at most 0.6 % (the earth's radii of curvature lie between 0.9944 and 1.0045 of
// the sphere's), and the plane's is the sphere's divided by cosines of the latitudes on the way. So among candidates
// taken in either order the front is settled as soon as the last candidate is clearly farther.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "core/geo.hpp"
#include "core/ids.hpp"

namespace hourz {

inline constexpr double least_true_per_sphere = 0.994;
inline constexpr double most_true_per_sphere = 1.005;

/// How many candidates to ask for at first, for a page of `wanted`.
inline std::int64_t first_candidates(std::int64_t wanted) { return wanted + wanted / 8 + 4; }

/// Candidates by distance on the sphere.
struct SphereOrder {
  /// The least true distance, metres, of what was not fetched when one that was is `farthest_m` away.
  double least_unfetched_m(double farthest_m) const {
    return farthest_m / most_true_per_sphere * least_true_per_sphere;
  }
};

/// Candidates by distance on the mercator plane, for searches within `radius_m` of a point. A way along which the
/// latitude is between `low` and `high` is by 1/cos(low) to 1/cos(high) longer there: the candidate's straight line
/// stays this side of `low`, and the shortest way to whatever is nearer than the candidate and within the radius stays
/// this side of `high`.
struct PlaneOrder {
  double latitude;  ///< degrees
  double radius_m;

  /// Whether the plane can serve the circle: away from its seam, the antimeridian, and from the poles, where it has no
  /// end.
  static bool serves(Point middle, double radius_m) {
    const double high = std::abs(middle.latitude) + degrees_of(radius_m);
    return high <= 70 && std::abs(middle.longitude) + degrees_of(radius_m) / std::cos(radians_of(high)) <= 179;
  }

  double least_unfetched_m(double farthest_m) const {
    const double high = std::abs(latitude) + degrees_of(std::min(farthest_m, radius_m));
    const double low = std::max(0.0, std::abs(latitude) - degrees_of(farthest_m));
    return SphereOrder{}.least_unfetched_m(farthest_m) * std::cos(radians_of(high)) / std::cos(radians_of(low));
  }

 private:
  static double radians_of(double degrees) { return degrees * std::numbers::pi / 180; }
  /// Of a great circle, for a true distance.
  static double degrees_of(double true_m) { return true_m / least_true_per_sphere / (mean_radius_m * radians_of(1)); }
};

/// Sorts candidates (with `distance_m` and `id`; the `asked` first in the index's order, or fewer when there are no
/// more) by true distance and id, and says whether the first `wanted` within `radius_m` are settled: no row that was
/// not fetched can come before them. Then those beyond the radius are gone. Never settled while a crowd at one and the
/// same place reaches beyond the candidates.
template <class Row, class Order = SphereOrder>
bool settle_nearest(std::vector<Row>& rows, std::int64_t asked, std::int64_t wanted, double radius_m,
                    const Order& order = {}) {
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.distance_m != b.distance_m ? a.distance_m < b.distance_m : a.id < b.id;
  });
  const auto beyond = std::ranges::partition_point(rows, [=](const Row& row) { return row.distance_m <= radius_m; });
  if (static_cast<std::int64_t>(rows.size()) == asked) {
    // What was not fetched is as far in the index's order as the farthest here, at least.
    const double settled_m = order.least_unfetched_m(rows.back().distance_m);
    const auto within = beyond - rows.begin();
    const bool full = within >= wanted && rows[static_cast<std::size_t>(wanted - 1)].distance_m < settled_m;
    if (!full && settled_m <= radius_m) return false;
  }
  rows.erase(beyond, rows.end());
  return true;
}

}  // namespace hourz
