// A blocking conversation with PostgreSQL, for the work before and beside serving: making the private cluster,
// migrating, loading data. Every call has a deadline; a server that does not answer by then is given up and the
// connection dropped. Values come back as text. Requests are never served over this: that is db::Client's.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

struct pg_conn;

namespace hourz::db {

struct SessionError : std::runtime_error {
  std::string sqlstate;  ///< five characters; empty when the server did not answer
  bool lost;             ///< the connection is gone: nothing can be said of what was under way
  SessionError(const std::string& text, std::string state, bool connection_lost)
      : std::runtime_error(text), sqlstate(std::move(state)), lost(connection_lost) {}
};

class Session {
 public:
  using Row = std::vector<std::optional<std::string>>;
  using Rows = std::vector<Row>;

  /// `url` is a libpq connection string or URI. Throws SessionError with `lost` when no server is to be had.
  explicit Session(const std::string& url, std::chrono::milliseconds timeout = std::chrono::seconds(5));
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Without parameters the text may hold several statements (one implicit transaction); with them, just one. The
  /// rows are those of the last statement.
  Rows execute(const std::string& sql, const std::vector<std::string>& parameters = {},
               std::chrono::milliseconds timeout = std::chrono::seconds(30));

  /// First column of the first row; nothing when there is no row or it is null.
  std::optional<std::string> value(const std::string& sql, const std::vector<std::string>& parameters = {},
                                   std::chrono::milliseconds timeout = std::chrono::seconds(30));

  bool in_transaction() const;
  int server_version() const;  ///< 150020 for 15.20
  std::string database() const;
  std::string user() const;

 private:
  void wait(bool for_write, std::chrono::steady_clock::time_point deadline);
  struct Close {
    void operator()(pg_conn* connection) const;
  };
  std::unique_ptr<pg_conn, Close> connection_;
};

/// An advisory lock of the database, shared, had by a session of its own for as long as this lives, which may be hours.
class SharedLock {
 public:
  /// Waits up to 30 s for whoever has it alone. Throws SessionError.
  SharedLock(const std::string& url, std::int64_t key);
  /// Throws SessionError when it was lost meanwhile.
  void release();

 private:
  Session session_;
  std::string key_;
};

}  // namespace hourz::db
