// The live half of chat: who has joined which room, and what reaches them.
//
// A Floor is one shard's: its joined connections, each with its Seat in the room's stream, who is present, who types.
// What happens in a room comes to every floor through the Node, from the outbox's rows or by the bus, so that it makes
// no difference which server or shard it happened on. Promises every joined connection each message of the room once
// and in order from where its join left off; presence and typing are never stored. For the composition root alone.
#pragma once
#include <boost/asio/io_context.hpp>
#include <memory>
#include <vector>

#include "realtime/node.hpp"
#include "rooms/chat/chat.hpp"

namespace hourz::chat {

class Floor;

/// What the floors of one process share; must outlive them.
struct Parts {
  realtime::Node* node = nullptr;
  realtime::Interest interest;  ///< rooms that somebody here has joined
  std::vector<Floor*> floors;   ///< by shard; complete before the node starts
  std::unique_ptr<realtime::Presence> presence;
};

/// Tells the node what to do with chat's events, and the parts of the node. Once a process, before the node starts.
void install_feed(realtime::Node& node, Parts& parts);

class Floor {
 public:
  static constexpr std::size_t rooms_at_most = 100;  ///< joined by one connection

  /// Enters itself in the parts as the floor of `shard`.
  Floor(Parts& parts, boost::asio::io_context& io, std::size_t shard);
  ~Floor();
  Floor(const Floor&) = delete;
  Floor& operator=(const Floor&) = delete;

  // --- for the node's spreads ---
  void deliver(const Uuid& room, std::int64_t seq, const realtime::Frame& frame);
  /// To each connection that does not know a marker as far as that.
  void show_receipt(const Uuid& room, const Uuid& user, std::int64_t seq, const realtime::Frame& frame);
  void show_presence(const Uuid& room, const Uuid& user, bool online);
  void show_typing(const Uuid& room, const Uuid& user, bool is_typing);
  /// A block between the two sides was made or taken back: while silenced neither sees the other's presence, typing and
  /// receipts.
  void silence(const Uuid& room, bool silenced);

  // --- for the events ---
  /// Takes a seat, from which live messages are held until end_join(). Throws too_many_rooms.
  void begin_join(realtime::Connection& connection, const Uuid& room);
  /// `missed` was read meanwhile and is in the frame: sends that, then who is present, then what was held.
  void end_join(realtime::Connection& connection, const Uuid& room, const Missed& missed, realtime::Frame joined);
  /// The join came to nothing: as it was before.
  void cancel_join(realtime::Connection& connection, const Uuid& room) noexcept;
  void leave(realtime::Connection& connection, const Uuid& room);
  /// Between these the caller's receipts wait: the answer, which says `seq`, may make them needless.
  void begin_mark(const realtime::Connection& connection, const Uuid& room);
  void end_mark(realtime::Connection& connection, const Uuid& room, std::int64_t seq) noexcept;
  /// Throws not_joined.
  void say_typing(realtime::Connection& connection, const Uuid& room, bool is_typing);
  void wake();

  // A test sets these to its liking.
  std::chrono::milliseconds typing_lasts{6000};  ///< then it ends by itself
  std::chrono::milliseconds typing_pause{1000};  ///< within which saying it again changes nothing

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Declares chat's events and how they are handled on this shard.
void install_events(realtime::EventBook& book, Floor& floor);

}  // namespace hourz::chat
