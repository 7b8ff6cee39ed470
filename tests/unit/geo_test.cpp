// Blur, cells, circles around boxes, and the settling of nearest pages.
#include "core/geo.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "core/nearest.hpp"
#include "core/text.hpp"
#include "rooms/gigs/area.hpp"
#include "rooms/gigs/lifecycle.hpp"

namespace hourz {
namespace {

using gigs::sphere_distance_m;

const std::vector<Point> places{
    {0, 0},           {13.7563, 100.5018}, {90, 0}, {-90, 0},    {89.9999, 45},    {-89.9999, 7}, {0, 180}, {0, -180},
    {51.5, 179.9999}, {-51.5, -179.9999},  {60, 0}, {85.06, 12}, {0.0001, -0.0001}};

TEST(Blur, IsNoFartherOffThanItSays) {
  for (const Point& place : places) {
    for (int i = 0; i < 200; ++i) {
      const Point shown = blurred("key", make_uuid(), place, 200);
      ASSERT_LE(sphere_distance_m(place, shown), 1.93 * 200) << place.latitude << " " << place.longitude;
      ASSERT_TRUE(shown.latitude >= -90 && shown.latitude <= 90 && shown.longitude >= -180 && shown.longitude <= 180);
    }
  }
}

TEST(Blur, IsConstantForAnOwnerAndASquareAndTellsNothingAcrossOwners) {
  const Uuid one = make_uuid(), two = make_uuid();
  const Point place{13.7563, 100.5018};
  EXPECT_EQ(blurred("key", one, place, 200), blurred("key", one, place, 200));
  EXPECT_NE(blurred("key", one, place, 200), blurred("key", two, place, 200));
  EXPECT_NE(blurred("key", one, place, 200), blurred("other key", one, place, 200));
  EXPECT_EQ(blurred("key", one, place, 0), place);
}

TEST(Blur, CannotBeAveragedAway) {
  // A phone measures the same home anew a hundred times, 15 m off: one square gives one point, and a home at its edge
  // two, at its corner four.
  std::mt19937 random(7);
  std::normal_distribution<double> noise(0, 15 / 111'320.0);
  std::uniform_real_distribution<double> latitude(-60, 60), longitude(-180, 180);
  int close = 0;
  for (int home = 0; home < 400; ++home) {
    Uuid owner;
    for (auto& byte : owner.bytes) byte = static_cast<std::uint8_t>(random());
    const Point place{latitude(random), longitude(random)};
    std::set<std::pair<double, double>> shown;
    double north = 0, east = 0;
    for (int i = 0; i < 100; ++i) {
      const Point point = blurred("key", owner, {place.latitude + noise(random), place.longitude + noise(random)}, 200);
      shown.emplace(point.latitude, point.longitude);
      north += point.latitude / 100;
      east += point.longitude / 100;
    }
    ASSERT_LE(shown.size(), 4U);
    if (sphere_distance_m(place, {north, east}) < 100) ++close;
  }
  // The best guess is right by chance alone: a circle of 100 m out of a square of 400 m is a fifth.
  EXPECT_LT(close, 400 * 0.3);
}

TEST(Blur, GoesInEveryDirection) {
  std::set<int> quarters;
  const Point middle{1000 / 111'194.9, 1000 / 111'194.9};  // of the first square north-east of nowhere
  double north = 0, east = 0;
  for (int i = 0; i < 2000; ++i) {
    const Point shown = blurred("key", make_uuid(), middle, 1000);
    quarters.insert((shown.latitude > middle.latitude ? 1 : 0) + (shown.longitude > middle.longitude ? 2 : 0));
    north += shown.latitude - middle.latitude;
    east += shown.longitude - middle.longitude;
  }
  EXPECT_EQ(quarters.size(), 4U);
  EXPECT_LT(std::fabs(north / 2000), 0.0003);  // 0.0045 degrees each way: a mean of some 0.00005
  EXPECT_LT(std::fabs(east / 2000), 0.0003);
}

TEST(Cells, FollowTheWebMap) {
  EXPECT_EQ(cell_of({0, 0}, 1), (Cell{1, 1}));
  EXPECT_EQ(cell_of({1, -1}, 1), (Cell{0, 0}));
  EXPECT_EQ(cell_of({13.7563, 100.5018}, 10), (Cell{797, 472}));  // the tile that holds Bangkok
  EXPECT_EQ(cell_of({90, 180}, 20), (Cell{1048575, 0}));
  EXPECT_EQ(cell_of({-90, -180}, 20), (Cell{0, 1048575}));
  EXPECT_EQ(cell_of({12, 34}, 0), (Cell{0, 0}));
  // A coarser cell is the finer one shifted: what the database counts on.
  std::mt19937 random(1);
  std::uniform_real_distribution<double> latitude(-90, 90), longitude(-180, 180);
  for (int i = 0; i < 20'000; ++i) {
    const Point point{latitude(random), longitude(random)};
    const Cell fine = cell_of(point);
    for (int level = 0; level <= finest_cell_level; level += 2) {
      ASSERT_EQ(cell_of(point, level), (Cell{fine.x >> (20 - level), fine.y >> (20 - level)}));
    }
  }
}

TEST(Distances, OnTheSphereAreWhatTheyShouldBe) {
  EXPECT_NEAR(sphere_distance_m({0, 0}, {0, 1}), 111'195, 1);
  EXPECT_NEAR(sphere_distance_m({0, 179.5}, {0, -179.5}), 111'195, 1);
  EXPECT_NEAR(sphere_distance_m({89, 0}, {89, 180}), 2 * 111'195, 2);
  EXPECT_NEAR(sphere_distance_m({90, 0}, {90, 123}), 0, 1e-6);
  EXPECT_NEAR(sphere_distance_m({0, 0}, {0, 180}), 20'015'115, 100);
  EXPECT_EQ(sphere_distance_m({5, 5}, {5, 5}), 0);
}

TEST(Boxes, TheCircleAroundHoldsTheWholeBox) {
  std::mt19937 random(2);
  std::uniform_real_distribution<double> latitude(-90, 90), longitude(-180, 180), part(0, 1);
  for (int i = 0; i < 3000; ++i) {
    double south = latitude(random), north = latitude(random);
    if (south > north) std::swap(south, north);
    gigs::Box box{south, longitude(random), north, longitude(random)};
    if (i % 3 == 0)
      box.max_latitude = std::min(90.0, south + 0.01), box.max_longitude = std::min(180.0, box.min_longitude + 0.01);
    const gigs::Circle circle = circle_around(box);
    double width = box.max_longitude - box.min_longitude;
    if (width < 0) width += 360;
    for (int j = 0; j < 50; ++j) {
      const Point inside{box.min_latitude + (box.max_latitude - box.min_latitude) * part(random),
                         std::remainder(box.min_longitude + width * part(random), 360.0)};
      ASSERT_LE(sphere_distance_m(circle.middle, inside), circle.radius_m)
          << box.min_latitude << " " << box.min_longitude << " " << box.max_latitude << " " << box.max_longitude;
    }
  }
}

// --- nearest ---------------------------------------------------------------------------------------------------------

struct Candidate {
  double sphere_m = 0;
  double distance_m = 0;
  Uuid id;
};

TEST(Nearest, SettledMeansNothingNearerWasLeftBehind) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> far(1, 10'000), stretch(0.9945, 1.0045);
  int unsettled = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<Candidate> world(200);
    for (Candidate& one : world) {
      one.sphere_m = round % 4 == 0 ? std::round(far(random) / 2500) * 2500 + 1 : far(random);
      // The same place has the same two distances.
      one.distance_m = round % 4 == 0 ? one.sphere_m * 0.999 : one.sphere_m * stretch(random);
      one.id = make_uuid();
    }
    std::vector<Candidate> truth = world;
    std::sort(truth.begin(), truth.end(), [](const auto& a, const auto& b) {
      return a.distance_m != b.distance_m ? a.distance_m < b.distance_m : a.id < b.id;
    });
    std::sort(world.begin(), world.end(), [](const auto& a, const auto& b) {
      return a.sphere_m != b.sphere_m ? a.sphere_m < b.sphere_m : a.id < b.id;
    });
    const double radius_m = round % 3 == 0 ? 20'000 : far(random);
    truth.erase(std::ranges::find_if(truth, [=](const auto& one) { return one.distance_m > radius_m; }), truth.end());
    const std::int64_t wanted = 1 + round % 30;
    std::int64_t asked = first_candidates(wanted);
    while (true) {
      std::vector<Candidate> rows(world.begin(), world.begin() + std::min<std::ptrdiff_t>(asked, 200));
      if (settle_nearest(rows, asked, wanted, radius_m)) {
        const auto whole = std::min(truth.size(), static_cast<std::size_t>(wanted));
        ASSERT_GE(rows.size(), whole) << round;
        for (std::size_t i = 0; i < whole; ++i) ASSERT_EQ(rows[i].id, truth[i].id) << round;
        for (const Candidate& row : rows) ASSERT_LE(row.distance_m, radius_m);
        break;
      }
      ++unsettled;
      asked *= 4;
    }
  }
  EXPECT_GT(unsettled, 0);
}

TEST(Nearest, ThePlaneSettlesAsTheSphereDoes) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> part(0, 1);
  const auto plane_y = [](double latitude) {
    return std::asinh(std::tan(std::clamp(latitude, -85.05, 85.05) * std::numbers::pi / 180)) * 180 / std::numbers::pi;
  };
  int served = 0, unsettled = 0;
  for (int round = 0; round < 3000; ++round) {
    const Point from{140 * part(random) - 70, 360 * part(random) - 180};
    const double radius_m = 100 * std::pow(1000, part(random));  // 100 m to 100 km
    if (!PlaneOrder::serves(from, radius_m)) continue;
    ++served;
    // As far as three times the radius, or anywhere on the earth.
    const double spread = radius_m * 3 / 111'195, upward = spread / std::cos(from.latitude * std::numbers::pi / 180);
    std::vector<std::pair<double, Candidate>> world(200);
    for (auto& [plane, one] : world) {
      Point point{from.latitude + spread * (2 * part(random) - 1), from.longitude + upward * (2 * part(random) - 1)};
      if (round % 5 == 0 && part(random) < 0.5) point = {180 * part(random) - 90, 360 * part(random) - 180};
      point.longitude = std::remainder(point.longitude, 360.0);
      plane = std::hypot(point.longitude - from.longitude, plane_y(point.latitude) - plane_y(from.latitude));
      one.distance_m = gigs::sphere_distance_m(from, point) * (0.9945 + 0.01 * part(random));
      one.id = make_uuid();
    }
    std::ranges::sort(world, {}, &std::pair<double, Candidate>::first);
    std::vector<Candidate> truth;
    for (const auto& [plane, one] : world) {
      if (one.distance_m <= radius_m) truth.push_back(one);
    }
    std::ranges::sort(truth, {}, &Candidate::distance_m);
    const std::int64_t wanted = 1 + round % 30;
    for (std::int64_t asked = first_candidates(wanted);; asked *= 4) {
      std::vector<Candidate> rows;
      for (const auto& [plane, one] : world) {
        if (static_cast<std::int64_t>(rows.size()) < asked) rows.push_back(one);
      }
      if (!settle_nearest(rows, asked, wanted, radius_m, PlaneOrder{from.latitude, radius_m})) {
        ++unsettled;
        continue;
      }
      const auto whole = std::min(truth.size(), static_cast<std::size_t>(wanted));
      ASSERT_GE(rows.size(), whole) << round;
      for (std::size_t i = 0; i < whole; ++i) ASSERT_EQ(rows[i].id, truth[i].id) << round;
      break;
    }
  }
  EXPECT_GT(served, 1500);
  EXPECT_GT(unsettled, 0);
  EXPECT_FALSE(PlaneOrder::serves({69.5, 20}, 100'000));
  EXPECT_FALSE(PlaneOrder::serves({0, 179.5}, 1000));
  EXPECT_FALSE(PlaneOrder::serves({60, -177.5}, 100'000));
  EXPECT_TRUE(PlaneOrder::serves({13.75, 100.5}, 100'000));
}

TEST(Nearest, FewAreSettledAtOnce) {
  std::vector<Candidate> none;
  EXPECT_TRUE(settle_nearest(none, 10, 5, 100));
  std::vector<Candidate> two{{2, 2, make_uuid()}, {3, 1, make_uuid()}};
  EXPECT_TRUE(settle_nearest(two, 10, 5, 100));
  EXPECT_EQ(two[0].distance_m, 1);
  EXPECT_TRUE(settle_nearest(two, 10, 5, 1.5));
  EXPECT_EQ(two.size(), 1U);
  // Far away: nobody who was not fetched can be within the radius.
  std::vector<Candidate> away{{200, 200, make_uuid()}, {300, 301, make_uuid()}};
  EXPECT_TRUE(settle_nearest(away, 2, 5, 100));
  EXPECT_TRUE(away.empty());
}

// --- lifecycle -------------------------------------------------------------------------------------------------------

TEST(Lifecycle, IsTheContractsTable) {
  using gigs::Side;
  using gigs::Status;
  // Written out once more, from the contract: from, to, who; with a reason where one is needed.
  const std::set<std::string> expected{
      "PENDING ACCEPTED stranger",     "PENDING CANCELLED seeker",     "PENDING CANCELLED clock",
      "ACCEPTED PENDING helper",       "ACCEPTED IN_PROGRESS helper",  "ACCEPTED IN_PROGRESS seeker",
      "ACCEPTED CANCELLED seeker",     "IN_PROGRESS COMPLETED helper", "IN_PROGRESS COMPLETED seeker",
      "IN_PROGRESS CANCELLED seeker!", "IN_PROGRESS CANCELLED helper!"};
  const std::vector<std::pair<Status, std::string>> states{{Status::PENDING, "PENDING"},
                                                           {Status::ACCEPTED, "ACCEPTED"},
                                                           {Status::IN_PROGRESS, "IN_PROGRESS"},
                                                           {Status::COMPLETED, "COMPLETED"},
                                                           {Status::CANCELLED, "CANCELLED"}};
  const std::vector<std::pair<Side, std::string>> sides{
      {Side::seeker, "seeker"}, {Side::helper, "helper"}, {Side::stranger, "stranger"}, {Side::clock, "clock"}};
  std::set<std::string> found;
  for (const auto& [from, from_name] : states) {
    for (const auto& [who, who_name] : sides) {
      const auto allowed = gigs::allowed_from(from, who);
      for (const auto& [to, to_name] : states) {
        const auto transition = gigs::find_transition(from, to, who);
        EXPECT_EQ(transition.has_value(), std::find(allowed.begin(), allowed.end(), to) != allowed.end());
        if (transition) {
          found.insert(from_name + " " + to_name + " " + who_name + (transition->reason_needed ? "!" : ""));
        }
      }
    }
  }
  EXPECT_EQ(found, expected);
  EXPECT_EQ(gigs::transitions.size(), expected.size());
}

}  // namespace
}  // namespace hourz
