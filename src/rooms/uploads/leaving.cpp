// What the end of an account means for its pictures: they are collected at once.
#include "rooms/uploads/uploads.hpp"
#include "uploads_sql.hpp"

namespace hourz::uploads {
namespace {

const http::ExportQuery export_files{sql::export_files};
const db::Query<db::Nothing, Uuid> erase_uses{sql::erase_uses};
const db::Query<db::Nothing, Uuid> erase_all{sql::erase};

Awaitable<void> erase(db::Executor& db, Uuid user) {
  co_await db::run(db, erase_uses, user);
  co_await db::run(db, erase_all, user);
}

}  // namespace

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"uploads", &export_files});
  data.erasures.emplace_back(erase);
}

}  // namespace hourz::uploads
