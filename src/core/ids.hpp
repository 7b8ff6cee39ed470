// Ids of everything the server makes: UUID version 7 (RFC 9562), so that ids sort by time of creation and index pages
// fill from one end.
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace hourz {

struct Uuid {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const Uuid&) const = default;
};

/// A new id: 48 bits of Unix milliseconds, a 12-bit counter that keeps one thread's ids in order within a millisecond,
/// 62 random bits. Thread-safe.
Uuid make_uuid();

/// The canonical 36-character form in lower case.
std::string to_string(const Uuid& id);

/// Accepts the canonical form only, in either case.
std::optional<Uuid> parse_uuid(std::string_view text);

}  // namespace hourz

template <>
struct std::hash<hourz::Uuid> {
  std::size_t operator()(const hourz::Uuid& id) const noexcept;
};
