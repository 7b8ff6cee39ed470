// The catalogue of errors, made from the table and from what endpoints and events answer with: as the page that the
// `type` of every problem document points at (`/docs/errors#word`), and as docs/errors.md. Nothing in it is written by
// hand but what a client may do about each status.
#pragma once
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "http/router.hpp"
#include "realtime/events.hpp"

namespace hourz::app {

class ErrorCatalogue {
 public:
  ErrorCatalogue(const http::Router& router, const realtime::EventBook& events);
  std::string markdown() const;
  /// HTML that needs no script.
  std::string page() const;

 private:
  /// Who answers with a code: kinds of operations in words, and those that are not of such a kind by their names.
  struct Who {
    std::vector<std::string_view> kinds;
    std::set<std::string> names;
  };
  /// With commas; names stand in backticks.
  std::string who_of(ErrorCode code) const;
  std::map<ErrorCode, Who> who_;
};

}  // namespace hourz::app
