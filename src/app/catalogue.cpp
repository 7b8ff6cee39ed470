#include "app/catalogue.hpp"

#include <algorithm>
#include <array>

#include "http/openapi.hpp"

namespace hourz::app {
namespace {

struct Advice {
  int status;
  std::string_view text;
};

/// By status: what an error of it means for a client's next step.
constexpr std::array<Advice, 26> advices{{
    {400, "The request cannot be read. Mend it; the same again fails again."},
    {401, "The caller is not known. Refresh on `token_expired`; else log in."},
    {402, "The provider did not charge. Try another way to pay."},
    {403, "Not for this caller."},
    {404, "Not there, or not the caller's to know of."},
    {405, "`Allow` says which methods there are."},
    {406, "Accept what the resource is."},
    {408, "Send it again."},
    {409, "The thing is not in that state. Read it again and decide anew."},
    {410, "It was there, and is no more."},
    {411, "Send a Content-Length."},
    {412, "Somebody was faster. Read it again, then change that version."},
    {413, "Send less."},
    {414, "Send less."},
    {415, "`Accept-Post` or the document says what is taken."},
    {416, "Ask for a range within the size that `Content-Range` says, or for the whole."},
    {417, "Leave the `Expect` field out."},
    {421, "Send it to the right host."},
    {422, "`errors` has every fault of the request. Mend them all."},
    {426, "Open it as a WebSocket."},
    {429, "Try again after `Retry-After` seconds."},
    {431, "Send less."},
    {500, "Not the client's fault. `request_id` finds the cause in the log."},
    {501, "The server will not learn it by trying again."},
    {503, "Try again after `Retry-After` seconds; what changes something, with the same `Idempotency-Key`."},
    {507, "The disk is full. Nothing was kept; try again later."},
}};

std::string_view advice_of(int status) {
  const auto* found = std::find_if(advices.begin(), advices.end(), [&](const Advice& a) { return a.status == status; });
  return found == advices.end() ? std::string_view() : found->text;
}

std::vector<int> statuses() {
  std::vector<int> all;
  for (const ErrorInfo& info : error_table) {
    if (std::find(all.begin(), all.end(), info.status) == all.end()) all.push_back(info.status);
  }
  std::sort(all.begin(), all.end());
  return all;
}

using Operations = std::set<const http::Bound*>;

/// What all operations of a kind answer with is said of the kind; a kind is looked at before those within it.
struct Kind {
  std::string_view name;
  bool (*holds)(const http::Bound& bound);
};

constexpr std::array<Kind, 9> kinds{{
    {"every operation", [](const http::Bound&) { return true; }},
    {"whatever has a quota", [](const http::Bound& b) { return b.endpoint->rate != http::RateClass::none; }},
    {"whatever needs a token", [](const http::Bound& b) { return b.endpoint->access != http::Access::anyone; }},
    {"whatever has the quota `standard`",
     [](const http::Bound& b) { return b.endpoint->rate == http::RateClass::standard; }},
    {"whatever is no `GET`", [](const http::Bound& b) { return b.endpoint->method != http::Method::get; }},
    {"whatever takes an `Idempotency-Key`",
     [](const http::Bound& b) { return http::takes_idempotency_key(*b.endpoint); }},
    {"whatever takes JSON", [](const http::Bound& b) { return b.takes_body && !b.takes_upload; }},
    {"uploads", [](const http::Bound& b) { return b.takes_upload; }},
    {"whatever only administrators may do",
     [](const http::Bound& b) { return b.endpoint->access == http::Access::admin; }},
}};

/// `word` as <code>word</code>; the texts have no other markup and nothing that HTML would take for its own.
std::string html_of(std::string_view text) {
  std::string out;
  bool inside = false;
  for (const char c : text) {
    if (c == '`') {
      out += inside ? "</code>" : "<code>";
      inside = !inside;
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

ErrorCatalogue::ErrorCatalogue(const http::Router& router, const realtime::EventBook& events) {
  std::map<ErrorCode, Operations> by_code;
  for (const auto& bound : router.endpoints()) {
    for (const ErrorCode code : http::errors_of(*bound)) by_code[code].insert(bound.get());
  }
  for (const auto& [code, all] : by_code) {
    Who& who = who_[code];
    Operations left = all;
    for (const Kind& kind : kinds) {
      Operations of_kind;
      for (const auto& bound : router.endpoints()) {
        if (kind.holds(*bound)) of_kind.insert(bound.get());
      }
      const auto is_left = [&left](const http::Bound* one) { return left.contains(one); };
      const auto count = std::count_if(of_kind.begin(), of_kind.end(), is_left);
      // Not for a few that happen to be of it: they are named.
      if (!std::includes(all.begin(), all.end(), of_kind.begin(), of_kind.end()) ||
          2 * static_cast<std::size_t>(count) <= of_kind.size()) {
        continue;
      }
      who.kinds.push_back(kind.name);
      std::erase_if(left, [&of_kind](const http::Bound* one) { return of_kind.contains(one); });
    }
    for (const http::Bound* one : left) who.names.emplace(one->endpoint->name);
  }
  for (const auto& [name, entry] : events.received()) {
    for (const ErrorCode code : entry.event->errors.all()) who_[code].names.insert("event " + std::string(name));
  }
}

std::string ErrorCatalogue::who_of(ErrorCode code) const {
  std::string text;
  const auto found = who_.find(code);
  if (found == who_.end()) return text;
  const auto comma = [&text] { return text.empty() ? "" : ", "; };
  for (const std::string_view kind : found->second.kinds) text += comma() + std::string(kind);
  for (const std::string& name : found->second.names) text += comma() + ('`' + name + '`');
  return text;
}

std::string ErrorCatalogue::markdown() const {
  std::string text =
      "# Errors\n\n"
      "Every `code` of a problem document (see [Errors in the API guide](api.md#errors)) and of the WebSocket's\n"
      "`error` frames. Codes are stable. \"By\" names the operations of [openapi.json](openapi.json) and the events\n"
      "that answer with it; where nobody is named, it may come from anywhere. Made by `hourz errors`; a running\n"
      "server has the same as a page at `/docs/errors`, to which the `type` of a problem document points.\n";
  for (const int status : statuses()) {
    text += "\n## " + std::to_string(status) + "\n\n" + std::string(advice_of(status)) +
            "\n\n| code | means | by |\n| --- | --- | --- |\n";
    for (const ErrorInfo& info : error_table) {
      if (info.status != status) continue;
      const std::string who = who_of(info.code);
      text += "| `" + std::string(info.word) + "` | " + std::string(info.title) + ". |";
      text += who.empty() ? " |\n" : " " + who + " |\n";
    }
  }
  return text;
}

std::string ErrorCatalogue::page() const {
  std::string text =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>Hourz errors</title>\n"
      "<link rel=\"icon\" type=\"image/svg+xml\" href=\"/docs/favicon.svg\">\n"
      "<link rel=\"stylesheet\" href=\"/docs/events.css\">\n</head>\n<body>\n<header>\n"
      "<p class=\"pages\"><a href=\"/docs\">Endpoints</a> <a href=\"/docs/events\">Events</a> "
      "<strong>Errors</strong></p>\n<h1>Errors</h1>\n"
      "<p>The <code>code</code> of a problem document or of an <code>error</code> frame. Codes are stable.</p>\n"
      "</header>\n<nav aria-label=\"On this page\">\n<h2>On this page</h2>\n<ul>\n";
  for (const int status : statuses()) {
    const std::string number = std::to_string(status);
    text += "<li><a href=\"#status-" + number + "\">" + number + "</a></li>\n";
  }
  text += "</ul>\n</nav>\n<main>\n";
  for (const int status : statuses()) {
    const std::string number = std::to_string(status);
    text +=
        "<section id=\"status-" + number + "\"><h2>" + number + "</h2>\n<p>" + html_of(advice_of(status)) + "</p>\n";
    for (const ErrorInfo& info : error_table) {
      if (info.status != status) continue;
      const std::string word(info.word);
      const std::string who = html_of(who_of(info.code));
      text += "<article id=\"" + word + "\"><h3><a href=\"#" + word + "\"><code>" + word + "</code></a></h3>\n<p>" +
              std::string(info.title) + ".</p>\n";
      if (!who.empty()) text += "<p class=\"aside\">" + who + "</p>\n";
      text += "</article>\n";
    }
    text += "</section>\n";
  }
  return text + "</main>\n</body>\n</html>\n";
}

}  // namespace hourz::app
