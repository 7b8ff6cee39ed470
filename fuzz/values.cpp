// Times, money, numbers and ids: what is read writes itself back to a spelling that reads as the same value.
#include "fuzz.hpp"
#include "reflect/walk.hpp"

namespace {

using namespace hourz;
using fuzz::require;

/// The value's JSON, read and written once more, is the same.
template <class T>
void check_round_trip(const T& value) {
  std::string once;
  reflect::write_json(once, value);
  T again{};
  const auto fault = reflect::Leaf<T>::read(reflect::parse_json(once), again);
  require(!fault);
  std::string twice;
  reflect::write_json(twice, again);
  require(once == twice);
}

template <class T>
void check_text(std::string_view text) {
  T value{};
  if (!reflect::Leaf<T>::read_text(text, value)) check_round_trip(value);
}

void check_time(std::string_view text) {
  const auto time = parse_timestamp(text);
  if (!time) return;
  const std::string shown = to_string(*time);
  require(shown.size() == 20 || shown.size() == 27);
  require(parse_timestamp(shown) == *time);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = fuzz::as_text(bytes, size);
  check_time(data);
  check_text<Timestamp>(data);
  check_text<Money>(data);
  check_text<Latitude>(data);
  check_text<Longitude>(data);
  check_text<Uuid>(data);
  check_text<Integer<-1000, 1'000'000>>(data);
  check_text<Real<-1'000'000'000'000, 1'000'000'000'000>>(data);
  check_text<Real<500, 24'000, 500>>(data);
  if (size == 8) {
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < size; ++i) number = number << 8 | bytes[i];
    // Every amount there is can be written and read: none falls to rounding on the way.
    check_round_trip(Money{static_cast<std::int64_t>(number % (Money::maximum_satang + 1))});
    check_time(to_string(Timestamp{static_cast<std::int64_t>(number % 253'402'300'800'000'000ULL)}));
  }
  return 0;
}
