// Rows that the files of this room share. Nobody else includes this.
#pragma once
#include "rooms/gigs/gigs.hpp"

namespace hourz::gigs {

struct CardRow {
  Uuid id;
  std::string title, description;
  std::optional<std::string> category;
  double duration_hours;
  Money budget;
  std::string currency;
  double latitude, longitude;
  std::optional<std::string> address_text;
  std::vector<std::string> image_urls;
  Status status;
  std::optional<Timestamp> starts_at, expires_at;
  Timestamp created_at, updated_at;
  std::optional<Timestamp> accepted_at, started_at, completed_at, cancelled_at;
  std::optional<std::string> cancel_reason;
  std::int64_t version;
  Uuid seeker_id;
  std::optional<std::string> seeker_name, seeker_photo_url;
  double seeker_reputation_score;
  std::int32_t seeker_total_reviews;
  std::optional<Uuid> helper_id;
  std::optional<std::string> helper_name, helper_photo_url;
  std::optional<double> helper_reputation_score;
  std::optional<std::int32_t> helper_total_reviews;
};
BOOST_DESCRIBE_STRUCT(CardRow, (),
                      (id, title, description, category, duration_hours, budget, currency, latitude, longitude,
                       address_text, image_urls, status, starts_at, expires_at, created_at, updated_at, accepted_at,
                       started_at, completed_at, cancelled_at, cancel_reason, version, seeker_id, seeker_name,
                       seeker_photo_url, seeker_reputation_score, seeker_total_reviews, helper_id, helper_name,
                       helper_photo_url, helper_reputation_score, helper_total_reviews))

Gig to_gig(CardRow&& row);

/// The gig as the answer of a call, with its ETag.
inline Gig answer_with(http::Call& call, CardRow&& row) {
  call.version = row.version;
  return to_gig(std::move(row));
}

struct GigPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(GigPath, (), (id))

struct LockedRow {
  Uuid seeker_id;
  std::optional<Uuid> helper_id;
  Status status;
  std::int64_t version;
  bool expired;
};
BOOST_DESCRIBE_STRUCT(LockedRow, (), (seeker_id, helper_id, status, version, expired))

struct Viewed {
  Uuid id, viewer;
};
BOOST_DESCRIBE_STRUCT(Viewed, (), (id, viewer))

/// Holds the gig until the transaction ends. Throws not_found, also for a stranger whom a block keeps from the seeker.
Awaitable<LockedRow> lock(db::Executor& db, Uuid id, Uuid viewer);

inline boost::json::string name_of(Status status) { return boost::describe::enum_to_string(status, ""); }

template <class T>
std::optional<std::string> value_of(const std::optional<T>& text) {
  if (!text) return std::nullopt;
  return text->value;
}

void install_life(http::Router& router, Deps& deps);

void install_search(http::Router& router, Deps& deps);
void install_map(http::Router& router, Deps& deps);

}  // namespace hourz::gigs
