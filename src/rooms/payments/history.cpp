// What people see of payments: one, a gig's, all of theirs, sums, the wallet, and what a fee would be.
#include "http/cursor.hpp"
#include "payments_sql.hpp"
#include "rooms/payments/rows.hpp"

namespace hourz {
namespace payments {

/// What many payments come to: not bounded as one amount is.
struct Sum {
  Money money;
  Sum(Money of = {}) : money(of) {}
};

}  // namespace payments

template <>
struct reflect::Leaf<payments::Sum> {
  static void write(std::string& out, payments::Sum sum) { Leaf<Money>::write(out, sum.money); }
  static json::object schema() {
    return {{"type", "number"}, {"minimum", 0}, {"description", "baht, at most two decimals"}};
  }
};

}  // namespace hourz

namespace hourz::payments {
namespace {

using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::Path;
using http::Query;

struct Viewed {
  Uuid id, viewer;
  bool is_admin;
};
BOOST_DESCRIBE_STRUCT(Viewed, (), (id, viewer, is_admin))

struct HistoryPage {
  Uuid viewer;
  bool as_payer, as_payee;
  std::optional<Status> status;
  Timestamp before;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(HistoryPage, (), (viewer, as_payer, as_payee, status, before, before_id, page))

struct SumsRow {
  Money paid, held, refunded, earned, awaited, fees;
  std::int64_t transactions;
};
BOOST_DESCRIBE_STRUCT(SumsRow, (), (paid, held, refunded, earned, awaited, fees, transactions))

struct WalletRow {
  Money balance, held;
};
BOOST_DESCRIBE_STRUCT(WalletRow, (), (balance, held))

const db::Query<Row, Viewed> select_one{sql::by_id};
const db::Query<Row, Viewed> select_of_gig{sql::of_gig};
const db::Query<Row, HistoryPage> select_history{sql::history};
const db::Query<SumsRow, Uuid> select_summary{sql::summary};
const db::Query<WalletRow, std::string> select_wallet{sql::wallet};

constexpr std::string_view currency = "THB";

// --- one -------------------------------------------------------------------------------------------------------------

constexpr Endpoint read_payment{.method = Method::get,
                                .path = "/api/transactions/{id}",
                                .name = "payments.read",
                                .summary = "A payment, for its two sides",
                                .description = "A payment that failed is the payer's alone.",
                                .errors = {ErrorCode::not_found},
                                .etag = true};

Awaitable<Transaction> read_with(Call& call, const db::Query<Row, Viewed>& query, Uuid id) {
  const Viewed viewed{id, call.user(), call.caller->role == http::Role::ADMIN};
  auto row = co_await db::maybe(call.db(), query, viewed);
  if (!row) throw Problem(ErrorCode::not_found);
  co_return answer_with(call, std::move(*row));
}

Awaitable<Transaction> get_payment(Deps&, Call& call, Path<TransactionPath> path) {
  return read_with(call, select_one, path->id);
}

struct GigPath {
  Uuid gig_id;
};
BOOST_DESCRIBE_STRUCT(GigPath, (), (gig_id))

constexpr Endpoint read_of_gig{
    .method = Method::get,
    .path = "/api/transactions/gig/{gig_id}",
    .name = "payments.of_gig",
    .summary = "A gig's payment, for its two sides",
    .description = "The newest, where there were several; one that failed only if no other did better.",
    .errors = {ErrorCode::not_found},
    .etag = true};

Awaitable<Transaction> get_of_gig(Deps&, Call& call, Path<GigPath> path) {
  return read_with(call, select_of_gig, path->gig_id);
}

// --- all -------------------------------------------------------------------------------------------------------------

enum class Side { PAYER, PAYEE };
BOOST_DESCRIBE_ENUM(Side, PAYER, PAYEE)

struct HistoryQuery {
  static constexpr std::array notes{Note{"role", "what the caller is to it; left out: either"}};
  std::optional<Side> role;
  std::optional<Status> status;
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
};
BOOST_DESCRIBE_STRUCT(HistoryQuery, (), (role, status, limit, cursor))

/// Where a page ended, and the filter that it was read with.
struct Position {
  std::optional<Side> role;
  std::optional<Status> status;
  Timestamp before{253402300799'000000};
  Uuid before_id = http::last_uuid();
};
BOOST_DESCRIBE_STRUCT(Position, (), (role, status, before, before_id))

constexpr Endpoint list_history{.method = Method::get,
                                .path = "/api/transactions/history",
                                .name = "payments.history",
                                .summary = "The caller's payments, newest first",
                                .description = "A cursor goes on with the filter of the first page.",
                                .errors = {ErrorCode::invalid_cursor}};

Awaitable<TransactionList> get_history(Deps& deps, Call& call, Query<HistoryQuery> query) {
  Position at;
  at.role = query->role;
  at.status = query->status;
  if (query->cursor) at = http::from_cursor<Position>(deps.cursor_key, call.user(), query->cursor->value);
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  const HistoryPage wanted{call.user(),
                           at.role != Side::PAYEE,
                           at.role != Side::PAYER,
                           at.status,
                           at.before,
                           at.before_id,
                           static_cast<std::int64_t>(limit) + 1};
  auto rows = co_await db::all(call.db(), select_history, wanted);
  TransactionList list;
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), at);
  for (Row& row : rows) list.transactions.push_back(to_transaction(std::move(row)));
  co_return list;
}

struct PaymentSummary {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"paid", "as payer: released to helpers"},
                                    Note{"held", "as payer: in escrow, disputed or not"},
                                    Note{"refunded", "as payer: given back"},
                                    Note{"earned", "as payee: received, less fees"},
                                    Note{"awaited", "as payee: what escrow would bring, less fees"},
                                    Note{"fees", "as payee: fees of what was earned"},
                                    Note{"transactions", "how many, failed ones left out"}};
  Sum paid, held, refunded, earned, awaited, fees;
  std::int64_t transactions = 0;
  std::string currency;
};
BOOST_DESCRIBE_STRUCT(PaymentSummary, (), (paid, held, refunded, earned, awaited, fees, transactions, currency))

constexpr Endpoint read_summary{.method = Method::get,
                                .path = "/api/transactions/summary",
                                .name = "payments.summary",
                                .summary = "The caller's payments in sums"};

Awaitable<PaymentSummary> get_summary(Deps&, Call& call) {
  const SumsRow sums = co_await db::one(call.db(), select_summary, call.user());
  co_return PaymentSummary{sums.paid,    sums.held, sums.refunded,     sums.earned,
                           sums.awaited, sums.fees, sums.transactions, std::string(currency)};
}

// --- the wallet and the fee ------------------------------------------------------------------------------------------

struct Wallet {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"balance", "earned and received"},
                                    Note{"held", "the caller's own money that is in escrow"}};
  Sum balance, held;
  std::string currency;
};
BOOST_DESCRIBE_STRUCT(Wallet, (), (balance, held, currency))

constexpr Endpoint read_wallet{.method = Method::get,
                               .path = "/api/wallet",
                               .name = "payments.wallet",
                               .summary = "The caller's wallet, as the ledger has it"};

Awaitable<Wallet> get_wallet(Deps&, Call& call) {
  const WalletRow row = co_await db::one(call.db(), select_wallet, to_string(call.user()));
  co_return Wallet{row.balance, row.held, std::string(currency)};
}

struct FeeQuestion {
  Money amount;
};
BOOST_DESCRIBE_STRUCT(FeeQuestion, (), (amount))

struct Fee {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"fee_bps", "basis points: 500 is 5 %"}};
  Money amount, service_fee, net_amount;
  std::int64_t fee_bps = 0;
};
BOOST_DESCRIBE_STRUCT(Fee, (), (amount, service_fee, net_amount, fee_bps))

constexpr Endpoint calculate_fee{
    .method = Method::post,
    .path = "/api/transactions/calculate-fee",
    .name = "payments.calculate_fee",
    .summary = "What a helper would get of an amount",
    .description = "Rounded half up to a satang; service_fee and net_amount make the amount. Moves nothing.",
    .effect = Effect::change,
    .idempotent = false};

Awaitable<Fee> post_fee(Deps& deps, Call&, Body<FeeQuestion> body) {
  const Money fee = fee_of(body->amount, deps.config.fee_bps);
  co_return Fee{body->amount, fee, {body->amount.satang - fee.satang}, deps.config.fee_bps};
}

}  // namespace

Transaction to_transaction(Row&& row) {
  Transaction made{row.id,
                   row.gig_id,
                   row.payer_id,
                   row.payee_id,
                   row.amount,
                   row.service_fee,
                   row.net_amount,
                   std::move(row.currency),
                   Status::FAILED,
                   std::move(row.payment_method),
                   std::move(row.reference),
                   row.created_at,
                   row.released_at,
                   row.refunded_at,
                   {},
                   {}};
  boost::describe::enum_from_string(boost::describe::enum_to_string(row.status, ""), made.status);
  if (row.disputed_by) made.dispute = Dispute{row.dispute_reason.value_or(""), *row.disputed_by, *row.disputed_at};
  if (row.payee_amount && row.payee_fee) {
    made.split = Split{*row.payee_amount,
                       *row.payee_fee,
                       {row.payee_amount->satang - row.payee_fee->satang},
                       {row.amount.satang - row.payee_amount->satang}};
  }
  return made;
}

void install_history(http::Router& router, Deps& deps) {
  router.add(read_payment, get_payment, deps);
  router.add(read_of_gig, get_of_gig, deps);
  router.add(list_history, get_history, deps);
  router.add(read_summary, get_summary, deps);
  router.add(read_wallet, get_wallet, deps);
  router.add(calculate_fee, post_fee, deps);
}

void install(http::Router& router, Deps& deps) {
  install_escrow(router, deps);
  install_history(router, deps);
}

}  // namespace hourz::payments
