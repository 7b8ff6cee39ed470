// The map: pins and clusters, never more than 500 marks, and counts that equal a recount whatever happened before.
#include <cmath>
#include <random>
#include <set>

#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

using http::Method;

class Map : public WorldTest {
 protected:
  void SetUp() override {
    world().clear_gigs();
    world().sql("DELETE FROM gig_cell_changes");
    world().sql("DELETE FROM gig_cells");
  }
  static const Person& someone() {
    static const Person one = world().person("Someone");
    return one;
  }
  static const Person& helper() {
    static const Person one = world().person("Helper");
    return one;
  }
  static Answer map(double south, double west, double north, double east, int zoom, const std::string& more = {}) {
    const Answer answer =
        world().get("/api/gigs/map?min_latitude=" + std::to_string(south) + "&min_longitude=" + std::to_string(west) +
                        "&max_latitude=" + std::to_string(north) + "&max_longitude=" + std::to_string(east) +
                        "&zoom=" + std::to_string(zoom) + more,
                    someone().token);
    EXPECT_EQ(answer.status, 200) << answer.text;
    EXPECT_LE(marks(answer), 500U);
    return answer;
  }
  static std::size_t marks(const Answer& answer) {
    return answer.at("/gigs").as_array().size() + answer.at("/clusters").as_array().size();
  }
  static std::int64_t total(const Answer& answer) {
    std::int64_t sum = std::ssize(answer.at("/gigs").as_array());
    for (const auto& cluster : answer.at("/clusters").as_array()) sum += cluster.at("count").as_int64();
    return sum;
  }
  static std::set<std::string> pins(const Answer& answer) {
    std::set<std::string> ids;
    for (const auto& pin : answer.at("/gigs").as_array()) ids.emplace(pin.at("id").as_string());
    return ids;
  }
  /// Gigs put down directly, many at once, with the cells that the web map gives them.
  static void scatter(int count, double south, double west, double north, double east) {
    const auto number = [](double v) { return std::to_string(v); };
    world().sql(
        "INSERT INTO gigs (id, seeker_id, title, description, duration_hours, budget, category, location, "
        "public_location, "
        "cell_x, cell_y) SELECT gen_random_uuid(), $1::uuid, 'Scattered', 'x', 1, (i % 10) * 100, CASE WHEN i % 50 = 0 "
        "THEN "
        "'rare' END, p, p, least(1048575, floor((ST_X(p::geometry) + 180) / 360 * 1048576))::int, greatest(0, "
        "least(1048575, "
        "floor((1 - asinh(tan(radians(greatest(-85.0511, least(85.0511, ST_Y(p::geometry)))))) / pi()) / 2 * "
        "1048576)))::int "
        "FROM (SELECT i, ST_SetSRID(ST_MakePoint(" +
            number(west) + " + (" + number(east - west) + ") * random(), " + number(south) + " + (" +
            number(north - south) + ") * random()), 4326)::geography AS p FROM generate_series(1, " +
            std::to_string(count) + ") i) s",
        {to_string(someone().id)});
  }
  static void fold_all() {
    while (world().sql("SELECT count(*)::text FROM gig_cell_changes") != "0") {
      world().wait(gigs::fold_cells(world().desk().database));
    }
  }
  /// Folded and unfolded counts against the gigs themselves, at every level.
  static void expect_recount(const char* when) {
    EXPECT_EQ(world().sql(R"(
      WITH counted AS (
        SELECT level, y, x, sum(count) AS count, sum(latitude_sum) AS latitude_sum, sum(longitude_sum) AS longitude_sum FROM (
          SELECT level, y, x, count, latitude_sum, longitude_sum FROM gig_cells
          UNION ALL
          SELECT l, y >> (20 - l), x >> (20 - l), change, change * latitude::bigint, change * longitude::bigint
          FROM gig_cell_changes CROSS JOIN generate_series(0, 20, 2) l) a
        GROUP BY 1, 2, 3 HAVING sum(count) <> 0 OR sum(latitude_sum) <> 0 OR sum(longitude_sum) <> 0),
      recount AS (
        SELECT l AS level, cell_y >> (20 - l) AS y, cell_x >> (20 - l) AS x, count(*)::numeric AS count,
          sum(round(ST_Y(public_location::geometry) * 1e6)::bigint) AS latitude_sum,
          sum(round(ST_X(public_location::geometry) * 1e6)::bigint) AS longitude_sum
        FROM gigs CROSS JOIN generate_series(0, 20, 2) l WHERE status = 'PENDING' GROUP BY 1, 2, 3)
      SELECT count(*)::text FROM (
        (SELECT level, y, x, count, latitude_sum, longitude_sum FROM counted EXCEPT SELECT level, y, x, count, latitude_sum::numeric, longitude_sum::numeric FROM recount)
        UNION ALL
        (SELECT level, y, x, count, latitude_sum::numeric, longitude_sum::numeric FROM recount EXCEPT SELECT level, y, x, count, latitude_sum, longitude_sum FROM counted)) d)"),
              "0")
        << when;
  }
};

TEST_F(Map, AFewArePinsWithWhatAMapShows) {
  std::set<std::string> posted;
  for (int i = 0; i < 30; ++i)
    posted.insert(world().post_gig(someone(), {{"latitude", 13.7 + i * 0.003}, {"longitude", 100.5}}));
  for (const bool folded : {false, true}) {
    if (folded) fold_all();
    for (const int zoom : {0, 5, 11, 20}) {
      const Answer answer = map(13.5, 100.3, 14, 100.8, zoom);
      EXPECT_EQ(pins(answer), posted) << zoom;
      EXPECT_FALSE(answer.at("/sampled").as_bool());
    }
    EXPECT_EQ(pins(map(-90, -180, 90, 180, 0)), posted);
    EXPECT_EQ(marks(map(10, 100, 11, 101, 8)), 0U);
  }
  const Answer answer = map(13.5, 100.3, 14, 100.8, 12);
  const auto& pin = answer.at("/gigs/0").as_object();
  EXPECT_EQ(pin.size(), 5U);
  EXPECT_EQ(pin.at("title").as_string(), "Clean a room");
}

TEST_F(Map, ManyAreClustersThatCountEverything) {
  scatter(3000, -60, -180, 70, 180);
  for (const bool folded : {false, true}) {
    if (folded) fold_all();
    for (int zoom = 0; zoom <= 20; ++zoom) {
      const Answer world_view = map(-90, -180, 90, 180, zoom);
      EXPECT_EQ(total(world_view), 3000) << zoom;
      EXPECT_GT(marks(world_view), 0U);
    }
    // A quarter of the world: what lies in cells cut by its edge may be counted with them, but nothing inside is
    // missed.
    const auto inside =
        std::stoll(world().sql("SELECT count(*)::text FROM gigs WHERE ST_Y(public_location::geometry) BETWEEN 0 AND 70 "
                               "AND ST_X(public_location::geometry) BETWEEN 0 AND 180"));
    EXPECT_GE(total(map(0, 0, 70, 180, 2)), inside);
    // Across the antimeridian: both halves, and each once.
    const auto both =
        std::stoll(world().sql("SELECT count(*)::text FROM gigs WHERE abs(ST_X(public_location::geometry)) >= 90"));
    EXPECT_GE(total(map(-90, 90, 90, -90, 2)), both);
    EXPECT_LE(total(map(-90, 90, 90, -90, 2)), 3000);
  }
  const Answer far_out = map(-90, -180, 90, 180, 3);
  for (const auto& cluster : far_out.at("/clusters").as_array()) {
    EXPECT_LE(std::fabs(cluster.at("latitude").to_number<double>()), 90);
    EXPECT_GT(cluster.at("count").as_int64(), 0);
  }
}

TEST_F(Map, NeverMoreThan500MarksWhateverTheView) {
  scatter(5000, 13.5, 100.3, 14, 100.8);
  scatter(500, -80, -170, 80, 170);
  fold_all();
  std::mt19937 random(61);
  std::uniform_real_distribution<double> latitude(-90, 90), longitude(-180, 180), small(0, 1);
  std::uniform_int_distribution<int> zoom(0, 20);
  for (int i = 0; i < 150; ++i) {
    double south = latitude(random), north = latitude(random), west = longitude(random), east = longitude(random);
    if (south > north) std::swap(south, north);
    if (i % 2 == 0) {
      south = 13.5 + small(random) * 0.4, north = std::min(14.0, south + small(random) * 0.3);
      west = 100.3 + small(random) * 0.4, east = west + small(random) * 0.3;
    }
    for (const char* more : {"", "&category=rare", "&min_budget=3", "&status=accepted"})
      map(south, west, north, east, zoom(random), more);
  }
  EXPECT_EQ(marks(map(10, 10, 10, 10, 20)), 0U);
}

TEST_F(Map, PinsAreExactlyWhatTheViewHolds) {
  scatter(300, 13.7, 100.5, 13.8, 100.6);
  scatter(40, 84, -180, 90, 180);
  scatter(40, -90, -180, -84, 180);
  scatter(40, 20, 179.9, 20.1, 180);
  scatter(40, 20, -180, 20.1, -179.9);
  std::mt19937 random(71);
  std::uniform_real_distribution<double> part(0, 1);
  const auto truth = [](double south, double west, double north, double east) {
    const std::string x =
        west <= east ? "ST_X(p) BETWEEN $2::float8 AND $4::float8" : "(ST_X(p) >= $2::float8 OR ST_X(p) <= $4::float8)";
    std::set<std::string> ids;
    for (const auto& row : world().rows(
             "SELECT id::text FROM (SELECT id, public_location::geometry AS p FROM gigs WHERE status = 'PENDING') g "
             "WHERE ST_Y(p) BETWEEN $1::float8 AND $3::float8 AND " +
                 x,
             {std::to_string(south), std::to_string(west), std::to_string(north), std::to_string(east)})) {
      ids.insert(row[0].value());
    }
    return ids;
  };
  int with_pins = 0;
  const auto compare = [&](double south, double west, double north, double east, int zoom) {
    const Answer answer = map(south, west, north, east, zoom);
    if (!answer.at("/clusters").as_array().empty()) return;
    ++with_pins;
    EXPECT_EQ(pins(answer), truth(south, west, north, east))
        << south << " " << west << " " << north << " " << east << " " << zoom;
  };
  for (int i = 0; i < 60; ++i) {
    const double south = 13.7 + 0.08 * part(random), west = 100.5 + 0.08 * part(random);
    compare(south, west, south + 0.02 * part(random), west + 0.02 * part(random), 12 + i % 9);
  }
  for (const int zoom : {0, 4, 10, 16, 20}) {
    compare(84, -180, 90, 180, zoom);
    compare(88, -100, 90, 100, zoom);
    compare(-90, -180, -84, 180, zoom);
    compare(19, 179, 21, -179, zoom);
    compare(20, 179.95, 20.1, -179.95, zoom);
    compare(20.02, 179.9, 20.08, 180, zoom);
    compare(20, -180, 20.1, -179.9, zoom);
  }
  EXPECT_GT(with_pins, 60);
}

TEST_F(Map, CountsEqualARecountAfterARandomHistory) {
  std::mt19937 random(81);
  std::uniform_real_distribution<double> latitude(-89, 89), longitude(-180, 180);
  std::uniform_int_distribution<int> die(0, 9);
  std::vector<std::string> open, taken;
  for (int step = 0; step < 400; ++step) {
    const int roll = die(random);
    if (open.empty() || roll < 4) {
      open.push_back(world().post_gig(someone(), {{"latitude", latitude(random)}, {"longitude", longitude(random)}}));
    } else if (roll < 5) {
      EXPECT_EQ(world()
                    .put("/api/gigs/" + open.back(), {{"latitude", latitude(random)}, {"longitude", longitude(random)}},
                         someone().token)
                    .status,
                200);
    } else if (roll < 6) {
      EXPECT_EQ(world().put("/api/gigs/" + open.back(), R"({"title":"Only the title"})", someone().token).status, 200);
    } else if (roll < 7) {
      EXPECT_EQ(world().del("/api/gigs/" + open.back(), someone().token).status, 204);
      open.pop_back();
    } else if (roll < 8) {
      EXPECT_EQ(world().post("/api/gigs/" + open.back() + "/accept", {}, helper().token).status, 200);
      taken.push_back(open.back());
      open.pop_back();
    } else if (roll < 9 && !taken.empty()) {
      EXPECT_EQ(world().post("/api/gigs/" + taken.back() + "/withdraw", {}, helper().token).status, 200);
      open.push_back(taken.back());
      taken.pop_back();
    } else {
      world().wait(gigs::fold_cells(world().desk().database));
    }
    if (step % 50 == 0) expect_recount("on the way");
  }
  expect_recount("at the end");
  fold_all();
  expect_recount("folded");
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM gig_cells WHERE count <= 0"), "0");
  EXPECT_EQ(total(map(-90, -180, 90, 180, 0)), std::ssize(open));
  world().clear_gigs();
  fold_all();
  // Empty cells go a bite at a time.
  for (int i = 0; i < 3; ++i) world().wait(gigs::fold_cells(world().desk().database));
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM gig_cells"), "0");
}

TEST_F(Map, AnEmptyCellWhoseSumsAreOpenIsKept) {
  // One gig came and went and another stays, and a bite takes the going and the staying before the coming.
  scatter(1, 10, 20, 10, 20);
  world().sql("CREATE TABLE coming AS SELECT * FROM gig_cell_changes");
  scatter(1, 10.0001, 20.0001, 10.0001, 20.0001);
  world().sql(
      "UPDATE gigs SET status = 'CANCELLED', cancelled_at = now() WHERE ST_Y(public_location::geometry) < 10.00005");
  world().sql("DELETE FROM gig_cell_changes g USING coming c WHERE (g.latitude, g.change) = (c.latitude, c.change)");
  fold_all();
  world().sql("INSERT INTO gig_cell_changes SELECT * FROM coming");
  world().sql("DROP TABLE coming");
  fold_all();
  expect_recount("folded");
}

TEST_F(Map, FoldingBesideWritesLosesNothing) {
  // Two servers fold while many post and cancel; the map never counts less than what stays throughout.
  scatter(200, 40, 40, 41, 41);
  db::Client other(world().io(), app::database_options(world().house().config, world().app_url(), 1));
  record_statements(other);
  std::vector<std::string> posted;
  for (int round = 0; round < 12; ++round) {
    std::vector<Ask> asks;
    for (int i = 0; i < 15; ++i)
      asks.push_back(
          {Method::post, "/api/gigs", World::gig_body({{"latitude", 40.5}, {"longitude", 40.5}}), someone().token});
    for (int i = 0; i < 5 && !posted.empty(); ++i) {
      asks.push_back({Method::del, "/api/gigs/" + posted.back(), {}, someone().token});
      posted.pop_back();
    }
    for (int i = 0; i < 5; ++i)
      asks.push_back({Method::get,
                      "/api/gigs/map?min_latitude=-90&max_latitude=90&min_longitude=-180&max_longitude=180&zoom=2",
                      {},
                      someone().token});
    int folding = 2;
    const auto done = [&folding](std::exception_ptr failure) {
      EXPECT_FALSE(failure);
      --folding;
    };
    boost::asio::co_spawn(world().io(), gigs::fold_cells(world().desk().database), done);
    boost::asio::co_spawn(world().io(), gigs::fold_cells(other), done);
    for (const Answer& answer : world().send_all(std::move(asks))) {
      if (answer.status == 201) posted.push_back(answer.string_at("/id"));
      if (answer.status == 200) EXPECT_GE(total(answer), 200);
      EXPECT_LT(answer.status, 400);
    }
    EXPECT_TRUE(world().until([&] { return folding == 0; }));
  }
  expect_recount("after the storm");
  fold_all();
  expect_recount("folded");
  EXPECT_EQ(total(map(-90, -180, 90, 180, 1)), 200 + std::ssize(posted));
  other.stop();
  world().io().poll();
}

TEST_F(Map, FiltersAreAnsweredByPinsAndSamplesSaySo) {
  scatter(3000, 13.5, 100.3, 14, 100.8);
  const Answer rare = map(13.5, 100.3, 14, 100.8, 12, "&category=RARE");
  EXPECT_FALSE(rare.at("/sampled").as_bool());
  EXPECT_TRUE(rare.at("/clusters").as_array().empty());
  EXPECT_EQ(pins(rare).size(), 60U);
  const Answer many = map(13.5, 100.3, 14, 100.8, 12, "&min_budget=3");
  EXPECT_TRUE(many.at("/sampled").as_bool());
  EXPECT_FALSE(many.at("/gigs").as_array().empty());
  const Answer small = map(13.7, 100.5, 13.75, 100.55, 14, "&category=rare");
  EXPECT_FALSE(small.at("/sampled").as_bool());
  const auto in_view = world().sql(
      "SELECT count(*)::text FROM gigs WHERE category = 'rare' AND ST_Y(public_location::geometry) BETWEEN 13.7 AND "
      "13.75 AND ST_X(public_location::geometry) BETWEEN 100.5 AND 100.55");
  EXPECT_EQ(std::to_string(pins(small).size()), in_view);
  const Answer paid = map(13.7, 100.5, 13.75, 100.55, 14, "&min_budget=8&max_budget=9");
  for (const auto& pin : paid.at("/gigs").as_array()) {
    EXPECT_GE(pin.at("budget").to_number<double>(), 8);
  }
  EXPECT_EQ(marks(map(13.5, 100.3, 14, 100.8, 12, "&status=completed")), 0U);
  world().sql("UPDATE gigs SET status = 'CANCELLED' WHERE category = 'rare'");
  EXPECT_EQ(std::to_string(pins(map(13.7, 100.5, 13.75, 100.55, 14, "&status=cancelled")).size()), in_view);
  // A gig without a category has none of the wanted one.
  world().sql("UPDATE gigs SET category = NULL WHERE status = 'CANCELLED'");
  EXPECT_EQ(marks(map(13.7, 100.5, 13.75, 100.55, 14, "&status=cancelled&category=rare")), 0U);
}

TEST_F(Map, QueriesAreHeldToTheirLimits) {
  const auto status = [](const std::string& query) {
    return world().get("/api/gigs/map?" + query, someone().token).status;
  };
  const std::string all = "min_latitude=-90&max_latitude=90&min_longitude=-180&max_longitude=180";
  EXPECT_EQ(status(all + "&zoom=0"), 200);
  EXPECT_EQ(status(all + "&zoom=20"), 200);
  for (const std::string& wrong :
       {all, all + "&zoom=21", all + "&zoom=-1", all + "&zoom=1.5", std::string("zoom=1"), all + "&zoom=1&limit=5",
        all + "&zoom=1&status=x", std::string("min_latitude=1&max_latitude=0&min_longitude=0&max_longitude=1&zoom=1"),
        std::string("min_latitude=-91&max_latitude=0&min_longitude=0&max_longitude=1&zoom=1")}) {
    EXPECT_EQ(status(wrong), 422) << wrong;
  }
}

}  // namespace
}  // namespace hourz::harness
