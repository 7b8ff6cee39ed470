// Any bytes as a token, and any bytes inside a token that is signed as it should be: accepted is only what the server
// could have written itself, and neither kind of token passes for the other.
#include "core/crypto.hpp"
#include "fuzz.hpp"
#include "rooms/auth/tokens.hpp"

namespace {

using namespace hourz;
using auth::TokenFault;
using fuzz::require;

constexpr std::string_view signing_key = "0123456789abcdef0123456789abcdef";
constexpr std::int64_t now_s = 1'800'000'000;

const auth::Tokens& tokens() {
  static const auth::Tokens made = [] {
    start_crypto();
    Config config;
    config.secret = "another thirty-two bytes of secret";
    config.token_keys = "k1:" + std::string(signing_key);
    return auth::Tokens(config);
  }();
  return made;
}

TokenFault read(std::string_view token) {
  auth::AccessClaims claims;
  const TokenFault fault = tokens().read_access(token, now_s, claims);
  if (fault == TokenFault::none) {
    require(claims.expires_at > now_s && claims.issued_at <= now_s + 30 && claims.expires_at > claims.issued_at);
  }
  return fault;
}

std::string sign(std::string_view head_and_payload, std::string_view key) {
  return std::string(head_and_payload) + "." + to_base64url(as_text(hmac_sha256(key, head_and_payload)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = fuzz::as_text(bytes, size);
  const std::string_view own_header = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiYXQrand0In0";  // kid k1
  static const bool header_is_ours = [&] {
    auth::AccessClaims claims{make_uuid(), make_uuid(), now_s, now_s + 60};
    return tokens().make_access(claims).starts_with(std::string(own_header) + ".");
  }();
  require(header_is_ours);

  // As it is: nobody guesses a signature.
  if (read(data) == TokenFault::none) {
    const auto last = data.rfind('.');
    require(sign(data.substr(0, last), signing_key) == data);
  }
  if (const auto refresh = tokens().read_refresh(data)) require(tokens().make_refresh(*refresh) == data);

  // As the payload of a token with the right header and signature; and the same under a wrong key or a bent header.
  const std::string body = std::string(own_header) + "." + to_base64url(data);
  const std::string own = sign(body, signing_key);
  read(own);
  require(!tokens().read_refresh(own));
  require(read(sign(body, "fedcba9876543210fedcba9876543210")) == TokenFault::malformed);
  require(read(own + "=") == TokenFault::malformed);
  // As the header of one with the right signature: only our own header passes.
  const std::string headed = sign(to_base64url(data) + "." + to_base64url("{}"), signing_key);
  require(read(headed) == TokenFault::malformed);
  return 0;
}
