#include "rooms/auth/auth.hpp"

#include "auth_sql.hpp"
#include "core/log.hpp"
#include "http/cursor.hpp"
#include "rooms/auth/recovery.hpp"

namespace hourz::auth {
namespace {

using http::Access;
using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::FormOrBody;
using http::Method;
using http::NoContent;
using http::OptionalBody;
using http::Path;
using http::Query;
using http::RateClass;

// --- rows ------------------------------------------------------------------------------------------------------------

struct NewSession {
  Uuid id, user_id;
  std::optional<std::string> user_agent;
  std::string ip;
  double lasts_s;
  std::string verified;  ///< the password hash that the login was checked against
};
BOOST_DESCRIBE_STRUCT(NewSession, (), (id, user_id, user_agent, ip, lasts_s, verified))

struct SessionOf {
  Uuid session_id, user_id;
};
BOOST_DESCRIBE_STRUCT(SessionOf, (), (session_id, user_id))

struct SessionPage {
  Uuid session_id, user_id, before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(SessionPage, (), (session_id, user_id, before_id, page))

struct SessionEnd {
  Uuid session_id, user_id;
  std::string reason;
};
BOOST_DESCRIBE_STRUCT(SessionEnd, (), (session_id, user_id, reason))

struct SessionCheck {
  http::Role role;
  bool suspended;
};
BOOST_DESCRIBE_STRUCT(SessionCheck, (), (role, suspended))

struct LockedSession {
  Uuid user_id;
  std::int64_t counter;
  bool is_profile_setup, suspended;
};
BOOST_DESCRIBE_STRUCT(LockedSession, (), (user_id, counter, is_profile_setup, suspended))

struct SessionStep {
  Uuid session_id;
  double lasts_s;
  std::string ip;
};
BOOST_DESCRIBE_STRUCT(SessionStep, (), (session_id, lasts_s, ip))

struct SessionRow {
  Uuid id;
  std::optional<std::string> user_agent, ip;
  Timestamp created_at, last_used_at, expires_at;
  bool is_current;
};
BOOST_DESCRIBE_STRUCT(SessionRow, (), (id, user_agent, ip, created_at, last_used_at, expires_at, is_current))

const db::Query<db::Nothing, NewSession> insert_session{sql::open_session};
const db::Query<SessionCheck, SessionOf> check_session{sql::check_session};
const db::Query<LockedSession, Uuid> lock_session{sql::lock_session};
const db::Query<db::Nothing, SessionStep> advance_session{sql::advance_session};
const db::Query<db::Nothing, SessionEnd> end_session{sql::end_session};
const db::Query<db::Nothing, SessionEnd> end_others{sql::end_others};
const db::Query<SessionRow, SessionPage> select_sessions{sql::sessions};
const db::Query<db::Nothing> purge{sql::purge_sessions};
const db::Query<db::Nothing> purge_tickets{sql::purge_tickets};
const db::Query<db::Nothing> purge_mails{sql::purge_mails};

struct TicketRow {
  db::Bytes hash;
  Uuid user_id, session_id;
  Timestamp token_ends;
  double lasts_s;
};
BOOST_DESCRIBE_STRUCT(TicketRow, (), (hash, user_id, session_id, token_ends, lasts_s))

struct TicketHolder {
  Uuid user_id, session_id;
  Timestamp token_ends;
};
BOOST_DESCRIBE_STRUCT(TicketHolder, (), (user_id, session_id, token_ends))

const db::Query<db::Nothing, TicketRow> sell_ticket{sql::sell_ticket};
const db::Query<TicketHolder, db::Bytes> redeem_ticket{sql::redeem_ticket};

// --- bodies ----------------------------------------------------------------------------------------------------------

struct Register {
  Email email;
  Secret<8, 128> password;
  std::optional<Line<1, 80>> name;
};
BOOST_DESCRIBE_STRUCT(Register, (), (email, password, name))

struct Login {
  Text<1, 512> email;
  Secret<1, 128> password;
};
BOOST_DESCRIBE_STRUCT(Login, (), (email, password))

/// OAuth2's password flow (RFC 6749 4.3), as the Flutter client sends it.
struct LoginForm {
  static constexpr bool ignores_others = true;
  Text<1, 512> username;
  Secret<1, 128> password;
};
BOOST_DESCRIBE_STRUCT(LoginForm, (), (username, password))

struct TokenPair {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"expires_in", "seconds that the access token lasts"}};
  std::string access_token;
  std::string refresh_token;
  std::string token_type = "bearer";
  std::int64_t expires_in = 0;
  bool is_profile_setup = false;
};
BOOST_DESCRIBE_STRUCT(TokenPair, (), (access_token, refresh_token, token_type, expires_in, is_profile_setup))

struct RefreshBody {
  std::optional<Text<1, 512>> refresh_token;
};
BOOST_DESCRIBE_STRUCT(RefreshBody, (), (refresh_token))

struct ChangePassword {
  Secret<1, 128> current_password;
  Secret<8, 128> new_password;
};
BOOST_DESCRIBE_STRUCT(ChangePassword, (), (current_password, new_password))

struct Session {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"device", "the User-Agent that logged in"}};
  Uuid id;
  std::optional<std::string> device;
  std::optional<std::string> ip;
  Timestamp created_at;
  Timestamp last_used_at;
  Timestamp expires_at;
  bool is_current = false;
};
BOOST_DESCRIBE_STRUCT(Session, (), (id, device, ip, created_at, last_used_at, expires_at, is_current))

struct SessionList {
  static constexpr bool is_answer = true;
  std::vector<Session> sessions;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(SessionList, (), (sessions, next_cursor))

struct SessionPosition {
  Uuid before_id;
};
BOOST_DESCRIBE_STRUCT(SessionPosition, (), (before_id))

struct SessionPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(SessionPath, (), (id))

struct ProfileSetup {
  Line<1, 80> name;
  Change<std::optional<Text<1, 1000>>> bio;
  Change<users::ContactChange> contact_info;
};
BOOST_DESCRIBE_STRUCT(ProfileSetup, (), (name, bio, contact_info))

TokenPair make_pair(const Deps& deps, Uuid user, Uuid session, std::int64_t counter, bool is_profile_setup) {
  const std::int64_t now_s = now().microseconds / 1'000'000;
  return {deps.tokens.make_access({user, session, now_s, now_s + deps.tokens.access_lasts_s()}),
          deps.tokens.make_refresh({session, counter}), "bearer", deps.tokens.access_lasts_s(), is_profile_setup};
}

double refresh_lasts_s(const Deps& deps) { return static_cast<double>(deps.config.refresh_token_s); }

/// What a client says it is: text like any other, cut to 200 characters, or nothing when it is not text.
std::optional<std::string> device_of(const Call& call) {
  const auto field = call.head.header("user-agent");
  if (!field || !is_utf8(*field) || find_forbidden(*field)) return std::nullopt;
  std::string device(field->substr(0, 200));
  while (!is_utf8(device)) device.pop_back();  // a character cut in two
  return device;
}

// --- register, login -------------------------------------------------------------------------------------------------

constexpr Endpoint register_account{
    .method = Method::post,
    .path = "/api/auth/register",
    .name = "auth.register",
    .summary = "Make an account",
    .description =
        "A password has 8 to 128 characters of any kind and is not among the commonest ones. "
        "A mail to verify the address is sent.",
    .access = Access::anyone,
    .effect = Effect::change,
    .rate = RateClass::auth,
    .status = 201,
    .errors = {ErrorCode::email_taken, ErrorCode::overloaded}};

Awaitable<users::User> post_register(Deps& deps, Call& call, Body<Register> body) {
  if (auto weak = weakness_of(body->password.value, body->email.value)) {
    throw invalid(weak->field, weak->code, weak->message);
  }
  // Beside the quota of the address: from many addresses one gets no further.
  co_await call.charge(RateClass::email, body->email.value);
  // Hashed before the first statement, so that no transaction waits for it.
  std::string hash = co_await deps.hasher.hash(body->password.value);
  std::optional<std::string> name;
  if (body->name) name = body->name->value;
  users::User user = co_await users::create(call.db(), {make_uuid(), body->email.value, std::move(hash), name});
  co_await write_verification(call.db(), user.id);
  call.header("Location", "/api/users/" + to_string(user.id));
  co_return user;
}

constexpr Endpoint login{
    .method = Method::post,
    .path = "/api/auth/login",
    .name = "auth.login",
    .summary = "Log in",
    .description =
        "Takes JSON, or a form with `username` and `password` (OAuth2 password flow; other form fields are "
        "ignored). Wrong email and wrong password answer alike.",
    .access = Access::anyone,
    .effect = Effect::change,
    .rate = RateClass::auth,
    .errors = {ErrorCode::invalid_credentials, ErrorCode::account_suspended, ErrorCode::overloaded},
    .idempotent = false};

Awaitable<TokenPair> post_login(Deps& deps, Call& call, FormOrBody<LoginForm, Login> body) {
  const auto* form = std::get_if<LoginForm>(&body.value);
  const std::string email = form != nullptr ? form->username.value : std::get<Login>(body.value).email.value;
  const std::string password = form != nullptr ? form->password.value : std::get<Login>(body.value).password.value;
  const std::string folded = fold_case(email);
  co_await call.charge(RateClass::email, folded);
  co_await call.charge(RateClass::account, folded);
  auto account = co_await users::credentials(call.database.reads(), folded);
  const bool right = co_await deps.hasher.verify(password, account ? account->password_hash : std::string());
  if (!right) {
    log::Line line(log::Level::warn, "login.failed");
    line.with("request_id", call.request_id).with("ip", call.address);
    if (account) line.with("user_id", to_string(account->id));
    throw Problem(ErrorCode::invalid_credentials);
  }
  if (account->suspended) throw Problem(ErrorCode::account_suspended);
  std::string verified = account->password_hash;
  if (deps.hasher.is_outdated(account->password_hash)) {
    std::string stronger = co_await deps.hasher.hash(password);
    if (!co_await users::set_password(call.db(), account->id, verified, stronger)) {
      throw Problem(ErrorCode::invalid_credentials);
    }
    verified = std::move(stronger);
  }
  const Uuid session = make_uuid();
  const NewSession row{session, account->id, device_of(call), call.address, refresh_lasts_s(deps), verified};
  // No row: the password was changed while the old one was being verified.
  if (co_await db::run_last(call.db(), insert_session, row) == 0) throw Problem(ErrorCode::invalid_credentials);
  co_return make_pair(deps, account->id, session, 1, account->is_profile_setup);
}

// --- refresh ---------------------------------------------------------------------------------------------------------

constexpr Endpoint refresh{
    .method = Method::post,
    .path = "/api/auth/refresh",
    .name = "auth.refresh",
    .summary = "Take a new pair of tokens",
    .description =
        "The refresh token stands in `Authorization: Bearer` with an empty body, or in the body. It rotates: "
        "presenting the current one moves the session on; presenting its parent before the successor was "
        "used gives that successor again; anything older ends the session.",
    .access = Access::anyone,
    .effect = Effect::change,
    .errors = {ErrorCode::token_invalid, ErrorCode::token_reused, ErrorCode::session_ended,
               ErrorCode::account_suspended},
    .idempotent = false};

Awaitable<TokenPair> post_refresh(Deps& deps, Call& call, OptionalBody<RefreshBody> body) {
  std::string token;
  if (body->refresh_token) {
    token = body->refresh_token->value;
  } else if (const auto field = call.head.header("authorization")) {
    if (fold_case(field->substr(0, 7)) == "bearer ") token = field->substr(7);
  }
  if (token.empty()) throw Problem(ErrorCode::unauthenticated, "A refresh token is needed.");
  const auto claims = deps.tokens.read_refresh(token);
  if (!claims) throw Problem(ErrorCode::token_invalid);
  const auto session = co_await db::maybe(call.db(), lock_session, claims->session_id);
  if (!session) throw Problem(ErrorCode::session_ended);
  if (session->suspended) throw Problem(ErrorCode::account_suspended);
  if (claims->counter == session->counter) {
    const SessionStep step{claims->session_id, refresh_lasts_s(deps), call.address};
    co_await db::run(call.db(), advance_session, step);
    co_return make_pair(deps, session->user_id, claims->session_id, session->counter + 1, session->is_profile_setup);
  }
  if (claims->counter + 1 == session->counter) {
    co_return make_pair(deps, session->user_id, claims->session_id, session->counter, session->is_profile_setup);
  }
  // Theft. Committed here, since the problem that follows rolls back what is open.
  const SessionEnd end{claims->session_id, session->user_id, "token_reused"};
  co_await db::run(call.db(), end_session, end);
  co_await call.transaction->commit();
  deps.revocations.bump(session->user_id);
  log::Line(log::Level::warn, "session.token_reused")
      .with("request_id", call.request_id)
      .with("ip", call.address)
      .with("user_id", to_string(session->user_id));
  throw Problem(ErrorCode::token_reused);
}

// --- logout, sessions ------------------------------------------------------------------------------------------------

constexpr Endpoint logout{.method = Method::post,
                          .path = "/api/auth/logout",
                          .name = "auth.logout",
                          .summary = "End this session",
                          .effect = Effect::change,
                          .status = 204,
                          .idempotent = false};
constexpr Endpoint logout_by_delete{.method = Method::del,
                                    .path = "/api/auth/logout",
                                    .name = "auth.logout_by_delete",
                                    .summary = "End this session",
                                    .effect = Effect::change,
                                    .status = 204};

void revoke_after(Deps& deps, Call& call) {
  call.after_commit([&revocations = deps.revocations, user = call.user()] { revocations.bump(user); });
}

Awaitable<NoContent> end_this(Deps& deps, Call& call) {
  const SessionEnd end{call.caller->session_id, call.user(), "logout"};
  co_await db::run(call.db(), end_session, end);
  revoke_after(deps, call);
  co_return NoContent{};
}

constexpr Endpoint list_sessions{.method = Method::get,
                                 .path = "/api/auth/sessions",
                                 .name = "auth.sessions",
                                 .summary = "The caller's live sessions, newest first",
                                 .errors = {ErrorCode::invalid_cursor}};

Awaitable<SessionList> get_sessions(Deps& deps, Call& call, Query<http::PageQuery> query) {
  SessionPosition at;
  at.before_id = http::last_uuid();
  if (query->cursor) at = http::from_cursor<SessionPosition>(deps.cursor_key, call.user(), query->cursor->value);
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  const SessionPage page{call.caller->session_id, call.user(), at.before_id, static_cast<std::int64_t>(limit) + 1};
  auto rows = co_await db::all(call.db(), select_sessions, page);
  SessionList list;
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), at,
                                    [](SessionPosition& end, const SessionRow& last) { end.before_id = last.id; });
  for (SessionRow& row : rows) {
    list.sessions.push_back({row.id, std::move(row.user_agent), std::move(row.ip), row.created_at, row.last_used_at,
                             row.expires_at, row.is_current});
  }
  co_return list;
}

constexpr Endpoint end_one{.method = Method::del,
                           .path = "/api/auth/sessions/{id}",
                           .name = "auth.end_session",
                           .summary = "End one of the caller's sessions",
                           .effect = Effect::change,
                           .status = 204,
                           .errors = {ErrorCode::not_found}};

Awaitable<NoContent> delete_session(Deps& deps, Call& call, Path<SessionPath> path) {
  const SessionEnd end{path->id, call.user(), "ended_by_user"};
  if (co_await db::run(call.db(), end_session, end) == 0) throw Problem(ErrorCode::not_found);
  revoke_after(deps, call);
  co_return NoContent{};
}

constexpr Endpoint end_all_others{.method = Method::del,
                                  .path = "/api/auth/sessions",
                                  .name = "auth.end_other_sessions",
                                  .summary = "End all of the caller's sessions but this one",
                                  .effect = Effect::change,
                                  .status = 204};

Awaitable<NoContent> delete_others(Deps& deps, Call& call) {
  const SessionEnd end{call.caller->session_id, call.user(), "ended_by_user"};
  co_await db::run(call.db(), end_others, end);
  revoke_after(deps, call);
  co_return NoContent{};
}

// --- password, profile set-up ----------------------------------------------------------------------------------------

constexpr Endpoint change_password{.method = Method::put,
                                   .path = "/api/auth/password",
                                   .name = "auth.change_password",
                                   .summary = "Change the password; every other session ends",
                                   .effect = Effect::change,
                                   .rate = RateClass::auth,
                                   .status = 204,
                                   .errors = {ErrorCode::wrong_password, ErrorCode::overloaded}};

Awaitable<NoContent> put_password(Deps& deps, Call& call, Body<ChangePassword> body) {
  const users::User user = co_await users::own(call.database.reads(), call.user());
  if (auto weak = weakness_of(body->new_password.value, user.email)) {
    throw invalid("new_password", weak->code, weak->message);
  }
  std::string stored = co_await users::password_hash(call.database.reads(), call.user());
  const bool right = co_await deps.hasher.verify(body->current_password.value, stored);
  if (!right) throw Problem(ErrorCode::wrong_password);
  std::string hash = co_await deps.hasher.hash(body->new_password.value);
  if (!co_await users::set_password(call.db(), call.user(), stored, hash)) throw Problem(ErrorCode::wrong_password);
  co_await end_other_sessions(call.db(), call.user(), call.caller->session_id, "password_changed");
  co_await void_resets(call.db(), call.user());
  revoke_after(deps, call);
  co_return NoContent{};
}

constexpr Endpoint profile_setup{.method = Method::put,
                                 .path = "/api/auth/profile-setup",
                                 .name = "auth.profile_setup",
                                 .summary = "Fill in the profile for the first time",
                                 .effect = Effect::change,
                                 .errors = {ErrorCode::profile_already_set_up}};

Awaitable<users::User> put_profile_setup(Deps&, Call& call, Body<ProfileSetup> body) {
  users::ProfileChange change;
  change.name.to = body->name;
  change.bio = body->bio;
  change.contact_info = body->contact_info;
  auto user = co_await users::change_profile(call.db(), call.user(), change, true);
  if (!user) throw Problem(ErrorCode::profile_already_set_up);
  co_return std::move(*user);
}

constexpr Endpoint read_me{.method = Method::get,
                           .path = "/api/auth/me",
                           .name = "auth.me",
                           .summary = "The caller's own profile",
                           .etag = true};

Awaitable<users::User> get_me(Deps&, Call& call) { co_return co_await users::own(call.db(), call.user()); }

constexpr std::int64_t ticket_lasts_s = 30;

struct SocketTicket {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"expires_in", "seconds; good for one socket"}};
  std::string ticket;
  std::int64_t expires_in;
};
BOOST_DESCRIBE_STRUCT(SocketTicket, (), (ticket, expires_in))

constexpr Endpoint socket_ticket{
    .method = Method::post,
    .path = "/api/ws/ticket",
    .name = "auth.socket_ticket",
    .summary = "A ticket to open one WebSocket with",
    .description =
        "For `GET /ws?ticket=…`, where a browser cannot send a header. The socket ends with the token that "
        "the ticket was asked for with.",
    .effect = Effect::change,
    .idempotent = false};

Awaitable<SocketTicket> post_ticket(Deps&, Call& call) {
  const std::string ticket = to_base64url(random_bytes(24));
  const http::Caller& caller = *call.caller;
  const TicketRow row{db::Bytes{std::string(as_text(sha256(ticket)))}, caller.user_id, caller.session_id,
                      Timestamp{caller.token_ends_s * 1'000'000}, static_cast<double>(ticket_lasts_s)};
  co_await db::run_last(call.db(), sell_ticket, row);
  co_return SocketTicket{ticket, ticket_lasts_s};
}

}  // namespace

void install(http::Router& router, Deps& deps) {
  router.add(register_account, post_register, deps);
  router.add(login, post_login, deps);
  router.add(refresh, post_refresh, deps);
  router.add(logout, end_this, deps);
  router.add(logout_by_delete, end_this, deps);
  router.add(list_sessions, get_sessions, deps);
  router.add(end_one, delete_session, deps);
  router.add(end_all_others, delete_others, deps);
  router.add(change_password, put_password, deps);
  router.add(profile_setup, put_profile_setup, deps);
  router.add(read_me, get_me, deps);
  router.add(socket_ticket, post_ticket, deps);
  install_recovery(router, deps);
}

Awaitable<void> end_other_sessions(db::Executor& db, Uuid user, Uuid kept, std::string reason) {
  const SessionEnd end{kept, user, std::move(reason)};
  co_await db::run(db, end_others, end);
}

Awaitable<http::Caller> SessionAuthenticator::authenticate(db::Client& database, std::string_view token) {
  const std::int64_t now_s = now().microseconds / 1'000'000;
  const auto moment = std::chrono::steady_clock::now();
  if (const auto known = cache_.find(token); known != cache_.end()) {
    const Entry& entry = known->second;
    if (moment < entry.until && now_s < entry.expires_at &&
        entry.revocation == revocations_.seen(entry.caller.user_id)) {
      co_return entry.caller;
    }
  }
  AccessClaims claims;
  switch (tokens_.read_access(token, now_s, claims)) {
    case TokenFault::none:
      break;
    case TokenFault::expired:
      throw Problem(ErrorCode::token_expired);
    case TokenFault::malformed:
      throw Problem(ErrorCode::token_invalid);
  }
  // Read before the database is asked: a session that ends meanwhile is then not kept as alive.
  const std::uint64_t revocation = revocations_.seen(claims.user_id);
  const SessionOf of{claims.session_id, claims.user_id};
  std::string key(token);
  const auto session = co_await db::maybe(database.reads(), check_session, of);
  if (!session) throw Problem(ErrorCode::session_ended);
  if (session->suspended) throw Problem(ErrorCode::account_suspended);
  const http::Caller caller{claims.user_id, claims.session_id, session->role, claims.expires_at};
  if (cache_.size() >= cache_bound) cache_.clear();
  cache_[std::move(key)] = {caller, claims.expires_at, revocation, moment + std::chrono::seconds(1)};
  co_return caller;
}

Awaitable<http::Caller> SessionAuthenticator::redeem(db::Client& database, std::string_view ticket) {
  const std::string hash(as_text(sha256(ticket)));
  // A statement of its own, and so committed, whatever becomes of the caller.
  const auto transaction = database.begin();
  const auto holder = co_await db::maybe_last(*transaction, redeem_ticket, db::Bytes{hash});
  co_await transaction->commit();
  if (!holder) throw Problem(ErrorCode::token_invalid, "The ticket is not valid.");
  http::Caller caller{holder->user_id, holder->session_id, http::Role::USER,
                      holder->token_ends.microseconds / 1'000'000};
  const auto session =
      co_await db::maybe(database.reads(), check_session, SessionOf{caller.session_id, caller.user_id});
  if (!session) throw Problem(ErrorCode::session_ended);
  if (session->suspended) throw Problem(ErrorCode::account_suspended);
  caller.role = session->role;
  co_return caller;
}

Awaitable<bool> SessionAuthenticator::alive(db::Client& database, const http::Caller& caller) {
  const auto session =
      co_await db::maybe(database.reads(), check_session, SessionOf{caller.session_id, caller.user_id});
  co_return session && !session->suspended;
}

Awaitable<std::int64_t> purge_sessions(db::Executor& db) {
  const std::int64_t sessions = co_await db::run(db, purge);
  const std::int64_t tickets = co_await db::run(db, purge_tickets);
  const std::int64_t mails = co_await db::run(db, purge_mails);
  co_return std::max({sessions, tickets, mails});
}

}  // namespace hourz::auth
