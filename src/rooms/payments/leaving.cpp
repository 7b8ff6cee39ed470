// What the end of an account means for its money: none may be held, and the ledger stays as it is.
#include "payments_sql.hpp"
#include "rooms/payments/payments.hpp"

namespace hourz::payments {
namespace {

const http::ExportQuery export_transactions{sql::export_transactions};
const http::ExportQuery export_entries{sql::export_entries};
const db::Query<bool, Uuid> select_open{sql::is_open};

Awaitable<std::optional<ErrorCode>> obstacle(db::Executor& db, Uuid user) {
  if (co_await db::one(db, select_open, user)) co_return ErrorCode::payment_held;
  co_return std::nullopt;
}

}  // namespace

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"transactions", &export_transactions});
  data.parts.push_back({"ledger_entries", &export_entries});
  data.obstacles.emplace_back(obstacle);
}

}  // namespace hourz::payments
