// Where one connection stands in one room's stream of messages: what was given to it, and what has to wait while the
// messages that it missed are still being read. Pure: it decides and keeps, and sends nothing itself. Promises each
// message at most once and in order, and says so when it cannot keep that.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace hourz::chat {

enum class Verdict {
  send,  ///< it is the next
  hold,  ///< kept until what was missed has been read
  drop,  ///< given already
  gap,   ///< messages before it never came: the connection must come back and resume
};

/// `Item` is a message's frame.
template <class Item>
class Seat {
 public:
  /// Live messages are held from here on. Also for a connection that joins once more.
  void begin_reading() { reading_ = true; }
  bool reading() const { return reading_; }
  /// The last message given.
  std::int64_t last() const { return last_; }

  Verdict arrive(std::int64_t seq, const Item& item) {
    if (reading_) {
      const auto place = std::lower_bound(held_.begin(), held_.end(), seq,
                                          [](const auto& held, std::int64_t number) { return held.first < number; });
      if (place != held_.end() && place->first == seq) return Verdict::drop;
      held_.emplace(place, seq, item);
      return Verdict::hold;
    }
    if (seq <= last_) return Verdict::drop;
    if (seq != last_ + 1) return Verdict::gap;
    last_ = seq;
    return Verdict::send;
  }

  struct Rest {
    std::vector<Item> items;  ///< to be sent now, in order
    bool gap = false;         ///< what was held does not continue what was read
  };

  /// What was missed has been read and given, up to `seq`; what is held and newer comes next, then live ones.
  Rest end_reading(std::int64_t seq) {
    reading_ = false;
    last_ = std::max(last_, seq);
    Rest rest;
    for (auto& [number, item] : held_) {
      if (number <= last_) continue;
      if (number != last_ + 1) {
        rest.gap = true;
        break;
      }
      last_ = number;
      rest.items.push_back(std::move(item));
    }
    held_ = {};
    return rest;
  }

 private:
  std::int64_t last_ = 0;
  bool reading_ = false;
  std::vector<std::pair<std::int64_t, Item>> held_;  // by number
};

}  // namespace hourz::chat
