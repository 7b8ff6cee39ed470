#include "demo/copy.hpp"

#include <stdexcept>

namespace hourz::demo {
namespace {

constexpr std::size_t piece_bytes = 256 * 1024;
constexpr std::int64_t postgres_epoch_us = 946'684'800'000'000;  // 2000-01-01
constexpr std::uint32_t text_oid = 25;

void put_int32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>((value >> shift) & 0xff);
}

}  // namespace

Loader::Loader(const std::string& url) : connection_(PQconnectdb(url.c_str())) {
  if (PQstatus(connection_.get()) != CONNECTION_OK) fail("connect");
  run("SET client_encoding = 'UTF8'");
  run("SET client_min_messages = warning");
}

void Loader::fail(std::string_view step) const {
  std::string words = PQerrorMessage(connection_.get());
  while (!words.empty() && words.back() == '\n') words.pop_back();
  throw std::runtime_error("demonstration data, " + std::string(step.substr(0, 60)) + ": " + words);
}

void Loader::run(const std::string& sql) {
  const Result result(PQexec(connection_.get(), sql.c_str()));
  const auto status = PQresultStatus(result.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) fail(sql);
}

std::vector<std::vector<std::string>> Loader::rows(const std::string& sql) {
  const Result result(PQexec(connection_.get(), sql.c_str()));
  if (PQresultStatus(result.get()) != PGRES_TUPLES_OK) fail(sql);
  std::vector<std::vector<std::string>> out(static_cast<std::size_t>(PQntuples(result.get())));
  for (int row = 0; row < PQntuples(result.get()); ++row) {
    for (int column = 0; column < PQnfields(result.get()); ++column) {
      out[static_cast<std::size_t>(row)].emplace_back(PQgetvalue(result.get(), row, column));
    }
  }
  return out;
}

void Loader::start_copy(const std::string& statement) {
  const Result result(PQexec(connection_.get(), statement.c_str()));
  if (PQresultStatus(result.get()) != PGRES_COPY_IN) fail(statement);
}

void Loader::send(std::string_view bytes) {
  if (PQputCopyData(connection_.get(), bytes.data(), static_cast<int>(bytes.size())) != 1) fail("COPY");
}

std::int64_t Loader::end_copy() {
  if (PQputCopyEnd(connection_.get(), nullptr) != 1) fail("COPY");
  const Result result(PQgetResult(connection_.get()));
  if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) fail("COPY");
  const std::int64_t count = std::stoll(PQcmdTuples(result.get()));
  while (const Result rest{PQgetResult(connection_.get())}) {
  }
  return count;
}

BinaryCopy::BinaryCopy(Loader& loader, const std::string& table, const std::string& columns, bool freeze)
    : loader_(loader) {
  loader_.start_copy("COPY " + table + " (" + columns + ") FROM STDIN (FORMAT binary" + (freeze ? ", FREEZE)" : ")"));
  buffer_.reserve(piece_bytes * 2);
  buffer_.append("PGCOPY\n\xff\r\n\0", 11);
  put_int32(buffer_, 0);  // flags
  put_int32(buffer_, 0);  // no header extension
}

void BinaryCopy::row(std::int16_t fields) {
  if (buffer_.size() >= piece_bytes) {
    loader_.send(buffer_);
    buffer_.clear();
  }
  number(fields);
}

void BinaryCopy::text(std::string_view value) {
  number(static_cast<std::int32_t>(value.size()));
  buffer_ += value;
}

void BinaryCopy::boolean(bool value) {
  number<std::int32_t>(1);
  buffer_ += value ? '\1' : '\0';
}

void BinaryCopy::uuid(const Uuid& id) { text({reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()}); }

void BinaryCopy::time(Timestamp at) { int64(at.microseconds - postgres_epoch_us); }

void BinaryCopy::geography(Point point) {
  // EWKB: little-endian, a point with an SRID, 4326, then longitude and latitude.
  static_assert(std::endian::native == std::endian::little);
  char bytes[25] = {1, 1, 0, 0, 0x20, '\xe6', 0x10, 0, 0};
  std::memcpy(bytes + 9, &point.longitude, sizeof point.longitude);
  std::memcpy(bytes + 17, &point.latitude, sizeof point.latitude);
  text({bytes, sizeof bytes});
}

std::int64_t BinaryCopy::finish() {
  number<std::int16_t>(-1);
  loader_.send(buffer_);
  buffer_.clear();
  return loader_.end_copy();
}

std::string encode_texts(std::span<const std::string> texts) {
  std::string array;
  put_int32(array, texts.empty() ? 0 : 1);  // dimensions
  put_int32(array, 0);                      // no NULLs
  put_int32(array, text_oid);
  if (!texts.empty()) {
    put_int32(array, static_cast<std::uint32_t>(texts.size()));
    put_int32(array, 1);  // first index
  }
  for (const std::string& each : texts) {
    put_int32(array, static_cast<std::uint32_t>(each.size()));
    array += each;
  }
  std::string field;
  put_int32(field, static_cast<std::uint32_t>(array.size()));
  return field + array;
}

}  // namespace hourz::demo
