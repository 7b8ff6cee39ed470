#include "app/server.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <thread>
#include <vector>

#include "app/house.hpp"
#include "app/jobs.hpp"
#include "app/waiting.hpp"
#include "app/watch.hpp"
#include "core/log.hpp"
#include "core/text.hpp"
#include "http_sql.hpp"
#include "net/server.hpp"

namespace hourz::app {
namespace {

const db::Query<db::Nothing> purge_idempotency{http::sql::idempotency_purge};

/// Bites of a thousand until nothing is left to purge.
db::Awaitable<void> purge(db::Client& database) {
  std::int64_t purged = 0;
  do {
    const auto transaction = database.begin();
    purged = co_await db::run(*transaction, purge_idempotency);
    purged = std::max(purged, co_await auth::purge_sessions(*transaction));
    purged = std::max(purged, co_await realtime::purge_outbox(*transaction));
    co_await transaction->commit();
  } while (purged >= 1000);
}

struct Shard {
  Shard() : io(1), guard(io.get_executor()) {}
  boost::asio::io_context io;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard;
  std::unique_ptr<Desk> desk;
  // Copied out by the shard itself, since a scrape runs on any shard.
  std::atomic<int> connections{0}, in_use{0}, waiting{0}, depth{0};
  std::thread thread;
};

/// Stops the loop once what is queued has run, and what that queues, for so many rounds: who waited for the database
/// hears of its end while the shard's desk is still there.
void stop_after(boost::asio::io_context& io, int rounds) {
  boost::asio::post(io, [&io, rounds] {
    if (rounds == 0) {
      io.stop();
    } else {
      stop_after(io, rounds - 1);
    }
  });
}

net::Limits limits_of(const Config& config) {
  net::Limits limits;
  limits.connections = static_cast<std::size_t>(config.max_connections);
  limits.idle_timeout = std::chrono::milliseconds(config.idle_timeout_ms);
  limits.header_timeout = std::chrono::milliseconds(config.header_timeout_ms);
  limits.body_timeout = std::chrono::milliseconds(config.body_timeout_ms);
  limits.write_timeout = std::chrono::milliseconds(config.write_timeout_ms);
  limits.ping_interval = std::chrono::milliseconds(config.ping_interval_ms);
  limits.silence = limits.ping_interval * 5 / 2;
  return limits;
}

}  // namespace

struct Server::State {
  State(Config settings, const std::string& database_url) : house(std::move(settings)), url(database_url) {
    std::size_t count = static_cast<std::size_t>(house.config.threads);
    if (count == 0) count = std::max(1U, std::thread::hardware_concurrency());
    std::vector<net::Shard> listening;
    for (std::size_t i = 0; i < count; ++i) {
      auto shard = std::make_unique<Shard>();
      shard->desk =
          std::make_unique<Desk>(house, shard->io, database_options(house.config, url, static_cast<int>(count)));
      measure(*shard);
      listening.push_back({&shard->io, &shard->desk->pipeline, &shard->desk->gateway});
      shards.push_back(std::move(shard));
    }
    net = std::make_unique<net::Server>(std::move(listening), limits_of(house.config));
    jobs = std::make_unique<Jobs>(shards.front()->io, shards.front()->desk->database, house.metrics,
                                  [this] { house.node.wake(); });
    jobs->on_timer("gig.expire", gigs::expire);
    jobs->on_timer("payment.release", payments::release_due);
    jobs->every(std::chrono::seconds(1), "payments",
                [this](db::Client& database) { return payments::settle(house.payments, database); });
    watch_what_waits(*jobs, house);
    jobs->every(std::chrono::milliseconds(500), "fold_cells", gigs::fold_cells);
    jobs->every(std::chrono::minutes(1), "purge", purge);
    jobs->every(std::chrono::minutes(1), "sweep_files",
                [this](db::Client& database) { return uploads::sweep(house.uploads, database); });
    jobs->every(std::chrono::seconds(1), "remove_files",
                [this](db::Client& database) { return uploads::remove_left_over(house.uploads, database); });
    jobs->every(std::chrono::minutes(10), "collect_files",
                [this](db::Client& database) { return uploads::collect(house.uploads, database); });
    register_gauges();
    install_process_metrics(house.metrics);
    ledger = std::make_unique<LedgerWatch>(house.config, url, house.metrics);
  }

  /// Counts every statement by name; the histogram of each is found once per shard.
  void measure(Shard& shard) {
    auto known = std::make_shared<std::unordered_map<const db::Statement*, prometheus::Histogram*>>();
    shard.desk->database.observe(
        [this, known, &shard](const db::Statement& statement, std::chrono::microseconds took, bool failed) {
          auto*& histogram = (*known)[&statement];
          if (histogram == nullptr) {
            histogram = &house.metrics.latency("hourz_db_statement_duration_seconds",
                                               "Time from queueing a statement to its answer, by statement.",
                                               {{"statement", std::string(statement.name)}});
          }
          histogram->Observe(static_cast<double>(took.count()) / 1e6);
          if (failed) statement_errors->Increment();
          const auto gauges = shard.desk->database.gauges();
          shard.connections.store(gauges.connections, std::memory_order_relaxed);
          shard.in_use.store(gauges.in_use, std::memory_order_relaxed);
          shard.waiting.store(gauges.waiting, std::memory_order_relaxed);
          shard.depth.store(gauges.pipelined_depth, std::memory_order_relaxed);
        });
  }

  void register_gauges() {
    Metrics& m = house.metrics;
    statement_errors = &m.counter("hourz_db_statement_errors_total", "Statements that failed.");
    auto& connections = m.gauge("hourz_db_connections", "Open connections to the database.");
    auto& in_use = m.gauge("hourz_db_pool_in_use", "Pooled connections in a transaction.");
    auto& waiting = m.gauge("hourz_db_pool_waiting", "Transactions that wait for a connection.");
    auto& depth = m.gauge("hourz_db_pipeline_depth", "Statements under way on the read connections.");
    auto& open = m.gauge("hourz_http_connections", "Open client connections.");
    auto& accepted = m.counter("hourz_http_connections_accepted_total", "Client connections accepted.");
    auto& bad = m.counter("hourz_http_bad_requests_total", "Requests refused before routing.");
    auto& outbox = m.gauge("hourz_sockets_outbox_bytes", "Bytes that sockets have still to be sent.");
    auto& frames_in = m.counter("hourz_sockets_frames_in_total", "WebSocket frames received, of any kind.");
    auto& frames_out = m.counter("hourz_sockets_frames_out_total", "WebSocket frames sent.");
    auto& slow = m.counter("hourz_sockets_too_slow_total", "Sockets closed because their peer did not read.");
    auto& hashes = m.gauge("hourz_password_hashes_waiting", "Passwords being hashed or waiting to be.");
    auto& pictures = m.gauge("hourz_pictures_waiting", "Pictures being made anew or waiting to be.");
    auto& files = m.gauge("hourz_files_waiting", "Reads and writes of files under way or waiting.");
    auto& messages = m.counter("hourz_chat_messages_total", "Chat messages stored, those of the service aside.");
    auto& room = m.gauge("hourz_db_pool_size", "Pooled connections that may be open.");
    room.Set(static_cast<double>(
        std::max<std::int64_t>(house.config.pool_connections, static_cast<std::int64_t>(shards.size()))));
    auto& dropped = m.counter("hourz_log_lines_dropped_total", "Log lines dropped because the log was too slow.");
    m.before_scrape([this, &connections, &in_use, &waiting, &depth, &open, &accepted, &bad, &outbox, &frames_in,
                     &frames_out, &slow, &hashes, &pictures, &files, &messages, &dropped] {
      int sums[4] = {0, 0, 0, 0};
      for (const auto& shard : shards) {
        sums[0] += shard->connections;
        sums[1] += shard->in_use;
        sums[2] += shard->waiting;
        sums[3] += shard->depth;
      }
      connections.Set(sums[0]);
      in_use.Set(sums[1]);
      waiting.Set(sums[2]);
      depth.Set(sums[3]);
      const auto figures = net->figures();
      open.Set(static_cast<double>(figures.open));
      catch_up(accepted, static_cast<double>(figures.accepted));
      catch_up(bad, static_cast<double>(figures.bad_requests));
      outbox.Set(static_cast<double>(figures.outbox_bytes));
      catch_up(frames_in, static_cast<double>(figures.frames_in));
      catch_up(frames_out, static_cast<double>(figures.frames_out));
      catch_up(slow, static_cast<double>(figures.too_slow));
      pictures.Set(static_cast<double>(house.image_work.waiting()));
      files.Set(static_cast<double>(house.file_work.waiting()));
      hashes.Set(static_cast<double>(house.hasher.waiting()));
      catch_up(messages, static_cast<double>(chat::messages_stored()));
      catch_up(dropped, static_cast<double>(log::dropped()));
    });
  }

  /// On the first shard: tails the outbox and joins the other servers.
  void converse() {
    Shard& first = *shards.front();
    auto bus = house.config.redis_url.empty()
                   ? realtime::make_postgres_bus(first.io, first.desk->database,
                                                 database_options(house.config, url, static_cast<int>(shards.size())))
                   : realtime::make_redis_bus(first.io, house.config.redis_url);
    house.node.start(first.desk->database, std::move(bus));
    for (const auto& shard : shards) {
      if (!shard->desk->shared_rate) continue;
      boost::asio::post(shard->io, [shared = shard->desk->shared_rate.get()] { shared->start(); });
    }
    if (house.limiter.enabled() && house.config.redis_url.empty()) {
      log::Line(log::Level::info, "rate_limit.alone")
          .with("cause", "HOURZ_REDIS_URL is not set: each server counts for itself");
    }
  }

  House house;
  std::string url;
  std::vector<std::unique_ptr<Shard>> shards;
  std::unique_ptr<net::Server> net;
  std::unique_ptr<Jobs> jobs;
  std::unique_ptr<LedgerWatch> ledger;
  prometheus::Counter* statement_errors = nullptr;
  std::atomic<bool> drained{false};
  bool running = false;
  bool draining = false;
};

Server::Server(Config config, const std::string& database_url)
    : state_(std::make_unique<State>(std::move(config), database_url)) {}

Server::~Server() { stop(); }

void Server::start() {
  State& state = *state_;
  const auto hosts = items_of(state.house.config.public_hosts);
  state.net->allow_authorities({hosts.begin(), hosts.end()});
  state.net->listen(state.house.config.listen_address, static_cast<std::uint16_t>(state.house.config.listen_port));
  for (const auto& shard : state.shards) {
    shard->thread = std::thread([io = &shard->io] { io->run(); });
  }
  state.running = true;
}

std::uint16_t Server::port() const { return state_->net->port(); }

void Server::set_ready() {
  boost::asio::post(state_->shards.front()->io, [state = state_.get()] {
    state->jobs->start();
    state->converse();
  });
  state_->ledger->start();
  state_->house.system.ready = true;
}

void Server::drain() {
  State& state = *state_;
  if (state.draining) return;
  state.draining = true;
  state.house.system.ready = false;
  state.house.post.drain();
  boost::asio::post(state.shards.front()->io, [jobs = state.jobs.get()] { jobs->stop(); });
  state.net->drain(std::chrono::milliseconds(state.house.config.drain_timeout_ms),
                   [drained = &state.drained] { *drained = true; });
}

bool Server::drained() const { return state_->drained && state_->jobs->idle(); }

void Server::stop() {
  State& state = *state_;
  if (!state.running) return;
  state.running = false;
  state.ledger->stop();
  boost::asio::post(state.shards.front()->io, [node = &state.house.node] { node->stop(); });
  for (const auto& shard : state.shards) {
    boost::asio::post(shard->io, [desk = shard->desk.get(), io = &shard->io] {
      if (desk->shared_rate) desk->shared_rate->stop();
      desk->database.stop();
      stop_after(*io, 16);
    });
    shard->guard.reset();
  }
  for (const auto& shard : state.shards) shard->thread.join();
  state.house.node.release();
  // Their threads post to the shards.
  state.house.hasher.stop();
  state.house.image_work.stop();
  state.house.file_work.stop();
  state.house.store_check.stop();
  state.house.post.stop();
}

}  // namespace hourz::app
