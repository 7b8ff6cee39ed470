#include "rooms/auth/tokens.hpp"

#include <charconv>

#include "core/crypto.hpp"
#include "core/problem.hpp"
#include "reflect/walk.hpp"

namespace hourz::auth {
namespace {

constexpr std::string_view refresh_prefix = "hzr1.";
constexpr std::int64_t leeway_s = 30;

struct Claims {
  std::string iss;
  std::string aud;
  Uuid sub;
  Uuid sid;
  Integer<0, 253402300799> iat;
  Integer<0, 253402300799> exp;
  Uuid jti;
};
BOOST_DESCRIBE_STRUCT(Claims, (), (iss, aud, sub, sid, iat, exp, jti))

std::string make_header(std::string_view kid) {
  std::string json = R"({"alg":"HS256","kid":)";
  append_json_string(json, kid);
  json += R"(,"typ":"at+jwt"})";
  return to_base64url(json);
}

}  // namespace

Tokens::Tokens(const Config& config)
    : refresh_key_(derive_key(config, "refresh-token")),
      issuer_(config.token_issuer),
      audience_(config.token_audience),
      access_lasts_s_(config.access_token_s) {
  for (std::string_view rest = config.token_keys; !rest.empty();) {
    const auto end = std::min(rest.find(','), rest.size());
    const auto one = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const auto colon = one.find(':');
    keys_.push_back({make_header(one.substr(0, colon)), std::string(one.substr(colon + 1))});
  }
  if (keys_.empty()) keys_.push_back({make_header("1"), derive_key(config, "access-token")});
}

std::string Tokens::make_access(const AccessClaims& claims) const {
  const Claims all{issuer_,    audience_, claims.user_id, claims.session_id, {claims.issued_at}, {claims.expires_at},
                   make_uuid()};
  std::string token = keys_.front().header + "." + to_base64url(reflect::to_json(all));
  const Mac mac = hmac_sha256(keys_.front().secret, token);
  token += '.';
  token += to_base64url(as_text(mac));
  return token;
}

TokenFault Tokens::read_access(std::string_view token, std::int64_t now_s, AccessClaims& out) const {
  if (token.size() > 2048) return TokenFault::malformed;
  const auto first = token.find('.');
  const auto last = token.rfind('.');
  if (first == std::string_view::npos || last == first || token.find('.', first + 1) != last) {
    return TokenFault::malformed;
  }
  // The whole header is compared, so algorithm, type and key are pinned here and never read from the token.
  const Key* key = nullptr;
  for (const Key& candidate : keys_) {
    if (candidate.header == token.substr(0, first)) key = &candidate;
  }
  const auto signature = from_base64url(token.substr(last + 1));
  if (key == nullptr || !signature) return TokenFault::malformed;
  const Mac mac = hmac_sha256(key->secret, token.substr(0, last));
  if (!equal_in_constant_time(*signature, as_text(mac))) return TokenFault::malformed;
  const auto payload = from_base64url(token.substr(first + 1, last - first - 1));
  if (!payload) return TokenFault::malformed;
  Claims claims;
  try {
    claims = reflect::read_json<Claims>(*payload);
  } catch (const Problem&) {
    return TokenFault::malformed;
  }
  if (claims.iss != issuer_ || claims.aud != audience_) return TokenFault::malformed;
  if (claims.iat.value > now_s + leeway_s || claims.exp.value <= claims.iat.value) return TokenFault::malformed;
  if (claims.exp.value <= now_s) return TokenFault::expired;
  out = {claims.sub, claims.sid, claims.iat.value, claims.exp.value};
  return TokenFault::none;
}

std::string Tokens::make_refresh(const RefreshClaims& claims) const {
  const std::string_view id(reinterpret_cast<const char*>(claims.session_id.bytes.data()), 16);
  const std::string body = to_base64url(id) + "." + std::to_string(claims.counter);
  const Mac mac = hmac_sha256(refresh_key_, body);
  return std::string(refresh_prefix) + body + "." + to_base64url(as_text(mac));
}

std::optional<RefreshClaims> Tokens::read_refresh(std::string_view token) const {
  if (token.size() > 128 || !token.starts_with(refresh_prefix)) return std::nullopt;
  token.remove_prefix(refresh_prefix.size());
  const auto first = token.find('.');
  const auto last = token.rfind('.');
  if (first == std::string_view::npos || last == first) return std::nullopt;
  const auto id = from_base64url(token.substr(0, first));
  RefreshClaims claims;
  const std::string_view number = token.substr(first + 1, last - first - 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), claims.counter);
  if (!id || id->size() != 16 || error != std::errc{} || end != number.data() + number.size() || claims.counter < 1) {
    return std::nullopt;
  }
  std::copy(id->begin(), id->end(), claims.session_id.bytes.begin());
  // Comparing with the one right spelling leaves no second form of a token.
  if (!equal_in_constant_time(make_refresh(claims).substr(refresh_prefix.size()), token)) return std::nullopt;
  return claims;
}

}  // namespace hourz::auth
