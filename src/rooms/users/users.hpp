// Users: who somebody is, where they are, whether they can be asked to help.
//
// Owns the tables `users` and `blocks`. Promises that a stranger sees only PublicUser and never a true location, an
// email or, outside an accepted gig, contact details. Passwords and sessions are the auth room's; it comes here for the
// row.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config.hpp"
#include "http/personal.hpp"
#include "http/router.hpp"

namespace hourz::users {

using db::Awaitable;

struct ContactInfo {
  static constexpr bool is_answer = true;
  std::optional<std::string> phone_number;
  std::optional<std::string> line_id;
  std::optional<std::string> other;
};
BOOST_DESCRIBE_STRUCT(ContactInfo, (), (phone_number, line_id, other))

/// As its owner sees it.
struct User {
  static constexpr bool is_answer = true;
  Uuid id;
  std::string email;
  bool email_verified = false;
  std::optional<std::string> name;
  std::optional<std::string> photo_url;
  std::optional<std::string> bio;
  ContactInfo contact_info;
  bool is_available = false;
  bool is_verified = false;
  bool is_profile_setup = false;
  double reputation_score = 5;
  std::int32_t total_reviews = 0;
  std::int32_t completed_gigs = 0;
  bool has_location = false;
  std::optional<double> latitude;
  std::optional<double> longitude;
  std::optional<std::string> address_text;
  std::optional<std::string> district;
  std::optional<std::string> province;
  http::Role role = http::Role::USER;
  Timestamp created_at;
  Timestamp updated_at;
};
BOOST_DESCRIBE_STRUCT(User, (),
                      (id, email, email_verified, name, photo_url, bio, contact_info, is_available, is_verified,
                       is_profile_setup, reputation_score, total_reviews, completed_gigs, has_location, latitude,
                       longitude, address_text, district, province, role, created_at, updated_at))

/// As others see it.
struct PublicUser {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"contact_info", "only for the other side of a gig of yours that is accepted, in progress or completed"},
      Note{"distance_km", "in searches: to the public point of the helper, which is off by some metres on purpose"}};
  Uuid id;
  std::optional<std::string> name;
  std::optional<std::string> photo_url;
  std::optional<std::string> bio;
  bool is_available = false;
  bool is_verified = false;
  double reputation_score = 5;
  std::int32_t total_reviews = 0;
  std::int32_t completed_gigs = 0;
  std::optional<std::string> district;
  std::optional<std::string> province;
  Timestamp created_at;
  Omit<ContactInfo> contact_info;
  Omit<double> distance_km;
};
BOOST_DESCRIBE_STRUCT(PublicUser, (),
                      (id, name, photo_url, bio, is_available, is_verified, reputation_score, total_reviews,
                       completed_gigs, district, province, created_at, contact_info, distance_km))

/// The little that a gig, a message or a review shows of somebody.
struct UserCard {
  static constexpr bool is_answer = true;
  Uuid id;
  std::optional<std::string> name;
  std::optional<std::string> photo_url;
  double reputation_score = 5;
  std::int32_t total_reviews = 0;
};
BOOST_DESCRIBE_STRUCT(UserCard, (), (id, name, photo_url, reputation_score, total_reviews))

struct ContactChange {
  Change<std::optional<Phone>> phone_number;
  Change<std::optional<Line<1, 64>>> line_id;
  Change<std::optional<Text<1, 200>>> other;
};
BOOST_DESCRIBE_STRUCT(ContactChange, (), (phone_number, line_id, other))

struct ProfileChange {
  Change<Line<1, 80>> name;
  Change<std::optional<Text<1, 1000>>> bio;
  Change<ContactChange> contact_info;
};
BOOST_DESCRIBE_STRUCT(ProfileChange, (), (name, bio, contact_info))

/// What all reviews of somebody come to.
struct Ratings {
  std::int64_t sum = 0;
  std::int64_t count = 0;
};

// The score is a Bayesian average (the "weighted rating" of film charts): (m C + sum of ratings) / (m + their count),
// with the prior mean C and its weight m in reviews; see https://en.wikipedia.org/wiki/Bayesian_average. It begins at
// 5.0, so that newcomers are not held down, and five reviews weigh as much as that beginning: one bad word costs at
// most two thirds of a point, ten of them bring 2.33.
inline constexpr std::int64_t prior_score = 5;
inline constexpr std::int64_t prior_weight = 5;

/// 0..5, 5.0 with no reviews. Made from whole numbers by one division, as users.adjust_ratings does it.
constexpr double score_of(const Ratings& ratings) {
  return static_cast<double>(prior_weight * prior_score + ratings.sum) /
         static_cast<double>(prior_weight + ratings.count);
}

struct Deps {
  const Config& config;
  std::string blur_key;
  std::string cursor_key;
  /// Whether two people are the two sides of a gig that lets them see each other's contact details (the gigs room's).
  std::function<Awaitable<bool>(db::Executor&, Uuid, Uuid)> share_a_gig;
  /// Counts all reviews of somebody anew (the reviews room's).
  std::function<Awaitable<Ratings>(db::Executor&, Uuid)> count_ratings;
};

void install(http::Router& router, Deps& deps);

struct NewUser {
  Uuid id;
  std::string email;
  std::string password_hash;
  std::optional<std::string> name;
};
BOOST_DESCRIBE_STRUCT(NewUser, (), (id, email, password_hash, name))

/// Violates users_email_key when the email is taken.
Awaitable<User> create(db::Executor& db, NewUser user);
/// Throws not_found.
Awaitable<User> own(db::Executor& db, Uuid id);
/// With `setup`, marks the profile as set up; nothing when it was so already.
Awaitable<std::optional<User>> change_profile(db::Executor& db, Uuid id, const ProfileChange& change, bool setup);
/// What others see of somebody beside the name. Nothing when there is nobody.
Awaitable<void> set_photo(db::Executor& db, Uuid id, std::string url);
/// The true fixed location, for the caller's own searches.
Awaitable<std::optional<Point>> location_of(db::Executor& db, Uuid id);
struct BlockedPair {
  Uuid user_id, other_id;
};
BOOST_DESCRIBE_STRUCT(BlockedPair, (), (user_id, other_id))

/// Every block that some of `users` are part of, whoever made it, seen from them.
Awaitable<std::vector<BlockedPair>> blocks_of(db::Executor& db, std::vector<Uuid> users);
/// Those of `others` who blocked the user or whom the user blocked, each once, in no order.
Awaitable<std::vector<Uuid>> blocked_among(db::Executor& db, Uuid user, std::vector<Uuid> others);
Awaitable<void> count_completed_gig(db::Executor& db, Uuid helper);

struct Reputation {
  double reputation_score;
  std::int32_t total_reviews;
};
BOOST_DESCRIBE_STRUCT(Reputation, (), (reputation_score, total_reviews))

/// Adds to the sums of somebody's reviews (or takes off), in the transaction that writes the review and after it; the
/// row stays locked until its end, so that many at once take turns. What the score is then.
Awaitable<Reputation> adjust_ratings(db::Executor& db, Uuid id, Ratings change);
/// Holds up to `page` people after `after`, in the order of ids, so that no review of theirs is written meanwhile.
Awaitable<std::vector<Uuid>> hold_some(db::Executor& db, Uuid after, std::int64_t page);
/// Sums counted from the reviews, of people who are held; how many rows were not so already. An override stays.
Awaitable<std::int64_t> set_ratings(db::Executor& db, const std::vector<Uuid>& people,
                                    const std::vector<Ratings>& ratings);

/// Whatever blocks there are, as strangers see them; nobody who is suspended.
Awaitable<std::optional<PublicUser>> find(db::Executor& db, Uuid id);

// --- accounts as a whole (accounts.cpp) ------------------------------------------------------------------------------

/// As administrators see it.
struct Account {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"email", "of who deleted their account: one that nothing reaches"}};
  Uuid id;
  std::string email;
  std::optional<std::string> name;
  http::Role role = http::Role::USER;
  std::optional<Timestamp> suspended_at, deleted_at;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(Account, (), (id, email, name, role, suspended_at, deleted_at, created_at))

Awaitable<std::optional<Account>> account(db::Executor& db, Uuid id);
/// Holds a row until the transaction ends, so that nothing new comes to refer to this person meanwhile: what others are
/// about to write waits, and finds what became of the account. False when there is none, or it was deleted.
Awaitable<bool> hold_account(db::Executor& db, Uuid id);
/// When `leaving` is an administrator, holds all of them. Throws last_admin when nobody else would be left; forbidden
/// when `acting` is none any more. Nobody acts where it is done on the command line.
Awaitable<void> hold_admins(db::Executor& db, std::optional<Uuid> acting, Uuid leaving);
/// For the command line: makes somebody an administrator or takes it back, with the act in the audit log. False when it
/// was so already, nothing when nobody has the email; throws last_admin.
Awaitable<std::optional<bool>> set_role(db::Executor& db, std::string email, http::Role role);
/// With the act in the audit log. False when it was so already.
Awaitable<bool> suspend(db::Executor& db, Uuid id, Uuid admin, std::string reason);
Awaitable<bool> restore(db::Executor& db, Uuid id, Uuid admin, std::optional<std::string> reason);

void add_personal_data(http::PersonalData& data);

struct Credentials {
  Uuid id;
  std::string password_hash;
  bool is_profile_setup;
  bool suspended;
};
BOOST_DESCRIBE_STRUCT(Credentials, (), (id, password_hash, is_profile_setup, suspended))

Awaitable<std::optional<Credentials>> credentials(db::Executor& db, std::string email);
Awaitable<std::string> password_hash(db::Executor& db, Uuid id);
/// False when `verified` is no longer the stored hash.
Awaitable<bool> set_password(db::Executor& db, Uuid id, std::string verified, std::string password_hash);
/// Whatever the password was; the email counts as verified.
Awaitable<void> reset_password(db::Executor& db, Uuid id, std::string password_hash);
Awaitable<void> verify_email(db::Executor& db, Uuid id);

}  // namespace hourz::users
