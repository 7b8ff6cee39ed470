// Structs that between them hold every kind of member that the walker knows.
#pragma once
#include "reflect/walk.hpp"

namespace hourz::fuzz {

enum class Colour { RED, DARK_BLUE };
BOOST_DESCRIBE_ENUM(Colour, RED, DARK_BLUE)

struct Inner {
  Latitude latitude;
  Longitude longitude;
  std::optional<Uuid> id;
};
BOOST_DESCRIBE_STRUCT(Inner, (), (latitude, longitude, id))

struct Everything {
  bool flag = false;
  Integer<-5, 1000> count;
  Real<500, 24'000, 500> hours;
  Real<-1'000'000'000, 1'000'000'000> number;
  Text<1, 40> title;
  std::string free;
  Money budget;
  Email email;
  std::optional<Phone> phone;
  std::optional<Timestamp> when;
  Colour colour = Colour::RED;
  Inner place;
  List<Inner, 3> places;
  List<Text<0, 8>, 4> words;
  WithDefault<Integer<1, 100>, 20> limit;

  static void check(const Everything& all, std::vector<Fault>& faults) {
    if (all.count.value > 900 && !all.flag) faults.push_back({"count", "out_of_range", "is over 900 without a flag"});
  }
};
BOOST_DESCRIBE_STRUCT(Everything, (),
                      (flag, count, hours, number, title, free, budget, email, phone, when, colour, place, places,
                       words, limit))

/// A partial body: absent, null and given are three things.
struct Partial {
  Change<Text<1, 10>> name;
  Change<std::optional<Money>> budget;
  Change<std::optional<Inner>> place;
};
BOOST_DESCRIBE_STRUCT(Partial, (), (name, budget, place))

struct Search {
  std::optional<Latitude> latitude;
  std::optional<Longitude> longitude;
  WithDefault<Real<100, 100'000>, 10'000> radius_km;
  std::optional<Text<1, 100>> q;
  std::optional<Colour> colour;
  std::optional<Money> min_budget;
  std::optional<Timestamp> starts_after;
  std::optional<Uuid> id;
  WithDefault<bool, 0> include_total;
  WithDefault<Integer<1, 100>, 20> limit;
};
BOOST_DESCRIBE_STRUCT(Search, (),
                      (latitude, longitude, radius_km, q, colour, min_budget, starts_after, id, include_total, limit))

}  // namespace hourz::fuzz
