// Tokens, cursors and rate limits: what comes back from outside and must be ours.
#include <gtest/gtest.h>

#include <chrono>

#include "core/crypto.hpp"
#include "http/cursor.hpp"
#include "rooms/auth/tokens.hpp"

namespace hourz::auth {
namespace {

constexpr std::int64_t now_s = 1'800'000'000;

Config settings() {
  Config config;
  config.secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
  return config;
}

std::string key_of(const Config& config) { return derive_key(config, "access-token"); }

std::string sign(const std::string& header, const std::string& payload, const std::string& key) {
  const std::string text = to_base64url(header) + "." + to_base64url(payload);
  return text + "." + to_base64url(as_text(hmac_sha256(key, text)));
}

const std::string header = R"({"alg":"HS256","kid":"1","typ":"at+jwt"})";
const std::string user = "0190a0b0-c0d0-7e0f-8a0b-0c0d0e0f1011";

std::string payload(const std::string& drop = {}, const std::string& member = {}, const std::string& value = {}) {
  std::vector<std::pair<std::string, std::string>> members{
      {"iss", "\"hourz\""},        {"aud", "\"hourz-api\""},       {"sub", "\"" + user + "\""},
      {"sid", "\"" + user + "\""}, {"iat", std::to_string(now_s)}, {"exp", std::to_string(now_s + 900)},
      {"jti", "\"" + user + "\""}};
  std::string json = "{";
  for (const auto& [name, text] : members) {
    if (name == drop) continue;
    json += (json.size() > 1 ? ",\"" : "\"") + name + "\":" + (name == member ? value : text);
  }
  return json + "}";
}

class AccessTokens : public ::testing::Test {
 protected:
  Config config = settings();
  Tokens tokens{config};
  AccessClaims claims;
  TokenFault read(const std::string& token, std::int64_t at = now_s) { return tokens.read_access(token, at, claims); }
  TokenFault read_signed(const std::string& head, const std::string& body) {
    return read(sign(head, body, key_of(config)));
  }
  std::string good() { return tokens.make_access({*parse_uuid(user), *parse_uuid(user), now_s, now_s + 900}); }
};

TEST_F(AccessTokens, ComeBack) {
  ASSERT_EQ(read(good()), TokenFault::none);
  EXPECT_EQ(to_string(claims.user_id), user);
  EXPECT_EQ(claims.expires_at, now_s + 900);
  EXPECT_EQ(read_signed(header, payload()), TokenFault::none);
  EXPECT_NE(good(), good());  // each has a jti of its own
}

TEST_F(AccessTokens, TheAlgorithmIsPinned) {
  for (const char* alg : {"none", "None", "NONE", "nOnE", "HS512", "HS384", "RS256", "ES256", "EdDSA", "hs256", ""}) {
    const std::string head = std::string(R"({"alg":")") + alg + R"(","kid":"1","typ":"at+jwt"})";
    EXPECT_EQ(read_signed(head, payload()), TokenFault::malformed) << alg;
    EXPECT_EQ(read(to_base64url(head) + "." + to_base64url(payload()) + "."), TokenFault::malformed) << alg;
  }
  // Signed with what anybody can know.
  for (const std::string& key : {std::string(), std::string("secret"), to_base64url(header), config.secret}) {
    EXPECT_EQ(read(sign(header, payload(), key)), TokenFault::malformed);
  }
  for (const char* head : {R"({"alg":"HS256","kid":"1","typ":"at+jwt","crit":["x"]})",
                           R"({"alg":"HS256","kid":"1","typ":"at+jwt","b64":false})", R"({"alg":"HS256","kid":"1"})",
                           R"({"alg":"HS256","typ":"at+jwt"})", R"({"alg":"HS256","kid":"1","typ":"JWT"})",
                           R"({"typ":"at+jwt","alg":"HS256","kid":"1"})",
                           R"({"alg":"HS256","kid":"1","typ":"at+jwt"} )", "{}", "", "[]", "null"}) {
    EXPECT_EQ(read_signed(head, payload()), TokenFault::malformed) << head;
  }
}

TEST_F(AccessTokens, NothingThatATokenNamesIsFollowed) {
  for (const char* kid : {"../../dev/null", "' OR 1", "2", "", "1\\u0000"}) {
    const std::string head = std::string(R"({"alg":"HS256","kid":")") + kid + R"(","typ":"at+jwt"})";
    EXPECT_EQ(read_signed(head, payload()), TokenFault::malformed) << kid;
    EXPECT_EQ(read(sign(head, payload(), "")), TokenFault::malformed) << kid;
  }
  for (const char* extra :
       {R"("jku":"http://127.0.0.1:9/")", R"("jwk":{"kty":"oct","k":"AA"})", R"("x5u":"file:///")"}) {
    EXPECT_EQ(read_signed(std::string(R"({"alg":"HS256","kid":"1","typ":"at+jwt",)") + extra + "}", payload()),
              TokenFault::malformed);
  }
}

TEST_F(AccessTokens, EveryClaimIsNeededAndChecked) {
  for (const char* claim : {"iss", "aud", "sub", "sid", "iat", "exp", "jti"}) {
    EXPECT_EQ(read_signed(header, payload(claim)), TokenFault::malformed) << "without " << claim;
    for (const char* wrong : {"null", "true", "[]", "{}", "\"\"", "\"x\""}) {
      EXPECT_EQ(read_signed(header, payload("", claim, wrong)), TokenFault::malformed) << claim << " " << wrong;
    }
  }
  for (const char* wrong : {"\"1800000900\"", "1e30", "-1", "1800000900.5", "1e400", "NaN", "253402300800"}) {
    EXPECT_EQ(read_signed(header, payload("", "exp", wrong)), TokenFault::malformed) << wrong;
    EXPECT_EQ(read_signed(header, payload("", "iat", wrong)), TokenFault::malformed) << wrong;
  }
  EXPECT_EQ(read_signed(header, payload("", "exp", std::to_string(now_s))), TokenFault::malformed);  // no life at all
  EXPECT_EQ(read_signed(header, payload("", "iat", std::to_string(now_s + 3600))), TokenFault::malformed);
  EXPECT_EQ(read_signed(header, payload("", "iat", std::to_string(now_s + 30))), TokenFault::none);  // a clock's leeway
  EXPECT_EQ(read_signed(header, payload("", "iat", std::to_string(now_s + 31))), TokenFault::malformed);
  EXPECT_EQ(read_signed(header, payload("", "aud", "[\"hourz-api\"]")), TokenFault::malformed);
  std::string more = payload();
  more.insert(1, R"("nbf":1,)");
  EXPECT_EQ(read_signed(header, more), TokenFault::malformed);
}

TEST_F(AccessTokens, EndWhenTheySay) {
  const std::string token = good();
  EXPECT_EQ(read(token, now_s + 899), TokenFault::none);
  const TokenFault at_end = read(token, now_s + 900);
  EXPECT_EQ(at_end, TokenFault::expired);
  EXPECT_EQ(read(token, now_s + 961), TokenFault::expired);  // leeway at most a minute
  EXPECT_EQ(read(token, now_s - 3600), TokenFault::malformed);
}

TEST_F(AccessTokens, OfAnotherServiceAreRefused) {
  for (auto change : {+[](Config& c) { c.token_issuer = "other"; }, +[](Config& c) { c.token_audience = "other"; },
                      +[](Config& c) { c.secret = std::string(48, 'q'); }}) {
    Config other = settings();
    change(other);
    EXPECT_EQ(read(Tokens(other).make_access({*parse_uuid(user), *parse_uuid(user), now_s, now_s + 900})),
              TokenFault::malformed);
  }
}

TEST_F(AccessTokens, TheParserIsStrictAndBounded) {
  const std::string token = good();
  const auto first = token.find('.');
  const auto last = token.rfind('.');
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("..."), token + ".", "." + token, token + ".x",
        token.substr(0, last), token.substr(0, last + 1), token + "=", token + " ", " " + token, token + "\n",
        token.substr(0, first) + token.substr(first + 1), std::string(1 << 20, 'a'), std::string(1 << 19, '.'),
        token.substr(0, first) + ".." + token.substr(last + 1)}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(read(bad), TokenFault::malformed) << bad.substr(0, 100);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(50));
  }
  EXPECT_EQ(read_signed(header, std::string(100'000, '[')), TokenFault::malformed);
  std::string twice = payload();
  twice.insert(1, "\"sub\":\"" + user + "\",");
  EXPECT_EQ(read_signed(header, twice), TokenFault::malformed);
  EXPECT_EQ(read_signed(header, payload() + " x"), TokenFault::malformed);
}

TEST_F(AccessTokens, NoCharacterCanBeChanged) {
  const std::string token = good();
  int tried = 0;
  for (std::size_t i = 0; i < token.size(); ++i) {
    for (const char c : {'A', 'B', '_', '-', '.', '=', '0'}) {
      if (token[i] == c) continue;
      std::string changed = token;
      changed[i] = c;
      ASSERT_EQ(read(changed), TokenFault::malformed) << i;
      ++tried;
    }
  }
  // The unused bits of the last character: another spelling of the same bytes.
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (const char c : alphabet) {
    std::string changed = token;
    changed.back() = c;
    EXPECT_EQ(read(changed) == TokenFault::none, changed == token);
  }
  EXPECT_GT(tried, 1000);
}

TEST_F(AccessTokens, TwoKeysServeARotation) {
  Config old = settings(), both = settings(), next = settings();
  old.token_keys = "a:" + std::string(32, 'o');
  both.token_keys = "b:" + std::string(32, 'n') + ",a:" + std::string(32, 'o');
  next.token_keys = "b:" + std::string(32, 'n');
  const AccessClaims who{*parse_uuid(user), *parse_uuid(user), now_s, now_s + 900};
  const std::string by_old = Tokens(old).make_access(who), by_both = Tokens(both).make_access(who);
  EXPECT_EQ(Tokens(both).read_access(by_old, now_s, claims), TokenFault::none);
  EXPECT_EQ(Tokens(both).read_access(by_both, now_s, claims), TokenFault::none);
  EXPECT_EQ(Tokens(next).read_access(by_both, now_s, claims), TokenFault::none);
  EXPECT_EQ(Tokens(next).read_access(by_old, now_s, claims), TokenFault::malformed);
  EXPECT_EQ(Tokens(old).read_access(by_both, now_s, claims), TokenFault::malformed);
}

// --- refresh tokens --------------------------------------------------------------------------------------------------

TEST(RefreshTokens, ComeBackInOneSpellingOnly) {
  const Tokens tokens(settings());
  const Uuid session = make_uuid();
  for (const std::int64_t counter : {std::int64_t{1}, std::int64_t{2}, std::int64_t{10}, INT64_MAX}) {
    const std::string token = tokens.make_refresh({session, counter});
    const auto back = tokens.read_refresh(token);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->session_id, session);
    EXPECT_EQ(back->counter, counter);
    EXPECT_EQ(tokens.make_refresh({session, counter}), token);  // computed, never stored
    for (std::size_t i = 0; i < token.size(); ++i) {
      for (const char c : {'A', '0', '1', '.', '-', '='}) {
        if (token[i] == c) continue;
        std::string changed = token;
        changed[i] = c;
        EXPECT_FALSE(tokens.read_refresh(changed)) << i;
      }
    }
    for (const std::string& bad :
         {token + "=", token + " ", " " + token, token + ".", token.substr(1), std::string()}) {
      EXPECT_FALSE(tokens.read_refresh(bad));
    }
  }
  const std::string one = tokens.make_refresh({session, 1});
  const auto dot = one.find('.', 6);
  EXPECT_FALSE(tokens.read_refresh(one.substr(0, dot + 1) + "01" + one.substr(one.rfind('.'))));
  EXPECT_FALSE(tokens.read_refresh(one.substr(0, dot + 1) + "0" + one.substr(one.rfind('.'))));
  EXPECT_FALSE(tokens.read_refresh(std::string(1 << 20, 'x')));
}

TEST(RefreshTokens, AndAccessTokensAreNotInterchangeable) {
  const Tokens tokens(settings());
  AccessClaims out;
  EXPECT_EQ(tokens.read_access(tokens.make_refresh({make_uuid(), 1}), now_s, out), TokenFault::malformed);
  EXPECT_FALSE(tokens.read_refresh(tokens.make_access({make_uuid(), make_uuid(), now_s, now_s + 900})));
  Config other = settings();
  other.secret = std::string(48, 'q');
  EXPECT_FALSE(tokens.read_refresh(Tokens(other).make_refresh({make_uuid(), 1})));
}

}  // namespace
}  // namespace hourz::auth

namespace hourz::http {
namespace {

struct Position {
  Uuid id;
  Real<-1, 1'000'000> key;
};
BOOST_DESCRIBE_STRUCT(Position, (), (id, key))
struct OtherPosition {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(OtherPosition, (), (id))

constexpr std::string_view key = "a key of exactly 32 bytes, as it";
const Uuid somebody = make_uuid();

bool opens(std::string_view with, const std::string& cursor, const Uuid& user = somebody) {
  try {
    from_cursor<Position>(with, user, cursor);
    return true;
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code, ErrorCode::invalid_cursor);
    return false;
  }
}

TEST(Cursors, ComeBackAndNoByteCanBeChanged) {
  const Position at{make_uuid(), {1.0 / 3}};
  const std::string cursor = to_cursor(key, somebody, at);
  const auto back = from_cursor<Position>(key, somebody, cursor);
  EXPECT_EQ(back.id, at.id);
  EXPECT_EQ(back.key.value, at.key.value);  // to the last bit, or a page would repeat its last row
  EXPECT_EQ(cursor.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
            std::string::npos);
  for (std::size_t i = 0; i < cursor.size(); ++i) {
    for (const char c : {'A', 'b', '9', '_', '-', '=', '%', ' '}) {
      if (cursor[i] == c) continue;
      std::string changed = cursor;
      changed[i] = c;
      EXPECT_FALSE(opens(key, changed)) << i;
    }
    EXPECT_FALSE(opens(key, cursor.substr(0, i)));
  }
  EXPECT_FALSE(opens("another key of exactly 32 bytes,", cursor));
  EXPECT_FALSE(opens(key, cursor, make_uuid()));                                 // somebody else's
  EXPECT_EQ(from_base64url(cursor)->find(to_string(at.id)), std::string::npos);  // says nothing to who reads URLs
  EXPECT_FALSE(opens(key, cursor + "A"));
  EXPECT_FALSE(opens(key, cursor + cursor));
  EXPECT_FALSE(opens(key, std::string(100'000, 'A')));
  EXPECT_FALSE(opens(key, to_cursor(key, somebody, OtherPosition{make_uuid()})));  // of another list
  EXPECT_FALSE(opens(key, seal_cursor(key, somebody, "not json")));
  EXPECT_FALSE(opens(key, seal_cursor(key, somebody, "")));
}

}  // namespace
}  // namespace hourz::http
