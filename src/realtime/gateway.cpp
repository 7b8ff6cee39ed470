#include "realtime/gateway.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/log.hpp"
#include "core/text.hpp"
#include "core/time.hpp"

namespace hourz::realtime {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto patience = 5s;       // for the first `authenticate`
constexpr int most_bad_frames = 5;  // of frames that are not JSON
constexpr double frames_a_second = 20;
constexpr double frames_at_once = 60;
constexpr double frames_owed = 60;   // past the limit, before the socket is closed
constexpr int attempts_at_most = 3;  // of a handler that meets a deadlock
constexpr std::size_t longest_id = 128;

struct Ready {
  static constexpr bool is_answer = true;
  Uuid connection_id;
  Timestamp server_time;
};
BOOST_DESCRIBE_STRUCT(Ready, (), (connection_id, server_time))

struct Failure {
  static constexpr bool is_answer = true;
  std::string field, code, message;
};
BOOST_DESCRIBE_STRUCT(Failure, (), (field, code, message))

struct ErrorData {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"errors", "of validation_failed: every fault of the frame"}};
  ErrorCode code{};
  std::string message;
  Omit<std::vector<Failure>> errors;
};
BOOST_DESCRIBE_STRUCT(ErrorData, (), (code, message, errors))

struct GoingAway {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"resume_after_ms", "wait as long before connecting again"}};
  std::int64_t resume_after_ms;
};
BOOST_DESCRIBE_STRUCT(GoingAway, (), (resume_after_ms))

struct Authenticate {
  Text<1, 4096> access_token;
};
BOOST_DESCRIBE_STRUCT(Authenticate, (), (access_token))

constexpr ServerEvent ready_event{"ready", "The socket is open and its caller known; also the answer to authenticate"};
constexpr ServerEvent error_event{"error", "A frame was refused; the connection stays"};
constexpr ServerEvent going_away_event{"going_away", "The server is being stopped: come back, and resume"};
constexpr ClientEvent authenticate_event{
    .name = "authenticate",
    .summary = "Say who is calling, or go on with a fresh token",
    .answer = "ready",
    .errors = {ErrorCode::token_invalid, ErrorCode::token_expired, ErrorCode::session_ended,
               ErrorCode::account_suspended, ErrorCode::forbidden, ErrorCode::too_many_sockets},
    .anonymous = true};

ErrorData data_of(const Problem& problem) {
  ErrorData data;
  data.code = problem.code;
  data.message = problem.detail.empty() ? std::string(info_of(problem.code).title) + "." : problem.detail;
  if (!problem.faults.empty()) {
    auto& errors = data.errors.value.emplace();
    for (const Fault& fault : problem.faults) errors.push_back({fault.field, fault.code, fault.message});
  }
  return data;
}

/// What an upgrade says of its caller and its wish.
struct Wish {
  enum class By { nothing, token, ticket };
  By by = By::nothing;
  std::string secret;
  std::optional<Uuid> room;
  std::string subprotocol;
};

struct SocketQuery {
  std::optional<Text<1, 4096>> token;
  std::optional<Text<1, 4096>> ticket;
};
BOOST_DESCRIBE_STRUCT(SocketQuery, (), (token, ticket))

constexpr std::string_view path_of_rooms = "/ws/chat/";

/// Without query and last slash.
std::string_view path_of(const http::RequestHead& head) {
  std::string_view path = std::string_view(head.target).substr(0, head.target.find('?'));
  if (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

/// For the log, which is told nothing that a client made up: some put a token where none belongs.
std::string known_path_of(const http::RequestHead& head) {
  const std::string_view path = path_of(head);
  if (path == "/ws") return "/ws";
  const auto room =
      path.starts_with(path_of_rooms) ? parse_uuid(path.substr(path_of_rooms.size())) : std::optional<Uuid>();
  return room ? std::string(path_of_rooms) + to_string(*room) : "other";
}

/// In the order of the contract: header, subprotocol, ticket, token. Throws Problem.
Wish read_wish(const http::RequestHead& head) {
  Wish wish;
  const std::string_view target = head.target;
  const auto mark = target.find('?');
  if (const std::string_view path = path_of(head); path != "/ws") {
    if (!path.starts_with(path_of_rooms)) throw Problem(ErrorCode::not_found);
    wish.room = parse_uuid(path.substr(path_of_rooms.size()));
    if (!wish.room) throw Problem(ErrorCode::not_found);
  }
  SocketQuery query;
  if (mark != std::string_view::npos) {
    query = reflect::read_pairs<SocketQuery>(reflect::parse_query(target.substr(mark + 1)));
  }
  if (const auto offered = head.header("sec-websocket-protocol")) {
    for (const std::string_view item : items_of(*offered)) {
      constexpr std::string_view prefix = "bearer.";
      if (item == "hourz.v1") wish.subprotocol = item;
      if (item.starts_with(prefix)) {
        wish.by = Wish::By::token;
        wish.secret = item.substr(prefix.size());
      }
    }
  }
  if (const auto field = head.header("authorization")) {
    const auto space = field->find(' ');
    if (space == std::string_view::npos || fold_case(field->substr(0, space)) != "bearer") {
      throw Problem(ErrorCode::unauthenticated);
    }
    wish.by = Wish::By::token;
    wish.secret = field->substr(space + 1);
  } else if (wish.by == Wish::By::nothing && query.ticket) {
    wish.by = Wish::By::ticket;
    wish.secret = query.ticket->value;
  } else if (wish.by == Wish::By::nothing && query.token) {
    wish.by = Wish::By::token;
    wish.secret = query.token->value;
  }
  return wish;
}

Awaitable<void> pause(std::chrono::milliseconds time) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, time);
  co_await timer.async_wait(boost::asio::use_awaitable);
}

}  // namespace

bool GatewayParts::allows_origin(std::string_view origin, std::string_view host) const {
  if (perimeter.lists_origin(origin)) return true;
  // The server's own pages, whatever name it is called by.
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (origin.starts_with(scheme) && fold_case(origin.substr(scheme.size())) == fold_case(host)) return true;
  }
  return false;
}

bool GatewayParts::take_place(const Uuid& user) {
  const std::lock_guard lock(mutex_);
  int& count = places_[user];
  if (count >= config.sockets_per_user) return false;
  ++count;
  return true;
}

void GatewayParts::give_place(const Uuid& user) {
  const std::lock_guard lock(mutex_);
  const auto found = places_.find(user);
  if (--found->second == 0) places_.erase(found);
}

void install_common_events(EventBook& book) {
  book.declares<Authenticate>(authenticate_event);
  book.sends<Ready>(ready_event);
  book.sends<ErrorData>(error_event);
  book.sends<GoingAway>(going_away_event);
}

namespace {

Awaitable<Spread> end_sessions(Node* node, std::vector<Event> events) {
  co_return [node, events = std::move(events)](std::size_t shard) {
    for (const Event& event : events) node->hub(shard).end_session(event.topic);
  };
}

}  // namespace

void install_session_end(Node& node) {
  node.on_event("session.ended",
                [&node](db::Executor&, std::vector<Event> events) { return end_sessions(&node, std::move(events)); });
}

/// What the sessions of one shard use; they may outlive the gateway by a moment.
struct SocketGateway::Shared {
  GatewayParts& parts;
  db::Client& database;
  http::Authenticator& authenticator;
  http::RateGate& gate;
  Hub& hub;
  const EventBook& book;
  std::unordered_map<const ClientEvent*, prometheus::Counter*> counters{};
  prometheus::Counter* refused = nullptr;
  bool gone = false;  ///< the gateway is, and with it the shard's desk
};

namespace {

/// Throws rate_limited.
Awaitable<void> charge(SocketGateway::Shared& shared, http::RateClass rate, std::string who,
                       http::RateReports& reports) {
  const std::string subject = "socket:" + who;
  co_await shared.gate.charge(rate, subject, reports);
}

class SocketSession final : public Session, public Wire {
 public:
  SocketSession(std::shared_ptr<SocketGateway::Shared> shared, std::string peer)
      : shared_(std::move(shared)), connection_(shared_->database, std::move(peer)) {
    connection_.wire = this;  // until the socket is open, what is sent waits here
    shared_->parts.node.count_socket(1);
  }

  ~SocketSession() override {
    if (shared_->gone) {
      // The process ends: what the hooks would tidy up is gone already.
      connection_.abandon();
      return;
    }
    shared_->parts.node.count_socket(-1);
    if (connection_.caller) {
      shared_->hub.remove(connection_);
      shared_->parts.give_place(connection_.user());
    }
    log::Line line(log::Level::info, "socket.closed");
    line.with("connection_id", to_string(connection_.id))
        .with("duration_ms", std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - opened_).count());
    if (connection_.caller) line.with("user_id", to_string(connection_.user()));
  }

  /// Throws too_many_sockets.
  void admit(const http::Caller& caller) {
    if (connection_.caller) {
      // The same person with a fresh token, perhaps of another session of theirs.
      shared_->hub.remove(connection_);
      connection_.caller = caller;
      shared_->hub.add(connection_);
      return;
    }
    if (!shared_->parts.take_place(caller.user_id)) throw Problem(ErrorCode::too_many_sockets).retry_after(10);
    connection_.caller = caller;
    shared_->hub.add(connection_);
  }

  void greet(std::string_view reply) { connection_.send(ready_event, Ready{connection_.id, now()}, reply); }

  /// Runs an event as if the client had sent it, as far as there is one of that name.
  Awaitable<void> act(std::string_view name, json::object data, std::string reply) {
    const EventBook::Entry* entry = shared_->book.find(name);
    if (entry == nullptr) co_return;
    const json::value held(std::move(data));
    co_await run(*entry, held, std::move(reply));
  }

  std::optional<Uuid> room;  ///< to be joined once the caller is known

  // --- Session ---

  void opened(Wire& wire) override {
    wire_ = &wire;
    connection_.wire = wire_;
    for (Frame& frame : early_) wire.send(std::move(frame));
    early_ = {};
    if (early_close_) wire.close(early_close_->first, early_close_->second);
  }

  Awaitable<void> receive(std::string text) override {
    busy_ = true;
    try {
      co_await take(std::move(text));
    } catch (const std::exception& error) {
      log::Line(log::Level::error, "socket.failed").with("cause", error.what());
    }
    busy_ = false;
    if (leaving_) connection_.close(CloseCode::going_away, "the server is being stopped");
  }

  void receive_binary() override {
    if (++bad_frames_ >= most_bad_frames) {
      connection_.close(CloseCode::unsupported, "text frames only");
    } else {
      fail(Problem(ErrorCode::unsupported_media_type, "Only text messages with JSON are understood."), {});
    }
  }

  bool admit_frame() override {
    if (!shared_->gate.enabled()) return true;
    const auto moment = Clock::now();
    const std::chrono::duration<double> passed = moment - refilled_;
    refilled_ = moment;
    tokens_ = std::min(frames_at_once, tokens_ + passed.count() * frames_a_second) - 1;
    if (tokens_ > -frames_owed) return true;
    connection_.close(CloseCode::too_fast, "too many frames");
    return false;
  }

  void tick() override {
    if (!connection_.caller) {
      if (Clock::now() - opened_ >= patience) connection_.close(CloseCode::unauthenticated, "no token was sent");
    } else if (now().microseconds / 1'000'000 >= connection_.caller->token_ends_s) {
      connection_.close(CloseCode::token_ended, "the access token has ended");
    }
  }

  void going_away() override {
    connection_.send(going_away_event, GoingAway{resume_after_ms()});
    leaving_ = true;
    if (!busy_) connection_.close(CloseCode::going_away, "the server is being stopped");  // else once it has its answer
  }

  // --- Wire, until the socket is open ---

  void send(Frame frame) override { early_.push_back(std::move(frame)); }
  void close(CloseCode code, std::string_view reason) override { early_close_.emplace(code, reason); }

 private:
  /// Spread over some seconds, so that a server's clients do not all come back at once.
  std::int64_t resume_after_ms() const { return 500 + connection_.id.bytes[15] * 10; }

  void fail(const Problem& problem, std::string_view reply) {
    shared_->refused->Increment();
    connection_.send(error_event, data_of(problem), reply);
  }

  Awaitable<void> take(std::string text) {
    json::value document;
    std::string reply;
    std::optional<Problem> problem;
    const EventBook::Entry* entry = nullptr;
    const json::value* data = nullptr;
    static const json::value no_data = json::object();
    try {
      document = reflect::parse_json(text);
    } catch (Problem& thrown) {
      if (++bad_frames_ >= most_bad_frames) {
        connection_.close(CloseCode::bad_data, "not JSON");
        co_return;
      }
      problem.emplace(std::move(thrown));
    }
    text = {};
    try {
      if (!problem) entry = read_envelope(document, reply, data);
    } catch (Problem& thrown) {
      problem.emplace(std::move(thrown));
    }
    if (tokens_ < 0) problem.emplace(ErrorCode::rate_limited);  // read all the same: the id goes back
    if (problem) {
      fail(*problem, reply);
      co_return;
    }
    if (entry == nullptr) {
      co_await authenticate(data == nullptr ? no_data : *data, std::move(reply));
    } else {
      co_await run(*entry, data == nullptr ? no_data : *data, std::move(reply));
    }
  }

  /// The event of a frame, or nullptr for `authenticate`, which is the gateway's own.
  const EventBook::Entry* read_envelope(const json::value& document, std::string& reply, const json::value*& data) {
    if (!document.is_object()) throw Problem(ErrorCode::malformed_json, "A frame is a JSON object.");
    const json::object& frame = document.get_object();
    if (const json::value* id = frame.if_contains("id"); id != nullptr && !id->is_null()) {
      const bool text = id->is_string() && id->get_string().size() <= longest_id;
      if (!text && !id->is_int64() && !id->is_uint64()) {
        throw invalid("id", "wrong_type", "must be a string of at most 128 bytes or a whole number");
      }
      reply = json::serialize(*id);
    }
    reflect::Faults faults;
    for (const auto& pair : frame) {
      if (pair.key() != "id" && pair.key() != "type" && pair.key() != "data") {
        faults.push_back(
            {std::string(std::string_view(pair.key()).substr(0, 64)), "unknown_field", "is not a field of a frame"});
      }
    }
    const json::value* type = frame.if_contains("type");
    if (type == nullptr) {
      faults.push_back({"type", "required", "is required"});
    } else if (!type->is_string()) {
      faults.push_back({"type", "wrong_type", "must be a string"});
    }
    data = frame.if_contains("data");
    if (data != nullptr && !data->is_object()) faults.push_back({"data", "wrong_type", "must be an object"});
    if (!faults.empty()) throw Problem(std::move(faults));
    const std::string_view name(type->get_string());
    if (name == authenticate_event.name) return nullptr;
    const EventBook::Entry* entry = shared_->book.find(name);
    if (entry == nullptr) throw Problem(ErrorCode::unknown_event);
    if (!connection_.caller && !entry->event->anonymous) throw Problem(ErrorCode::unauthenticated);
    return entry;
  }

  Awaitable<void> run(const EventBook::Entry& entry, const json::value& data, std::string reply) {
    auto*& counter = shared_->counters[entry.event];
    if (counter == nullptr) {
      counter = &shared_->parts.metrics.counter("hourz_socket_events_total", "Frames received, by event.",
                                                {{"event", std::string(entry.event->name)}});
    }
    counter->Increment();
    Incoming incoming{connection_, std::move(reply)};
    for (int tries = 1;; ++tries) {
      std::optional<Problem> problem;
      bool again = false;
      try {
        if (entry.event->rate != http::RateClass::none && tries == 1) {
          http::RateReports unsaid;
          co_await charge(*shared_, entry.event->rate, to_string(connection_.user()), unsaid);
        }
        co_await entry.invoke(incoming, data);
        co_return;
      } catch (Problem& thrown) {
        problem.emplace(std::move(thrown));
      } catch (const db::Error& error) {
        again = error.kind == db::ErrorKind::retryable && tries < attempts_at_most;
        problem.emplace(http::to_problem(error, shared_->parts.constraint_errors));
        log_failure(*entry.event, *problem, error.statement + ": " + error.message);
      } catch (const std::exception& error) {
        problem.emplace(ErrorCode::internal_error);
        log_failure(*entry.event, *problem, error.what());
      }
      if (!again) {
        fail(*problem, incoming.reply);
        co_return;
      }
      co_await pause(5ms * tries);
    }
  }

  void log_failure(const ClientEvent& event, const Problem& problem, const std::string& cause) {
    if (info_of(problem.code).status < 500) return;
    log::Line(log::Level::error, "socket.event_failed")
        .with("socket_event", event.name)
        .with("connection_id", to_string(connection_.id))
        .with("code", info_of(problem.code).word)
        .with("cause", cause);
  }

  Awaitable<void> authenticate(const json::value& data, std::string reply) {
    std::optional<Problem> problem;
    try {
      Authenticate read{};
      reflect::Faults faults;
      reflect::read_object(data, read, reflect::Place{nullptr, "data"}, faults);
      if (!faults.empty()) throw Problem(std::move(faults));
      const http::Caller caller =
          co_await shared_->authenticator.authenticate(shared_->database, read.access_token.value);
      if (connection_.caller && connection_.user() != caller.user_id) {
        throw Problem(ErrorCode::forbidden, "The token is somebody else's.");
      }
      admit(caller);
      if (!co_await shared_->authenticator.alive(shared_->database, caller)) {
        connection_.close(CloseCode::session_ended, "the session has ended");
        co_return;
      }
    } catch (Problem& thrown) {
      problem.emplace(std::move(thrown));
    } catch (const db::Error& error) {
      problem.emplace(http::to_problem(error, shared_->parts.constraint_errors));
      log_failure(authenticate_event, *problem, error.statement + ": " + error.message);
    }
    if (problem) {
      fail(*problem, reply);
      // A wrong token will not get better; a database that is away will.
      const bool wrong = info_of(problem->code).status == 401 || info_of(problem->code).status == 403;
      if (wrong && !connection_.caller) connection_.close(CloseCode::unauthenticated, "the token is not valid");
      // Admitted, and nobody knows whether the session is alive still: come back.
      if (info_of(problem->code).status >= 500 && connection_.caller) {
        connection_.close(CloseCode::resume, "the session could not be looked up");
      }
      if (problem->code == ErrorCode::too_many_sockets) connection_.close(CloseCode::too_many, "too many sockets");
      co_return;
    }
    greet(reply);
    if (room) {
      const std::string wished = to_string(*room);
      room.reset();
      co_await act("join_room", {{"room_id", wished}}, {});
    }
  }

  std::shared_ptr<SocketGateway::Shared> shared_;
  Connection connection_;
  Wire* wire_ = nullptr;
  std::vector<Frame> early_;
  std::optional<std::pair<CloseCode, std::string>> early_close_;
  const Clock::time_point opened_ = Clock::now();
  Clock::time_point refilled_ = Clock::now();
  double tokens_ = frames_at_once;
  int bad_frames_ = 0;
  bool busy_ = false;     ///< an event is being handled
  bool leaving_ = false;  ///< to be closed after it
};

}  // namespace

SocketGateway::SocketGateway(GatewayParts& parts, db::Client& database, http::Authenticator& authenticator,
                             http::RateGate& gate, Hub& hub, const EventBook& book)
    : shared_(std::make_shared<Shared>(Shared{parts, database, authenticator, gate, hub, book})) {
  shared_->refused = &parts.metrics.counter("hourz_socket_errors_total", "Frames answered by an error event.");
}

SocketGateway::~SocketGateway() { shared_->gone = true; }

bool SocketGateway::serves(std::string_view target) const {
  const std::string_view path = target.substr(0, target.find('?'));
  return path == "/ws" || path.starts_with("/ws/");
}

Awaitable<Opening> SocketGateway::open(http::RequestHead head) {
  Opening opening;
  const std::string request_id = to_string(make_uuid());
  std::optional<Problem> problem;
  std::string cause;
  http::RateReports rates;
  shared_->parts.perimeter.name_client(head);
  try {
    if (const auto origin = head.header("origin");
        origin && !shared_->parts.allows_origin(*origin, head.header("host").value_or(""))) {
      throw Problem(ErrorCode::foreign_origin);
    }
    Wish wish = read_wish(head);
    // Clients that come back to a server that was restarted are often faster than its first look at the outbox.
    for (int waits = 0; waits < 40 && !shared_->parts.node.follows(); ++waits) co_await pause(25ms);
    if (!shared_->parts.node.follows()) throw Problem(ErrorCode::service_unavailable, "Not ready.").retry_after(1);
    std::optional<http::Caller> caller;
    if (wish.by == Wish::By::token) {
      caller = co_await shared_->authenticator.authenticate(shared_->database, wish.secret);
    } else if (wish.by == Wish::By::ticket) {
      caller = co_await shared_->authenticator.redeem(shared_->database, wish.secret);
    }
    // By the account: behind a proxy all addresses are one.
    co_await charge(*shared_, http::RateClass::standard,
                    caller ? to_string(caller->user_id) : network_of_client(head.peer), rates);
    auto session = std::make_unique<SocketSession>(shared_, head.peer);
    session->room = wish.room;
    if (caller) {
      session->admit(*caller);
      // Asked again now that the end of the session would be heard: it may have ended while the caller was looked up.
      if (!co_await shared_->authenticator.alive(shared_->database, *caller)) throw Problem(ErrorCode::session_ended);
      session->greet({});
      if (wish.room) {
        session->room.reset();
        co_await session->act("join_room", {{"room_id", to_string(*wish.room)}}, {});
      }
    }
    log::Line(log::Level::info, "socket.opened")
        .with("path", known_path_of(head))
        .with("ip", head.peer)
        .with("request_id", request_id)
        .with("user_id", caller ? to_string(caller->user_id) : std::string());
    opening.session = std::move(session);
    opening.subprotocol = std::move(wish.subprotocol);
  } catch (Problem& thrown) {
    problem.emplace(std::move(thrown));
  } catch (const db::Error& error) {
    cause = error.statement + ": " + error.message;
    problem.emplace(http::to_problem(error, shared_->parts.constraint_errors));
  } catch (const std::exception& error) {
    cause = error.what();
    problem.emplace(ErrorCode::internal_error);
  }
  if (problem && info_of(problem->code).status == 401) {  // guessing is by the address
    rates.clear();
    try {
      co_await charge(*shared_, http::RateClass::standard, network_of_client(head.peer), rates);
    } catch (Problem& limited) {
      problem.emplace(std::move(limited));
    }
  }
  if (problem) {
    opening.refusal = http::to_response(*problem, request_id);
    opening.refusal->headers.emplace_back("X-Request-Id", request_id);
    http::add_rate_fields(*opening.refusal, rates);
    shared_->parts.perimeter.dress(*opening.refusal, http::origin_of(head));
    log::Line line(cause.empty() ? log::Level::info : log::Level::error, "socket.refused");
    line.with("path", known_path_of(head)).with("ip", head.peer).with("request_id", request_id);
    line.with("status", opening.refusal->status).with("code", info_of(problem->code).word);
    if (!cause.empty()) line.with("cause", cause);
  }
  co_return opening;
}

http::Response SocketGateway::refuse(const http::RequestHead& head, int status, std::string_view detail) {
  const std::string request_id = to_string(make_uuid());
  Problem problem(status == 426 ? ErrorCode::upgrade_required : ErrorCode::malformed_request, std::string(detail));
  http::Response response = http::to_response(problem, request_id);
  response.headers.emplace_back("X-Request-Id", request_id);
  shared_->parts.perimeter.dress(response, http::origin_of(head));
  log::Line line(log::Level::info, "socket.refused");
  line.with("path", known_path_of(head)).with("ip", head.peer).with("request_id", request_id);
  line.with("status", status).with("cause", detail);
  return response;
}

}  // namespace hourz::realtime
