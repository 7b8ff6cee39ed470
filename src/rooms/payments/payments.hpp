// Payments: a seeker's money, held in escrow from the acceptance of a gig until its work is done.
//
// Owns `transactions` and the ledger (`ledger_*`), which ledger_post() in the database alone can write. Promises that
// money is held once and leaves escrow once, whatever races; that nothing is lost to rounding; that a charge whose
// answer was lost is settled by asking again; and that what a gig's moves mean for its payment happens in the
// transaction of the move. Who moves a gig is the gigs room's; who really charges a card is the provider's.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "http/router.hpp"
#include "rooms/gigs/gigs.hpp"
#include "rooms/payments/provider.hpp"

namespace hourz::payments {

using db::Awaitable;

enum class Status { HELD, RELEASED, REFUNDED, DISPUTED, FAILED };
BOOST_DESCRIBE_ENUM(Status, HELD, RELEASED, REFUNDED, DISPUTED, FAILED)
constexpr std::string_view schema_name_of(std::type_identity<Status>) { return "PaymentStatus"; }

struct Dispute {
  static constexpr bool is_answer = true;
  std::string reason;
  Uuid by;
  Timestamp at;
};
BOOST_DESCRIBE_STRUCT(Dispute, (), (reason, by, at))

struct Split {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"payee_amount", "before the fee"},
                                    Note{"service_fee", "of the payee's part; with net_amount it is payee_amount"},
                                    Note{"payer_amount", "what went back; with payee_amount it is the whole amount"}};
  Money payee_amount, service_fee, net_amount, payer_amount;
};
BOOST_DESCRIBE_STRUCT(Split, (), (payee_amount, service_fee, net_amount, payer_amount))

struct Transaction {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"service_fee", "with net_amount it is always the amount; as agreed when it was held"},
      Note{"status", "after a split RELEASED, or REFUNDED when the payee got nothing"},
      Note{"split", "how an administrator ended a dispute; null where nobody did"}};
  Uuid id, gig_id, payer_id, payee_id;
  Money amount, service_fee, net_amount;
  std::string currency;
  Status status = Status::HELD;
  std::string payment_method, reference;
  Timestamp created_at;
  std::optional<Timestamp> released_at, refunded_at;
  std::optional<Dispute> dispute;
  std::optional<Split> split;
};
BOOST_DESCRIBE_STRUCT(Transaction, (),
                      (id, gig_id, payer_id, payee_id, amount, service_fee, net_amount, currency, status,
                       payment_method, reference, created_at, released_at, refunded_at, dispute, split))

struct TransactionList {
  static constexpr bool is_answer = true;
  std::vector<Transaction> transactions;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(TransactionList, (), (transactions, next_cursor))

/// The fee of an amount: basis points of it, rounded half up to a satang. What is left is the net amount.
constexpr Money fee_of(Money amount, std::int64_t basis_points) {
  const std::int64_t whole = amount.satang / 10'000, rest = amount.satang % 10'000;
  return {whole * basis_points + (rest * basis_points + 5'000) / 10'000};
}

struct Deps {
  const Config& config;
  std::string cursor_key;
  std::shared_ptr<Provider> provider;
};

void install(http::Router& router, Deps& deps);

void add_personal_data(http::PersonalData& data);

/// What a gig's move means for its payment, in the move's own transaction: withdrawn or cancelled gives a held payment
/// back; completed starts the clock that releases it. What is disputed stays for an administrator.
Awaitable<void> gig_moved(db::Executor& db, gigs::Move move, std::int64_t auto_release_h);

// For the jobs.

/// The timer `payment.release`: releases a payment that is still held, in the timer's transaction.
Awaitable<void> release_due(db::Executor& db, Uuid transaction_id);

/// Asks the provider about every charge and repayment whose outcome is open and due.
Awaitable<void> settle(Deps& deps, db::Client& database);

/// What is open with the provider, and since when the oldest of each is.
struct Unsettled {
  std::int64_t charges, repayments, charge_age_us, repayment_age_us;
};
BOOST_DESCRIBE_STRUCT(Unsettled, (), (charges, repayments, charge_age_us, repayment_age_us))

Awaitable<Unsettled> unsettled(db::Executor& db);

/// What is in escrow: held; disputed, and since when the oldest dispute waits for an administrator; held though its gig
/// has ended and its timer is gone, fails or is late, and since when the oldest of these should have been released.
struct InEscrow {
  std::int64_t held, disputed, dispute_age_us, overdue, late_us;
};
BOOST_DESCRIBE_STRUCT(InEscrow, (), (held, disputed, dispute_age_us, overdue, late_us))

/// Reads every live payment.
Awaitable<InEscrow> in_escrow(db::Executor& db, std::int64_t auto_release_h);

/// The ledger added up again from its entries.
struct LedgerAudit {
  std::int64_t accounts = 0, journals = 0, entries = 0;
  std::vector<std::string> faults;  ///< the first broken entry first; no more than some twenty
};

/// Adds up every entry, holds balances against the sums and escrow against the transactions, and follows every chain.
/// Looks at one moment of the ledger, and hinders nobody who posts meanwhile.
Awaitable<LedgerAudit> audit_ledger(db::Executor& db);

}  // namespace hourz::payments
