#include <map>
#include <set>

#include "core/problem.hpp"
#include "realtime/node.hpp"

namespace hourz::realtime {
namespace {

constexpr std::size_t pairs_a_word = 80;  // of 78 bytes each: one text of the bus

std::string quoted(const Uuid& id) { return '"' + to_string(id) + '"'; }

std::optional<Uuid> uuid_of(const boost::json::value& value) { return parse_uuid(std::string_view(value.as_string())); }

Spread together(std::vector<Spread> spreads) {
  std::erase_if(spreads, [](const Spread& spread) { return !spread; });
  if (spreads.empty()) return {};
  return [spreads = std::move(spreads)](std::size_t shard) {
    for (const Spread& spread : spreads) spread(shard);
  };
}

}  // namespace

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
  std::map<Key, Entry> entries{};               // of the first shard's thread
  std::map<Uuid, std::set<Key>> unconfirmed{};  // of servers that are saying everything again

  void say(const Key& key, bool online) {
    node.say(kind, "{\"group\":" + quoted(key.first) + ",\"member\":" + quoted(key.second) +
                       ",\"online\":" + (online ? "true" : "false") + "}");
  }

  /// Between a beginning and an end, so that what was said and lost before is put right without anybody seeming to go
  /// and come back.
  void say_all() {
    node.say(kind, R"({"all":"begin"})");
    std::string pairs;
    std::size_t count = 0;
    const auto say_pairs = [&] {
      if (count > 0) node.say(kind, "{\"here\":[" + pairs + "]}");
      pairs.clear();
      count = 0;
    };
    for (const auto& [key, entry] : entries) {
      if (entry.here == 0) continue;
      if (count > 0) pairs += ',';
      pairs += '[' + quoted(key.first) + ',' + quoted(key.second) + ']';
      if (++count == pairs_a_word) say_pairs();
    }
    say_pairs();
    node.say(kind, R"({"all":"end"})");
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

  Spread set(const Uuid& server, const Key& key, bool online) {
    if (const auto waiting = unconfirmed.find(server); waiting != unconfirmed.end()) waiting->second.erase(key);
    return edit(key, [&](Entry& entry) {
      if (online) {
        entry.servers.insert(server);
      } else {
        entry.servers.erase(server);
      }
    });
  }

  std::set<Key> all_of(const Uuid& server) const {
    std::set<Key> keys;
    for (const auto& [key, entry] : entries) {
      if (entry.servers.contains(server)) keys.insert(key);
    }
    return keys;
  }

  Spread end_all(const Uuid& server, const std::set<Key>& keys) {
    std::vector<Spread> spreads;
    for (const Key& key : keys) spreads.push_back(set(server, key, false));
    return together(std::move(spreads));
  }

  void count(const Key& key, int change) {
    Spread spread = edit(key, [&](Entry& entry) {
      const int before = entry.here;
      entry.here += change;
      if ((before == 0) != (entry.here == 0)) say(key, entry.here > 0);
    });
    if (spread) node.spread(std::move(spread));
  }

  Spread hear(const Uuid& from, const boost::json::object& data) {
    if (const auto* all = data.if_contains("all")) {
      if (all->as_string() == "begin") {
        unconfirmed[from] = all_of(from);
        return {};
      }
      const auto rest = unconfirmed.extract(from);
      return rest.empty() ? Spread() : end_all(from, rest.mapped());
    }
    if (const auto* pairs = data.if_contains("here")) {
      std::vector<Spread> spreads;
      for (const auto& pair : pairs->as_array()) {
        const auto group = uuid_of(pair.as_array().at(0)), member = uuid_of(pair.as_array().at(1));
        if (group && member) spreads.push_back(set(from, {*group, *member}, true));
      }
      return together(std::move(spreads));
    }
    const auto group = uuid_of(data.at("group")), member = uuid_of(data.at("member"));
    if (!group || !member) return {};
    return set(from, {*group, *member}, data.at("online").as_bool());
  }
};

Presence::Presence(Node& node, std::string kind, Changed changed)
    : state_(std::make_shared<State>(State{node, kind, std::move(changed)})) {
  node.on_said(kind, [state = state_](const Uuid& from, const boost::json::value& data) -> Spread {
    if (from == state->node.id) return {};  // counted already
    return state->hear(from, data.as_object());
  });
  node.on_lost([state = state_](const Uuid& server) {
    state->unconfirmed.erase(server);
    if (Spread spread = state->end_all(server, state->all_of(server))) state->node.spread(std::move(spread));
  });
  node.on_met([state = state_] { state->say_all(); });
}

void Presence::enter(const Uuid& group, const Uuid& member) {
  state_->node.post([state = state_, key = State::Key{group, member}] { state->count(key, 1); });
}

void Presence::leave(const Uuid& group, const Uuid& member) {
  state_->node.post([state = state_, key = State::Key{group, member}] { state->count(key, -1); });
}

}  // namespace hourz::realtime
