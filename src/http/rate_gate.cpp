#include "http/rate_gate.hpp"

#include "core/problem.hpp"

namespace hourz::http {

boost::asio::awaitable<RateVerdict> RateGate::ask(RateKey key) {
  const RateVerdict here = limiter_.peek(key);
  if (!here.allowed) co_return here;
  const auto word = co_await shared_->take(key, limiter_.rule_of(key.rate));
  if (!word) co_return limiter_.take(key);
  co_return limiter_.learn(key, word->allowed, word->owed);
}

boost::asio::awaitable<void> RateGate::charge(RateClass rate, std::string_view subject, RateReports& reports) {
  if (!enabled()) co_return;
  const RateKey key = limiter_.key_of(rate, subject);
  const RateVerdict verdict = shared_ == nullptr ? limiter_.take(key) : co_await ask(key);
  // How often others tried an email address is not told to whoever asks.
  const bool about_others = rate == RateClass::email || rate == RateClass::account;
  if (!about_others || !verdict.allowed) reports.push_back({&limiter_.rule_of(rate), verdict});
  if (!verdict.allowed) throw Problem(ErrorCode::rate_limited).retry_after(static_cast<int>(verdict.reset_s));
}

void add_rate_fields(Response& response, const RateReports& reports) {
  if (reports.empty()) return;
  std::string policies, states;
  for (const RateReport& report : reports) {
    const std::string name = (policies.empty() ? "\"" : ", \"") + std::string(report.rule->name) + '"';
    policies += name + ";q=" + std::to_string(report.rule->quota.requests) +
                ";w=" + std::to_string(report.rule->quota.window_s);
    states += name + ";r=" + std::to_string(report.verdict.remaining) + ";t=" + std::to_string(report.verdict.reset_s);
  }
  response.headers.emplace_back("RateLimit-Policy", std::move(policies));
  response.headers.emplace_back("RateLimit", std::move(states));
}

}  // namespace hourz::http
