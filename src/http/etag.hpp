// Entity tags (RFC 9110 8.8): `"<version>-<hash of the body>"` for what has a version, `"<hash>"` for the rest. The
// whole tag tells whether an answer changed; its front tells whether the resource did, whoever is looking.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hourz::http {

std::string etag_of(std::optional<std::int64_t> version, std::string_view body);

/// If-None-Match: `*` or a list, compared weakly.
bool names_etag(std::string_view field, std::string_view etag);

/// If-Match against a version: `*` or a list; a weak tag never matches.
bool names_version(std::string_view field, std::int64_t version);

}  // namespace hourz::http
