// Cursors of lists: sealed (encrypted and authenticated), bound to who got them, and holding all that the next page
// needs: the position, and the query it belongs to. A cursor stands in URLs, and a search's origin may be somebody's
// home.
#pragma once
#include <string>
#include <string_view>

#include "core/crypto.hpp"
#include "core/ids.hpp"
#include "core/problem.hpp"
#include "reflect/walk.hpp"

namespace hourz::http {

/// `key` has 32 bytes.
std::string seal_cursor(std::string_view key, const Uuid& user, std::string_view payload);

/// The payload of a cursor that this key sealed for this user. Throws Problem invalid_cursor.
std::string open_cursor(std::string_view key, const Uuid& user, std::string_view cursor);

template <class T>
std::string to_cursor(std::string_view key, const Uuid& user, const T& position) {
  return seal_cursor(key, user, reflect::to_json(position));
}

template <class T>
T from_cursor(std::string_view key, const Uuid& user, std::string_view cursor) {
  try {
    return reflect::read_json<T>(open_cursor(key, user, cursor));
  } catch (const Problem&) {
    throw Problem(ErrorCode::invalid_cursor);  // also a cursor of another list, sealed with the same key
  }
}

}  // namespace hourz::http
