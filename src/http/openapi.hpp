// The OpenAPI 3.1 document, made from the router: the same constants and types that route, parse and answer.
#pragma once
#include <string>

#include "http/router.hpp"

namespace hourz::http {

boost::json::object openapi_document(const Router& router);

/// The same as text: members in a fixed order, indented by two, so that differences read well.
std::string to_pretty_json(const boost::json::value& value);

}  // namespace hourz::http
