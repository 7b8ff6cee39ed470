#include "db/session.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <cerrno>

namespace hourz::db {
namespace {

using Clock = std::chrono::steady_clock;

/// libpq's messages, on one line.
std::string one_line(const char* text) {
  std::string line = text == nullptr ? "" : text;
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  for (char& c : line) {
    if (c == '\n' || c == '\t') c = ' ';
  }
  return line;
}

int milliseconds_left(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(left);
}

struct ClearResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPointer = std::unique_ptr<PGresult, ClearResult>;

SessionError error_of(const PGresult* result, bool lost) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  return SessionError(one_line(PQresultErrorMessage(result)), state == nullptr ? "" : state, lost);
}

}  // namespace

void Session::Close::operator()(pg_conn* connection) const { PQfinish(connection); }

Session::Session(const std::string& url, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  const char* keywords[] = {"dbname", "fallback_application_name", nullptr};
  const char* values[] = {url.c_str(), "hourz", nullptr};
  connection_.reset(PQconnectStartParams(keywords, values, 1));
  if (!connection_ || PQstatus(connection_.get()) == CONNECTION_BAD) {
    throw SessionError(connection_ ? one_line(PQerrorMessage(connection_.get())) : "out of memory", "", true);
  }
  for (PostgresPollingStatusType next = PGRES_POLLING_WRITING; next != PGRES_POLLING_OK;) {
    // libpq may have changed its socket: wait() asks for it each time.
    wait(next == PGRES_POLLING_WRITING, deadline);
    next = PQconnectPoll(connection_.get());
    if (next == PGRES_POLLING_FAILED) throw SessionError(one_line(PQerrorMessage(connection_.get())), "", true);
  }
  PQsetnonblocking(connection_.get(), 1);
  PQsetNoticeProcessor(
      connection_.get(), [](void*, const char*) {}, nullptr);
}

Session::~Session() = default;

void Session::wait(bool for_write, Clock::time_point deadline) {
  for (;;) {
    pollfd descriptor{PQsocket(connection_.get()), static_cast<short>(for_write ? POLLIN | POLLOUT : POLLIN), 0};
    const int ready = poll(&descriptor, 1, milliseconds_left(deadline));
    if (ready > 0) return;
    if (ready < 0 && errno == EINTR) continue;
    connection_.reset();
    throw SessionError("the database server does not answer", "", true);
  }
}

Session::Rows Session::execute(const std::string& sql, const std::vector<std::string>& parameters,
                               std::chrono::milliseconds timeout) {
  if (!connection_) throw SessionError("the connection to the database was lost", "", true);
  const auto deadline = Clock::now() + timeout;
  PGconn* connection = connection_.get();
  std::vector<const char*> values;
  for (const std::string& parameter : parameters) values.push_back(parameter.c_str());
  const int sent = parameters.empty() ? PQsendQuery(connection, sql.c_str())
                                      : PQsendQueryParams(connection, sql.c_str(), static_cast<int>(values.size()),
                                                          nullptr, values.data(), nullptr, nullptr, 0);
  if (sent == 0) throw SessionError(one_line(PQerrorMessage(connection)), "", true);
  for (int left = PQflush(connection); left != 0; left = PQflush(connection)) {
    if (left < 0) throw SessionError(one_line(PQerrorMessage(connection)), "", true);
    wait(true, deadline);
    PQconsumeInput(connection);
  }
  Rows rows;
  std::optional<SessionError> failure;
  for (;;) {
    while (PQisBusy(connection) != 0) {
      wait(false, deadline);
      if (PQconsumeInput(connection) == 0) throw SessionError(one_line(PQerrorMessage(connection)), "", true);
    }
    const ResultPointer result(PQgetResult(connection));
    if (!result) break;
    switch (PQresultStatus(result.get())) {
      case PGRES_TUPLES_OK:
        rows.clear();
        for (int row = 0; row < PQntuples(result.get()); ++row) {
          Row& values_of = rows.emplace_back();
          for (int column = 0; column < PQnfields(result.get()); ++column) {
            if (PQgetisnull(result.get(), row, column) != 0) {
              values_of.emplace_back();
            } else {
              values_of.emplace_back(std::in_place, PQgetvalue(result.get(), row, column),
                                     static_cast<std::size_t>(PQgetlength(result.get(), row, column)));
            }
          }
        }
        break;
      case PGRES_COMMAND_OK:
      case PGRES_EMPTY_QUERY:
        rows.clear();
        break;
      default:
        if (!failure) failure = error_of(result.get(), PQstatus(connection) == CONNECTION_BAD);
        if (PQresultStatus(result.get()) != PGRES_FATAL_ERROR) {
          connection_.reset();  // a COPY, which nobody here answers
          throw *failure;
        }
    }
  }
  if (failure) {
    failure->lost = PQstatus(connection) == CONNECTION_BAD;
    throw *failure;
  }
  return rows;
}

std::optional<std::string> Session::value(const std::string& sql, const std::vector<std::string>& parameters,
                                          std::chrono::milliseconds timeout) {
  const Rows rows = execute(sql, parameters, timeout);
  if (rows.empty() || rows.front().empty()) return std::nullopt;
  return rows.front().front();
}

bool Session::in_transaction() const {
  return connection_ && PQtransactionStatus(connection_.get()) == PQTRANS_INTRANS;
}
int Session::server_version() const { return PQserverVersion(connection_.get()); }
std::string Session::database() const { return PQdb(connection_.get()); }
std::string Session::user() const { return PQuser(connection_.get()); }

SharedLock::SharedLock(const std::string& url, std::int64_t key) : session_(url), key_(std::to_string(key)) {
  // Hours without a word: probes keep the way open, and end the session of a machine that is gone.
  session_.execute("SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6");
  session_.execute("SELECT pg_advisory_lock_shared($1)", {key_});
}

void SharedLock::release() { session_.execute("SELECT pg_advisory_unlock_shared($1)", {key_}); }

}  // namespace hourz::db
