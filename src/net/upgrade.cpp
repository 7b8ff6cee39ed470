#include "net/upgrade.hpp"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>

namespace hourz::net {
namespace {

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }
constexpr bool is_alnum(char c) { return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z'); }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Whether one of the field's lines, each a list parted by commas, holds the word, in whatever case.
bool has_token(const http::RequestHead& request, std::string_view field, std::string_view word) {
  for (const http::Header& header : request.headers) {
    if (header.name != field) continue;
    std::string_view list = header.value;
    while (!list.empty()) {
      const std::size_t comma = std::min(list.find(','), list.size());
      if (std::ranges::equal(trimmed(list.substr(0, comma)), word, {}, lower)) return true;
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
  }
  return false;
}

/// 16 bytes in base64: 22 digits and the padding.
bool is_key(std::string_view key) {
  return key.size() == 24 && key.ends_with("==") &&
         std::ranges::all_of(key.substr(0, 22), [](char c) { return is_alnum(c) || c == '+' || c == '/'; });
}

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return is_alnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

}  // namespace

Fault check_handshake(const Head& head) {
  const http::RequestHead& request = head.request;
  if (request.method != http::Method::get) return {400, "A WebSocket is opened with GET."};
  if (head.http_1_0) return {400, "A WebSocket is opened over HTTP/1.1."};
  if (!has_token(request, "upgrade", "websocket")) return {400, "Upgrade does not name websocket."};
  if (!has_token(request, "connection", "upgrade")) return {400, "Connection does not name Upgrade."};
  if (request.content_length.value_or(0) > 0) return {400, "A handshake has no body."};
  for (auto one = request.headers.begin(); one != request.headers.end(); ++one) {
    if (!one->name.starts_with("sec-websocket-")) continue;
    if (std::any_of(one + 1, request.headers.end(),
                    [&](const http::Header& other) { return other.name == one->name; })) {
      return {400, "A Sec-WebSocket field is given twice."};
    }
  }
  if (request.header("sec-websocket-version") != "13") return {426, "The version of WebSocket spoken here is 13."};
  if (!is_key(request.header("sec-websocket-key").value_or(""))) {
    return {400, "Sec-WebSocket-Key is not 16 bytes in base64."};
  }
  return {};
}

std::string accept_of(std::string_view key) {
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, SHA_DIGEST_LENGTH> hash{};
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
  std::array<unsigned char, 32> base64{};
  const int size = EVP_EncodeBlock(base64.data(), hash.data(), static_cast<int>(hash.size()));
  return {reinterpret_cast<const char*>(base64.data()), static_cast<std::size_t>(size)};
}

std::string switching_protocols(std::string_view key, std::string_view subprotocol, std::string_view date) {
  std::string out = "HTTP/1.1 101 Switching Protocols\r\nDate: ";
  out += date;
  out += "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
  out += accept_of(key);
  if (is_token(subprotocol)) {
    out += "\r\nSec-WebSocket-Protocol: ";
    out += subprotocol;
  }
  out += "\r\n\r\n";
  return out;
}

}  // namespace hourz::net
