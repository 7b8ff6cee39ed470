// Searching gigs: true distances held against a model of our own, edges of the map, filters, words, orders, and pages
// that neither repeat nor skip while others write.
#include <cmath>
#include <map>
#include <numbers>
#include <random>
#include <set>

#include "harness/harness.hpp"
#include "rooms/gigs/area.hpp"

namespace hourz::harness {
namespace {

using http::Method;

/// Metres on the WGS 84 ellipsoid by Vincenty's inverse formula (Survey Review XXIII, 1975): a model that shares
/// nothing with PostGIS. Nearly antipodal points, where it does not converge, are not asked.
double vincenty_m(Point one, Point two) {
  constexpr double a = 6378137, f = 1 / 298.257223563, b = a * (1 - f), rad = std::numbers::pi / 180;
  if (one == two) return 0;
  const double l = std::remainder(two.longitude - one.longitude, 360.0) * rad;
  const double u1 = std::atan((1 - f) * std::tan(one.latitude * rad)),
               u2 = std::atan((1 - f) * std::tan(two.latitude * rad));
  double lambda = l, sin_sigma = 0, cos_sigma = 0, sigma = 0, cos2_alpha = 0, cos_2m = 0;
  for (int i = 0; i < 200; ++i) {
    const double x = std::cos(u2) * std::sin(lambda);
    const double y = std::cos(u1) * std::sin(u2) - std::sin(u1) * std::cos(u2) * std::cos(lambda);
    sin_sigma = std::hypot(x, y);
    if (sin_sigma == 0) return 0;
    cos_sigma = std::sin(u1) * std::sin(u2) + std::cos(u1) * std::cos(u2) * std::cos(lambda);
    sigma = std::atan2(sin_sigma, cos_sigma);
    const double sin_alpha = std::cos(u1) * std::cos(u2) * std::sin(lambda) / sin_sigma;
    cos2_alpha = 1 - sin_alpha * sin_alpha;
    cos_2m = cos2_alpha == 0 ? 0 : cos_sigma - 2 * std::sin(u1) * std::sin(u2) / cos2_alpha;
    const double c = f / 16 * cos2_alpha * (4 + f * (4 - 3 * cos2_alpha));
    const double before = lambda;
    lambda =
        l + (1 - c) * f * sin_alpha * (sigma + c * sin_sigma * (cos_2m + c * cos_sigma * (2 * cos_2m * cos_2m - 1)));
    if (std::fabs(lambda - before) < 1e-12) break;
  }
  const double u = cos2_alpha * (a * a - b * b) / (b * b);
  const double big_a = 1 + u / 16384 * (4096 + u * (-768 + u * (320 - 175 * u)));
  const double big_b = u / 1024 * (256 + u * (-128 + u * (74 - 47 * u)));
  const double delta =
      big_b * sin_sigma *
      (cos_2m + big_b / 4 *
                    (cos_sigma * (2 * cos_2m * cos_2m - 1) -
                     big_b / 6 * cos_2m * (4 * sin_sigma * sin_sigma - 3) * (4 * cos_2m * cos_2m - 3)));
  return b * big_a * (sigma - delta);
}

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}
std::string at(Point point) { return "latitude=" + number(point.latitude) + "&longitude=" + number(point.longitude); }

class Search : public WorldTest {
 protected:
  static void SetUpTestSuite() {
    // Without blur: what is found is held against true points.
    world_ = std::make_unique<World>([](Config& config) { config.location_blur_m = 0; });
    seeker() = world().person("Seeker");
    viewer() = world().person("Viewer");
  }
  static Person& seeker() {
    static Person one;
    return one;
  }
  static Person& viewer() {
    static Person one;
    return one;
  }
  void SetUp() override {
    world().clear_gigs();
    world().sql("UPDATE users SET fixed_location = NULL, public_location = NULL, is_available = false");
  }
  static std::string gig_at(Point point, json::object change = {}) {
    change["latitude"] = point.latitude;
    change["longitude"] = point.longitude;
    return world().post_gig(seeker(), change);
  }
  static Answer search(const std::string& query) { return world().get("/api/gigs?" + query, viewer().token); }
  static std::vector<std::string> ids(const Answer& answer) {
    std::vector<std::string> all;
    EXPECT_EQ(answer.status, 200) << answer.text;
    if (answer.status != 200) return all;
    for (const auto& gig : answer.at("/gigs").as_array()) all.emplace_back(gig.at("id").as_string());
    return all;
  }
  static std::set<std::string> found(const std::string& query) {
    const auto all = ids(search(query + "&limit=100"));
    return {all.begin(), all.end()};
  }
  /// Every page; `between` runs after each.
  static std::vector<std::string> paged(const std::string& query, int limit,
                                        const std::function<void()>& between = {}) {
    std::vector<std::string> all;
    std::string cursor;
    for (int pages = 0; pages < 10'000; ++pages) {
      const Answer page =
          search(query + "&limit=" + std::to_string(limit) + (cursor.empty() ? "" : "&cursor=" + cursor));
      for (std::string& id : ids(page)) all.push_back(std::move(id));
      if (page.status != 200 || page.at("/next_cursor").is_null()) return all;
      EXPECT_EQ(page.at("/gigs").as_array().size(), static_cast<std::size_t>(limit));
      cursor = page.string_at("/next_cursor");
      if (between) between();
    }
    ADD_FAILURE() << "no last page";
    return all;
  }
};

/// G03.
TEST_F(Search, DistancesAgreeWithAnIndependentModel) {
  std::mt19937 random(21);
  for (const Point from : {Point{13.7563, 100.5018}, Point{0, 0}, Point{64.1, -21.9}, Point{-54.8, -68.3},
                           Point{0.2, 179.9}, Point{89.7, 30}, Point{-89.9, -100}}) {
    world().clear_gigs();
    std::map<std::string, Point> points;
    // Spread evenly over a disk of some 60 km, poles and antimeridian included.
    std::uniform_real_distribution<double> part(0, 1);
    for (int i = 0; i < 120; ++i) {
      const double arc = 0.0095 * std::sqrt(part(random)), bearing = 2 * std::numbers::pi * part(random),
                   rad = std::numbers::pi / 180;
      const double sine = std::sin(from.latitude * rad) * std::cos(arc) +
                          std::cos(from.latitude * rad) * std::sin(arc) * std::cos(bearing);
      const double turn = std::atan2(std::sin(bearing) * std::sin(arc) * std::cos(from.latitude * rad),
                                     std::cos(arc) - std::sin(from.latitude * rad) * sine);
      const Point point{std::asin(sine) / rad, std::remainder(from.longitude + turn / rad, 360.0)};
      points[gig_at(point)] = point;
    }
    for (const double radius_km : {5.0, 25.0, 100.0}) {
      const std::string query = at(from) + "&radius_km=" + number(radius_km);
      std::set<std::string> expected;
      for (const auto& [id, point] : points) {
        const double metres = vincenty_m(from, point);
        if (metres < radius_km * 1000 - 1) expected.insert(id);
      }
      const auto seen = paged(query, 17);
      std::set<std::string> all(seen.begin(), seen.end());
      EXPECT_EQ(all.size(), seen.size());
      for (const std::string& id : expected) EXPECT_TRUE(all.contains(id)) << number(vincenty_m(from, points[id]));
      for (const std::string& id : all) EXPECT_LE(vincenty_m(from, points[id]), radius_km * 1000 + 1);
      double last = -1;
      for (const Answer page = search(query + "&limit=100"); const auto& gig : page.at("/gigs").as_array()) {
        const double metres = gig.at("distance_km").to_number<double>() * 1000;
        EXPECT_GE(metres, last);
        last = metres;
        EXPECT_NEAR(metres, vincenty_m(from, points[std::string(gig.at("id").as_string())]), metres * 0.005 + 0.6);
      }
    }
  }
}

/// G03, G04.
TEST_F(Search, TheEdgesOfTheMapAreNoEdges) {
  const std::string antimeridian = gig_at({0, 179.999}), pole = gig_at({89.9999, 0}), south = gig_at({-90, 0});
  const std::string origin = gig_at({0, 0}), axis = gig_at({10, 60});
  EXPECT_TRUE(found("latitude=0&longitude=-179.999&radius_km=1").contains(antimeridian));
  EXPECT_TRUE(found("latitude=89.9999&longitude=180&radius_km=1").contains(pole));
  EXPECT_TRUE(found("latitude=90&longitude=-77&radius_km=1").contains(pole));
  EXPECT_TRUE(found("latitude=-89.9999&longitude=123&radius_km=0.1").contains(south));
  EXPECT_TRUE(found("latitude=0&longitude=0&radius_km=0.1").contains(origin));
  EXPECT_TRUE(found("latitude=-0&longitude=0").contains(origin));
  EXPECT_TRUE(found("latitude=10&longitude=60").contains(axis));
  EXPECT_FALSE(found("latitude=60&longitude=10").contains(axis));
  EXPECT_TRUE(found("latitude=0&longitude=-180&radius_km=1").contains(antimeridian));
  const auto box = [](const char* south_edge, const char* west, const char* north, const char* east) {
    return found(std::string("min_latitude=") + south_edge + "&min_longitude=" + west + "&max_latitude=" + north +
                 "&max_longitude=" + east);
  };
  EXPECT_TRUE(box("-1", "179", "1", "-179").contains(antimeridian));
  EXPECT_FALSE(box("-1", "-179", "1", "179").contains(antimeridian));
  EXPECT_TRUE(box("-1", "-179", "1", "179").contains(origin));
  EXPECT_TRUE(box("-1", "179.999", "1", "180").contains(antimeridian));
  EXPECT_EQ(box("-90", "-180", "90", "180").size(), 5U);
  EXPECT_TRUE(box("89", "-180", "90", "180").contains(pole));
  EXPECT_TRUE(box("0", "0", "0", "0").contains(origin));
  EXPECT_EQ(box("9.9", "59.9", "10.1", "60.1"), std::set<std::string>{axis});
}

TEST_F(Search, BoxesHoldWhatTheyShould) {
  std::mt19937 random(31);
  std::uniform_real_distribution<double> latitude(-88, 88), longitude(-180, 180);
  std::map<std::string, Point> points;
  for (int i = 0; i < 90; ++i) {
    const Point point{latitude(random), longitude(random)};
    points[gig_at(point)] = point;
  }
  for (int i = 0; i < 60; ++i) {
    double south = latitude(random), north = latitude(random);
    if (south > north) std::swap(south, north);
    const double west = longitude(random), east = longitude(random);
    std::set<std::string> expected;
    for (const auto& [id, p] : points) {
      const bool between =
          west <= east ? p.longitude >= west && p.longitude <= east : p.longitude >= west || p.longitude <= east;
      if (p.latitude >= south && p.latitude <= north && between) expected.insert(id);
    }
    const std::string query = "min_latitude=" + number(south) + "&max_latitude=" + number(north) +
                              "&min_longitude=" + number(west) + "&max_longitude=" + number(east);
    for (const char* sort : {"newest", "budget", "distance"})
      EXPECT_EQ(found(query + "&sort=" + sort), expected) << query << sort;
  }
}

TEST_F(Search, WithoutAPointTheCallersOwnPlaceOrTheNewest) {
  const std::string near = gig_at({20, 20}), far = gig_at({-20, 20});
  EXPECT_EQ(ids(search("")), (std::vector<std::string>{far, near}));
  EXPECT_FALSE(search("").at("/gigs/0").as_object().contains("distance_km"));
  EXPECT_EQ(search("sort=distance").faults(), std::vector<std::string>{"sort:needs_a_point"});
  ASSERT_EQ(world().put("/api/users/location", R"({"latitude":20.01,"longitude":20})", viewer().token).status, 200);
  EXPECT_EQ(ids(search("")), std::vector<std::string>{near});
  EXPECT_NEAR(search("").number_at("/gigs/0/distance_km"), 1.106, 0.01);
  EXPECT_EQ(ids(search("latitude=-20&longitude=20")), std::vector<std::string>{far});
}

TEST_F(Search, FiltersHold) {
  const Point here{1, 1};
  const std::string cheap = gig_at(
      here, {{"budget", 100}, {"duration_hours", 1}, {"category", "Cleaning"}, {"starts_at", "2099-01-01T00:00:00Z"}});
  const std::string dear = gig_at(
      here, {{"budget", 500.5}, {"duration_hours", 8}, {"category", "moving"}, {"starts_at", "2099-06-01T00:00:00Z"}});
  const std::string plain = gig_at(here, {{"budget", 300}});
  const auto one = [&](const std::string& filter) {
    std::set<std::string> by_point = found(at(here) + "&" + filter);
    // The same whatever way the search takes.
    EXPECT_EQ(by_point, found(at(here) + "&sort=newest&" + filter)) << filter;
    EXPECT_EQ(by_point, found(at(here) + "&sort=budget&" + filter)) << filter;
    EXPECT_EQ(by_point, found("min_latitude=0.9&max_latitude=1.1&min_longitude=0.9&max_longitude=1.1&" + filter))
        << filter;
    EXPECT_EQ(by_point, found("sort=newest&" + filter)) << filter;
    EXPECT_EQ(by_point, found("sort=budget&q=room&" + filter)) << filter;
    return by_point;
  };
  using Ids = std::set<std::string>;
  EXPECT_EQ(one("min_budget=100"), (Ids{cheap, dear, plain}));
  EXPECT_EQ(one("min_budget=100.01"), (Ids{dear, plain}));
  EXPECT_EQ(one("max_budget=300"), (Ids{cheap, plain}));
  EXPECT_EQ(one("min_budget=300&max_budget=300"), (Ids{plain}));
  EXPECT_EQ(one("max_duration=1"), (Ids{cheap}));
  EXPECT_EQ(one("max_duration=7.9"), (Ids{cheap, plain}));
  EXPECT_EQ(one("category=CLEANING"), (Ids{cheap}));
  EXPECT_EQ(one("category=clean"), Ids{});
  EXPECT_EQ(one("category=%25"), Ids{});
  EXPECT_EQ(one("starts_after=2099-01-01T00:00:00Z"), (Ids{cheap, dear}));
  EXPECT_EQ(one("starts_before=2099-01-01T07:00:00%2B07:00"), (Ids{cheap}));
  EXPECT_EQ(one("starts_after=2099-02-01T00:00:00Z&starts_before=2099-07-01T00:00:00Z"), (Ids{dear}));
  EXPECT_EQ(one("status=PENDING"), (Ids{cheap, dear, plain}));
  EXPECT_EQ(one("status=accepted"), Ids{});
  ASSERT_EQ(world().post("/api/gigs/" + dear + "/accept", {}, viewer().token).status, 200);
  ASSERT_EQ(world().del("/api/gigs/" + cheap, seeker().token).status, 204);
  EXPECT_EQ(one("status=accepted"), (Ids{dear}));
  EXPECT_EQ(search("status=accepted&include_total=true").at("/total_count"), 1);
  EXPECT_EQ(search("status=cancelled&include_total=true&" + at(here)).at("/total_count"), 1);
  EXPECT_EQ(search("status=completed&include_total=true&" + at(here)).at("/total_count"), 0);
  EXPECT_EQ(one("status=CANCELLED&category=cleaning"), (Ids{cheap}));
  EXPECT_EQ(one("status=pending"), (Ids{plain}));
}

TEST_F(Search, WordsInThaiAndEnglish) {
  const Point here{2, 2};
  const std::string english =
      gig_at(here, {{"title", "Cleaning a house"}, {"description", "Windows and 100% of the floors."}});
  const std::string thai = gig_at(here, {{"title", "ทำความสะอาดห้อง"}, {"description", "ห้องพักใกล้รถไฟฟ้า"}});
  const std::string both = gig_at(here, {{"title", "ล้างรถ car wash"}, {"description", "Clean my car please"}});
  const auto words = [&](const std::string& q) {
    auto one = found(at(here) + "&q=" + q);
    EXPECT_EQ(one, found("q=" + q)) << q;
    EXPECT_EQ(one, found("sort=budget&q=" + q)) << q;
    return one;
  };
  using Ids = std::set<std::string>;
  EXPECT_EQ(words("clean"), (Ids{english, both}));
  EXPECT_EQ(words("CLEANED"), (Ids{english, both}));
  EXPECT_EQ(words("clean+car"), (Ids{both}));
  EXPECT_EQ(words("car,clean!"), (Ids{both}));
  EXPECT_EQ(words("houses"), (Ids{english}));
  EXPECT_EQ(words("hous"), (Ids{english}));
  EXPECT_EQ(words("house+car"), Ids{});
  EXPECT_EQ(
      words("%E0%B8%97%E0%B8%B3%E0%B8%84%E0%B8%A7%E0%B8%B2%E0%B8%A1%E0%B8%AA%E0%B8%B0%E0%B8%AD%E0%B8%B2%E0%B8%94"),
      (Ids{thai}));                                                       // ทำความสะอาด
  EXPECT_EQ(words("%E0%B8%AB%E0%B9%89%E0%B8%AD%E0%B8%87"), (Ids{thai}));  // ห้อง
  EXPECT_EQ(words("%E0%B8%A3%E0%B8%96"), (Ids{both}));                    // รถ
  EXPECT_EQ(words("100"), (Ids{english}));
  EXPECT_EQ(words("'%3B+DROP+TABLE+gigs--"), Ids{});
  for (const char* none : {"%25", "'%3B--", "!!!", "%20%20"})
    EXPECT_EQ(search(std::string("q=") + none).status, 422) << none;
  EXPECT_EQ(search("q=" + std::string(201, 'x')).status, 422);
  // Words follow a change of the text.
  ASSERT_EQ(world().put("/api/gigs/" + both, R"({"description":"Quickly"})", seeker().token).status, 200);
  EXPECT_EQ(words("clean"), (Ids{english}));
  EXPECT_EQ(words("wash"), (Ids{both}));
}

/// G06.
TEST_F(Search, ManyGigsAtOnePointInEveryOrder) {
  const Point tower{5, 5};
  std::set<std::string> all;
  for (int i = 0; i < 130; ++i) all.insert(gig_at(tower, {{"budget", i % 3}}));
  gig_at({5.001, 5});
  for (const char* query :
       {"latitude=5.0005&longitude=5&radius_km=0.1", "latitude=5&longitude=5&radius_km=0.1",
        "latitude=5&longitude=5&radius_km=0.1&sort=newest", "latitude=5&longitude=5&radius_km=0.1&sort=budget",
        "latitude=5&longitude=5&radius_km=0.1&q=room", "latitude=5&longitude=5&radius_km=0.1&min_budget=0"}) {
    for (const int limit : {1, 7, 100}) {
      const auto seen = paged(query, limit);
      EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), seen.size()) << query;
      for (const std::string& id : all) EXPECT_EQ(std::count(seen.begin(), seen.end(), id), 1) << query << limit;
    }
  }
}

TEST_F(Search, SortsAreSortedAndTotalsTrue) {
  std::mt19937 random(41);
  std::uniform_int_distribution<int> budget(1, 40);
  for (int i = 0; i < 80; ++i) gig_at({7 + i * 0.0001, 7}, {{"budget", budget(random)}});
  const std::string here = "latitude=7&longitude=7&radius_km=5";
  for (const char* area :
       {"latitude=7&longitude=7&radius_km=5", "min_latitude=6&max_latitude=8&min_longitude=6&max_longitude=8", ""}) {
    const std::string query = std::string(area) + (*area != '\0' ? "&" : "");
    double last = 1e9;
    for (const Answer page = search(query + "sort=budget&limit=100"); const auto& gig : page.at("/gigs").as_array()) {
      EXPECT_LE(gig.at("budget").to_number<double>(), last);
      last = gig.at("budget").to_number<double>();
    }
    std::string newest = "9999";
    for (const Answer page = search(query + "sort=newest&limit=100"); const auto& gig : page.at("/gigs").as_array()) {
      const std::string created(gig.at("created_at").as_string());
      EXPECT_LE(created, newest);
      newest = created;
    }
    EXPECT_EQ(search(query + "include_total=true&limit=3").at("/total_count"), 80) << area;
    for (const char* sort : {"newest", "budget"}) {
      const auto pages = paged(query + "sort=" + sort, 9);
      EXPECT_EQ(pages, ids(search(query + "sort=" + sort + "&limit=100"))) << area << sort;
    }
  }
  EXPECT_FALSE(search(here).body.as_object().contains("total_count"));
  EXPECT_EQ(paged(here, 9), ids(search(here + "&limit=100")));
  EXPECT_EQ(world().get("/api/gigs/search?" + here, viewer().token).at("/gigs"), search(here).at("/gigs"));
}

/// G06.
TEST_F(Search, PagesAreWholeWhileOthersWrite) {
  std::mt19937 random(51);
  std::uniform_real_distribution<double> near(-0.02, 0.02);
  std::uniform_int_distribution<int> budget(0, 50);
  const auto post = [&] { return gig_at({30 + near(random), 30 + near(random)}, {{"budget", budget(random)}}); };
  for (const char* query :
       {"latitude=30&longitude=30&radius_km=3", "latitude=30&longitude=30&radius_km=3&sort=newest",
        "latitude=30&longitude=30&radius_km=3&sort=budget", "sort=newest", "sort=budget",
        "latitude=30&longitude=30&radius_km=3&q=kitchen", "latitude=30&longitude=30&radius_km=3&min_budget=0",
        "min_latitude=29.9&max_latitude=30.1&min_longitude=29.9&max_longitude=30.1&sort=budget"}) {
    world().clear_gigs();
    std::vector<std::string> at_start;
    for (int i = 0; i < 60; ++i) at_start.push_back(post());
    const std::set<std::string> first_of_all = found(query);
    std::set<std::string> gone;
    std::size_t next = 0;
    const auto seen = paged(query, 7, [&] {
      // Four writers between two pages: new gigs before, behind and at the place of the cursor, and some that end.
      std::vector<Ask> asks;
      for (int i = 0; i < 4; ++i) {
        asks.push_back(
            {Method::post, "/api/gigs",
             World::gig_body(
                 {{"latitude", 30 + near(random)}, {"longitude", 30 + near(random)}, {"budget", budget(random)}}),
             seeker().token});
      }
      asks.push_back({Method::del, "/api/gigs/" + at_start[next], {}, seeker().token});
      gone.insert(at_start[next]);
      next += 3;
      world().send_all(std::move(asks));
    });
    const std::set<std::string> once(seen.begin(), seen.end());
    EXPECT_EQ(once.size(), seen.size()) << query;
    for (const std::string& id : at_start) {
      if (!gone.contains(id) && first_of_all.contains(id)) EXPECT_TRUE(once.contains(id)) << query;
    }
  }
}

TEST_F(Search, AWalkCutShortGoesOnWithItsCursor) {
  // Few of many fit the filter, and a page may look at no more than 25 gigs: pages come short or empty, never wrong.
  std::mt19937 random(71);
  std::uniform_real_distribution<double> near(-0.02, 0.02);
  std::set<std::string> rare;
  for (int i = 0; i < 300; ++i) {
    const bool fits = i % 23 == 0;
    const std::string id =
        gig_at({20 + near(random), 20 + near(random)}, {{"category", fits ? "rare" : "common"}, {"budget", i % 40}});
    if (fits) rare.insert(id);
  }
  world().house().gigs.walk = 25;
  for (const char* query : {"latitude=20&longitude=20&radius_km=10&category=rare", "sort=newest&category=rare",
                            "sort=budget&category=rare"}) {
    std::vector<std::string> seen;
    std::string cursor;
    int pages = 0, empty = 0;
    do {
      const Answer page = search(std::string(query) + "&limit=2" + (cursor.empty() ? "" : "&cursor=" + cursor));
      const auto found_here = ids(page);
      empty += found_here.empty();
      seen.insert(seen.end(), found_here.begin(), found_here.end());
      cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
    } while (!cursor.empty() && ++pages < 200);
    EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()), rare) << query;
    EXPECT_EQ(seen.size(), rare.size()) << query;
    EXPECT_GT(pages, 8) << query;  // the walk really was cut
    EXPECT_GT(empty, 0) << query;
    // In the order that one long walk gives.
    world().house().gigs.walk = 50'000;
    EXPECT_EQ(seen, ids(search(std::string(query) + "&limit=100"))) << query;
    world().house().gigs.walk = 25;
  }
  world().house().gigs.walk = 50'000;
}

TEST_F(Search, AWalkCutShortSkipsNothingThatIsNearerThanItLooks) {
  // Northwards the earth is shorter than its sphere, eastwards longer: the walk ends before the nearest of all.
  const auto put = [](double metres, const char* azimuth) {
    const std::string id = gig_at({10, 30}, {{"category", "plumbing"}});
    world().sql("UPDATE gigs SET public_location = ST_Project(ST_SetSRID(ST_MakePoint(30, 10), 4326)::geography, " +
                    std::to_string(metres) + ", radians(" + azimuth + ")) WHERE id = $1::uuid",
                {id});
    return id;
  };
  const std::vector<std::string> right{put(9950, "0"), put(9970, "90"), put(9980, "90"), put(9990, "90")};
  const std::string query = "latitude=10&longitude=30&radius_km=20&category=plumbing";
  EXPECT_EQ(ids(search(query)), right);
  world().house().gigs.walk = 3;
  std::vector<std::string> seen;
  std::string cursor;
  int pages = 0;
  do {
    const Answer page = search(query + "&limit=2" + (cursor.empty() ? "" : "&cursor=" + cursor));
    for (const std::string& id : ids(page)) seen.push_back(id);
    cursor = page.at("/next_cursor").is_null() ? "" : page.string_at("/next_cursor");
  } while (!cursor.empty() && ++pages < 20);
  world().house().gigs.walk = 50'000;
  EXPECT_EQ(seen, right);
}

TEST_F(Search, ACursorPinsItsSearchAndCannotBeForged) {
  for (int i = 0; i < 8; ++i) gig_at({40, 40 + i * 0.001}, {{"budget", 100 + i}});
  const std::string query = "latitude=40&longitude=40&sort=budget&limit=2&min_budget=101";
  const Answer first = search(query);
  const std::string cursor = first.string_at("/next_cursor");
  const auto second = ids(search(query + "&cursor=" + cursor));
  EXPECT_EQ(second.size(), 2U);
  EXPECT_EQ(ids(search("limit=2&cursor=" + cursor)), second);  // alone it is enough
  EXPECT_EQ(ids(search("limit=1&cursor=" + cursor)).size(), 1U);
  for (const char* other :
       {"latitude=40.1&longitude=40&sort=budget&min_budget=101", "latitude=40&longitude=40&sort=newest&min_budget=101",
        "latitude=40&longitude=40&sort=budget&min_budget=102", "latitude=40&longitude=40&sort=budget",
        "latitude=40&longitude=40&sort=budget&min_budget=101&radius_km=11",
        "latitude=40&longitude=40&sort=budget&min_budget=101&q=room",
        "latitude=40&longitude=40&sort=budget&min_budget=101&status=accepted",
        "min_latitude=1&max_latitude=2&min_longitude=1&max_longitude=2&sort=budget&min_budget=101"}) {
    EXPECT_EQ(search(std::string(other) + "&limit=2&cursor=" + cursor).code(), "invalid_cursor") << other;
  }
  for (std::size_t i = 0; i < cursor.size(); i += 3) {
    std::string changed = cursor;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    const Answer answer = search("limit=2&cursor=" + changed);
    EXPECT_EQ(answer.status, 400);
    EXPECT_EQ(answer.code(), "invalid_cursor");
  }
  for (const char* bad : {"x", "%27%3B--", "AAAA", "eyJhIjoxfQ"})
    EXPECT_EQ(search(std::string("cursor=") + bad).status, 400) << bad;
  EXPECT_EQ(search("cursor=").status, 422);
  EXPECT_EQ(search("cursor=" + std::string(5000, 'A')).status, 422);
  // The origin stays the caller's first one though they move.
  world().put("/api/users/location", R"({"latitude":40,"longitude":40})", viewer().token);
  const std::string mine = search("limit=3").string_at("/next_cursor");
  world().put("/api/users/location", R"({"latitude":-40,"longitude":40})", viewer().token);
  EXPECT_EQ(ids(search("limit=3&cursor=" + mine)).size(), 3U);
}

TEST_F(Search, QueriesAreHeldToTheirLimits) {
  for (const char* wrong : {"latitude=1",
                            "longitude=1",
                            "latitude=90.0001&longitude=0",
                            "latitude=0&longitude=-180.0001",
                            "latitude=NaN&longitude=0",
                            "latitude=Infinity&longitude=0",
                            "latitude=1e400&longitude=0",
                            "latitude=&longitude=0",
                            "latitude=0x1p3&longitude=0",
                            "latitude=1,5&longitude=0",
                            "latitude=0&longitude=0&radius_km=0",
                            "latitude=0&longitude=0&radius_km=0.0999",
                            "latitude=0&longitude=0&radius_km=100.001",
                            "latitude=0&longitude=0&radius_km=-1",
                            "latitude=0&longitude=0&radius_km=1e9",
                            "limit=0",
                            "limit=101",
                            "limit=1e9",
                            "limit=-1",
                            "limit=x",
                            "sort=id%3Bdrop",
                            "sort=oldest",
                            "status=OPEN",
                            "min_budget=-1",
                            "min_budget=0.001",
                            "max_budget=10000001",
                            "min_budget=2&max_budget=1",
                            "max_duration=0.4",
                            "max_duration=24.1",
                            "category=",
                            "category=%01",
                            "q=",
                            "starts_after=yesterday",
                            "unknown=1",
                            "min_latitude=1",
                            "min_latitude=1&max_latitude=2",
                            "min_latitude=2&max_latitude=1&min_longitude=1&max_longitude=2",
                            "include_total=maybe",
                            "latitude=0&longitude=0&min_latitude=1&max_latitude=2&min_longitude=1&max_longitude=2"}) {
    EXPECT_EQ(search(wrong).status, 422) << wrong;
  }
  for (const char* broken : {"limit=1&limit=9", "q=%ff", "q=%00", "q=%", "%zz=1"})
    EXPECT_EQ(search(broken).status, 400) << broken;
  for (const char* fine :
       {"latitude=-90&longitude=-180&radius_km=0.1", "latitude=90&longitude=180&radius_km=100", "limit=1", "limit=100",
        "min_budget=0&max_budget=10000000", "max_duration=0.5", "max_duration=24", "sort=NEWEST", "include_total=true",
        "min_latitude=-90&max_latitude=90&min_longitude=-180&max_longitude=180&sort=distance",
        "latitude=0&longitude=0&", ""}) {
    EXPECT_EQ(search(fine).status, 200) << fine;
  }
}

TEST_F(Search, WhatManyFitAndWhatFewFitAnswerAlike) {
  // More than 2,000 gigs in the area and with the word: the other access paths. Set directly, with some ended ones.
  world().sql(
      "INSERT INTO gigs (id, seeker_id, title, description, duration_hours, budget, location, public_location, cell_x, "
      "cell_y, "
      "terms, created_at) SELECT gen_random_uuid(), $1::uuid, 'Clean a room', 'x', 1, (i * 7919) % 1000, p, p, 0, 0, "
      "ARRAY['clean', 'room'], now() - make_interval(secs => (i * 104729) % 100000) FROM (SELECT i, "
      "ST_SetSRID(ST_MakePoint(50 + "
      "(i % 71) * 0.0005, 50 + (i % 67) * 0.0005), 4326)::geography AS p FROM generate_series(1, 2600) i) s",
      {to_string(seeker().id)});
  world().sql("UPDATE gigs SET status = 'CANCELLED' WHERE id IN (SELECT id FROM gigs ORDER BY id LIMIT 2200)");
  world().sql(
      "INSERT INTO gigs (id, seeker_id, title, description, duration_hours, budget, location, public_location, cell_x, "
      "cell_y, terms) "
      "SELECT gen_random_uuid(), seeker_id, title, description, duration_hours, budget, location, public_location, 0, "
      "0, terms "
      "FROM gigs WHERE status = 'CANCELLED'");
  const std::string here = "latitude=50&longitude=50&radius_km=20";
  const auto truth = [&](const std::string& where, const std::string& order) {
    std::vector<std::string> all;
    for (const auto& row : world().rows("SELECT id::text FROM gigs WHERE " + where +
                                        " AND ST_DWithin(public_location, "
                                        "ST_SetSRID(ST_MakePoint(50, 50), 4326)::geography, 20000) ORDER BY " +
                                        order)) {
      all.push_back(row[0].value());
    }
    return all;
  };
  for (const auto& [status, where] : std::vector<std::pair<std::string, std::string>>{
           {"pending", "status = 'PENDING'"}, {"cancelled", "status = 'CANCELLED'"}}) {
    for (const std::string& words : {std::string(), std::string("&q=room")}) {
      const std::string query = here + "&status=" + status + words;
      EXPECT_EQ(paged(query + "&sort=newest", 100), truth(where, "created_at DESC, id DESC")) << query;
      EXPECT_EQ(paged(query + "&sort=budget", 100), truth(where, "budget DESC, id DESC")) << query;
      EXPECT_EQ(paged(query, 100),
                truth(where, "ST_Distance(public_location, ST_SetSRID(ST_MakePoint(50, 50), 4326)::geography), id"))
          << query;
    }
  }
  // A filter that hardly anything fits, among many.
  const std::string rare = world().sql("SELECT id::text FROM gigs WHERE status = 'PENDING' ORDER BY id DESC LIMIT 1");
  world().sql("UPDATE gigs SET category = 'rare' WHERE id = $1::uuid", {rare});
  for (const char* sort : {"distance", "newest", "budget"}) {
    EXPECT_EQ(found(here + "&category=rare&sort=" + sort), std::set<std::string>{rare}) << sort;
  }
}

TEST_F(Search, OnePointWrittenInTwoWaysIsOnePoint) {
  World exact([](Config& config) { config.location_blur_m = 0; });
  const Person seeker = exact.person(), helper = exact.person();
  const std::pair<json::object, std::string> places[] = {
      {{{"latitude", 12.5}, {"longitude", 180}}, "latitude=12.5&longitude=-180"},
      {{{"latitude", -12.5}, {"longitude", -180}}, "latitude=-12.5&longitude=180"},
      {{{"latitude", 90}, {"longitude", 17}}, "latitude=90&longitude=-120"}};
  for (const auto& [place, origin] : places) {
    const std::string id = exact.post_gig(seeker, place);
    const Answer found = exact.get("/api/gigs?radius_km=1&" + origin, helper.token);
    ASSERT_EQ(found.status, 200) << found.text;
    EXPECT_EQ(found.string_at("/gigs/0/id"), id);
    EXPECT_EQ(found.number_at("/gigs/0/distance_km"), 0);
  }
}

}  // namespace
}  // namespace hourz::harness
