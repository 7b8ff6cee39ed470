#include "net/response.hpp"

#include <algorithm>
#include <array>
#include <boost/beast/http/status.hpp>
#include <charconv>

namespace hourz::net {
namespace {

bool has_body(int status) { return status >= 200 && status != 204 && status != 304; }

void append_number(std::string& out, std::size_t number) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  out.append(digits.data(), end);
}

/// A control character in a value would start a line of its own; none is let through.
void append_value(std::string& out, std::string_view value) {
  const std::size_t from = out.size();
  out += value;
  for (std::size_t i = from; i < out.size(); ++i) {
    const auto c = static_cast<unsigned char>(out[i]);
    if ((c < 0x20 && c != '\t') || c == 0x7f) out[i] = ' ';
  }
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  append_value(out, name);
  out += ": ";
  append_value(out, value);
  out += "\r\n";
}

}  // namespace

std::string_view body_of(const http::Response& response) {
  if (!has_body(response.status)) return {};
  return response.static_body.empty() ? std::string_view(response.body) : response.static_body;
}

void write_head(std::string& out, const http::Response& response, std::string_view date, Persistence persistence) {
  out = "HTTP/1.1 ";
  append_number(out, static_cast<std::size_t>(std::clamp(response.status, 200, 599)));
  out += ' ';
  out += boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(response.status));
  out += "\r\nDate: ";
  out += date;
  out += "\r\n";
  if (has_body(response.status)) {
    if (!response.content_type.empty()) append_field(out, "Content-Type", response.content_type);
    out += "Content-Length: ";
    append_number(out, response.source ? response.source->size : body_of(response).size());
    out += "\r\n";
  }
  if (persistence == Persistence::close) out += "Connection: close\r\n";
  if (persistence == Persistence::keep_alive) out += "Connection: keep-alive\r\n";
  out += response.fixed_headers;
  out += response.origin_headers;
  for (const auto& [name, value] : response.headers) append_field(out, name, value);
  out += "\r\n";
}

}  // namespace hourz::net
