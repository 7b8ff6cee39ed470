// Chat: a room for the two sides of an accepted gig, and its messages.
//
// Owns `chat_rooms`, `chat_participants` and `chat_messages`. Promises that a room's messages count 1, 2, 3 … without
// gaps in the order of their commits, that a message sent again with its client_id is stored once, and that a stranger
// cannot tell a room from none. REST and sockets send through the same function; what is live (who has joined, what is
// delivered to whom, typing, presence) is floor.hpp's.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "http/router.hpp"
#include "rooms/uploads/uploads.hpp"
#include "rooms/users/users.hpp"

namespace hourz::chat {

using db::Awaitable;

enum class MessageType { TEXT, IMAGE, SYSTEM };
BOOST_DESCRIBE_ENUM(MessageType, TEXT, IMAGE, SYSTEM)
constexpr std::string_view schema_name_of(std::type_identity<MessageType>) { return "MessageType"; }

struct Message {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"seq", "1, 2, 3 … per room, without gaps"},
                                    Note{"sender_id", "null for SYSTEM, which no client can send"},
                                    Note{"client_id", "as its sender chose it"}};
  Uuid id;
  Uuid room_id;
  std::int64_t seq = 0;
  std::optional<Uuid> sender_id;
  MessageType type = MessageType::TEXT;
  std::string content;
  std::optional<std::string> image_url;
  std::optional<Uuid> client_id;
  Timestamp timestamp;
};
BOOST_DESCRIBE_STRUCT(Message, (), (id, room_id, seq, sender_id, type, content, image_url, client_id, timestamp))

struct Participant {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"last_read_seq", "0 before anything was read; the other side's also while a block stands between the two"}};
  users::UserCard user;
  std::int64_t last_read_seq = 0;
  std::optional<Timestamp> last_read_at;
};
BOOST_DESCRIBE_STRUCT(Participant, (), (user, last_read_seq, last_read_at))

/// As one of its two sides sees it.
struct Room {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"is_active",
           "false: it can be read and not written, since the gig has ended or a side has blocked the other"},
      Note{"participants", "the seeker, then the helper"},
      Note{"unread_count", "messages past the caller's marker, SYSTEM ones too; sending moves one's own marker"},
      Note{"updated_at", "time of the last message"}};
  Uuid id;
  Uuid gig_id;
  std::string gig_title;
  bool is_active = false;
  std::vector<Participant> participants;
  Message last_message;
  std::int64_t last_seq = 0;
  std::int64_t unread_count = 0;
  Timestamp created_at;
  Timestamp updated_at;
};
BOOST_DESCRIBE_STRUCT(Room, (),
                      (id, gig_id, gig_title, is_active, participants, last_message, last_seq, unread_count, created_at,
                       updated_at))

/// How far somebody has read.
struct ReadReceipt {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"seq", "the marker as it stands now: it never goes back"}};
  Uuid room_id;
  Uuid user_id;
  std::int64_t seq = 0;
};
BOOST_DESCRIBE_STRUCT(ReadReceipt, (), (room_id, user_id, seq))

using Seq = Integer<1, 9'007'199'254'740'991>;        ///< a message's number, as JavaScript can count
using SeqOrNone = Integer<0, 9'007'199'254'740'991>;  ///< 0: before the first

/// What a client says; the room comes with the path or the frame.
struct Draft {
  static constexpr std::array notes{
      Note{"content", "may be left out or empty with an image"},
      Note{"image_url", "`/files/{id}` of a chat upload of the sender's"},
      Note{"client_id", "the same again answers with the message that is stored already"}};
  std::optional<Text<0, 4000>> content;
  std::optional<Text<1, 300>> image_url;
  std::optional<Uuid> client_id;

  static void check(const Draft& draft, std::vector<Fault>& faults);
};
BOOST_DESCRIBE_STRUCT(Draft, (), (content, image_url, client_id))

struct Deps {
  const Config& config;
  std::string cursor_key;
};

void install(http::Router& router, Deps& deps);

void add_personal_data(http::PersonalData& data);

// --- for sockets -----------------------------------------------------------------------------------------------------

/// Messages that this process has stored since its start; for the metrics.
std::int64_t messages_stored();

/// Stored and committed when it returns. Throws Problem: not_found (also for a stranger), room_closed.
Awaitable<Message> send(db::Client& database, Uuid room_id, Uuid sender, Draft draft);

/// Whether somebody is a side of one of the rooms.
Awaitable<bool> is_side(db::Executor& db, std::vector<Uuid> room_ids, Uuid user);

/// Throws not_found, also for a stranger.
Awaitable<Room> read_room(db::Executor& db, Uuid room_id, Uuid viewer);

struct Missed {
  std::vector<Message> messages;  ///< in order, without gaps, up to last_seq
  std::int64_t last_seq = 0;
  bool complete = false;  ///< nothing is missing between what was asked for and the first of them
  bool silenced = false;  ///< a block stands between the two sides
};

/// What came after a number, or, where none is given, the newest 50. At most 1,000 messages and about 512 KiB, the
/// newest. Throws not_found, also for a stranger.
Awaitable<Missed> read_missed(db::Executor& db, Uuid room_id, Uuid viewer, std::optional<std::int64_t> after_seq);

struct Marked {
  ReadReceipt receipt;
  bool moved = false;
};

/// Moves the marker forward, at most to the last message. Throws not_found, also for a stranger.
Awaitable<Marked> mark_read(db::Executor& db, Uuid room_id, Uuid user, std::int64_t seq);

/// The messages with these numbers, in no order; one round trip.
Awaitable<std::vector<Message>> read_messages(db::Executor& db, std::vector<Uuid> room_ids,
                                              std::vector<std::int64_t> seqs);

/// A message of one of the viewer's rooms.
Awaitable<std::optional<Message>> find_message(db::Executor& db, Uuid id, Uuid viewer);

struct RoomOfPair {
  Uuid id;
  bool silenced;  ///< a block stands between the two sides
};
BOOST_DESCRIBE_STRUCT(RoomOfPair, (), (id, silenced))

/// The rooms that one and the other, place by place, have together.
Awaitable<std::vector<RoomOfPair>> rooms_of_pairs(db::Executor& db, std::vector<Uuid> ones, std::vector<Uuid> others);

// --- for gigs, in the transaction that moves the gig -----------------------------------------------------------------

struct Opening {
  Uuid gig_id;
  std::string gig_title;
  Uuid seeker_id;
  Uuid helper_id;
};

/// Makes the room of the gig and its helper, or opens it again. To be the last statement of the transaction.
Awaitable<void> open_room(db::Executor& db, Opening opening, std::string text);
/// A SYSTEM message in the gig's open room, if there is one. To be the last statement of the transaction.
Awaitable<void> tell_room(db::Executor& db, Uuid gig_id, std::string text);
/// The same, and the room is closed with it.
Awaitable<void> close_room(db::Executor& db, Uuid gig_id, std::string text);

}  // namespace hourz::chat
