// What stands between the network and the realtime folder: net speaks RFC 6455 and knows nothing of events; realtime
// knows events and nothing of sockets. A Gateway (one a shard) decides at the upgrade who may open a socket and gives a
// Session; net feeds it whole messages and gives it a Wire to send by. Everything here is used from the shard's thread
// alone.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/message.hpp"

namespace hourz::realtime {

template <class T>
using Awaitable = boost::asio::awaitable<T>;

/// Why a socket is closed. 4000 to 4499: come back, after a pause with jitter; 4500 to 4999: do not.
enum class CloseCode : std::uint16_t {
  normal = 1000,
  going_away = 1001,  ///< the server is being stopped: come back
  protocol_error = 1002,
  unsupported = 1003,  ///< binary messages
  bad_data = 1007,     ///< not UTF-8, or again and again not JSON
  too_big = 1009,
  internal_error = 1011,
  token_ended = 4401,      ///< come back with a fresh access token
  too_slow = 4408,         ///< the outbox was full: come back and resume
  silent = 4409,           ///< nothing was heard, not even a pong
  resume = 4410,           ///< the server cannot promise gap-free delivery any more: come back and resume
  too_fast = 4429,         ///< frames past the limit
  too_many = 4430,         ///< one socket more than the account may have: come back later
  unauthenticated = 4501,  ///< no token was sent in time, or a wrong one
  session_ended = 4503,    ///< logged out, password changed, account suspended
};

/// A whole unmasked text frame as it goes over the wire, made once and shared by every connection that it goes to.
using Frame = std::shared_ptr<const std::string>;

/// `text` is at most 2^63 bytes of UTF-8.
inline Frame text_frame(std::string_view text) {
  auto frame = std::make_shared<std::string>();
  frame->reserve(text.size() + 10);
  frame->push_back(static_cast<char>(0x81));
  const std::uint64_t size = text.size();
  const int bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
  frame->push_back(static_cast<char>(bytes == 0 ? size : bytes == 2 ? 126 : 127));
  for (int i = bytes - 1; i >= 0; --i) frame->push_back(static_cast<char>(size >> (8 * i) & 0xff));
  frame->append(text);
  return frame;
}

/// The sending side of one open socket. Implemented by net; lives as long as the Session it was given to.
class Wire {
 public:
  virtual ~Wire() = default;

  /// Queues a frame, in the order of the calls. Frames queued in one turn of the shard travel together. Past the
  /// outbox's bound (bytes or frames) the socket is closed with `too_slow`; nothing is queued on a closing socket.
  virtual void send(Frame frame) = 0;

  /// Sends a close frame behind what is queued (for `too_slow` and `too_fast`: instead of it), waits a moment for the
  /// peer's, and ends. The first call counts.
  virtual void close(CloseCode code, std::string_view reason = {}) = 0;
};

/// One open socket as net sees it. Destroyed on the shard once the socket has ended, never while receive() runs.
class Session {
 public:
  virtual ~Session() = default;

  /// Before anything is read; the first frames may be sent from here.
  virtual void opened(Wire& wire) = 0;

  /// A whole text message, valid UTF-8. The next is read when this has ended. Never throws.
  virtual Awaitable<void> receive(std::string text) = 0;

  /// A whole binary message; closes the socket when it has had enough of them.
  virtual void receive_binary() = 0;

  /// A frame of any kind has begun (control frames and empty fragments too). False: it came past the limit by far, and
  /// the session has closed the socket.
  virtual bool admit_frame() = 0;

  /// About every second, for deadlines of the session's own.
  virtual void tick() = 0;

  /// The server begins to drain: say so and close.
  virtual void going_away() = 0;
};

/// What the gateway makes of an upgrade.
struct Opening {
  std::optional<http::Response> refusal;  ///< the answer instead of 101
  std::unique_ptr<Session> session;       ///< set when there is no refusal
  std::string subprotocol;                ///< to be named in the 101; empty: none
};

/// One a shard.
class Gateway {
 public:
  virtual ~Gateway() = default;

  /// Whether this target (path and query as sent) is a socket's and not an endpoint's.
  virtual bool serves(std::string_view target) const = 0;

  /// Of a request whose handshake net has found sound: Origin, credentials, limits. Never throws.
  virtual Awaitable<Opening> open(http::RequestHead head) = 0;

  /// The answer to a request for a socket's target that is no sound handshake: 400, or 426 for another version.
  virtual http::Response refuse(const http::RequestHead& head, int status, std::string_view detail) = 0;
};

}  // namespace hourz::realtime
