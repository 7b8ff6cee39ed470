// Circles on the earth, found by a point: an R-tree of their boxes (Boost.Geometry), then the exact distance. Built for
// many circles and few points: 100,000 areas cost a point some microseconds. Distances are geodesic on WGS 84, as the
// database measures them, so that an alert and a search agree at the edge. Belongs to one thread.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/geo.hpp"

namespace hourz::alerts {

class AreaIndex {
 public:
  AreaIndex();
  ~AreaIndex();
  AreaIndex(const AreaIndex&) = delete;
  AreaIndex& operator=(const AreaIndex&) = delete;

  /// `key` must not be in it; `radius_m` is at most 1,000,000.
  void insert(std::uint64_t key, Point middle, double radius_m);
  /// Whether it was there.
  bool erase(std::uint64_t key);
  /// Adds the keys of the circles that hold the point to `found`, each once, in no order.
  void find(Point point, std::vector<std::uint64_t>& found) const;
  std::size_t size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hourz::alerts
