// Alerts: a gig's news to those who are connected. Its two sides hear of every change (`gig_updated`); whoever watches
// an area hears of a gig that opens there (`gig_nearby`) and of its going (`gig_gone`), each once.
//
// Owns no table. The news come from the outbox in the order of commit, on every server; a shard keeps the standing
// areas of its own connections in an R-tree, so that a new gig costs microseconds. Strangers are told the public point.
// Never told: the seeker of the gig, and people between whom there is a block.
#pragma once
#include <memory>
#include <vector>

#include "core/metrics.hpp"
#include "realtime/node.hpp"
#include "rooms/gigs/gigs.hpp"

namespace hourz::alerts {

using db::Awaitable;

/// The standing areas of one shard's connections.
class Watches {
 public:
  explicit Watches(Metrics& metrics);
  ~Watches();
  Watches(const Watches&) = delete;
  Watches& operator=(const Watches&) = delete;

  struct State;
  State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

/// `watches` must outlive the book.
void install_events(realtime::EventBook& book, Watches& watches);

/// Before the node starts. `watches` has one entry a shard, in the node's order, and may still be filled up to then.
void install_feed(realtime::Node& node, const std::vector<Watches*>& watches);

}  // namespace hourz::alerts
