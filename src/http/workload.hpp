// How much work a shard takes on at a time, so that past its capacity requests are refused at once and those taken on
// are answered soon. One for each kind of work (reads, changes) of a shard; used from its thread alone.
//
// The bound moves by what the work says: while it is reached and even the quickest request of a tenth of a second took
// longer than the target, there is a queue that never empties, and the bound shrinks; while it is reached and they are
// quick, it grows. While nothing at all has ended for longer than the target, only `least` are taken on. A few slow
// requests, or slow ones that are not many, move nothing.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>

namespace hourz::http {

class Workload {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t least = 16, first = 128, most = 4096;
  static constexpr std::chrono::milliseconds period{100};

  /// A `target` of zero refuses nothing.
  explicit Workload(std::chrono::milliseconds target) : target_(target) {}

  /// Whether there is room for one more.
  bool has_room(Clock::time_point now) const {
    return target_.count() == 0 || under_way_ < least ||
           (under_way_ < bound_ && now - std::max(period_began_, crowded_since_) <= target_ + period);
  }
  std::size_t under_way() const { return under_way_; }
  std::size_t bound() const { return bound_; }

  void begin(Clock::time_point now) {
    if (under_way_++ == 0 && now - period_began_ >= period) period_began_ = now;  // it was idle
    if (under_way_ == least) crowded_since_ = now;
    reached_ = reached_ || under_way_ >= bound_;
  }

  /// Of what began, and was not the work itself: asking who somebody is.
  void leave() { --under_way_; }

  /// Of a request that began at `since`.
  void end(Clock::time_point since, Clock::time_point now) {
    --under_way_;
    quickest_ = std::min(quickest_, now - since);
    if (now - period_began_ >= period) move(now);
  }

 private:
  void move(Clock::time_point now) {
    if (reached_ && quickest_ > target_) {
      bound_ = std::max(least, bound_ * 3 / 4);
    } else if (reached_) {
      bound_ = std::min(most, bound_ + bound_ / 8);
    }
    period_began_ = now;
    quickest_ = Clock::duration::max();
    reached_ = under_way_ >= bound_;
  }

  std::chrono::milliseconds target_;
  std::size_t under_way_ = 0;
  std::size_t bound_ = first;
  bool reached_ = false;
  Clock::time_point period_began_{};   ///< the last one to end after it moves it
  Clock::time_point crowded_since_{};  ///< when more than the least were last there
  Clock::duration quickest_ = Clock::duration::max();
};

}  // namespace hourz::http
