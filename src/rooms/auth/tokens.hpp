// Tokens. Access tokens are JWTs (RFC 7519, RFC 9068's `typ`), HS256 and nothing else: the verifier compares the header
// with what it would itself have written and follows nothing that a token names. Refresh tokens are computed from a
// session's id and counter, so the database stores nothing that could be replayed.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.hpp"
#include "core/ids.hpp"

namespace hourz::auth {

struct AccessClaims {
  Uuid user_id;
  Uuid session_id;
  std::int64_t issued_at = 0;   ///< Unix seconds
  std::int64_t expires_at = 0;  ///< Unix seconds
};

struct RefreshClaims {
  Uuid session_id;
  std::int64_t counter = 0;
};

enum class TokenFault { none, malformed, expired };

class Tokens {
 public:
  explicit Tokens(const Config& config);

  std::string make_access(const AccessClaims& claims) const;
  /// `now_s` in Unix seconds; a clock may be 30 s off.
  TokenFault read_access(std::string_view token, std::int64_t now_s, AccessClaims& out) const;

  std::string make_refresh(const RefreshClaims& claims) const;
  std::optional<RefreshClaims> read_refresh(std::string_view token) const;

  std::int64_t access_lasts_s() const { return access_lasts_s_; }

 private:
  struct Key {
    std::string header;  ///< base64url of the JOSE header, with its kid
    std::string secret;
  };
  std::vector<Key> keys_;  ///< the first signs
  std::string refresh_key_;
  std::string issuer_;
  std::string audience_;
  std::int64_t access_lasts_s_;
};

}  // namespace hourz::auth
