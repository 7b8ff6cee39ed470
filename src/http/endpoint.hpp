// An endpoint is a constant: verb, path, who may call, status, possible errors, one line of summary. Router, OpenAPI
// document, authorization test and rate limiter all read that constant; it stands beside its handler.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

#include "core/problem.hpp"
#include "http/message.hpp"

namespace hourz::http {

enum class Access { anyone, user, admin };

/// What the endpoint does to the database, and so what `Call::db()` is.
enum class Effect {
  read,    ///< single statements on the pipelined read connections
  change,  ///< one transaction, committed before the answer; idempotency keys work
};

/// Which quota of the rate limiter pays. An endpoint is of one of the first four; what an endpoint of `auth` does to an
/// email address is counted besides, a minute at a time and in the long run.
enum class RateClass { none, standard, auth, upload, email, account };
inline constexpr std::size_t rate_classes = 6;

/// The errors an endpoint may answer with, besides those that every endpoint of its kind has.
class Errors {
 public:
  constexpr Errors() = default;
  constexpr Errors(std::initializer_list<ErrorCode> codes) {
    for (const ErrorCode code : codes) codes_[count_++] = code;
  }
  constexpr std::span<const ErrorCode> all() const { return {codes_.data(), count_}; }

 private:
  std::array<ErrorCode, 10> codes_{};
  std::size_t count_ = 0;
};

struct Endpoint {
  Method method = Method::get;
  std::string_view path;  ///< `/api/gigs/{id}`; with and without a trailing slash
  std::string_view name;  ///< `gigs.read`: operationId, metric label and log field
  std::string_view summary;
  std::string_view description = {};
  Access access = Access::user;
  Effect effect = Effect::read;
  RateClass rate = RateClass::standard;
  int status = 200;  ///< of success
  Errors errors = {};
  bool etag = false;          ///< a read of a single resource: ETag and If-None-Match
  bool ranges = false;        ///< answers 206 to a Range it can give
  bool knows_caller = false;  ///< of access anyone: whoever has a good token is known; a bad one is as none
  bool if_match = false;      ///< a change that honours If-Match
  bool idempotent = true;     ///< of a POST that changes: false where the answer holds secrets that must not be stored
  std::string_view media_type = "application/json";  ///< of a successful answer
  std::uint64_t body_limit = 65536;
};

/// Whether Idempotency-Key works on it.
constexpr bool takes_idempotency_key(const Endpoint& endpoint) {
  return endpoint.idempotent && endpoint.effect == Effect::change && endpoint.method == Method::post;
}

/// The room's name: `gigs` of `gigs.read`.
constexpr std::string_view room_of(const Endpoint& endpoint) {
  return endpoint.name.substr(0, endpoint.name.find('.'));
}

std::string_view to_text(Method method);

}  // namespace hourz::http
