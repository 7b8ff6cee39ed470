#include "harness/harness.hpp"
#include "temporary_folder.hpp"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "db/cluster.hpp"
#include "db/migrations.hpp"
#include "harness/schema_checker.hpp"
#include "rooms/uploads/uploads.hpp"

namespace hourz::harness {
namespace {

namespace fs = std::filesystem;
using http::Method;

constexpr std::string_view template_database = "hourz_migrated";
constexpr int samples_of_each = 40;  ///< exchanges kept of each operation and status, a process

// --- the cluster -----------------------------------------------------------------------------------------------------

std::string owner_url_of(const db::Cluster& cluster, const std::string& database, std::string_view role) {
  std::string url = cluster.superuser_url(database);
  return url.replace(url.find("user=postgres"), 13, "user=" + std::string(role));
}

void migrate_template(const db::Cluster& cluster) {
  db::Session session(cluster.superuser_url());
  if (session.value("SELECT 1::text FROM pg_database WHERE datname = $1", {std::string(template_database)})) return;
  session.execute("CREATE DATABASE " + std::string(template_database) + " OWNER hourz_owner TEMPLATE hourz");
  db::migrate_up(owner_url_of(cluster, std::string(template_database), "hourz_owner"));
}

class TestCluster {
 public:
  TestCluster() {
    folder_ = make_temporary_folder("rooms");
    cluster_ = std::make_unique<db::Cluster>(db::ClusterOptions{
        .directory = folder_, .durable = false, .max_connections = 120, .extra_settings = {"deadlock_timeout=50ms"}});
    cluster_->start();
    migrate_template(*cluster_);
  }
  ~TestCluster() {
    cluster_.reset();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  const db::Cluster& operator*() const { return *cluster_; }

 private:
  fs::path folder_;
  std::unique_ptr<db::Cluster> cluster_;
};

std::unique_ptr<TestCluster>& the_cluster() {
  static std::unique_ptr<TestCluster> cluster;
  return cluster;
}

const db::Cluster& cluster() {
  if (!the_cluster()) the_cluster() = std::make_unique<TestCluster>();
  return **the_cluster();
}

// --- what is recorded ------------------------------------------------------------------------------------------------

struct Records {
  std::set<std::string> statements;
  std::map<std::string, int> kept;
  std::ofstream exchanges;
  fs::path folder;

  Records() {
    if (const char* given = getenv("HOURZ_TEST_RECORDS"); given != nullptr) folder = given;
    if (!folder.empty()) exchanges.open(folder / ("exchanges-" + std::to_string(getpid()) + ".jsonl"));
  }
  void finish() {
    if (folder.empty()) return;
    std::ofstream out(folder / ("statements-" + std::to_string(getpid()) + ".txt"));
    for (const std::string& name : statements) out << name << "\n";
    exchanges.flush();
  }
};

Records& records() {
  static Records all;
  return all;
}

/// Ends the cluster and writes the records when all tests have run.
class Closing final : public ::testing::Environment {
  void TearDown() override {
    the_cluster().reset();
    records().finish();
  }
};

// --- the contract ----------------------------------------------------------------------------------------------------

std::string method_key(Method method) {
  std::string key(http::to_text(method));
  std::transform(key.begin(), key.end(), key.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return key == "head" ? "get" : key;
}

std::string media_type(const std::string& field) { return field.substr(0, field.find(';')); }

/// Holds an exchange against the document and keeps a sample for the check at the end.
void check_exchange(app::House& house, const Ask& ask, const http::Response& response, const Answer& answer) {
  static const json::value document = json::parse(house.openapi());
  static const SchemaChecker checker(document);
  const std::string where = std::string(http::to_text(ask.method)) + " " + ask.target.substr(0, 200) + " -> " +
                            std::to_string(answer.status) + " " + answer.text.substr(0, 400);
  EXPECT_FALSE(answer.header("X-Request-Id").empty()) << where;
  EXPECT_LT(answer.status, 600) << where;
  const auto match = house.router.find(ask.method, ask.target.substr(0, ask.target.find('?')));
  const json::value* schema = nullptr;
  std::string path;
  if (match.bound == nullptr || ask.method == Method::options) {
    if (answer.status >= 400) schema = &document.at_pointer("/components/schemas/Problem");
  } else {
    path = match.bound->endpoint->path;
    const auto& responses =
        document.at("paths").as_object().at(path).as_object().at(method_key(ask.method)).at("responses").as_object();
    const auto* declared = responses.if_contains(std::to_string(answer.status));
    if (declared == nullptr) {
      ADD_FAILURE() << "a status that the document does not declare: " << where;
      return;
    }
    const auto* content = declared->as_object().if_contains("content");
    if (content == nullptr) {
      EXPECT_TRUE(answer.text.empty()) << "a body that the document does not declare: " << where;
    } else if (!content->as_object().contains("*/*")) {
      const auto* type = content->as_object().if_contains(media_type(response.content_type));
      ASSERT_NE(type, nullptr) << "a media type that the document does not declare: " << where;
      schema = &type->as_object().at("schema");
    }
  }
  if (schema != nullptr) {
    for (const std::string& fault : checker.faults_of(*schema, answer.body)) ADD_FAILURE() << fault << "\n" << where;
  }
  if (answer.status == 401) EXPECT_TRUE(answer.header("WWW-Authenticate").starts_with("Bearer")) << where;
  if (answer.status == 405) EXPECT_FALSE(answer.header("Allow").empty()) << where;
  if (answer.status == 429 || answer.status == 503) EXPECT_FALSE(answer.header("Retry-After").empty()) << where;
  if (answer.status == 201)
    EXPECT_TRUE(answer.header("Location").starts_with("/api/") || answer.header("Location").starts_with("/files/"))
        << where;
  if (schema != nullptr && !path.empty() && records().exchanges.is_open()) {
    const std::string key = method_key(ask.method) + " " + path + " " + std::to_string(answer.status);
    if (records().kept[key]++ < samples_of_each) {
      records().exchanges << json::serialize(json::object{{"method", method_key(ask.method)},
                                                          {"path", path},
                                                          {"status", answer.status},
                                                          {"type", media_type(response.content_type)},
                                                          {"body", answer.body}})
                          << "\n";
    }
  }
}

Awaitable<void> exchange(World* world, Ask ask, Answer* out, int* left) {
  http::RequestHead head;
  head.method = ask.method;
  head.method_text = http::to_text(ask.method);
  head.target = ask.target;
  head.peer = ask.peer;
  bool typed = false;
  for (const auto& [name, value] : ask.fields) {
    head.headers.push_back({name, value});
    typed = typed || name == "content-type";
  }
  if (!ask.body.text.empty() && !typed) head.headers.push_back({"content-type", "application/json"});
  if (!ask.token.empty()) head.headers.push_back({"authorization", "Bearer " + ask.token});
  const http::Response response = co_await world->desk().pipeline.handle(std::move(head), ask.body.text);
  out->status = response.status;
  out->headers = response.headers;
  for (const std::string_view block : {response.fixed_headers, response.origin_headers}) {
    for (std::string_view rest = block; !rest.empty(); rest.remove_prefix(rest.find("\r\n") + 2)) {
      const std::string_view line = rest.substr(0, rest.find("\r\n"));
      const auto colon = line.find(": ");
      out->headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
  }
  if (!response.content_type.empty()) out->headers.emplace_back("Content-Type", response.content_type);
  out->text = response.static_body.empty() ? response.body : std::string(response.static_body);
  if (response.source) {
    while (out->text.size() < response.source->size) out->text += co_await response.source->next();
  }
  if (response.content_type.find("json") != std::string::npos && !out->text.empty()) {
    boost::system::error_code error;
    out->body = json::parse(out->text, error);
    if (error) ADD_FAILURE() << "an answer that is not JSON: " << out->text.substr(0, 400);
  }
  check_exchange(world->house(), ask, response, *out);
  --*left;
}

/// 16 KiB and one pass: what a hash costs is tested where it matters.
const std::string& shared_hash() {
  static const std::string hash =
      "$argon2id$v=19$m=16,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
  return hash;
}

}  // namespace

// --- Answer ----------------------------------------------------------------------------------------------------------

std::string Answer::header(std::string_view name) const {
  for (const auto& [known, value] : headers) {
    if (fold_case(known) == fold_case(name)) return value;
  }
  return {};
}

std::string Answer::code() const {
  if (!body.is_object() || !body.get_object().contains("code")) return {};
  return std::string(body.at("code").as_string());
}

std::vector<std::string> Answer::faults() const {
  std::vector<std::string> all;
  if (!body.is_object() || !body.get_object().contains("errors")) return all;
  for (const auto& fault : body.at("errors").as_array()) {
    all.push_back(std::string(fault.at("field").as_string()) + ":" + std::string(fault.at("code").as_string()));
  }
  std::sort(all.begin(), all.end());
  return all;
}

// --- databases -------------------------------------------------------------------------------------------------------

std::string superuser_url(const std::string& database) { return cluster().superuser_url(database); }

std::string make_database() {
  static int count = 0;
  const std::string name = "test_" + std::to_string(++count);
  db::Session(superuser_url("postgres"))
      .execute("CREATE DATABASE " + name + " OWNER hourz_owner TEMPLATE " + std::string(template_database));
  return name;
}

void drop_database(const std::string& name) {
  db::Session(superuser_url("postgres")).execute("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)");
}

void make_template(const std::string& directory) {
  unsetenv("HOURZ_TEST_CLUSTER_TEMPLATE");
  db::Cluster made({.directory = directory, .durable = false});
  made.start();
  migrate_template(made);
  made.stop();
}

void record_statements(db::Client& client) {
  client.observe([](const db::Statement& statement, std::chrono::microseconds, bool failed) {
    if (!failed) records().statements.insert(std::string(statement.name));
  });
}

void record_statement(const std::string& name) { records().statements.insert(name); }

Config test_config() {
  Config config;
  config.secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
  config.rate_limit = "off";
  config.overload_target_ms = 0;
  config.hash_memory_kib = 16;
  config.hash_passes = 1;
  config.hash_threads = 2;
  config.statement_timeout_ms = 20'000;
  config.answer_timeout_ms = 25'000;
  config.pool_timeout_ms = 30'000;
  return config;
}

// --- World -----------------------------------------------------------------------------------------------------------

World::World(const std::function<void(Config&)>& adjust)
    : database_(make_database()), files_(make_temporary_folder("files")) {
  session_ = std::make_unique<db::Session>(superuser_url(database_));
  build(adjust);
}

World::~World() {
  desk_->database.stop();
  io_.restart();
  io_.poll();
  desk_.reset();
  session_.reset();
  house_.reset();
  std::error_code ignored;
  fs::remove_all(files_, ignored);
  drop_database(database_);
}

void World::build(const std::function<void(Config&)>& adjust) {
  Config config = test_config();
  config.files_directory = files_.string();
  if (adjust) adjust(config);
  house_ = std::make_unique<app::House>(std::move(config));
  house_->system.ready = true;
  desk_ = std::make_unique<app::Desk>(*house_, io_, app::database_options(house_->config, app_url(), 1));
  record_statements(desk_->database);
}

void World::restart(const std::function<void(Config&)>& adjust) {
  desk_->database.stop();
  io_.restart();
  io_.poll();
  desk_.reset();
  house_.reset();
  build(adjust);
}

std::string World::app_url() const { return owner_url_of(cluster(), database_, "hourz_app"); }
std::string World::owner_url() const { return owner_url_of(cluster(), database_, "hourz_owner"); }

bool World::until(const std::function<bool()>& done, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    if (io_.stopped()) io_.restart();
    io_.run_one_for(std::chrono::milliseconds(10));
  }
  return true;
}

void World::wait(Awaitable<void> awaitable) {
  std::exception_ptr failure;
  bool done = false;
  boost::asio::co_spawn(io_, std::move(awaitable), [&](std::exception_ptr e) {
    failure = e;
    done = true;
  });
  if (!until([&] { return done; })) throw std::runtime_error("no answer within a minute");
  if (failure) std::rethrow_exception(failure);
}

std::vector<Answer> World::send_all(std::vector<Ask> asks) {
  std::vector<Answer> answers(asks.size());
  int left = static_cast<int>(asks.size());
  for (std::size_t i = 0; i < asks.size(); ++i) {
    boost::asio::co_spawn(io_, exchange(this, std::move(asks[i]), &answers[i], &left), boost::asio::detached);
  }
  if (!until([&] { return left == 0; }, std::chrono::minutes(3)))
    throw std::runtime_error("no answer within three minutes");
  return answers;
}

Answer World::send(Ask ask) {
  std::vector<Ask> one;
  one.push_back(std::move(ask));
  return std::move(send_all(std::move(one)).front());
}

Answer World::get(std::string target, std::string token, Fields fields) {
  return send({Method::get, std::move(target), {}, std::move(token), std::move(fields)});
}
Answer World::post(std::string target, Sent body, std::string token, Fields fields) {
  return send({Method::post, std::move(target), std::move(body), std::move(token), std::move(fields)});
}
Answer World::put(std::string target, Sent body, std::string token, Fields fields) {
  return send({Method::put, std::move(target), std::move(body), std::move(token), std::move(fields)});
}
Answer World::del(std::string target, std::string token, Fields fields) {
  return send({Method::del, std::move(target), {}, std::move(token), std::move(fields)});
}

std::string World::token_for(const Uuid& user, const Uuid& session) {
  const std::int64_t now_s = now().microseconds / 1'000'000;
  return house_->tokens.make_access({user, session, now_s, now_s + 900});
}

Uuid World::session_for(const Uuid& user) {
  const Uuid session = make_uuid();
  sql("INSERT INTO sessions (id, user_id, expires_at) VALUES ($1::uuid, $2::uuid, now() + interval '30 days')",
      {to_string(session), to_string(user)});
  return session;
}

Person World::person(const std::string& name, const std::string& email) {
  Person made;
  made.id = make_uuid();
  made.email = email.empty() ? "person" + std::to_string(++people_) + "@example.com" : email;
  sql("INSERT INTO users (id, email, password_hash, name) VALUES ($1::uuid, $2, $3, $4)",
      {to_string(made.id), made.email, shared_hash(), name});
  made.session = session_for(made.id);
  made.token = token_for(made.id, made.session);
  return made;
}

Person World::admin() {
  Person made = person("An administrator");
  sql("UPDATE users SET role = 'ADMIN' WHERE id = $1::uuid", {to_string(made.id)});
  return made;
}

json::object World::gig_body(const json::object& change) {
  json::object body{{"title", "Clean a room"}, {"description", "One room and a kitchen."},
                    {"duration_hours", 2},     {"budget", 350.5},
                    {"latitude", 13.7563},     {"longitude", 100.5018}};
  for (const auto& pair : change) body[pair.key()] = pair.value();
  return body;
}

std::string World::post_gig(const Person& seeker, const json::object& change) {
  const Answer made = post("/api/gigs", gig_body(change), seeker.token);
  if (made.status != 201) throw std::runtime_error("the gig was refused: " + made.text);
  return made.string_at("/id");
}

db::Session::Rows World::rows(const std::string& text, const std::vector<std::string>& parameters) {
  return session_->execute(text, parameters);
}

Runner::Runner(World& world, const std::string& kind, app::Jobs::Timer work)
    : world_(world),
      client_(world.io(), app::database_options(world.house().config, world.app_url(), 1)),
      jobs(world.io(), client_, world.house().metrics, [] {}) {
  record_statements(client_);
  jobs.on_timer(kind, std::move(work));
}

Runner::~Runner() {
  jobs.stop();
  const auto idle = [this] {
    const auto gauges = client_.gauges();
    return gauges.in_use == 0 && gauges.waiting == 0 && gauges.pipelined_depth == 0;
  };
  EXPECT_TRUE(world_.until([&] { return idle() && world_.io().poll() == 0 && idle(); }));
  client_.stop();
}

void World::clear_gigs() {
  // Whatever refers to gigs and does not go with them, whichever room it belongs to.
  sql(R"(DO $$ DECLARE other regclass; has_rows boolean; BEGIN
    FOR other IN SELECT conrelid::regclass FROM pg_constraint
                 WHERE confrelid = 'gigs'::regclass AND contype = 'f' AND confdeltype = 'a' LOOP
      EXECUTE format('SELECT EXISTS (SELECT FROM %s)', other) INTO has_rows;
      IF has_rows THEN EXECUTE format('TRUNCATE %s CASCADE', other); END IF;
    END LOOP; END $$)");
  sql("DELETE FROM gigs");
}

std::string World::sql(const std::string& text, const std::vector<std::string>& parameters) {
  const auto all = rows(text, parameters);
  return all.empty() || all[0].empty() ? std::string() : all[0][0].value_or("");
}

}  // namespace hourz::harness

int main(int count, char** values) {
  hourz::start_crypto();
  if (count > 1 && values[1] == hourz::uploads::picture_command) {
    hourz::uploads::make_picture_and_exit({values + 2, values + count});
  }
  hourz::log::start("error");
  // `--make-template FOLDER` prepares what the tests of a whole run copy.
  if (count == 3 && std::string_view(values[1]) == "--make-template") {
    hourz::harness::make_template(values[2]);
    hourz::log::stop();
    return 0;
  }
  ::testing::InitGoogleTest(&count, values);
  ::testing::AddGlobalTestEnvironment(new hourz::harness::Closing);
  const int result = RUN_ALL_TESTS();
  hourz::log::stop();
  return result;
}
