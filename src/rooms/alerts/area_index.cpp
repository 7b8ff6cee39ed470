#include "rooms/alerts/area_index.hpp"

#include <boost/geometry.hpp>
#include <boost/geometry/index/rtree.hpp>
#include <cmath>
#include <numbers>
#include <unordered_map>

namespace hourz::alerts {
namespace {

namespace bg = boost::geometry;
using Flat = bg::model::point<double, 2, bg::cs::cartesian>;  // degrees east and north
using Box = bg::model::box<Flat>;
using Entry = std::pair<Box, std::uint64_t>;
using OnSphere = bg::model::point<double, 2, bg::cs::spherical_equatorial<bg::degree>>;
using OnEarth = bg::model::point<double, 2, bg::cs::geographic<bg::degree>>;

constexpr double metres_a_degree = 110'574;  // of latitude at the equator, where a degree is shortest
constexpr double margin = 1.01;

struct Circle {
  Point middle;
  double radius_m;
};

bool holds(const Circle& circle, Point point) {
  const OnEarth middle(circle.middle.longitude, circle.middle.latitude), other(point.longitude, point.latitude);
  // On the sphere of the mean radius first: ten times as fast, and off by at most 0.6 %.
  static const bg::strategy::distance::haversine<double> haversine(mean_radius_m);
  const double roughly_m = bg::distance(OnSphere(bg::get<0>(middle), bg::get<1>(middle)),
                                        OnSphere(bg::get<0>(other), bg::get<1>(other)), haversine);
  if (roughly_m < circle.radius_m * 0.99) return true;
  if (roughly_m > circle.radius_m * 1.01) return false;
  // Exact to less than a millimetre but for points nearly opposite each other, which no area spans.
  static const bg::strategy::distance::vincenty<bg::srs::spheroid<double>> vincenty{
      bg::srs::spheroid<double>(6378137.0, 6356752.314245)};
  return bg::distance(middle, other, vincenty) <= circle.radius_m;
}

/// One box, or two when it crosses the antimeridian, in degrees; all longitudes when a pole is near.
std::vector<Box> boxes_of(const Circle& circle) {
  const double up = circle.radius_m / metres_a_degree * margin;
  const double south = circle.middle.latitude - up, north = circle.middle.latitude + up;
  const double widest = std::max(std::abs(south), std::abs(north));
  if (widest >= 89.9) return {Box(Flat(-180, south), Flat(180, north))};
  const double across = up / std::cos(widest * std::numbers::pi / 180);
  const double west = circle.middle.longitude - across, east = circle.middle.longitude + across;
  if (across >= 180) return {Box(Flat(-180, south), Flat(180, north))};
  if (west < -180) return {Box(Flat(-180, south), Flat(east, north)), Box(Flat(west + 360, south), Flat(180, north))};
  if (east > 180) return {Box(Flat(west, south), Flat(180, north)), Box(Flat(-180, south), Flat(east - 360, north))};
  return {Box(Flat(west, south), Flat(east, north))};
}

}  // namespace

struct AreaIndex::State {
  bg::index::rtree<Entry, bg::index::quadratic<16>> tree;
  std::unordered_map<std::uint64_t, Circle> circles;
};

AreaIndex::AreaIndex() : state_(std::make_unique<State>()) {}
AreaIndex::~AreaIndex() = default;

void AreaIndex::insert(std::uint64_t key, Point middle, double radius_m) {
  const Circle circle{middle, radius_m};
  state_->circles.emplace(key, circle);
  for (const Box& box : boxes_of(circle)) state_->tree.insert(Entry(box, key));
}

bool AreaIndex::erase(std::uint64_t key) {
  const auto found = state_->circles.find(key);
  if (found == state_->circles.end()) return false;
  for (const Box& box : boxes_of(found->second)) state_->tree.remove(Entry(box, key));
  state_->circles.erase(found);
  return true;
}

void AreaIndex::find(Point point, std::vector<std::uint64_t>& found) const {
  const std::size_t first = found.size();
  const Flat flat(point.longitude, point.latitude);
  for (auto entry = state_->tree.qbegin(bg::index::intersects(flat)); entry != state_->tree.qend(); ++entry) {
    const std::uint64_t key = entry->second;
    // The two boxes of one circle touch at the antimeridian.
    if (std::find(found.begin() + static_cast<std::ptrdiff_t>(first), found.end(), key) != found.end() &&
        std::abs(point.longitude) == 180) {
      continue;
    }
    if (holds(state_->circles.at(key), point)) found.push_back(key);
  }
}

std::size_t AreaIndex::size() const { return state_->circles.size(); }

}  // namespace hourz::alerts
