// The life of a gig: accepting, withdrawing, moving on, cancelling, expiring. lifecycle.hpp says who may; one statement
// does it, under the gig's row lock.
#include "gigs_sql.hpp"
#include "rooms/chat/chat.hpp"
#include "rooms/gigs/rows.hpp"

namespace hourz::gigs {
namespace {

using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::NoContent;
using http::OptionalBody;
using http::Path;

struct MoveRow {
  Uuid id, viewer;
  std::optional<Uuid> actor_id;
  Status from_status, to_status;
  Action action;
  std::optional<std::string> reason;
};
BOOST_DESCRIBE_STRUCT(MoveRow, (), (id, viewer, actor_id, from_status, to_status, action, reason))

const db::Query<LockedRow, Viewed> lock_gig{sql::lock};
const db::Query<LockedRow, Uuid> lock_idle{sql::lock_idle};
const db::Query<Uuid, Uuid> lock_open{sql::lock_open};
const db::Query<CardRow, MoveRow> move_gig{sql::move};

Side side_of(const LockedRow& gig, const Uuid& user) {
  if (gig.seeker_id == user) return Side::seeker;
  if (gig.helper_id == user) return Side::helper;
  return Side::stranger;
}

/// Why a step is refused, in the words that fit the case best.
Problem refusal_of(const LockedRow& gig, Status to, Side who) {
  if (to == Status::ACCEPTED) {
    if (who == Side::seeker) return Problem(ErrorCode::own_gig, "A gig of your own cannot be accepted.");
    if (gig.status == Status::CANCELLED || (gig.status == Status::PENDING && gig.expired)) {
      return Problem(ErrorCode::gig_not_open).with("current_status", name_of(gig.status));
    }
    return Problem(ErrorCode::gig_already_taken, who == Side::helper ? "The gig is yours already." : "")
        .with("current_status", name_of(gig.status));
  }
  if (who == Side::stranger) return Problem(ErrorCode::forbidden, "Only the two sides of a gig can move it.");
  boost::json::array allowed;
  for (const Status status : allowed_from(gig.status, who)) allowed.push_back(name_of(status));
  Problem problem(ErrorCode::invalid_transition,
                  std::string("The gig is ") + boost::describe::enum_to_string(gig.status, "") +
                      "; you cannot make it " + boost::describe::enum_to_string(to, "") + ".");
  problem.extra["current_status"] = name_of(gig.status);
  problem.extra["allowed"] = std::move(allowed);
  return problem;
}

/// What a step's SYSTEM message in the room says.
std::string text_of(Action action, Side who, const std::optional<std::string>& reason) {
  std::string text;
  switch (action) {
    case Action::ACCEPT:
      return "The gig is accepted. You can talk here until it ends.";
    case Action::START:
      return "The work has begun.";
    case Action::COMPLETE:
      return "The gig is completed. This room is closed.";
    case Action::WITHDRAW:
      text = "The helper has stepped back. This room is closed.";
      break;
    default:
      text = who == Side::helper ? "The helper has cancelled the gig. This room is closed."
                                 : "The seeker has cancelled the gig. This room is closed.";
  }
  if (reason) text += " Reason: " + *reason;
  return text;
}

/// Takes the gig one step on: locked, asked of the table, done, told in its room, in the call's transaction, which the
/// last of these statements commits.
Awaitable<CardRow> step(const Deps& deps, db::Executor& db, const Call* call, Uuid id, Uuid user, Status to,
                        std::optional<std::string> reason) {
  const LockedRow gig = co_await lock(db, id, user);
  if (call != nullptr) call->require_match(gig.version);
  const Side who = side_of(gig, user);
  const auto transition = find_transition(gig.status, to, who);
  if (!transition || (transition->action == Action::ACCEPT && gig.expired)) throw refusal_of(gig, to, who);
  if (transition->reason_needed && !reason) throw invalid("reason", "required", "is required to stop work begun");
  const std::string told = text_of(transition->action, who, reason);
  const MoveRow row{id, user, user, gig.status, to, transition->action, std::move(reason)};
  if (gig.status == Status::PENDING && to == Status::CANCELLED) {  // nobody has a room: one round trip less
    co_return (co_await db::maybe_last(db, move_gig, row)).value();
  }
  auto done = co_await db::maybe(db, move_gig, row);
  // Whoever accepts was suspended or deleted a moment ago, or the seeker, whose gig is about to be cancelled.
  if (!done) throw Problem(ErrorCode::gig_not_open);
  CardRow moved = std::move(*done);
  const bool leaves = transition->action != Action::ACCEPT && transition->action != Action::START;
  if (leaves && deps.on_moved) co_await deps.on_moved(db, Move{id, gig.status, to});
  switch (transition->action) {
    case Action::ACCEPT:
      co_await chat::open_room(db, {id, moved.title, gig.seeker_id, user}, told);
      break;
    case Action::START:
      co_await chat::tell_room(db, id, told);
      break;
    case Action::COMPLETE:
      co_await users::count_completed_gig(db, gig.helper_id.value());
      co_await chat::close_room(db, id, told);
      break;
    default:
      co_await chat::close_room(db, id, told);
  }
  co_return moved;
}

constexpr Endpoint accept_gig{
    .method = Method::post,
    .path = "/api/gigs/{id}/accept",
    .name = "gigs.accept",
    .summary = "Accept a gig: the first helper gets it, every other 409",
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::gig_already_taken, ErrorCode::own_gig, ErrorCode::gig_not_open},
    .if_match = true};

Awaitable<Gig> post_accept(Deps& deps, Call& call, Path<GigPath> path) {
  auto row = co_await step(deps, call.db(), &call, path->id, call.user(), Status::ACCEPTED, std::nullopt);
  co_return answer_with(call, std::move(row));
}

struct Reason {
  std::optional<Text<1, 500>> reason;
};
BOOST_DESCRIBE_STRUCT(Reason, (), (reason))

constexpr Endpoint withdraw_gig{.method = Method::post,
                                .path = "/api/gigs/{id}/withdraw",
                                .name = "gigs.withdraw",
                                .summary = "The helper steps back; the gig is pending again",
                                .effect = Effect::change,
                                .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::invalid_transition},
                                .if_match = true};

Awaitable<Gig> post_withdraw(Deps& deps, Call& call, Path<GigPath> path, OptionalBody<Reason> body) {
  auto row = co_await step(deps, call.db(), &call, path->id, call.user(), Status::PENDING, value_of(body->reason));
  co_return answer_with(call, std::move(row));
}

struct SetStatus {
  Status status;
  std::optional<Text<1, 500>> reason;
};
BOOST_DESCRIBE_STRUCT(SetStatus, (), (status, reason))

constexpr Endpoint set_status{
    .method = Method::put,
    .path = "/api/gigs/{id}/status",
    .name = "gigs.set_status",
    .summary = "Take a gig to another state",
    .description =
        "PENDING to ACCEPTED by any helper, to CANCELLED by the seeker; ACCEPTED to PENDING by the helper, to "
        "IN_PROGRESS by either, to CANCELLED by the seeker; IN_PROGRESS to COMPLETED by either, to CANCELLED "
        "by either with a reason. Anything else is 409 with `current_status` and `allowed`.",
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::invalid_transition, ErrorCode::gig_already_taken,
               ErrorCode::own_gig, ErrorCode::gig_not_open},
    .if_match = true};

Awaitable<Gig> put_status(Deps& deps, Call& call, Path<GigPath> path, Body<SetStatus> body) {
  auto row = co_await step(deps, call.db(), &call, path->id, call.user(), body->status, value_of(body->reason));
  co_return answer_with(call, std::move(row));
}

constexpr Endpoint delete_gig{
    .method = Method::del,
    .path = "/api/gigs/{id}",
    .name = "gigs.cancel",
    .summary = "Cancel a gig of the caller's; nothing is erased",
    .description = "For the seeker. Work begun is stopped by PUT status, which takes a reason.",
    .effect = Effect::change,
    .status = 204,
    .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::invalid_transition},
    .if_match = true};

Awaitable<NoContent> cancel_gig(Deps& deps, Call& call, Path<GigPath> path) {
  const LockedRow gig = co_await lock(call.db(), path->id, call.user());
  if (gig.seeker_id != call.user()) throw Problem(ErrorCode::forbidden, "Only the seeker can cancel a gig this way.");
  co_await step(deps, call.db(), &call, path->id, call.user(), Status::CANCELLED, std::nullopt);
  co_return NoContent{};
}

}  // namespace

Awaitable<LockedRow> lock(db::Executor& db, Uuid id, Uuid viewer) {
  const Viewed viewed{id, viewer};
  const auto row = co_await db::maybe(db, lock_gig, viewed);
  if (!row) throw Problem(ErrorCode::not_found);
  co_return *row;
}

void install_life(http::Router& router, Deps& deps) {
  router.add(delete_gig, cancel_gig, deps);
  router.add(accept_gig, post_accept, deps);
  router.add(withdraw_gig, post_withdraw, deps);
  router.add(set_status, put_status, deps);
}

Awaitable<void> cancel_open(db::Executor& db, Uuid seeker, std::string reason) {
  for (const Uuid& id : co_await db::all(db, lock_open, seeker)) {
    const MoveRow row{id, seeker, std::nullopt, Status::PENDING, Status::CANCELLED, Action::CANCEL, reason};
    co_await db::maybe(db, move_gig, row);
  }
}

Awaitable<void> expire(db::Executor& db, Uuid gig_id) {
  const auto gig = co_await db::maybe(db, lock_idle, gig_id);
  // Whoever holds the gig may be about to write its timer: come back when it is free.
  if (!gig) throw db::Error(db::ErrorKind::retryable, "the gig is being moved");
  if (gig->status != Status::PENDING || !gig->expired) co_return;
  const auto transition = find_transition(Status::PENDING, Status::CANCELLED, Side::clock);
  const MoveRow row{gig_id,   gig->seeker_id, std::nullopt, Status::PENDING, Status::CANCELLED, transition->action,
                    "expired"};
  co_await db::maybe(db, move_gig, row);
}

}  // namespace hourz::gigs
