// Rate limits by the generic cell rate algorithm: one point in time a key, no queue, no timer. Counts for this process;
// http/shared_rate.hpp makes several processes share one count.
//
// Promises bounded memory and constant time whatever keys come: a table of fixed size, eight cells a bucket, in which a
// new key takes the place of the one that owes least, so that who is being held back is forgotten last. Which bucket a
// key falls into is nobody's to choose: keys are hashed under a secret. Locks are by bucket, a few dozen in all.
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "core/config.hpp"
#include "http/endpoint.hpp"

namespace hourz::http {

struct RateRule {
  std::string_view name;  ///< in the RateLimit fields
  Quota quota;            ///< allowed per window, and the burst

  std::chrono::nanoseconds interval() const {
    return std::chrono::nanoseconds(std::chrono::seconds(quota.window_s)) / quota.requests;
  }
};

struct RateVerdict {
  bool allowed = true;
  std::int64_t remaining = 0;
  std::int64_t reset_s = 0;  ///< until the full quota is there again; of a refusal: until the next request is allowed
};

/// A key and its class, hashed: the same in every process that shares the secret.
struct RateKey {
  RateClass rate = RateClass::standard;
  std::array<std::uint64_t, 2> hash{};
};

class RateLimiter {
 public:
  using Stamp = std::chrono::steady_clock::time_point;
  static constexpr std::size_t default_cells = std::size_t{1} << 20;  ///< of 16 bytes

  /// `config` gives the quotas, and the secret that keys are hashed under. `cells` is rounded up to a power of two.
  explicit RateLimiter(const Config& config, std::size_t cells = default_cells);

  bool enabled() const { return enabled_; }
  const RateRule& rule_of(RateClass rate) const { return rules_[static_cast<std::size_t>(rate)]; }

  /// `subject`: an account's id, an address, an email address.
  RateKey key_of(RateClass rate, std::string_view subject) const;

  // All thread-safe.

  /// Takes one request of `key` from the class's quota.
  RateVerdict take(const RateKey& key, Stamp now = std::chrono::steady_clock::now());
  /// What take() would say, with nothing taken.
  RateVerdict peek(const RateKey& key, Stamp now = std::chrono::steady_clock::now());
  /// Another count's word on the key: `owed` is the time until its full quota is there again. Never lessens a debt.
  RateVerdict learn(const RateKey& key, bool allowed, std::chrono::nanoseconds owed,
                    Stamp now = std::chrono::steady_clock::now());

 private:
  static constexpr std::size_t ways = 8;
  static constexpr std::size_t stripes = 64;
  struct Cell {
    std::uint64_t tag;    ///< 0: empty
    std::int64_t due_ns;  ///< theoretical arrival time of the next request, on the steady clock
  };
  struct alignas(64) Stripe {
    std::mutex mutex;
  };
  struct Free {
    void operator()(Cell* cells) const { std::free(cells); }
  };

  RateVerdict verdict(const RateRule& rule, bool allowed, std::chrono::nanoseconds owed) const;
  RateVerdict judge(const RateKey& key, Stamp now, bool taking);
  /// The key's cell, else the one of its bucket that owes least. Under the bucket's lock.
  Cell& cell_of(const RateKey& key);
  Stripe& stripe_of(const RateKey& key) { return stripes_[(key.hash[0] & bucket_mask_) % stripes]; }

  bool enabled_;
  std::array<RateRule, rate_classes> rules_;
  std::array<std::uint8_t, 16> secret_{};
  std::size_t bucket_mask_;
  std::unique_ptr<Cell[], Free> cells_;  ///< from calloc: a page costs nothing before it is used
  std::array<Stripe, stripes> stripes_;
};

}  // namespace hourz::http
