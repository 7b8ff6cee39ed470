// The whole of somebody's account: given out as one document, and deleted.
//
// Owns no table: every room registers what it stores about people (http/personal.hpp), and the composition root hands
// the list here. Promises that an account with an open gig or money in escrow stays, whatever races; that a deleted one
// is nobody's at once, with tokens and sockets dead and the email free; and that the ledger is not touched.
#pragma once
#include <atomic>
#include <memory>

#include "http/personal.hpp"
#include "http/router.hpp"
#include "rooms/auth/auth.hpp"

namespace hourz::account {

using db::Awaitable;

struct Deps {
  auth::Deps& auth;
  http::PersonalData personal = {};
  std::size_t most_bytes = 64 << 20;  ///< of an export
  /// Exports being made by all shards, and larger ones until they are sent: each may take some 200 MiB of memory.
  std::shared_ptr<std::atomic<int>> exports = std::make_shared<std::atomic<int>>(0);
  int most_exports = 2;
  std::size_t small_bytes = 1 << 20;  ///< an export up to this holds no place while it is sent
};

void install(http::Router& router, Deps& deps);

}  // namespace hourz::account
