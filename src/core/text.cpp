#include "core/text.hpp"

#include <libstemmer.h>
#include <unicode/brkiter.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <memory>
#include <set>
#include <stdexcept>

namespace hourz {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

icu::UnicodeString to_icu(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
}

std::string from_icu(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

std::string through(const icu::Normalizer2* form, std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::UnicodeString result = form->normalize(to_icu(text), status);
  if (U_FAILURE(status) != 0) throw std::runtime_error("ICU cannot normalise");
  return from_icu(result);
}

const icu::Normalizer2* normal_form(bool fold) {
  UErrorCode status = U_ZERO_ERROR;
  const auto* form =
      fold ? icu::Normalizer2::getNFKCCasefoldInstance(status) : icu::Normalizer2::getNFCInstance(status);
  if (U_FAILURE(status) != 0) throw std::runtime_error("ICU data is missing");
  return form;
}

struct StemmerDelete {
  void operator()(sb_stemmer* stemmer) const { sb_stemmer_delete(stemmer); }
};

/// The break iterator and the stemmer keep state, so each thread has its own.
struct WordTools {
  std::unique_ptr<icu::BreakIterator> breaker;
  std::unique_ptr<sb_stemmer, StemmerDelete> stemmer;
  WordTools() {
    UErrorCode status = U_ZERO_ERROR;
    breaker.reset(icu::BreakIterator::createWordInstance(icu::Locale("th"), status));
    stemmer.reset(sb_stemmer_new("english", nullptr));
    if (U_FAILURE(status) != 0 || !stemmer) throw std::runtime_error("ICU or Snowball data is missing");
  }
};

}  // namespace

bool is_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto length = static_cast<std::int32_t>(text.size());
  for (std::int32_t i = 0; i < length;) {
    UChar32 c = 0;
    U8_NEXT(bytes, i, length, c);
    if (c < 0) return false;
  }
  return true;
}

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string normal_form_c(std::string_view text) {
  return is_ascii(text) ? std::string(text) : through(normal_form(false), text);
}

std::string normalise(std::string_view text) {
  const std::string formed = normal_form_c(text);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(formed.data());
  std::int32_t start = 0;
  std::int32_t end = static_cast<std::int32_t>(formed.size());
  for (std::int32_t next = start; start < end; start = next) {
    UChar32 c = 0;
    U8_NEXT(bytes, next, end, c);
    if (!u_isUWhiteSpace(c)) break;
  }
  for (std::int32_t previous = end; end > start; end = previous) {
    UChar32 c = 0;
    U8_PREV(bytes, start, previous, c);
    if (!u_isUWhiteSpace(c)) break;
  }
  return formed.substr(static_cast<std::size_t>(start), static_cast<std::size_t>(end - start));
}

std::optional<char32_t> find_forbidden(std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto length = static_cast<std::int32_t>(text.size());
  for (std::int32_t i = 0; i < length;) {
    UChar32 c = 0;
    U8_NEXT(bytes, i, length, c);
    const bool control = (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7f && c <= 0x9f);
    const bool direction = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    if (control || direction || U_IS_UNICODE_NONCHAR(c)) return static_cast<char32_t>(c);
  }
  return std::nullopt;
}

std::string lower_case(std::string_view text) {
  if (is_ascii(text)) return fold_case(text);
  return from_icu(to_icu(normal_form_c(text)).foldCase());
}

std::string fold_case(std::string_view text) {
  if (is_ascii(text)) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return out;
  }
  return through(normal_form(true), text);
}

std::vector<std::string> search_terms(std::string_view text, std::size_t limit) {
  thread_local WordTools tools;
  // Broken before folding: compatibility folding takes Thai sara am apart, and the dictionary knows it whole.
  icu::UnicodeString formed = to_icu(normal_form_c(text));
  formed.findAndReplace(icu::UnicodeString(u"\u0e4d\u0e32"), icu::UnicodeString(u"\u0e33"));  // typed in two keys
  formed.findAndReplace(icu::UnicodeString(u"@"), icu::UnicodeString(u" "));  // ICU takes it for a letter
  tools.breaker->setText(formed);
  std::set<std::string> terms;
  std::int32_t start = tools.breaker->first();
  for (std::int32_t end = tools.breaker->next(); end != icu::BreakIterator::DONE && terms.size() < limit;
       start = end, end = tools.breaker->next()) {
    if (tools.breaker->getRuleStatus() == UBRK_WORD_NONE) continue;  // white space, punctuation
    std::string word = fold_case(from_icu(formed.tempSubStringBetween(start, end)));
    if (is_ascii(word)) {
      const auto* stem = sb_stemmer_stem(tools.stemmer.get(), reinterpret_cast<const sb_symbol*>(word.data()),
                                         static_cast<int>(word.size()));
      if (stem != nullptr) {
        word.assign(reinterpret_cast<const char*>(stem),
                    static_cast<std::size_t>(sb_stemmer_length(tools.stemmer.get())));
      }
    }
    if (!word.empty() && word.size() <= 64) terms.insert(std::move(word));
  }
  return {terms.begin(), terms.end()};
}

std::vector<std::string_view> items_of(std::string_view list) {
  std::vector<std::string_view> items;
  while (!list.empty()) {
    const auto end = std::min(list.find(','), list.size());
    std::string_view item = list.substr(0, end);
    while (item.starts_with(' ') || item.starts_with('\t')) item.remove_prefix(1);
    while (item.ends_with(' ') || item.ends_with('\t')) item.remove_suffix(1);
    if (!item.empty()) items.push_back(item);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return items;
}

}  // namespace hourz
