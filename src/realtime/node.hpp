// This server's part of the conversation: it tails the outbox, keeps the bus, and hands what it learns to every shard.
//
// Rooms register at start: on_event() for kinds of the outbox, on_said() for what travels by the bus alone. Both run on
// the first shard and give back a Spread, which then runs on every shard, in the same order on each. Nothing here has
// to be locked by a room. wake() after a commit costs an atomic when nobody is connected anywhere.
#pragma once
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/metrics.hpp"
#include "realtime/bus.hpp"
#include "realtime/feed.hpp"
#include "realtime/hub.hpp"

namespace hourz::realtime {

/// What is to be done on each shard; called with the shard's index, on the shard. Empty: nothing.
using Spread = std::function<void(std::size_t shard)>;

class Node {
 public:
  /// Reads what the events stand for, all of one kind in a look, in order. When it throws, the look is done again.
  using Expander = std::function<Awaitable<Spread>(db::Executor&, std::vector<Event>)>;
  /// `from` is the server that said it.
  using Hearer = std::function<Spread(const Uuid& from, const boost::json::value& data)>;

  explicit Node(Metrics& metrics);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const Uuid id = make_uuid();

  // --- before start ---
  void on_event(std::string kind, Expander expander);
  void on_said(std::string kind, Hearer hearer);
  /// A server that spoke before has been silent for 7 s or said good-bye.
  void on_lost(std::function<void(const Uuid& server)> action);
  /// Somebody new is there, or words were lost: who keeps state of its own must say all of it again.
  void on_met(std::function<void()> action);
  /// The shard's index. The first that is attached runs feed and bus.
  std::size_t attach(boost::asio::io_context& io, Hub& hub);
  /// Of an attached shard; to be used on it.
  Hub& hub(std::size_t shard);

  /// On the first shard. Without a bus this server is alone until it polls.
  void start(db::Client& database, std::unique_ptr<Bus> bus);
  /// On the first shard; says good-bye.
  void stop();
  /// Lets go of what belongs to the first shard's io_context: once its thread has ended, and before it goes itself.
  void release();

  // --- from any thread ---
  /// Something with events has been committed.
  void wake();
  /// Runs on the first shard.
  void post(std::function<void()> work);
  /// Runs on every shard, after what was spread before.
  void spread(Spread work);
  /// Said to every server, this one included, soon and at most once; never stored. `data` is JSON.
  void say(std::string kind, std::string data);
  /// One more socket, or one less: a server without sockets reads the outbox once a second only.
  void count_socket(int change);
  std::int64_t sockets() const;
  /// Whether the outbox is being read: a socket opened before that could miss what is committed in between.
  bool follows() const;
  /// Other servers on this database that were heard of in the last seconds.
  std::int64_t peers() const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

/// Who is present where, over all servers: in a group (a room), a member (a user) is present while some connection of
/// theirs on some server has entered. Kept on the first shard, never stored.
class Presence {
 public:
  /// What to spread when a member comes to a group or leaves it, seen over all servers.
  using Changed = std::function<Spread(const Uuid& group, const Uuid& member, bool online)>;

  /// `kind` is what its words on the bus are called. The node must live as long.
  Presence(Node& node, std::string kind, Changed changed);

  /// One more connection here. From any thread.
  void enter(const Uuid& group, const Uuid& member);
  void leave(const Uuid& group, const Uuid& member);

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace hourz::realtime
