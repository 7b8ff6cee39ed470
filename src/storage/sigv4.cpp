#include "storage/sigv4.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/crypto.hpp"

namespace hourz::storage::sigv4 {
namespace {

constexpr std::string_view algorithm = "AWS4-HMAC-SHA256";

std::string hex_hash(std::string_view text) { return to_hex(as_text(sha256(text))); }

Fields sorted(Fields fields) {
  std::ranges::sort(fields);
  return fields;
}

/// Sorted after escaping, since escapes sort otherwise than what they stand for.
std::string query_text(const Fields& query) {
  Fields escaped;
  for (const auto& [name, value] : query) escaped.emplace_back(escape(name, false), escape(value, false));
  std::string text;
  for (const auto& [name, value] : sorted(std::move(escaped))) {
    if (!text.empty()) text += '&';
    text += name + '=' + value;
  }
  return text;
}

/// Trimmed, and runs of spaces made one.
std::string header_value(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == ' ' && (text.empty() || text.back() == ' ')) continue;
    text += c;
  }
  if (text.ends_with(' ')) text.pop_back();
  return text;
}

Fields headers_of(const Request& request) {
  Fields headers = request.headers;
  headers.emplace_back("host", request.host);
  return sorted(std::move(headers));
}

std::string names_of(const Fields& headers) {
  std::string names;
  for (const auto& [name, value] : headers) names += (names.empty() ? "" : ";") + name;
  return names;
}

std::string scope_of(const Credentials& credentials, Time time) {
  return fmt::format("{}/{}/{}/aws4_request", date_text(time).substr(0, 8), credentials.region, credentials.service);
}

std::string signature(const Credentials& credentials, const Request& request, Time time,
                      std::string_view payload_hash) {
  const Fields headers = headers_of(request);
  std::string canonical =
      fmt::format("{}\n{}\n{}\n", request.method, escape(request.path, true), query_text(request.query));
  for (const auto& [name, value] : headers) canonical += name + ':' + header_value(value) + '\n';
  canonical += '\n' + names_of(headers) + '\n';
  canonical += payload_hash;
  const std::string to_sign =
      fmt::format("{}\n{}\n{}\n{}", algorithm, date_text(time), scope_of(credentials, time), hex_hash(canonical));
  Mac key = hmac_sha256("AWS4" + credentials.secret_key, date_text(time).substr(0, 8));
  for (const std::string_view part : {std::string_view(credentials.region), std::string_view(credentials.service),
                                      std::string_view("aws4_request")}) {
    key = hmac_sha256(as_text(key), part);
  }
  return to_hex(as_text(hmac_sha256(as_text(key), to_sign)));
}

}  // namespace

std::string escape(std::string_view text, bool keep_slashes) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string escaped;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slashes)) {
      escaped += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      escaped += {'%', digits[byte >> 4U], digits[byte & 15U]};
    }
  }
  return escaped;
}

std::string target(const Request& request) {
  const std::string query = query_text(request.query);
  return escape(request.path, true) + (query.empty() ? "" : "?" + query);
}

std::string date_text(Time time) { return fmt::format("{:%Y%m%dT%H%M%SZ}", time); }

std::string authorization(const Credentials& credentials, const Request& request, Time time,
                          std::string_view payload_hash) {
  return fmt::format("{} Credential={}/{},SignedHeaders={},Signature={}", algorithm, credentials.access_key,
                     scope_of(credentials, time), names_of(headers_of(request)),
                     signature(credentials, request, time, payload_hash));
}

std::string presigned_target(const Credentials& credentials, Request request, Time time,
                             std::chrono::seconds lifetime) {
  request.query.emplace_back("X-Amz-Algorithm", algorithm);
  request.query.emplace_back("X-Amz-Credential", credentials.access_key + '/' + scope_of(credentials, time));
  request.query.emplace_back("X-Amz-Date", date_text(time));
  request.query.emplace_back("X-Amz-Expires", std::to_string(lifetime.count()));
  request.query.emplace_back("X-Amz-SignedHeaders", names_of(headers_of(request)));
  request.query.emplace_back("X-Amz-Signature", signature(credentials, request, time, "UNSIGNED-PAYLOAD"));
  return target(request);
}

}  // namespace hourz::storage::sigv4
