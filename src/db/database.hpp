// PostgreSQL on Asio: what rooms see of the database.
//
// A `Query` couples a named statement with the C++ types of its parameters and rows. It runs on an `Executor`: either
// the shard's pipelined read connections (single statements, each its own implicit transaction, answers in order) or a
// `Transaction` on a pooled connection. Rooms take an Executor& and need not know which. Everything here belongs to one
// shard (one io_context, one thread) and must be used from it alone. Errors are thrown as db::Error.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/statement.hpp"
#include "db/wire.hpp"

namespace hourz::db {

template <class T>
using Awaitable = boost::asio::awaitable<T>;

/// Why a statement failed, as far as a caller must tell cases apart.
enum class ErrorKind {
  unavailable,      ///< no connection to be had, or lost before the statement can have had an effect
  outcome_unknown,  ///< lost or overdue while a commit was under way: it may have taken effect
  timeout,          ///< a deadline passed: the server's, the client's, or of waiting for a turn; or too many wait
  retryable,        ///< deadlock (40P01), serialization failure (40001), lock not to be had (55P03): run it again
  constraint,       ///< class 23; `constraint` names it
  out_of_space,     ///< 53100
  other,            ///< a bug of ours or of the schema
};

struct Error : std::exception {
  ErrorKind kind;
  std::string sqlstate;    ///< five characters, or empty when the server did not answer
  std::string constraint;  ///< of a constraint violation
  std::string statement;   ///< name of the statement
  std::string message;     ///< for the log, never for a client
  Error(ErrorKind k, std::string text) : kind(k), message(std::move(text)) {}
  const char* what() const noexcept override { return message.c_str(); }
};

/// A statement with its parameters encoded: what an Executor sends.
struct Bound {
  const Statement* statement;
  std::size_t index;  ///< of the statement in the process, for the per-connection list of prepared ones
  Parameters parameters;
};

class Executor {
 public:
  Executor() = default;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  virtual ~Executor() = default;

  virtual Awaitable<Result> execute(Bound bound) = 0;

  /// The same, with the promise that nothing follows in this transaction: a transaction that nobody else holds open
  /// commits in the same round trip.
  virtual Awaitable<Result> execute_last(Bound bound) { return execute(std::move(bound)); }
};

class Connection;
class Pool;

/// A transaction on a pooled connection. Nothing is acquired or sent before the first statement, with which BEGIN
/// travels. Dropped without commit() it rolls back before its connection is used again. One statement at a time: await
/// one before starting the next. After a failed statement only rollback_to_savepoint() can save the transaction.
class Transaction final : public Executor {
 public:
  explicit Transaction(std::shared_ptr<Pool> pool);
  ~Transaction() override;

  Awaitable<Result> execute(Bound bound) override;

  /// A first statement goes alone, an implicit transaction of its own; a later one goes with COMMIT behind it. Error
  /// outcome_unknown when its answer does not arrive. When it fails nothing was committed.
  Awaitable<Result> execute_last(Bound bound) override;

  /// Whether execute_last() may commit; set to false by who has something to add (an idempotency record).
  void allow_early_commit(bool allow) { early_commit_ = allow; }

  /// Nothing to do when nothing was sent or the last statement committed. Error outcome_unknown when the answer to
  /// COMMIT does not arrive, `other` when a statement had failed (and the transaction is rolled back).
  Awaitable<void> commit();

  /// What comes after can be undone alone: used to keep the outcome of a failed attempt. Neither costs a round trip:
  /// both travel with the next statement or COMMIT.
  Awaitable<void> savepoint();
  Awaitable<void> rollback_to_savepoint();

  /// Ends the transaction and lets go of its locks before it returns; a destructor only sees to it later. Never throws.
  Awaitable<void> rollback();

  bool used() const { return used_; }

 private:
  Awaitable<Result> send(std::optional<Bound> bound, unsigned suffix);
  void release() noexcept;

  std::shared_ptr<Pool> pool_;
  std::shared_ptr<Connection> connection_;
  bool early_commit_ = true;
  bool used_ = false;
  bool ended_ = false;             ///< committed, or tried to
  bool open_ = false;              ///< BEGIN was sent
  bool failed_ = false;            ///< a statement failed and was not undone yet
  bool has_savepoint_ = false;     ///< asked for, sent or not
  bool send_savepoint_ = false;    ///< goes before the next statement
  bool send_rollback_to_ = false;  ///< goes before the next statement or COMMIT
};

struct Options {
  std::string url;                ///< a libpq connection string or URI
  int pipelined_connections = 2;  ///< for reads, per shard
  int pooled_connections = 8;     ///< for transactions, per shard
  int pool_queue = 512;           ///< waiters past which an acquire fails at once
  std::chrono::milliseconds connect_timeout{2000};
  std::chrono::milliseconds pool_timeout{2000};       ///< longest wait for a pooled connection
  std::chrono::milliseconds statement_timeout{2000};  ///< the server's
  std::chrono::milliseconds answer_timeout{2500};     ///< ours, for a server that does not answer at all
};

/// One statement's fate, for metrics and logs: name, time from sending to answer, whether it failed.
using Observer = std::function<void(const Statement&, std::chrono::microseconds, bool failed)>;

/// One shard's access to the database. Read connections are made from the start and kept up; pooled ones on demand.
/// The io_context must outlive it, and runs out of work only after stop().
class Client {
 public:
  /// Throws Error `other` when the URL cannot be parsed.
  Client(boost::asio::io_context& io, Options options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  Executor& reads();
  std::unique_ptr<Transaction> begin();
  void observe(Observer observer);

  /// SELECT 1 on a read connection, within `timeout`.
  Awaitable<bool> ping(std::chrono::milliseconds timeout);

  /// Closes every connection; what is under way fails with `unavailable`. To be called on the shard.
  void stop();

  struct Gauges {
    int connections = 0;
    int in_use = 0;
    int waiting = 0;
    int pipelined_depth = 0;
  };
  Gauges gauges() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// --- typed queries ---------------------------------------------------------------------------------------------------

/// What the statement test needs to know of a query: its statement, and the types of parameters and columns.
struct QueryInfo {
  const Statement* statement;
  std::vector<std::pair<std::string, Oid>> parameters;  ///< in order $1 …; a name only where bound by name
  std::vector<std::pair<std::string, Oid>> columns;     ///< of a described row; one nameless for a scalar
  bool returns_rows;
};

/// Every query of the process; filled before main() by the queries' own constructors.
const std::vector<QueryInfo>& all_queries();
std::size_t add_query(QueryInfo info);

/// Row type of a statement that returns none.
struct Nothing {};

/// `Query<GigRow, Uuid>` takes positional parameters; `Query<GigRow, NewGig>` with a described struct binds its members
/// to the statement's parameters by name. The row is a described struct (members found by column name) or one scalar.
template <class Row, class... Ps>
class Query {
 public:
  explicit Query(const Statement& statement)
      : statement_(statement),
        index_(add_query(
            {&statement, parameter_types<Ps...>(statement), column_types<Row>(), !std::is_same_v<Row, Nothing>})) {}

  Bound bind(const Ps&... ps) const { return {&statement_, index_, encode_parameters(statement_, ps...)}; }
  const Statement& statement() const { return statement_; }

 private:
  const Statement& statement_;
  std::size_t index_;
};

/// Every row.
template <class Row, class... Ps>
Awaitable<std::vector<Row>> all(Executor& on, const Query<Row, Ps...>& query, std::type_identity_t<Ps>... ps) {
  const Result result = co_await on.execute(query.bind(ps...));
  co_return decode_rows<Row>(result);
}

/// The first row, if there is one.
template <class Row, class... Ps>
Awaitable<std::optional<Row>> maybe(Executor& on, const Query<Row, Ps...>& query, std::type_identity_t<Ps>... ps) {
  const Result result = co_await on.execute(query.bind(ps...));
  co_return decode_first<Row>(result);
}

/// As maybe(), with nothing to follow in the transaction: see Executor::execute_last().
template <class Row, class... Ps>
Awaitable<std::optional<Row>> maybe_last(Executor& on, const Query<Row, Ps...>& query, std::type_identity_t<Ps>... ps) {
  const Result result = co_await on.execute_last(query.bind(ps...));
  co_return decode_first<Row>(result);
}

/// The one row; Error `other` when there is none.
template <class Row, class... Ps>
Awaitable<Row> one(Executor& on, const Query<Row, Ps...>& query, std::type_identity_t<Ps>... ps) {
  const Result result = co_await on.execute(query.bind(ps...));
  auto row = decode_first<Row>(result);
  if (!row) throw Error(ErrorKind::other, std::string(query.statement().name) + " gave no row");
  co_return std::move(*row);
}

/// As one(), with nothing to follow in the transaction. The missing row does not undo the statement.
template <class Row, class... Ps>
Awaitable<Row> one_last(Executor& on, const Query<Row, Ps...>& query, std::type_identity_t<Ps>... ps) {
  const Result result = co_await on.execute_last(query.bind(ps...));
  auto row = decode_first<Row>(result);
  if (!row) throw Error(ErrorKind::other, std::string(query.statement().name) + " gave no row");
  co_return std::move(*row);
}

/// Rows changed by a statement that returns none.
template <class... Ps>
Awaitable<std::int64_t> run(Executor& on, const Query<Nothing, Ps...>& query, std::type_identity_t<Ps>... ps) {
  const Result result = co_await on.execute(query.bind(ps...));
  co_return result.affected();
}

/// As run(), with nothing to follow in the transaction.
template <class... Ps>
Awaitable<std::int64_t> run_last(Executor& on, const Query<Nothing, Ps...>& query, std::type_identity_t<Ps>... ps) {
  const Result result = co_await on.execute_last(query.bind(ps...));
  co_return result.affected();
}

}  // namespace hourz::db
