#include "core/money.hpp"

namespace hourz {

std::string to_string(Money amount) {
  const bool negative = amount.satang < 0;
  const auto magnitude =
      negative ? 0 - static_cast<std::uint64_t>(amount.satang) : static_cast<std::uint64_t>(amount.satang);
  std::string text = (negative ? "-" : "") + std::to_string(magnitude / 100);
  if (const auto cents = magnitude % 100; cents != 0) {
    text += '.';
    text += static_cast<char>('0' + cents / 10);
    if (cents % 10 != 0) text += static_cast<char>('0' + cents % 10);
  }
  return text;
}

}  // namespace hourz
