#include "http/pipeline.hpp"

#include <boost/asio/steady_timer.hpp>
#include <chrono>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "http/etag.hpp"

namespace hourz::http {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view every_method = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
constexpr int attempts_at_most = 4;  ///< of a transaction that meets a deadlock or a serialization failure

bool is_sane_request_id(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
             std::string_view::npos;
}

std::string media_type(std::string_view field) {
  std::string type(field.substr(0, field.find(';')));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  for (char& c : type) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return type;
}

/// Text in another charset than UTF-8 would be misread.
void check_charset(std::string_view field) {
  const std::string lower = fold_case(field);
  const auto at = lower.find("charset=");
  if (at == std::string::npos) return;
  std::string charset = lower.substr(at + 8, lower.find(';', at) - at - 8);
  std::erase_if(charset, [](char c) { return c == '"' || c == ' '; });
  if (charset != "utf-8" && charset != "utf8") {
    throw Problem(ErrorCode::unsupported_media_type, "The body must be UTF-8.");
  }
}

/// Want of memory passes; anything else is a fault of ours.
Problem unforeseen(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) == nullptr) return Problem(ErrorCode::internal_error);
  return Problem(ErrorCode::service_unavailable, "There is no memory to spare just now.").retry_after(2);
}

}  // namespace

Problem to_problem(const db::Error& error, const ConstraintErrors& constraints) {
  switch (error.kind) {
    case db::ErrorKind::constraint: {
      const auto known = constraints.find(error.constraint);
      if (known != constraints.end()) return Problem(known->second);
      return Problem(ErrorCode::internal_error);
    }
    case db::ErrorKind::unavailable:
    case db::ErrorKind::out_of_space:
      return Problem(ErrorCode::service_unavailable).retry_after(1);
    case db::ErrorKind::retryable:  // too many at one row, and tried often enough
    case db::ErrorKind::timeout:
      return Problem(ErrorCode::overloaded).retry_after(1);
    case db::ErrorKind::outcome_unknown:
      return Problem(ErrorCode::deadline_exceeded).retry_after(1);
    case db::ErrorKind::other:
      break;
  }
  return Problem(ErrorCode::internal_error);
}

/// A request between admit() and respond().
struct Pipeline::Ticket : Admission {
  RequestHead head;
  const Bound* bound = nullptr;
  reflect::Pairs path_parameters;
  std::string_view path;
  std::string_view query;
  Uuid id = make_uuid();
  std::string request_id = to_string(id);
  std::string content_type;
  std::optional<Caller> caller;
  RateReports rates;
  std::string_view unread_origin;  ///< of a request that no head was made of
  Clock::time_point start = Clock::now();
  std::string cause;  ///< of a 5xx, for the log alone
  bool shed = false;  ///< refused for want of room, of which one line a second is enough

  std::string_view origin() const { return unread_origin.empty() ? origin_of(head) : unread_origin; }
};

namespace {

/// What comes by the thousand is told of once a second.
class Rarely {
 public:
  /// Counts one more; gives how many there were since the last line when it is time for another, else 0.
  std::int64_t tell(Clock::time_point now) {
    ++unsaid_;
    if (now - said_ < std::chrono::seconds(1)) return 0;
    said_ = now;
    return std::exchange(unsaid_, 0);
  }

 private:
  std::int64_t unsaid_ = 0;
  Clock::time_point said_{};
};

}  // namespace

/// Counters by endpoint and status, found once and kept by this shard.
struct Pipeline::Meters {
  std::map<std::pair<const Endpoint*, int>, prometheus::Counter*> requests;
  std::map<const Endpoint*, prometheus::Histogram*> latency;
  prometheus::Counter* shed = nullptr;
  Rarely shed_lines, turned_away;
};

Pipeline::Pipeline(PipelineParts& parts, db::Client& database, Authenticator& authenticator, RateGate& gate)
    : parts_(parts),
      database_(database),
      authenticator_(authenticator),
      gate_(gate),
      reads_(parts.overload_target),
      changes_(parts.overload_target),
      meters_(std::make_unique<Meters>()) {
  meters_->shed = &parts.metrics.counter("hourz_http_requests_shed_total", "Requests refused because of overload.");
}

Pipeline::~Pipeline() = default;

Response to_response(const Problem& problem, std::string_view request_id) {
  const ErrorInfo& info = info_of(problem.code);
  const std::string detail = problem.detail.empty() ? std::string(info.title) + "." : problem.detail;
  Response response;
  response.status = info.status;
  response.content_type = "application/problem+json";
  std::string& out = response.body;
  const auto member = [&out](std::string_view name, std::string_view value) {
    append_json_string(out, name);
    out += ':';
    append_json_string(out, value);
    out += ',';
  };
  out += '{';
  member("type", "/docs/errors#" + std::string(info.word));
  member("title", info.title);
  out += "\"status\":" + std::to_string(info.status) + ",";
  member("detail", detail);
  member("instance", "urn:hourz:request:" + std::string(request_id));
  member("code", info.word);
  member("message", detail);
  member("request_id", request_id);
  if (problem.code == ErrorCode::validation_failed) {
    out += "\"errors\":[";
    for (const Fault& fault : problem.faults) {
      if (&fault != &problem.faults.front()) out += ',';
      out += "{\"field\":";
      append_json_string(out, fault.field);
      out += ",\"code\":";
      append_json_string(out, fault.code);
      out += ",\"message\":";
      append_json_string(out, fault.message);
      out += '}';
    }
    out += "],";
  }
  for (const auto& pair : problem.extra) {
    append_json_string(out, pair.key());
    out += ':';
    out += boost::json::serialize(pair.value());
    out += ',';
  }
  out.back() = '}';
  for (const auto& header : problem.headers) response.headers.push_back(header);
  if (problem.retry_after_s) response.headers.emplace_back("Retry-After", std::to_string(*problem.retry_after_s));
  if (info.status == 401) {
    const bool sent = problem.code != ErrorCode::unauthenticated && problem.code != ErrorCode::invalid_credentials;
    response.headers.emplace_back("WWW-Authenticate",
                                  sent ? R"(Bearer realm="hourz", error="invalid_token")" : R"(Bearer realm="hourz")");
  }
  return response;
}

Response Pipeline::refuse(int status, std::string_view detail, std::string_view origin) {
  ErrorCode code = ErrorCode::malformed_request;
  for (const ErrorInfo& info : error_table) {
    if (info.status == status) {
      code = info.code;
      break;
    }
  }
  Ticket ticket;
  ticket.unread_origin = origin;
  Problem problem(code, std::string(detail));
  if (status == 503) problem.retry_after_s = 1;
  Response response = to_response(problem, ticket.request_id);
  response.close = true;
  conclude(ticket, response);
  return response;
}

Response Pipeline::turn_away() {
  Ticket ticket;
  ticket.shed = true;
  if (const auto count = meters_->turned_away.tell(ticket.start)) {
    log::Line(log::Level::warn, "connections.refused").with("connections", count);
  }
  Response response =
      to_response(Problem(ErrorCode::overloaded, "There are as many connections as there may be.").retry_after(1),
                  ticket.request_id);
  response.close = true;
  conclude(ticket, response);
  return response;
}

void Pipeline::conclude(Ticket& ticket, Response& response) {
  const auto elapsed = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - ticket.start);
  const Endpoint* endpoint = ticket.bound != nullptr ? ticket.bound->endpoint : nullptr;
  response.headers.emplace_back("X-Request-Id", ticket.request_id);
  add_rate_fields(response, ticket.rates);
  parts_.perimeter.dress(response, ticket.origin());
  const std::string_view name = endpoint != nullptr ? endpoint->name : "none";
  auto& counter = meters_->requests[{endpoint, response.status}];
  if (counter == nullptr) {
    counter = &parts_.metrics.counter("hourz_http_requests_total", "Requests answered, by endpoint and status.",
                                      {{"endpoint", std::string(name)}, {"status", std::to_string(response.status)}});
  }
  counter->Increment();
  auto& latency = meters_->latency[endpoint];
  if (latency == nullptr) {
    latency = &parts_.metrics.latency("hourz_http_request_duration_seconds",
                                      "Time from a whole request head to its answer, by endpoint.",
                                      {{"endpoint", std::string(name)}});
  }
  latency->Observe(static_cast<double>(elapsed.count()) / 1e6);
  const bool quiet = endpoint != nullptr && endpoint->rate == RateClass::none && response.status < 400;
  // 501 is the client's doing: a method that does not exist.
  const bool ours = response.status >= 500 && response.status != 501;
  const auto level = ours ? log::Level::error : quiet ? log::Level::debug : log::Level::info;
  if (ticket.shed || !log::enabled(level)) return;
  log::Line line(level, "request");
  line.with("endpoint", name)
      .with("method", ticket.head.method_text)
      .with("status", response.status)
      .with("duration_us", elapsed.count())
      .with("request_id", ticket.request_id)
      .with("ip", ticket.head.peer);
  if (ticket.caller) line.with("user_id", to_string(ticket.caller->user_id));
  if (!ticket.cause.empty()) line.with("cause", ticket.cause);
}

/// Passwords and uploads wait in queues of their own; health and documents are for those who look after an overload.
Workload* Pipeline::workload_of(const Endpoint& endpoint) {
  if (endpoint.rate != RateClass::standard) return nullptr;
  return endpoint.effect == Effect::read ? &reads_ : &changes_;
}

/// The refusal of a request for want of room; one line a second tells of all of them.
Response Pipeline::shed(Ticket& ticket) {
  ticket.shed = true;
  meters_->shed->Increment();
  if (const auto count = meters_->shed_lines.tell(ticket.start)) {
    log::Line(log::Level::warn, "overload.shed")
        .with("requests", count)
        .with("reads_bound", static_cast<std::int64_t>(reads_.bound()))
        .with("changes_bound", static_cast<std::int64_t>(changes_.bound()));
  }
  return to_response(Problem(ErrorCode::overloaded).retry_after(1), ticket.request_id);
}

Awaitable<void> Pipeline::identify(Ticket& ticket) {
  try {
    const auto field = ticket.head.header("authorization");
    if (!field) throw Problem(ErrorCode::unauthenticated);
    std::string_view value = *field;
    const auto space = value.find(' ');
    if (space == std::string_view::npos || fold_case(value.substr(0, space)) != "bearer") {
      throw Problem(ErrorCode::unauthenticated);
    }
    value.remove_prefix(space + 1);
    ticket.caller = co_await authenticator_.authenticate(database_, value);
  } catch (const Problem&) {
    if (ticket.bound->endpoint->access != Access::anyone) throw;
    ticket.caller.reset();
  }
  if (ticket.bound->endpoint->access == Access::admin && ticket.caller->role != Role::ADMIN) {
    throw Problem(ErrorCode::forbidden);
  }
}

Awaitable<void> Pipeline::authorize(Ticket& ticket) {
  const Endpoint& endpoint = *ticket.bound->endpoint;
  std::optional<Problem> refused;  // once it is charged: guessing is by the address
  try {
    if (endpoint.access != Access::anyone || endpoint.knows_caller) co_await identify(ticket);
  } catch (Problem& thrown) {
    refused.emplace(std::move(thrown));
  }
  if (endpoint.rate != RateClass::none && gate_.enabled()) {
    if (ticket.caller) {
      const auto& id = ticket.caller->user_id.bytes;
      co_await gate_.charge(endpoint.rate, {reinterpret_cast<const char*>(id.data()), id.size()}, ticket.rates);
    } else {
      co_await gate_.charge(endpoint.rate, network_of_client(ticket.head.peer), ticket.rates);
    }
  }
  if (refused) throw std::move(*refused);
}

Awaitable<Admitted> Pipeline::admit(RequestHead head) {
  auto ticket = std::make_unique<Ticket>();
  ticket->head = std::move(head);
  parts_.perimeter.name_client(ticket->head);
  const auto given = ticket->head.header("x-request-id");
  if (given && is_sane_request_id(*given)) ticket->request_id = *given;
  Admitted admitted;
  std::optional<Problem> problem;
  try {
    const std::string_view target = ticket->head.target;
    const auto mark = target.find('?');
    ticket->path = target.substr(0, mark);
    ticket->query = mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1);
    if (ticket->head.method == Method::other) {
      throw Problem(ErrorCode::not_implemented, "The server does not know this method.");
    }
    auto match = parts_.router.find(ticket->head.method, ticket->path);
    const bool preflight = ticket->head.method == Method::options && parts_.perimeter.is_preflight(ticket->head);
    if (ticket->head.method == Method::options && (!match.allow.empty() || target == "*" || preflight)) {
      Response& answer = admitted.refusal.emplace();
      answer.status = 204;
      // Of a path that does not exist all is granted, so that the page may read the 404 to come.
      const std::string_view granted = match.allow.empty() ? every_method : std::string_view(match.allow);
      if (preflight) parts_.perimeter.grant(granted, answer);
      answer.headers.emplace_back("Allow", match.allow.empty() ? "GET, HEAD, OPTIONS" : match.allow);
    } else if (match.bound == nullptr) {
      if (match.allow.empty()) throw Problem(ErrorCode::not_found);
      throw Problem(ErrorCode::method_not_allowed).header("Allow", match.allow);
    } else {
      ticket->bound = match.bound;
      ticket->path_parameters = std::move(match.path_parameters);
      admitted.body_limit = match.bound->endpoint->body_limit;
      admitted.streamed = match.bound->takes_upload;
      // As cheaply as it can be done: before caller, quota and body are looked at.
      Workload* const load = workload_of(*match.bound->endpoint);
      if (load != nullptr && !load->has_room(ticket->start)) {
        admitted.refusal = shed(*ticket);
        conclude(*ticket, *admitted.refusal);
        co_return admitted;
      }
      // Asking who somebody is takes a place as well: its statements wait behind those of the work.
      if (load != nullptr) load->begin(ticket->start);
      try {
        co_await authorize(*ticket);
      } catch (...) {
        if (load != nullptr) load->leave();
        throw;
      }
      if (load != nullptr) load->leave();
      if (ticket->head.content_length.value_or(0) > admitted.body_limit) {
        throw Problem(ErrorCode::body_too_large,
                      "The body may have at most " + std::to_string(admitted.body_limit) + " bytes.");
      }
      if (const auto coding = ticket->head.header("content-encoding"); coding && fold_case(*coding) != "identity") {
        throw Problem(ErrorCode::unsupported_media_type, "The body must not be compressed.");
      }
      if (const auto type = ticket->head.header("content-type")) {
        ticket->content_type = media_type(*type);
        check_charset(*type);
      }
      if (admitted.streamed) {
        if (ticket->content_type != "multipart/form-data") {
          throw Problem(ErrorCode::unsupported_media_type, "The body must be multipart/form-data.");
        }
        if (!ticket->head.content_length) throw Problem(ErrorCode::length_required);
      }
    }
  } catch (Problem& thrown) {
    problem.emplace(std::move(thrown));
  } catch (const db::Error& error) {
    ticket->cause = error.statement + ": " + error.message;
    problem.emplace(to_problem(error, parts_.constraint_errors));
  } catch (const std::exception& error) {
    ticket->cause = error.what();
    problem.emplace(unforeseen(error));
  }
  if (problem) admitted.refusal = to_response(*problem, ticket->request_id);
  if (admitted.refusal) {
    conclude(*ticket, *admitted.refusal);
  } else {
    admitted.admission = std::move(ticket);
  }
  co_return admitted;
}

namespace {

/// Whose key it is: the caller's; where nobody is known, whoever sends this very request.
Uuid owner_of(const Call& call, const std::string& fingerprint) {
  Uuid owner;
  if (call.caller) return call.caller->user_id;
  std::copy_n(fingerprint.begin(), owner.bytes.size(), owner.bytes.begin());
  return owner;
}

void add_etag(Call& call) {
  if (call.response.status >= 300 || (!call.endpoint.etag && !call.version)) return;
  for (const auto& [name, value] : call.response.headers) {
    if (name == "ETag") return;  // a document or asset brings its own
  }
  call.header("ETag", etag_of(call.version, call.response.body));
}

}  // namespace

Awaitable<void> Pipeline::attempt_with_key(Ticket& ticket, Call& call, std::string_view key) {
  const bool visible = std::all_of(key.begin(), key.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (key.empty() || key.size() > 255 || !visible) throw Problem(ErrorCode::invalid_idempotency_key);
  // The operation rather than the target as spelt: a slash at the end or an id in capitals is the same request.
  std::string material(call.endpoint.name);
  for (const auto& parameter : call.path_parameters) material += "\n" + fold_case(parameter.second);
  material += "\n" + (call.body == "{}" ? std::string() : call.body);
  const std::string fingerprint(as_text(hmac_sha256(parts_.fingerprint_key, material)));
  call.keyed =
      std::make_unique<KeyedTransaction>(*call.transaction, owner_of(call, fingerprint), std::string(key), fingerprint);
  std::optional<Problem> refused;
  try {
    co_await ticket.bound->invoke(call);
    add_etag(call);
  } catch (Problem& thrown) {
    refused.emplace(std::move(thrown));
  } catch (const db::Error& error) {
    if (error.kind != db::ErrorKind::constraint) throw;
    refused.emplace(to_problem(error, parts_.constraint_errors));
  } catch (Replay& known) {
    call.response = std::move(known.response);
    co_return;
  }
  if (refused) {
    const int status = info_of(refused->code).status;
    const bool of_the_key = refused->code == ErrorCode::idempotency_in_progress;
    if (of_the_key || !is_kept_for_replay(status)) throw std::move(*refused);
    call.after.clear();
    call.response = to_response(*refused, call.request_id);
  }
  try {
    // A handler that refused without a statement has not claimed the key yet: the answer may be known all the same.
    if (refused) co_await call.keyed->undo();
    co_await call.keyed->keep(call.response);
  } catch (Replay& known) {
    call.response = std::move(known.response);
  }
}

Awaitable<void> Pipeline::attempt(Ticket& ticket, Call& call) {
  const Endpoint& endpoint = *ticket.bound->endpoint;
  // Whoever took their time over the body may have lost the right to what it asks for.
  if (!call.body.empty() && ticket.caller) co_await identify(ticket);
  call.caller = ticket.caller;
  call.response.status = endpoint.status;
  if (endpoint.effect == Effect::change) call.transaction = database_.begin();
  const auto key = takes_idempotency_key(endpoint) ? ticket.head.header("idempotency-key") : std::nullopt;
  if (key) {
    co_await attempt_with_key(ticket, call, *key);
  } else {
    co_await ticket.bound->invoke(call);
    add_etag(call);
  }
  if (call.transaction) {
    co_await call.transaction->commit();
    if (parts_.changed) parts_.changed();
  }
  for (const auto& action : call.after) action();
}

namespace {

/// Turns an answer that the client has already into 304.
void spare_what_is_known(const RequestHead& head, Response& response) {
  const auto known = head.header("if-none-match");
  if (!known || response.status != 200 || (head.method != Method::get && head.method != Method::head)) return;
  for (const auto& [name, value] : response.headers) {
    if (name == "ETag" && names_etag(*known, value)) {
      response.status = 304;
      response.body.clear();
      response.static_body = {};
      response.source.reset();
      response.content_type.clear();
      return;
    }
  }
}

Awaitable<void> pause(std::chrono::milliseconds time) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, time);
  co_await timer.async_wait(boost::asio::use_awaitable);
}

}  // namespace

Awaitable<Response> Pipeline::respond(std::unique_ptr<Admission> admission, std::string body) {
  return answer(std::move(admission), std::move(body), nullptr);
}

/// Asks again who calls at the end of a body, which may be minutes after its head.
class Pipeline::LastingRight final : public BodyReader {
 public:
  LastingRight(Pipeline& pipeline, Ticket& ticket, BodyReader& body)
      : pipeline_(pipeline), ticket_(ticket), body_(body) {}
  Awaitable<std::string_view> read() override {
    const std::string_view piece = co_await body_.read();
    if (piece.empty() && ticket_.caller) co_await pipeline_.identify(ticket_);
    co_return piece;
  }

 private:
  Pipeline& pipeline_;
  Ticket& ticket_;
  BodyReader& body_;
};

Awaitable<Response> Pipeline::respond_streamed(std::unique_ptr<Admission> admission, BodyReader& body) {
  LastingRight reader(*this, static_cast<Ticket&>(*admission), body);
  co_return co_await answer(std::move(admission), {}, &reader);
}

Awaitable<Response> Pipeline::answer(std::unique_ptr<Admission> admission, std::string body, BodyReader* reader) {
  auto& ticket = static_cast<Ticket&>(*admission);
  Workload* const load = workload_of(*ticket.bound->endpoint);
  if (load == nullptr) co_return co_await work(ticket, std::move(body), reader);
  const auto since = Clock::now();
  if (!load->has_room(since)) {  // it was taken while the body was read
    Response refusal = shed(ticket);
    conclude(ticket, refusal);
    co_return refusal;
  }
  // No guard does this: what still waits when a server stops is destroyed after this pipeline.
  load->begin(since);
  Response response;
  try {
    response = co_await work(ticket, std::move(body), reader);
  } catch (...) {
    load->leave();
    throw;
  }
  load->end(since, Clock::now());
  co_return response;
}

Awaitable<Response> Pipeline::work(Ticket& ticket, std::string body, BodyReader* reader) {
  Response response;
  for (int tries = 1;; ++tries) {
    // A call is made anew for each try: nothing of a failed one is left in it.
    Call call(*ticket.bound->endpoint, ticket.head, database_, gate_);
    call.id = ticket.id;
    call.request_id = ticket.request_id;
    call.address = ticket.head.peer;
    call.path_parameters = ticket.path_parameters;
    call.query = ticket.query;
    call.body = body;
    call.reader = reader;
    call.content_type = ticket.content_type;
    std::optional<Problem> problem;
    bool again = false;
    try {
      co_await attempt(ticket, call);
    } catch (Problem& thrown) {
      problem.emplace(std::move(thrown));
    } catch (const db::Error& error) {
      // What was read piece by piece cannot be read again.
      again = error.kind == db::ErrorKind::retryable && tries < attempts_at_most && reader == nullptr;
      ticket.cause = error.statement + ": " + error.message;
      problem.emplace(to_problem(error, parts_.constraint_errors));
    } catch (const std::exception& error) {
      ticket.cause = error.what();
      problem.emplace(unforeseen(error));
    }
    if (again) {
      // Awaited, or the next try would meet the locks of this one.
      if (call.transaction) co_await call.transaction->rollback();
      co_await pause(std::chrono::milliseconds(5 * tries));
      continue;
    }
    ticket.rates.insert(ticket.rates.end(), call.rates.begin(), call.rates.end());
    // Its key is free before its refusal is told: who comes again at once would hear that it is still running.
    if (problem && call.keyed) co_await call.transaction->rollback();
    if (problem) {
      if (info_of(problem->code).status < 500) ticket.cause.clear();
      response = to_response(*problem, ticket.request_id);
    } else {
      ticket.cause.clear();
      response = std::move(call.response);
      spare_what_is_known(ticket.head, response);
    }
    break;
  }
  conclude(ticket, response);
  co_return response;
}

namespace {

/// In pieces of an odd length, so that tests meet every cut.
class TextReader final : public BodyReader {
 public:
  explicit TextReader(std::string_view text) : left_(text) {}
  Awaitable<std::string_view> read() override {
    const std::string_view piece = left_.substr(0, 1021);
    left_.remove_prefix(piece.size());
    co_return piece;
  }

 private:
  std::string_view left_;
};

}  // namespace

Awaitable<Response> Pipeline::handle(RequestHead head, std::string body) {
  head.content_length = body.size();
  Admitted admitted = co_await admit(std::move(head));
  if (admitted.refusal) co_return std::move(*admitted.refusal);
  if (admitted.streamed) {
    TextReader reader(body);
    co_return co_await respond_streamed(std::move(admitted.admission), reader);
  }
  co_return co_await respond(std::move(admitted.admission), std::move(body));
}

}  // namespace hourz::http
