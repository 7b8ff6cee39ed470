#include "http/rate_limit.hpp"

#include <algorithm>

namespace hourz::http {

RateRule RateLimiter::rule_of(RateClass rate) {
  if (rate == RateClass::auth) return {"auth", 5, std::chrono::seconds(60)};
  if (rate == RateClass::upload) return {"upload", 10, std::chrono::seconds(60)};
  return {"standard", 300, std::chrono::seconds(60)};
}

RateVerdict RateLimiter::take(RateClass rate, std::string_view key, Stamp now) {
  const RateRule rule = rule_of(rate);
  const auto interval = std::chrono::duration_cast<Stamp::duration>(rule.window) / rule.requests;
  const auto burst = interval * rule.requests;
  const auto seconds = [](Stamp::duration d) {
    return static_cast<int>(std::chrono::ceil<std::chrono::seconds>(std::max(d, Stamp::duration::zero())).count());
  };
  std::string full(rule.name);
  full += ':';
  full += key;
  const std::lock_guard lock(mutex_);
  if (due_.size() >= capacity_) make_room(now);
  Stamp& due = due_[std::move(full)];
  const Stamp base = std::max(due, now);
  const Stamp next = base + interval;
  if (next - now > burst) return {false, 0, std::max(1, seconds(next - burst - now))};
  due = next;
  return {true, static_cast<int>((burst - (next - now)) / interval), seconds(next - now)};
}

void RateLimiter::make_room(Stamp now) {
  std::erase_if(due_, [now](const auto& entry) { return entry.second <= now; });
  // Still full: a flood of keys that all owe. Forgetting an arbitrary tenth keeps memory bounded.
  for (std::size_t excess = due_.size() >= capacity_ ? capacity_ / 10 : 0; excess > 0 && !due_.empty(); --excess) {
    due_.erase(due_.begin());
  }
}

}  // namespace hourz::http
