#include "net/server.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <new>
#include <system_error>

#include "net/shard.hpp"

namespace hourz::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using namespace std::chrono_literals;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr auto tick_interval = 100ms;
constexpr auto accept_pause = 100ms;
constexpr auto drain_poll = 5ms;
constexpr std::size_t flush_step = 128;
constexpr std::int64_t most_turned_away = 64;  // at once; those past it are closed without a word

/// A peer that went before it was accepted; the next one may be fine. All else (no descriptors, no memory) lasts for a
/// while, and asking again at once would only burn the processor.
bool peer_gone(const error_code& ec) {
  return ec == asio::error::connection_aborted || ec == asio::error::connection_reset ||
         ec == boost::system::errc::protocol_error || ec == asio::error::interrupted;
}

[[noreturn]] void fail(const error_code& ec, const std::string& address, std::uint16_t port) {
  throw std::system_error(static_cast<std::error_code>(ec),
                          "cannot listen on " + address + " port " + std::to_string(port));
}

}  // namespace

// ---- a connection -----------------------------------------------------------------------------------------------

void Connection::expire() {
  error_code ec;
  // A reader is woken to answer 408; a second time, or with an answer half sent, there is nothing left to say.
  const bool may_answer = phase == Phase::head || phase == Phase::body;
  if (may_answer && !expired) {
    socket.cancel(ec);
  } else {
    socket.close(ec);
  }
  expired = true;
  deadline = Clock::time_point::max();
}

void Connection::leave() {
  // Cancelled and not closed: a request that has been read this very moment, but not been looked at, is in flight.
  error_code ec;
  if (phase == Phase::idle) socket.cancel(ec);
}

// ---- a shard ----------------------------------------------------------------------------------------------------

void ShardContext::add(Connection& connection) {
  connection.index = connections_.size();
  connections_.push_back(&connection);
  if (!ticking_) start_tick();
}

void ShardContext::remove(Connection& connection) {
  connections_.back()->index = connection.index;
  connections_[connection.index] = connections_.back();
  connections_.pop_back();
  if (connection.dirty) std::ranges::replace(dirty_, &connection, nullptr);
}

void ShardContext::flush_soon(Connection& connection) {
  if (connection.dirty) return;
  connection.dirty = true;
  dirty_.push_back(&connection);
  if (dirty_.size() > 1) return;  // asked for already
  asio::post(executor, [self = shared_from_this()] { self->flush_some(); });
}

/// A part of them, so that others get their turn in a fan-out to thousands.
void ShardContext::flush_some() {
  const std::size_t end = std::min(dirty_.size(), flushed_ + flush_step);
  while (flushed_ < end) {
    Connection* const connection = dirty_[flushed_++];
    if (connection == nullptr) continue;
    connection->dirty = false;
    dirty_[flushed_ - 1] = nullptr;
    connection->flush();
  }
  if (flushed_ < dirty_.size()) {
    asio::post(executor, [self = shared_from_this()] { self->flush_some(); });
    return;
  }
  dirty_.clear();
  flushed_ = 0;
}

void ShardContext::start_tick() {
  ticking_ = true;
  tick_.expires_after(tick_interval);
  tick_.async_wait([self = shared_from_this()](const error_code& ec) {
    if (!ec) self->on_tick();
  });
}

void ShardContext::on_tick() {
  const Clock::time_point now = Clock::now();
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    if (connections_[i]->deadline <= now) connections_[i]->expire();
  }
  ticking_ = false;
  if (!connections_.empty()) start_tick();
}

void ShardContext::leave() {
  for (std::size_t i = 0; i < connections_.size(); ++i) connections_[i]->leave();
}

void ShardContext::close_all() {
  for (Connection* connection : connections_) {
    error_code ec;
    connection->socket.close(ec);
  }
}

std::string_view ShardContext::date() {
  const std::time_t now = std::time(nullptr);
  if (now != date_second_) {
    static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm t{};
    gmtime_r(&now, &t);
    char text[40];
    const int n = std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[t.tm_wday], t.tm_mday,
                                months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
    date_.assign(text, static_cast<std::size_t>(n));
    date_second_ = now;
  }
  return date_;
}

// ---- the listener -----------------------------------------------------------------------------------------------

struct Server::State {
  State(std::vector<Shard> given, Limits limits) : common(std::make_shared<Common>()), acceptor(*given.at(0).io) {
    common->limits = limits;
    for (const Shard& shard : given) shards.push_back(std::make_shared<ShardContext>(shard, common));
  }

  static asio::awaitable<void> accept(std::shared_ptr<State> self);
  static asio::awaitable<void> drain(std::shared_ptr<State> self, std::chrono::milliseconds deadline,
                                     std::function<void()> done);

  std::shared_ptr<Common> common;
  std::vector<std::shared_ptr<ShardContext>> shards;
  asio::basic_socket_acceptor<tcp, Executor> acceptor;
  std::uint16_t port = 0;
};

asio::awaitable<void> Server::State::accept(std::shared_ptr<State> self) {
  asio::steady_timer pause(self->acceptor.get_executor());
  Common& common = *self->common;
  std::size_t next = 0;
  while (self->acceptor.is_open()) {
    const std::shared_ptr<ShardContext> shard = self->shards[next++ % self->shards.size()];
    auto [ec, socket] = co_await self->acceptor.async_accept(shard->executor, as_result);
    if (!self->acceptor.is_open()) co_return;
    if (ec) {
      if (ec == asio::error::operation_aborted) co_return;
      common.accept_errors.fetch_add(1, std::memory_order_relaxed);
      if (peer_gone(ec)) continue;
      pause.expires_after(accept_pause);
      co_await pause.async_wait(as_result);
      continue;
    }
    common.accepted.fetch_add(1, std::memory_order_relaxed);
    if (common.open.load() >= static_cast<std::int64_t>(common.limits.connections)) {
      common.refused.fetch_add(1, std::memory_order_relaxed);
      if (common.turned_away.load() >= most_turned_away) continue;  // closes it
      try {
        asio::co_spawn(shard->executor, turn_away(shard, std::move(socket), Slot(self->common, &Common::turned_away)),
                       asio::detached);
      } catch (const std::bad_alloc&) {
        common.accept_errors.fetch_add(1, std::memory_order_relaxed);
      }
      continue;
    }
    try {
      asio::co_spawn(shard->executor, serve(shard, std::move(socket), Slot(self->common)), asio::detached);
    } catch (const std::bad_alloc&) {
      common.accept_errors.fetch_add(1, std::memory_order_relaxed);  // this one is closed; the next may find room
    }
  }
}

asio::awaitable<void> Server::State::drain(std::shared_ptr<State> self, std::chrono::milliseconds deadline,
                                           std::function<void()> done) {
  const Clock::time_point end = Clock::now() + deadline;
  self->common->draining = true;
  error_code ignored;
  self->acceptor.close(ignored);
  for (const auto& shard : self->shards) {
    asio::post(shard->executor, [shard] { shard->leave(); });
  }
  asio::steady_timer poll(self->acceptor.get_executor());
  while (self->common->open.load() > 0 && Clock::now() < end) {
    poll.expires_after(drain_poll);
    co_await poll.async_wait(as_result);
  }
  if (self->common->open.load() > 0) {
    for (const auto& shard : self->shards) {
      asio::post(shard->executor, [shard] { shard->close_all(); });
    }
  }
  done();
}

Server::Server(std::vector<Shard> shards, Limits limits) : state_(std::make_shared<State>(std::move(shards), limits)) {}

Server::~Server() {
  // A waiting accept holds the state until its io_context goes, perhaps after those of the other shards.
  error_code ignored;
  state_->acceptor.close(ignored);
  state_->shards.clear();
}

void Server::listen(const std::string& address, std::uint16_t port) {
  error_code ec;
  const auto ip = address == "localhost" ? asio::ip::make_address("127.0.0.1") : asio::ip::make_address(address, ec);
  if (ec) fail(ec, address, port);
  const tcp::endpoint endpoint(ip, port);
  auto& acceptor = state_->acceptor;
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.set_option(tcp::no_delay(true), ec);  // accepted sockets inherit it
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(tcp::acceptor::max_listen_connections, ec);
  if (!ec) state_->port = acceptor.local_endpoint(ec).port();
  if (ec) {
    error_code ignored;
    acceptor.close(ignored);
    fail(ec, address, port);
  }
  asio::co_spawn(acceptor.get_executor(), State::accept(state_), asio::detached);
}

std::uint16_t Server::port() const { return state_->port; }

void Server::allow_authorities(std::vector<std::string> names) { state_->common->authorities = std::move(names); }

void Server::drain(std::chrono::milliseconds deadline, std::function<void()> done) {
  asio::co_spawn(state_->acceptor.get_executor(), State::drain(state_, deadline, std::move(done)), asio::detached);
}

Server::Figures Server::figures() const {
  const Common& common = *state_->common;
  Figures figures;
  figures.accepted = common.accepted.load();
  figures.refused = common.refused.load();
  figures.accept_errors = common.accept_errors.load();
  figures.open = common.open.load();
  figures.bad_requests = common.bad_requests.load();
  for (const auto& shard : state_->shards) {
    figures.sockets += shard->sockets.get();
    figures.outbox_bytes += shard->outbox_bytes.get();
    figures.frames_in += shard->frames_in.get();
    figures.frames_out += shard->frames_out.get();
    figures.too_slow += shard->too_slow.get();
  }
  return figures;
}

}  // namespace hourz::net
