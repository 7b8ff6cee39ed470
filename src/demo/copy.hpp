// One blocking connection for loading: plain statements, and COPY in PostgreSQL's binary format, which spares the
// server the parsing of text and us the escaping. Errors are std::runtime_error with the database's own words and the
// step. Not for serving: it blocks its thread.
#pragma once
#include <libpq-fe.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/geo.hpp"
#include "core/ids.hpp"
#include "core/time.hpp"

namespace hourz::demo {

class Loader {
 public:
  explicit Loader(const std::string& url);

  void run(const std::string& sql);
  /// Rows of text columns; NULL is the empty string.
  std::vector<std::vector<std::string>> rows(const std::string& sql);

  void start_copy(const std::string& statement);
  void send(std::string_view bytes);
  /// Returns how many rows the server took.
  std::int64_t end_copy();

 private:
  struct Close {
    void operator()(PGconn* connection) const { PQfinish(connection); }
    void operator()(PGresult* result) const { PQclear(result); }
  };
  using Result = std::unique_ptr<PGresult, Close>;
  [[noreturn]] void fail(std::string_view step) const;

  std::unique_ptr<PGconn, Close> connection_;
};

/// Builds rows of a binary COPY and sends them in large pieces. `finish` must be called; without it the transaction
/// around it cannot be committed.
class BinaryCopy {
 public:
  BinaryCopy(Loader& loader, const std::string& table, const std::string& columns, bool freeze);

  void row(std::int16_t fields);
  void null() { number<std::int32_t>(-1); }
  void text(std::string_view value);
  void optional_text(std::string_view value) { value.empty() ? null() : text(value); }
  void boolean(bool value);
  void int32(std::int32_t value) { sized(value); }
  void int64(std::int64_t value) { sized(value); }
  void float64(double value) { sized(std::bit_cast<std::int64_t>(value)); }
  void uuid(const Uuid& id);
  void time(Timestamp at);
  void optional_time(Timestamp at) { at.microseconds == 0 ? null() : time(at); }
  void geography(Point point);
  /// A field made before, by `encode_texts`.
  void raw(std::string_view field) { buffer_ += field; }
  std::int64_t finish();

 private:
  template <typename T>
  void number(T value) {
    auto bits = static_cast<std::make_unsigned_t<T>>(value);
    char bytes[sizeof bits];
    for (std::size_t i = sizeof bits; i-- > 0;) {
      bytes[i] = static_cast<char>(bits & 0xff);
      bits = static_cast<std::make_unsigned_t<T>>(sizeof bits > 1 ? bits >> 8 : 0);
    }
    buffer_.append(bytes, sizeof bytes);
  }
  template <typename T>
  void sized(T value) {
    number<std::int32_t>(sizeof value);
    number(value);
  }

  Loader& loader_;
  std::string buffer_;
};

/// text[] as a whole field, its length included.
std::string encode_texts(std::span<const std::string> texts);

}  // namespace hourz::demo
