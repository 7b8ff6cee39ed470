#include "core/time.hpp"

#include <chrono>

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

void put_digits(std::string& text, std::size_t at, std::size_t count, int value) {
  for (std::size_t i = count; i > 0; --i, value /= 10) text[at + i - 1] = static_cast<char>('0' + value % 10);
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
  // By hand, since an answer holds up to seven times and snprintf showed in the profile.
  std::string text = "0000-00-00T00:00:00.000000Z";
  put_digits(text, 0, 4, int(date.year()));
  put_digits(text, 5, 2, int(unsigned(date.month())));
  put_digits(text, 8, 2, int(unsigned(date.day())));
  put_digits(text, 11, 2, int(clock.hours().count()));
  put_digits(text, 14, 2, int(clock.minutes().count()));
  put_digits(text, 17, 2, int(clock.seconds().count()));
  put_digits(text, 20, 6, int(clock.subseconds().count()));
  if (clock.subseconds().count() == 0) text.erase(19, 7);
  return text;
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
  const std::int64_t moment = duration_cast<microseconds>(point.time_since_epoch()).count() + micros;
  // An offset may carry a time in range over either end of it.
  if (moment < 0 || moment > 253'402'300'799'999'999) return std::nullopt;
  return Timestamp{moment};
}

}  // namespace hourz
