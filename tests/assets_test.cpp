#include "http/assets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>
#include <string>

namespace hourz::http {
namespace {

TEST(Assets, ThePageLoadsOnlyWhatTheBinaryHolds) {
  const Asset* page = find_asset("/docs");
  ASSERT_NE(page, nullptr);
  const std::string html(page->bytes);
  const std::regex reference("(?:src|href)=\"([^\"]*)\"");
  int count = 0;
  for (std::sregex_iterator it(html.begin(), html.end(), reference), end; it != end; ++it, ++count) {
    const std::string target = (*it)[1];
    EXPECT_TRUE(target == "/openapi.json" || find_asset(target) != nullptr) << target;
  }
  EXPECT_GE(count, 5);
}

TEST(Assets, ThePageHoldsWithoutInlineScriptOrStyle) {
  const std::string html(find_asset("/docs")->bytes);
  EXPECT_FALSE(std::regex_search(html, std::regex("<style|style=|<script>|javascript:| on[a-z]+=")));
}

TEST(Assets, AreEachThemselves) {
  std::set<std::string_view> paths, etags;
  for (const Asset& asset : assets()) {
    EXPECT_EQ(find_asset(asset.path), &asset);
    EXPECT_TRUE(paths.insert(asset.path).second) << asset.path;
    EXPECT_TRUE(etags.insert(asset.etag).second) << asset.path;
    EXPECT_TRUE(asset.etag.size() > 10 && asset.etag.front() == '"' && asset.etag.back() == '"') << asset.etag;
    EXPECT_FALSE(asset.bytes.empty()) << asset.path;
    EXPECT_FALSE(asset.content_type.empty()) << asset.path;
    if (!asset.gzip_bytes.empty()) {
      EXPECT_LT(asset.gzip_bytes.size(), asset.bytes.size()) << asset.path;
      EXPECT_EQ(asset.gzip_bytes.substr(0, 2), "\x1f\x8b") << asset.path;
    }
  }
  EXPECT_EQ(find_asset("/docs/"), nullptr);
  EXPECT_EQ(find_asset("/docs/nothing.js"), nullptr);
}

TEST(Assets, CommonPasswordsAreSortedLowerCaseAndLongEnough) {
  std::string_view rest = common_passwords(), last;
  ASSERT_EQ(rest.back(), '\n');
  int count = 0;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(word.size() + 1);
    EXPECT_GE(word.size(), 8u) << word;
    EXPECT_LT(last, word);
    EXPECT_TRUE(std::none_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; })) << word;
    last = word;
    ++count;
  }
  EXPECT_GT(count, 10'000);
  EXPECT_NE(common_passwords().find("\npassword1\n"), std::string_view::npos);
}

}  // namespace
}  // namespace hourz::http
