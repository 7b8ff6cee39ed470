// Log lines: one JSON object a line on standard error, written by a background thread, so that a slow reader of the log
// stops no request; what does not fit into 8 MiB of waiting lines is dropped and counted. Lines of level info appear
// within 10 ms, others at once. A line has `time`, `level` and `event` (a stable name) and the fields given. Values are
// escaped: nobody outside can forge a line.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace hourz::log {

enum class Level { debug, info, warn, error };

void start(std::string_view least_level);
/// Writes out what is queued.
void stop();
bool enabled(Level level);
std::uint64_t dropped();

/// Builds a line and sends it when it goes out of scope:
///   log::Line(log::Level::info, "server.started").with("port", port);
class Line {
 public:
  Line(Level level, std::string_view event);
  ~Line();
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  Line& with(std::string_view field, std::string_view value);
  Line& with(std::string_view field, const char* value) { return with(field, std::string_view(value)); }
  Line& with(std::string_view field, const std::string& value) { return with(field, std::string_view(value)); }
  Line& with(std::string_view field, std::int64_t value);
  Line& with(std::string_view field, int value) { return with(field, static_cast<std::int64_t>(value)); }

 private:
  Level level_;
  std::string text_;
};

}  // namespace hourz::log
