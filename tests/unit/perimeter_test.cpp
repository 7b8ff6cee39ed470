// Who a client is, and which pages may read answers: addresses and networks as text, forged fields, origins.
#include "http/perimeter.hpp"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace hourz::http {
namespace {

TEST(Networks, HoldTheirAddressesAndNoOthers) {
  const auto networks = Networks::parse("10.0.0.0/8, 192.0.2.7,2001:db8::/32 , 0.0.0.0/32");
  ASSERT_TRUE(networks);
  for (const char* inside :
       {"10.0.0.0", "10.255.255.255", "192.0.2.7", "::ffff:10.1.2.3", "2001:db8:ffff::1", "0.0.0.0"}) {
    EXPECT_TRUE(networks->contain(*parse_address(inside))) << inside;
  }
  for (const char* outside : {"9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::1", "::"}) {
    EXPECT_FALSE(networks->contain(*parse_address(outside))) << outside;
  }
  for (const char* wrong : {"10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0", "proxy", "::/129",
                            "10.0.0.0/8x", "[::1]", "2001:db8::1/32", "10.0.0.0 /8"}) {
    EXPECT_FALSE(Networks::parse(wrong)) << wrong;
  }
  EXPECT_TRUE(Networks::parse("")->empty());
  EXPECT_TRUE(Networks::parse("0.0.0.0/0")->contain(*parse_address("203.0.113.9")));
  EXPECT_FALSE(Networks::parse("0.0.0.0/0")->contain(*parse_address("2001:db8::1")));
}

TEST(Networks, AClientOfIpv6IsItsSixtyFour) {
  EXPECT_EQ(network_of_client("203.0.113.9"), "203.0.113.9");
  EXPECT_EQ(network_of_client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(network_of_client("2001:db8:1:2::1"), network_of_client("2001:0db8:0001:0002:ffff::"));
  EXPECT_NE(network_of_client("2001:db8:1:2::1"), network_of_client("2001:db8:1:3::1"));
}

std::string client(const std::string& proxies, const std::string& peer, const std::vector<std::string>& forwarded) {
  Config config;
  config.trusted_proxies = proxies;
  const Perimeter perimeter(config);
  RequestHead head;
  head.peer = peer;
  for (const std::string& field : forwarded) head.headers.push_back({"x-forwarded-for", field});
  head.headers.push_back({"forwarded", "for=6.6.6.6"});
  head.headers.push_back({"x-real-ip", "6.6.6.6"});
  perimeter.name_client(head);
  return head.peer;
}

TEST(Perimeter, BelievesProxiesAlone) {
  EXPECT_EQ(client("", "127.0.0.1", {"9.9.9.9"}), "127.0.0.1");
  EXPECT_EQ(client("10.0.0.0/8", "198.51.100.1", {"9.9.9.9"}), "198.51.100.1");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"9.9.9.9"}), "9.9.9.9");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {}), "10.0.0.1");
  // What the client wrote itself stands to the left of what the proxies saw.
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"6.6.6.6, 9.9.9.9"}), "9.9.9.9");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"6.6.6.6, 9.9.9.9, 10.0.0.2"}), "9.9.9.9");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"6.6.6.6", "9.9.9.9,10.0.0.2", "10.0.0.3"}), "9.9.9.9");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"10.0.0.7, 10.0.0.2"}), "10.0.0.7");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"9.9.9.9, nonsense, 10.0.0.2"}), "10.0.0.2");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"9.9.9.9, unknown"}), "10.0.0.1");
  EXPECT_EQ(client("10.0.0.0/8", "10.0.0.1", {"9.9.9.9:4711"}), "9.9.9.9");
  EXPECT_EQ(client("::1", "::1", {"[2001:DB8::1]:443"}), "2001:db8::1");
  EXPECT_EQ(client("::1", "::1", {"2001:db8::1"}), "2001:db8::1");
  EXPECT_EQ(client("::1", "::1", {"::ffff:9.9.9.9"}), "9.9.9.9");
  EXPECT_EQ(client("127.0.0.1", "127.0.0.1", {""}), "127.0.0.1");
}

TEST(Perimeter, OriginsAreExact) {
  Config config;
  config.cors_origins = "https://app.hourz.test, http://localhost:5173";
  const Perimeter perimeter(config);
  for (const char* listed : {"https://app.hourz.test", "http://localhost:5173"})
    EXPECT_TRUE(perimeter.lists_origin(listed));
  for (const char* foreign : {"", "null", "*", "https://app.hourz.test.evil", "http://app.hourz.test",
                              "https://APP.hourz.test", "https://app.hourz.test:443", "https://app.hourz.test/",
                              "https://evil.test", "https://app.hourz.test, http://localhost:5173"}) {
    EXPECT_FALSE(perimeter.lists_origin(foreign)) << foreign;
    Response response;
    perimeter.dress(response, foreign);
    EXPECT_TRUE(response.origin_headers.empty()) << foreign;
    EXPECT_NE(response.fixed_headers.find("Vary: Origin\r\n"), std::string_view::npos);
  }
  Response response;
  perimeter.dress(response, "http://localhost:5173");
  EXPECT_TRUE(response.origin_headers.starts_with(
      "Access-Control-Allow-Origin: http://localhost:5173\r\nAccess-Control-Allow-Credentials: true\r\n"));
}

TEST(Perimeter, AnAnswersOwnFieldsAreNotSaidTwice) {
  const auto fields = [](std::vector<std::pair<std::string, std::string>> own, std::int64_t hsts_s = 0,
                         int status = 200) {
    Config config;
    config.hsts_s = hsts_s;
    static std::vector<std::unique_ptr<Perimeter>> kept;
    kept.push_back(std::make_unique<Perimeter>(config));
    Response response;
    response.status = status;
    response.headers = std::move(own);
    kept.back()->dress(response, "");
    return std::string(response.fixed_headers);
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  const std::string plain = fields({});
  for (const char* field :
       {"X-Content-Type-Options: nosniff\r\n", "Referrer-Policy: no-referrer\r\n", "X-Frame-Options: DENY\r\n",
        "Vary: Origin\r\n", "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n",
        "Cross-Origin-Resource-Policy: same-origin\r\n", "Cache-Control: no-store\r\n",
        "Permissions-Policy: camera=(), "}) {
    EXPECT_TRUE(has(plain, field)) << field;
  }
  EXPECT_FALSE(has(plain, "Strict-Transport-Security"));
  // Every permission that is named is named once, and nobody has it.
  const auto begin = plain.find("Permissions-Policy: ") + 20;
  std::set<std::string> permissions;
  std::stringstream policy(plain.substr(begin, plain.find("\r\n", begin) - begin));
  for (std::string item; std::getline(policy >> std::ws, item, ',');) {
    EXPECT_TRUE(item.ends_with("=()") && permissions.insert(item).second) << item;
  }
  for (const char* one : {"camera=()", "microphone=()", "geolocation=()", "payment=()", "usb=()"}) {
    EXPECT_TRUE(permissions.contains(one)) << one;
  }
  EXPECT_TRUE(has(fields({}, 600), "Strict-Transport-Security: max-age=600; includeSubDomains\r\n"));
  EXPECT_TRUE(has(fields({{"ETag", "\"1\""}}), "Cache-Control: private, no-cache\r\n"));
  EXPECT_TRUE(has(fields({{"ETag", "\"1\""}}, 0, 412), "Cache-Control: no-store\r\n"));
  EXPECT_FALSE(has(fields({{"Cache-Control", "public"}, {"ETag", "\"1\""}}), "Cache-Control"));
  EXPECT_FALSE(has(fields({{"Content-Security-Policy", "x"}}), "Content-Security-Policy"));
  EXPECT_FALSE(has(fields({{"Cross-Origin-Resource-Policy", "cross-origin"}}), "Cross-Origin-Resource-Policy"));
}

TEST(Quota, IsReadAndWrittenAlike) {
  EXPECT_EQ(parse_quota("300"), (Quota{300, 60}));
  EXPECT_EQ(parse_quota("100/3600"), (Quota{100, 3600}));
  EXPECT_EQ(to_text(Quota{100, 3600}), "100/3600");
  EXPECT_EQ(to_text(Quota{5, 60}), "5");
  for (const char* wrong : {"", "0", "-1", "5/", "/60", "5/0", "5/86401", "1000001", "5 /60", "5/60s", "five"}) {
    EXPECT_FALSE(parse_quota(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace hourz::http
