#include "core/ids.hpp"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

namespace hourz {
namespace {

constexpr char digits[] = "0123456789abcdef";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Uuid make_uuid() {
  thread_local std::uint64_t last_stamp = 0;
  // The kernel is asked once for many ids: every request has one.
  thread_local std::array<std::uint8_t, 512> random;
  thread_local std::size_t used = random.size();
  if (used == random.size()) {
    randombytes_buf(random.data(), random.size());
    used = 0;
  }
  Uuid id;
  std::copy_n(random.begin() + static_cast<std::ptrdiff_t>(used), 8, id.bytes.begin() + 8);
  used += 8;
  const auto now = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  // Milliseconds and counter in one number: when a millisecond's 4,096 ids are used up the next one is borrowed.
  const std::uint64_t stamp = std::max(now << 12, last_stamp + 1);
  last_stamp = stamp;
  const std::uint64_t milliseconds = stamp >> 12;
  for (unsigned i = 0; i < 6; ++i) id.bytes[i] = static_cast<std::uint8_t>(milliseconds >> (40 - 8 * i));
  id.bytes[6] = static_cast<std::uint8_t>(0x70 | ((stamp >> 8) & 0x0f));
  id.bytes[7] = static_cast<std::uint8_t>(stamp & 0xff);
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

std::string to_string(const Uuid& id) {
  std::string text(36, '-');
  std::size_t at = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) ++at;
    text[at++] = digits[id.bytes[i] >> 4];
    text[at++] = digits[id.bytes[i] & 15];
  }
  return text;
}

std::optional<Uuid> parse_uuid(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid id;
  std::size_t at = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      if (text[at++] != '-') return std::nullopt;
    }
    const int high = hex_value(text[at]);
    const int low = hex_value(text[at + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    id.bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
    at += 2;
  }
  return id;
}

}  // namespace hourz

std::size_t std::hash<hourz::Uuid>::operator()(const hourz::Uuid& id) const noexcept {
  std::uint64_t tail;
  std::memcpy(&tail, id.bytes.data() + 8, sizeof tail);  // the random half
  std::uint64_t head;
  std::memcpy(&head, id.bytes.data(), sizeof head);
  return static_cast<std::size_t>(tail ^ (head * 0x9e3779b97f4a7c15ULL));
}
