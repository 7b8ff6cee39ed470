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

/// How many candidates to ask for at first, for a page of `wanted`.
inline std::int64_t first_candidates(std::int64_t wanted) { return wanted + wanted / 8 + 4; }

/// Sorts candidates (with `sphere_m`, `distance_m` and `id`; the `asked` first in spherical order, or fewer when there
/// are no more) by true distance and id, and says whether the first `wanted` are settled: no row that was not fetched
/// can come before them. Never so while a crowd at one and the same place reaches beyond the candidates.
template <class Row>
bool settle_nearest(std::vector<Row>& rows, std::int64_t asked, std::int64_t wanted) {
  double farthest_m = 0;
  for (const Row& row : rows) farthest_m = std::max(farthest_m, row.sphere_m);
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.distance_m != b.distance_m ? a.distance_m < b.distance_m : a.id < b.id;
  });
  const auto count = static_cast<std::int64_t>(rows.size());
  if (count < asked) return true;
  return count >= wanted && rows[static_cast<std::size_t>(wanted - 1)].distance_m < farthest_m * least_true_per_sphere;
}

}  // namespace hourz
