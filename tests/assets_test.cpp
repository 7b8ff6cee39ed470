#include "http/assets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>
#include <string>

namespace hourz::http {
namespace {

class Pages : public testing::TestWithParam<const char*> {};

TEST_P(Pages, LoadOnlyWhatTheBinaryHolds) {
  const Asset* page = find_asset(GetParam());
  ASSERT_NE(page, nullptr);
  EXPECT_EQ(page->content_type, "text/html; charset=utf-8");
  const auto known = [](const std::string& target) {
    return target.starts_with("#") || target == "/openapi.json" || target == "/asyncapi.json" ||
           target == "/docs/errors" || find_asset(target) != nullptr;
  };
  const std::string html(page->bytes);
  const std::regex reference("(?:src|href)=\"([^\"]*)\"");
  const std::regex import("\\bimport\\b[^;\"]*\"([^\"]*)\"");
  int count = 0, scripts = 0;
  for (std::sregex_iterator it(html.begin(), html.end(), reference), end; it != end; ++it, ++count) {
    const std::string target = (*it)[1];
    EXPECT_TRUE(known(target)) << target;
    const Asset* loaded = find_asset(target);
    // A bundle of a megabyte is too much for this regex; ours are small.
    if (loaded == nullptr || !target.ends_with(".js") || loaded->bytes.size() > 100'000) continue;
    ++scripts;
    const std::string script(loaded->bytes);
    for (std::sregex_iterator at(script.begin(), script.end(), import); at != end; ++at) {
      EXPECT_TRUE(known((*at)[1])) << (*at)[1];
    }
  }
  EXPECT_GE(count, 5);
  EXPECT_GE(scripts, 1);
}

TEST_P(Pages, HoldWithoutInlineScriptOrStyle) {
  const std::string html(find_asset(GetParam())->bytes);
  EXPECT_FALSE(
      std::regex_search(html, std::regex("<style|style=|<script>|<script type=\"module\">|javascript:| on[a-z]+=")));
}

TEST_P(Pages, LeadToEachOther) {
  const std::string other = GetParam() == std::string("/docs") ? "/docs/events" : "/docs";
  EXPECT_NE(find_asset(GetParam())->bytes.find("href=\"" + other + "\""), std::string_view::npos);
}

INSTANTIATE_TEST_SUITE_P(Both, Pages, testing::Values("/docs", "/docs/events"));

TEST(Assets, TheEventsPageWritesTextOnly) {
  for (const char* path : {"/docs/events.js", "/docs/frames.js"}) {
    const std::string script(find_asset(path)->bytes);
    EXPECT_FALSE(
        std::regex_search(script, std::regex("innerHTML|outerHTML|insertAdjacentHTML|document\\.write|\\beval\\b")))
        << path;
  }
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
