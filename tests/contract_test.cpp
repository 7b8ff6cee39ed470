// What is promised of every endpoint, made from the list of endpoints itself: the committed document, who may call
// what, and what a stranger finds behind an id. A new endpoint that takes an id fails here until its line stands in the
// table.
#include <fstream>
#include <set>
#include <sstream>

#include "harness/harness.hpp"
#include "http/openapi.hpp"

namespace hourz::harness {
namespace {

using http::Access;
using http::Endpoint;
using http::Method;

class Contract : public WorldTest {
 protected:
  /// The path with every `{…}` replaced.
  static std::string target_of(const Endpoint& endpoint, const std::string& id) {
    std::string path(endpoint.path);
    for (auto open = path.find('{'); open != std::string::npos; open = path.find('{')) {
      path.replace(open, path.find('}') - open + 1, id);
    }
    return path;
  }
  static Answer call(const Endpoint& endpoint, const std::string& id, Fields fields, Sent body = {}) {
    return world().send({endpoint.method, target_of(endpoint, id), std::move(body), {}, std::move(fields)});
  }
  static Fields bearer(const std::string& token) { return {{"authorization", "Bearer " + token}}; }
};

TEST_F(Contract, TheCommittedDocumentsAreTheGeneratedOnes) {
  const auto committed = [](const std::string& name) {
    std::ifstream file(HOURZ_SOURCE_DIRECTORY "/docs/" + name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  };
  EXPECT_TRUE(committed("openapi.json") == world().house().openapi())
      << "docs/openapi.json is not what the endpoints say; make it anew with: hourz openapi > docs/openapi.json";
  EXPECT_TRUE(committed("asyncapi.json") == world().house().asyncapi())
      << "docs/asyncapi.json is not what the events say; make it anew with: hourz asyncapi > docs/asyncapi.json";
  EXPECT_TRUE(committed("errors.md") == world().house().errors())
      << "docs/errors.md is not what the table of errors says; make it anew with: hourz errors > docs/errors.md";
}

/// P04.
TEST_F(Contract, EveryEndpointIsInTheDocumentAndTheReverse) {
  const auto document = http::openapi_document(world().house().router);
  std::set<std::string> declared, bound;
  for (const auto& path : document.at("paths").as_object()) {
    for (const auto& operation : path.value().as_object()) {
      declared.insert(std::string(operation.key()) + " " + std::string(path.key()));
      EXPECT_TRUE(operation.value().as_object().contains("security")) << path.key();
    }
  }
  for (const auto& one : world().house().router.endpoints()) {
    std::string method(http::to_text(one->endpoint->method));
    for (char& c : method) c = static_cast<char>(std::tolower(c));
    bound.insert(method + " " + std::string(one->endpoint->path));
    // Whatever may be refused for want of room says so.
    if (one->endpoint->rate == http::RateClass::standard) {
      const auto& answers = document.at("paths").at(one->endpoint->path).at(method).at("responses");
      const auto words = json::value_to<std::string>(answers.at("503").at("description"));
      EXPECT_NE(words.find("`overloaded`"), std::string::npos) << one->endpoint->name;
    }
    if (one->endpoint->method == Method::put) bound.insert("patch " + std::string(one->endpoint->path));
  }
  EXPECT_EQ(declared, bound);
}

TEST_F(Contract, NamesSummariesAndPathParametersAreSound) {
  std::set<std::string_view> names;
  for (const auto& bound : world().house().router.endpoints()) {
    const Endpoint& endpoint = *bound->endpoint;
    EXPECT_TRUE(names.insert(endpoint.name).second) << endpoint.name << " twice";
    EXPECT_NE(endpoint.name.find('.'), std::string_view::npos) << endpoint.name;
    EXPECT_FALSE(endpoint.summary.empty()) << endpoint.name;
    EXPECT_FALSE(endpoint.path.ends_with('/')) << endpoint.path;
    std::set<std::string> in_path, in_handler;
    const std::string path(endpoint.path);
    for (auto open = path.find('{'); open != std::string::npos; open = path.find('{', open + 1)) {
      in_path.insert(path.substr(open + 1, path.find('}', open) - open - 1));
    }
    reflect::SchemaBook book;
    for (const auto& [name, schema] : bound->describe(book).path_parameters) in_handler.insert(name);
    EXPECT_EQ(in_path, in_handler) << endpoint.name;
    if (endpoint.effect == http::Effect::read) {
      EXPECT_EQ(endpoint.method, Method::get) << endpoint.name;
    } else {
      EXPECT_NE(endpoint.method, Method::get) << endpoint.name << " changes something on GET";
    }
  }
  EXPECT_GE(names.size(), 35U);
}

TEST_F(Contract, WithoutAGoodTokenNothingIsToBeHad) {
  const Person someone = world().person();
  const Uuid ended = world().session_for(someone.id);
  world().sql("UPDATE sessions SET ended_at = now() WHERE id = $1::uuid", {to_string(ended)});
  const Uuid outlived = world().session_for(someone.id);
  world().sql("UPDATE sessions SET expires_at = now() - interval '1 s' WHERE id = $1::uuid", {to_string(outlived)});
  const Person other = world().person();
  Config foreign = test_config();
  foreign.secret = std::string(48, 'z');
  const std::int64_t now_s = now().microseconds / 1'000'000;
  const auth::Tokens& tokens = world().house().tokens;
  const std::string good = someone.token;

  struct Case {
    std::string what;
    Fields fields;
    std::string code;
  };
  const std::vector<Case> cases{
      {"none", {}, "unauthenticated"},
      {"another scheme", {{"authorization", "Basic eDp5"}}, "unauthenticated"},
      {"no scheme", {{"authorization", good}}, "unauthenticated"},
      {"empty", {{"authorization", "Bearer "}}, "token_invalid"},
      {"malformed", bearer("a.b.c"), "token_invalid"},
      {"cut", bearer(good.substr(0, good.size() - 1)), "token_invalid"},
      {"expired", bearer(tokens.make_access({someone.id, someone.session, now_s - 1000, now_s - 100})),
       "token_expired"},
      {"foreign key", bearer(auth::Tokens(foreign).make_access({someone.id, someone.session, now_s, now_s + 900})),
       "token_invalid"},
      {"refresh token", bearer(tokens.make_refresh({someone.session, 1})), "token_invalid"},
      {"ended session", bearer(world().token_for(someone.id, ended)), "session_ended"},
      {"outlived session", bearer(world().token_for(someone.id, outlived)), "session_ended"},
      {"no such session", bearer(world().token_for(someone.id, make_uuid())), "session_ended"},
      {"another's session", bearer(world().token_for(someone.id, other.session)), "session_ended"},
  };
  int guarded = 0;
  for (const auto& bound : world().house().router.endpoints()) {
    const Endpoint& endpoint = *bound->endpoint;
    if (endpoint.access == Access::anyone) continue;
    ++guarded;
    for (const Case& one : cases) {
      const Answer answer = call(endpoint, to_string(make_uuid()), one.fields);
      EXPECT_EQ(answer.status, 401) << endpoint.name << " with " << one.what;
      EXPECT_EQ(answer.code(), one.code) << endpoint.name << " with " << one.what;
    }
    // A token in the address is not looked at.
    const Answer in_address = world().send({endpoint.method, target_of(endpoint, "x") + "?access_token=" + good});
    EXPECT_EQ(in_address.status, 401) << endpoint.name;
  }
  EXPECT_GE(guarded, 25);
}

/// The safe fields, each once, and those that let a listed page read the answer.
void expect_dressed(const Answer& answer, const std::string& what, bool listed) {
  const std::pair<const char*, const char*> safe[] = {
      {"X-Content-Type-Options", "nosniff"}, {"Referrer-Policy", "no-referrer"},
      {"X-Frame-Options", "DENY"},           {"Content-Security-Policy", "default-src 'none'"},
      {"Cross-Origin-Resource-Policy", ""},  {"Cache-Control", ""},
      {"Permissions-Policy", "camera=()"}};
  for (const auto& [name, value] : safe) {
    EXPECT_NE(answer.header(name), "") << what << ": " << name;
    EXPECT_TRUE(answer.header(name).starts_with(value)) << what << ": " << name;
    EXPECT_EQ(std::count_if(answer.headers.begin(), answer.headers.end(),
                            [name = name](const auto& one) { return one.first == name; }),
              1)
        << what << ": " << name;
  }
  EXPECT_TRUE(std::any_of(answer.headers.begin(), answer.headers.end(), [](const auto& one) {
    return one.first == "Vary" && one.second.starts_with("Origin");
  })) << what;
  EXPECT_EQ(answer.header("Server"), "") << what;
  EXPECT_EQ(answer.header("Access-Control-Allow-Origin"), listed ? "https://app.hourz.test" : "") << what;
  EXPECT_EQ(answer.header("Access-Control-Allow-Credentials"), listed ? "true" : "") << what;
  for (const char* needed : {"RateLimit", "RateLimit-Policy", "Retry-After", "Location", "ETag", "X-Request-Id"}) {
    const std::string granted = ", " + answer.header("Access-Control-Expose-Headers") + ",";
    EXPECT_EQ(granted.find(std::string(", ") + needed + ",") != std::string::npos, listed) << what << ": " << needed;
  }
}

/// C02, C03, C05.
TEST_F(Contract, EveryAnswerIsDressedWhateverItSays) {
  world().restart([](Config& config) {
    config.cors_origins = "https://app.hourz.test";
    config.rate_limit = "on";
  });
  // What a page must be able to read most of all: that it asks too much, that a body is too large, that we are away.
  for (const char* origin : {"https://app.hourz.test", "https://evil.test"}) {
    const bool listed = std::string_view(origin) == "https://app.hourz.test";
    const Fields from{{"origin", origin}};
    const auto login = [&] {
      return world().send({http::Method::post,
                           "/api/auth/login",
                           R"({"email":"a@example.com","password":"nobody is this"})",
                           {},
                           from,
                           listed ? "10.9.0.1" : "10.9.0.2"});
    };
    Answer held_back = login();
    for (int i = 0; i < 10 && held_back.status != 429; ++i) held_back = login();
    EXPECT_EQ(held_back.status, 429);
    expect_dressed(held_back, "429", listed);
    const Answer too_large = world().send({http::Method::post,
                                           "/api/auth/refresh",
                                           std::string(100'000, ' '),
                                           {},
                                           from,
                                           listed ? "10.9.0.3" : "10.9.0.4"});
    EXPECT_EQ(too_large.status, 413);
    expect_dressed(too_large, "413", listed);
    world().house().system.ready = false;
    const Answer away = world().get("/health/ready", {}, from);
    world().house().system.ready = true;
    EXPECT_EQ(away.status, 503);
    expect_dressed(away, "503", listed);
  }
  world().restart([](Config& config) { config.cors_origins = "https://app.hourz.test"; });
  const Person someone = world().person();
  for (const char* origin : {"https://app.hourz.test", "https://evil.test", "null", ""}) {
    const bool listed = std::string_view(origin) == "https://app.hourz.test";
    Fields nobody, known = bearer(someone.token);
    if (*origin != 0) nobody.emplace_back("origin", origin), known.emplace_back("origin", origin);
    for (const auto& bound : world().house().router.endpoints()) {
      const Endpoint& endpoint = *bound->endpoint;
      const std::string what = std::string(endpoint.name) + " from " + origin;
      expect_dressed(call(endpoint, to_string(make_uuid()), nobody), what, listed);
      expect_dressed(call(endpoint, to_string(make_uuid()), known), what + ", logged in", listed);
      Ask preflight{http::Method::options, target_of(endpoint, to_string(make_uuid()))};
      preflight.fields = nobody;
      preflight.fields.emplace_back("access-control-request-method", http::to_text(endpoint.method));
      preflight.fields.emplace_back("access-control-request-headers", "authorization,content-type,x-made-up");
      const Answer granted = world().send(preflight);
      EXPECT_EQ(granted.status, 204) << what;
      expect_dressed(granted, what + ", preflight", listed);
      const std::string methods = granted.header("Access-Control-Allow-Methods");
      EXPECT_EQ(methods, listed ? granted.header("Allow") : "") << what;
      EXPECT_EQ(methods.find(http::to_text(endpoint.method)) != std::string::npos, listed) << what;
      EXPECT_EQ(granted.header("Access-Control-Max-Age"), listed ? "600" : "") << what;
      EXPECT_EQ(granted.header("Access-Control-Allow-Headers").starts_with("Authorization, Content-Type"), listed)
          << what;
      EXPECT_EQ(granted.header("Access-Control-Allow-Headers").find("x-made-up"), std::string::npos) << what;
    }
    for (const char* target : {"/nothing", "/api/gigs/../x"}) {
      expect_dressed(world().get(target, {}, nobody), target, listed);
    }
  }
  // What has a version may be kept, but is asked about; the rest is not kept.
  const Person reader = world().person();
  EXPECT_EQ(world().get("/api/users/me", reader.token).header("Cache-Control"), "private, no-cache");
  EXPECT_EQ(world().get("/api/auth/sessions", reader.token).header("Cache-Control"), "no-store");
  world().restart();
}

TEST_F(Contract, OpenEndpointsAreTheseAndNoOthers) {
  std::set<std::string_view> open;
  for (const auto& bound : world().house().router.endpoints()) {
    if (bound->endpoint->access == Access::anyone) open.insert(bound->endpoint->name);
  }
  const std::set<std::string_view> expected{"system.live",
                                            "system.ready",
                                            "system.health",
                                            "system.metrics",
                                            "system.openapi",
                                            "system.asyncapi",
                                            "system.docs",
                                            "system.docs_file",
                                            "auth.register",
                                            "auth.login",
                                            "auth.refresh",
                                            "auth.password_reset",
                                            "auth.confirm_password_reset",
                                            "auth.verify_email",
                                            "uploads.file",
                                            "uploads.thumbnail"};
  EXPECT_EQ(open, expected);
}

TEST_F(Contract, AdministratorsEndpointsAreForbiddenToUsers) {
  const Person user = world().person();
  int seen = 0;
  for (const auto& bound : world().house().router.endpoints()) {
    const Endpoint& endpoint = *bound->endpoint;
    if (endpoint.access != Access::admin) continue;
    ++seen;
    for (const std::string& id : {to_string(user.id), to_string(make_uuid()), std::string("nonsense")}) {
      const Answer answer = call(endpoint, id, bearer(user.token));
      EXPECT_EQ(answer.status, 403) << endpoint.name;
      EXPECT_EQ(answer.code(), "forbidden") << endpoint.name;
    }
    Ask upper{endpoint.method, target_of(endpoint, to_string(user.id)) + "/"};
    upper.token = user.token;
    upper.fields = {{"x-http-method-override", "GET"}};
    EXPECT_EQ(world().send(upper).status, 403) << endpoint.name;
  }
  EXPECT_GE(seen, 1);
}

TEST_F(Contract, AStrangerMeetsWhatTheTableSays) {
  struct Expected {
    int nothing;  ///< an id that nothing has
    int foreign;  ///< of a thing that belongs to others
  };
  // The gig is accepted: the stranger is none of its two sides.
  const std::map<std::string_view, Expected> table{
      {"users.read", {404, 200}},         {"users.set_reputation", {403, 403}}, {"users.block", {404, 204}},
      {"users.unblock", {404, 204}},      {"auth.end_session", {404, 404}},     {"gigs.read", {404, 200}},
      {"gigs.change", {404, 403}},        {"gigs.cancel", {404, 403}},          {"gigs.accept", {404, 409}},
      {"gigs.withdraw", {404, 403}},      {"gigs.set_status", {404, 403}},      {"gigs.events", {404, 403}},
      {"buddies.read", {404, 404}},       {"buddies.change", {404, 404}},       {"buddies.remove", {404, 404}},
      {"chat.room", {404, 404}},          {"chat.messages", {404, 404}},        {"chat.send", {404, 404}},
      {"chat.mark_read", {404, 404}},     {"reviews.read", {404, 200}},         {"reviews.change", {404, 403}},
      {"reviews.remove", {404, 403}},     {"reviews.of_user", {404, 200}},      {"reviews.of_gig", {404, 200}},
      {"reviews.can_review", {404, 200}}, {"reviews.reputation", {404, 200}},   {"payments.read", {404, 404}},
      {"payments.of_gig", {404, 404}},    {"payments.release", {404, 404}},     {"payments.dispute", {404, 404}},
      {"payments.refund", {403, 403}},    {"payments.split", {403, 403}},       {"uploads.remove", {404, 404}},
      {"uploads.link", {404, 404}},       {"admin.read_report", {403, 403}},    {"admin.resolve_report", {403, 403}},
      {"admin.read_user", {403, 403}},    {"admin.suspend", {403, 403}},        {"admin.restore", {403, 403}},
      {"admin.own_report", {404, 404}},
  };
  const std::map<std::string_view, Sent> bodies{
      {"users.set_reputation", R"({"score":1,"reason":"no"})"},
      {"gigs.change", R"({"title":"Mine now"})"},
      {"gigs.set_status", R"({"status":"IN_PROGRESS"})"},
      {"buddies.change", R"({"notes":"Mine now"})"},
      {"chat.send", R"({"content":"Hello"})"},
      {"chat.mark_read", R"({"seq":1})"},
      {"reviews.change", R"({"rating":1})"},
      {"payments.dispute", R"({"reason":"Mine now"})"},
      {"payments.split", R"({"payee_amount":1})"},
  };
  const Person seeker = world().person("Seeker");
  const Person helper = world().person("Helper");
  const Person stranger = world().person("Stranger");
  const std::string gig = world().post_gig(seeker);
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, helper.token).status, 200);
  const std::string room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  ASSERT_EQ(world().post("/api/buddies", {{"buddy_id", to_string(helper.id)}}, seeker.token).status, 201);
  const std::string done = world().post_gig(seeker);
  ASSERT_EQ(world().post("/api/gigs/" + done + "/accept", {}, helper.token).status, 200);
  for (const char* status : {"IN_PROGRESS", "COMPLETED"}) {
    ASSERT_EQ(world().put("/api/gigs/" + done + "/status", {{"status", status}}, seeker.token).status, 200);
  }
  const Answer review = world().post("/api/reviews", {{"gig_id", done}, {"rating", 4}}, seeker.token);
  ASSERT_EQ(review.status, 201) << review.text;
  const std::string upload = world().sql(
      "INSERT INTO uploads (id, owner_id, category, content_type, width, height, size, thumbnail_size, sha256) "
      "VALUES (gen_random_uuid(), $1::uuid, 'CHAT', 'image/png', 1, 1, 1, 1, repeat('0', 64)) RETURNING id::text",
      {to_string(seeker.id)});
  const std::string before = world().get("/api/gigs/" + gig, seeker.token).text;

  const Answer paid = world().post("/api/transactions/escrow", {{"gig_id", gig}}, seeker.token);
  ASSERT_EQ(paid.status, 201) << paid.text;

  const json::object about{{"user_id", to_string(helper.id)}, {"reason", "x"}};
  const Answer report = world().post("/api/reports", about, seeker.token);
  ASSERT_EQ(report.status, 201) << report.text;

  std::set<std::string_view> met;
  for (const auto& bound : world().house().router.endpoints()) {
    const Endpoint& endpoint = *bound->endpoint;
    if (endpoint.path.find('{') == std::string_view::npos || endpoint.access == Access::anyone) continue;
    const auto expected = table.find(endpoint.name);
    if (expected == table.end()) {
      ADD_FAILURE() << endpoint.name << " takes an id and has no line in the table";
      continue;
    }
    met.insert(endpoint.name);
    const std::string id = endpoint.name.starts_with("gigs.")        ? gig
                           : endpoint.name.starts_with("chat.")      ? room
                           : endpoint.name.starts_with("uploads.")   ? upload
                           : endpoint.name == "admin.own_report"     ? report.string_at("/id")
                           : endpoint.name.starts_with("users.")     ? to_string(seeker.id)
                           : endpoint.path.starts_with("/api/users") ? to_string(seeker.id)
                           : endpoint.name == "reviews.of_user"      ? to_string(helper.id)
                           : endpoint.name == "payments.of_gig"      ? gig
                           : endpoint.name.starts_with("payments.")  ? paid.string_at("/id")
                           : endpoint.path.ends_with("{gig_id}")     ? done
                           : endpoint.name.starts_with("reviews.")   ? review.string_at("/id")
                           : endpoint.name.starts_with("buddies.")   ? to_string(helper.id)
                                                                     : to_string(seeker.session);
    const auto body = bodies.find(endpoint.name);
    const Sent sent = body == bodies.end() ? Sent{} : body->second;
    const std::string absent = to_string(make_uuid());
    const Answer nothing = call(endpoint, absent, bearer(stranger.token), sent);
    const Answer foreign = call(endpoint, id, bearer(stranger.token), sent);
    EXPECT_EQ(nothing.status, expected->second.nothing) << endpoint.name;
    EXPECT_EQ(foreign.status, expected->second.foreign) << endpoint.name;
    // An id that cannot be one, and one in capitals, are no way around.
    const int nonsense = call(endpoint, "not-an-id", bearer(stranger.token), sent).status;
    EXPECT_TRUE(nonsense == 404 || nonsense == 422 || nonsense == 403) << endpoint.name << " " << nonsense;
    std::string capitals = id;
    for (char& c : capitals) c = static_cast<char>(std::toupper(c));
    EXPECT_EQ(call(endpoint, capitals, bearer(stranger.token), sent).status, expected->second.foreign) << endpoint.name;
    // A block would hide what comes after it.
    world().sql("DELETE FROM blocks");
    if (foreign.status == 404) {
      // Not there and not yours look the same but for what names the request.
      json::object one = nothing.body.as_object(), two = foreign.body.as_object();
      for (json::object* problem : {&one, &two}) {
        problem->erase("request_id");
        problem->erase("instance");
      }
      EXPECT_EQ(one, two) << endpoint.name;
    }
  }
  EXPECT_EQ(met.size(), table.size());
  EXPECT_EQ(world().get("/api/gigs/" + gig, seeker.token).text, before);
  EXPECT_EQ(world().get(paid.header("Location"), seeker.token).text, paid.text);
  EXPECT_EQ(world().get("/api/auth/me", seeker.token).status, 200);
  EXPECT_EQ(world().get(review.header("Location"), seeker.token).text, review.text);
  EXPECT_TRUE(world().get("/api/buddies/" + to_string(helper.id), seeker.token).at("/notes").is_null());
}

TEST_F(Contract, SuspendedPeopleAreOut) {
  const Person someone = world().person();
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(someone.id)});
  for (const auto& bound : world().house().router.endpoints()) {
    if (bound->endpoint->access == Access::anyone) continue;
    const Answer answer = call(*bound->endpoint, to_string(make_uuid()), bearer(someone.token));
    EXPECT_EQ(answer.code(), "account_suspended") << bound->endpoint->name;
  }
}

TEST_F(Contract, EveryPathAnswersOtherMethodsWithAllow) {
  const Person user = world().person();
  for (const auto& bound : world().house().router.endpoints()) {
    const std::string path = target_of(*bound->endpoint, to_string(make_uuid()));
    for (const Method method : {Method::get, Method::post, Method::put, Method::patch, Method::del}) {
      if (world().house().router.find(method, path).bound != nullptr) continue;
      const Answer answer = world().send({method, path, {}, user.token});
      EXPECT_EQ(answer.status, 405) << path;
      EXPECT_NE(answer.header("Allow").find(http::to_text(bound->endpoint->method)), std::string::npos) << path;
    }
    const Answer options = world().send({Method::options, path});
    EXPECT_EQ(options.status, 204) << path;
    EXPECT_NE(options.header("Allow").find("OPTIONS"), std::string::npos) << path;
    EXPECT_EQ(world().send({Method::other, path}).status, 501) << path;
  }
}

TEST_F(Contract, PathsHaveOneSpellingButForTheSlashAtTheEnd) {
  const Person user = world().person();
  EXPECT_EQ(world().get("/api/users/me/", user.token).status, 200);
  EXPECT_EQ(world().get("/api/gigs/", user.token).status, 200);
  for (const char* path :
       {"/api/users/./me", "/api/gigs/../users/me", "/api/gigs/%2e%2e/users/me", "//api/users/me", "/api//users/me",
        "/api/users/me;x=1", "/API/users/me", "/api/users/me%00", "/api/users/me.", "/api/users/me//",
        "/api/users%2fme", "/api/users/ME", "/", "", "*", "/api", "/api/users/%ff", "/api/users/%zz"}) {
    const int status = world().get(path, user.token).status;
    EXPECT_TRUE(status == 404 || status == 400 || status == 422) << path << " " << status;
  }
}

}  // namespace
}  // namespace hourz::harness
