// Any bytes as a value in PostgreSQL's binary format: decoded, or a WireError; never read past the end.
#include "db/wire.hpp"
#include "fuzz.hpp"

namespace {

using namespace hourz;
using fuzz::require;

enum class Colour { RED, BLUE };
BOOST_DESCRIBE_ENUM(Colour, RED, BLUE)

template <class T>
void check(std::string_view bytes) {
  try {
    const T value = db::Wire<T>::decode(bytes);
    std::string once;
    db::Wire<T>::encode(once, value);
    std::string twice;
    db::Wire<T>::encode(twice, db::Wire<T>::decode(once));
    require(once == twice);
  } catch (const db::WireError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = fuzz::as_text(bytes, size);
  check<bool>(data);
  check<std::int16_t>(data);
  check<std::int32_t>(data);
  check<std::int64_t>(data);
  check<double>(data);
  check<std::string>(data);
  check<Uuid>(data);
  check<Timestamp>(data);
  check<Money>(data);
  check<Colour>(data);
  check<db::Bytes>(data);
  check<std::vector<std::string>>(data);
  check<std::vector<std::int64_t>>(data);
  check<std::vector<Uuid>>(data);
  check<std::vector<Timestamp>>(data);
  check<std::vector<double>>(data);
  check<std::vector<Colour>>(data);
  return 0;
}
