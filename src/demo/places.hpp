// Where the people of the demonstration live: neighbourhoods of Bangkok, Chiang Mai and Phuket under their own names,
// at rough coordinates. A dense one is where a city works and goes out; a wide one is a suburb around its centre. The
// list is data for a believable map and no gazetteer. Order is part of the face: the same seed picks by index.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "core/geo.hpp"

namespace hourz::demo {

enum class City : std::uint8_t { bangkok, chiang_mai, phuket };
inline constexpr int city_count = 3;

struct Place {
  std::string_view name;       ///< English, as on signs
  std::string_view thai_name;  ///< the same in Thai
  City city;
  std::string_view district;
  std::string_view province;
  std::string_view postal_code;
  Point centre;
  double radius_m;  ///< no pin falls further from the centre, along either axis
  int weight;       ///< share among the dense, or among the wide, places
};

/// Some 40 busy neighbourhoods; six in ten pins are in one of them.
std::span<const Place> dense_places();

/// Suburbs, over which the other pins are spread.
std::span<const Place> wide_places();

}  // namespace hourz::demo
