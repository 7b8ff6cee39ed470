#include "http/cursor.hpp"

namespace hourz::http {

std::string seal_cursor(std::string_view key, const Uuid& user, std::string_view payload) {
  return to_base64url(seal(key, to_string(user), payload));
}

std::string open_cursor(std::string_view key, const Uuid& user, std::string_view cursor) {
  const auto bytes = cursor.size() > 4096 ? std::nullopt : from_base64url(cursor);
  auto payload = bytes ? unseal(key, to_string(user), *bytes) : std::nullopt;
  if (!payload) throw Problem(ErrorCode::invalid_cursor);
  return std::move(*payload);
}

}  // namespace hourz::http
