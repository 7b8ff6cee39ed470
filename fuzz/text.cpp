// Any bytes as text, email, phone number and password; any text as something to be searched for.
#include <algorithm>

#include "fuzz.hpp"
#include "reflect/walk.hpp"

namespace {

using namespace hourz;
using fuzz::require;

/// What a leaf has accepted, it accepts again unchanged: stored texts never drift.
template <class T>
void check_stable(std::string_view text) {
  T once{};
  if (reflect::Leaf<T>::read_text(text, once)) return;
  T twice{};
  const auto fault = reflect::Leaf<T>::read_text(once.value, twice);
  require(!fault);
  require(once.value == twice.value);
  require(is_utf8(once.value) && once.value.find('\0') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = fuzz::as_text(bytes, size);
  check_stable<Text<0, 4000>>(data);
  check_stable<Text<3, 12>>(data);
  check_stable<Secret<8, 128>>(data);
  check_stable<Email>(data);
  check_stable<Phone>(data);
  if (!is_utf8(data)) return 0;

  const std::string normal = normalise(data);
  require(is_utf8(normal) && normalise(normal) == normal);
  require(count_code_points(normal) <= normal.size());
  const std::string folded = fold_case(data);
  require(is_utf8(folded) && fold_case(folded) == folded);

  const auto terms = search_terms(data, 16);
  require(terms.size() <= 16 && std::is_sorted(terms.begin(), terms.end()));
  require(std::adjacent_find(terms.begin(), terms.end()) == terms.end());
  for (const std::string& term : terms) require(!term.empty() && term.size() <= 64 && is_utf8(term));

  // The case of ASCII letters changes nothing. (Not so what folding does beyond case: words are broken before it.)
  std::string swapped(data);
  for (char& c : swapped) c = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ? static_cast<char>(c ^ 0x20) : c;
  require(search_terms(swapped, 16) == terms);
  return 0;
}
