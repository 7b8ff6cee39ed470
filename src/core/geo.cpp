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

/// A number in 0..1 from four bytes.
double fraction(const std::uint8_t* bytes) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value / 4294967296.0;
}

/// The point at a distance and a bearing (clockwise from north) on the sphere: right at the poles and across the
/// antimeridian. To six decimals (0.1 m), as people write coordinates.
Point moved(Point from, double distance_m, double bearing_rad) {
  const double arc = distance_m / mean_radius_m;
  const double start = from.latitude * radians;
  const double sine = std::sin(start) * std::cos(arc) + std::cos(start) * std::sin(arc) * std::cos(bearing_rad);
  const double latitude = std::asin(std::clamp(sine, -1.0, 1.0));
  const double turn =
      std::atan2(std::sin(bearing_rad) * std::sin(arc) * std::cos(start), std::cos(arc) - std::sin(start) * sine);
  const double longitude = std::remainder(from.longitude + turn / radians, 360.0);
  return {std::round(latitude / radians * 1e6) / 1e6, std::clamp(std::round(longitude * 1e6) / 1e6, -180.0, 180.0)};
}

}  // namespace

Point canonical(Point point) {
  if (std::abs(point.latitude) == 90) return {point.latitude, 0};
  return {point.latitude, point.longitude == 180 ? -180 : point.longitude};
}

Point blurred(std::string_view key, const Uuid& owner, Point place, double radius_m) {
  if (radius_m <= 0) return canonical(place);
  // The middle of the square that the place lies in. Squares of a row are as wide as the row is high.
  const double height = 2 * radius_m / mean_radius_m / radians;
  const double row = std::floor(place.latitude / height);
  const double latitude = std::clamp((row + 0.5) * height, -90.0, 90.0);
  const double width = std::min(360.0, height / std::max(std::cos(latitude * radians), 1e-6));
  const double column = std::floor(place.longitude / width);
  const double longitude = (column + 0.5) * width;
  const std::string message =
      "blur:" + to_string(owner) + ":" + std::to_string(std::llround(row)) + ":" + std::to_string(std::llround(column));
  const Mac mac = hmac_sha256(key, message);
  return canonical(moved({latitude, longitude}, radius_m / 2 * fraction(mac.data()),
                         2 * std::numbers::pi * fraction(mac.data() + 4)));
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
