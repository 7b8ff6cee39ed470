// What the end of an account means for its pictures: rows and sums go with it, the files right after.
#include "rooms/uploads/uploads.hpp"
#include "uploads_sql.hpp"

namespace hourz::uploads {
namespace {

const http::ExportQuery export_files{sql::export_files};
const db::Query<db::Nothing, Uuid> erase_all{sql::erase};
const db::Query<db::Nothing, Uuid> erase_sums{sql::erase_sums};

Awaitable<void> erase(db::Executor& db, Uuid user) {
  co_await db::run(db, erase_all, user);
  co_await db::run(db, erase_sums, user);
}

}  // namespace

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"uploads", &export_files});
  data.erasures.emplace_back(erase);
}

}  // namespace hourz::uploads
