// Chat's events as they stand in frames: what clients send, what the server sends. Names and shapes are the contract's;
// the handlers are in events.cpp. Nobody but this room includes this.
#pragma once
#include "realtime/events.hpp"
#include "rooms/chat/chat.hpp"

namespace hourz::chat {

struct JoinRoom {
  static constexpr std::array notes{
      Note{"after_seq", "the last message that the client has; 0: none; left out: the newest 50 are given"}};
  Uuid room_id;
  std::optional<SeqOrNone> after_seq;
};
BOOST_DESCRIBE_STRUCT(JoinRoom, (), (room_id, after_seq))

struct LeaveRoom {
  Uuid room_id;
};
BOOST_DESCRIBE_STRUCT(LeaveRoom, (), (room_id))

struct SendMessage : Draft {
  Uuid room_id;
};
BOOST_DESCRIBE_STRUCT(SendMessage, (Draft), (room_id))

struct MarkSeen {
  static constexpr std::array notes{Note{"seq", "past the last message: up to the last"}};
  Uuid room_id;
  Seq seq;
};
BOOST_DESCRIBE_STRUCT(MarkSeen, (), (room_id, seq))

struct Typing {
  Uuid room_id;
  bool is_typing = false;
};
BOOST_DESCRIBE_STRUCT(Typing, (), (room_id, is_typing))

struct RoomJoined {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"messages", "in order and without gaps up to what comes live: at most 1,000 and about 512 KiB, the newest"},
      Note{"complete", "false: what lies between after_seq and the first of them is to be read by REST"}};
  Room room;
  std::vector<Message> messages;
  bool complete = false;
};
BOOST_DESCRIBE_STRUCT(RoomJoined, (), (room, messages, complete))

struct RoomLeft {
  static constexpr bool is_answer = true;
  Uuid room_id;
};
BOOST_DESCRIBE_STRUCT(RoomLeft, (), (room_id))

struct MessageData {
  static constexpr bool is_answer = true;
  Message message;
};
BOOST_DESCRIBE_STRUCT(MessageData, (), (message))

struct TypingShown {
  static constexpr bool is_answer = true;
  Uuid room_id;
  Uuid user_id;
  bool is_typing = false;
};
BOOST_DESCRIBE_STRUCT(TypingShown, (), (room_id, user_id, is_typing))

struct PresenceShown {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"online", "whether some device of theirs has joined the room, on any server"}};
  Uuid room_id;
  Uuid user_id;
  bool online = false;
};
BOOST_DESCRIBE_STRUCT(PresenceShown, (), (room_id, user_id, online))

inline constexpr realtime::ServerEvent room_joined{"room_joined", "The connection has joined; what it missed"};
inline constexpr realtime::ServerEvent room_left{"room_left", "The connection has left the room"};
inline constexpr realtime::ServerEvent message_ack{"message_ack", "The message is durable"};
inline constexpr realtime::ServerEvent receive_message{
    "receive_message", "A message of a joined room: each once and in order of seq, one's own too"};
inline constexpr realtime::ServerEvent read_receipt{
    "read_receipt", "Somebody's marker moved; sending moves the sender's own without a receipt"};
inline constexpr realtime::ServerEvent typing_shown{
    "typing", "Somebody else types, or has stopped; ends by itself after 6 s; never stored"};
inline constexpr realtime::ServerEvent presence_shown{
    "presence", "Somebody else has come to the room or gone; on joining, one for each who is there; never stored"};

}  // namespace hourz::chat
