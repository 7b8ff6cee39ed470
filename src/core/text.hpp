// Text from outside: valid UTF-8, normalised (NFC), free of NUL, other control characters and bidirectional overrides,
// counted in code points. ICU does the Unicode work.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hourz {

/// A text of Min..Max code points after trimming and normalising. Parsing is validating: see reflect/leaf.hpp.
template <std::size_t Min, std::size_t Max>
struct Text {
  static constexpr std::size_t minimum = Min;
  static constexpr std::size_t maximum = Max;
  std::string value;
  bool operator==(const Text&) const = default;
};

/// The same on one line: without line feeds, tabs, and Unicode's line and paragraph separators.
template <std::size_t Min, std::size_t Max>
struct Line {
  static constexpr std::size_t minimum = Min;
  static constexpr std::size_t maximum = Max;
  std::string value;
  bool operator==(const Line&) const = default;
};

bool is_utf8(std::string_view text);

/// Code points in valid UTF-8.
std::size_t count_code_points(std::string_view text);

/// Trimmed of white space at both ends and in normal form C.
std::string normalise(std::string_view text);

/// Normal form C, nothing trimmed.
std::string normal_form_c(std::string_view text);

/// The first character that no text may hold (a control character but tab and line feed, a bidirectional override or
/// isolate, a non-character), or nothing.
std::optional<char32_t> find_forbidden(std::string_view text);

/// Lower case in normal form C: for words that are shown as they are kept.
std::string lower_case(std::string_view text);

/// For comparing: compatibility normal form with case folded (NFKC_Casefold).
std::string fold_case(std::string_view text);

/// Distinct search terms of a text, sorted: words as ICU breaks them (Thai by its dictionary), folded, English ones
/// stemmed (Snowball). The first `limit` of the text, of at most 64 bytes each.
std::vector<std::string> search_terms(std::string_view text, std::size_t limit = 1024);

/// The items of a list parted by commas, without the blanks around them; empty ones are left out.
std::vector<std::string_view> items_of(std::string_view list);

}  // namespace hourz
