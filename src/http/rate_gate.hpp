// Where a shard asks for a place in a quota. One a shard: the quotas of this process are a RateLimiter's, shared by all
// shards. What was said is kept as a report, so that the answer's RateLimit fields tell it.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <string_view>
#include <vector>

#include "http/message.hpp"
#include "http/rate_limit.hpp"

namespace hourz::http {

/// What a quota said to a request.
struct RateReport {
  const RateRule* rule = nullptr;
  RateVerdict verdict;
};
using RateReports = std::vector<RateReport>;

class RateGate {
 public:
  explicit RateGate(RateLimiter& limiter) : limiter_(limiter) {}

  bool enabled() const { return limiter_.enabled(); }

  /// Takes one request of `subject` and adds to `reports` what was said; of the quotas of an email address, which are
  /// others' too, refusals alone. Throws rate_limited. Nothing while the limits
  /// are off.
  boost::asio::awaitable<void> charge(RateClass rate, std::string_view subject, RateReports& reports);

 private:
  RateLimiter& limiter_;
};

/// RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers, structured fields).
void add_rate_fields(Response& response, const RateReports& reports);

}  // namespace hourz::http
