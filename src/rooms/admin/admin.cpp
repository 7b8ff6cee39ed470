// Who is suspended, and what administrators did.
#include "rooms/admin/admin.hpp"

#include "admin_sql.hpp"
#include "core/log.hpp"
#include "http/cursor.hpp"
#include "reflect/raw_json.hpp"
#include "rooms/admin/rows.hpp"
#include "rooms/gigs/gigs.hpp"

namespace hourz::admin {
namespace {

using http::Access;
using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::OptionalBody;
using http::Path;
using http::Query;

const http::ExportQuery export_reports{sql::export_reports};
const http::ExportQuery export_audit_log{sql::export_audit_log};

// --- people ----------------------------------------------------------------------------------------------------------

struct UserPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(UserPath, (), (id))

constexpr Endpoint read_user{.method = Method::get,
                             .path = "/api/admin/users/{id}",
                             .name = "admin.read_user",
                             .summary = "Anybody's account, as administrators see it",
                             .access = Access::admin,
                             .errors = {ErrorCode::not_found},
                             .etag = true};

Awaitable<users::Account> account_of(db::Executor& db, Uuid id) {
  auto account = co_await users::account(db, id);
  if (!account) throw Problem(ErrorCode::not_found);
  co_return std::move(*account);
}

Awaitable<users::Account> get_user(Deps&, Call& call, Path<UserPath> path) { return account_of(call.db(), path->id); }

struct Suspend {
  Text<1, 500> reason;
};
BOOST_DESCRIBE_STRUCT(Suspend, (), (reason))

constexpr Endpoint suspend_user{
    .method = Method::post,
    .path = "/api/admin/users/{id}/suspend",
    .name = "admin.suspend",
    .summary = "Suspend somebody",
    .description =
        "All their sessions end with the answer, and open sockets close with 4503. Logging in is refused as "
        "`account_suspended`, and only with the right password. They are no longer found, and their pending gigs are "
        "cancelled; gigs that somebody has accepted go on, with their money, by what the other side and the clock do. "
        "Again: the same answer. Stands in the audit log with the reason, which nobody else is shown.",
    .access = Access::admin,
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::self_suspension, ErrorCode::last_admin}};

Awaitable<users::Account> post_suspend(Deps& deps, Call& call, Path<UserPath> path, Body<Suspend> body) {
  if (path->id == call.user()) throw Problem(ErrorCode::self_suspension);
  // Two administrators who suspend each other take turns, and the second is none any more.
  co_await users::hold_admins(call.db(), call.user(), path->id);
  // Gigs before the person, as who accepts one holds them; and again for those posted until the person was held.
  const std::string told = "The seeker's account was suspended.";
  co_await gigs::cancel_open(call.db(), path->id, told);
  if (!co_await users::hold_account(call.db(), path->id)) throw Problem(ErrorCode::not_found);
  if (co_await users::suspend(call.db(), path->id, call.user(), body->reason.value)) {
    co_await gigs::cancel_open(call.db(), path->id, told);
    co_await auth::end_sessions(deps.auth, call, path->id, "suspended");
    log::Line(log::Level::warn, "user.suspended")
        .with("request_id", call.request_id)
        .with("admin_id", to_string(call.user()))
        .with("user_id", to_string(path->id));
  }
  co_return co_await account_of(call.db(), path->id);
}

struct Restore {
  std::optional<Text<1, 500>> reason;
};
BOOST_DESCRIBE_STRUCT(Restore, (), (reason))

constexpr Endpoint restore_user{
    .method = Method::post,
    .path = "/api/admin/users/{id}/restore",
    .name = "admin.restore",
    .summary = "Take a suspension back",
    .description =
        "They can log in again; what the suspension ended stays ended. Again: the same answer. Whoever deleted their "
        "account is 404. Stands in the audit log.",
    .access = Access::admin,
    .effect = Effect::change,
    .errors = {ErrorCode::not_found}};

Awaitable<users::Account> post_restore(Deps&, Call& call, Path<UserPath> path, OptionalBody<Restore> body) {
  std::optional<std::string> reason;
  if (body->reason) reason = body->reason->value;
  if (!co_await users::hold_account(call.db(), path->id)) throw Problem(ErrorCode::not_found);
  co_await users::restore(call.db(), path->id, call.user(), std::move(reason));
  co_return co_await account_of(call.db(), path->id);
}

// --- the audit log ---------------------------------------------------------------------------------------------------

struct AuditRow {
  Uuid id;
  std::optional<Uuid> admin_id;
  std::string action;
  std::optional<Uuid> subject_id;
  std::string details;
  Timestamp at;
};
BOOST_DESCRIBE_STRUCT(AuditRow, (), (id, admin_id, action, subject_id, details, at))

struct AuditPage {
  std::optional<Uuid> admin_id, subject_id;
  std::optional<std::string> action;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(AuditPage, (), (admin_id, subject_id, action, before_id, page))

const db::Query<AuditRow, AuditPage> select_audit_log{sql::audit_log};

struct AuditEntry {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"admin_id", "null: done on the server's machine, with `hourz admin`"},
                                    Note{"action", "as `user.suspend`, `reputation.set`, `role.set`, `payment.split`"},
                                    Note{"subject_id", "what it was done to: a person, a payment, a report"},
                                    Note{"details", "what there is to say of this action; amounts in satang"}};
  Uuid id;
  std::optional<Uuid> admin_id;
  std::string action;
  std::optional<Uuid> subject_id;
  RawObject details;
  Timestamp at;
};
BOOST_DESCRIBE_STRUCT(AuditEntry, (), (id, admin_id, action, subject_id, details, at))

struct AuditLog {
  static constexpr bool is_answer = true;
  std::vector<AuditEntry> entries;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(AuditLog, (), (entries, next_cursor))

struct AuditQuery {
  std::optional<Uuid> admin_id;
  std::optional<Uuid> subject_id;
  std::optional<Text<1, 40>> action;
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
};
BOOST_DESCRIBE_STRUCT(AuditQuery, (), (admin_id, subject_id, action, limit, cursor))

struct AuditPosition {
  std::optional<Uuid> admin_id, subject_id;
  std::optional<Text<1, 40>> action;
  Uuid before_id = http::last_uuid();
};
BOOST_DESCRIBE_STRUCT(AuditPosition, (), (admin_id, subject_id, action, before_id))

constexpr Endpoint read_audit_log{.method = Method::get,
                                  .path = "/api/admin/audit-log",
                                  .name = "admin.audit_log",
                                  .summary = "What administrators did, newest first",
                                  .description =
                                      "Never changed by anybody; a cursor goes on with the filter of the "
                                      "first page.",
                                  .access = Access::admin,
                                  .errors = {ErrorCode::invalid_cursor}};

Awaitable<AuditLog> get_audit_log(Deps& deps, Call& call, Query<AuditQuery> query) {
  AuditPosition at{query->admin_id, query->subject_id, query->action};
  if (query->cursor) at = http::from_cursor<AuditPosition>(deps.cursor_key, call.user(), query->cursor->value);
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  AuditPage wanted{at.admin_id, at.subject_id, std::nullopt, at.before_id, static_cast<std::int64_t>(limit) + 1};
  if (at.action) wanted.action = at.action->value;
  auto rows = co_await db::all(call.db(), select_audit_log, wanted);
  AuditLog log;
  log.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), at,
                                   [](AuditPosition& end, const AuditRow& last) { end.before_id = last.id; });
  for (AuditRow& row : rows) {
    log.entries.push_back(
        {row.id, row.admin_id, std::move(row.action), row.subject_id, {std::move(row.details)}, row.at});
  }
  co_return log;
}

}  // namespace

void install(http::Router& router, Deps& deps) {
  install_reports(router, deps);
  router.add(read_user, get_user, deps);
  router.add(suspend_user, post_suspend, deps);
  router.add(restore_user, post_restore, deps);
  router.add(read_audit_log, get_audit_log, deps);
}

// Reports and the log stay when somebody goes: they are what administrators decided by.
void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"reports", &export_reports});
  data.parts.push_back({"audit_log", &export_audit_log});
}

}  // namespace hourz::admin
