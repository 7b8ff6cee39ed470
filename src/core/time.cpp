#include "core/time.hpp"

#include <array>
#include <chrono>
#include <cstdio>

namespace hourz {
namespace {

/// Reads exactly `count` decimal digits from the front of `text`; -1 when they are not there.
int take_digits(std::string_view& text, std::size_t count) {
  if (text.size() < count) return -1;
  int value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

Timestamp now() {
  return {std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
              .count()};
}

std::string to_string(Timestamp time) {
  using namespace std::chrono;
  const sys_time<microseconds> point{microseconds{time.microseconds}};
  const auto day = floor<days>(point);
  const year_month_day date{day};
  const hh_mm_ss clock{point - day};
  std::array<char, 48> text{};
  int length = std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d", int(date.year()),
                             unsigned(date.month()), unsigned(date.day()), int(clock.hours().count()),
                             int(clock.minutes().count()), int(clock.seconds().count()));
  if (clock.subseconds().count() != 0) {
    length += std::snprintf(text.data() + length, text.size() - static_cast<std::size_t>(length), ".%06d",
                            int(clock.subseconds().count()));
  }
  std::string result(text.data(), static_cast<std::size_t>(length));
  result.push_back('Z');
  return result;
}

std::optional<Timestamp> parse_timestamp(std::string_view text) {
  using namespace std::chrono;
  const int y = take_digits(text, 4);
  if (y < 1970 || !take(text, '-')) return std::nullopt;
  const int mo = take_digits(text, 2);
  if (mo < 1 || !take(text, '-')) return std::nullopt;
  const int d = take_digits(text, 2);
  if (d < 1 || !(take(text, 'T') || take(text, 't'))) return std::nullopt;
  const int h = take_digits(text, 2);
  if (h < 0 || h > 23 || !take(text, ':')) return std::nullopt;
  const int mi = take_digits(text, 2);
  if (mi < 0 || mi > 59 || !take(text, ':')) return std::nullopt;
  const int s = take_digits(text, 2);
  if (s < 0 || s > 59) return std::nullopt;
  std::int64_t micros = 0;
  if (take(text, '.')) {
    std::int64_t scale = 100'000;
    if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      if (scale == 0) return std::nullopt;
      micros += (text.front() - '0') * scale;
      scale /= 10;
      text.remove_prefix(1);
    }
  }
  minutes offset{0};
  if (!take(text, 'Z') && !take(text, 'z')) {
    const bool west = take(text, '-');
    if (!west && !take(text, '+')) return std::nullopt;
    const int oh = take_digits(text, 2);
    if (oh < 0 || oh > 23 || !take(text, ':')) return std::nullopt;
    const int om = take_digits(text, 2);
    if (om < 0 || om > 59) return std::nullopt;
    offset = minutes{(west ? -1 : 1) * (oh * 60 + om)};
  }
  if (!text.empty()) return std::nullopt;
  const year_month_day date{year{y}, month{static_cast<unsigned>(mo)}, day{static_cast<unsigned>(d)}};
  if (!date.ok()) return std::nullopt;
  const auto point = sys_days{date} + hours{h} + minutes{mi} + seconds{s} - offset;
  return Timestamp{duration_cast<microseconds>(point.time_since_epoch()).count() + micros};
}

}  // namespace hourz
