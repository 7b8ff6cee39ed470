// The arrows of docs/architecture.md, held against every #include: core <- reflect <- {db, redis, storage, mail, http}
// <- realtime
// <- rooms <- app, {http, realtime} <- net <- app, Beast in src/net alone, and between rooms users < {auth, buddies,
// uploads, chat} < gigs < {alerts, reviews, payments} by their faces only.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace hourz {
namespace {

namespace fs = std::filesystem;

const fs::path source = fs::path(HOURZ_SOURCE_DIRECTORY) / "src";

struct Include {
  std::string file;    ///< relative to src
  std::string target;  ///< as written
  bool quoted;
};

std::vector<Include> includes() {
  std::vector<Include> all;
  const std::regex line_of(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
  for (const auto& entry : fs::recursive_directory_iterator(source)) {
    const std::string extension = entry.path().extension();
    if (extension != ".hpp" && extension != ".cpp") continue;
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) {
      std::smatch match;
      if (std::regex_search(line, match, line_of)) {
        all.push_back({fs::relative(entry.path(), source).string(), match[2], match[1] == "\""});
      }
    }
  }
  return all;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }
std::string room_of(const std::string& path) {
  const auto start = path.find('/') + 1;
  return path.substr(start, path.find('/', start) - start);
}
bool is_test(const std::string& file) { return file.ends_with("_test.cpp"); }

TEST(Layering, FoldersIncludeOnlyWhatLiesBelow) {
  const std::map<std::string, std::set<std::string>> allowed{
      {"core", {"core"}},
      {"reflect", {"core", "reflect"}},
      {"db", {"core", "db"}},
      {"redis", {"core", "redis"}},
      {"storage", {"core", "storage"}},
      {"mail", {"core", "mail"}},
      {"http", {"core", "reflect", "db", "redis", "http"}},
      {"realtime", {"core", "reflect", "db", "redis", "http", "realtime"}},
      {"net", {"core", "http", "realtime", "net"}},
      {"demo", {"core", "demo"}},
      {"rooms", {"core", "reflect", "db", "storage", "mail", "http", "realtime", "rooms"}},
      {"app", {"core", "reflect", "db", "storage", "mail", "http", "realtime", "net", "rooms", "demo", "app"}},
  };
  int seen = 0;
  for (const Include& one : includes()) {
    const std::string from = folder_of(one.file);
    if (!one.quoted || from == one.file || is_test(one.file)) continue;  // main.cpp sees everything
    if (one.target.ends_with("_sql.hpp")) {
      EXPECT_TRUE(from == "rooms" || from == "http" || from == "realtime" || from == "app")
          << one.file << " includes " << one.target;
      continue;
    }
    ASSERT_TRUE(allowed.contains(from)) << "a folder without arrows: " << from;
    EXPECT_TRUE(allowed.at(from).contains(folder_of(one.target))) << one.file << " includes " << one.target;
    ++seen;
  }
  EXPECT_GT(seen, 100);
}

TEST(Layering, RoomsSeeOnlyTheFacesOfLowerRooms) {
  const std::vector<std::string> order{"users",  "auth",    "buddies",  "uploads", "chat",   "gigs",
                                       "alerts", "reviews", "payments", "admin",   "account"};
  const auto rank = [&](const std::string& room) {
    return std::find(order.begin(), order.end(), room) - order.begin();
  };
  for (const auto& entry : fs::directory_iterator(source / "rooms")) {
    if (!entry.is_directory()) continue;
    const std::string room = entry.path().filename();
    EXPECT_LT(rank(room), static_cast<std::ptrdiff_t>(order.size())) << "a room without a place in the order: " << room;
    EXPECT_TRUE(fs::exists(entry.path() / (room + ".hpp"))) << room << " has no face";
    // Alerts keep nothing in the database, accounts what the others keep.
    EXPECT_TRUE(room == "alerts" || room == "account" || fs::exists(entry.path() / (room + ".sql")))
        << room << " has no statements";
  }
  for (const Include& one : includes()) {
    const bool of_room = one.quoted && folder_of(one.target) == "rooms";
    if (!of_room || is_test(one.file)) continue;
    const std::string to = room_of(one.target);
    const bool face = one.target == "rooms/" + to + "/" + to + ".hpp";
    if (folder_of(one.file) == "rooms") {
      const std::string from = room_of(one.file);
      if (from == to) continue;
      EXPECT_TRUE(face) << one.file << " includes " << one.target;
      EXPECT_LT(rank(to), rank(from)) << one.file << " includes " << one.target;
    } else {
      // The composition root gives each shard a room's live half as well.
      const bool floor = one.file.starts_with("app/") && one.target == "rooms/" + to + "/floor.hpp";
      EXPECT_TRUE(face || floor) << one.file << " includes " << one.target;
    }
  }
}

TEST(Layering, BeastStaysInNet) {
  for (const Include& one : includes()) {
    if (one.target.starts_with("boost/beast")) EXPECT_EQ(folder_of(one.file), "net") << one.file;
    if (one.target.starts_with("libpq")) {
      const std::string folder = folder_of(one.file);
      EXPECT_TRUE(folder == "db" || folder == "demo" || folder == "main.cpp") << one.file;
    }
  }
}

TEST(Layering, AStatementsTextIsMadeFromTheRoomsSqlFileOnly) {
  // No SQL is put together at run time: outside of db, demo and tests no source holds a verb of SQL in a string.
  const std::regex verb(R"re("\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s[^"]*")re");
  for (const auto& entry : fs::recursive_directory_iterator(source)) {
    const std::string file = fs::relative(entry.path(), source);
    const std::string folder = folder_of(file);
    if (!file.ends_with(".cpp") && !file.ends_with(".hpp")) continue;
    if (folder == "db" || folder == "demo" || is_test(file)) continue;
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    EXPECT_FALSE(std::regex_search(text.str(), verb)) << file;
  }
}

TEST(Layering, HeadersSayWhatTheyAreForAndFilesStaySmall) {
  for (const auto& entry : fs::recursive_directory_iterator(source)) {
    const std::string file = fs::relative(entry.path(), source);
    if (!file.ends_with(".cpp") && !file.ends_with(".hpp")) continue;
    std::ifstream in(entry.path());
    std::string first;
    std::getline(in, first);
    if (file.ends_with(".hpp")) EXPECT_TRUE(first.starts_with("// ")) << file;
    int lines = 1;
    for (std::string line; std::getline(in, line);) ++lines;
    if (!is_test(file)) EXPECT_LE(lines, 700) << file;
  }
}

}  // namespace
}  // namespace hourz
