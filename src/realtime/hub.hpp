// One shard's open connections, by user: who is here, and how to reach all of a user's devices or end a session's.
// Used from the shard's thread alone; what other shards and servers have to say comes through the Node, posted.
#pragma once
#include <atomic>
#include <unordered_map>
#include <vector>

#include "realtime/events.hpp"

namespace hourz::realtime {

class Hub {
 public:
  /// Of a connection that has a caller. Taken out by remove().
  void add(Connection& connection);
  void remove(Connection& connection);

  void to_user(const Uuid& user, const Frame& frame);
  /// Closes those whose session has ended, with `session_ended`.
  void end_session(const Uuid& session);
  /// Closes all, to come back and resume.
  void close_all(CloseCode code, std::string_view reason);

 private:
  std::unordered_map<Uuid, std::vector<Connection*>> by_user_;
  std::unordered_map<Uuid, std::vector<Connection*>> by_session_;
};

/// Which of many things somebody on this server cares for, told across shards without a lock: counters striped by id.
/// Says "perhaps" for two ids of one stripe, and never "nobody" for one that has somebody.
class Interest {
 public:
  void add(const Uuid& id) { slot(id).fetch_add(1); }
  void remove(const Uuid& id) { slot(id).fetch_sub(1); }
  bool any(const Uuid& id) const { return stripes_[std::hash<Uuid>{}(id) % stripes_.size()].load() != 0; }

 private:
  std::atomic<std::uint32_t>& slot(const Uuid& id) { return stripes_[std::hash<Uuid>{}(id) % stripes_.size()]; }
  std::array<std::atomic<std::uint32_t>, 16'384> stripes_{};
};

}  // namespace hourz::realtime
