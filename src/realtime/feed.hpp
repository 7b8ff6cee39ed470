// The tail of the outbox: gives every event once, and events of one topic in the order in which they were committed.
//
// Ids are drawn before a commit and transaction numbers even earlier, so whoever reads "id > last" skips what commits
// late. The feed goes by visibility instead: each look remembers its snapshot (pg_current_snapshot), and the next look
// asks for rows that are visible now and were not then. A late commit is open in the old snapshot, so it is asked for
// by name. Within one look rows are in order of id, which is order of commit for one topic, since whoever writes an
// event holds its topic's row lock while the id is drawn. A crash of PostgreSQL loses nothing either, though it gives
// transaction numbers twice. Purely about reading: who is woken when is the Node's.
#pragma once
#include <string>
#include <vector>

#include "db/database.hpp"

namespace hourz::realtime {

using db::Awaitable;

struct Event {
  std::string kind;     ///< `chat.message`
  Uuid topic;           ///< what it is about
  std::int64_t number;  ///< which of the topic
  std::string note;
};

class Feed {
 public:
  /// Reads where the database is now; events before that are not given.
  Awaitable<void> begin(db::Executor& db);
  bool begun() const { return !snapshot_.empty(); }

  /// What was committed since the last look. When it throws, the next look gives the same again.
  Awaitable<std::vector<Event>> look(db::Executor& db);

  /// Rows of one page of a look; a test makes it small.
  std::int64_t page = 5000;

 private:
  std::string snapshot_;
  std::int64_t given_ = 0;              ///< the highest id so far
  std::vector<std::int64_t> backends_;  ///< that have looked since the server can have crashed
};

/// Deletes what nobody reads any more; for the jobs. Rows deleted.
Awaitable<std::int64_t> purge_outbox(db::Executor& db);

}  // namespace hourz::realtime
