// Text from outside, search terms, email addresses, phone numbers, secrets.
#include "core/text.hpp"

#include <gtest/gtest.h>

#include "reflect/leaf.hpp"

namespace hourz {
namespace {

template <std::size_t Min, std::size_t Max>
std::string read(std::string_view text) {
  Text<Min, Max> out;
  const auto fault = reflect::Leaf<Text<Min, Max>>::read_text(text, out);
  return fault ? "!" + std::string(fault->code) : out.value;
}
std::string times(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

TEST(Texts, AreTrimmedAndInNormalFormC) {
  EXPECT_EQ((read<1, 10>("  a b \t\n")), "a b");
  EXPECT_EQ((read<1, 10>("\u00a0\u3000x\u2003")), "x");
  EXPECT_EQ((read<1, 1>("e\u0301")), "\u00e9");       // é of two code points
  EXPECT_EQ((read<1, 2>("\u1100\u1161")), "\uac00");  // Hangul
  EXPECT_EQ((read<1, 10>("ทำ")), "ทำ");               // sara am keeps its own code point in NFC
  EXPECT_EQ((read<1, 10>("\ufb01")), "\ufb01");       // a ligature is not taken apart by NFC
}

TEST(Texts, LengthsAreInCodePoints) {
  EXPECT_EQ((read<1, 80>(times("😀", 80))), times("😀", 80));
  EXPECT_EQ((read<1, 80>(times("😀", 81))), "!too_long");
  EXPECT_EQ((read<3, 120>("ab")), "!too_short");
  EXPECT_EQ((read<3, 120>("abc")), "abc");
  EXPECT_EQ((read<3, 120>(times("x", 120))), times("x", 120));
  EXPECT_EQ((read<3, 120>(times("x", 121))), "!too_long");
  EXPECT_EQ((read<1, 10>("   ")), "!empty");
  EXPECT_EQ((read<1, 10>("")), "!empty");
  EXPECT_EQ(count_code_points("กำ😀e\u0301"), 5U);
}

TEST(Texts, HoldNoControlCharactersAndNoDirectionOverrides) {
  for (const std::string& bad :
       {std::string("a\0b", 3), std::string("a\x01"), std::string("a\x1b[31m"), std::string("a\x7f"),
        std::string("a\u0085"), std::string("a\u009f"), std::string("a\rb"), std::string("\u202egnp.exe"),
        std::string("\u202a"), std::string("\u2066x"), std::string("\u2069"), std::string("\ufffe"),
        std::string("\U0001fffe"), std::string("\ufdd0")}) {
    EXPECT_EQ((read<1, 80>(bad)), "!forbidden_character") << bad;
  }
  EXPECT_EQ((read<1, 80>("a\tb\nc")), "a\tb\nc");
  Line<1, 80> line;
  for (const char* lines : {"a\nb", "a\tb", "a\u2028b", "a\u2029b", "a\rb"}) {
    const auto fault = reflect::Leaf<Line<1, 80>>::read_text(lines, line);
    ASSERT_TRUE(fault) << lines;
    EXPECT_EQ(fault->code, "forbidden_character");
  }
  EXPECT_FALSE((reflect::Leaf<Line<1, 80>>::read_text(" มะลิ สวย \n", line)));
  EXPECT_EQ(line.value, "มะลิ สวย");
  EXPECT_EQ((read<1, 80>("<script>alert('x')</script>")), "<script>alert('x')</script>");
  EXPECT_EQ((read<1, 80>("👨\u200d👩\u200d👧")), "👨\u200d👩\u200d👧");  // a zero-width joiner is no control character
}

TEST(Texts, AreUtf8) {
  for (const std::string_view bad : {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                     "ab\x80", "\xf8\x88\x80\x80\x80"}) {
    EXPECT_FALSE(is_utf8(bad));
    EXPECT_EQ((read<1, 80>(bad)), "!not_utf8");
  }
  EXPECT_TRUE(is_utf8("กขค😀"));
  EXPECT_TRUE(is_utf8(""));
}

TEST(Texts, CaseFoldsForComparing) {
  EXPECT_EQ(fold_case("STRASSE"), fold_case("straße"));
  EXPECT_EQ(fold_case("ＡＢＣ"), "abc");  // full width
  EXPECT_EQ(fold_case("ABC"), "abc");
  EXPECT_EQ(fold_case("\u212a"), "k");  // the kelvin sign
}

// --- search terms ----------------------------------------------------------------------------------------------------

using Terms = std::vector<std::string>;

bool has(const Terms& terms, const std::string& word) {
  return std::find(terms.begin(), terms.end(), word) != terms.end();
}

TEST(SearchTerms, EnglishIsStemmedAndFolded) {
  EXPECT_EQ(search_terms("Cleaning CLEANED cleans"), Terms{"clean"});
  EXPECT_EQ(search_terms("Moving boxes"), (Terms{"box", "move"}));
  EXPECT_EQ(search_terms("b a c a"), (Terms{"a", "b", "c"}));
  EXPECT_TRUE(search_terms(" ,.!? — \n").empty());
  EXPECT_TRUE(search_terms("").empty());
  EXPECT_TRUE(has(search_terms("room 42"), "42"));
  EXPECT_EQ(search_terms("@home"), search_terms("home"));
}

TEST(SearchTerms, ThaiIsBrokenByTheDictionary) {
  const Terms terms = search_terms("รับจ้างทำความสะอาดห้อง");
  EXPECT_GE(terms.size(), 3U);
  EXPECT_TRUE(has(terms, "ห้อง"));
  // The same words in another text break alike.
  const Terms more = search_terms("ทำความสะอาดบ้านและห้องน้ำ cleaning");
  for (const std::string& term : search_terms("ทำความสะอาด")) {
    EXPECT_TRUE(has(terms, term)) << term;
    EXPECT_TRUE(has(more, term)) << term;
  }
  EXPECT_TRUE(has(more, "clean"));
}

TEST(SearchTerms, AreBounded) {
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "word" + std::to_string(i) + " ";
  EXPECT_EQ(search_terms(many).size(), 1000U);
  EXPECT_LE(search_terms(many + many + many).size(), 1024U);
  EXPECT_EQ(search_terms(many, 16).size(), 16U);
  EXPECT_TRUE(search_terms(std::string(200, 'x')).empty());  // no word is that long
}

// --- emails, phones, secrets -----------------------------------------------------------------------------------------

std::string email(std::string_view text) {
  Email out;
  return reflect::read_email(text, out.value) ? "!" : out.value;
}

TEST(Emails, AreFoldedAndChecked) {
  EXPECT_EQ(email("  Ann@Example.COM "), "ann@example.com");
  EXPECT_EQ(email("ａｎｎ@example.com"), "ann@example.com");
  EXPECT_EQ(email("a.b+c_d-e@x-y.example.co.th"), "a.b+c_d-e@x-y.example.co.th");
  EXPECT_EQ(email(std::string(64, 'a') + "@example.com"), std::string(64, 'a') + "@example.com");
  for (const std::string& bad : {std::string(),
                                 std::string("a"),
                                 std::string("a@b"),
                                 std::string("@b.com"),
                                 std::string("a@"),
                                 std::string("a@@b.com"),
                                 std::string("a@b@c.com"),
                                 std::string("a b@c.com"),
                                 std::string("a@b .com"),
                                 std::string("a@.com"),
                                 std::string("a@b..com"),
                                 std::string("a@b.com."),
                                 std::string("a@-b.com"),
                                 std::string("a@b-.com"),
                                 std::string(".a@b.com"),
                                 std::string("a.@b.com"),
                                 std::string("a..b@c.com"),
                                 std::string("\"a\"@b.com"),
                                 std::string("a<b>@c.com"),
                                 std::string("a@b_c.com"),
                                 std::string("a@b.com\n.evil"),
                                 std::string("a\0@b.com", 8),
                                 std::string("a\u202e@b.com"),
                                 std::string(65, 'a') + "@example.com",
                                 "a@" + std::string(64, 'b') + ".com",
                                 std::string(60, 'a') + "@" + times("abcdefghi.", 20) + "com"}) {
    EXPECT_EQ(email(bad), "!") << bad;
  }
}

std::string phone(std::string_view text) {
  std::string out;
  return reflect::read_phone(text, out) ? "!" : out;
}

TEST(Phones, AreKeptAsE164) {
  EXPECT_EQ(phone("+66812345678"), "+66812345678");
  EXPECT_EQ(phone("+66 81-234 5678"), "+66812345678");
  EXPECT_EQ(phone("081 234 5678"), "+66812345678");
  EXPECT_EQ(phone("02-123-4567"), "+6621234567");
  EXPECT_EQ(phone("(02) 123 4567"), "+6621234567");
  EXPECT_EQ(phone("+442071838750"), "+442071838750");
  for (const char* bad : {"", "+", "0", "12345678", "0812345", "08123456789", "0012345678", "+0812345678", "+1234567",
                          "+1234567890123456", "081234567x", "+66+812345678", "66812345678", "٠٨١٢٣٤٥٦٧٨"}) {
    EXPECT_EQ(phone(bad), "!") << bad;
  }
}

std::string secret(std::string_view text) {
  std::string out;
  const auto fault = reflect::read_secret(text, 8, 128, out);
  return fault ? "!" + std::string(fault->code) : out;
}

TEST(Secrets, AreNeverTrimmedAndBoundedBeforeAnythingCosts) {
  EXPECT_EQ(secret("  padded  "), "  padded  ");
  EXPECT_EQ(secret("1234567"), "!too_short");
  EXPECT_EQ(secret("12345678"), "12345678");
  EXPECT_EQ(secret(times("😀", 8)), times("😀", 8));
  EXPECT_EQ(secret(times("😀", 128)), times("😀", 128));
  EXPECT_EQ(secret(times("😀", 129)), "!too_long");
  EXPECT_EQ(secret(std::string(129, 'x')), "!too_long");
  EXPECT_EQ(secret(std::string("pass\0word", 9)), "!forbidden_character");
  EXPECT_EQ(secret(times("e\u0301", 8)), times("\u00e9", 8));  // one password, however the keyboard spells it
  EXPECT_EQ(secret(times("e\u0301", 7)), "!too_short");
  EXPECT_EQ(secret(times("e\u0301", 128)), times("\u00e9", 128));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(secret(std::string(1 << 20, '\xff')), "!too_long");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(100));
}

}  // namespace
}  // namespace hourz
