// One PostgreSQL connection on Asio, in libpq's pipeline mode: requests queue, answers come in order.
//
// A request is at most one statement with what surrounds it (BEGIN, SAVEPOINT, COMMIT), closed by a sync of its own, so
// an error stays with its request. Statements are prepared on first use, in the same flush. Every request has a
// deadline; when the server answers nothing at all for that long the socket is dropped. A connection never reconnects:
// its owner (the read connections or the pool, in database.cpp) makes another. Everything runs on one io_context.
#pragma once
#include <libpq-fe.h>

#include <boost/asio/async_result.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "db/database.hpp"

namespace hourz::db {

using Clock = std::chrono::steady_clock;
using IoExecutor = boost::asio::io_context::executor_type;
using Timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, IoExecutor>;

/// What resumes a coroutine that awaits a T.
template <class T>
using Handler =
    typename boost::asio::async_result<boost::asio::use_awaitable_t<>, void(std::exception_ptr, T)>::handler_type;

/// What a shard's connections share.
struct Context {
  boost::asio::io_context& io;
  Options options;
  std::vector<std::pair<std::string, std::string>> settings;  ///< libpq's keywords and values
  Observer observer;
  std::minstd_rand random{std::random_device{}()};

  /// The wait before the attempt after `failures` failed ones: 50 ms doubling to 400 ms, less up to half of it. It
  /// stays below what a request waits for a connection, so that none is refused once the database is back.
  std::chrono::milliseconds back_off(int failures);
};

/// libpq's settings for a connection; Error `other` when the URL cannot be parsed.
std::vector<std::pair<std::string, std::string>> connection_settings(const Options& options);

/// What a SQLSTATE means to a caller.
ErrorKind error_kind(std::string_view sqlstate);

/// What a request does besides its statement.
enum Surround : unsigned {
  begin_before = 1,
  rollback_to_before = 2,
  savepoint_before = 4,
  commit_after = 8,
  rollback_after = 16,
  commits_itself = 32,  ///< a write outside a transaction: lost, it may have taken effect
  alone = 64,           ///< a statement outside a transaction, taken for a read unless its text says otherwise
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  explicit Connection(std::shared_ptr<Context> context);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Connects and makes ready within connect_timeout. Error `unavailable` or `timeout`.
  Awaitable<void> connect();

  /// Queues a request; its result is the statement's. May be called from a handler of this connection.
  Awaitable<Result> submit(std::optional<Bound> bound, unsigned surround);
  void submit(std::optional<Bound> bound, unsigned surround, Handler<Result> handler);

  /// Drops the connection: everything pending fails (outcome_unknown for what may have committed, else `kind`).
  void close(ErrorKind kind, const std::string& text);

  bool ready() const { return state_ == State::ready; }
  std::size_t depth() const { return requests_.size(); }

  /// No transaction open and nothing pending.
  bool clean() const;

  /// Called once when a connection that was ready is gone.
  std::function<void(Connection&)> on_closed;

  /// What a LISTEN of this connection brings, in the order of the commits. Must not throw; may close the connection.
  std::function<void(std::string_view payload)> on_notification;

 private:
  enum class State { connecting, ready, closed };

  struct Request {
    std::optional<Bound> bound;
    unsigned surround = 0;
    bool control_setup = false;
    int retries = 0;
    int step = 0;  ///< the command whose results come next
    int prepare_step = -1;
    int main_step = -1;
    int commit_step = -1;
    std::optional<Handler<Result>> handler;  ///< gone once the waiter was answered
    Clock::time_point sent;
    Result result;
    std::unique_ptr<Error> error;
  };
  struct Prepared {
    bool done = false;             ///< Parse was sent, and has not failed
    std::uint32_t generation = 0;  ///< part of the name: no two Parses on a connection have the same
  };

  void enqueue(Request request);
  bool send(Request& request);
  bool send_control(const char* name);
  bool send_setup();
  bool send_bound(Request& request);
  Prepared& prepared(std::size_t index);
  void unprepare(std::size_t index);
  void flush();
  void wait_readable();
  void on_readable();
  void drain();
  void take_notifications();
  void take(PGresult* raw);
  void finish_front();
  bool send_again(Request& request);
  void complete(Request& request, Clock::time_point now);
  void fail(Request& request, ErrorKind kind, const std::string& text, bool overdue);
  void arm_sweep();
  void sweep();

  std::shared_ptr<Context> context_;
  boost::asio::posix::basic_stream_descriptor<IoExecutor> socket_;
  Timer timer_;
  PGconn* raw_ = nullptr;
  State state_ = State::connecting;
  bool sweep_armed_ = false;
  bool writing_ = false;
  int empty_results_ = 0;
  Clock::time_point turn_;        ///< when the answers being taken were read
  Clock::time_point head_since_;  ///< when the first request became the first
  std::deque<Request> requests_;
  std::vector<Prepared> prepared_;
};

}  // namespace hourz::db
