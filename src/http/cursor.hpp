// Cursors of lists: sealed (encrypted and authenticated), bound to who got them, and holding all that the next page
// needs: the position, and the query it belongs to. A cursor stands in URLs, and a search's origin may be somebody's
// home.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

/// Behind every id: with the end of time, where a list that has the newest first begins.
constexpr Uuid last_uuid() {
  Uuid id;
  id.bytes.fill(0xff);
  return id;
}

/// A list reads one row more than its page holds. When that row came, it is cut off, `mark(position, last)` puts down
/// where the page ended, and the cursor of the next page is given; else this was the last page.
template <class Row, class Position, class Mark>
std::optional<std::string> cut_page(std::vector<Row>& rows, std::size_t limit, std::string_view key, const Uuid& user,
                                    Position position, const Mark& mark) {
  if (rows.size() <= limit) return std::nullopt;
  rows.resize(limit);
  mark(position, rows.back());
  return to_cursor(key, user, position);
}

/// The same for lists by time and id, the newest first.
template <class Row, class Position>
std::optional<std::string> cut_page(std::vector<Row>& rows, std::size_t limit, std::string_view key, const Uuid& user,
                                    Position position) {
  return cut_page(rows, limit, key, user, std::move(position), [](Position& at, const Row& last) {
    at.before = last.created_at;
    at.before_id = last.id;
  });
}

}  // namespace hourz::http
