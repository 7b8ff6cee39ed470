#include "http/etag.hpp"

#include <algorithm>
#include <charconv>
#include <functional>

namespace hourz::http {
namespace {

/// Calls `match` with each tag of a comma-separated list until it says yes.
template <class Match>
bool any_tag(std::string_view list, Match match) {
  if (list == "*") return true;
  while (!list.empty()) {
    const auto end = std::min(list.find(','), list.size());
    std::string_view tag = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (tag.starts_with(' ')) tag.remove_prefix(1);
    while (tag.ends_with(' ')) tag.remove_suffix(1);
    if (match(tag)) return true;
  }
  return false;
}

}  // namespace

std::string etag_of(std::optional<std::int64_t> version, std::string_view body) {
  char hash[16];
  const auto end = std::to_chars(hash, hash + sizeof hash, std::hash<std::string_view>{}(body), 16).ptr;
  std::string tag = "\"";
  if (version) tag += std::to_string(*version) + "-";
  tag.append(hash, end);
  tag += '"';
  return tag;
}

bool names_etag(std::string_view field, std::string_view etag) {
  return any_tag(field, [etag](std::string_view tag) { return (tag.starts_with("W/") ? tag.substr(2) : tag) == etag; });
}

bool names_version(std::string_view field, std::int64_t version) {
  const std::string plain = "\"" + std::to_string(version);
  return any_tag(field, [&plain](std::string_view tag) { return tag.starts_with(plain + "-") || tag == plain + "\""; });
}

}  // namespace hourz::http
