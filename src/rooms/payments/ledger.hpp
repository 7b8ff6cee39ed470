// The ledger's chain of hashes, said once more in C++: what ledger_post() of the migrations writes, the audit computes
// again from here. Texts and order are theirs to keep the same; a test audits what the database wrote. Nothing here
// writes: postings are made by the room's statements.
#pragma once
#include "core/crypto.hpp"
#include "rooms/payments/payments.hpp"

namespace hourz::payments::ledger {

struct Journal {
  std::int64_t chain, number;
  std::string kind;
  Uuid transaction_id;
  Timestamp at;
};

struct Line {
  std::int64_t line;
  std::string_view account_kind, account_owner;
  std::int64_t amount;
};

/// The link after a journal's head, and after one of its lines, given the link before.
Mac link_of(std::string_view previous, const Journal& journal);
Mac link_of(std::string_view previous, const Line& line);

}  // namespace hourz::payments::ledger
