// The composition root: the only list of rooms. It owns what they share and gives each shard its desk (database client,
// authenticator, pipeline). Tests build the same house on a throwaway database.
#pragma once
#include <atomic>
#include <memory>
#include <string>

#include "core/config.hpp"
#include "core/metrics.hpp"
#include "http/pipeline.hpp"
#include "rooms/auth/auth.hpp"
#include "rooms/gigs/gigs.hpp"
#include "rooms/users/users.hpp"

namespace hourz::app {

/// What the system endpoints (health, metrics, documents) need.
struct SystemDeps {
  Metrics& metrics;
  std::atomic<bool> ready{false};  ///< schema is in place, not draining
  std::string openapi;             ///< the document, made once
  std::string openapi_etag;
};

void install_system(http::Router& router, SystemDeps& deps);

class House {
 public:
  /// `config` must have its secret.
  explicit House(Config config);
  House(const House&) = delete;
  House& operator=(const House&) = delete;

  Config config;
  Metrics metrics;
  http::RateLimiter limiter;
  auth::Tokens tokens;
  auth::Hasher hasher;
  auth::Revocations revocations;
  users::Deps users;
  auth::Deps auth;
  gigs::Deps gigs;
  SystemDeps system;
  http::Router router;
  http::PipelineParts parts;

  std::string openapi() const;
};

/// One shard's part of the house.
struct Desk {
  Desk(House& house, boost::asio::io_context& io, const db::Options& options);
  db::Client database;
  auth::SessionAuthenticator authenticator;
  http::Pipeline pipeline;
};

/// Options of a shard's database client, of `shards` in all.
db::Options database_options(const Config& config, const std::string& url, int shards);

}  // namespace hourz::app
