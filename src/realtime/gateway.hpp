// The door of the WebSocket: who may open one (Origin, credentials, number), what a frame says, and how long it lasts.
//
// One a shard. Promises that nothing but `authenticate` works before a caller is known, that every frame is checked
// against its declaration, that a socket ends with its token (4401), its session (4503) or its patience (4501), and
// that a token in the address is written to no log. What events mean is the rooms'.
#pragma once
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/config.hpp"
#include "http/pipeline.hpp"
#include "realtime/node.hpp"

namespace hourz::realtime {

/// What all shards' gateways share.
class GatewayParts {
 public:
  GatewayParts(const Config& settings, Metrics& meters, const http::Perimeter& outside, Node& server,
               const http::ConstraintErrors& constraints)
      : config(settings), metrics(meters), perimeter(outside), node(server), constraint_errors(constraints) {}

  /// Whether a page of this origin may open a socket to a server that calls itself `host`.
  bool allows_origin(std::string_view origin, std::string_view host) const;
  /// One more socket of a user; false when they have as many as they may.
  bool take_place(const Uuid& user);
  void give_place(const Uuid& user);

  const Config& config;
  Metrics& metrics;
  const http::Perimeter& perimeter;
  Node& node;
  const http::ConstraintErrors& constraint_errors;

 private:
  std::mutex mutex_;  // of the counts alone: a socket opens and closes on any shard
  std::unordered_map<Uuid, int> places_;
};

/// Declares the events that every socket has.
void install_common_events(EventBook& book);

/// Closes the sockets of sessions that ended, on whatever server that happened.
void install_session_end(Node& node);

class SocketGateway final : public Gateway {
 public:
  SocketGateway(GatewayParts& parts, db::Client& database, http::Authenticator& authenticator, http::RateGate& gate,
                Hub& hub, const EventBook& book);
  ~SocketGateway() override;

  bool serves(std::string_view target) const override;
  Awaitable<Opening> open(http::RequestHead head) override;
  http::Response refuse(const http::RequestHead& head, int status, std::string_view detail) override;

  struct Shared;

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace hourz::realtime
