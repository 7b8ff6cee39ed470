// The head of a request, from bytes to http::RequestHead. A scanner finds the head's end line by line as bytes arrive;
// what it decides depends on the bytes alone and never on how they were cut into segments. A whole head is then read by
// Beast's parser for its grammar, and held to the rules that Beast leaves open: one valid Host, no transfer coding, no
// doubled singleton field, a target in a known form. Knows nothing of sockets, so it can be fuzzed as it is.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace hourz::net {

/// Why a request is refused. Status 0: it is not.
struct Fault {
  int status = 0;
  std::string_view detail;  ///< static text, safe to show

  explicit operator bool() const { return status != 0; }
};

/// Finds the end of a head in a buffer that grows from one call to the next.
class HeadScanner {
 public:
  HeadScanner(std::size_t header_bytes, std::size_t header_fields) : bytes_(header_bytes), fields_(header_fields) {}

  enum class Verdict { need_more, complete, refused };

  /// `data` starts with the head's first byte and holds everything received since.
  Verdict scan(std::string_view data);

  std::size_t begin() const { return begin_; }  ///< 2 when an empty line came first, else 0
  std::size_t end() const { return end_; }      ///< one past the empty line, once complete
  Fault fault() const { return fault_; }

 private:
  Verdict refuse(int status, std::string_view detail);

  std::size_t bytes_;
  std::size_t fields_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t scanned_ = 0;
  std::size_t line_ = 0;   ///< where the current line starts
  std::size_t lines_ = 0;  ///< lines seen, the request line among them
  Fault fault_;
};

struct Head {
  http::RequestHead request;  ///< `peer` is left to the session
  bool http_1_0 = false;
  bool keep_alive = false;       ///< the peer wants the connection kept
  bool expect_continue = false;  ///< the peer waits for 100 before it sends the body
  std::string authority;         ///< of an absolute-form target, in lower case; else empty
};

/// Reads a whole head, as HeadScanner cut it out, into `head`.
Fault parse_head(std::string_view bytes, Head& head);

/// host[:port] as RFC 3986 has it, without user information; never empty.
bool valid_authority(std::string_view text);

/// Whether `authority` (lower case) is `name`, or `name` without a port is its host.
bool same_authority(std::string_view authority, std::string_view name);

/// The host of a valid authority, brackets of an IPv6 address taken off.
std::string_view host_of(std::string_view authority);

}  // namespace hourz::net
