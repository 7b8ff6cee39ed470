#include "db/database.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <deque>

#include "db/connection.hpp"

namespace hourz::db {

namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t depth_limit = 1024;        ///< statements under way on one read connection
constexpr milliseconds no_connection_wait{500};  ///< longest wait while no connection is up
constexpr milliseconds sweep_period{25};         ///< how often waiters are looked at, while there are any
constexpr milliseconds short_life{1000};         ///< a connection lost sooner counts as a failed attempt

template <class T>
void answer_later(asio::io_context& io, Handler<T> handler, std::exception_ptr failure, T value) {
  asio::post(io, [handler = std::move(handler), failure = std::move(failure), value = std::move(value)]() mutable {
    std::move(handler)(std::move(failure), std::move(value));
  });
}

template <class T>
void fail_later(asio::io_context& io, Handler<T> handler, ErrorKind kind, const std::string& text) {
  answer_later<T>(io, std::move(handler), std::make_exception_ptr(Error(kind, text)), T());
}

}  // namespace

// --- read connections ------------------------------------------------------------------------------------------------

/// The pipelined connections: many coroutines share each, and each is kept up.
class Reads final : public Executor, public std::enable_shared_from_this<Reads> {
 public:
  explicit Reads(std::shared_ptr<Context> context) : context_(std::move(context)), sweep_timer_(context_->io) {
    for (int i = 0; i < std::max(1, context_->options.pipelined_connections); ++i) {
      slots_.push_back(std::make_unique<Slot>(context_->io));
    }
  }

  void start() {
    for (std::size_t i = 0; i < slots_.size(); ++i) reconnect(i);
  }

  Awaitable<Result> execute(Bound bound) override {
    return asio::async_initiate<const asio::use_awaitable_t<>&, void(std::exception_ptr, Result)>(
        [this](Handler<Result> handler, Bound moved) { submit(std::move(moved), std::move(handler)); },
        asio::use_awaitable, std::move(bound));
  }

  void stop() {
    stopped_ = true;
    sweep_timer_.cancel();
    for (const auto& slot : slots_) {
      slot->timer.cancel();
      if (const auto connection = slot->connection)
        connection->close(ErrorKind::unavailable, "the database client stopped");
    }
    fail_pending(Clock::time_point::max(), "the database client stopped");
  }

  void count(Client::Gauges& gauges) const {
    for (const auto& slot : slots_) {
      if (!slot->ready()) continue;
      ++gauges.connections;
      gauges.pipelined_depth += static_cast<int>(slot->connection->depth());
    }
    gauges.waiting += static_cast<int>(pending_.size());
  }

 private:
  struct Slot {
    explicit Slot(asio::io_context& io) : timer(io) {}
    bool ready() const { return up && connection->ready(); }
    std::shared_ptr<Connection> connection;
    bool up = false;  ///< connected, with its statements of control prepared
    int failures = 0;
    Clock::time_point up_since;
    Timer timer;
  };
  struct Pending {
    Bound bound;
    Handler<Result> handler;
    Clock::time_point since;
  };

  void submit(Bound bound, Handler<Result> handler) {
    Connection* best = nullptr;
    for (const auto& slot : slots_) {
      if (slot->ready() && (best == nullptr || slot->connection->depth() < best->depth()))
        best = slot->connection.get();
    }
    if (best != nullptr && best->depth() < depth_limit) {
      best->submit(std::move(bound), alone, std::move(handler));
    } else if (stopped_ || best != nullptr || pending_.size() >= depth_limit) {
      fail_later<Result>(context_->io, std::move(handler), stopped_ ? ErrorKind::unavailable : ErrorKind::timeout,
                         stopped_ ? "the database client stopped" : "too many statements are waiting");
    } else {
      pending_.push_back({std::move(bound), std::move(handler), Clock::now()});
      sweep_later();
    }
  }

  void sweep_later() {
    if (sweeping_ || stopped_ || pending_.empty()) return;
    sweeping_ = true;
    sweep_timer_.expires_after(sweep_period);
    sweep_timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
      const auto self = weak.lock();
      if (!self) return;
      self->sweeping_ = false;
      if (ec) return;
      self->fail_pending(Clock::now() - no_connection_wait, "no connection to the database: " + self->last_error_);
      self->sweep_later();
    });
  }

  void fail_pending(Clock::time_point since, const std::string& why) {
    while (!pending_.empty() && pending_.front().since <= since) {
      Pending first = std::move(pending_.front());
      pending_.pop_front();
      fail_later<Result>(context_->io, std::move(first.handler), ErrorKind::unavailable, why);
    }
  }

  void reconnect(std::size_t index) {
    if (!stopped_) asio::co_spawn(context_->io, keep_up(shared_from_this(), index), asio::detached);
  }

  /// Tries until the slot's connection is up.
  static Awaitable<void> keep_up(std::shared_ptr<Reads> self, std::size_t index) {
    Slot& slot = *self->slots_[index];
    while (!self->stopped_) {
      if (slot.failures > 0) {
        boost::system::error_code ec;
        slot.timer.expires_after(self->context_->back_off(slot.failures));
        co_await slot.timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
        if (self->stopped_) break;
      }
      slot.connection = std::make_shared<Connection>(self->context_);
      const auto connection = slot.connection;
      try {
        co_await connection->connect();
      } catch (const Error& error) {
        self->last_error_ = error.message;
        connection->close(ErrorKind::unavailable, error.message);
        ++slot.failures;
        continue;
      }
      slot.up = true;
      slot.up_since = Clock::now();
      connection->on_closed = [weak = self->weak_from_this(), index](Connection&) {
        if (const auto reads = weak.lock()) reads->on_lost(index);
      };
      self->send_pending();
      co_return;
    }
  }

  void on_lost(std::size_t index) {
    Slot& slot = *slots_[index];
    slot.up = false;
    slot.failures = Clock::now() - slot.up_since < short_life ? slot.failures + 1 : 0;
    reconnect(index);
  }

  void send_pending() {
    auto pending = std::move(pending_);
    pending_.clear();
    for (Pending& one : pending) submit(std::move(one.bound), std::move(one.handler));
  }

  std::shared_ptr<Context> context_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::deque<Pending> pending_;
  Timer sweep_timer_;
  bool sweeping_ = false;
  bool stopped_ = false;
  std::string last_error_ = "still connecting";
};

// --- the pool --------------------------------------------------------------------------------------------------------

/// The connections for transactions, made on demand up to a limit and handed out first come, first served.
class Pool : public std::enable_shared_from_this<Pool> {
 public:
  explicit Pool(std::shared_ptr<Context> context) : context_(std::move(context)), sweep_timer_(context_->io) {}

  /// Waits for a connection: Error `timeout` after pool_timeout or when the queue is full, `unavailable` when there is
  /// none to wait for or the pool stopped.
  Awaitable<std::shared_ptr<Connection>> acquire() {
    return asio::async_initiate<const asio::use_awaitable_t<>&, void(std::exception_ptr, std::shared_ptr<Connection>)>(
        [this](Handler<std::shared_ptr<Connection>> handler) { wait(std::move(handler)); }, asio::use_awaitable);
  }

  /// An idle connection, when one is there and nobody waits.
  std::shared_ptr<Connection> try_acquire() {
    if (!waiters_.empty() || idle_.empty()) return nullptr;
    auto connection = std::move(idle_.back());
    idle_.pop_back();
    ++in_use_;
    return connection;
  }

  /// Takes a connection back in whatever state.
  void release(std::shared_ptr<Connection> connection) {
    if (!stopped_ && connection->ready() && !connection->clean()) {
      asio::co_spawn(context_->io, clean_up(shared_from_this(), std::move(connection)), asio::detached);
      return;
    }
    --in_use_;
    if (connection->ready()) offer(std::move(connection));
    connect_more();
  }

  void stop() {
    stopped_ = true;
    sweep_timer_.cancel();
    back_off_timer_.cancel();
    for (const auto& weak : std::exchange(all_, {})) {
      if (const auto connection = weak.lock()) connection->close(ErrorKind::unavailable, "the database client stopped");
    }
    idle_.clear();
    auto waiters = std::exchange(waiters_, {});
    for (Waiter& waiter : waiters)
      fail(std::move(waiter.handler), ErrorKind::unavailable, "the database client stopped");
  }

  void count(Client::Gauges& gauges) const {
    gauges.connections += live_;
    gauges.in_use += in_use_;
    gauges.waiting += static_cast<int>(waiters_.size());
  }

 private:
  struct Waiter {
    Handler<std::shared_ptr<Connection>> handler;
    Clock::time_point since;
  };

  void fail(Handler<std::shared_ptr<Connection>> handler, ErrorKind kind, const std::string& text) {
    fail_later<std::shared_ptr<Connection>>(context_->io, std::move(handler), kind, text);
  }

  void wait(Handler<std::shared_ptr<Connection>> handler) {
    if (stopped_) {
      fail(std::move(handler), ErrorKind::unavailable, "the database client stopped");
    } else if (waiters_.size() >= static_cast<std::size_t>(std::max(1, context_->options.pool_queue))) {
      fail(std::move(handler), ErrorKind::timeout, "too many transactions are waiting for a connection");
    } else {
      waiters_.push_back({std::move(handler), Clock::now()});
      connect_more();
      sweep_later();
    }
  }

  void offer(std::shared_ptr<Connection> connection) {
    if (stopped_) {
      connection->close(ErrorKind::unavailable, "the database client stopped");
    } else if (waiters_.empty()) {
      idle_.push_back(std::move(connection));
    } else {
      Waiter first = std::move(waiters_.front());
      waiters_.pop_front();
      ++in_use_;
      answer_later<std::shared_ptr<Connection>>(context_->io, std::move(first.handler), {}, std::move(connection));
    }
  }

  /// One attempt under way for each waiter, or only one while attempts fail.
  void connect_more() {
    while (!stopped_ && live_ + connecting_ < std::max(1, context_->options.pooled_connections) &&
           static_cast<std::size_t>(connecting_) < waiters_.size() && (failures_ == 0 || connecting_ == 0)) {
      ++connecting_;
      asio::co_spawn(context_->io, connect(shared_from_this()), asio::detached);
    }
  }

  static Awaitable<void> connect(std::shared_ptr<Pool> self) {
    if (self->failures_ > 0) {
      boost::system::error_code ec;
      self->back_off_timer_.expires_after(self->context_->back_off(self->failures_));
      co_await self->back_off_timer_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    }
    const auto connection = std::make_shared<Connection>(self->context_);
    bool up = false;
    if (!self->stopped_) {
      self->all_.push_back(connection);
      try {
        co_await connection->connect();
        up = !self->stopped_;
      } catch (const Error& error) {
        self->last_error_ = error.message;
      }
    }
    --self->connecting_;
    if (up) {
      self->failures_ = 0;
      ++self->live_;
      connection->on_closed = [weak = self->weak_from_this()](Connection& lost) {
        if (const auto pool = weak.lock()) pool->on_lost(lost);
      };
      self->offer(connection);
    } else {
      ++self->failures_;
      connection->close(ErrorKind::unavailable, "no connection to the database");
      self->forget(*connection);
    }
    self->connect_more();
  }

  /// Rolls back what a dropped transaction left open; a connection that cannot be cleaned is closed.
  static Awaitable<void> clean_up(std::shared_ptr<Pool> self, std::shared_ptr<Connection> connection) {
    try {
      co_await connection->submit(std::nullopt, rollback_after);
    } catch (const Error&) {
    }
    --self->in_use_;
    if (connection->clean()) {
      self->offer(connection);
    } else {
      connection->close(ErrorKind::unavailable, "a transaction could not be rolled back");
    }
    self->connect_more();
  }

  void on_lost(Connection& lost) {
    --live_;
    std::erase_if(idle_, [&lost](const auto& idle) { return idle.get() == &lost; });
    forget(lost);
    connect_more();
  }

  void forget(const Connection& gone) {
    std::erase_if(all_, [&gone](const auto& weak) {
      const auto connection = weak.lock();
      return !connection || connection.get() == &gone;
    });
  }

  void sweep_later() {
    if (sweeping_ || stopped_ || waiters_.empty()) return;
    sweeping_ = true;
    sweep_timer_.expires_after(sweep_period);
    sweep_timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
      const auto self = weak.lock();
      if (!self) return;
      self->sweeping_ = false;
      if (ec) return;
      self->sweep();
      self->sweep_later();
    });
  }

  void sweep() {
    const auto now = Clock::now();
    while (!waiters_.empty()) {
      const auto waited = now - waiters_.front().since;
      const bool overdue = waited >= context_->options.pool_timeout;
      if (!overdue && !(live_ == 0 && waited >= no_connection_wait)) return;
      Waiter first = std::move(waiters_.front());
      waiters_.pop_front();
      if (overdue) {
        fail(std::move(first.handler), ErrorKind::timeout, "no connection of the pool came free in time");
      } else {
        fail(std::move(first.handler), ErrorKind::unavailable, "no connection to the database: " + last_error_);
      }
    }
  }

  std::shared_ptr<Context> context_;
  std::vector<std::weak_ptr<Connection>> all_;
  std::vector<std::shared_ptr<Connection>> idle_;
  std::deque<Waiter> waiters_;
  Timer sweep_timer_;
  Timer back_off_timer_{context_->io};
  int live_ = 0;  ///< connected, idle or in use
  int connecting_ = 0;
  int in_use_ = 0;
  int failures_ = 0;  ///< attempts failed since the last that worked
  bool sweeping_ = false;
  bool stopped_ = false;
  std::string last_error_ = "still connecting";
};

// --- transactions ----------------------------------------------------------------------------------------------------

Transaction::Transaction(std::shared_ptr<Pool> pool) : pool_(std::move(pool)) {}

Transaction::~Transaction() { release(); }

void Transaction::release() noexcept {
  open_ = false;
  if (connection_) pool_->release(std::move(connection_));
  connection_.reset();
}

/// Sends a statement, or none, with what is due before it.
Awaitable<Result> Transaction::send(std::optional<Bound> bound, unsigned suffix) {
  if (ended_) throw Error(ErrorKind::other, "the transaction has ended");
  used_ = true;
  if (!connection_) connection_ = pool_->try_acquire();
  if (!connection_) connection_ = co_await pool_->acquire();
  unsigned surround = suffix;
  if (!open_ && suffix != commits_itself) surround |= begin_before;
  if (send_rollback_to_) surround |= rollback_to_before;
  if (send_savepoint_ && bound) surround |= savepoint_before;
  open_ = suffix != commits_itself;
  send_savepoint_ = send_savepoint_ && !bound;
  send_rollback_to_ = false;
  failed_ = true;  // until the answer says otherwise, also for a destructor that comes before it
  try {
    Result result = co_await connection_->submit(std::move(bound), surround);
    failed_ = false;
    if ((suffix & (commit_after | commits_itself)) != 0) {
      ended_ = true;
      release();
    }
    co_return result;
  } catch (const Error& error) {
    if (error.kind == ErrorKind::outcome_unknown) {
      ended_ = true;  // whatever came next here could double what may have happened
      release();
    } else if (suffix == commits_itself) {
      failed_ = false;  // nothing was begun, and nothing is left of it
      release();
    } else if (connection_->clean()) {  // COMMIT itself failed, by a deferred constraint
      ended_ = true;
      release();
    }
    throw;
  }
}

Awaitable<Result> Transaction::execute(Bound bound) { return send(std::move(bound), 0); }

Awaitable<Result> Transaction::execute_last(Bound bound) {
  unsigned suffix = 0;
  if (early_commit_) suffix = open_ || send_savepoint_ ? unsigned{commit_after} : unsigned{commits_itself};
  return send(std::move(bound), suffix);
}

Awaitable<void> Transaction::commit() {
  if (failed_) {
    ended_ = true;
    release();
    throw Error(ErrorKind::other, "COMMIT of a transaction that had failed");
  }
  if (!open_) {
    release();
    co_return;
  }
  co_await send(std::nullopt, commit_after);
}

Awaitable<void> Transaction::rollback() {
  ended_ = true;
  if (!connection_) co_return;
  if (open_ && connection_->ready() && !connection_->clean()) {
    try {
      co_await connection_->submit(std::nullopt, rollback_after);
    } catch (const Error&) {
      // Then the connection is lost, and the server has rolled back.
    }
  }
  release();
}

Awaitable<void> Transaction::savepoint() {
  if (ended_) throw Error(ErrorKind::other, "the transaction has ended");
  send_savepoint_ = has_savepoint_ = true;
  co_return;
}

Awaitable<void> Transaction::rollback_to_savepoint() {
  if (!has_savepoint_) throw Error(ErrorKind::other, "there is no savepoint");
  if (send_savepoint_) co_return;  // nothing was sent since
  if (!open_ || !connection_ || !connection_->ready()) {
    throw Error(ErrorKind::unavailable, "the transaction was lost with its connection");
  }
  send_rollback_to_ = true;
  failed_ = false;
}

// --- the client ------------------------------------------------------------------------------------------------------

namespace {

constexpr Statement ping_statement{"db.ping", "", "SELECT 1::int4"};
const Query<std::int32_t> ping_query{ping_statement};

struct Ping {
  explicit Ping(asio::io_context& io) : timer(io) {}
  Timer timer;
  bool ok = false;
};

Awaitable<void> ping_once(std::shared_ptr<Reads> reads, std::shared_ptr<Ping> ping) {
  try {
    ping->ok = co_await one<std::int32_t>(*reads, ping_query) == 1;
  } catch (const Error&) {
  }
  ping->timer.cancel();
}

Awaitable<bool> ping_within(std::shared_ptr<Reads> reads, asio::io_context& io, milliseconds timeout) {
  const auto ping = std::make_shared<Ping>(io);
  ping->timer.expires_after(timeout);
  asio::co_spawn(io, ping_once(std::move(reads), ping), asio::detached);
  boost::system::error_code ec;
  co_await ping->timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  co_return ping->ok;
}

std::vector<QueryInfo>& queries() {
  static std::vector<QueryInfo> list;
  return list;
}

}  // namespace

struct Client::State {
  std::shared_ptr<Context> context;
  std::shared_ptr<Reads> reads;
  std::shared_ptr<Pool> pool;
};

Client::Client(asio::io_context& io, Options options) {
  auto settings = connection_settings(options);
  const auto context = std::make_shared<Context>(Context{io, std::move(options), std::move(settings), {}});
  state_ = std::make_shared<State>(State{context, std::make_shared<Reads>(context), std::make_shared<Pool>(context)});
  state_->reads->start();
}

Client::~Client() { stop(); }

Executor& Client::reads() { return *state_->reads; }

std::unique_ptr<Transaction> Client::begin() { return std::make_unique<Transaction>(state_->pool); }

void Client::observe(Observer observer) { state_->context->observer = std::move(observer); }

Awaitable<bool> Client::ping(milliseconds timeout) { return ping_within(state_->reads, state_->context->io, timeout); }

void Client::stop() {
  state_->reads->stop();
  state_->pool->stop();
}

Client::Gauges Client::gauges() const {
  Gauges gauges;
  state_->reads->count(gauges);
  state_->pool->count(gauges);
  return gauges;
}

// --- the registry ----------------------------------------------------------------------------------------------------

const std::vector<QueryInfo>& all_queries() { return queries(); }

std::size_t add_query(QueryInfo info) {
  queries().push_back(std::move(info));
  return queries().size() - 1;
}

std::vector<std::size_t> parameter_order(const Statement& statement, std::span<const std::string_view> members) {
  const auto trimmed = [](std::string_view text) {
    const auto first = text.find_first_not_of(' ');
    if (first == std::string_view::npos) return std::string_view();
    return text.substr(first, text.find_last_not_of(' ') - first + 1);
  };
  const auto refuse = [&statement](const std::string& why) {
    return WireError(std::string(statement.name) + ": " + why);
  };
  std::vector<std::size_t> order;
  for (std::string_view rest = statement.parameters; !trimmed(rest).empty();) {
    const auto comma = rest.find(',');
    const std::string_view name = trimmed(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    const auto found = std::find(members.begin(), members.end(), name);
    if (found == members.end()) throw refuse("no member for parameter " + std::string(name));
    order.push_back(static_cast<std::size_t>(found - members.begin()));
  }
  return order;
}

}  // namespace hourz::db
