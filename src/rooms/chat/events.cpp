// What sockets ask of chat, and what the outbox and the bus have to say to its floors.
#include <map>

#include "rooms/chat/floor.hpp"
#include "rooms/chat/wire_events.hpp"

namespace hourz::chat {
namespace {

using realtime::ClientEvent;
using realtime::Event;
using realtime::Frame;
using realtime::Incoming;
using realtime::Spread;

// --- from clients ----------------------------------------------------------------------------------------------------

constexpr ClientEvent join_event{.name = "join_room",
                                 .summary = "Join a room: what was missed, then what comes, without gap or repetition",
                                 .answer = "room_joined",
                                 .errors = {ErrorCode::not_found, ErrorCode::too_many_rooms},
                                 .rate = http::RateClass::standard};

/// Ends the join as it deserves when reading fails.
struct JoinGuard {
  Floor& floor;
  realtime::Connection& connection;
  Uuid room;
  bool done = false;
  ~JoinGuard() {
    if (!done) floor.cancel_join(connection, room);
  }
};

/// The seat comes first, then the reading: what is committed in between is held, and what was read is known by number.
Awaitable<void> join(Floor& floor, Incoming& in, JoinRoom wish) {
  floor.begin_join(in.from, wish.room_id);
  JoinGuard guard{floor, in.from, wish.room_id};
  db::Executor& db = in.from.database.reads();
  RoomJoined joined;
  joined.room = co_await read_room(db, wish.room_id, in.user());
  std::optional<std::int64_t> after_seq;
  if (wish.after_seq) after_seq = wish.after_seq->value;
  Missed missed = co_await read_missed(db, wish.room_id, in.user(), after_seq);
  joined.messages = std::move(missed.messages);
  joined.complete = missed.complete;
  guard.done = true;
  floor.end_join(in.from, wish.room_id, missed, realtime::frame_of(room_joined, joined, in.reply));
}

constexpr ClientEvent leave_event{
    .name = "leave_room", .summary = "Leave a room; one that was not joined is left already", .answer = "room_left"};

Awaitable<void> leave(Floor& floor, Incoming& in, LeaveRoom wish) {
  floor.leave(in.from, wish.room_id);
  in.answer(room_left, RoomLeft{wish.room_id});
  co_return;
}

constexpr ClientEvent send_event{.name = "send_message",
                                 .summary = "Send a message to a room of the caller's, joined or not",
                                 .answer = "message_ack",
                                 .errors = {ErrorCode::not_found, ErrorCode::room_closed}};

Awaitable<void> send_one(Floor& floor, Incoming& in, SendMessage wish) {
  const Uuid room = wish.room_id;
  const MessageData stored{co_await send(in.from.database, room, in.user(), static_cast<Draft&&>(wish))};
  floor.wake();
  in.answer(message_ack, stored);
}

constexpr ClientEvent mark_event{.name = "mark_read",
                                 .summary = "Move the caller's marker forward; the room hears of it when it moved",
                                 .answer = "read_receipt",
                                 .errors = {ErrorCode::not_found}};

/// Lets the caller's receipts go on when the answer is sent, or there is none.
struct MarkGuard {
  Floor& floor;
  realtime::Connection& connection;
  Uuid room;
  std::int64_t seq = 0;
  ~MarkGuard() { floor.end_mark(connection, room, seq); }
};

Awaitable<void> mark(Floor& floor, Incoming& in, MarkSeen wish) {
  floor.begin_mark(in.from, wish.room_id);
  MarkGuard guard{floor, in.from, wish.room_id};
  const auto transaction = in.from.database.begin();
  const Marked marked = co_await mark_read(*transaction, wish.room_id, in.user(), wish.seq.value);
  if (marked.moved) floor.wake();
  in.answer(read_receipt, marked.receipt);
  guard.seq = marked.receipt.seq;
}

constexpr ClientEvent typing_event{.name = "typing",
                                   .summary = "Say that the caller types, or has stopped; in a joined room",
                                   .errors = {ErrorCode::not_joined}};

Awaitable<void> type(Floor& floor, Incoming& in, Typing wish) {
  floor.say_typing(in.from, wish.room_id, wish.is_typing);
  co_return;
}

// --- from the outbox and the bus -------------------------------------------------------------------------------------

struct Delivery {
  Uuid room;
  std::int64_t seq;
  Frame frame;
  Uuid user{};  ///< of a receipt: whose marker moved
};

constexpr std::size_t messages_a_read = 500;

/// Events in the order of their commits: read in bites, each message's frame made once for all who get it.
Awaitable<Spread> expand_messages(Parts* parts, db::Executor* db, std::vector<Event> events) {
  std::erase_if(events, [&](const Event& event) { return !parts->interest.any(event.topic); });
  std::vector<Delivery> deliveries;
  deliveries.reserve(events.size());
  for (std::size_t at = 0; at < events.size(); at += messages_a_read) {
    const std::size_t end = std::min(events.size(), at + messages_a_read);
    std::vector<Uuid> rooms;
    std::vector<std::int64_t> seqs;
    for (std::size_t i = at; i < end; ++i) {
      rooms.push_back(events[i].topic);
      seqs.push_back(events[i].number);
    }
    std::map<std::pair<Uuid, std::int64_t>, Frame> frames;
    for (Message& message : co_await read_messages(*db, std::move(rooms), std::move(seqs))) {
      const auto key = std::pair(message.room_id, message.seq);
      frames.emplace(key, realtime::frame_of(receive_message, MessageData{std::move(message)}));
    }
    for (std::size_t i = at; i < end; ++i) {
      const auto frame = frames.find({events[i].topic, events[i].number});
      if (frame != frames.end()) deliveries.push_back({events[i].topic, events[i].number, frame->second, {}});
    }
  }
  if (deliveries.empty()) co_return Spread();
  co_return [parts, deliveries = std::move(deliveries)](std::size_t shard) {
    Floor* floor = parts->floors.at(shard);
    if (floor == nullptr) return;
    for (const Delivery& one : deliveries) floor->deliver(one.room, one.seq, one.frame);
  };
}

Awaitable<Spread> expand_receipts(Parts* parts, std::vector<Event> events) {
  std::vector<Delivery> deliveries;
  for (const Event& event : events) {
    const auto user = parse_uuid(event.note);
    if (!user || !parts->interest.any(event.topic)) continue;
    deliveries.push_back({event.topic, event.number,
                          realtime::frame_of(read_receipt, ReadReceipt{event.topic, *user, event.number}), *user});
  }
  if (deliveries.empty()) co_return Spread();
  co_return [parts, deliveries = std::move(deliveries)](std::size_t shard) {
    Floor* floor = parts->floors.at(shard);
    if (floor == nullptr) return;
    for (const Delivery& one : deliveries) floor->show_receipt(one.room, one.user, one.seq, one.frame);
  };
}

/// `user.block`: the topic is who made it or took it back, the note the other. What holds now is read, so that the
/// order of several is no matter.
Awaitable<Spread> expand_blocks(Parts* parts, db::Executor* db, std::vector<Event> events) {
  std::vector<Uuid> ones, others;
  for (const Event& event : events) {
    const auto other = parse_uuid(event.note);
    if (!other) continue;
    ones.push_back(event.topic);
    others.push_back(*other);
  }
  auto rooms = co_await rooms_of_pairs(*db, std::move(ones), std::move(others));
  std::erase_if(rooms, [&](const RoomOfPair& room) { return !parts->interest.any(room.id); });
  if (rooms.empty()) co_return Spread();
  co_return [parts, rooms = std::move(rooms)](std::size_t shard) {
    Floor* floor = parts->floors.at(shard);
    if (floor == nullptr) return;
    for (const RoomOfPair& room : rooms) floor->silence(room.id, room.silenced);
  };
}

Spread hear_typing(Parts* parts, const boost::json::value& data) {
  const auto room = parse_uuid(std::string_view(data.at("room_id").as_string()));
  const auto user = parse_uuid(std::string_view(data.at("user_id").as_string()));
  if (!room || !user || !parts->interest.any(*room)) return {};
  return [parts, room = *room, user = *user, is_typing = data.at("is_typing").as_bool()](std::size_t shard) {
    if (Floor* floor = parts->floors.at(shard)) floor->show_typing(room, user, is_typing);
  };
}

Spread see_presence(Parts* parts, const Uuid& room, const Uuid& user, bool online) {
  return [parts, room, user, online](std::size_t shard) {
    if (Floor* floor = parts->floors.at(shard)) floor->show_presence(room, user, online);
  };
}

}  // namespace

void install_feed(realtime::Node& node, Parts& parts) {
  parts.node = &node;
  node.on_event("chat.message", [&parts](db::Executor& db, std::vector<Event> events) {
    return expand_messages(&parts, &db, std::move(events));
  });
  node.on_event("chat.read", [&parts](db::Executor&, std::vector<Event> events) {
    return expand_receipts(&parts, std::move(events));
  });
  node.on_event("user.block", [&parts](db::Executor& db, std::vector<Event> events) {
    return expand_blocks(&parts, &db, std::move(events));
  });
  node.on_said("typing", [&parts](const Uuid&, const boost::json::value& data) { return hear_typing(&parts, data); });
  parts.presence = std::make_unique<realtime::Presence>(
      node, "presence",
      [&parts](const Uuid& room, const Uuid& user, bool online) { return see_presence(&parts, room, user, online); });
}

void install_events(realtime::EventBook& book, Floor& floor) {
  book.on(join_event, join, floor);
  book.on(leave_event, leave, floor);
  book.on(send_event, send_one, floor);
  book.on(mark_event, mark, floor);
  book.on(typing_event, type, floor);
  book.sends<RoomJoined>(room_joined);
  book.sends<RoomLeft>(room_left);
  book.sends<MessageData>(message_ack);
  book.sends<MessageData>(receive_message);
  book.sends<ReadReceipt>(read_receipt);
  book.sends<TypingShown>(typing_shown);
  book.sends<PresenceShown>(presence_shown);
}

}  // namespace hourz::chat
