// What the listener and the sessions of one shard share; inside src/net only. A shard's list, clock and sockets are
// touched by its own thread alone, so nothing here is locked; what all shards share (Common) is constant or atomic.
// Deadlines cost no timer of their own: each connection has one point in time, and a tick per shard tells it when that
// is past, a tenth of a second late at most. HTTP connections and WebSockets are both connections here.
#pragma once
#include <array>
#include <atomic>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "net/server.hpp"
#include "realtime/socket.hpp"

namespace hourz::net {

using Clock = std::chrono::steady_clock;
using Executor = boost::asio::io_context::executor_type;
using Stream = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Executor>;

/// What all shards share. Outlives every session; holds nothing that belongs to an io_context.
struct Common {
  Limits limits;
  std::vector<std::string> authorities;  ///< constant once listening
  std::atomic<bool> draining = false;
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> refused = 0;
  std::atomic<std::uint64_t> accept_errors = 0;
  std::atomic<std::uint64_t> bad_requests = 0;
  std::atomic<std::int64_t> open = 0;
  std::atomic<std::int64_t> turned_away = 0;  ///< being told that there is no room
};

/// One counted connection, from accept until after its socket is closed: among those that are open, or among those that
/// are being told that there is no room.
class Slot {
 public:
  using Counter = std::atomic<std::int64_t> Common::*;
  explicit Slot(std::shared_ptr<Common> common, Counter counter = &Common::open)
      : common_(std::move(common)), counter_(counter) {
    ((*common_).*counter_).fetch_add(1);
  }
  Slot(Slot&&) = default;
  Slot& operator=(Slot&&) = delete;
  ~Slot() {
    if (common_) ((*common_).*counter_).fetch_sub(1);
  }

 private:
  std::shared_ptr<Common> common_;
  Counter counter_;
};

enum class Phase { idle, head, body, serving, writing, closing };

/// What the tick and a drain see of a session. None of the virtual functions ends the object within the call.
struct Connection {
  Connection(Stream&& stream, Slot&& counted) : slot(std::move(counted)), socket(std::move(stream)) {}
  virtual ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// The deadline is past.
  virtual void expire();
  /// The server begins to drain.
  virtual void leave();
  /// Asked for with ShardContext::flush_soon().
  virtual void flush() {}

  void arm(Phase next, std::chrono::milliseconds limit) {
    phase = next;
    deadline = Clock::now() + limit;
  }
  /// While the service works, its own deadlines hold.
  void disarm() {
    phase = Phase::serving;
    deadline = Clock::time_point::max();
  }

  Slot slot;  // before the socket: counted until that is closed
  Stream socket;
  Phase phase = Phase::idle;
  Clock::time_point deadline = Clock::time_point::max();
  bool expired = false;   ///< set by the tick; what was waited for has been cancelled
  std::size_t index = 0;  ///< in ShardContext::connections
  bool dirty = false;     ///< in ShardContext::dirty
};

/// A figure that one thread writes and any thread reads.
template <class T>
class Figure {
 public:
  void add(T step) { value_.store(value_.load(std::memory_order_relaxed) + step, std::memory_order_relaxed); }
  T get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<T> value_ = 0;
};

/// One shard's side of the server.
class ShardContext : public std::enable_shared_from_this<ShardContext> {
 public:
  ShardContext(Shard shard, std::shared_ptr<Common> shared)
      : service(shard.service),
        gateway(shard.gateway),
        common(std::move(shared)),
        executor(shard.io->get_executor()),
        tick_(*shard.io) {}

  void add(Connection& connection);
  void remove(Connection& connection);

  /// Closes connections on which no request has begun, and tells open WebSockets to go.
  void leave();
  /// Closes all of them, whatever they are doing.
  void close_all();

  /// The Date field's value, as of this second.
  std::string_view date();

  /// Flushes the connection once this turn of the io_context has been run: what was queued meanwhile travels together.
  void flush_soon(Connection& connection);

  /// For reading into, and to be emptied before anything is awaited: a connection that waits keeps no buffer.
  std::span<char> read_buffer() { return read_buffer_; }

  Figure<std::int64_t> sockets;
  Figure<std::int64_t> outbox_bytes;
  Figure<std::uint64_t> frames_in;
  Figure<std::uint64_t> frames_out;
  Figure<std::uint64_t> too_slow;

  http::Service* const service;
  realtime::Gateway* const gateway;  ///< may be null: then there are no WebSockets
  const std::shared_ptr<Common> common;
  const Executor executor;

 private:
  void start_tick();
  void on_tick();
  void flush_some();

  std::vector<Connection*> connections_;
  std::vector<Connection*> dirty_;  ///< null: gone since
  std::size_t flushed_ = 0;         ///< of dirty_, in the round under way
  std::array<char, 16 * 1024> read_buffer_;
  boost::asio::steady_timer tick_;
  bool ticking_ = false;
  std::time_t date_second_ = -1;
  std::string date_;
};

/// Serves one connection to its end. Never throws.
boost::asio::awaitable<void> serve(std::shared_ptr<ShardContext> shard, Stream socket, Slot slot);

/// Tells one connection too many so, and ends it. Never throws.
boost::asio::awaitable<void> turn_away(std::shared_ptr<ShardContext> shard, Stream socket, Slot slot);

/// Serves a WebSocket, whose 101 has been sent, to its end. `left_over` is what came behind the handshake.
void open_socket(std::shared_ptr<ShardContext> shard, Stream socket, Slot slot,
                 std::unique_ptr<realtime::Session> session, std::string left_over);

}  // namespace hourz::net
