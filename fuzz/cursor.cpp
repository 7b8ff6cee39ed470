// Any bytes as a cursor: none is accepted that the key has not sealed, and of a sealed one no second spelling.
#include "http/cursor.hpp"
#include "fuzz.hpp"

namespace {

using namespace hourz;
using fuzz::require;

struct Position {
  Timestamp at;
  Uuid id;
  std::optional<Real<0, 20'000'000'000>> distance;
};
BOOST_DESCRIBE_STRUCT(Position, (), (at, id, distance))

constexpr std::string_view key = "a key of exactly 32 bytes, as it";
constexpr std::string_view other_key = "another key of exactly 32 bytes,";

const Uuid user{};

bool refused(std::string_view with, std::string_view cursor) {
  try {
    http::open_cursor(with, user, cursor);
    return false;
  } catch (const Problem& problem) {
    require(problem.code == ErrorCode::invalid_cursor);
    return true;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = fuzz::as_text(bytes, size);
  require(refused(key, data));  // nobody guesses a seal

  const std::string sealed = http::seal_cursor(key, user, data);
  if (sealed.size() > 4096) {
    require(refused(key, sealed));
    return 0;
  }
  require(http::open_cursor(key, user, sealed) == data && refused(other_key, sealed));
  std::string bent = sealed;
  bent[size % bent.size()] = bent[size % bent.size()] == 'A' ? 'B' : 'A';
  require(refused(key, bent));
  require(refused(key, sealed + "=") && refused(key, sealed.substr(1)));
  try {
    // Sealed by us, but perhaps for another list.
    const auto position = http::from_cursor<Position>(key, user, sealed);
    const std::string once = http::to_cursor(key, user, position);
    require(reflect::to_json(http::from_cursor<Position>(key, user, once)) == reflect::to_json(position));
  } catch (const Problem& problem) {
    require(problem.code == ErrorCode::invalid_cursor);
  }
  return 0;
}
