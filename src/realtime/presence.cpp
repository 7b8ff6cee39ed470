#include <map>
#include <set>

#include "core/problem.hpp"
#include "realtime/node.hpp"

namespace hourz::realtime {

struct Presence::State {
  using Key = std::pair<Uuid, Uuid>;  // group, member
  struct Entry {
    int here = 0;            // connections of this server
    std::set<Uuid> servers;  // others where the member is present
    bool online() const { return here > 0 || !servers.empty(); }
  };

  Node& node;
  std::string kind;
  Changed changed;
  std::map<Key, Entry> entries{};  // of the first shard's thread

  void say(const Key& key, bool online) {
    node.say(kind, "{\"group\":\"" + to_string(key.first) + "\",\"member\":\"" + to_string(key.second) +
                       "\",\"online\":" + (online ? "true" : "false") + "}");
  }

  template <class Edit>
  Spread edit(const Key& key, Edit edit_entry) {
    Entry& entry = entries[key];
    const bool before = entry.online();
    edit_entry(entry);
    const bool after = entry.online();
    if (!after) entries.erase(key);
    return before == after ? Spread() : changed(key.first, key.second, after);
  }

  void count(const Key& key, int change) {
    Spread spread = edit(key, [&](Entry& entry) {
      const int before = entry.here;
      entry.here += change;
      if ((before == 0) != (entry.here == 0)) say(key, entry.here > 0);
    });
    if (spread) node.spread(std::move(spread));
  }
};

Presence::Presence(Node& node, std::string kind, Changed changed)
    : state_(std::make_shared<State>(State{node, kind, std::move(changed)})) {
  node.on_said(kind, [state = state_](const Uuid& from, const boost::json::value& data) -> Spread {
    if (from == state->node.id) return {};  // counted already
    const auto group = parse_uuid(std::string_view(data.at("group").as_string()));
    const auto member = parse_uuid(std::string_view(data.at("member").as_string()));
    if (!group || !member) return {};
    const bool online = data.at("online").as_bool();
    return state->edit({*group, *member}, [&](State::Entry& entry) {
      if (online) {
        entry.servers.insert(from);
      } else {
        entry.servers.erase(from);
      }
    });
  });
  node.on_lost([state = state_](const Uuid& server) {
    std::vector<State::Key> keys;
    for (const auto& [key, entry] : state->entries) {
      if (entry.servers.contains(server)) keys.push_back(key);
    }
    for (const State::Key& key : keys) {
      Spread spread = state->edit(key, [&](State::Entry& entry) { entry.servers.erase(server); });
      if (spread) state->node.spread(std::move(spread));
    }
  });
  node.on_met([state = state_] {
    for (const auto& [key, entry] : state->entries) {
      if (entry.here > 0) state->say(key, true);
    }
  });
}

void Presence::enter(const Uuid& group, const Uuid& member) {
  state_->node.post([state = state_, key = State::Key{group, member}] { state->count(key, 1); });
}

void Presence::leave(const Uuid& group, const Uuid& member) {
  state_->node.post([state = state_, key = State::Key{group, member}] { state->count(key, -1); });
}

}  // namespace hourz::realtime
