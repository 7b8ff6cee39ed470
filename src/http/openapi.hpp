// The OpenAPI 3.1 document, made from the router: the same constants and types that route, parse and answer.
#pragma once
#include <string>
#include <vector>

#include "http/router.hpp"

namespace hourz::http {

boost::json::object openapi_document(const Router& router);

/// Every error that the endpoint can answer with: those that it declares, and what its kind brings.
std::vector<ErrorCode> errors_of(const Bound& bound);

/// The same as text: members in a fixed order, indented by two, so that differences read well.
std::string to_pretty_json(const boost::json::value& value);

}  // namespace hourz::http
