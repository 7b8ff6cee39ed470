// Buddies: people whom somebody wants to find again, with a note to each.
//
// Owns the table `buddies`. Promises that a list is its owner's alone: the buddy is never told, and for everybody else
// it does not exist. Whoever is suspended, or blocked in either direction, is as good as not there, but keeps their
// place in the list until they are back. Who blocks whom is the users room's; what two people did together, the gigs'.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "http/router.hpp"
#include "rooms/users/users.hpp"

namespace hourz::buddies {

using db::Awaitable;

/// Nobody has more; what a list costs is bounded by it.
inline constexpr std::int64_t most_buddies = 1000;

struct Buddy {
  static constexpr bool is_answer = true;
  Uuid buddy_id;
  std::optional<std::string> notes;
  Timestamp created_at;
  std::int64_t gigs_together = 0;
  users::PublicUser buddy;
};
BOOST_DESCRIBE_STRUCT(Buddy, (), (buddy_id, notes, created_at, gigs_together, buddy))

struct BuddyList {
  static constexpr bool is_answer = true;
  std::vector<Buddy> buddies;
  std::optional<std::string> next_cursor;
  Omit<std::int64_t> total_count;
};
BOOST_DESCRIBE_STRUCT(BuddyList, (), (buddies, next_cursor, total_count))

struct Deps {
  std::string cursor_key;
  /// How many gigs somebody completed with each of the others, in their order (the gigs room's).
  std::function<Awaitable<std::vector<std::int64_t>>(db::Executor&, Uuid, std::vector<Uuid>)> gigs_together;
};

void install(http::Router& router, Deps& deps);

void add_personal_data(http::PersonalData& data);

}  // namespace hourz::buddies
