// The catalogue of errors, made from the table and from what endpoints and events declare: as the page that the `type`
// of every problem document points at (`/docs/errors#word`), and as docs/errors.md. Nothing in it is written by hand
// but what a client may do about each status.
#pragma once
#include <map>
#include <set>
#include <string>

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
  std::string who_of(ErrorCode code, std::string_view separator) const;
  std::map<ErrorCode, std::set<std::string>> who_;  ///< operations and events that declare it
};

}  // namespace hourz::app
