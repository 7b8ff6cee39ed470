// The people and gigs of the demonstration, as a pure function of a seed: the n-th of either is always the same, and
// any gig can be made again on its own, so that each table is a pass of its own over the gigs and none is held in
// memory. All randomness is made here from integers, since the distributions of the standard library differ between
// libraries. What it makes keeps the rules of the lifecycle: times in order and not after the base time, a version an
// event.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/geo.hpp"
#include "core/ids.hpp"
#include "core/time.hpp"
#include "demo/phrases.hpp"
#include "demo/places.hpp"

namespace hourz::demo {

/// A small seeded generator (splitmix64), the same everywhere.
class Random {
 public:
  /// Streams of one seed are independent; `index` is the thing's own number in its stream.
  Random(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
  std::uint64_t next();
  std::int64_t below(std::int64_t bound);                ///< 0..bound-1; 0 for a bound below 1
  std::int64_t between(std::int64_t a, std::int64_t b);  ///< a..b
  double unit();                                         ///< 0..1
  bool chance(int percent) { return below(100) < percent; }

 private:
  std::uint64_t state_;
};

struct Person {
  Uuid id;
  std::string email;
  std::string name;
  std::string_view bio;  ///< empty: none
  std::string phone_number;
  const Place* place = nullptr;
  bool has_location = false;
  bool is_available = false;
  Point home;
  Timestamp created_at;
};

enum class Status : std::uint8_t { pending, accepted, in_progress, completed, cancelled };
enum class Action : std::uint8_t { create, accept, withdraw, start, complete, cancel };
std::string_view word(Status status);
std::string_view word(Action action);

struct Event {
  Action action;
  Status from, to;
  std::int64_t actor = 0;  ///< index of a person
  Timestamp at;
};

struct Gig {
  static constexpr std::int64_t nobody = -1;

  Uuid id;
  std::int64_t seeker = 0;       ///< index of a person
  std::int64_t helper = nobody;  ///< whoever has it, or had it when it was cancelled
  const Kind* kind = nullptr;
  const Place* place = nullptr;
  std::int64_t wording = 0;  ///< which job, remark and language: 0..wordings-1
  std::int64_t text = 0;     ///< the same texts have the same number: 0..texts()-1
  std::int64_t street = 0;
  int half_hours = 0;
  std::int64_t budget_satang = 0;
  Point pin;
  Status status = Status::pending;
  Timestamp created_at;
  Timestamp starts_at, expires_at;  ///< 0: none
  std::string_view reason;          ///< of a cancelled one; empty: none
  std::array<Event, 6> events{};
  int event_count = 0;

  /// The time of the last such action, or 0.
  [[nodiscard]] Timestamp time_of(Action action) const;
};

/// Ways to word a kind of gig: each job with each remark, in two languages.
inline constexpr std::int64_t wordings = Kind::jobs_each * remarks_each * 2;

struct Wording {
  std::string title;
  std::string description;
};

class Population {
 public:
  /// At least 10 users; throws std::invalid_argument otherwise. Persons 0 and 1 are the seeker and the helper to log in
  /// with.
  Population(std::uint64_t seed, std::int64_t users, std::int64_t gigs, Timestamp base_time);

  [[nodiscard]] const std::vector<Person>& people() const { return people_; }
  [[nodiscard]] std::int64_t gig_count() const { return gigs_; }
  [[nodiscard]] Gig gig(std::int64_t index) const;

  /// How many different texts there are, and the wording of a gig.
  [[nodiscard]] static std::int64_t texts();
  [[nodiscard]] static Wording words_of(const Gig& gig);

 private:
  [[nodiscard]] const Place& any_place(Random& random) const;
  [[nodiscard]] std::int64_t other_helper(Random& random, City city, std::int64_t not_this) const;
  void live(Gig& gig, Random& random) const;

  std::uint64_t seed_;
  std::int64_t gigs_;
  Timestamp base_time_;
  std::vector<Person> people_;
  std::array<std::vector<std::int64_t>, city_count> residents_;
  std::array<std::vector<std::int64_t>, city_count> helpers_;
};

}  // namespace hourz::demo
