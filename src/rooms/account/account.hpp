// The whole of somebody's account: given out as one document, and deleted.
//
// Owns no table: every room registers what it stores about people (http/personal.hpp), and the composition root hands
// the list here. Promises that an account with an open gig or money in escrow stays, whatever races; that a deleted one
// is nobody's at once, with tokens and sockets dead and the email free; and that the ledger is not touched.
#pragma once
#include "http/personal.hpp"
#include "http/router.hpp"
#include "rooms/auth/auth.hpp"

namespace hourz::account {

using db::Awaitable;

struct Deps {
  auth::Deps& auth;
  http::PersonalData personal = {};
  std::size_t most_bytes = 64 << 20;  ///< of an export
};

void install(http::Router& router, Deps& deps);

}  // namespace hourz::account
