// Reports: made by anybody who can see the thing, looked at and resolved by administrators.
#include "admin_sql.hpp"
#include "http/cursor.hpp"
#include "reflect/raw_json.hpp"
#include "rooms/admin/rows.hpp"
#include "rooms/chat/chat.hpp"
#include "rooms/gigs/gigs.hpp"

namespace hourz::admin {
namespace {

using http::Access;
using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::Path;
using http::Query;

enum class Kind { USER, GIG, MESSAGE };
BOOST_DESCRIBE_ENUM(Kind, USER, GIG, MESSAGE)
constexpr std::string_view schema_name_of(std::type_identity<Kind>) { return "ReportKind"; }
enum class Status { OPEN, DISMISSED, ACTION_TAKEN };
BOOST_DESCRIBE_ENUM(Status, OPEN, DISMISSED, ACTION_TAKEN)
constexpr std::string_view schema_name_of(std::type_identity<Status>) { return "ReportStatus"; }
enum class Resolution { DISMISSED, ACTION_TAKEN };
BOOST_DESCRIBE_ENUM(Resolution, DISMISSED, ACTION_TAKEN)

// --- rows ------------------------------------------------------------------------------------------------------------

struct NewRow {
  Uuid id, reporter_id;
  Kind kind;
  Uuid target_id;
  std::optional<Uuid> reported_id;
  std::string reason;
  std::optional<std::string> comment;
  std::string content;
};
BOOST_DESCRIBE_STRUCT(NewRow, (), (id, reporter_id, kind, target_id, reported_id, reason, comment, content))

struct ReportRow {
  Uuid id;
  Kind kind;
  Uuid target_id, reporter_id;
  std::optional<Uuid> reported_id;
  std::string reason;
  std::optional<std::string> comment;
  std::string content;
  Status status;
  std::optional<std::string> note;
  Timestamp created_at;
  std::optional<Timestamp> resolved_at;
  std::optional<Uuid> resolved_by;
};
BOOST_DESCRIBE_STRUCT(ReportRow, (),
                      (id, kind, target_id, reporter_id, reported_id, reason, comment, content, status, note,
                       created_at, resolved_at, resolved_by))

struct PageRow {
  std::optional<Status> status;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(PageRow, (), (status, before_id, page))

struct ResolveRow {
  Uuid id, admin_id, audit_id;
  Resolution resolution;
  std::optional<std::string> note;
};
BOOST_DESCRIBE_STRUCT(ResolveRow, (), (id, admin_id, audit_id, resolution, note))

const db::Query<ReportRow, NewRow> insert_report{sql::report};
const db::Query<ReportRow, PageRow> select_reports{sql::reports};
const db::Query<ReportRow, Uuid> select_report{sql::report_by_id};
const db::Query<ReportRow, Uuid> lock_report{sql::lock_report};
const db::Query<ReportRow, ResolveRow> resolve_one{sql::resolve};

// --- reporting -------------------------------------------------------------------------------------------------------

struct NewReport {
  static constexpr std::array notes{Note{"user_id", "exactly one of user_id, gig_id and message_id"},
                                    Note{"reason", "a word or a short sentence"}};
  std::optional<Uuid> user_id;
  std::optional<Uuid> gig_id;
  std::optional<Uuid> message_id;
  Text<1, 200> reason;
  std::optional<Text<1, 2000>> comment;

  static void check(const NewReport& report, std::vector<Fault>& faults) {
    if (int{report.user_id.has_value()} + int{report.gig_id.has_value()} + int{report.message_id.has_value()} != 1) {
      faults.push_back({"user_id", "not_one", "give exactly one of user_id, gig_id and message_id"});
    }
  }
};
BOOST_DESCRIBE_STRUCT(NewReport, (), (user_id, gig_id, message_id, reason, comment))

/// As who made it sees it: what comes of it is between administrators.
struct MadeReport {
  static constexpr bool is_answer = true;
  Uuid id;
  std::optional<Uuid> user_id, gig_id, message_id;
  std::string reason;
  std::optional<std::string> comment;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(MadeReport, (), (id, user_id, gig_id, message_id, reason, comment, created_at))

MadeReport to_made(ReportRow&& row) {
  MadeReport made{row.id, {}, {}, {}, std::move(row.reason), std::move(row.comment), row.created_at};
  (row.kind == Kind::USER ? made.user_id : row.kind == Kind::GIG ? made.gig_id : made.message_id) = row.target_id;
  return made;
}

constexpr Endpoint make_report{
    .method = Method::post,
    .path = "/api/reports",
    .name = "admin.report",
    .summary = "Report a person, a gig or a message to the administrators",
    .description =
        "Of what the caller can see; anything else is 404. A copy of it is kept, whatever becomes of it. A person can "
        "be reported across a block too, and so can the messages of a room of the caller's. The reported are not told. "
        "The same thing again while the first report is open is 409.",
    .effect = Effect::change,
    .status = 201,
    .errors = {ErrorCode::not_found, ErrorCode::already_reported, ErrorCode::self_report}};

struct Reported {
  Kind kind;
  Uuid id;
  std::optional<Uuid> owner;
  std::string content;
};

/// What is reported as it is now, with whose it is. Throws not_found for what the caller cannot see.
Awaitable<Reported> reported_of(Call& call, const NewReport& report) {
  if (report.user_id) {
    const auto user = co_await users::find(call.db(), *report.user_id);
    if (!user) throw Problem(ErrorCode::not_found);
    co_return Reported{Kind::USER, user->id, user->id, reflect::to_json(*user)};
  }
  if (report.gig_id) {
    const auto gig = co_await gigs::find(call.db(), *report.gig_id, call.user());
    if (!gig) throw Problem(ErrorCode::not_found);
    co_return Reported{Kind::GIG, gig->id, gig->seeker.id, reflect::to_json(*gig)};
  }
  const auto message = co_await chat::find_message(call.db(), report.message_id.value(), call.user());
  if (!message) throw Problem(ErrorCode::not_found);
  co_return Reported{Kind::MESSAGE, message->id, message->sender_id, reflect::to_json(*message)};
}

Awaitable<MadeReport> post_report(Deps&, Call& call, Body<NewReport> body) {
  Reported what = co_await reported_of(call, body.value);
  if (what.owner == call.user()) throw Problem(ErrorCode::self_report);
  NewRow row{make_uuid(), call.user(),        what.kind,    what.id,
             what.owner,  body->reason.value, std::nullopt, std::move(what.content)};
  if (body->comment) row.comment = body->comment->value;
  ReportRow made = co_await db::one(call.db(), insert_report, row);
  call.header("Location", "/api/reports/" + to_string(made.id));
  co_return to_made(std::move(made));
}

struct ReportPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(ReportPath, (), (id))

constexpr Endpoint read_own{.method = Method::get,
                            .path = "/api/reports/{id}",
                            .name = "admin.own_report",
                            .summary = "A report that the caller made",
                            .errors = {ErrorCode::not_found},
                            .etag = true};

Awaitable<MadeReport> get_own(Deps&, Call& call, Path<ReportPath> path) {
  auto row = co_await db::maybe(call.db(), select_report, path->id);
  if (!row || row->reporter_id != call.user()) throw Problem(ErrorCode::not_found);
  co_return to_made(std::move(*row));
}

// --- for administrators ----------------------------------------------------------------------------------------------

struct Report {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"target_id", "of the person, the gig or the message, as `kind` says"},
      Note{"reported_id", "whose it is: the person, the seeker, the sender; null for a SYSTEM message"},
      Note{"content", "what was reported, as its reporter saw it then"}};
  Uuid id;
  Kind kind = Kind::USER;
  Uuid target_id, reporter_id;
  std::optional<Uuid> reported_id;
  std::string reason;
  std::optional<std::string> comment;
  RawObject content;
  Status status = Status::OPEN;
  std::optional<std::string> note;
  Timestamp created_at;
  std::optional<Timestamp> resolved_at;
  std::optional<Uuid> resolved_by;
};
BOOST_DESCRIBE_STRUCT(Report, (),
                      (id, kind, target_id, reporter_id, reported_id, reason, comment, content, status, note,
                       created_at, resolved_at, resolved_by))

Report to_report(ReportRow&& row) {
  return {row.id,
          row.kind,
          row.target_id,
          row.reporter_id,
          row.reported_id,
          std::move(row.reason),
          std::move(row.comment),
          {std::move(row.content)},
          row.status,
          std::move(row.note),
          row.created_at,
          row.resolved_at,
          row.resolved_by};
}

struct ReportList {
  static constexpr bool is_answer = true;
  std::vector<Report> reports;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(ReportList, (), (reports, next_cursor))

struct ReportsQuery {
  std::optional<Status> status;
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
};
BOOST_DESCRIBE_STRUCT(ReportsQuery, (), (status, limit, cursor))

struct ReportsPosition {
  std::optional<Status> status;
  Uuid before_id = http::last_uuid();
};
BOOST_DESCRIBE_STRUCT(ReportsPosition, (), (status, before_id))

constexpr Endpoint list_reports{.method = Method::get,
                                .path = "/api/admin/reports",
                                .name = "admin.reports",
                                .summary = "Reports, newest first",
                                .description = "A cursor goes on with the filter of the first page.",
                                .access = Access::admin,
                                .errors = {ErrorCode::invalid_cursor}};

Awaitable<ReportList> get_reports(Deps& deps, Call& call, Query<ReportsQuery> query) {
  ReportsPosition at{query->status};
  if (query->cursor) at = http::from_cursor<ReportsPosition>(deps.cursor_key, call.user(), query->cursor->value);
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  const PageRow wanted{at.status, at.before_id, static_cast<std::int64_t>(limit) + 1};
  auto rows = co_await db::all(call.db(), select_reports, wanted);
  ReportList list;
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), at,
                                    [](ReportsPosition& end, const ReportRow& last) { end.before_id = last.id; });
  for (ReportRow& row : rows) list.reports.push_back(to_report(std::move(row)));
  co_return list;
}

constexpr Endpoint read_report{.method = Method::get,
                               .path = "/api/admin/reports/{id}",
                               .name = "admin.read_report",
                               .summary = "One report",
                               .access = Access::admin,
                               .errors = {ErrorCode::not_found},
                               .etag = true};

Awaitable<Report> get_report(Deps&, Call& call, Path<ReportPath> path) {
  auto row = co_await db::maybe(call.db(), select_report, path->id);
  if (!row) throw Problem(ErrorCode::not_found);
  co_return to_report(std::move(*row));
}

struct Resolve {
  Resolution resolution;
  std::optional<Text<1, 2000>> note;
};
BOOST_DESCRIBE_STRUCT(Resolve, (), (resolution, note))

constexpr Endpoint resolve_report{
    .method = Method::put,
    .path = "/api/admin/reports/{id}",
    .name = "admin.resolve_report",
    .summary = "Resolve a report",
    .description = "Once; what is done about it (a suspension, say) is a call of its own. Stands in the audit log.",
    .access = Access::admin,
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::report_resolved}};

Awaitable<Report> put_report(Deps&, Call& call, Path<ReportPath> path, Body<Resolve> body) {
  const auto locked = co_await db::maybe(call.db(), lock_report, path->id);
  if (!locked) throw Problem(ErrorCode::not_found);
  if (locked->status != Status::OPEN) {
    throw Problem(ErrorCode::report_resolved)
        .with("current_status", boost::describe::enum_to_string(locked->status, ""));
  }
  ResolveRow row{path->id, call.user(), make_uuid(), body->resolution, std::nullopt};
  if (body->note) row.note = body->note->value;
  co_return to_report(co_await db::one_last(call.db(), resolve_one, row));
}

}  // namespace

void install_reports(http::Router& router, Deps& deps) {
  router.add(make_report, post_report, deps);
  router.add(read_own, get_own, deps);
  router.add(list_reports, get_reports, deps);
  router.add(read_report, get_report, deps);
  router.add(resolve_report, put_report, deps);
}

}  // namespace hourz::admin
