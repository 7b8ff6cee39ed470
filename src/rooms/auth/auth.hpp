// Accounts and sessions: registering, logging in, staying in, getting out.
//
// Owns the tables `sessions` and `mails` (recovery.hpp); the account itself is the users room's. Promises that an ended
// session's access tokens stop at once on this server, and within a second on others (a positive answer is kept for a
// second, no longer); that wrong email and wrong password answer alike, in like time; that nothing stored can be
// replayed. Refresh tokens rotate by a counter: the current one moves the session on, its parent gives the same
// successor again (a lost answer), and anything older is theft and ends the session.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <unordered_map>

#include "http/pipeline.hpp"
#include "mail/sender.hpp"
#include "rooms/auth/passwords.hpp"
#include "rooms/auth/tokens.hpp"
#include "rooms/users/users.hpp"

namespace hourz::auth {

using db::Awaitable;

/// Tells all shards' caches that something about a user's sessions changed: a stripe of counters, bumped after the
/// commit and compared on every use. No lock, no message between threads.
class Revocations {
 public:
  void bump(const Uuid& user) { slot(user).fetch_add(1, std::memory_order_release); }
  std::uint64_t seen(const Uuid& user) const {
    return stripes_[std::hash<Uuid>{}(user) % stripes_.size()].load(std::memory_order_acquire);
  }

 private:
  std::atomic<std::uint64_t>& slot(const Uuid& user) { return stripes_[std::hash<Uuid>{}(user) % stripes_.size()]; }
  std::array<std::atomic<std::uint64_t>, 4096> stripes_{};
};

struct Deps {
  const Config& config;
  const Tokens& tokens;
  Hasher& hasher;
  Revocations& revocations;
  std::string cursor_key;
  mail::Post& post;
  std::string mail_key;
};

void install(http::Router& router, Deps& deps);

/// One a shard.
class SessionAuthenticator final : public http::Authenticator {
 public:
  SessionAuthenticator(const Tokens& tokens, const Revocations& revocations)
      : tokens_(tokens), revocations_(revocations) {}
  Awaitable<http::Caller> authenticate(db::Client& database, std::string_view token) override;
  Awaitable<http::Caller> redeem(db::Client& database, std::string_view ticket) override;
  Awaitable<bool> alive(db::Client& database, const http::Caller& caller) override;

 private:
  /// What a token was found to say. Kept for a second, so that a session that another server ended does not live on,
  /// and so that a client's next requests cost neither a signature nor a statement.
  struct Entry {
    http::Caller caller;
    std::int64_t expires_at;  ///< Unix seconds
    std::uint64_t revocation;
    std::chrono::steady_clock::time_point until;
  };
  struct TokenHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view token) const { return std::hash<std::string_view>{}(token); }
  };
  static constexpr std::size_t cache_bound = 16'384;

  const Tokens& tokens_;
  const Revocations& revocations_;
  std::unordered_map<std::string, Entry, TokenHash, std::equal_to<>> cache_;  ///< by the whole token; emptied when full
};

/// What came of the mails that were tried: `failed` will be tried again, `refused` will not.
struct MailTally {
  std::int64_t sent = 0, failed = 0, refused = 0;
};

/// Sends the mails that are due, of all servers'; for the jobs.
Awaitable<MailTally> send_mail(Deps& deps, db::Client& database);

/// Mails that are not sent: those that will be, and since when the oldest of them waits; and those that never were
/// before their token ended, which are kept for a day.
struct MailBacklog {
  std::int64_t waiting, expired, age_us;
};
BOOST_DESCRIBE_STRUCT(MailBacklog, (), (waiting, expired, age_us))

Awaitable<MailBacklog> mails_waiting(db::Executor& db);

/// Ends every session of somebody, in the call's transaction: tokens stop with its commit, open sockets soon after.
Awaitable<void> end_sessions(Deps& deps, http::Call& call, Uuid user, std::string reason);

/// That it is really the account's owner who calls: by the password, or where none is given by having logged in within
/// the last ten minutes. To be asked before the call's transaction begins. Throws wrong_password.
Awaitable<void> prove_owner(Deps& deps, http::Call& call, std::optional<std::string> password);

void add_personal_data(http::PersonalData& data);

/// Deletes sessions that ended long ago and tickets that nobody used and mails of old; for the jobs.
Awaitable<std::int64_t> purge_sessions(db::Executor& db);

}  // namespace hourz::auth
