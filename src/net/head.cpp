#include "net/head.hpp"

#include <algorithm>
#include <array>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/rfc7230.hpp>
#include <cstring>

namespace hourz::net {
namespace {

namespace beast = boost::beast;
using beast::http::field;
using beast::http::verb;

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

constexpr bool is_token(char c) {
  return is_digit(c) || is_alpha(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

/// The unreserved and sub-delims characters of RFC 3986.
constexpr bool is_name_char(char c) {
  return is_digit(c) || is_alpha(c) || std::string_view("-._~!$&'()*+,;=").find(c) != std::string_view::npos;
}

constexpr bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

/// Beast's view is Boost's or the standard's, by version and flags.
std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

/// Equal but for the case of ASCII letters.
bool same_text(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

std::string lowered(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), lower);
  return out;
}

http::Method method_of(verb v) {
  switch (v) {
    case verb::get:
      return http::Method::get;
    case verb::head:
      return http::Method::head;
    case verb::post:
      return http::Method::post;
    case verb::put:
      return http::Method::put;
    case verb::patch:
      return http::Method::patch;
    case verb::delete_:
      return http::Method::del;
    case verb::options:
      return http::Method::options;
    default:
      return http::Method::other;
  }
}

/// A bit for each field that may come once only, 0 for the others. Where one server takes the first of two and another
/// the last, a request means two things; so none is taken.
std::uint32_t singleton_bit(field f, std::string_view name) {
  switch (f) {
    case field::host:
      return 1u << 0;
    case field::authorization:
      return 1u << 1;
    case field::proxy_authorization:
      return 1u << 2;
    case field::content_type:
      return 1u << 3;
    case field::content_length:
      return 1u << 4;
    case field::if_match:
      return 1u << 5;
    case field::if_none_match:
      return 1u << 6;
    case field::if_modified_since:
      return 1u << 7;
    case field::if_unmodified_since:
      return 1u << 8;
    case field::if_range:
      return 1u << 9;
    case field::expect:
      return 1u << 10;
    case field::origin:
      return 1u << 11;
    case field::user_agent:
      return 1u << 12;
    case field::referer:
      return 1u << 13;
    case field::from:
      return 1u << 14;
    case field::date:
      return 1u << 15;
    case field::range:
      return 1u << 16;
    case field::max_forwards:
      return 1u << 17;
    case field::content_range:
      return 1u << 18;
    case field::sec_websocket_key:
      return 1u << 19;
    case field::sec_websocket_version:
      return 1u << 20;
    case field::access_control_request_method:
      return 1u << 21;
    case field::transfer_encoding:
      return 1u << 22;
    case field::unknown:
      break;
    default:
      return 0;
  }
  if (name == "idempotency-key") return 1u << 23;
  if (name == "x-request-id") return 1u << 24;
  if (name == "last-event-id") return 1u << 25;
  return 0;
}

/// Beast's grammar with our own storage: no field is kept that is not moved on to the service.
class Parser final : public beast::http::basic_parser<true> {
 public:
  explicit Parser(Head& head) : head_(head) {
    header_limit(UINT32_MAX);  // the scanner has counted already
    body_limit(boost::none);
    head_.request.headers.reserve(8);
  }

  std::string_view raw_target() const { return target_; }
  bool doubled() const { return doubled_; }
  bool has_transfer_encoding() const { return has_transfer_encoding_; }
  bool chunked() const { return chunked_; }
  std::size_t hosts() const { return hosts_; }
  std::size_t host_index() const { return host_index_; }
  bool close() const { return close_; }
  bool keep() const { return keep_; }

 private:
  using Code = beast::error_code;

  void on_request_impl(verb method, beast::string_view method_text, beast::string_view target, int version,
                       Code&) override {
    head_.request.method = method_of(method);
    head_.request.method_text = view(method_text);
    head_.http_1_0 = version == 10;
    target_ = view(target);
  }

  void on_field_impl(field f, beast::string_view name, beast::string_view value, Code& ec) override {
    http::Header& header = head_.request.headers.emplace_back();
    header.name = lowered(view(name));
    header.value = view(value);
    const std::uint32_t bit = singleton_bit(f, header.name);
    if ((seen_ & bit) != 0) doubled_ = true;
    seen_ |= bit;
    if (f == field::host) {
      ++hosts_;
      host_index_ = head_.request.headers.size() - 1;
    } else if (f == field::connection) {
      for (const auto token : beast::http::token_list(value)) {
        if (same_text(view(token), "close")) close_ = true;
        if (same_text(view(token), "keep-alive")) keep_ = true;
      }
    } else if (f == field::transfer_encoding) {
      has_transfer_encoding_ = true;
      chunked_ = same_text(header.value, "chunked");
    } else if (f == field::content_length) {
      // Beast also takes lists of equal numbers.
      if (!std::ranges::all_of(header.value, [](char c) { return c >= '0' && c <= '9'; }))
        ec = beast::http::error::bad_content_length;
    }
  }

  void on_response_impl(int, beast::string_view, int, Code&) override {}
  void on_header_impl(Code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, Code&) override {}
  std::size_t on_body_impl(beast::string_view, Code&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, Code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view, Code&) override { return 0; }
  void on_finish_impl(Code&) override {}

  Head& head_;
  std::string_view target_;
  std::uint32_t seen_ = 0;
  std::size_t hosts_ = 0;
  std::size_t host_index_ = 0;
  bool doubled_ = false;
  bool has_transfer_encoding_ = false;
  bool chunked_ = false;
  bool close_ = false;
  bool keep_ = false;
};

Fault fault_of(const beast::error_code& ec) {
  using beast::http::error;
  if (ec == error::bad_method) return {400, "The method is not a token."};
  if (ec == error::bad_target) return {400, "The request target has characters that it may not have."};
  if (ec == error::bad_version) return {400, "The request line does not end in HTTP/1.1 or HTTP/1.0."};
  if (ec == error::bad_content_length) return {400, "Content-Length is not one decimal number."};
  if (ec == error::multiple_content_length) return {400, "Content-Length is given twice."};
  if (ec == error::bad_transfer_encoding) return {400, "Transfer-Encoding is doubled or given with Content-Length."};
  if (ec == error::bad_field) return {400, "A field name is not a token followed by a colon."};
  if (ec == error::bad_value) return {400, "A field value has characters that it may not have."};
  return {400, "The request head is malformed."};
}

/// Splits the target into authority and path, by its form.
Fault read_target(std::string_view raw, Head& head) {
  const auto bad = [](char c) {
    return c == '#' || static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f;
  };
  if (std::ranges::any_of(raw, bad)) return {400, "The request target has characters that it may not have."};
  http::RequestHead& request = head.request;
  if (raw.front() == '/') {
    request.target = raw;
    return {};
  }
  if (raw == "*") {
    if (request.method != http::Method::options) return {400, "Only OPTIONS may have the target *."};
    request.target = raw;
    return {};
  }
  if (request.method_text == "CONNECT") {
    if (!valid_authority(raw)) return {400, "The target of CONNECT is not host:port."};
    request.target = raw;
    return {};
  }
  std::size_t scheme = 0;
  if (raw.size() > 7 && same_text(raw.substr(0, 7), "http://")) scheme = 7;
  if (raw.size() > 8 && same_text(raw.substr(0, 8), "https://")) scheme = 8;
  if (scheme == 0) return {400, "The request target is neither a path nor an http URI."};
  const std::string_view rest = raw.substr(scheme);
  const std::size_t path = std::min(rest.find_first_of("/?"), rest.size());
  if (!valid_authority(rest.substr(0, path))) return {400, "The authority of the request target is not valid."};
  head.authority = lowered(rest.substr(0, path));
  if (path == rest.size()) {
    request.target = request.method == http::Method::options ? "*" : "/";
  } else {
    if (rest[path] == '?') request.target = "/";
    request.target += rest.substr(path);
  }
  return {};
}

}  // namespace

HeadScanner::Verdict HeadScanner::refuse(int status, std::string_view detail) {
  fault_ = {status, detail};
  return Verdict::refused;
}

HeadScanner::Verdict HeadScanner::scan(std::string_view data) {
  const std::size_t size = std::min(data.size(), bytes_);
  while (scanned_ < size) {
    // What is no HTTP at all (as a TLS greeting) is told so at its first byte.
    if (lines_ == 0 && scanned_ == begin_ && !is_token(data[begin_]) && !(begin_ == 0 && data[0] == '\r')) {
      return refuse(400, "A request does not start so.");
    }
    const void* found = std::memchr(data.data() + scanned_, '\n', size - scanned_);
    if (found == nullptr) {
      scanned_ = size;
      break;
    }
    const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - data.data());
    scanned_ = at + 1;
    if (at == line_ || data[at - 1] != '\r') return refuse(400, "A line does not end in CR LF.");
    const bool empty = at - 1 == line_;
    if (!empty && lines_ > 0 && (data[line_] == ' ' || data[line_] == '\t')) {
      return refuse(400, "A field is folded over two lines.");
    }
    line_ = scanned_;
    if (!empty) {
      if (++lines_ > fields_ + 1) return refuse(431, "The request has too many fields.");
    } else if (lines_ > 0) {
      end_ = scanned_;
      return Verdict::complete;
    } else if (begin_ > 0) {
      return refuse(400, "A request does not start so.");
    } else {
      begin_ = scanned_;  // RFC 9112, 2.2: one empty line before the request line is let pass
    }
  }
  if (data.size() < bytes_) return Verdict::need_more;
  return lines_ == 0 ? refuse(414, "The request target is too long.") : refuse(431, "The request head is too long.");
}

Fault parse_head(std::string_view bytes, Head& head) {
  Parser parser(head);
  beast::error_code ec;
  parser.put(boost::asio::const_buffer(bytes.data(), bytes.size()), ec);
  if (ec) return fault_of(ec);
  if (!parser.is_header_done()) return {400, "The request head is malformed."};
  http::RequestHead& request = head.request;
  if (parser.doubled()) return {400, "A field that may come once only is given twice."};
  if (parser.hosts() == 0 && !head.http_1_0) return {400, "Host is missing."};
  if (parser.hosts() > 0 && !valid_authority(request.headers[parser.host_index()].value)) {
    return {400, "Host is not valid."};
  }
  if (const Fault fault = read_target(parser.raw_target(), head)) return fault;
  if (const auto length = parser.content_length()) request.content_length = *length;
  if (parser.has_transfer_encoding()) {
    if (request.content_length) return {400, "Content-Length and Transfer-Encoding are both given."};
    if (head.http_1_0) return {400, "HTTP/1.0 has no Transfer-Encoding."};
    if (parser.chunked()) return {411, "Send a Content-Length: transfer codings are not taken."};
    return {501, "Transfer codings are not taken."};
  }
  if (!head.authority.empty()) {  // RFC 9112, 3.2.2: it wins over Host
    if (parser.hosts() > 0) {
      request.headers[parser.host_index()].value = head.authority;
    } else {
      request.headers.push_back({"host", head.authority});
    }
  }
  if (const auto expect = request.header("expect")) {
    if (!same_text(*expect, "100-continue")) return {417, "The only expectation met is 100-continue."};
    head.expect_continue = !head.http_1_0;  // RFC 9110, 10.1.1: 1.0 knows no interim answers
  }
  head.keep_alive = !parser.close() && (!head.http_1_0 || parser.keep()) && request.method_text != "CONNECT";
  return {};
}

bool valid_authority(std::string_view text) {
  if (text.empty() || text.size() > 261) return false;  // 255 of a name, and a port
  std::size_t host = 0;
  if (text.front() == '[') {
    host = text.find(']');
    if (host == std::string_view::npos || host < 3) return false;
    const auto inside = text.substr(1, host - 1);
    if (!std::ranges::all_of(inside, [](char c) { return is_hex(c) || c == ':' || c == '.'; })) return false;
    ++host;
  } else {
    while (host < text.size() && text[host] != ':') {
      if (text[host] == '%') {
        if (host + 2 >= text.size() || !is_hex(text[host + 1]) || !is_hex(text[host + 2])) return false;
        host += 3;
      } else if (is_name_char(text[host])) {
        ++host;
      } else {
        return false;
      }
    }
    if (host == 0) return false;
  }
  if (host == text.size()) return true;
  if (text[host] != ':') return false;
  const auto port = text.substr(host + 1);
  if (port.size() > 5 || !std::ranges::all_of(port, is_digit)) return false;
  unsigned number = 0;
  for (const char c : port) number = number * 10 + static_cast<unsigned>(c - '0');
  return number <= 65535;
}

std::string_view host_of(std::string_view authority) {
  if (authority.starts_with('[')) return authority.substr(1, authority.find(']') - 1);
  return authority.substr(0, authority.find(':'));
}

bool same_authority(std::string_view authority, std::string_view name) {
  if (same_text(authority, name)) return true;
  const bool named_port =
      name.starts_with('[') ? name.find("]:") != std::string_view::npos : name.find(':') != std::string_view::npos;
  return !named_port && same_text(host_of(authority), host_of(name));
}

}  // namespace hourz::net
