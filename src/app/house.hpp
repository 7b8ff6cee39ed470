// The composition root: the only list of rooms. It owns what they share and gives each shard its desk (database client,
// authenticator, pipeline). Tests build the same house on a throwaway database.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "app/store_check.hpp"
#include "core/config.hpp"
#include "core/metrics.hpp"
#include "core/worker_pool.hpp"
#include "http/pipeline.hpp"
#include "realtime/gateway.hpp"
#include "rooms/account/account.hpp"
#include "rooms/admin/admin.hpp"
#include "rooms/alerts/alerts.hpp"
#include "rooms/auth/auth.hpp"
#include "rooms/buddies/buddies.hpp"
#include "rooms/chat/floor.hpp"
#include "rooms/gigs/gigs.hpp"
#include "rooms/payments/payments.hpp"
#include "rooms/reviews/reviews.hpp"
#include "rooms/uploads/uploads.hpp"
#include "rooms/users/users.hpp"
#include "storage/storage.hpp"

namespace hourz::app {

/// What the system endpoints (health, metrics, documents) need.
struct SystemDeps {
  Metrics& metrics;
  std::atomic<bool> ready{false};  ///< schema is in place, not draining
  std::string openapi;             ///< the document, made once
  std::string openapi_etag;
  std::string asyncapi;  ///< that of the sockets
  std::string asyncapi_etag;
  std::function<db::Awaitable<bool>()> storage_answers;
  std::string errors_page;  ///< HTML
  std::string errors_etag;
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
  http::Perimeter perimeter;
  http::SharingNews sharing_news;
  auth::Tokens tokens;
  auth::Hasher hasher;
  std::unique_ptr<storage::Store> store;
  WorkerPool file_work;
  WorkerPool image_work;
  StoreCheck store_check;
  auth::Revocations revocations;
  mail::Post post;
  realtime::Node node;
  users::Deps users;
  auth::Deps auth;
  uploads::Deps uploads;
  chat::Deps chat;
  gigs::Deps gigs;
  buddies::Deps buddies;
  reviews::Deps reviews;
  payments::Deps payments;
  admin::Deps admin;
  account::Deps account;
  SystemDeps system;
  http::Router router;
  http::PipelineParts parts;
  realtime::GatewayParts gateway_parts;
  chat::Parts chat_parts;
  std::vector<alerts::Watches*> watches;  ///< one a shard

  std::string openapi() const;
  std::string asyncapi();
  /// docs/errors.md
  std::string errors();

 private:
  /// Every event of the sockets, for the documents: nobody is behind them.
  template <class Read>
  std::string read_events(const Read& read);
};

/// One shard's part of the house.
struct Desk {
  Desk(House& house, boost::asio::io_context& io, const db::Options& options);
  db::Client database;
  auth::SessionAuthenticator authenticator;
  std::unique_ptr<http::SharedRate> shared_rate;  ///< null where this server counts for itself
  http::RateGate gate;
  http::Pipeline pipeline;
  realtime::Hub hub;
  const std::size_t shard;  ///< its index among the node's
  chat::Floor floor;
  alerts::Watches watches;
  realtime::EventBook events;
  realtime::SocketGateway gateway;
};

/// Options of a shard's database client, of `shards` in all.
db::Options database_options(const Config& config, const std::string& url, int shards);

}  // namespace hourz::app
