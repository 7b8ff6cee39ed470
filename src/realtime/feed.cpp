#include "realtime/feed.hpp"

#include <algorithm>

#include "realtime_sql.hpp"

namespace hourz::realtime {
namespace {

struct Look {
  std::string previous, upto;
  std::int64_t after_id, page, given;
  std::vector<std::int64_t> backends;
};
BOOST_DESCRIBE_STRUCT(Look, (), (previous, upto, after_id, page, given, backends))

struct Now {
  std::string snapshot;
  std::int64_t backend, last_id;
};
BOOST_DESCRIBE_STRUCT(Now, (), (snapshot, backend, last_id))

/// All but the snapshot and the backend is null in the one row of a look that found nothing.
struct TailRow {
  std::string snapshot;
  std::int64_t backend;
  std::optional<std::int64_t> id;
  std::optional<std::string> kind;
  std::optional<Uuid> topic;
  std::optional<std::int64_t> number;
  std::optional<std::string> note;
};
BOOST_DESCRIBE_STRUCT(TailRow, (), (snapshot, backend, id, kind, topic, number, note))

const db::Query<Now> select_now{sql::now};
const db::Query<db::Nothing> drop_strangers{sql::drop_strangers};
const db::Query<TailRow, Look> select_tail{sql::tail};
const db::Query<db::Nothing> purge{sql::purge};

constexpr std::size_t most_backends = 16;

}  // namespace

Awaitable<void> Feed::begin(db::Executor& db) {
  co_await db::run(db, drop_strangers);
  Now now = co_await db::one(db, select_now);
  snapshot_ = std::move(now.snapshot);
  given_ = now.last_id;
  backends_ = {now.backend};
}

Awaitable<std::vector<Event>> Feed::look(db::Executor& db) {
  std::vector<Event> events;
  std::string first;
  std::int64_t after_id = 0;
  std::int64_t backend = 0;
  std::size_t rows = 0;
  do {
    std::vector<TailRow> found =
        co_await db::all(db, select_tail, Look{snapshot_, first, after_id, page, given_, backends_});
    if (first.empty()) {
      first = found.at(0).snapshot;
      backend = found[0].backend;
    }
    rows = 0;
    for (TailRow& row : found) {
      if (!row.id) continue;
      ++rows;
      after_id = *row.id;
      events.push_back({std::move(*row.kind), *row.topic, *row.number, std::move(*row.note)});
    }
  } while (rows == static_cast<std::size_t>(page));
  snapshot_ = std::move(first);
  given_ = std::max(given_, after_id);
  if (std::find(backends_.begin(), backends_.end(), backend) == backends_.end()) {
    if (backends_.size() >= most_backends) backends_.erase(backends_.begin());
    backends_.push_back(backend);
  }
  co_return events;
}

Awaitable<std::int64_t> purge_outbox(db::Executor& db) { co_return co_await db::run(db, purge); }

}  // namespace hourz::realtime
