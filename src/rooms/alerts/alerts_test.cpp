// Standing areas against PostGIS, which measures circles in its own way; and what one costs among 100,000.
#include <chrono>
#include <iomanip>
#include <random>
#include <set>
#include <sstream>

#include "harness/harness.hpp"
#include "rooms/alerts/area_index.hpp"

namespace hourz::harness {
namespace {

using alerts::AreaIndex;

std::string exact(double number) {
  std::ostringstream out;
  out << std::setprecision(17) << number;
  return out.str();
}

std::set<std::uint64_t> found_at(const AreaIndex& index, Point point) {
  std::vector<std::uint64_t> found;
  index.find(point, found);
  const std::set<std::uint64_t> keys(found.begin(), found.end());
  EXPECT_EQ(keys.size(), found.size()) << "a key stands twice";
  return keys;
}

class Areas : public WorldTest {};

TEST_F(Areas, HoldWhatTheDatabaseSaysTheyHold) {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> unit(0, 1);
  AreaIndex index;
  world().sql("CREATE TABLE circles (key bigint, place geography(Point, 4326), radius_m double precision)");
  world().sql("CREATE TABLE points (id bigint, place geography(Point, 4326))");
  // Some everywhere; many about the antimeridian, the poles and Bangkok, where points fall near their edges.
  const Point centres[] = {{0, 180},      {0, -179.9}, {65, 179.8},    {89.9, 10},
                           {-89.8, -100}, {90, 0},     {13.75, 100.5}, {-45, 0}};
  const auto place = [&](double spread) {
    const Point& centre = centres[static_cast<std::size_t>(unit(random) * std::size(centres))];
    Point point{centre.latitude + (unit(random) - 0.5) * spread, centre.longitude + (unit(random) - 0.5) * spread * 2};
    point.latitude = std::clamp(point.latitude, -90.0, 90.0);
    if (point.longitude > 180) point.longitude -= 360;
    if (point.longitude < -180) point.longitude += 360;
    return point;
  };
  const auto put = [&](const char* table, std::size_t id, Point point, std::optional<double> radius_m) {
    std::string text =
        std::string("INSERT INTO ") + table + " VALUES ($1::bigint, ST_MakePoint($2::float8, $3::float8)";
    std::vector<std::string> parameters{std::to_string(id), exact(point.longitude), exact(point.latitude)};
    if (radius_m) {
      text += ", $4::float8";
      parameters.push_back(exact(*radius_m));
    }
    world().sql(text + ")", parameters);
  };
  for (std::size_t key = 0; key < 400; ++key) {
    const Point middle = place(4);
    const double radius_m = 100 + std::pow(unit(random), 2) * 99'900;
    index.insert(key, middle, radius_m);
    put("circles", key, middle, radius_m);
  }
  std::size_t hits = 0;
  std::vector<Point> points;
  for (std::size_t id = 0; id < 400; ++id) {
    points.push_back(place(4));
    put("points", id, points.back(), {});
  }
  std::vector<std::set<std::uint64_t>> expected(points.size());
  for (const auto& row : world().rows("SELECT p.id::text, c.key::text FROM points p JOIN circles c "
                                      "ON ST_Distance(p.place, c.place) <= c.radius_m")) {
    expected[std::stoul(row.at(0).value())].insert(std::stoull(row.at(1).value()));
    ++hits;
  }
  for (std::size_t id = 0; id < points.size(); ++id) {
    EXPECT_EQ(found_at(index, points[id]), expected[id]) << points[id].latitude << ' ' << points[id].longitude;
  }
  EXPECT_GT(hits, 500U);
}

TEST(AreaIndexTest, ForgetsWhatIsErased) {
  AreaIndex index;
  std::mt19937 random(3);
  std::uniform_real_distribution<double> latitude(-90, 90), longitude(-180, 180);
  for (std::uint64_t key = 0; key < 500; ++key) index.insert(key, {latitude(random), longitude(random)}, 100'000);
  for (std::uint64_t key = 0; key < 500; ++key) EXPECT_TRUE(index.erase(key));
  EXPECT_FALSE(index.erase(7));
  EXPECT_EQ(index.size(), 0U);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(found_at(index, {latitude(random), longitude(random)}).empty());
}

TEST(AreaIndexTest, AHundredThousandCostAPointLittle) {
  AreaIndex index;
  std::mt19937 random(5);
  // Around Bangkok, two kilometres each: a point lies in some forty of them.
  std::uniform_real_distribution<double> offset(-0.9, 0.9);
  for (std::uint64_t key = 0; key < 100'000; ++key) {
    index.insert(key, {13.75 + offset(random), 100.5 + offset(random)}, 2000);
  }
  std::size_t hits = 0;
  std::vector<std::uint64_t> found;
  const auto began = std::chrono::steady_clock::now();
  constexpr int points = 2000;
  for (int i = 0; i < points; ++i) {
    found.clear();
    index.find({13.75 + offset(random), 100.5 + offset(random)}, found);
    hits += found.size();
  }
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
  std::printf("%.1f us a point, %.1f areas hit\n", took.count() / points, static_cast<double>(hits) / points);
  EXPECT_GT(hits, 10U * points);
  EXPECT_LT(hits, 100U * points);
}

class AlertNews : public WorldTest {};

TEST_F(AlertNews, StrangersAndSidesSeeWhatIsTheirs) {
  const Person seeker = world().person(), helper = world().person();
  const std::string id = world().post_gig(seeker, {{"address_text", "Soi 4"}, {"title", "Carry a piano"}});
  const auto read = [&] {
    auto news = world().wait(gigs::read_news(world().desk().database.reads(), {parse_uuid(id).value(), make_uuid()}));
    EXPECT_EQ(news.size(), 1U);
    return std::move(news.at(0));
  };
  const gigs::News open = read();
  EXPECT_FALSE(open.expired);
  EXPECT_NE(std::find(open.terms.begin(), open.terms.end(), "piano"), open.terms.end());
  EXPECT_EQ(open.own_view.address_text, "Soi 4");
  EXPECT_FALSE(open.open_view.address_text.has_value());
  const Answer to_stranger = world().get("/api/gigs/" + id, helper.token);
  const Answer to_owner = world().get("/api/gigs/" + id, seeker.token);
  EXPECT_EQ(open.open_view.latitude, to_stranger.number_at("/latitude"));
  EXPECT_EQ(open.own_view.latitude, to_owner.number_at("/latitude"));
  EXPECT_NE(open.own_view.latitude, open.open_view.latitude);
  ASSERT_EQ(world().post("/api/gigs/" + id + "/accept", "", helper.token).status, 200);
  const gigs::News taken = read();
  EXPECT_EQ(taken.own_view.helper.value().id, helper.id);
  EXPECT_EQ(taken.own_view.version, open.own_view.version + 1);
  // Each change is an event of the outbox, in order.
  EXPECT_EQ(world().sql("SELECT string_agg(number::text, ',' ORDER BY id) FROM outbox WHERE kind = 'gig.changed' "
                        "AND topic = $1::uuid",
                        {id}),
            "1,2");
}

TEST_F(AlertNews, ABlockCountsForBothWhoeverMadeIt) {
  const Person one = world().person(), two = world().person(), three = world().person();
  world().sql("INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1::uuid, $2::uuid), ($3::uuid, $1::uuid)",
              {to_string(one.id), to_string(two.id), to_string(three.id)});
  std::set<Uuid> others;
  for (const auto& pair : world().wait(users::blocks_of(world().desk().database.reads(), {one.id}))) {
    EXPECT_EQ(pair.user_id, one.id);
    others.insert(pair.other_id);
  }
  EXPECT_EQ(others, (std::set<Uuid>{two.id, three.id}));
}

}  // namespace
}  // namespace hourz::harness
