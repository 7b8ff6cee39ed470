#include "rooms/chat/chat.hpp"

#include <limits>

#include "chat_sql.hpp"
#include "http/cursor.hpp"

namespace hourz::chat {
namespace {

using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::Path;
using http::Query;

// --- rows ------------------------------------------------------------------------------------------------------------

struct MessageRow {
  Uuid room_id;
  std::int64_t seq;
  Uuid id;
  std::optional<Uuid> sender_id;
  MessageType type;
  std::string content;
  std::optional<std::string> image_url;
  std::optional<Uuid> client_id;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(MessageRow, (), (room_id, seq, id, sender_id, type, content, image_url, client_id, created_at))

/// A row of a page: all but last_seq is null where the page is empty.
struct PageRow {
  std::int64_t last_seq;
  std::optional<Uuid> room_id;
  std::optional<std::int64_t> seq;
  std::optional<Uuid> id;
  std::optional<Uuid> sender_id;
  std::optional<MessageType> type;
  std::optional<std::string> content;
  std::optional<std::string> image_url;
  std::optional<Uuid> client_id;
  std::optional<Timestamp> created_at;
};
BOOST_DESCRIBE_STRUCT(PageRow, (),
                      (last_seq, room_id, seq, id, sender_id, type, content, image_url, client_id, created_at))

struct MissedPageRow : PageRow {
  bool silenced;
};
BOOST_DESCRIBE_STRUCT(MissedPageRow, (PageRow), (silenced))

struct RoomRow {
  Uuid id, gig_id;
  std::string gig_title;
  bool is_active, silenced;
  std::int64_t last_seq;
  Timestamp created_at, updated_at;
  Uuid seeker_id;
  std::optional<std::string> seeker_name, seeker_photo_url;
  double seeker_reputation_score;
  std::int32_t seeker_total_reviews;
  std::int64_t seeker_read_seq;
  std::optional<Timestamp> seeker_read_at;
  Uuid helper_id;
  std::optional<std::string> helper_name, helper_photo_url;
  double helper_reputation_score;
  std::int32_t helper_total_reviews;
  std::int64_t helper_read_seq;
  std::optional<Timestamp> helper_read_at;
  Uuid message_id;
  std::optional<Uuid> message_sender_id;
  MessageType message_type;
  std::string message_content;
  std::optional<std::string> message_image_url;
  std::optional<Uuid> message_client_id;
  Timestamp message_created_at;
};
BOOST_DESCRIBE_STRUCT(RoomRow, (),
                      (id, gig_id, gig_title, is_active, silenced, last_seq, created_at, updated_at, seeker_id,
                       seeker_name, seeker_photo_url, seeker_reputation_score, seeker_total_reviews, seeker_read_seq,
                       seeker_read_at, helper_id, helper_name, helper_photo_url, helper_reputation_score,
                       helper_total_reviews, helper_read_seq, helper_read_at, message_id, message_sender_id,
                       message_type, message_content, message_image_url, message_client_id, message_created_at))

struct ListedRow : RoomRow {
  Timestamp active_at, as_of;
};
BOOST_DESCRIBE_STRUCT(ListedRow, (RoomRow), (active_at, as_of))

struct SendRow {
  Uuid room_id, sender_id, id;
  MessageType type;
  std::string content;
  std::optional<std::string> image_url;
  std::optional<Uuid> client_id;
};
BOOST_DESCRIBE_STRUCT(SendRow, (), (room_id, sender_id, id, type, content, image_url, client_id))

struct SentRow {
  std::int64_t seq;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(SentRow, (), (seq, created_at))

struct SentBefore {
  Uuid room_id, sender_id;
  std::optional<Uuid> client_id;
};
BOOST_DESCRIBE_STRUCT(SentBefore, (), (room_id, sender_id, client_id))

struct SentBeforeRow {
  bool is_active;
  std::optional<std::int64_t> seq;
  std::optional<Uuid> id;
  std::optional<MessageType> type;
  std::optional<std::string> content;
  std::optional<std::string> image_url;
  std::optional<Timestamp> created_at;
};
BOOST_DESCRIBE_STRUCT(SentBeforeRow, (), (is_active, seq, id, type, content, image_url, created_at))

struct OpenRow {
  Uuid id, gig_id;
  std::string gig_title;
  Uuid seeker_id, helper_id, message_id;
  std::string content;
};
BOOST_DESCRIBE_STRUCT(OpenRow, (), (id, gig_id, gig_title, seeker_id, helper_id, message_id, content))

struct TellRow {
  Uuid gig_id;
  bool close;
  Uuid message_id;
  std::string content;
};
BOOST_DESCRIBE_STRUCT(TellRow, (), (gig_id, close, message_id, content))

struct Viewed {
  Uuid room_id, viewer;
};
BOOST_DESCRIBE_STRUCT(Viewed, (), (room_id, viewer))

struct RoomsRow {
  Uuid viewer;
  std::optional<Timestamp> as_of;
  Timestamp before;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(RoomsRow, (), (viewer, as_of, before, before_id, page))

struct BeforeRow {
  Uuid room_id, viewer;
  std::int64_t before_seq, page;
};
BOOST_DESCRIBE_STRUCT(BeforeRow, (), (room_id, viewer, before_seq, page))

struct AfterRow {
  Uuid room_id, viewer;
  std::int64_t after_seq, page;
};
BOOST_DESCRIBE_STRUCT(AfterRow, (), (room_id, viewer, after_seq, page))

struct MissedRow {
  Uuid room_id, viewer;
  std::int64_t after_seq, page, size;
};
BOOST_DESCRIBE_STRUCT(MissedRow, (), (room_id, viewer, after_seq, page, size))

struct MarkRow {
  Uuid room_id, user_id;
  std::int64_t seq;
};
BOOST_DESCRIBE_STRUCT(MarkRow, (), (room_id, user_id, seq))

struct MarkedRow {
  std::int64_t seq;
  bool moved;
};
BOOST_DESCRIBE_STRUCT(MarkedRow, (), (seq, moved))

struct Pairs {
  std::vector<Uuid> ones, others;
};
BOOST_DESCRIBE_STRUCT(Pairs, (), (ones, others))

struct SideRow {
  std::vector<Uuid> room_ids;
  Uuid user_id;
};
BOOST_DESCRIBE_STRUCT(SideRow, (), (room_ids, user_id))

struct Numbers {
  std::vector<Uuid> room_ids;
  std::vector<std::int64_t> seqs;
};
BOOST_DESCRIBE_STRUCT(Numbers, (), (room_ids, seqs))

const db::Query<SentRow, SendRow> send_message{sql::send};
const db::Query<SentBeforeRow, SentBefore> select_sent_before{sql::sent_before};
const db::Query<db::Nothing, OpenRow> open{sql::open};
const db::Query<db::Nothing, TellRow> tell{sql::tell};
const db::Query<RoomRow, Viewed> select_room{sql::room};
const db::Query<ListedRow, RoomsRow> select_rooms{sql::rooms};
const db::Query<PageRow, BeforeRow> select_newest{sql::newest};
const db::Query<PageRow, AfterRow> select_after{sql::after};
const db::Query<MissedPageRow, MissedRow> select_missed{sql::missed};
const db::Query<MarkedRow, MarkRow> move_marker{sql::mark_read};
struct FindRow {
  Uuid id, viewer;
};
BOOST_DESCRIBE_STRUCT(FindRow, (), (id, viewer))
const db::Query<MessageRow, FindRow> select_found{sql::find_message};
const db::Query<RoomOfPair, Pairs> select_of_pairs{sql::of_pairs};
const db::Query<bool, SideRow> select_is_side{sql::is_side};
const db::Query<MessageRow, Numbers> select_messages{sql::messages};

Message to_message(MessageRow&& row) {
  return {
      row.id,        row.room_id,   row.seq, row.sender_id, row.type, std::move(row.content), std::move(row.image_url),
      row.client_id, row.created_at};
}

/// The messages of a page, which begins with a row of the room alone where there are none.
template <class Row>
std::vector<Message> messages_of(std::vector<Row>&& rows) {
  std::vector<Message> messages;
  messages.reserve(rows.size());
  for (Row& row : rows) {
    if (!row.seq) continue;
    messages.push_back({row.id.value(), row.room_id.value(), *row.seq, row.sender_id, row.type.value(),
                        std::move(row.content.value()), std::move(row.image_url), row.client_id,
                        row.created_at.value()});
  }
  return messages;
}

Room to_room(RoomRow&& row, const Uuid& viewer) {
  Room room;
  room.id = row.id;
  room.gig_id = row.gig_id;
  room.gig_title = std::move(row.gig_title);
  room.is_active = row.is_active && !row.silenced;
  if (row.silenced) {
    // As over sockets, neither hears how far the other reads.
    (viewer == row.seeker_id ? row.helper_read_seq : row.seeker_read_seq) = 0;
    (viewer == row.seeker_id ? row.helper_read_at : row.seeker_read_at) = std::nullopt;
  }
  room.participants.push_back({{row.seeker_id, std::move(row.seeker_name), std::move(row.seeker_photo_url),
                                row.seeker_reputation_score, row.seeker_total_reviews},
                               row.seeker_read_seq,
                               row.seeker_read_at});
  room.participants.push_back({{row.helper_id, std::move(row.helper_name), std::move(row.helper_photo_url),
                                row.helper_reputation_score, row.helper_total_reviews},
                               row.helper_read_seq,
                               row.helper_read_at});
  room.last_message = {row.message_id,
                       row.id,
                       row.last_seq,
                       row.message_sender_id,
                       row.message_type,
                       std::move(row.message_content),
                       std::move(row.message_image_url),
                       row.message_client_id,
                       row.message_created_at};
  room.last_seq = row.last_seq;
  room.unread_count = row.last_seq - (viewer == row.seeker_id ? row.seeker_read_seq : row.helper_read_seq);
  room.created_at = row.created_at;
  room.updated_at = row.updated_at;
  return room;
}

// --- sending ---------------------------------------------------------------------------------------------------------

std::atomic<std::int64_t> stored{0};

/// One attempt; db::Error retryable when another with the same client_id was under way. `reads` is for finding out why
/// nothing was sent, when the transaction has ended already.
Awaitable<Message> send_once(db::Executor& db, db::Executor& reads, SendRow row) {
  const auto image = row.image_url ? uploads::id_in(*row.image_url) : std::nullopt;
  std::optional<SentRow> sent;
  try {
    if (image) {
      // In this order: what is not sent takes no picture, since nothing is committed then.
      const auto taken = co_await uploads::use(db, {row.sender_id, uploads::Category::CHAT, row.room_id, {*image}});
      if (taken.empty()) throw invalid("image_url", "not_your_upload", "must be an upload of yours");
      sent = co_await db::maybe(db, send_message, row);
    } else {
      sent = co_await db::maybe_last(db, send_message, row);
    }
  } catch (db::Error& error) {
    if (error.constraint == "chat_messages_client_id") error.kind = db::ErrorKind::retryable;
    throw;
  }
  Message message{row.id, row.room_id, 0, row.sender_id, row.type, {}, std::move(row.image_url), row.client_id, {}};
  if (sent) {
    stored.fetch_add(1, std::memory_order_relaxed);
    message.seq = sent->seq;
    message.content = std::move(row.content);
    message.timestamp = sent->created_at;
    co_return message;
  }
  auto before = co_await db::maybe(reads, select_sent_before, SentBefore{row.room_id, row.sender_id, row.client_id});
  if (!before) throw Problem(ErrorCode::not_found);
  if (before->seq) {
    message.id = before->id.value();
    message.seq = *before->seq;
    message.type = before->type.value();
    message.content = std::move(before->content.value());
    message.image_url = std::move(before->image_url);
    message.timestamp = before->created_at.value();
    co_return message;
  }
  if (!before->is_active) throw Problem(ErrorCode::room_closed);
  throw db::Error(db::ErrorKind::retryable, "the room was opened meanwhile");
}

SendRow to_row(const Uuid& room_id, const Uuid& sender, Draft&& draft) {
  SendRow row{room_id, sender, make_uuid(), MessageType::TEXT, {}, std::nullopt, draft.client_id};
  if (draft.image_url) {
    row.type = MessageType::IMAGE;
    row.image_url = std::move(draft.image_url->value);
  }
  if (draft.content) row.content = std::move(draft.content->value);
  return row;
}

struct RoomPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(RoomPath, (), (id))

constexpr Endpoint post_message{
    .method = Method::post,
    .path = "/api/chat/rooms/{id}/messages",
    .name = "chat.send",
    .summary = "Send a message",
    .description =
        "For when there is no socket: the same path, delivered to joined sockets too. The answer comes once the "
        "message "
        "is durable. With a client_id that was used before in this room it is the message already stored.",
    .effect = Effect::change,
    .status = 201,
    .errors = {ErrorCode::not_found, ErrorCode::room_closed}};

Awaitable<Message> post(Deps&, Call& call, Path<RoomPath> path, Body<Draft> body) {
  Message message =
      co_await send_once(call.db(), call.database.reads(), to_row(path->id, call.user(), std::move(body.value)));
  call.header("Location", "/api/chat/rooms/" + to_string(path->id) +
                              "/messages?limit=1&after_seq=" + std::to_string(message.seq - 1));
  co_return message;
}

// --- reading ---------------------------------------------------------------------------------------------------------

struct RoomList {
  static constexpr bool is_answer = true;
  std::vector<Room> rooms;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(RoomList, (), (rooms, next_cursor))

struct RoomsPosition {
  Timestamp as_of, before;
  Uuid before_id;
};
BOOST_DESCRIBE_STRUCT(RoomsPosition, (), (as_of, before, before_id))

constexpr Endpoint list_rooms{.method = Method::get,
                              .path = "/api/chat/rooms",
                              .name = "chat.rooms",
                              .summary = "The caller's rooms, most recently active first",
                              .description = "Open and closed ones. All pages keep the order that the first one found.",
                              .errors = {ErrorCode::invalid_cursor}};

Awaitable<RoomList> get_rooms(Deps& deps, Call& call, Query<http::PageQuery> query) {
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  RoomsRow wanted{call.user(), std::nullopt, {253402300799'000000}, {}, static_cast<std::int64_t>(limit) + 1};
  wanted.before_id = http::last_uuid();
  if (query->cursor) {
    const auto at = http::from_cursor<RoomsPosition>(deps.cursor_key, call.user(), query->cursor->value);
    wanted.as_of = at.as_of;
    wanted.before = at.before;
    wanted.before_id = at.before_id;
  }
  auto rows = co_await db::all(call.db(), select_rooms, wanted);
  RoomList list;
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), RoomsPosition{},
                                    [](RoomsPosition& at, const ListedRow& last) {
                                      at = {last.as_of, last.active_at, last.id};
                                    });
  for (ListedRow& row : rows) list.rooms.push_back(to_room(std::move(row), call.user()));
  co_return list;
}

constexpr Endpoint get_one{.method = Method::get,
                           .path = "/api/chat/rooms/{id}",
                           .name = "chat.room",
                           .summary = "One room of the caller's",
                           .errors = {ErrorCode::not_found},
                           .etag = true};

Awaitable<Room> get_room(Deps&, Call& call, Path<RoomPath> path) {
  co_return co_await read_room(call.db(), path->id, call.user());
}

struct MessagesQuery {
  static constexpr std::array notes{Note{"before_seq", "the newest messages before this number"},
                                    Note{"after_seq", "the oldest messages after this number; 0: from the first on"}};
  std::optional<Seq> before_seq;
  std::optional<SeqOrNone> after_seq;
  WithDefault<Integer<1, 100>, 50> limit;

  static void check(const MessagesQuery& query, std::vector<Fault>& faults) {
    if (query.before_seq && query.after_seq) {
      faults.push_back({"after_seq", "conflict", "does not go with before_seq"});
    }
  }
};
BOOST_DESCRIBE_STRUCT(MessagesQuery, (), (before_seq, after_seq, limit))

struct MessagePage {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"messages", "in ascending order of seq, without gaps"},
      Note{"has_more",
           "with after_seq: there are newer ones than the last; else: there are older ones than the first"}};
  std::vector<Message> messages;
  bool has_more = false;
};
BOOST_DESCRIBE_STRUCT(MessagePage, (), (messages, has_more))

constexpr Endpoint list_messages{
    .method = Method::get,
    .path = "/api/chat/rooms/{id}/messages",
    .name = "chat.messages",
    .summary = "A page of a room's messages",
    .description =
        "The newest, or those before or after a number; in ascending order of seq whichever way. To go back, give the "
        "first seq of a page as before_seq; to go on, the last one as after_seq.",
    .errors = {ErrorCode::not_found}};

Awaitable<MessagePage> get_messages(Deps&, Call& call, Path<RoomPath> path, Query<MessagesQuery> query) {
  const std::int64_t limit = query->limit.value.value;
  std::vector<PageRow> rows;
  if (query->after_seq) {
    rows = co_await db::all(call.db(), select_after, AfterRow{path->id, call.user(), query->after_seq->value, limit});
  } else {
    const std::int64_t before = query->before_seq ? query->before_seq->value : std::numeric_limits<std::int64_t>::max();
    rows = co_await db::all(call.db(), select_newest, BeforeRow{path->id, call.user(), before, limit});
  }
  if (rows.empty()) throw Problem(ErrorCode::not_found);
  const std::int64_t last_seq = rows.front().last_seq;
  MessagePage page;
  page.messages = messages_of(std::move(rows));
  if (!page.messages.empty()) {
    page.has_more = query->after_seq ? page.messages.back().seq < last_seq : page.messages.front().seq > 1;
  }
  co_return page;
}

struct MarkRead {
  static constexpr std::array notes{Note{"seq", "past the last message: up to the last"}};
  Seq seq;
};
BOOST_DESCRIBE_STRUCT(MarkRead, (), (seq))

constexpr Endpoint put_marker{
    .method = Method::put,
    .path = "/api/chat/rooms/{id}/read",
    .name = "chat.mark_read",
    .summary = "Move the caller's marker forward",
    .description = "A number that was passed already changes nothing; works in a closed room.",
    .effect = Effect::change,
    .errors = {ErrorCode::not_found}};

Awaitable<ReadReceipt> put_read(Deps&, Call& call, Path<RoomPath> path, Body<MarkRead> body) {
  const Marked marked = co_await mark_read(call.db(), path->id, call.user(), body->seq.value);
  co_return marked.receipt;
}

}  // namespace

void Draft::check(const Draft& draft, std::vector<Fault>& faults) {
  if (draft.image_url && !uploads::id_in(draft.image_url->value))
    faults.push_back({"image_url", "not_your_upload", "must be an upload of yours"});
  if (!draft.image_url && (!draft.content || draft.content->value.empty())) {
    faults.push_back({"content", draft.content ? "empty" : "required", "must have at least 1 characters"});
  }
}

void install(http::Router& router, Deps& deps) {
  router.add(list_rooms, get_rooms, deps);
  router.add(get_one, get_room, deps);
  router.add(list_messages, get_messages, deps);
  router.add(post_message, post, deps);
  router.add(put_marker, put_read, deps);
}

std::int64_t messages_stored() { return stored.load(std::memory_order_relaxed); }

Awaitable<Message> send(db::Client& database, Uuid room_id, Uuid sender, Draft draft) {
  const SendRow row = to_row(room_id, sender, std::move(draft));
  for (int tries = 1;; ++tries) {
    const auto transaction = database.begin();
    try {
      Message message = co_await send_once(*transaction, database.reads(), row);
      co_await transaction->commit();
      co_return message;
    } catch (const db::Error& error) {
      if (error.kind != db::ErrorKind::retryable || tries == 4) throw;
    }
  }
}

Awaitable<bool> is_side(db::Executor& db, std::vector<Uuid> room_ids, Uuid user) {
  const SideRow asked{std::move(room_ids), user};
  co_return co_await db::one(db, select_is_side, asked);
}

Awaitable<Room> read_room(db::Executor& db, Uuid room_id, Uuid viewer) {
  auto row = co_await db::maybe(db, select_room, Viewed{room_id, viewer});
  if (!row) throw Problem(ErrorCode::not_found);
  co_return to_room(std::move(*row), viewer);
}

Awaitable<Missed> read_missed(db::Executor& db, Uuid room_id, Uuid viewer, std::optional<std::int64_t> after_seq) {
  const MissedRow wanted{room_id, viewer, after_seq.value_or(0), after_seq ? 1000 : 50, 512 * 1024};
  auto rows = co_await db::all(db, select_missed, wanted);
  if (rows.empty()) throw Problem(ErrorCode::not_found);
  Missed missed;
  missed.last_seq = rows.front().last_seq;
  missed.silenced = rows.front().silenced;
  missed.messages = messages_of(std::move(rows));
  const std::int64_t first = missed.messages.empty() ? missed.last_seq + 1 : missed.messages.front().seq;
  missed.complete = first <= wanted.after_seq + 1;
  co_return missed;
}

Awaitable<Marked> mark_read(db::Executor& db, Uuid room_id, Uuid user, std::int64_t seq) {
  const auto row = co_await db::maybe_last(db, move_marker, MarkRow{room_id, user, seq});
  if (!row) throw Problem(ErrorCode::not_found);
  co_return Marked{{room_id, user, row->seq}, row->moved};
}

Awaitable<std::vector<Message>> read_messages(db::Executor& db, std::vector<Uuid> room_ids,
                                              std::vector<std::int64_t> seqs) {
  auto rows = co_await db::all(db, select_messages, Numbers{std::move(room_ids), std::move(seqs)});
  std::vector<Message> messages;
  messages.reserve(rows.size());
  for (MessageRow& row : rows) messages.push_back(to_message(std::move(row)));
  co_return messages;
}

Awaitable<std::optional<Message>> find_message(db::Executor& db, Uuid id, Uuid viewer) {
  const FindRow asked{id, viewer};
  auto row = co_await db::maybe(db, select_found, asked);
  if (!row) co_return std::nullopt;
  co_return to_message(std::move(*row));
}

Awaitable<std::vector<RoomOfPair>> rooms_of_pairs(db::Executor& db, std::vector<Uuid> ones, std::vector<Uuid> others) {
  const Pairs pairs{std::move(ones), std::move(others)};
  co_return co_await db::all(db, select_of_pairs, pairs);
}

Awaitable<void> open_room(db::Executor& db, Opening opening, std::string text) {
  co_await db::run_last(db, open,
                        OpenRow{make_uuid(), opening.gig_id, std::move(opening.gig_title), opening.seeker_id,
                                opening.helper_id, make_uuid(), std::move(text)});
}

Awaitable<void> tell_room(db::Executor& db, Uuid gig_id, std::string text) {
  co_await db::run_last(db, tell, TellRow{gig_id, false, make_uuid(), std::move(text)});
}

Awaitable<void> close_room(db::Executor& db, Uuid gig_id, std::string text) {
  co_await db::run_last(db, tell, TellRow{gig_id, true, make_uuid(), std::move(text)});
}

}  // namespace hourz::chat
