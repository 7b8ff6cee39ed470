// Points in time: microseconds since 1970-01-01T00:00:00Z, which is what PostgreSQL's timestamptz holds.
#pragma once
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hourz {

struct Timestamp {
  std::int64_t microseconds = 0;
  auto operator<=>(const Timestamp&) const = default;
};

Timestamp now();

/// RFC 3339 in UTC with `Z`; the fraction is left out when it is zero, else six digits.
std::string to_string(Timestamp time);

/// RFC 3339 with `Z` or a numeric offset, years 1970 to 9999; more than six fractional digits are refused, since they
/// would be dropped in silence.
std::optional<Timestamp> parse_timestamp(std::string_view text);

}  // namespace hourz
