// Rate limits by the generic cell rate algorithm: one time stamp a key, no queue, no timer. Counts for this process
// alone. Memory is bounded: past `capacity` keys the ones that owe nothing go first, then the oldest.
#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "http/endpoint.hpp"

namespace hourz::http {

struct RateRule {
  std::string_view name;  ///< in the RateLimit fields
  int requests = 0;       ///< allowed per window, and the burst
  std::chrono::seconds window{60};
};

struct RateVerdict {
  bool allowed = true;
  int remaining = 0;
  int reset_s = 0;  ///< until the full quota is there again; of a refusal: until the next request is allowed
};

class RateLimiter {
 public:
  explicit RateLimiter(bool enabled, std::size_t capacity = 200'000) : enabled_(enabled), capacity_(capacity) {}

  bool enabled() const { return enabled_; }
  static RateRule rule_of(RateClass rate);

  /// Takes one request of `key` from the class's quota. Thread-safe.
  RateVerdict take(RateClass rate, std::string_view key,
                   std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());

 private:
  using Stamp = std::chrono::steady_clock::time_point;
  void make_room(Stamp now);

  bool enabled_;
  std::size_t capacity_;
  std::mutex mutex_;
  std::unordered_map<std::string, Stamp> due_;  ///< theoretical arrival time of the next request
};

}  // namespace hourz::http
