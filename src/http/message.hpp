// A request and a response as rooms and pipeline see them: plain values, no Beast.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hourz::http {

enum class Method { get, head, post, put, patch, del, options, other };

struct Header {
  std::string name;  ///< in lower case
  std::string value;
};

/// The head of a request, already held to RFC 9112 by the session: one valid Host, no transfer coding, no folded or
/// doubled singleton field, origin-form or absolute-form target.
struct RequestHead {
  Method method = Method::other;
  std::string method_text;  ///< as sent, for 501
  std::string target;       ///< path and query as sent, without scheme and authority
  std::vector<Header> headers;
  std::optional<std::uint64_t> content_length;
  std::string peer;  ///< the client's address in text, without port: as the session sets it, the connection's peer

  /// The value of a field, or nothing. `name` in lower case.
  std::optional<std::string_view> header(std::string_view name) const {
    for (const Header& h : headers) {
      if (h.name == name) return h.value;
    }
    return std::nullopt;
  }
};

/// The body of a request whose endpoint takes it piece by piece: memory does not grow with it.
class BodyReader {
 public:
  virtual ~BodyReader() = default;
  /// The next bytes, some 64 KiB at most; empty at the end. Valid until the next call. Nothing more is read from the
  /// client until it is called again. Throws Problem when the rest does not come.
  virtual boost::asio::awaitable<std::string_view> read() = 0;
};

/// The body of an answer that is fetched piece by piece while it is sent.
class BodySource {
 public:
  virtual ~BodySource() = default;
  /// The next bytes; never empty before `size` of them were given. Throws when they cannot be had: the connection is
  /// then closed, which tells the client that something is missing.
  virtual boost::asio::awaitable<std::string> next() = 0;
  std::uint64_t size = 0;
};

struct Response {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;  ///< without Content-Length, Connection and Date
  std::string content_type;                                  ///< empty when there is no body
  std::string body;
  std::shared_ptr<const void> keep_alive;  ///< owns what `static_body` points into, when that is not static
  std::string_view static_body;            ///< sent instead of `body` when not empty: embedded files are not copied
  std::shared_ptr<BodySource> source;      ///< sent instead of either when set
  std::string_view fixed_headers;          ///< further fields as `Name: value\r\n` lines that outlive the answer
  std::string_view origin_headers;         ///< likewise
  bool close = false;                      ///< end the connection after this answer
};

/// What the service makes of a head before a byte of the body is read: an endpoint, caller and so on. Opaque to net.
struct Admission {
  virtual ~Admission() = default;
};

struct Admitted {
  std::unique_ptr<Admission> admission;  ///< set when the body is wanted
  std::optional<Response> refusal;       ///< else the final answer; the body, if any, stays unread
  bool streamed = false;                 ///< the body goes to respond_streamed(), even when there is none
  std::uint64_t body_limit = 0;          ///< bytes; a larger Content-Length is refused by the service itself
};

/// What a session talks to. One per shard; used from the shard's thread alone.
class Service {
 public:
  virtual ~Service() = default;

  /// Decides on the head: route, caller, content type, length. Never throws.
  virtual boost::asio::awaitable<Admitted> admit(RequestHead head) = 0;

  /// Runs the endpoint on the whole request. Never throws.
  virtual boost::asio::awaitable<Response> respond(std::unique_ptr<Admission> admission, std::string body) = 0;

  /// The same for an endpoint that takes its body piece by piece. `body` may be left unread.
  virtual boost::asio::awaitable<Response> respond_streamed(std::unique_ptr<Admission> admission, BodyReader& body) = 0;

  /// The answer to a request that broke HTTP itself, as 400, 408, 411, 414, 417, 421, 431, 501 or 503; the
  /// session closes after it.
  /// `origin` is that of the request's page, as far as it could be read.
  virtual Response refuse(int status, std::string_view detail, std::string_view origin) = 0;

  /// What one connection too many is told before a byte of it is read.
  virtual Response turn_away() = 0;
};

}  // namespace hourz::http
