// Money is whole satang (1/100 baht) in 64 bits, never a float. On the wire it is a JSON number of baht.
#pragma once
#include <compare>
#include <cstdint>
#include <string>

namespace hourz {

struct Money {
  static constexpr std::int64_t maximum_satang = 1'000'000'000;  ///< 10,000,000 baht, the contract's bound
  std::int64_t satang = 0;
  auto operator<=>(const Money&) const = default;
};

/// Baht with at most two decimals and no trailing zero: `350`, `350.5`, `0.01`.
std::string to_string(Money amount);

}  // namespace hourz
