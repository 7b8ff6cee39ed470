// What stands between the internet and the endpoints: who a client behind proxies is, which pages may read answers
// (CORS), and the fields that every answer carries whatever it says. Made once from the settings, read-only after that,
// shared by all shards; the answers point into it, so it outlives them.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.hpp"
#include "core/network.hpp"
#include "http/message.hpp"

namespace hourz::http {

class Perimeter {
 public:
  explicit Perimeter(const Config& config);
  Perimeter(const Perimeter&) = delete;
  Perimeter& operator=(const Perimeter&) = delete;

  /// Puts the client's address in `head.peer`: the peer's own, unless that is a trusted proxy's; then the rightmost
  /// address of X-Forwarded-For that is none of theirs. A field that breaks off in nonsense is believed up to there.
  void name_client(RequestHead& head) const;

  /// Whether pages of this origin, spelt exactly so, may read answers with the user's credentials.
  bool lists_origin(std::string_view origin) const;

  /// The fields that every answer carries, and those that let a page of the request's origin read it. `origin` is the
  /// request's, empty when it had none.
  void dress(Response& response, std::string_view origin) const;

  /// Whether an OPTIONS is a listed page's question before the request itself.
  bool is_preflight(const RequestHead& head) const {
    return head.header("access-control-request-method").has_value() && lists_origin(head.header("origin").value_or(""));
  }
  /// Grants a preflight the methods of `allow`.
  void grant(std::string_view allow, Response& response) const;

 private:
  struct Origin {
    std::string name;
    std::string fields;  ///< as lines
  };
  const Origin* find(std::string_view origin) const;

  Networks proxies_;
  std::vector<Origin> origins_;
  std::array<std::string, 16> safe_fields_;  ///< by what the answer brings itself
};

/// The Origin of a request; empty when it has none.
inline std::string_view origin_of(const RequestHead& head) { return head.header("origin").value_or(""); }

}  // namespace hourz::http
