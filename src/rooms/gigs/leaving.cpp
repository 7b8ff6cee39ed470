// What the end of an account means for its gigs: none may be open, and what they say goes.
#include "gigs_sql.hpp"
#include "rooms/gigs/gigs.hpp"

namespace hourz::gigs {
namespace {

const http::ExportQuery export_gigs{sql::export_gigs};
const http::ExportQuery export_events{sql::export_events};
const http::ExportQuery export_assignments{sql::export_assignments};
const db::Query<bool, Uuid> select_open{sql::is_open};
const db::Query<db::Nothing, Uuid> erase_some{sql::erase};

Awaitable<std::optional<ErrorCode>> obstacle(db::Executor& db, Uuid user) {
  if (co_await db::one(db, select_open, user)) co_return ErrorCode::gigs_open;
  co_return std::nullopt;
}

Awaitable<void> erase(db::Executor& db, Uuid user) {
  while (co_await db::run(db, erase_some, user) > 0) {
  }
}

}  // namespace

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"gigs", &export_gigs});
  data.parts.push_back({"gig_events", &export_events});
  data.parts.push_back({"gig_assignments", &export_assignments});
  data.obstacles.emplace_back(obstacle);
  data.erasures.emplace_back(erase);
}

}  // namespace hourz::gigs
