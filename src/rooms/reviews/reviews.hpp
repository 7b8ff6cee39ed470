// Reviews: what the two sides of a completed gig say of each other, once each.
//
// Owns the table `reviews`. Promises one review a side and gig whatever races, that none is written or changed outside
// its time, and that the sums in the reviewee's row, from which the reputation score is made, change in the review's
// own transaction; they can be counted anew from the reviews alone at any time. The score's formula and the
// administrator's word over it are the users room's.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "http/router.hpp"
#include "rooms/gigs/gigs.hpp"
#include "rooms/users/users.hpp"

namespace hourz::reviews {

using db::Awaitable;

/// A gig can be reviewed for so long after its completion (14 days).
inline constexpr std::int32_t window_hours = 14 * 24;
/// A review can be changed and removed by its author for so long.
inline constexpr std::int32_t edit_hours = 48;

struct Review {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"editable_until", "until then its author can change or remove it"}};
  Uuid id;
  Uuid gig_id;
  std::string gig_title;
  std::int32_t rating = 5;
  std::optional<std::string> comment;
  users::UserCard reviewer;
  users::UserCard reviewee;
  Timestamp created_at;
  Timestamp updated_at;
  Timestamp editable_until;
};
BOOST_DESCRIBE_STRUCT(Review, (),
                      (id, gig_id, gig_title, rating, comment, reviewer, reviewee, created_at, updated_at,
                       editable_until))

/// How many reviews gave 1, 2, 3, 4 and 5; on the wire an object with these as names.
struct Distribution {
  std::array<std::int64_t, 5> counts{};
};

struct Summary {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"average", "the plain mean of the ratings; null without reviews"}};
  std::optional<double> average;
  std::int64_t count = 0;
  Distribution distribution;
};
BOOST_DESCRIBE_STRUCT(Summary, (), (average, count, distribution))

struct Deps {
  std::string cursor_key;
};

void install(http::Router& router, Deps& deps);

void add_personal_data(http::PersonalData& data);

/// Counts all reviews of somebody; all that will count when the transaction holds the person's row.
Awaitable<users::Ratings> count_ratings(db::Executor& db, Uuid user);

struct Recomputed {
  std::int64_t people = 0;     ///< looked at: everybody
  std::int64_t corrected = 0;  ///< whose sums or score were not what the reviews say
};

/// Makes everybody's sums and score anew from the reviews, some people a transaction, while others may be writing.
/// Overridden scores stay. Doing it again corrects nobody.
Awaitable<Recomputed> recompute(db::Client& database);

}  // namespace hourz::reviews

namespace hourz::reflect {

template <>
struct Leaf<reviews::Distribution> {
  static void write(std::string& out, const reviews::Distribution& value) {
    for (std::size_t i = 0; i < value.counts.size(); ++i) {
      out += (i == 0 ? "{\"" : ",\"") + std::to_string(i + 1) + "\":" + std::to_string(value.counts[i]);
    }
    out += '}';
  }
  static json::object schema() {
    json::object properties;
    json::array required;
    for (const char* name : {"1", "2", "3", "4", "5"}) {
      properties[name] = json::object{{"type", "integer"}, {"minimum", 0}};
      required.emplace_back(name);
    }
    return {{"type", "object"},
            {"description", "how many reviews gave each rating"},
            {"properties", std::move(properties)},
            {"required", std::move(required)},
            {"additionalProperties", false}};
  }
};

}  // namespace hourz::reflect
