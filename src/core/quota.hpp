// A quota: how much of something there may be in how many seconds. Read from settings as `N` (a minute) or `N/seconds`.
#pragma once
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hourz {

struct Quota {
  std::int64_t requests = 0;
  std::int64_t window_s = 60;

  bool operator==(const Quota&) const = default;
};

/// From 1 to 1,000,000 requests in 1 to 86,400 seconds; nothing when the text is no quota.
inline std::optional<Quota> parse_quota(std::string_view text) {
  const auto number = [](std::string_view digits, std::int64_t most) -> std::optional<std::int64_t> {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size() || value < 1 || value > most) return {};
    return value;
  };
  const auto slash = text.find('/');
  const auto requests = number(text.substr(0, slash), 1'000'000);
  const auto window_s = slash == std::string_view::npos ? 60 : number(text.substr(slash + 1), 86'400);
  if (!requests || !window_s) return {};
  return Quota{*requests, *window_s};
}

inline std::string to_text(const Quota& quota) {
  return std::to_string(quota.requests) + (quota.window_s == 60 ? "" : "/" + std::to_string(quota.window_s));
}

}  // namespace hourz
