// A whole house on a throwaway PostGIS, for tests of rooms and contract: requests go through the real router, pipeline
// and database, only the sockets are missing.
//
// One private cluster a process (copied from HOURZ_TEST_CLUSTER_TEMPLATE when there is one), a fresh migrated database
// a World. Every exchange is held against the house's own OpenAPI document at once, and a fault fails the test; a
// sample of them and the names of all statements executed are left in HOURZ_TEST_RECORDS for the checks at the end of a
// run. People are put into the database directly, since a password hash is slow; login itself is tested in the auth
// room.
#pragma once
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/house.hpp"
#include "app/jobs.hpp"
#include "db/session.hpp"

namespace hourz::harness {

namespace json = boost::json;
using db::Awaitable;
using Fields = std::vector<std::pair<std::string, std::string>>;

/// Text as it is, or JSON to be written.
struct Sent {
  using Members = std::initializer_list<std::pair<json::string_view, json::value_ref>>;
  std::string text;
  Sent() = default;
  Sent(const char* raw) : text(raw) {}                               // NOLINT: tests write literals
  Sent(std::string raw) : text(std::move(raw)) {}                    // NOLINT
  Sent(const json::object& value) : text(json::serialize(value)) {}  // NOLINT
  Sent(Members members) : text(json::serialize(json::object(members))) {}
};

/// One request. JSON unless `fields` names a content-type.
struct Ask {
  http::Method method = http::Method::get;
  std::string target;
  Sent body = {};
  std::string token = {};
  Fields fields = {};  ///< names in lower case
  std::string peer = "127.0.0.1";
};

struct Answer {
  int status = 0;
  Fields headers;
  std::string text;
  json::value body;  ///< null when there is none

  std::string header(std::string_view name) const;  ///< in any case; empty when it is not there
  /// The `code` of a problem, else nothing.
  std::string code() const;
  /// `field:code` of each fault of a 422, sorted.
  std::vector<std::string> faults() const;
  const json::value& at(std::string_view pointer) const { return body.at_pointer(pointer); }
  std::string string_at(std::string_view pointer) const { return std::string(at(pointer).as_string()); }
  double number_at(std::string_view pointer) const { return at(pointer).to_number<double>(); }
};

struct Person {
  Uuid id;
  std::string email;
  Uuid session;
  std::string token;
};

class World {
 public:
  /// `adjust` changes the settings before the house is built.
  explicit World(const std::function<void(Config&)>& adjust = {});
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  app::House& house() { return *house_; }
  app::Desk& desk() { return *desk_; }
  boost::asio::io_context& io() { return io_; }
  /// Where the house keeps pictures.
  const std::filesystem::path& files() const { return files_; }
  std::string app_url() const;
  std::string owner_url() const;

  /// A new process, so to speak: the same database and secrets, nothing else kept.
  void restart(const std::function<void(Config&)>& adjust = {});

  Answer send(Ask ask);
  /// All under way together; answers in the order of the asks.
  std::vector<Answer> send_all(std::vector<Ask> asks);
  Answer get(std::string target, std::string token = {}, Fields fields = {});
  Answer post(std::string target, Sent body, std::string token = {}, Fields fields = {});
  Answer put(std::string target, Sent body, std::string token = {}, Fields fields = {});
  Answer del(std::string target, std::string token = {}, Fields fields = {});

  /// Somebody with a session of their own. Unless named, the email is a fresh one.
  Person person(const std::string& name = "Somebody", const std::string& email = {});
  Person admin();
  std::string token_for(const Uuid& user, const Uuid& session);
  Uuid session_for(const Uuid& user);

  /// A gig body that is valid; `change` sets members, null ones too.
  static json::object gig_body(const json::object& change = {});
  /// Posts a gig and gives its id back.
  std::string post_gig(const Person& seeker, const json::object& change = {});

  /// No gig is left, nor what other rooms keep of them; the map's counts follow.
  void clear_gigs();

  /// As the superuser, past all rules but the schema's. First column of the first row.
  std::string sql(const std::string& text, const std::vector<std::string>& parameters = {});
  db::Session::Rows rows(const std::string& text, const std::vector<std::string>& parameters = {});

  /// Runs the loop until `done` or the time is over.
  bool until(const std::function<bool()>& done, std::chrono::milliseconds limit = std::chrono::seconds(60));

  template <class T>
  T wait(Awaitable<T> awaitable) {
    std::optional<T> value;
    std::exception_ptr failure;
    bool done = false;
    boost::asio::co_spawn(io_, std::move(awaitable), [&](std::exception_ptr e, T v) {
      failure = e;
      value.emplace(std::move(v));
      done = true;
    });
    if (!until([&] { return done; })) throw std::runtime_error("no answer within a minute");
    if (failure) std::rethrow_exception(failure);
    return std::move(*value);
  }
  void wait(Awaitable<void> awaitable);

 private:
  void build(const std::function<void(Config&)>& adjust);

  std::string database_;
  std::filesystem::path files_;
  boost::asio::io_context io_{1};
  std::unique_ptr<app::House> house_;
  std::unique_ptr<app::Desk> desk_;
  std::unique_ptr<db::Session> session_;
  int people_ = 0;
};

/// Another server's jobs on a World's database, with one kind of timer.
class Runner {
 public:
  Runner(World& world, const std::string& kind, app::Jobs::Timer work);
  /// Once what is under way has ended.
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

 private:
  World& world_;
  db::Client client_;

 public:
  app::Jobs jobs;
};

/// The settings that tests run with: cheap hashes, no rate limits, patient timeouts.
Config test_config();

/// One World for all tests of a suite.
class WorldTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { world_ = std::make_unique<World>(); }
  static void TearDownTestSuite() { world_.reset(); }
  static World& world() { return *world_; }
  static inline std::unique_ptr<World> world_;
};

/// Notes a statement as executed, for databases that a test opens itself.
void record_statements(db::Client& client);
/// The same for one that a server of its own executed.
void record_statement(const std::string& name);

/// The superuser's connection string of a database of this process's cluster; makes the cluster when it is first asked.
std::string superuser_url(const std::string& database);

/// A fresh database with the schema; its name.
std::string make_database();
void drop_database(const std::string& name);

/// Makes the prepared cluster that processes copy, with the schema already applied to its database `hourz_migrated`.
void make_template(const std::string& directory);

}  // namespace hourz::harness
