#include "http/cursor.hpp"

namespace hourz::http {
namespace {
constexpr std::size_t seal_bytes = 16;
}

std::string seal_cursor(std::string_view key, std::string_view payload) {
  const Mac mac = hmac_sha256(key, payload);
  return to_base64url(std::string(as_text(mac).substr(0, seal_bytes)) + std::string(payload));
}

std::string open_cursor(std::string_view key, std::string_view cursor) {
  const auto bytes = cursor.size() > 4096 ? std::nullopt : from_base64url(cursor);
  if (!bytes || bytes->size() <= seal_bytes) throw Problem(ErrorCode::invalid_cursor);
  std::string payload = bytes->substr(seal_bytes);
  const Mac mac = hmac_sha256(key, payload);
  if (!equal_in_constant_time(std::string_view(*bytes).substr(0, seal_bytes), as_text(mac).substr(0, seal_bytes))) {
    throw Problem(ErrorCode::invalid_cursor);
  }
  return payload;
}

}  // namespace hourz::http
