// What the buses share: handing on what was heard, counting what was dropped, and saying in the log when a bus is lost
// and when it is back.
//
// A listener that throws must not take the connection with it, so whatever it throws ends here. One line tells of a
// loss, however many attempts fail after it, and one of the return.
#pragma once
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/log.hpp"

namespace hourz::realtime {

class Ear {
 public:
  explicit Ear(std::string_view kind) : kind_(kind) {}

  void listen(std::function<void(std::string_view)> hear, std::function<void()> up) {
    hear_ = std::move(hear);
    tell_up_ = std::move(up);
  }

  void hear(std::string_view text) {
    try {
      if (hear_) hear_(text);
    } catch (const std::exception& error) {
      log::Line(log::Level::error, "bus.not_heard").with("bus", kind_).with("error", error.what());
    }
  }

  /// Texts that nobody will hear.
  void drop(std::size_t texts, std::string_view why) {
    if (texts == 0) return;
    dropped_ += static_cast<std::int64_t>(texts);
    log::Line(log::Level::debug, "bus.dropped").with("bus", kind_).with("total", dropped_).with("error", why);
  }

  /// Something was lost though the connection stands: whoever counts on having said it may say it again.
  void miss() {
    if (up_ == true && tell_up_) tell_up_();
  }

  void announce(bool up, std::string_view why) {
    if (up_ == up) return;
    up_ = up;
    if (up) {
      log::Line(log::Level::info, "bus.connected").with("bus", kind_);
      if (tell_up_) tell_up_();
    } else {
      log::Line(log::Level::warn, "bus.lost").with("bus", kind_).with("error", why);
    }
  }

 private:
  std::string_view kind_;
  std::function<void(std::string_view)> hear_;
  std::function<void()> tell_up_;
  std::int64_t dropped_ = 0;
  std::optional<bool> up_;  ///< as the log knows it
};

}  // namespace hourz::realtime
