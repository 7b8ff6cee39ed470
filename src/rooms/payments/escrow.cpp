// The life of a payment: held, released, refunded, disputed, split, by whom it may; and what the clock and the provider
// have to do with it. Every end is reached under the transaction's row lock, by one statement that posts to the ledger.
#include "core/log.hpp"
#include "payments_sql.hpp"
#include "rooms/payments/rows.hpp"

namespace hourz::payments {
namespace {

using http::Access;
using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::Path;

// --- rows ------------------------------------------------------------------------------------------------------------

struct GigTerms {
  Uuid seeker_id;
  std::optional<Uuid> helper_id;
  gigs::Status status;
  Money budget;
};
BOOST_DESCRIBE_STRUCT(GigTerms, (), (seeker_id, helper_id, status, budget))

struct NewRow {
  Uuid id, gig_id, payer_id, payee_id;
  Money amount;
  std::int32_t fee_bps;
  Money service_fee, net_amount;
  std::string payment_method, reference, request_key;
};
BOOST_DESCRIBE_STRUCT(NewRow, (),
                      (id, gig_id, payer_id, payee_id, amount, fee_bps, service_fee, net_amount, payment_method,
                       reference, request_key))

struct Asked {
  Uuid gig_id, payer_id;
  std::optional<Uuid> payee_id;
  std::string request_key;
};
BOOST_DESCRIBE_STRUCT(Asked, (), (gig_id, payer_id, payee_id, request_key))

struct LockedRow : Row {
  gigs::Status gig_status;
};
BOOST_DESCRIBE_STRUCT(LockedRow, (Row), (gig_status))

struct Clock {
  Uuid id;
  std::int32_t hours;
};
BOOST_DESCRIBE_STRUCT(Clock, (), (id, hours))

struct RefundRow {
  Uuid id;
  std::optional<Uuid> admin_id;
  Uuid audit_id;
};
BOOST_DESCRIBE_STRUCT(RefundRow, (), (id, admin_id, audit_id))

struct DisputeRow {
  Uuid id, by;
  std::string reason;
};
BOOST_DESCRIBE_STRUCT(DisputeRow, (), (id, by, reason))

struct SplitRow {
  Uuid id, admin_id, audit_id;
  Money payee_amount, payee_fee;
};
BOOST_DESCRIBE_STRUCT(SplitRow, (), (id, admin_id, audit_id, payee_amount, payee_fee))

struct OpenRow {
  Uuid id;
  State status;
  std::string payment_method;
  Money amount, pay_back;
};
BOOST_DESCRIBE_STRUCT(OpenRow, (), (id, status, payment_method, amount, pay_back))

const db::Query<GigTerms, Uuid> select_terms{sql::gig_terms};
const db::Query<Row, NewRow> insert_intent{sql::open};
const db::Query<Row, Asked> select_live{sql::live};
const db::Query<LockedRow, Uuid> lock_one{sql::lock};
const db::Query<Row, Uuid> lock_live{sql::lock_live};
const db::Query<Row, Clock> hold_one{sql::hold};
const db::Query<db::Nothing, Uuid> fail_one{sql::fail};
const db::Query<db::Nothing, Uuid> unknown_one{sql::unknown};
const db::Query<db::Nothing, Uuid> abandon_one{sql::abandon};
const db::Query<Row, Uuid> release_one{sql::release};
const db::Query<Row, RefundRow> refund_one{sql::refund};
const db::Query<Row, DisputeRow> dispute_one{sql::dispute};
const db::Query<Row, SplitRow> split_one{sql::split};
const db::Query<db::Nothing, Clock> arm_clock{sql::arm};
const db::Query<OpenRow> take_due{sql::due};
const db::Query<db::Nothing, Uuid> mark_paid_back{sql::paid_back};
const db::Query<Unsettled> select_unsettled{sql::unsettled};
const db::Query<InEscrow, std::int32_t> select_in_escrow{sql::in_escrow};

// --- holding ---------------------------------------------------------------------------------------------------------

struct NewEscrow {
  static constexpr std::array notes{Note{"payment_method", "of the provider; left out: its first, mock_card"}};
  Uuid gig_id;
  std::optional<Text<1, 40>> payment_method;
};
BOOST_DESCRIBE_STRUCT(NewEscrow, (), (gig_id, payment_method))

constexpr Endpoint hold_escrow{
    .method = Method::post,
    .path = "/api/transactions/escrow",
    .name = "payments.hold",
    .summary = "Pay for a gig: the money is held until the work is done",
    .description =
        "For the gig's seeker, once it is accepted; the amount is its budget. One live payment a gig. The mock "
        "provider's "
        "methods are mock_card, mock_declined (402), mock_slow, and mock_timeout, which charges without an answer: "
        "then "
        "this call is 503, and the same call with the same idempotency key gives the payment once it is settled.",
    .effect = Effect::change,
    .status = 201,
    .errors = {ErrorCode::payment_declined, ErrorCode::forbidden, ErrorCode::not_found, ErrorCode::gig_not_payable,
               ErrorCode::nothing_to_pay, ErrorCode::escrow_exists}};

boost::json::string name_of(State state) { return boost::describe::enum_to_string(state, ""); }

/// The method asked for, as the provider spells it.
std::string method_of(const Deps& deps, const NewEscrow& body) {
  const auto known = deps.provider->methods();
  if (!body.payment_method) return known.front();
  const std::string wanted = fold_case(body.payment_method->value);
  std::string list;
  for (const std::string& one : known) {
    if (one == wanted) return one;
    list += (list.empty() ? "" : ", ") + one;
  }
  throw invalid("payment_method", "not_in_list", "must be one of " + list);
}

/// What people name a payment by to each other.
std::string reference_of(const Uuid& id) {
  std::string text = to_string(id).substr(24);
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  }
  return "HZ-" + text;
}

Problem not_payable(gigs::Status status) {
  return Problem(ErrorCode::gig_not_payable).with("current_status", boost::describe::enum_to_string(status, ""));
}

/// The intent that the call's charge is for, newly written or left by an earlier try with the same key.
Awaitable<Row> intent_of(Deps& deps, Call& call, Uuid gig_id, std::string method) {
  const auto gig = co_await db::maybe(call.db(), select_terms, gig_id);
  if (!gig) throw Problem(ErrorCode::not_found);
  if (gig->seeker_id != call.user()) throw Problem(ErrorCode::forbidden, "Only the seeker can pay for a gig.");
  // Without a key it is the request itself that a second attempt of ours, after a deadlock, knows its intent by: by our
  // id of it, since a client may call all of its requests the same.
  const auto sent = call.head.header("idempotency-key");
  const std::string key = sent ? "key " + std::string(*sent) : "request " + to_string(call.id);
  const bool payable = gig->status == gigs::Status::ACCEPTED || gig->status == gigs::Status::IN_PROGRESS;
  if (payable) {
    if (gig->budget.satang == 0) throw Problem(ErrorCode::nothing_to_pay);
    const Money fee = fee_of(gig->budget, deps.config.fee_bps);
    NewRow row{make_uuid(),
               gig_id,
               call.user(),
               gig->helper_id.value(),
               gig->budget,
               static_cast<std::int32_t>(deps.config.fee_bps),
               fee,
               {gig->budget.satang - fee.satang},
               std::move(method),
               {},
               key};
    row.reference = reference_of(row.id);
    auto made = co_await db::maybe(call.db(), insert_intent, row);
    if (made) co_return std::move(*made);
  }
  auto live = co_await db::maybe(call.db(), select_live, Asked{gig_id, call.user(), gig->helper_id, key});
  const bool same = live && live->request_key == key && live->payer_id == call.user();
  if (same && live->payee_id == gig->helper_id) co_return std::move(*live);
  if (!payable) throw not_payable(gig->status);
  // One that was in the way a moment ago and is gone: the next try finds none.
  if (!live) throw db::Error(db::ErrorKind::retryable, "a payment ended meanwhile");
  throw Problem(ErrorCode::escrow_exists);
}

Awaitable<Charge> ask_for_charge(Provider& provider, Uuid key, std::string method, Money amount) {
  try {
    co_return co_await provider.charge(key, std::move(method), amount);
  } catch (const std::exception& error) {
    log::Line(log::Level::warn, "payment.provider_failed").with("cause", error.what());
  }
  co_return Charge::unknown;
}

/// In a transaction of its own: the call's is rolled back with the refusal.
Awaitable<void> run_apart(db::Client& database, const db::Query<db::Nothing, Uuid>& statement, Uuid id) {
  const auto transaction = database.begin();
  co_await db::run_last(*transaction, statement, id);
}

/// After a charge: the row as it is then, held if it was still to be. Holds the row.
Awaitable<Row> held(db::Executor& db, Uuid id, std::int64_t auto_release_h) {
  LockedRow row = co_await db::one(db, lock_one, id);
  if (row.status != State::PENDING) co_return std::move(row);
  const Clock clock{id, static_cast<std::int32_t>(auto_release_h)};
  co_return co_await db::one(db, hold_one, clock);
}

Awaitable<Transaction> post_escrow(Deps& deps, Call& call, Body<NewEscrow> body) {
  const std::string method = method_of(deps, body.value);
  Row row = co_await intent_of(deps, call, body->gig_id, method);
  bool declined = false;
  if (row.status == State::PENDING) {
    // The intent is safe and nothing is held open while the provider takes its time.
    co_await call.commit_and_go_on();
    const Charge outcome = co_await ask_for_charge(*deps.provider, row.id, row.payment_method, row.amount);
    if (outcome == Charge::unknown) {
      co_await run_apart(call.database, unknown_one, row.id);
      throw Problem(ErrorCode::service_unavailable,
                    "The payment provider has not answered. The payment will be settled; ask again with the same key.")
          .retry_after(2);
    }
    declined = outcome == Charge::declined;
    if (declined) co_await run_apart(call.database, fail_one, row.id);
    row = co_await held(call.db(), row.id, deps.config.auto_release_h);
  }
  if (row.status == State::FAILED) {
    if (declined) throw Problem(ErrorCode::payment_declined);
    throw Problem(ErrorCode::gig_not_payable, "The gig moved on meanwhile; what was charged is given back.");
  }
  call.header("Location", "/api/transactions/" + to_string(row.id));
  co_return answer_with(call, std::move(row));
}

// --- ending ----------------------------------------------------------------------------------------------------------

Problem not_open(State state) { return Problem(ErrorCode::payment_not_open).with("current_status", name_of(state)); }

bool is_side(const Row& row, const Uuid& user) { return row.payer_id == user || row.payee_id == user; }

/// The payment, locked. Throws not_found for whom GET does not show it to: who is neither one of its sides nor an
/// administrator.
Awaitable<LockedRow> lock(Call& call, Uuid id) {
  auto row = co_await db::maybe(call.db(), lock_one, id);
  const bool payer = row && row->payer_id == call.user();
  const bool payee = row && row->payee_id == call.user() && row->status != State::FAILED;
  const bool shown = payer || payee || call.caller->role == http::Role::ADMIN;
  if (!row || row->status == State::PENDING || !shown) throw Problem(ErrorCode::not_found);
  co_return std::move(*row);
}

constexpr Endpoint release_payment{
    .method = Method::put,
    .path = "/api/transactions/{id}/release",
    .name = "payments.release",
    .summary = "Release a held payment to the helper",
    .description =
        "For the payer, once the gig is COMPLETED; 72 hours after that it happens by itself, unless disputed. Again on "
        "a released payment: the same answer, and nothing moves. The payee and administrators, who may read it, get "
        "403.",
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::gig_not_completed, ErrorCode::payment_not_open}};

Awaitable<Transaction> put_release(Deps&, Call& call, Path<TransactionPath> path) {
  LockedRow row = co_await lock(call, path->id);
  if (row.payer_id != call.user()) throw Problem(ErrorCode::forbidden, "Only the payer can release a payment.");
  if (row.status == State::RELEASED && !row.payee_amount) co_return answer_with(call, std::move(row));
  if (row.status != State::HELD) throw not_open(row.status);
  if (row.gig_status != gigs::Status::COMPLETED) throw Problem(ErrorCode::gig_not_completed);
  auto released = co_await db::maybe_last(call.db(), release_one, path->id);
  co_return answer_with(call, std::move(released.value()));
}

constexpr Endpoint refund_payment{
    .method = Method::put,
    .path = "/api/transactions/{id}/refund",
    .name = "payments.refund",
    .summary = "Give a held or disputed payment back to the payer",
    .description =
        "For administrators; a payer gets it back by cancelling the gig, and when the helper withdraws. Again on a "
        "refunded payment: the same answer, and nothing moves.",
    .access = Access::admin,
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::payment_not_open}};

Awaitable<Transaction> put_refund(Deps&, Call& call, Path<TransactionPath> path) {
  LockedRow row = co_await lock(call, path->id);
  if (row.status == State::REFUNDED && !row.payee_amount) co_return answer_with(call, std::move(row));
  if (row.status != State::HELD && row.status != State::DISPUTED) throw not_open(row.status);
  const RefundRow refund{path->id, call.user(), make_uuid()};
  auto refunded = co_await db::maybe_last(call.db(), refund_one, refund);
  co_return answer_with(call, std::move(refunded.value()));
}

struct NewDispute {
  Text<1, 1000> reason;
};
BOOST_DESCRIBE_STRUCT(NewDispute, (), (reason))

constexpr Endpoint dispute_payment{
    .method = Method::put,
    .path = "/api/transactions/{id}/dispute",
    .name = "payments.dispute",
    .summary = "Stop a held payment until an administrator has decided",
    .description =
        "For either side, before it is released. Nothing moves it then but an administrator's split or refund: neither "
        "the clock nor the payer, nor cancelling the gig. An administrator who is neither side gets 403.",
    .effect = Effect::change,
    .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::payment_not_open}};

Awaitable<Transaction> put_dispute(Deps&, Call& call, Path<TransactionPath> path, Body<NewDispute> body) {
  LockedRow row = co_await lock(call, path->id);
  if (!is_side(row, call.user())) {
    throw Problem(ErrorCode::forbidden, "Only the payer and the payee can dispute a payment.");
  }
  if (row.status != State::HELD) throw not_open(row.status);
  const DisputeRow dispute{path->id, call.user(), body->reason.value};
  auto disputed = co_await db::maybe_last(call.db(), dispute_one, dispute);
  co_return answer_with(call, std::move(disputed.value()));
}

struct NewSplit {
  static constexpr std::array notes{Note{"payee_amount", "0 to the whole amount; the fee is taken of it"}};
  Money payee_amount;
};
BOOST_DESCRIBE_STRUCT(NewSplit, (), (payee_amount))

constexpr Endpoint split_payment{.method = Method::put,
                                 .path = "/api/transactions/{id}/split",
                                 .name = "payments.split",
                                 .summary = "End a dispute: so much to the payee, the rest back to the payer",
                                 .description =
                                     "For administrators. The fee is that of the payee's part, at the rate of the "
                                     "payment; the payer's part bears none. "
                                     "The answer's `split` has the parts.",
                                 .access = Access::admin,
                                 .effect = Effect::change,
                                 .errors = {ErrorCode::not_found, ErrorCode::payment_not_open}};

Awaitable<Transaction> put_split(Deps&, Call& call, Path<TransactionPath> path, Body<NewSplit> body) {
  LockedRow row = co_await lock(call, path->id);
  if (row.status != State::DISPUTED) throw not_open(row.status);
  if (body->payee_amount > row.amount) {
    throw invalid("payee_amount", "out_of_range", "must be at most the amount, " + to_string(row.amount));
  }
  const Money fee = fee_of(body->payee_amount, row.fee_bps);
  const SplitRow split{path->id, call.user(), make_uuid(), body->payee_amount, fee};
  auto ended = co_await db::maybe_last(call.db(), split_one, split);
  co_return answer_with(call, std::move(ended.value()));
}

// --- settling --------------------------------------------------------------------------------------------------------

Awaitable<void> settle_one(Deps& deps, db::Client& database, OpenRow row) {
  if (row.status != State::PENDING) {
    if (co_await deps.provider->pay_back(row.id, row.payment_method, row.pay_back)) {
      co_await run_apart(database, mark_paid_back, row.id);
    }
    co_return;
  }
  const Charge outcome = co_await ask_for_charge(*deps.provider, row.id, row.payment_method, row.amount);
  if (outcome == Charge::declined) co_await run_apart(database, fail_one, row.id);
  if (outcome != Charge::charged) co_return;
  const auto transaction = database.begin();
  co_await held(*transaction, row.id, deps.config.auto_release_h);
  co_await transaction->commit();
}

}  // namespace

Awaitable<void> gig_moved(db::Executor& db, gigs::Move move, std::int64_t auto_release_h) {
  const bool back = move.to == gigs::Status::CANCELLED || (move.to == gigs::Status::PENDING);
  if (!back && move.to != gigs::Status::COMPLETED) co_return;
  const auto live = co_await db::maybe(db, lock_live, move.gig_id);
  if (!live) co_return;
  if (live->status == State::PENDING && back) {
    co_await db::run(db, abandon_one, live->id);
  } else if (live->status == State::HELD && back) {
    const RefundRow refund{live->id, std::nullopt, make_uuid()};
    co_await db::maybe(db, refund_one, refund);
  } else if (live->status == State::HELD) {
    const Clock clock{live->id, static_cast<std::int32_t>(auto_release_h)};
    co_await db::run(db, arm_clock, clock);
  }
}

Awaitable<void> release_due(db::Executor& db, Uuid transaction_id) {
  const auto row = co_await db::maybe(db, lock_one, transaction_id);
  if (row && row->status == State::HELD) co_await db::maybe(db, release_one, transaction_id);
}

Awaitable<void> settle(Deps& deps, db::Client& database) {
  std::vector<OpenRow> due;
  {
    const auto transaction = database.begin();
    due = co_await db::all(*transaction, take_due);
    co_await transaction->commit();
  }
  for (OpenRow& row : due) {
    try {
      co_await settle_one(deps, database, row);
    } catch (const std::exception& error) {
      log::Line(log::Level::warn, "payment.unsettled")
          .with("transaction", to_string(row.id))
          .with("cause", error.what());
    }
  }
}

Awaitable<Unsettled> unsettled(db::Executor& db) { co_return co_await db::one(db, select_unsettled); }

Awaitable<InEscrow> in_escrow(db::Executor& db, std::int64_t auto_release_h) {
  co_return co_await db::one(db, select_in_escrow, static_cast<std::int32_t>(auto_release_h));
}

void install_escrow(http::Router& router, Deps& deps) {
  router.add(hold_escrow, post_escrow, deps);
  router.add(release_payment, put_release, deps);
  router.add(refund_payment, put_refund, deps);
  router.add(dispute_payment, put_dispute, deps);
  router.add(split_payment, put_split, deps);
}

}  // namespace hourz::payments
