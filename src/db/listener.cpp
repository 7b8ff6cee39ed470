#include "db/listener.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>

#include "db/connection.hpp"

namespace hourz::db {

namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds short_life{1000};  ///< a connection lost sooner counts as a failed attempt

// Not in a room's file: it is the connection's own, as its BEGIN and COMMIT are.
constexpr Statement listen_statement{"db.listen", "", "LISTEN hourz_bus"};
const Query<Nothing> listen_query{listen_statement};

}  // namespace

struct Listener::State : std::enable_shared_from_this<Listener::State> {
  State(asio::io_context& io, Options options, Reports given, milliseconds period)
      : reports(std::move(given)), keep_alive(period), timer(io) {
    auto settings = connection_settings(options);
    context = std::make_shared<Context>(Context{io, std::move(options), std::move(settings), {}});
  }

  static Awaitable<void> keep_up(std::shared_ptr<State> self) {
    while (!self->stopped) {
      if (self->failures > 0) co_await self->pause(self->context->back_off(self->failures));
      if (self->stopped) break;
      const auto connection = std::make_shared<Connection>(self->context);
      self->connection = connection;
      std::string why = "the connection was lost";
      std::optional<Clock::time_point> since;
      try {
        co_await connection->connect();
        self->attach(*connection);
        while (!self->stopped && connection->ready()) {
          co_await connection->submit(listen_query.bind(), alone);
          if (!since && !self->stopped && connection->ready()) {
            since = Clock::now();
            self->listening = true;
            if (self->reports.changed) self->reports.changed(true, {});
          }
          if (!self->stopped && connection->ready()) co_await self->pause(self->keep_alive);
        }
      } catch (const Error& error) {
        why = error.message;
      }
      connection->close(ErrorKind::unavailable, why);
      self->listening = false;
      self->failures = since && Clock::now() - *since >= short_life ? 0 : self->failures + 1;
      if (!self->stopped && self->reports.changed) self->reports.changed(false, why);
    }
  }

  void attach(Connection& fresh) {
    fresh.on_closed = [weak = weak_from_this()](Connection&) {
      const auto self = weak.lock();
      if (!self) return;
      self->listening = false;
      self->timer.cancel();  // whoever waits for the next keep-alive
    };
    fresh.on_notification = [weak = weak_from_this()](std::string_view payload) {
      const auto self = weak.lock();
      if (self && !self->stopped) self->reports.heard(payload);
    };
  }

  Awaitable<void> pause(milliseconds length) {
    boost::system::error_code ec;
    timer.expires_after(length);
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }

  Reports reports;
  milliseconds keep_alive;
  Timer timer;
  std::shared_ptr<Context> context;
  std::shared_ptr<Connection> connection;
  int failures = 0;
  bool started = false;
  bool listening = false;
  bool stopped = false;
};

Listener::Listener(asio::io_context& io, Options options, Reports reports, milliseconds keep_alive)
    : state_(std::make_shared<State>(io, std::move(options), std::move(reports), keep_alive)) {}

Listener::~Listener() { stop(); }

void Listener::start() {
  if (std::exchange(state_->started, true)) return;
  asio::co_spawn(state_->context->io, State::keep_up(state_), asio::detached);
}

void Listener::stop() {
  state_->stopped = true;
  state_->listening = false;
  state_->timer.cancel();
  if (const auto connection = state_->connection) connection->close(ErrorKind::unavailable, "the listener stopped");
}

bool Listener::connected() const { return state_->listening; }

}  // namespace hourz::db
