#include "http/perimeter.hpp"

#include <algorithm>

#include "core/text.hpp"

namespace hourz::http {
namespace {

/// What an answer may bring itself; bits of an index.
enum Own : std::size_t { policy = 1, sharing = 2, caching = 4, version = 8 };

/// Scripts of a listed page see these besides the few that they always see.
constexpr std::string_view exposed =
    "Accept-Ranges, Allow, Content-Disposition, Content-Range, ETag, Idempotency-Replayed, Location, RateLimit, "
    "RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id";
constexpr std::string_view request_fields =
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Range, X-Request-Id";
constexpr std::string_view preflight_lasts_s = "600";
/// There is no word for "nothing at all": the worst are named, and not all, since it goes with every answer.
constexpr std::string_view no_permissions = "camera=(), geolocation=(), microphone=(), payment=(), usb=()";

/// `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
std::optional<AddressBytes> hop_of(std::string_view item) {
  if (item.starts_with('[')) {
    const auto end = item.find(']');
    return end == std::string_view::npos ? std::nullopt : parse_address(item.substr(1, end - 1));
  }
  const auto colon = item.find(':');
  if (colon != std::string_view::npos && item.find(':', colon + 1) == std::string_view::npos) {
    item = item.substr(0, colon);
  }
  return parse_address(item);
}

}  // namespace

Perimeter::Perimeter(const Config& config) : proxies_(Networks::parse(config.trusted_proxies).value_or(Networks())) {
  for (const std::string_view origin : items_of(config.cors_origins)) {
    std::string fields =
        "Access-Control-Allow-Origin: " + std::string(origin) +
        "\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: " + std::string(exposed) + "\r\n";
    origins_.push_back({std::string(origin), std::move(fields)});
  }
  for (std::size_t own = 0; own < safe_fields_.size(); ++own) {
    std::string& fields = safe_fields_[own];
    fields =
        "X-Content-Type-Options: nosniff\r\n"
        "Referrer-Policy: no-referrer\r\n"
        "X-Frame-Options: DENY\r\n"
        "Vary: Origin\r\n"
        "Permissions-Policy: ";
    fields += no_permissions;
    fields += "\r\n";
    if ((own & policy) == 0) fields += "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n";
    if ((own & sharing) == 0) fields += "Cross-Origin-Resource-Policy: same-origin\r\n";
    if ((own & caching) == 0) {
      // What has a version may be kept by its reader, who asks each time whether it is still the one.
      fields += (own & version) != 0 ? "Cache-Control: private, no-cache\r\n" : "Cache-Control: no-store\r\n";
    }
    if (config.hsts_s > 0) {
      fields += "Strict-Transport-Security: max-age=" + std::to_string(config.hsts_s) + "; includeSubDomains\r\n";
    }
  }
}

void Perimeter::name_client(RequestHead& head) const {
  if (proxies_.empty()) return;
  auto client = parse_address(head.peer);
  if (!client || !proxies_.contain(*client)) return;
  for (auto field = head.headers.rbegin(); field != head.headers.rend(); ++field) {
    if (field->name != "x-forwarded-for") continue;
    const auto items = items_of(field->value);
    for (auto item = items.rbegin(); item != items.rend(); ++item) {
      const auto hop = hop_of(*item);
      if (hop) client = hop;
      if (!hop || !proxies_.contain(*hop)) {
        head.peer = to_text(*client);
        return;
      }
    }
  }
  head.peer = to_text(*client);
}

const Perimeter::Origin* Perimeter::find(std::string_view origin) const {
  if (origin.empty()) return nullptr;
  const auto found = std::find_if(origins_.begin(), origins_.end(), [&](const Origin& o) { return o.name == origin; });
  return found == origins_.end() ? nullptr : &*found;
}

bool Perimeter::lists_origin(std::string_view origin) const { return find(origin) != nullptr; }

void Perimeter::dress(Response& response, std::string_view origin) const {
  std::size_t own = 0;
  for (const auto& [name, value] : response.headers) {
    if (name == "Content-Security-Policy") own |= policy;
    if (name == "Cross-Origin-Resource-Policy") own |= sharing;
    if (name == "Cache-Control") own |= caching;
    if (name == "ETag" && response.status < 400) own |= version;
  }
  response.fixed_headers = safe_fields_[own];
  if (const Origin* listed = find(origin)) response.origin_headers = listed->fields;
}

void Perimeter::grant(std::string_view allow, Response& response) const {
  response.headers.emplace_back("Access-Control-Allow-Methods", allow);
  response.headers.emplace_back("Access-Control-Allow-Headers", request_fields);
  response.headers.emplace_back("Access-Control-Max-Age", preflight_lasts_s);
}

}  // namespace hourz::http
