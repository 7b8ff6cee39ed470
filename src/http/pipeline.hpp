// What every request goes through: route, caller, body, transaction, idempotency key, answer, one log line, metrics.
// One Pipeline a shard; the Router, the metrics and the table of constraints are shared and read-only.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/metrics.hpp"
#include "http/call.hpp"
#include "http/perimeter.hpp"
#include "http/rate_gate.hpp"
#include "http/router.hpp"
#include "http/workload.hpp"

namespace hourz::http {

/// Who a bearer token belongs to. Implemented by the auth room.
class Authenticator {
 public:
  virtual ~Authenticator() = default;
  /// Throws Problem: token_invalid, token_expired, session_ended; or db::Error.
  virtual Awaitable<Caller> authenticate(db::Client& database, std::string_view token) = 0;
  /// Who bought a socket ticket, which is used up by this. Throws as authenticate().
  virtual Awaitable<Caller> redeem(db::Client& database, std::string_view ticket) = 0;
  /// Whether the caller's session is alive at this moment, asked of the database itself.
  virtual Awaitable<bool> alive(db::Client& database, const Caller& caller) = 0;
};

/// Names of constraints that a request can break, and what the client hears.
using ConstraintErrors = std::map<std::string, ErrorCode, std::less<>>;

/// What the shards' pipelines share.
struct PipelineParts {
  const Router& router;
  Metrics& metrics;
  const Perimeter& perimeter;
  std::string fingerprint_key;  ///< for idempotency fingerprints
  ConstraintErrors constraint_errors;
  std::chrono::milliseconds overload_target{};  ///< see http/workload.hpp
  std::function<void()> changed;                ///< called after every commit, if set: others may have to hear of it
};

class Pipeline final : public Service {
 public:
  Pipeline(PipelineParts& parts, db::Client& database, Authenticator& authenticator, RateGate& gate);
  ~Pipeline() override;

  Awaitable<Admitted> admit(RequestHead head) override;
  Awaitable<Response> respond(std::unique_ptr<Admission> admission, std::string body) override;
  Awaitable<Response> respond_streamed(std::unique_ptr<Admission> admission, BodyReader& body) override;
  Response refuse(int status, std::string_view detail, std::string_view origin) override;
  Response turn_away() override;

  /// Both steps: for tests, which have no sessions.
  Awaitable<Response> handle(RequestHead head, std::string body);

 private:
  struct Ticket;
  class LastingRight;
  Awaitable<void> identify(Ticket& ticket);
  Awaitable<void> authorize(Ticket& ticket);
  Awaitable<Response> answer(std::unique_ptr<Admission> admission, std::string body, BodyReader* reader);
  Awaitable<void> attempt(Ticket& ticket, Call& call);
  Awaitable<void> attempt_with_key(Ticket& ticket, Call& call, std::string_view key);
  void conclude(Ticket& ticket, Response& response);
  Workload* workload_of(const Endpoint& endpoint);
  Response shed(Ticket& ticket);
  Awaitable<Response> work(Ticket& ticket, std::string body, BodyReader* reader);

  PipelineParts& parts_;
  db::Client& database_;
  Authenticator& authenticator_;
  RateGate& gate_;
  Workload reads_;
  Workload changes_;
  struct Meters;
  std::unique_ptr<Meters> meters_;
};

/// What a client hears of a database's error.
Problem to_problem(const db::Error& error, const ConstraintErrors& constraints);

/// The problem document of an error.
Response to_response(const Problem& problem, std::string_view request_id);

}  // namespace hourz::http
