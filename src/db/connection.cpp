#include "db/connection.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <cctype>
#include <charconv>
#include <cstring>

#include "db/addresses.hpp"

namespace hourz::db {

namespace asio = boost::asio;
using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

struct Control {
  const char* name;
  const char* text;
};
constexpr Control begin_control{"begin", "BEGIN"};
constexpr Control commit_control{"commit", "COMMIT"};
constexpr Control rollback_control{"rollback", "ROLLBACK"};
constexpr Control savepoint_control{"savepoint", "SAVEPOINT attempt"};
constexpr Control rollback_to_control{"rollback_to", "ROLLBACK TO SAVEPOINT attempt"};

void ignore_notice(void*, const PGresult*) {}

/// `s<index>`, and `s<index>_<generation>` once a first plan was left behind.
std::array<char, 40> statement_name(std::size_t index, std::uint32_t generation) {
  std::array<char, 40> name{};
  name[0] = 's';
  char* end = std::to_chars(name.data() + 1, name.data() + name.size() - 1, index).ptr;
  if (generation != 0) {
    *end++ = '_';
    end = std::to_chars(end, name.data() + name.size() - 1, generation).ptr;
  }
  *end = '\0';
  return name;
}

/// Whether a statement may change something: it holds a writing verb as a word. Errs on the side of yes.
bool may_write(std::string_view text) {
  constexpr std::array<std::string_view, 6> verbs{"insert", "update", "delete", "merge", "truncate", "call"};
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  for (std::size_t i = 0; i < text.size();) {
    if (!is_word(text[i])) {
      ++i;
      continue;
    }
    std::string word;
    while (i < text.size() && is_word(text[i])) {
      word.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(text[i++]))));
    }
    if (std::find(verbs.begin(), verbs.end(), word) != verbs.end()) return true;
  }
  return false;
}

std::string field(const PGresult* result, int code) {
  const char* text = PQresultErrorField(result, code);
  return text != nullptr ? text : "";
}

std::unique_ptr<Error> error_of(const PGresult* result) {
  auto error = std::make_unique<Error>(ErrorKind::other, PQresultErrorMessage(result));
  while (!error->message.empty() && error->message.back() == '\n') error->message.pop_back();
  error->sqlstate = field(result, PG_DIAG_SQLSTATE);
  error->constraint = field(result, PG_DIAG_CONSTRAINT_NAME);
  error->kind = error_kind(error->sqlstate);
  const std::string severity = field(result, PG_DIAG_SEVERITY_NONLOCALIZED);
  // libpq itself reports a lost connection without a SQLSTATE; FATAL ends the session whatever its code.
  if (error->sqlstate.empty() || (error->kind == ErrorKind::other && (severity == "FATAL" || severity == "PANIC"))) {
    error->kind = ErrorKind::unavailable;
  }
  return error;
}

}  // namespace

milliseconds Context::back_off(int failures) {
  const milliseconds most{std::min(400, 50 << std::clamp(failures - 1, 0, 10))};
  return milliseconds{std::uniform_int_distribution<milliseconds::rep>(most.count() / 2, most.count())(random)};
}

std::vector<std::pair<std::string, std::string>> connection_settings(const Options& options) {
  std::vector<std::pair<std::string, std::string>> settings;
  const auto set = [&settings](std::string_view key, std::string value) {
    for (auto& [known, old] : settings) {
      if (known == key) {
        old = std::move(value);
        return;
      }
    }
    settings.emplace_back(key, std::move(value));
  };
  char* problem = nullptr;
  PQconninfoOption* parsed = PQconninfoParse(options.url.c_str(), &problem);
  if (parsed == nullptr) {
    const std::string text = problem != nullptr ? problem : "out of memory";
    PQfreemem(problem);
    throw Error(ErrorKind::other, "the database URL: " + text);
  }
  std::string server_options;
  for (const PQconninfoOption* option = parsed; option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    if (std::strcmp(option->keyword, "options") == 0) {
      server_options = std::string(option->val) + ' ';
    } else {
      set(option->keyword, option->val);
    }
  }
  PQconninfoFree(parsed);
  // One plan a statement, made once. Guesses about places and words are far off (one row for thousands), and would have
  // a plan sort a city instead of walking an index in order; where there is no such index, off only means last choice.
  server_options += "-c statement_timeout=" + std::to_string(options.statement_timeout.count()) +
                    " -c plan_cache_mode=force_generic_plan -c enable_sort=off -c jit=off -c TimeZone=UTC"
                    " -c default_transaction_isolation=read\\ committed";
  set("options", std::move(server_options));
  set("client_encoding", "UTF8");
  set("application_name", "hourz");
  set("tcp_user_timeout", std::to_string(options.answer_timeout.count()));
  return settings;
}

ErrorKind error_kind(std::string_view sqlstate) {
  if (sqlstate.starts_with("08") || sqlstate == "57P01" || sqlstate == "57P02" || sqlstate == "57P03" ||
      sqlstate == "53300") {
    return ErrorKind::unavailable;
  }
  if (sqlstate == "40P01" || sqlstate == "40001" || sqlstate == "55P03") return ErrorKind::retryable;
  if (sqlstate == "57014") return ErrorKind::timeout;
  if (sqlstate.starts_with("23")) return ErrorKind::constraint;
  if (sqlstate == "53100") return ErrorKind::out_of_space;
  return ErrorKind::other;
}

Connection::Connection(std::shared_ptr<Context> context)
    : context_(std::move(context)), socket_(context_->io), timer_(context_->io) {}

Connection::~Connection() { close(ErrorKind::unavailable, "the connection was dropped"); }

// --- connecting ------------------------------------------------------------------------------------------------------

Awaitable<void> Connection::connect() {
  const auto self = shared_from_this();
  Timer deadline(context_->io, context_->options.connect_timeout);
  deadline.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    const auto connection = weak.lock();
    if (!ec && connection) connection->close(ErrorKind::timeout, "connecting to the database took too long");
  });
  const auto lost = [this](const std::string& why) {
    close(ErrorKind::unavailable, why);
    return Error(ErrorKind::unavailable, "no connection to the database: " + why);
  };
  if (state_ == State::closed) throw lost("closed");

  const Settings settings =
      co_await with_addresses(context_->io, context_->settings, context_->options.connect_timeout);
  if (state_ == State::closed) throw Error(ErrorKind::unavailable, "no connection to the database in time");
  std::vector<const char*> keys;
  std::vector<const char*> values;
  for (const auto& [key, value] : settings) {
    keys.push_back(key.c_str());
    values.push_back(value.c_str());
  }
  keys.push_back(nullptr);
  values.push_back(nullptr);
  raw_ = PQconnectStartParams(keys.data(), values.data(), 0);
  if (raw_ == nullptr) throw lost("out of memory");
  PQsetNoticeReceiver(raw_, ignore_notice, nullptr);

  for (PostgresPollingStatusType poll = PGRES_POLLING_WRITING; poll != PGRES_POLLING_OK;) {
    if (poll == PGRES_POLLING_FAILED || PQstatus(raw_) == CONNECTION_BAD) throw lost(PQerrorMessage(raw_));
    // libpq may close its socket and open another within PQconnectPoll, even under the same number.
    boost::system::error_code ec;
    socket_.assign(PQsocket(raw_), ec);
    if (ec) throw lost(ec.message());
    co_await socket_.async_wait(poll == PGRES_POLLING_READING ? asio::posix::descriptor_base::wait_read
                                                              : asio::posix::descriptor_base::wait_write,
                                asio::redirect_error(asio::use_awaitable, ec));
    if (state_ == State::closed) throw Error(ErrorKind::unavailable, "no connection to the database in time");
    socket_.release();
    poll = PQconnectPoll(raw_);
  }
  boost::system::error_code ec;
  socket_.assign(PQsocket(raw_), ec);
  if (ec || PQsetnonblocking(raw_, 1) != 0 || PQenterPipelineMode(raw_) != 1) throw lost(PQerrorMessage(raw_));
  state_ = State::ready;
  wait_readable();
  co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(std::exception_ptr, Result)>(
      [this](Handler<Result> handler) {
        Request request;
        request.control_setup = true;
        request.handler.emplace(std::move(handler));
        enqueue(std::move(request));
      },
      asio::use_awaitable);
  if (state_ == State::closed) throw Error(ErrorKind::unavailable, "no connection to the database in time");
}

void Connection::close(ErrorKind kind, const std::string& text) {
  if (state_ == State::closed) return;
  const bool was_ready = state_ == State::ready;
  const auto self = weak_from_this().lock();  // the last owner may let go within on_closed
  state_ = State::closed;
  timer_.cancel();
  if (socket_.is_open()) socket_.release();  // the descriptor is libpq's to close
  if (raw_ != nullptr) PQfinish(raw_);
  raw_ = nullptr;
  turn_ = Clock::now();
  auto pending = std::move(requests_);
  requests_.clear();
  const bool timed_out = kind == ErrorKind::timeout;
  bool first = true;
  for (Request& request : pending) {
    // Only who waited for the whole time, or was being answered, timed out; the others merely lost their connection.
    const bool overdue = timed_out && (first || turn_ - request.sent >= context_->options.answer_timeout);
    fail(request, timed_out && !overdue ? ErrorKind::unavailable : kind, text, overdue);
    first = false;
  }
  if (was_ready && on_closed) on_closed(*this);
}

bool Connection::clean() const {
  return state_ == State::ready && requests_.empty() && PQtransactionStatus(raw_) == PQTRANS_IDLE;
}

// --- sending ---------------------------------------------------------------------------------------------------------

Awaitable<Result> Connection::submit(std::optional<Bound> bound, unsigned surround) {
  return asio::async_initiate<const asio::use_awaitable_t<>&, void(std::exception_ptr, Result)>(
      [this, surround](Handler<Result> handler, std::optional<Bound> moved) {
        submit(std::move(moved), surround, std::move(handler));
      },
      asio::use_awaitable, std::move(bound));
}

void Connection::submit(std::optional<Bound> bound, unsigned surround, Handler<Result> handler) {
  Request request;
  request.bound = std::move(bound);
  request.surround = surround;
  request.handler.emplace(std::move(handler));
  enqueue(std::move(request));
}

void Connection::enqueue(Request request) {
  request.sent = Clock::now();
  if (state_ != State::ready) {
    request.surround = 0;  // it was never sent, so its outcome is known
    fail(request, ErrorKind::unavailable, "the connection to the database is closed", false);
    return;
  }
  if (requests_.empty()) head_since_ = request.sent;
  requests_.push_back(std::move(request));
  if (!send(requests_.back())) {
    close(ErrorKind::unavailable, PQerrorMessage(raw_));
    return;
  }
  arm_sweep();
}

bool Connection::send(Request& request) {
  request.step = 0;
  request.prepare_step = request.main_step = request.commit_step = -1;
  int step = 0;
  if (request.control_setup) {
    if (!send_setup()) return false;
  } else {
    const unsigned surround = request.surround;
    const auto control = [&](unsigned flag, const Control& what) {
      if ((surround & flag) == 0) return true;
      ++step;
      return send_control(what.name);
    };
    if (!control(begin_before, begin_control) || !control(rollback_to_before, rollback_to_control) ||
        !control(savepoint_before, savepoint_control)) {
      return false;
    }
    if (request.bound) {
      if (!prepared(request.bound->index).done) request.prepare_step = step++;
      request.main_step = step++;
      if (!send_bound(request)) return false;
    }
    if ((surround & commit_after) != 0) request.commit_step = step;
    if (!control(commit_after, commit_control) || !control(rollback_after, rollback_control)) return false;
  }
  if (PQpipelineSync(raw_) != 1) return false;  // which flushes too
  flush();
  return state_ == State::ready;
}

bool Connection::send_control(const char* name) {
  return PQsendQueryPrepared(raw_, name, 0, nullptr, nullptr, nullptr, 1) == 1;
}

bool Connection::send_setup() {
  for (const Control& control :
       {begin_control, commit_control, rollback_control, savepoint_control, rollback_to_control}) {
    if (PQsendPrepare(raw_, control.name, control.text, 0, nullptr) != 1) return false;
  }
  return true;
}

bool Connection::send_bound(Request& request) {
  thread_local std::vector<Oid> types;
  thread_local std::vector<const char*> values;
  thread_local std::vector<int> lengths;
  thread_local std::vector<int> formats;
  const Bound& bound = *request.bound;
  const Parameters& parameters = bound.parameters;
  const std::size_t count = parameters.size();
  Prepared& state = prepared(bound.index);
  const auto name = statement_name(bound.index, state.generation);
  if (!state.done) {
    types.clear();
    for (std::size_t i = 0; i < count; ++i) types.push_back(parameters.type(i));
    const std::string text(bound.statement->text);
    if (PQsendPrepare(raw_, name.data(), text.c_str(), static_cast<int>(count), types.data()) != 1) return false;
    // From here on others may use it: they come behind. take() corrects this when preparing fails.
    state.done = true;
  }
  values.clear();
  lengths.clear();
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(parameters.data(i));
    lengths.push_back(parameters.length(i));
  }
  if (formats.size() < count) formats.resize(count, 1);
  return PQsendQueryPrepared(raw_, name.data(), static_cast<int>(count), values.data(), lengths.data(), formats.data(),
                             1) == 1;
}

Connection::Prepared& Connection::prepared(std::size_t index) {
  if (index >= prepared_.size()) prepared_.resize(std::max(index + 1, all_queries().size()));
  return prepared_[index];
}

void Connection::unprepare(std::size_t index) {
  prepared(index).done = false;
  ++prepared(index).generation;
}

void Connection::flush() {
  if (state_ != State::ready || writing_) return;
  const int left = PQflush(raw_);
  if (left < 0) {
    close(ErrorKind::unavailable, PQerrorMessage(raw_));
  } else if (left > 0) {
    writing_ = true;
    socket_.async_wait(asio::posix::descriptor_base::wait_write,
                       [self = shared_from_this()](boost::system::error_code ec) {
                         if (ec || self->state_ != State::ready) return;
                         self->writing_ = false;
                         self->flush();
                         self->drain();  // a blocked flush takes in what has arrived
                       });
  }
}

// --- receiving -------------------------------------------------------------------------------------------------------

void Connection::wait_readable() {
  socket_.async_wait(asio::posix::descriptor_base::wait_read,
                     [self = shared_from_this()](boost::system::error_code ec) {
                       if (!ec && self->state_ == State::ready) self->on_readable();
                     });
}

void Connection::on_readable() {
  const bool alive = PQconsumeInput(raw_) == 1;
  if (alive) {
    wait_readable();
  } else {
    socket_.release();  // libpq has closed the descriptor: a waiter resumed below may open another under its number
  }
  drain();  // what came before the end still counts
  if (!alive && state_ == State::ready) close(ErrorKind::unavailable, PQerrorMessage(raw_));
}

void Connection::drain() {
  if (state_ != State::ready) return;
  turn_ = Clock::now();
  try {
    while (state_ == State::ready && PQisBusy(raw_) == 0 && !requests_.empty()) take(PQgetResult(raw_));
  } catch (...) {
    // A waiter's own exception; the answers behind it must not wait for more input.
    asio::post(context_->io, [self = shared_from_this()] { self->drain(); });
    throw;
  }
  take_notifications();
  if (state_ == State::ready && PQstatus(raw_) == CONNECTION_BAD) {
    close(ErrorKind::unavailable, PQerrorMessage(raw_));
  }
}

void Connection::take_notifications() {
  while (state_ == State::ready && on_notification) {
    const std::unique_ptr<PGnotify, void (*)(void*)> notification(PQnotifies(raw_), PQfreemem);
    if (!notification) return;
    on_notification(notification->extra);
  }
}

void Connection::take(PGresult* raw) {
  Request& request = requests_.front();
  if (raw == nullptr) {
    ++request.step;
    // Between two results there is one null: more mean that libpq has no more to give.
    if (++empty_results_ > 2 || PQstatus(raw_) == CONNECTION_BAD) {
      close(ErrorKind::unavailable, std::string("the connection is out of step: ") + PQerrorMessage(raw_));
    }
    return;
  }
  empty_results_ = 0;
  Result result(raw);
  const ExecStatusType status = PQresultStatus(raw);
  if (status == PGRES_PIPELINE_SYNC) {
    finish_front();
    return;
  }
  if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
    if (request.step == request.main_step) {
      request.result = std::move(result);
    } else if (request.step == request.commit_step && !request.error &&
               std::strcmp(PQcmdStatus(raw), "ROLLBACK") == 0) {
      request.error = std::make_unique<Error>(ErrorKind::other, "COMMIT of a transaction that had failed");
    }
    return;
  }
  if (request.step == request.prepare_step && request.bound) unprepare(request.bound->index);
  if (status != PGRES_PIPELINE_ABORTED && !request.error) {
    request.error = status == PGRES_FATAL_ERROR
                        ? error_of(raw)
                        : std::make_unique<Error>(
                              ErrorKind::other, std::string("an answer of an unexpected kind: ") + PQresStatus(status));
  }
}

void Connection::finish_front() {
  Request request = std::move(requests_.front());
  requests_.pop_front();
  head_since_ = turn_;
  if (request.error && send_again(request)) return;
  complete(request, turn_);
}

/// A prepared statement that is not there (whoever prepared it failed after we relied on it), or whose plan a migration
/// outdated: nothing of ours is wrong. Outside a transaction it is simply sent again: first behind whoever prepares the
/// statement anew already, then with a Parse of its own, whose error is the statement's own.
bool Connection::send_again(Request& request) {
  if (!request.bound || request.prepare_step >= 0) return false;
  const std::string& sqlstate = request.error->sqlstate;
  const bool missing = sqlstate == "26000";
  const bool outdated = sqlstate == "0A000" && request.error->message.find("cached plan") != std::string::npos;
  if (!missing && !outdated) return false;
  const std::size_t index = request.bound->index;
  const bool under_way = std::any_of(requests_.begin(), requests_.end(), [index](const Request& behind) {
    return behind.prepare_step >= 0 && behind.bound && behind.bound->index == index;
  });
  if (!under_way || request.retries > 0) unprepare(index);
  if ((request.surround & (commits_itself | alone)) == 0) {
    request.error->kind = ErrorKind::retryable;
    return false;
  }
  if (request.retries > 1 || !request.handler) return false;
  ++request.retries;
  request.error.reset();
  enqueue(std::move(request));
  return true;
}

void Connection::complete(Request& request, Clock::time_point now) {
  if (!request.handler) return;
  if (context_->observer && request.bound) {
    context_->observer(*request.bound->statement, duration_cast<microseconds>(now - request.sent),
                       request.error != nullptr);
  }
  Handler<Result> handler = std::move(*request.handler);
  request.handler.reset();
  if (request.error) {
    if (request.bound) request.error->statement = request.bound->statement->name;
    std::move(handler)(std::make_exception_ptr(std::move(*request.error)), Result());
  } else {
    std::move(handler)(std::exception_ptr(), std::move(request.result));
  }
}

/// Answers a request whose connection is gone or whose time is over. Never within the caller's turn: it may be in the
/// middle of anything.
void Connection::fail(Request& request, ErrorKind kind, const std::string& text, bool overdue) {
  if (!request.handler) return;
  // What the server had said of this statement is surer than what the loss of the connection says.
  if (!request.error) request.error = std::make_unique<Error>(kind, text);
  Error& error = *request.error;
  const bool lost = error.kind == ErrorKind::unavailable || (overdue && error.kind == ErrorKind::timeout);
  if (lost && ((request.surround & (commit_after | commits_itself)) != 0 ||
               ((request.surround & alone) != 0 && request.bound && may_write(request.bound->statement->text)))) {
    error.kind = ErrorKind::outcome_unknown;
  }
  if (request.bound) {
    error.statement = request.bound->statement->name;
    if (context_->observer) {
      context_->observer(*request.bound->statement, duration_cast<microseconds>(Clock::now() - request.sent), true);
    }
  }
  asio::post(context_->io,
             [handler = std::move(*request.handler), failure = std::make_exception_ptr(std::move(error))]() mutable {
               std::move(handler)(std::move(failure), Result());
             });
  request.handler.reset();
}

// --- deadlines -------------------------------------------------------------------------------------------------------

void Connection::arm_sweep() {
  if (sweep_armed_ || state_ != State::ready || requests_.empty()) return;
  sweep_armed_ = true;
  Clock::time_point next = std::max(requests_.front().sent, head_since_);
  for (const Request& request : requests_) {
    if (request.handler) {
      next = std::min(next, request.sent);
      break;
    }
  }
  timer_.expires_at(next + context_->options.answer_timeout);
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    const auto self = weak.lock();
    if (!self) return;
    self->sweep_armed_ = false;
    if (!ec) self->sweep();
  });
}

/// The timer is set once for the oldest request and looks again when it fires, so a statement costs no timer.
void Connection::sweep() {
  if (state_ != State::ready || requests_.empty()) return;
  const auto limit = context_->options.answer_timeout;
  const auto now = Clock::now();
  if (now - std::max(requests_.front().sent, head_since_) >= limit) {
    // The server is frozen. No PQcancel: it would wait for the same server, and block.
    close(ErrorKind::timeout, "the database did not answer in time");
    return;
  }
  // Slow neighbours ahead in the queue: the waiter goes, its answer is thrown away when it comes.
  for (Request& request : requests_) {
    if (now - request.sent < limit) break;
    if (request.handler) fail(request, ErrorKind::timeout, "the answer of the database is overdue", true);
  }
  arm_sweep();
}

}  // namespace hourz::db
