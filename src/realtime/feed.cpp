#include "realtime/feed.hpp"

#include "realtime_sql.hpp"

namespace hourz::realtime {
namespace {

struct Look {
  std::string previous, upto;
  std::int64_t after_id, page;
};
BOOST_DESCRIBE_STRUCT(Look, (), (previous, upto, after_id, page))

/// All but the snapshot is null in the one row of a look that found nothing.
struct TailRow {
  std::string snapshot;
  std::optional<std::int64_t> id;
  std::optional<std::string> kind;
  std::optional<Uuid> topic;
  std::optional<std::int64_t> number;
  std::optional<std::string> note;
};
BOOST_DESCRIBE_STRUCT(TailRow, (), (snapshot, id, kind, topic, number, note))

const db::Query<std::string> select_now{sql::now};
const db::Query<TailRow, Look> select_tail{sql::tail};
const db::Query<db::Nothing> purge{sql::purge};

}  // namespace

Awaitable<void> Feed::begin(db::Executor& db) { snapshot_ = co_await db::one(db, select_now); }

Awaitable<std::vector<Event>> Feed::look(db::Executor& db) {
  std::vector<Event> events;
  std::string first;
  std::int64_t after_id = 0;
  std::size_t rows = 0;
  do {
    std::vector<TailRow> found = co_await db::all(db, select_tail, Look{snapshot_, first, after_id, page});
    if (first.empty()) first = found.at(0).snapshot;
    rows = 0;
    for (TailRow& row : found) {
      if (!row.id) continue;
      ++rows;
      after_id = *row.id;
      events.push_back({std::move(*row.kind), *row.topic, *row.number, std::move(*row.note)});
    }
  } while (rows == static_cast<std::size_t>(page));
  snapshot_ = std::move(first);
  co_return events;
}

Awaitable<std::int64_t> purge_outbox(db::Executor& db) { co_return co_await db::run(db, purge); }

}  // namespace hourz::realtime
