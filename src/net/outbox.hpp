// What waits to be sent on one WebSocket: frames shared with other connections, in order, the first perhaps sent in
// part. Bounded by whoever asks fits() first; an empty one keeps no memory to speak of. Gathers many frames for one
// system call and is told how many bytes went.
#pragma once
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "realtime/socket.hpp"

namespace hourz::net {

class Outbox {
 public:
  static constexpr std::size_t gathered = 64;  ///< at most, in one call

  bool empty() const { return first_ == frames_.size(); }
  std::size_t frames() const { return frames_.size() - first_; }
  std::size_t bytes() const { return bytes_; }  ///< not sent yet

  /// A frame too long for the bounds by itself fits an empty outbox.
  bool fits(std::size_t size, std::size_t most_bytes, std::size_t most_frames) const {
    return empty() || (bytes_ + size <= most_bytes && frames() < most_frames);
  }

  /// The number of the frame to be pushed next, which stands for it in replace().
  std::uint64_t next() const { return gone_ + frames_.size(); }

  void push(realtime::Frame frame) {
    bytes_ += frame->size();
    frames_.push_back(std::move(frame));
  }

  /// Puts another frame in the place of one of which nothing was sent yet; false when it is too late for that.
  bool replace(std::uint64_t number, realtime::Frame frame) {
    if (number < gone_ + first_ + (begun_ > 0 ? 1 : 0)) return false;
    realtime::Frame& place = frames_[static_cast<std::size_t>(number - gone_)];
    bytes_ += frame->size() - place->size();
    place = std::move(frame);
    return true;
  }

  /// Drops all but the frame that was sent in part, which cannot be unsent.
  void drop() {
    const std::size_t keep = first_ + (begun_ > 0 ? 1 : 0);
    bytes_ = begun_ > 0 ? frames_[first_]->size() - begun_ : 0;
    frames_.resize(std::min(keep, frames_.size()));
  }

  /// What to send next; returns how many parts there are.
  std::size_t gather(std::array<iovec, gathered>& parts) const {
    const std::size_t count = std::min(frames(), gathered);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string& frame = *frames_[first_ + i];
      const std::size_t skip = i == 0 ? begun_ : 0;
      parts[i] = {const_cast<char*>(frame.data()) + skip, frame.size() - skip};
    }
    return count;
  }

  /// Takes off what was sent; returns how many frames that ended.
  std::size_t sent(std::size_t bytes) {
    bytes_ -= bytes;
    std::size_t ended = 0;
    for (; first_ < frames_.size(); ++first_, ++ended) {
      const std::size_t left = frames_[first_]->size() - begun_;
      if (bytes < left) break;
      bytes -= left;
      begun_ = 0;
      frames_[first_].reset();
    }
    begun_ += bytes;
    tidy();
    return ended;
  }

 private:
  void tidy() {
    if (!empty() && first_ < 64) return;
    gone_ += first_;
    if (empty() && frames_.capacity() > kept) {
      std::vector<realtime::Frame>().swap(frames_);
    } else {
      frames_.erase(frames_.begin(), frames_.begin() + static_cast<std::ptrdiff_t>(first_));
    }
    first_ = 0;
  }

  static constexpr std::size_t kept = 8;

  std::vector<realtime::Frame> frames_;
  std::size_t first_ = 0;  ///< those before it are gone
  std::size_t begun_ = 0;  ///< bytes of the first that are sent
  std::size_t bytes_ = 0;
  std::uint64_t gone_ = 0;  ///< frames taken out of the vector so far
};

}  // namespace hourz::net
