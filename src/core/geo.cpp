#include "core/geo.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string>

#include "core/crypto.hpp"

namespace hourz {
namespace {

constexpr double radians = std::numbers::pi / 180;
constexpr double mean_radius_m = 6371008.8;  // IUGG

/// A number in 0..1 from four bytes.
double fraction(const std::uint8_t* bytes) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value / 4294967296.0;
}

}  // namespace

Point blurred(std::string_view key, const Uuid& owner, Point place, double radius_m) {
  if (radius_m <= 0) return place;
  const std::string message = "blur:" + to_string(owner) + ":" + std::to_string(std::lround(place.latitude * 1e4)) +
                              ":" + std::to_string(std::lround(place.longitude * 1e4));
  const Mac mac = hmac_sha256(key, message);
  const double arc = radius_m * (0.6 + 0.4 * fraction(mac.data())) / mean_radius_m;
  const double bearing = 2 * std::numbers::pi * fraction(mac.data() + 4);
  // The point at an arc and bearing on a sphere (direct problem of spherical trigonometry): right at the poles and
  // across the antimeridian, and exact enough for a distance that is meant to be vague.
  const double from = place.latitude * radians;
  const double sine = std::sin(from) * std::cos(arc) + std::cos(from) * std::sin(arc) * std::cos(bearing);
  const double latitude = std::asin(std::clamp(sine, -1.0, 1.0));
  const double turn =
      std::atan2(std::sin(bearing) * std::sin(arc) * std::cos(from), std::cos(arc) - std::sin(from) * sine);
  const double longitude = std::remainder(place.longitude + turn / radians, 360.0);
  // To six decimals (0.1 m), as people write coordinates.
  return {std::round(latitude / radians * 1e6) / 1e6, std::clamp(std::round(longitude * 1e6) / 1e6, -180.0, 180.0)};
}

Cell cell_of(Point point, int level) {
  const double side = std::ldexp(1.0, level);
  const double latitude = std::clamp(point.latitude, -85.0511, 85.0511) * radians;
  const double x = (point.longitude + 180) / 360 * side;
  const double y = (1 - std::asinh(std::tan(latitude)) / std::numbers::pi) / 2 * side;
  const auto bound = [side](double value) {
    return static_cast<std::int32_t>(std::clamp(std::floor(value), 0.0, side - 1));
  };
  return {bound(x), bound(y)};
}

}  // namespace hourz
