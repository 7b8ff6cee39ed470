// Gigs: work of an hour or more, pinned on the map by a Seeker and done by one Helper.
//
// Owns `gigs`, `gig_events`, `gig_assignments` and the map's cells. Promises one winner among any number of accepts,
// the life of lifecycle.hpp and no other, a true point only for the two sides, lists that neither repeat nor skip while
// others post, and a map that costs milliseconds whatever it holds. Every move is told
// in the gig's chat room, in its transaction; chat itself, money and reviews are others' rooms.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "http/router.hpp"
#include "rooms/gigs/lifecycle.hpp"
#include "rooms/uploads/uploads.hpp"
#include "rooms/users/users.hpp"

namespace hourz::gigs {

using db::Awaitable;

struct Gig {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"latitude", "the true place for the two sides; for others a public point that is off by some metres"},
      Note{"distance_km", "in searches with an origin: to the public point, geodesic (WGS 84), to the metre"},
      Note{"version", "grows with every change; the front of the ETag"}};
  Uuid id;
  std::string title;
  std::string description;
  std::optional<std::string> category;
  double duration_hours = 0;
  Money budget;
  std::string currency;
  double latitude = 0;
  double longitude = 0;
  std::optional<std::string> address_text;
  std::vector<std::string> image_urls;
  Status status = Status::PENDING;
  std::optional<Timestamp> starts_at;
  std::optional<Timestamp> expires_at;
  Timestamp created_at;
  Timestamp updated_at;
  std::optional<Timestamp> accepted_at;
  std::optional<Timestamp> started_at;
  std::optional<Timestamp> completed_at;
  std::optional<Timestamp> cancelled_at;
  std::optional<std::string> cancel_reason;
  users::UserCard seeker;
  std::optional<users::UserCard> helper;
  std::int64_t version = 1;
  Omit<double> distance_km;
};
BOOST_DESCRIBE_STRUCT(Gig, (),
                      (id, title, description, category, duration_hours, budget, currency, latitude, longitude,
                       address_text, image_urls, status, starts_at, expires_at, created_at, updated_at, accepted_at,
                       started_at, completed_at, cancelled_at, cancel_reason, seeker, helper, version, distance_km))

struct GigList {
  static constexpr bool is_answer = true;
  std::vector<Gig> gigs;
  std::optional<std::string> next_cursor;
  Omit<std::int64_t> total_count;
};
BOOST_DESCRIBE_STRUCT(GigList, (), (gigs, next_cursor, total_count))

/// A step of a gig's life, for whoever must do something about it in the same transaction.
struct Move {
  Uuid gig_id;
  Status from, to;
};

struct Deps {
  const Config& config;
  std::string blur_key;
  std::string cursor_key;
  /// How many gigs a page of a filtered search looks at before it stops short; some 5 µs each.
  std::int64_t walk = 50'000;
  /// What the rooms above make of a gig that was withdrawn, cancelled or completed, in the transaction that did it.
  std::function<Awaitable<void>(db::Executor&, Move)> on_moved = {};
};

void install(http::Router& router, Deps& deps);

/// Whether two people are the sides of a gig that is accepted, in progress or completed.
Awaitable<bool> share_a_gig(db::Executor& db, Uuid one, Uuid other);
/// How many gigs somebody completed with each of the others, whoever was the helper; in their order, 0 where none.
Awaitable<std::vector<std::int64_t>> completed_together(db::Executor& db, Uuid one, std::vector<Uuid> others);

/// A gig as it is now, for whoever tells others of it.
struct News {
  Gig open_view;  ///< as strangers see it
  Gig own_view;   ///< as its two sides see it
  std::vector<std::string> terms;
  bool expired = false;  ///< its time is over, whether or not the clock has cancelled it yet
};

/// Those of `ids` that exist, in no order.
Awaitable<std::vector<News>> read_news(db::Executor& db, std::vector<Uuid> ids);

// For the jobs.

/// Folds changed cells into the map's counts, unless another server is at it.
Awaitable<void> fold_cells(db::Client& database);

/// The timer `gig.expire`: cancels the gig if it is still pending and past its time, in the timer's transaction.
Awaitable<void> expire(db::Executor& db, Uuid gig_id);

}  // namespace hourz::gigs
