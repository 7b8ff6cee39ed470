// Pages of the nearest, in order of true (geodesic) distance, from an index that only knows distance on the sphere.
//
// The two differ by at most 0.6 % (the earth's radii of curvature lie between 0.9944 and 1.0045 of the sphere's), so
// among candidates taken in spherical order the front is settled as soon as the last candidate is clearly farther.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/ids.hpp"

namespace hourz {

inline constexpr double least_true_per_sphere = 0.994;
inline constexpr double most_true_per_sphere = 1.005;

/// How many candidates to ask for at first, for a page of `wanted`.
inline std::int64_t first_candidates(std::int64_t wanted) { return wanted + wanted / 8 + 4; }

/// Sorts candidates (with `distance_m` and `id`; the `asked` first in spherical order, or fewer when there are no more)
/// by true distance and id, and says whether the first `wanted` within `radius_m` are settled: no row that was not
/// fetched can come before them. Then those beyond the radius are gone. Never settled while a crowd at one and the same
/// place reaches beyond the candidates.
template <class Row>
bool settle_nearest(std::vector<Row>& rows, std::int64_t asked, std::int64_t wanted, double radius_m) {
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.distance_m != b.distance_m ? a.distance_m < b.distance_m : a.id < b.id;
  });
  const auto beyond = std::ranges::partition_point(rows, [=](const Row& row) { return row.distance_m <= radius_m; });
  if (static_cast<std::int64_t>(rows.size()) == asked) {
    // What was not fetched is as far on the sphere as the farthest here, at least.
    const double settled_m = rows.back().distance_m / most_true_per_sphere * least_true_per_sphere;
    const auto within = beyond - rows.begin();
    const bool full = within >= wanted && rows[static_cast<std::size_t>(wanted - 1)].distance_m < settled_m;
    if (!full && settled_m <= radius_m) return false;
  }
  rows.erase(beyond, rows.end());
  return true;
}

}  // namespace hourz
