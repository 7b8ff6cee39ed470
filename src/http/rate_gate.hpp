// Where a shard asks for a place in a quota. One a shard: the quotas of this process are a RateLimiter's, shared by all
// shards, those of several servers a SharedRate's. Whoever has spent their quota here is refused without asking others,
// so that a flood reaches Redis as little as the database. What was said is kept as a report, so that the answer's
// RateLimit fields tell it.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <string_view>
#include <vector>

#include "http/message.hpp"
#include "http/shared_rate.hpp"

namespace hourz::http {

/// What a quota said to a request.
struct RateReport {
  const RateRule* rule = nullptr;
  RateVerdict verdict;
};
using RateReports = std::vector<RateReport>;

class RateGate {
 public:
  /// `shared`: null where this server counts for itself.
  explicit RateGate(RateLimiter& limiter, SharedRate* shared = nullptr) : limiter_(limiter), shared_(shared) {}

  bool enabled() const { return limiter_.enabled(); }

  /// Takes one request of `subject` and adds to `reports` what was said; of the quotas of an email address, which are
  /// others' too, refusals alone. Throws rate_limited. Nothing while the limits
  /// are off.
  boost::asio::awaitable<void> charge(RateClass rate, std::string_view subject, RateReports& reports);

 private:
  boost::asio::awaitable<RateVerdict> ask(RateKey key);

  RateLimiter& limiter_;
  SharedRate* shared_;
};

/// RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers, structured fields).
void add_rate_fields(Response& response, const RateReports& reports);

}  // namespace hourz::http
