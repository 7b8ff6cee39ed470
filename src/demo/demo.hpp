// A database full of people and gigs to try the server on: a believable Bangkok, Chiang Mai and Phuket, the same for
// the same options. The load is one transaction over COPY with indexes, foreign keys and triggers taken away for its
// time and put back as they were, so that it either happened or did not; meanwhile the loaded tables are locked. It
// asks for an empty database with the schema in place and for the role that owns the tables. Making the password hash,
// choosing the base time and telling people about the accounts is the caller's.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/time.hpp"

namespace hourz::demo {

inline constexpr std::string_view seeker_email = "seeker@hourz.example";
inline constexpr std::string_view helper_email = "helper@hourz.example";
/// Of every demonstration account.
inline constexpr std::string_view demo_password = "hourz-demo-2026";

struct Options {
  std::int64_t users = 2000;  ///< at least 10
  std::int64_t gigs = 10000;
  std::uint64_t seed = 1;
  std::string blur_key;  ///< the server's secret for `blurred`
  double blur_radius_m = 200;
  std::string password_hash;  ///< of `demo_password`
  Timestamp base_time;        ///< "now" of the demonstration: nothing happened after it
};

struct Account {
  std::string email;
};

struct Loaded {
  std::int64_t users = 0;
  std::int64_t gigs = 0;
  Account seeker;  ///< lives in Ari and posts
  Account helper;  ///< available in Siam, in the middle of Bangkok
  std::string password;
};

/// True while the database has no user. Throws std::runtime_error with the database's words on any failure.
bool is_empty(const std::string& owner_url);

/// Fills the database. Throws std::runtime_error when it is not empty or the database refuses, std::invalid_argument
/// for impossible options; nothing is left behind then. `progress` gets a line a step.
Loaded load(const std::string& owner_url, const Options& options, std::function<void(std::string_view)> progress);

}  // namespace hourz::demo
