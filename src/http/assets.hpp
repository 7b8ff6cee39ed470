// The files inside the binary: the /docs page with all it loads, and the list of common passwords. They are made at
// build time from npm packages of exact versions (web/build.mjs) and embedded, so the page works offline and under
// `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'`.
// All views last as long as the process. Sending them, their caching and the headers are left to whoever serves them.
#pragma once
#include <span>
#include <string_view>

namespace hourz::http {

struct Asset {
  std::string_view path;          ///< where it is served, as "/docs/swagger-ui.css"; the page itself is "/docs"
  std::string_view content_type;  ///< with charset where it is text
  std::string_view etag;          ///< strong, in its quotes; of the plain bytes
  std::string_view bytes;
  std::string_view gzip_bytes;  ///< the same packed, for `Content-Encoding: gzip`; empty when that saves little
};

/// The asset served at exactly this path, or null.
const Asset* find_asset(std::string_view path);

/// All of them, by path.
std::span<const Asset> assets();

/// The passwords of 8 or more characters that people choose most (the frequency list of zxcvbn), in lower case, sorted
/// by bytes, each ended by a newline.
std::string_view common_passwords();

}  // namespace hourz::http
