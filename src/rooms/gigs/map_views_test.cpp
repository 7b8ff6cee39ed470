// What the map shows of a view, filtered or not, held against what the table of gigs holds.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "core/geo.hpp"
#include "harness/harness.hpp"
#include "rooms/gigs/gigs.hpp"

namespace hourz::harness {
namespace {

using http::Method;

struct View {
  double south, west, north, east;
  int zoom;
};

constexpr View whole_world{-90, -180, 90, 180, 0};

struct Placed {
  Point at;
  std::int64_t budget_satang = 35'000;
  std::string category = {};
  std::string status = "PENDING";
};

class MapViews : public WorldTest {
 protected:
  void SetUp() override {
    world().clear_gigs();
    world().sql("TRUNCATE gig_cells, gig_cell_changes");
    seeker_ = world().person();
    helper_ = world().person();
  }

  void put(const std::vector<Placed>& gigs) {
    std::string rows;
    for (const Placed& gig : gigs) {
      const Cell cell = cell_of(gig.at);
      const auto place =
          "ST_SetSRID(ST_MakePoint(" + exact(gig.at.longitude) + "," + exact(gig.at.latitude) + "),4326)";
      const bool taken = gig.status != "PENDING" && gig.status != "CANCELLED";
      rows +=
          (rows.empty() ? "(" : ",(") +
          ("gen_random_uuid(),'" + to_string(seeker_.id) + "'," + (taken ? "'" + to_string(helper_.id) + "'" : "NULL") +
           ",'Title','Text',1," + std::to_string(gig.budget_satang) + "," + place + "," + place + "," +
           std::to_string(cell.x) + "," + std::to_string(cell.y) + "," +
           (gig.category.empty() ? "NULL" : "'" + gig.category + "'") + ",'" + gig.status + "')");
    }
    world().sql(
        "INSERT INTO gigs (id, seeker_id, helper_id, title, description, duration_hours, budget, location, "
        "public_location, cell_x, cell_y, category, status) VALUES " +
        rows);
  }

  static std::string exact(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", value);
    return text;
  }

  Answer show(const View& view, const std::string& filter = {}) {
    Answer answer =
        world().get("/api/gigs/map?min_latitude=" + exact(view.south) + "&min_longitude=" + exact(view.west) +
                        "&max_latitude=" + exact(view.north) + "&max_longitude=" + exact(view.east) +
                        "&zoom=" + std::to_string(view.zoom) + filter,
                    seeker_.token);
    EXPECT_EQ(answer.status, 200) << answer.text;
    EXPECT_LE(pins(answer).size() + clusters(answer).size(), 500U);
    return answer;
  }
  static const json::array& pins(const Answer& answer) { return answer.at("/gigs").as_array(); }
  static const json::array& clusters(const Answer& answer) { return answer.at("/clusters").as_array(); }
  static bool sampled(const Answer& answer) { return answer.at("/sampled").as_bool(); }
  static std::set<std::string> ids(const Answer& answer) {
    std::set<std::string> found;
    for (const auto& pin : pins(answer)) EXPECT_TRUE(found.emplace(pin.at("id").as_string()).second) << "twice";
    return found;
  }
  static std::int64_t counted(const Answer& answer) {
    std::int64_t count = std::ssize(pins(answer));
    for (const auto& cluster : clusters(answer)) count += cluster.at("count").as_int64();
    return count;
  }
  std::set<std::string> truth(const View& view, const std::string& condition = "status = 'PENDING'") {
    const std::string columns = view.west <= view.east
                                    ? "x BETWEEN " + exact(view.west) + " AND " + exact(view.east)
                                    : "(x >= " + exact(view.west) + " OR x <= " + exact(view.east) + ")";
    std::set<std::string> found;
    for (const auto& row : world().rows("SELECT id::text FROM (SELECT *, ST_Y(public_location::geometry) AS y, "
                                        "ST_X(public_location::geometry) AS x "
                                        "FROM gigs) g WHERE " +
                                        condition + " AND y BETWEEN " + exact(view.south) + " AND " +
                                        exact(view.north) + " AND " + columns)) {
      found.insert(row.at(0).value());
    }
    return found;
  }
  /// All that fit, or a sample of them that says so.
  void expect_honest(const View& view, const std::string& filter, const std::string& condition) {
    const Answer answer = show(view, filter);
    const auto shown = ids(answer), fit = truth(view, condition);
    EXPECT_TRUE(clusters(answer).empty());
    EXPECT_TRUE(std::includes(fit.begin(), fit.end(), shown.begin(), shown.end())) << filter;
    if (shown != fit) EXPECT_TRUE(sampled(answer)) << filter << ": " << shown.size() << " of " << fit.size();
  }

  std::mt19937 random_{11};
  double between(double low, double high) { return std::uniform_real_distribution(low, high)(random_); }
  /// To the millionth of a degree, as the blur gives them.
  Point place_in(const View& view) {
    return {std::round(between(view.south, view.north) * 1e6) / 1e6,
            std::round(between(view.west, view.east) * 1e6) / 1e6};
  }

  Person seeker_, helper_;
};

TEST_F(MapViews, FewGigsArePinsAndLoneOnesStayPinsAmongClusters) {
  const View bangkok{13.5, 100.3, 14.0, 100.9, 10};
  std::vector<Placed> gigs;
  for (int i = 0; i < 40; ++i) gigs.push_back({place_in({13.75, 100.5, 13.751, 100.501, 0})});
  put(gigs);
  Answer answer = show(bangkok);
  EXPECT_EQ(ids(answer), truth(bangkok));
  EXPECT_TRUE(clusters(answer).empty());
  // Two crowds and three that stand alone.
  gigs.clear();
  for (int i = 0; i < 80; ++i) gigs.push_back({place_in({13.9, 100.7, 13.901, 100.701, 0})});
  const std::vector<Point> lone{{13.55, 100.35}, {13.6, 100.85}, {13.98, 100.4}};
  for (const Point& at : lone) gigs.push_back({at, 12'345});
  put(gigs);
  answer = show(bangkok);
  EXPECT_EQ(counted(answer), 123);
  EXPECT_FALSE(sampled(answer));
  ASSERT_EQ(pins(answer).size(), 3U);
  for (const auto& pin : pins(answer)) {
    const Point at{pin.at("latitude").to_number<double>(), pin.at("longitude").to_number<double>()};
    EXPECT_EQ(std::count(lone.begin(), lone.end(), at), 1);
    EXPECT_EQ(pin.at("budget").to_number<double>(), 123.45);
    EXPECT_EQ(pin.at("title").as_string(), "Title");
  }
  std::map<std::int64_t, Point> middles;
  for (const auto& cluster : clusters(answer)) {
    middles[cluster.at("count").as_int64()] = {cluster.at("latitude").to_number<double>(),
                                               cluster.at("longitude").to_number<double>()};
  }
  ASSERT_EQ(middles.size(), 2U);
  EXPECT_NEAR(middles[40].latitude, 13.7505, 0.0005);
  EXPECT_NEAR(middles[80].longitude, 100.7005, 0.0005);
  // Near enough, all of them are pins.
  EXPECT_EQ(ids(show({13.5, 100.3, 14.0, 100.9, 17})).size(), 123U);
}

TEST_F(MapViews, AnyViewHasAtMost500MarksAndDropsNothingInside) {
  std::vector<Placed> gigs;
  for (int i = 0; i < 2000; ++i) gigs.push_back({place_in({13.4, 100.2, 14.1, 101, 0})});
  for (int i = 0; i < 600; ++i) gigs.push_back({place_in({13.74, 100.52, 13.745, 100.525, 0})});
  for (int i = 0; i < 600; ++i) gigs.push_back({place_in({-89, -179, 89, 179, 0})});
  for (const Point& corner : {Point{90, 180}, Point{90, -180}, Point{-90, 180}, Point{-90, -180}, Point{0, 0}}) {
    gigs.push_back({corner});
  }
  put(gigs);
  // One half folded, the other not.
  world().wait(gigs::fold_cells(world().desk().database));
  put(std::vector<Placed>(gigs.begin(), gigs.begin() + 1000));
  const auto all = std::ssize(gigs) + 1000;
  for (int zoom = 0; zoom <= 20; ++zoom) {
    EXPECT_EQ(counted(show({-90, -180, 90, 180, zoom})), all) << zoom;
    for (const View& view :
         {View{13.4, 100.2, 14.1, 101, zoom}, View{13.74, 100.52, 13.745, 100.525, zoom},
          View{13.7, 100.4, 13.8, 100.6, zoom}, View{-10, 60, 50, 150, zoom}, View{-40, 150, 40, -150, zoom},
          View{-90, 10, 90, 9.999, zoom}, View{13.742, 100.522, 13.7421, 100.5221, zoom}}) {
      const Answer answer = show(view);
      const auto inside = truth(view);
      EXPECT_GE(counted(answer), std::ssize(inside)) << zoom;
      EXPECT_LE(counted(answer), all) << zoom;
      const auto shown = ids(answer);
      EXPECT_TRUE(std::includes(inside.begin(), inside.end(), shown.begin(), shown.end())) << zoom;
      if (clusters(answer).empty()) EXPECT_EQ(shown, inside);
      // What is outside stands in cells that the view touches: a cell is no larger than the view, whatever the zoom.
      for (const auto& cluster : clusters(answer)) {
        const double height = view.north - view.south;
        EXPECT_GE(cluster.at("latitude").to_number<double>(), view.south - height);
        EXPECT_LE(cluster.at("latitude").to_number<double>(), view.north + height);
      }
    }
  }
}

TEST_F(MapViews, AcrossTheAntimeridian) {
  std::vector<Placed> gigs;
  for (const double longitude : {179.5, -179.5, 180.0, -180.0, 170.0, -170.0})
    gigs.push_back({{1, longitude}, 100, "cooking"});
  gigs.push_back({{1, 0}, 100, "cooking"});
  put(gigs);
  const View narrow{0, 179, 2, -179, 6}, wide{0, 160, 2, -160, 3};
  EXPECT_EQ(ids(show(narrow)), truth(narrow));
  EXPECT_EQ(ids(show(narrow)).size(), 4U);
  EXPECT_EQ(ids(show(wide)).size(), 6U);
  for (const View& view : {narrow, wide}) {
    for (const std::string& filter : {"&category=Cooking", "&max_budget=1"}) {
      const Answer answer = show(view, filter);
      EXPECT_EQ(ids(answer), truth(view));
      EXPECT_FALSE(sampled(answer));
    }
  }
}

TEST_F(MapViews, AFilterIsExactWhereTheViewHoldsFewOrFewFit) {
  const View city{13.4, 100.2, 14.1, 101, 10}, street{13.74, 100.52, 13.745, 100.525, 16};
  std::vector<Placed> gigs;
  for (int i = 0; i < 3000; ++i) gigs.push_back({place_in(city), 10'000 + i, i % 100 == 0 ? "piano" : "cleaning"});
  for (int i = 0; i < 300; ++i) gigs.push_back({place_in(street), 10'000 + i, i % 3 ? "moving" : "piano"});
  for (int i = 0; i < 200; ++i) gigs.push_back({place_in(city), 10'000, "piano", "COMPLETED"});
  put(gigs);
  struct Case {
    View view;
    std::string filter, condition;
  };
  for (const Case& one :
       {Case{street, "&category=moving", "status = 'PENDING' AND category = 'moving'"},
        Case{street, "&max_budget=101&min_budget=100.5", "status = 'PENDING' AND budget BETWEEN 10050 AND 10100"},
        Case{street, "&category=piano&min_budget=101", "status = 'PENDING' AND category = 'piano' AND budget >= 10100"},
        Case{city, "&category=piano", "status = 'PENDING' AND category = 'piano'"},
        Case{city, "&min_budget=128", "status = 'PENDING' AND budget >= 12800"},
        Case{whole_world, "&max_budget=100.2", "status = 'PENDING' AND budget <= 10020"},
        Case{whole_world, "&category=PIANO", "status = 'PENDING' AND category = 'piano'"},
        Case{city, "&status=COMPLETED", "status = 'COMPLETED'"},
        Case{city, "&status=CANCELLED", "status = 'CANCELLED'"},
        Case{whole_world, "&status=COMPLETED&category=piano", "status = 'COMPLETED'"},
        Case{city, "&category=nosuch", "false"}}) {
    const Answer answer = show(one.view, one.filter);
    EXPECT_EQ(ids(answer), truth(one.view, one.condition)) << one.filter;
    EXPECT_FALSE(sampled(answer)) << one.filter;
    EXPECT_TRUE(clusters(answer).empty());
  }
  // Too many to look at: from all over the view, and said.
  const Answer many = show(city, "&category=cleaning");
  EXPECT_TRUE(sampled(many));
  EXPECT_GE(pins(many).size(), 300U);
  std::set<std::pair<int, int>> quarters;
  for (const auto& pin : pins(many)) {
    const Cell cell = cell_of({pin.at("latitude").to_number<double>(), pin.at("longitude").to_number<double>()}, 10);
    quarters.emplace(cell.y, cell.x);
  }
  EXPECT_GE(quarters.size(), 6U);
}

TEST_F(MapViews, ASampleSaysThatItIsOne) {
  std::vector<Placed> gigs;
  const View city{13.4, 100.2, 14.1, 101, 10};
  for (int i = 0; i < 3000; ++i) gigs.push_back({place_in(city), 10'000});
  for (int i = 0; i < 1000; ++i) gigs.push_back({place_in({18.7, 98.9, 18.9, 99.1, 0}), 50'000});
  for (int i = 0; i < 1500; ++i) gigs.push_back({place_in(city), 10'000, "moving", "COMPLETED"});
  // One that fits, anywhere in the city.
  gigs.push_back({{13.512345, 100.754321}, 50'000});
  gigs.push_back({{13.512345, 100.754321}, 60'000, {}, "COMPLETED"});
  put(gigs);
  for (int zoom : {0, 3, 9, 12, 15, 20}) {
    const View same{city.south, city.west, city.north, city.east, zoom};
    expect_honest(same, "&min_budget=400", "status = 'PENDING' AND budget >= 40000");
    expect_honest(same, "&max_budget=400", "status = 'PENDING' AND budget <= 40000");
    expect_honest(same, "&max_budget=400&category=x", "false");
    expect_honest(same, "&status=COMPLETED", "status = 'COMPLETED'");
    expect_honest(same, "&status=COMPLETED&min_budget=600", "status = 'COMPLETED' AND budget >= 60000");
    expect_honest(same, "&status=COMPLETED&category=moving", "status = 'COMPLETED' AND category = 'moving'");
  }
  for (int i = 0; i < 60; ++i) {
    const double south = between(13.3, 19), west = between(98, 101);
    const View view{south, west, south + between(0.001, 1), west + between(0.001, 1), static_cast<int>(between(0, 21))};
    expect_honest(view, "&min_budget=400", "status = 'PENDING' AND budget >= 40000");
    expect_honest(view, "&max_budget=400", "status = 'PENDING' AND budget <= 40000");
    expect_honest(view, "&status=COMPLETED", "status = 'COMPLETED'");
  }
  EXPECT_EQ(world()
                .get("/api/gigs/map?min_latitude=0&max_latitude=1&min_longitude=0&max_longitude=1&zoom=1&min_budget=2&"
                     "max_budget=1",
                     seeker_.token)
                .faults(),
            std::vector<std::string>{"max_budget:out_of_range"});
}

}  // namespace
}  // namespace hourz::harness
