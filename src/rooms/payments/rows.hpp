// Rows that the files of this room share. Nobody else includes this.
#pragma once
#include "rooms/payments/payments.hpp"

namespace hourz::payments {

/// As the database keeps it: what is PENDING is shown to nobody.
enum class State { PENDING, HELD, RELEASED, REFUNDED, DISPUTED, FAILED };
BOOST_DESCRIBE_ENUM(State, PENDING, HELD, RELEASED, REFUNDED, DISPUTED, FAILED)

struct Row {
  Uuid id, gig_id, payer_id, payee_id;
  Money amount, service_fee, net_amount;
  std::string currency;
  State status;
  std::string payment_method, reference;
  std::string request_key;
  std::optional<std::string> dispute_reason;
  std::optional<Uuid> disputed_by;
  std::optional<Timestamp> disputed_at;
  std::optional<Money> payee_amount, payee_fee;
  Timestamp created_at;
  std::optional<Timestamp> released_at, refunded_at;
  std::int32_t fee_bps;
  std::int64_t version;
};
BOOST_DESCRIBE_STRUCT(Row, (),
                      (id, gig_id, payer_id, payee_id, amount, service_fee, net_amount, currency, status,
                       payment_method, reference, request_key, dispute_reason, disputed_by, disputed_at, payee_amount,
                       payee_fee, created_at, released_at, refunded_at, fee_bps, version))

Transaction to_transaction(Row&& row);

/// The transaction as the answer of a call, with its ETag.
inline Transaction answer_with(http::Call& call, Row&& row) {
  call.version = row.version;
  return to_transaction(std::move(row));
}

struct TransactionPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(TransactionPath, (), (id))

void install_escrow(http::Router& router, Deps& deps);
void install_history(http::Router& router, Deps& deps);

}  // namespace hourz::payments
