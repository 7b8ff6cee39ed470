// The opening handshake of RFC 6455, section 4.2: whether a request is a sound one, and the bytes of the 101 that says
// yes. Who may open a socket is the gateway's to say; what was wrong with a handshake is said in words that are safe to
// show. Knows nothing of sockets.
#pragma once
#include <string>
#include <string_view>

#include "net/head.hpp"

namespace hourz::net {

/// What keeps `head` from being a handshake: 400, or 426 when the version is not 13.
Fault check_handshake(const Head& head);

/// Sec-WebSocket-Accept for a key.
std::string accept_of(std::string_view key);

/// The whole answer. `subprotocol` is left out when empty, or no token.
std::string switching_protocols(std::string_view key, std::string_view subprotocol, std::string_view date);

}  // namespace hourz::net
