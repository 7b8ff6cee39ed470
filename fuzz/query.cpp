// Any bytes as a query: refused whole, or read to pairs that come back the same when they are encoded and read again.
#include "fuzz.hpp"
#include "shapes.hpp"

namespace {

using namespace hourz;
using fuzz::require;

std::string encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    char escape[4];
    std::snprintf(escape, sizeof escape, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += escape;
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = fuzz::as_text(bytes, size);
  reflect::Pairs pairs;
  try {
    pairs = reflect::parse_query(data);
  } catch (const Problem& problem) {
    require(problem.code == ErrorCode::malformed_request || problem.code == ErrorCode::duplicate_parameter);
    return 0;
  }
  require(pairs.size() <= 100);
  std::string again;
  for (const auto& [name, value] : pairs) {
    require(is_utf8(name) && is_utf8(value) && value.find('\0') == std::string::npos);
    again += encoded(name) + "=" + encoded(value) + "&";
  }
  require(reflect::parse_query(again) == pairs);

  try {
    const auto search = reflect::read_pairs<fuzz::Search>(pairs);
    require(!search.latitude || (search.latitude->degrees >= -90 && search.latitude->degrees <= 90));
    require(!search.longitude || (search.longitude->degrees >= -180 && search.longitude->degrees <= 180));
    require(search.radius_km.value.value >= 0.1 && search.radius_km.value.value <= 100);
    require(search.limit.value.value >= 1 && search.limit.value.value <= 100);
    require(!search.q || !search.q->value.empty());
  } catch (const Problem& problem) {
    require(problem.code == ErrorCode::validation_failed);
  }
  return 0;
}
