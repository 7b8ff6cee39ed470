#include "http/rate_limit.hpp"

#include <algorithm>
#include <bit>
#include <new>

#include "core/crypto.hpp"

namespace hourz::http {

using std::chrono::nanoseconds;

namespace {

nanoseconds since_epoch(RateLimiter::Stamp stamp) { return stamp.time_since_epoch(); }

}  // namespace

RateLimiter::RateLimiter(const Config& config, std::size_t cells)
    : enabled_(config.rate_limit == "on"),
      rules_{{{"none", {1, 1}},
              {"standard", config.rate_standard},
              {"auth", config.rate_auth},
              {"upload", config.rate_upload},
              {"email", config.rate_auth},
              {"account", config.rate_account}}},
      bucket_mask_(std::bit_ceil(std::max(cells, ways)) / ways - 1),
      cells_(static_cast<Cell*>(std::calloc((bucket_mask_ + 1) * ways, sizeof(Cell)))) {
  if (!cells_) throw std::bad_alloc();
  const std::string secret = derive_key(config, "rate");
  std::copy_n(secret.begin(), secret_.size(), secret_.begin());
}

RateKey RateLimiter::key_of(RateClass rate, std::string_view subject) const {
  auto secret = secret_;
  secret[0] ^= static_cast<std::uint8_t>(rate);
  return {rate, short_hash(secret, subject)};
}

RateLimiter::Cell& RateLimiter::cell_of(const RateKey& key) {
  Cell* const bucket = &cells_[(key.hash[0] & bucket_mask_) * ways];
  const std::uint64_t tag = key.hash[1] | 1;
  Cell* least = bucket;
  for (Cell* cell = bucket; cell != bucket + ways; ++cell) {
    if (cell->tag == tag) return *cell;
    if (cell->due_ns < least->due_ns) least = cell;
  }
  return *least;
}

RateVerdict RateLimiter::verdict(const RateRule& rule, bool allowed, nanoseconds owed) const {
  const nanoseconds interval = rule.interval(), burst = interval * rule.quota.requests;
  const auto seconds = [](nanoseconds d) {
    return std::chrono::ceil<std::chrono::seconds>(std::max(d, nanoseconds::zero())).count();
  };
  if (!allowed) return {false, 0, std::max<std::int64_t>(1, seconds(owed + interval - burst))};
  return {true, std::max<std::int64_t>(0, (burst - owed) / interval), seconds(owed)};
}

RateVerdict RateLimiter::judge(const RateKey& key, Stamp now, bool taking) {
  const RateRule& rule = rule_of(key.rate);
  const nanoseconds interval = rule.interval(), burst = interval * rule.quota.requests;
  const std::lock_guard lock(stripe_of(key).mutex);
  Cell& cell = cell_of(key);
  const bool known = cell.tag == (key.hash[1] | 1);
  const nanoseconds owed =
      known ? std::max(nanoseconds(cell.due_ns) - since_epoch(now), nanoseconds::zero()) : nanoseconds::zero();
  if (owed + interval > burst) return verdict(rule, false, owed);
  if (taking) cell = {key.hash[1] | 1, (since_epoch(now) + owed + interval).count()};
  return verdict(rule, true, owed + interval);
}

RateVerdict RateLimiter::take(const RateKey& key, Stamp now) { return judge(key, now, true); }

RateVerdict RateLimiter::peek(const RateKey& key, Stamp now) { return judge(key, now, false); }

RateVerdict RateLimiter::learn(const RateKey& key, bool allowed, nanoseconds owed, Stamp now) {
  const std::int64_t due_ns = (since_epoch(now) + owed).count();
  nanoseconds most = owed;
  {
    const std::lock_guard lock(stripe_of(key).mutex);
    Cell& cell = cell_of(key);
    const std::uint64_t tag = key.hash[1] | 1;
    if (cell.tag != tag) {
      cell = {tag, due_ns};
    } else {
      cell.due_ns = std::max(cell.due_ns, due_ns);
    }
    most = nanoseconds(cell.due_ns) - since_epoch(now);
  }
  // What is said is what the caller meets here: the larger debt.
  return verdict(rule_of(key.rate), allowed, most);
}

}  // namespace hourz::http
