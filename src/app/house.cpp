#include "app/house.hpp"

#include "app/catalogue.hpp"

#include "core/geo.hpp"
#include "http/etag.hpp"
#include "http/openapi.hpp"
#include "storage/local.hpp"

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
          {"transactions_one_live", ErrorCode::escrow_exists},
          {"transactions_transition", ErrorCode::payment_not_open},
          {"ledger_journals_one_end", ErrorCode::payment_not_open},
          {"gigs_transition", ErrorCode::invalid_transition},
          {"reviews_once", ErrorCode::already_reviewed},
          {"reports_open_once", ErrorCode::already_reported}};
}

}  // namespace

House::House(Config settings)
    : config(std::move(settings)),
      limiter(config),
      perimeter(config),
      sharing_news(metrics),
      tokens(config),
      hasher(cost_of(config), static_cast<std::size_t>(config.hash_threads),
             static_cast<std::size_t>(config.hash_queue)),
      store(storage::make_store(config)),
      file_work({.threads = 4, .queue = 512, .busy = "Too many files are being read and written just now."}),
      image_work({.threads = static_cast<std::size_t>(config.image_threads),
                  .queue = static_cast<std::size_t>(config.image_queue),
                  .busy = "Too many pictures are waiting just now; try again in a moment.",
                  .niceness = 19}),
      store_check(*store, {}),
      post(mail::make_sender(config)),
      node(metrics),
      users{config, derive_key(config, "blur"), derive_key(config, "cursor:users"), gigs::share_a_gig,
            reviews::count_ratings},
      auth{
          config, tokens, hasher, revocations, derive_key(config, "cursor:sessions"), post, derive_key(config, "mail")},
      uploads{config,
              *store,
              file_work,
              image_work,
              node,
              derive_key(config, "cursor:uploads"),
              derive_key(config, "file-links"),
              chat::is_side},
      chat{config, derive_key(config, "cursor:chat")},
      gigs{config, derive_key(config, "blur"), derive_key(config, "cursor:gigs"), 50'000},
      buddies{derive_key(config, "cursor:buddies"), gigs::completed_together},
      reviews{derive_key(config, "cursor:reviews")},
      payments{config, derive_key(config, "cursor:payments"), std::make_shared<payments::MockProvider>()},
      admin{derive_key(config, "cursor:admin"), auth},
      account{auth},
      system{metrics, {}, {}, {}, {}, {}, {}, {}, {}},
      parts{router,
            metrics,
            perimeter,
            derive_key(config, "idempotency"),
            constraint_errors(),
            std::chrono::milliseconds(config.overload_target_ms),
            [this] { node.wake(); }},
      gateway_parts(config, metrics, perimeter, node, parts.constraint_errors) {
  install_system(router, system);
  auth::install(router, auth);
  users::install(router, users);
  uploads::install(router, uploads);
  chat::install(router, chat);
  gigs::install(router, gigs);
  buddies::install(router, buddies);
  reviews::install(router, reviews);
  payments::install(router, payments);
  admin::install(router, admin);
  account::install(router, account);
  for (const auto add :
       {users::add_personal_data, auth::add_personal_data, buddies::add_personal_data, chat::add_personal_data,
        uploads::add_personal_data, gigs::add_personal_data, reviews::add_personal_data, payments::add_personal_data,
        admin::add_personal_data, http::add_personal_data}) {
    add(account.personal);
  }
  account.personal.farewells.emplace_back([this](const Uuid& user) { uploads::forget(uploads, user); });
  gigs.on_moved = [this](db::Executor& db, gigs::Move move) {
    return payments::gig_moved(db, move, config.auto_release_h);
  };
  system.openapi = openapi();
  system.openapi_etag = http::etag_of(std::nullopt, system.openapi);
  system.asyncapi = asyncapi();
  system.asyncapi_etag = http::etag_of(std::nullopt, system.asyncapi);
  system.storage_answers = [this] { return store_check.answers(); };
  system.errors_page =
      read_events([this](const realtime::EventBook& book) { return ErrorCatalogue(router, book).page(); });
  system.errors_etag = http::etag_of(std::nullopt, system.errors_page);
  realtime::install_session_end(node);
  chat::install_feed(node, chat_parts);
  alerts::install_feed(node, watches);
}

std::string House::openapi() const { return http::to_pretty_json(http::openapi_document(router)); }

template <class Read>
std::string House::read_events(const Read& read) {
  boost::asio::io_context io;
  chat::Parts nothing;
  chat::Floor floor(nothing, io, 0);
  alerts::Watches nobody(metrics);
  realtime::EventBook book;
  realtime::install_common_events(book);
  chat::install_events(book, floor);
  alerts::install_events(book, nobody);
  return read(book);
}

std::string House::asyncapi() {
  return read_events(
      [](const realtime::EventBook& book) { return http::to_pretty_json(realtime::asyncapi_document(book)); });
}

std::string House::errors() {
  return read_events([this](const realtime::EventBook& book) { return ErrorCatalogue(router, book).markdown(); });
}

Desk::Desk(House& house, boost::asio::io_context& io, const db::Options& options)
    : database(io, options),
      authenticator(house.tokens, house.revocations),
      shared_rate(house.config.redis_url.empty() || !house.limiter.enabled()
                      ? nullptr
                      : std::make_unique<http::SharedRate>(io, house.config.redis_url, house.sharing_news)),
      gate(house.limiter, shared_rate.get()),
      pipeline(house.parts, database, authenticator, gate),
      shard(house.node.attach(io, hub)),
      floor(house.chat_parts, io, shard),
      watches(house.metrics),
      gateway(house.gateway_parts, database, authenticator, gate, hub, events) {
  realtime::install_common_events(events);
  chat::install_events(events, floor);
  alerts::install_events(events, watches);
  house.watches.push_back(&watches);
}

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
