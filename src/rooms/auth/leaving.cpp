// What the end of an account means for its sessions, and proof that its owner wants it.
#include "auth_sql.hpp"
#include "rooms/auth/auth.hpp"

namespace hourz::auth {
namespace {

struct AllOf {
  Uuid user_id;
  std::string reason;
};
BOOST_DESCRIBE_STRUCT(AllOf, (), (user_id, reason))

const db::Query<db::Nothing, AllOf> end_all{sql::end_all};
const db::Query<bool, Uuid> select_fresh{sql::is_fresh};
const http::ExportQuery export_sessions{sql::export_sessions};
const http::ExportQuery export_mails{sql::export_mails};
const db::Query<db::Nothing, Uuid> erase_mails{sql::erase_mails};
const db::Query<db::Nothing, Uuid> erase_sessions{sql::erase_sessions};
const db::Query<db::Nothing, Uuid> erase_tickets{sql::erase_tickets};

Awaitable<void> erase(db::Executor& db, Uuid user) {
  co_await db::run(db, erase_sessions, user);
  co_await db::run(db, erase_tickets, user);
  co_await db::run(db, erase_mails, user);
}

}  // namespace

Awaitable<void> end_sessions(Deps& deps, http::Call& call, Uuid user, std::string reason) {
  const AllOf all{user, std::move(reason)};
  co_await db::run(call.db(), end_all, all);
  call.after_commit([&revocations = deps.revocations, user] { revocations.bump(user); });
}

Awaitable<void> prove_owner(Deps& deps, http::Call& call, std::optional<std::string> password) {
  if (password) {
    std::string stored = co_await users::password_hash(call.database.reads(), call.user());
    if (!co_await deps.hasher.verify(std::move(*password), std::move(stored))) throw Problem(ErrorCode::wrong_password);
    co_return;
  }
  const auto fresh = co_await db::maybe(call.database.reads(), select_fresh, call.caller->session_id);
  if (!fresh.value_or(false)) {
    throw Problem(ErrorCode::wrong_password, "The password is needed: this session did not begin within ten minutes.");
  }
}

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"sessions", &export_sessions});
  data.parts.push_back({"mails", &export_mails});
  data.erasures.emplace_back(erase);
}

}  // namespace hourz::auth
