// The listening side: accepts connections, spreads them over the shards and speaks strict HTTP/1.1 on each (RFC 9110,
// RFC 9112), handing whole requests to the shard's http::Service, and WebSocket (RFC 6455) on those that its
// realtime::Gateway opens. The only folder that includes Beast.
//
// Promises: message framing is never ambiguous (any Transfer-Encoding, doubled or folded field, bad Host or length is
// refused and the connection closed); every phase has a limit in bytes and in time; memory per connection is bounded;
// running out of descriptors neither ends nor spins the accept loop; a drain answers what is in flight, with
// `Connection: close`, and ends within its deadline whatever peers do.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "http/message.hpp"
#include "realtime/socket.hpp"

namespace hourz::net {

struct Limits {
  std::size_t header_bytes = 8192;  ///< start line and fields together
  std::size_t header_fields = 100;
  std::size_t connections = 10'000;                  ///< past which new ones are told 503 and closed
  std::uint32_t requests_per_connection = 100'000;   ///< then `Connection: close`
  std::chrono::milliseconds idle_timeout{60'000};    ///< between two requests
  std::chrono::milliseconds header_timeout{10'000};  ///< from a head's first byte to its last
  std::chrono::milliseconds body_timeout{15'000};    ///< for the whole of a body of up to 1 MiB, or a message
  std::chrono::milliseconds write_timeout{15'000};   ///< for each 256 KiB of an answer

  std::size_t message_bytes = 64 * 1024;   ///< of a WebSocket message, all fragments together
  std::size_t outbox_bytes = 1024 * 1024;  ///< queued on a WebSocket; past either, its peer is too slow
  std::size_t outbox_frames = 512;
  std::chrono::milliseconds ping_interval{30'000};
  std::chrono::milliseconds silence{75'000};        ///< without a byte heard on a WebSocket
  std::chrono::milliseconds stall_timeout{30'000};  ///< without a byte taken of what is queued on it
  std::chrono::milliseconds close_timeout{1'000};   ///< for the peer's close frame after ours
};

/// One io_context, run by one thread, and what serves its connections.
struct Shard {
  boost::asio::io_context* io;
  http::Service* service;
  realtime::Gateway* gateway = nullptr;  ///< null: no WebSockets
};

class Server {
 public:
  /// Gauges and counters for metrics; safe to read from any thread.
  struct Figures {
    std::uint64_t accepted = 0;
    std::uint64_t refused = 0;  ///< past Limits::connections
    std::uint64_t accept_errors = 0;
    std::int64_t open = 0;
    std::uint64_t bad_requests = 0;  ///< refused before routing
    std::int64_t sockets = 0;        ///< WebSockets among `open`
    std::int64_t outbox_bytes = 0;   ///< queued on them, a shared frame counted on each
    std::uint64_t frames_in = 0;
    std::uint64_t frames_out = 0;  ///< whole frames taken by the kernel
    std::uint64_t too_slow = 0;    ///< WebSockets closed for their full or unread outbox
  };

  /// `shards` has at least one; its first shard accepts for all.
  Server(std::vector<Shard> shards, Limits limits);
  /// With the io_contexts alive, but stopped or on the first one's thread. Sessions still open end with their
  /// io_context.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Binds and listens; port 0 takes a free one. Throws std::system_error with address and port in its text.
  void listen(const std::string& address, std::uint16_t port);
  std::uint16_t port() const;

  /// Authorities that an absolute-form target may name besides loopback and the listening address; empty: any. A name
  /// without a port stands for all its ports. Before listen().
  void allow_authorities(std::vector<std::string> names);

  /// Accepts no more, closes idle connections, tells WebSockets to go, lets requests in flight be answered. `done` is
  /// called on the first shard's thread once every connection is closed, or `deadline` after the call, whichever is
  /// first (what is still open is cut then). From any thread; a second drain may end it sooner, and each `done` is
  /// called once.
  void drain(std::chrono::milliseconds deadline, std::function<void()> done);

  Figures figures() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace hourz::net
