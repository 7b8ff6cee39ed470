// Blocks: who wants nothing to do with whom. One row counts for both sides, and neither is told; what that means in
// search, chat, buddies and alerts is those rooms' own, which ask by users.hpp or join the table. Nobody but this room
// includes this.
#pragma once
#include "rooms/users/users.hpp"

namespace hourz::users {

void install_blocks(http::Router& router, Deps& deps);

}  // namespace hourz::users
