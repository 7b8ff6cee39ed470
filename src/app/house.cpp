#include "app/house.hpp"

#include "core/geo.hpp"
#include "http/etag.hpp"
#include "http/openapi.hpp"

namespace hourz::app {
namespace {

auth::HashCost cost_of(const Config& config) {
  return {static_cast<std::size_t>(config.hash_memory_kib) * 1024, static_cast<unsigned long long>(config.hash_passes)};
}

/// Constraints of the schema that a request can break, and what the client hears.
std::map<std::string, ErrorCode, std::less<>> constraint_errors() {
  return {{"users_email_key", ErrorCode::email_taken},
          {"users_location_required", ErrorCode::location_required},
          {"gigs_own_gig", ErrorCode::own_gig},
          {"gigs_one_helper", ErrorCode::gig_already_taken},
          {"gig_assignments_one_active", ErrorCode::gig_already_taken},
          {"gigs_transition", ErrorCode::invalid_transition}};
}

}  // namespace

House::House(Config settings)
    : config(std::move(settings)),
      limiter(config.rate_limit == "on"),
      tokens(config),
      hasher(cost_of(config), static_cast<std::size_t>(config.hash_threads),
             static_cast<std::size_t>(config.hash_queue)),
      users{config, derive_key(config, "blur"), derive_key(config, "cursor:users"), gigs::share_a_gig},
      auth{config, tokens, hasher, revocations, limiter, derive_key(config, "cursor:sessions")},
      gigs{config, derive_key(config, "blur"), derive_key(config, "cursor:gigs"), 50'000},
      system{metrics, {}, {}, {}},
      parts{router, metrics, limiter, derive_key(config, "idempotency"), constraint_errors()} {
  install_system(router, system);
  auth::install(router, auth);
  users::install(router, users);
  gigs::install(router, gigs);
  system.openapi = openapi();
  system.openapi_etag = http::etag_of(std::nullopt, system.openapi);
}

std::string House::openapi() const { return http::to_pretty_json(http::openapi_document(router)); }

Desk::Desk(House& house, boost::asio::io_context& io, const db::Options& options)
    : database(io, options),
      authenticator(house.tokens, house.revocations),
      pipeline(house.parts, database, authenticator) {}

db::Options database_options(const Config& config, const std::string& url, int shards) {
  db::Options options;
  options.url = url;
  options.pipelined_connections = static_cast<int>(config.read_connections);
  options.pooled_connections = std::max(1, static_cast<int>(config.pool_connections) / shards);
  options.statement_timeout = std::chrono::milliseconds(config.statement_timeout_ms);
  options.answer_timeout = std::chrono::milliseconds(config.answer_timeout_ms);
  options.pool_timeout = std::chrono::milliseconds(config.pool_timeout_ms);
  return options;
}

}  // namespace hourz::app
