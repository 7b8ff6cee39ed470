// Accounts as a whole: looked at and suspended by administrators, held while somebody leaves.
#include <algorithm>

#include "rooms/users/users.hpp"
#include "users_sql.hpp"

namespace hourz::users {
namespace {

struct SuspendRow {
  Uuid id, admin_id, audit_id;
  std::optional<std::string> reason;
};
BOOST_DESCRIBE_STRUCT(SuspendRow, (), (id, admin_id, audit_id, reason))

struct RoleRow {
  std::string email;
  http::Role role;
  Uuid audit_id;
};
BOOST_DESCRIBE_STRUCT(RoleRow, (), (email, role, audit_id))

const http::ExportQuery export_profile{sql::export_profile};
const http::ExportQuery export_blocks{sql::export_blocks};
const db::Query<db::Nothing, Uuid> erase_one{sql::erase};
const db::Query<db::Nothing, Uuid> erase_blocks{sql::erase_blocks};
const db::Query<Account, Uuid> select_account{sql::account};
const db::Query<Uuid, Uuid> hold_one{sql::hold_account};
const db::Query<Uuid, Uuid> hold_all_admins{sql::hold_admins};
const db::Query<bool, RoleRow> update_role{sql::set_role};
const db::Query<Uuid, SuspendRow> suspend_one{sql::suspend};
const db::Query<Uuid, SuspendRow> restore_one{sql::restore};

Awaitable<void> erase(db::Executor& db, Uuid id) {
  co_await db::run(db, erase_blocks, id);
  co_await db::run(db, erase_one, id);
}

}  // namespace

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"profile", &export_profile});
  data.parts.push_back({"blocks", &export_blocks});
  data.erasures.emplace_back(erase);
}

Awaitable<std::optional<Account>> account(db::Executor& db, Uuid id) {
  co_return co_await db::maybe(db, select_account, id);
}

Awaitable<bool> hold_account(db::Executor& db, Uuid id) {
  const auto held = co_await db::maybe(db, hold_one, id);
  co_return held.has_value();
}

Awaitable<void> hold_admins(db::Executor& db, std::optional<Uuid> acting, Uuid leaving) {
  const auto admins = co_await db::all(db, hold_all_admins, leaving);
  if (admins.empty()) co_return;
  if (acting && std::find(admins.begin(), admins.end(), *acting) == admins.end()) throw Problem(ErrorCode::forbidden);
  if (std::find(admins.begin(), admins.end(), leaving) != admins.end() && admins.size() == 1) {
    throw Problem(ErrorCode::last_admin);
  }
}

Awaitable<std::optional<bool>> set_role(db::Executor& db, std::string email, http::Role role) {
  if (role != http::Role::ADMIN) {
    if (const auto known = co_await credentials(db, email)) co_await hold_admins(db, std::nullopt, known->id);
  }
  const RoleRow row{std::move(email), role, make_uuid()};
  co_return co_await db::maybe(db, update_role, row);
}

Awaitable<bool> suspend(db::Executor& db, Uuid id, Uuid admin, std::string reason) {
  const SuspendRow row{id, admin, make_uuid(), std::move(reason)};
  const auto done = co_await db::maybe(db, suspend_one, row);
  co_return done.has_value();
}

Awaitable<bool> restore(db::Executor& db, Uuid id, Uuid admin, std::optional<std::string> reason) {
  const SuspendRow row{id, admin, make_uuid(), std::move(reason)};
  const auto done = co_await db::maybe(db, restore_one, row);
  co_return done.has_value();
}

}  // namespace hourz::users
