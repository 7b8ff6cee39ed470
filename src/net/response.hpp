// The bytes of an answer's head. Promises that no value given by the service can break out of its line, that Date and
// framing fields are right for the status, and that HEAD gets the head of GET. The body is left to be sent beside it.
#pragma once
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace hourz::net {

/// What the Connection field says; unsaid is HTTP/1.1 going on.
enum class Persistence { unsaid, keep_alive, close };

/// What is sent as the body; empty for a status that has none (204, 304).
std::string_view body_of(const http::Response& response);

/// Replaces `out` by the head, with its final empty line.
void write_head(std::string& out, const http::Response& response, std::string_view date, Persistence persistence);

}  // namespace hourz::net
