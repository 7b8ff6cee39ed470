// Mail of the auth room: verifying an address and setting a forgotten password anew. Owns the table `mails`. A mail is
// a row, written in the transaction that wants it and sent by a job, tried again until it is sent or its token ends.
// The token is computed from the row, the purpose and the address under a key, so the database holds nothing that could
// be replayed, and a changed address ends it. It stands in the mail alone, and there in the link's fragment, which no
// server is sent. Whether an address has an account is told neither by an answer nor by its time.
#pragma once
#include "rooms/auth/auth.hpp"

namespace hourz::auth {

void install_recovery(http::Router& router, Deps& deps);

/// The mail by which a new account shows that its address is its own; the handler's last statement, since
/// it commits.
Awaitable<void> write_verification(db::Executor& db, Uuid user);

/// Links for a password that was just changed are worth nothing any more.
Awaitable<void> void_resets(db::Executor& db, Uuid user);

/// Ends all sessions of a user but one.
Awaitable<void> end_other_sessions(db::Executor& db, Uuid user, Uuid kept, std::string reason);

}  // namespace hourz::auth
