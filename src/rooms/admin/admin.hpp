// Administration: what people report, who is suspended, and what administrators did.
//
// Owns `reports`, and reads `audit_log`, to which every room adds its administrators' acts in the statement that does
// them. Promises that a report keeps a copy of what was reported, written in the transaction that looked at it; that a
// suspended person's tokens, sockets and open gigs end with the answer; and that there is always an administrator left.
#pragma once
#include "http/router.hpp"
#include "rooms/auth/auth.hpp"

namespace hourz::admin {

using db::Awaitable;

struct Deps {
  std::string cursor_key;
  auth::Deps& auth;
};

void install(http::Router& router, Deps& deps);

void add_personal_data(http::PersonalData& data);

}  // namespace hourz::admin
