// What chat has of a person: their rooms and what they said, for the export; and the erasure of what they said.
#include <algorithm>
#include <map>

#include "chat_sql.hpp"
#include "rooms/chat/chat.hpp"

namespace hourz::chat {
namespace {

struct Length {
  Uuid id;
  std::int64_t last_seq;
};
BOOST_DESCRIBE_STRUCT(Length, (), (id, last_seq))

/// Stretches of rooms, place by place.
struct Stretches {
  Uuid user_id;
  std::vector<Uuid> room_ids;
  std::vector<std::int64_t> after_seqs, last_seqs;
};
BOOST_DESCRIBE_STRUCT(Stretches, (), (user_id, room_ids, after_seqs, last_seqs))

const http::ExportQuery export_rooms{sql::export_rooms};
const http::ExportQuery export_messages{sql::export_messages};
const db::Query<Length, Uuid> select_lengths{sql::lengths};
const db::Query<db::Nothing, Stretches> erase_some{sql::erase};

/// A bite at a time, and none of them twice: however much somebody said, a statement is short.
Awaitable<void> erase(db::Executor& db, Uuid user) {
  constexpr std::int64_t bite = 2000;  // messages, whoever's they are
  std::map<Uuid, std::int64_t> erased;
  for (bool more = true; more;) {  // until nothing was said meanwhile
    more = false;
    Stretches some{user, {}, {}, {}};
    std::int64_t left = bite;
    for (const Length& room : co_await db::all(db, select_lengths, user)) {
      for (std::int64_t& after = erased[room.id]; after < room.last_seq;) {
        const std::int64_t last = std::min(room.last_seq, after + left);
        some.room_ids.push_back(room.id);
        some.after_seqs.push_back(after);
        some.last_seqs.push_back(last);
        left -= last - after;
        after = last;
        more = true;
        if (left > 0) continue;
        co_await db::run(db, erase_some, some);
        some = {user, {}, {}, {}};
        left = bite;
      }
    }
    if (!some.room_ids.empty()) co_await db::run(db, erase_some, some);
  }
}

}  // namespace

void add_personal_data(http::PersonalData& data) {
  data.parts.push_back({"chat_rooms", &export_rooms});
  data.parts.push_back({"chat_messages", &export_messages});
  data.erasures.emplace_back(erase);
}

}  // namespace hourz::chat
