// The pipeline on a real database: idempotency keys, problem documents, media types, request ids, headers.
#include "http/pipeline.hpp"

#include <future>
#include <map>
#include <set>

#include "app/server.hpp"
#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

using http::Method;

class Idempotency : public WorldTest {
 protected:
  static Answer create(const Person& who, const std::string& key, const json::object& change = {}) {
    return world().post("/api/gigs", World::gig_body(change), who.token, {{"idempotency-key", key}});
  }
  static std::string gigs_of(const Person& who) {
    return world().sql("SELECT count(*)::text FROM gigs WHERE seeker_id = $1::uuid", {to_string(who.id)});
  }
};

TEST_F(Idempotency, TheSameKeyGivesTheFirstAnswerAgain) {
  const Person ann = world().person();
  const Answer first = create(ann, "key-1");
  ASSERT_EQ(first.status, 201);
  EXPECT_EQ(first.header("Idempotency-Replayed"), "");
  for (int i = 0; i < 3; ++i) {
    const Answer again = create(ann, "key-1");
    EXPECT_EQ(again.status, 201);
    EXPECT_EQ(again.text, first.text);
    EXPECT_EQ(again.header("Location"), first.header("Location"));
    EXPECT_EQ(again.header("Idempotency-Replayed"), "true");
    EXPECT_EQ(again.header("ETag").empty(), first.header("ETag").empty());
  }
  world().restart();
  const std::string token = world().token_for(ann.id, ann.session);
  EXPECT_EQ(world().post("/api/gigs", World::gig_body(), token, {{"idempotency-key", "key-1"}}).text, first.text);
  EXPECT_EQ(gigs_of(ann), "1");
}

/// M05.
TEST_F(Idempotency, AnotherBodyOrPathIsRefusedAndOtherCallersAreApart) {
  const Person ann = world().person(), bob = world().person();
  ASSERT_EQ(create(ann, "shared").status, 201);
  EXPECT_EQ(create(ann, "shared", {{"title", "Another"}}).code(), "idempotency_key_reused");
  EXPECT_EQ(create(ann, "shared", {{"title", "Another"}}).status, 422);
  const std::string gig = world().post_gig(bob);
  EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ann.token, {{"idempotency-key", "shared"}}).code(),
            "idempotency_key_reused");
  const Answer bobs = create(bob, "shared");
  EXPECT_EQ(bobs.status, 201);
  EXPECT_EQ(bobs.header("Idempotency-Replayed"), "");
  EXPECT_EQ(create(ann, "Shared").header("Idempotency-Replayed"), "");  // keys are what they are, in every case
}

TEST_F(Idempotency, WhatIsStillRunningIsSaidAndOneTakesEffect) {
  const Person ann = world().person();
  std::vector<Ask> asks;
  for (int i = 0; i < 16; ++i)
    asks.push_back({Method::post, "/api/gigs", World::gig_body(), ann.token, {{"idempotency-key", "storm"}}});
  std::set<std::string> texts;
  int made = 0;
  for (const Answer& answer : world().send_all(std::move(asks))) {
    if (answer.status == 201) {
      texts.insert(answer.text);
      made += answer.header("Idempotency-Replayed").empty();
    } else {
      EXPECT_EQ(answer.code(), "idempotency_in_progress");
    }
  }
  EXPECT_EQ(made, 1);
  EXPECT_EQ(texts.size(), 1U);
  EXPECT_EQ(gigs_of(ann), "1");
  EXPECT_EQ(create(ann, "storm").text, *texts.begin());
}

/// M07.
TEST_F(Idempotency, AKeyHeldElsewhereIsInProgressUntilItsHolderIsGone) {
  const Person ann = world().person();
  db::Session holder(world().owner_url());
  holder.execute("BEGIN");
  holder.execute("SELECT pg_advisory_xact_lock(hashtextextended($1 || ':' || $2, 20261123))",
                 {to_string(ann.id), "held"});
  const Answer answer = create(ann, "held");
  EXPECT_EQ(answer.status, 409);
  EXPECT_EQ(answer.code(), "idempotency_in_progress");
  holder.execute("ROLLBACK");  // as a crash would: nothing is left behind
  EXPECT_EQ(create(ann, "held").status, 201);
}

/// M07.
TEST_F(Idempotency, RefusalsByTheStateOfThingsAreKeptAndFaultsAreNot) {
  const Person ann = world().person(), bob = world().person();
  const std::string gig = world().post_gig(ann);
  const auto accept = [&](const std::string& id, const std::string& key, const Person& who) {
    return world().post("/api/gigs/" + id + "/accept", {}, who.token, {{"idempotency-key", key}});
  };
  // 409: kept, though the gig is bob's to take again afterwards.
  ASSERT_EQ(accept(gig, "b1", bob).status, 200);
  const Person carl = world().person();
  const Answer refused = accept(gig, "c1", carl);
  EXPECT_EQ(refused.code(), "gig_already_taken");
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/withdraw", {}, bob.token).status, 200);
  const Answer again = accept(gig, "c1", carl);
  EXPECT_EQ(again.code(), "gig_already_taken");
  EXPECT_EQ(again.header("Idempotency-Replayed"), "true");
  EXPECT_EQ(accept(gig, "c2", carl).status, 200);
  // 404: kept.
  const std::string nobody = to_string(make_uuid());
  EXPECT_EQ(accept(nobody, "n", bob).status, 404);
  EXPECT_EQ(accept(nobody, "n", bob).header("Idempotency-Replayed"), "true");
  // 422 and 401: the caller can mend them, so the key stays free.
  EXPECT_EQ(create(bob, "mend", {{"title", "x"}}).status, 422);
  EXPECT_EQ(create(bob, "mend").status, 201);
  EXPECT_EQ(world().post("/api/gigs", World::gig_body(), "bad token", {{"idempotency-key", "mend-2"}}).status, 401);
  EXPECT_EQ(create(bob, "mend-2").status, 201);
  EXPECT_EQ(world().post("/api/gigs", "{", bob.token, {{"idempotency-key", "mend-3"}}).status, 400);
  EXPECT_EQ(create(bob, "mend-3").status, 201);
}

TEST_F(Idempotency, ARefusedStepLeavesNothingButItsAnswer) {
  const Person ann = world().person();
  const std::string gig = world().post_gig(ann);
  const std::string before = world().sql(
      "SELECT (SELECT count(*) FROM gig_events) || ' ' || (SELECT g::text FROM gigs g WHERE id = $1::uuid)", {gig});
  EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ann.token, {{"idempotency-key", "own"}}).code(),
            "own_gig");
  EXPECT_EQ(
      world().sql("SELECT (SELECT count(*) FROM gig_events) || ' ' || (SELECT g::text FROM gigs g WHERE id = $1::uuid)",
                  {gig}),
      before);
}

/// M05.
TEST_F(Idempotency, KeysAreHeldToTheirFormAndLastADay) {
  const Person ann = world().person();
  for (const std::string& wrong : {std::string(), std::string(256, 'k'), std::string("a b"), std::string("a\tb"),
                                   std::string("ключ"), std::string("a\x01")}) {
    EXPECT_EQ(create(ann, wrong).code(), "invalid_idempotency_key") << wrong;
  }
  EXPECT_EQ(create(ann, std::string(255, 'k')).status, 201);
  ASSERT_EQ(create(ann, "old").status, 201);
  world().sql("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second' WHERE key = 'old'");
  const Answer later = create(ann, "old", {{"title", "Another day"}});
  EXPECT_EQ(later.status, 201);
  EXPECT_EQ(later.header("Idempotency-Replayed"), "");
  EXPECT_EQ(create(ann, "old", {{"title", "Another day"}}).header("Idempotency-Replayed"), "true");
}

TEST_F(Idempotency, OnlyPostsThatChangeSomethingTakeAKey) {
  const Person ann = world().person();
  const Fields key{{"idempotency-key", "anything"}};
  EXPECT_EQ(world().get("/api/users/me", ann.token, key).status, 200);
  EXPECT_EQ(world().put("/api/users/me", R"({"bio":"x"})", ann.token, key).status, 200);
  EXPECT_EQ(world().put("/api/users/me", R"({"bio":"y"})", ann.token, key).string_at("/bio"), "y");
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM idempotency_keys WHERE key = 'anything'"), "0");
}

TEST_F(Idempotency, RegisteringTwiceWithAKeyMakesOneAccountAndStoresNoPassword) {
  const json::object body{{"email", "once@example.com"}, {"password", "correct horse staple"}};
  const Answer first = world().post("/api/auth/register", body, {}, {{"idempotency-key", "register-1"}});
  ASSERT_EQ(first.status, 201);
  EXPECT_EQ(world().post("/api/auth/register", body, {}, {{"idempotency-key", "register-1"}}).text, first.text);
  EXPECT_EQ(world().sql("SELECT coalesce(string_agg(k::text, ' '), '') FROM idempotency_keys k").find("staple"),
            std::string::npos);
}

// --- problem documents and headers -----------------------------------------------------------------------------------

class Pipeline : public WorldTest {};

/// E01.
TEST_F(Pipeline, ProblemsAreDocumentsThatShowNothingOfUs) {
  const Person ann = world().person();
  const Answer answer = world().post("/api/gigs", R"({"title":"x"})", ann.token, {{"x-request-id", "my.id_1-2"}});
  EXPECT_EQ(answer.header("Content-Type"), "application/problem+json");
  EXPECT_EQ(answer.header("X-Request-Id"), "my.id_1-2");
  EXPECT_EQ(answer.string_at("/request_id"), "my.id_1-2");
  EXPECT_EQ(answer.string_at("/instance"), "urn:hourz:request:my.id_1-2");
  EXPECT_EQ(answer.string_at("/detail"), answer.string_at("/message"));
  EXPECT_EQ(answer.string_at("/type"), "/docs/errors#validation_failed");
  EXPECT_EQ(answer.at("/status"), 422);
  EXPECT_EQ(answer.faults().size(), 6U);
}

TEST_F(Pipeline, RequestIdsAreSaneOrOurs) {
  for (const std::string& wrong : {std::string(), std::string(65, 'x'), std::string("a b"), std::string("a\"b"),
                                   std::string("é"), std::string("a/b")}) {
    const std::string id = world().get("/health/live", {}, {{"x-request-id", wrong}}).header("X-Request-Id");
    EXPECT_TRUE(parse_uuid(id)) << wrong;
  }
  EXPECT_EQ(world().get("/health/live", {}, {{"x-request-id", std::string(64, 'x')}}).header("X-Request-Id"),
            std::string(64, 'x'));
}

/// E02.
TEST_F(Pipeline, AnUnknownErrorIs500WithoutInternals) {
  const Person ann = world().person();
  // A gig whose category cannot be read as the struct wants it would be one; a table gone is the plainest.
  world().sql("ALTER TABLE gig_events RENAME TO elsewhere");
  const Answer answer = world().post("/api/gigs", World::gig_body(), ann.token);
  world().sql("ALTER TABLE elsewhere RENAME TO gig_events");
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.code(), "internal_error");
  for (const char* word :
       {"gig_events", "relation", "SQLSTATE", "42P01", "ERROR", "libpq", "boost", "std::", "hourz::", "gigs.create"}) {
    EXPECT_EQ(answer.text.find(word), std::string::npos) << word;
  }
  EXPECT_EQ(world().post("/api/gigs", World::gig_body(), ann.token).status, 201);
}

TEST_F(Pipeline, ADeadlineIs503AndThePoolStaysGood) {
  const Person ann = world().person();
  const std::string gig = world().post_gig(ann);
  world().restart([](Config& config) { config.statement_timeout_ms = 200, config.answer_timeout_ms = 400; });
  const std::string token = world().token_for(ann.id, ann.session);
  db::Session blocker(world().owner_url());
  blocker.execute("BEGIN");
  blocker.execute("SELECT 1 FROM gigs WHERE id = $1::uuid FOR UPDATE", {gig});
  for (int i = 0; i < 3; ++i) {
    const Answer answer = world().put("/api/gigs/" + gig, R"({"title":"Blocked"})", token);
    EXPECT_EQ(answer.status, 503) << answer.text;
    EXPECT_FALSE(answer.header("Retry-After").empty());
  }
  blocker.execute("ROLLBACK");
  // At once on a quiet machine; the short timeouts of this test leave a busy one little room.
  EXPECT_TRUE(
      world().until([&] { return world().put("/api/gigs/" + gig, R"({"title":"Free again"})", token).status == 200; },
                    std::chrono::seconds(20)));
  EXPECT_EQ(world().get("/api/gigs/" + gig, token).string_at("/title"), "Free again");
  world().restart();
}

/// Z08: a head may come minutes before its body.
TEST_F(Pipeline, WhoCallsIsAskedAgainOnceTheBodyIsThere) {
  http::Pipeline& pipeline = world().desk().pipeline;
  const std::string body = R"({"name":"Back again","contact_info":{"phone_number":"0812345678"}})";
  for (const bool leaves : {true, false}) {
    const Person ann = world().person("Ann");
    http::RequestHead head;
    head.method = Method::put;
    head.method_text = "PUT";
    head.target = "/api/users/me";
    head.headers = {{"authorization", "Bearer " + ann.token}, {"content-type", "application/json"}};
    head.content_length = body.size();
    http::Admitted admitted = world().wait(pipeline.admit(std::move(head)));
    ASSERT_FALSE(admitted.refusal);
    const Ask end{leaves ? Method::del : Method::post, leaves ? "/api/users/me" : "/api/auth/logout", {}, ann.token};
    ASSERT_LT(world().send(end).status, 300);
    const auto response = world().wait(pipeline.respond(std::move(admitted.admission), body));
    EXPECT_EQ(response.status, 401) << response.body;
    EXPECT_NE(response.body.find("session_ended"), std::string::npos) << response.body;
    EXPECT_EQ(
        world().sql("SELECT name || coalesce(phone_number, '') FROM users WHERE id = $1::uuid", {to_string(ann.id)}),
        leaves ? "Deleted user" : "Ann");
  }
}

/// Guessing tokens is no cheaper than asking with a good one.
TEST_F(Pipeline, RefusedCallersPayToo) {
  world().restart([](Config& config) {
    config.rate_limit = "on";
    config.rate_standard = {5, 60};
  });
  const Person ann = world().person(), gone = world().person(), suspended = world().person();
  ASSERT_LT(world().post("/api/auth/logout", {}, gone.token).status, 300);
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(suspended.id)});
  int network = 0;
  const auto statuses = [&](const std::string& target, const std::string& token) {
    std::map<int, int> seen;
    const std::string peer = "10.77.0." + std::to_string(++network);
    for (int i = 0; i < 9; ++i) ++seen[world().send({Method::get, target, {}, token, {}, peer}).status];
    return seen;
  };
  using Seen = std::map<int, int>;
  EXPECT_EQ(statuses("/api/users/me", ""), (Seen{{401, 5}, {429, 4}}));
  EXPECT_EQ(statuses("/api/users/me", "not.a.token"), (Seen{{401, 5}, {429, 4}}));
  EXPECT_EQ(statuses("/api/users/me", gone.token), (Seen{{401, 5}, {429, 4}}));
  EXPECT_EQ(statuses("/api/users/me", suspended.token), (Seen{{403, 5}, {429, 4}}));
  EXPECT_EQ(statuses("/api/admin/audit-log", ann.token),
            (Seen{{403, 5}, {429, 4}}));  // a caller who is known: by account
  world().restart();
}

TEST_F(Pipeline, MediaTypesAreChecked) {
  const Person ann = world().person();
  const auto send = [&](const std::string& type, const std::string& coding = {}) {
    Fields fields{{"content-type", type}};
    if (!coding.empty()) fields.emplace_back("content-encoding", coding);
    return world().put("/api/users/me", "{}", ann.token, fields);
  };
  for (const char* fine : {"application/json", "Application/JSON", "application/json; charset=utf-8",
                           "application/json;charset=\"UTF-8\"", "application/json ; x=y"}) {
    EXPECT_EQ(send(fine).status, 200) << fine;
  }
  for (const char* wrong :
       {"text/plain", "application/xml", "", "application/jsonx", "application/x-www-form-urlencoded",
        "application/json; charset=utf-16", "application/json; charset=latin1", "multipart/form-data"}) {
    EXPECT_EQ(send(wrong).status, 415) << wrong;
  }
  EXPECT_EQ(send("text/plain").header("Accept-Post"), "application/json");
  EXPECT_EQ(send("application/json", "gzip").status, 415);
  EXPECT_EQ(send("application/json", "identity").status, 200);
}

TEST_F(Pipeline, BodiesAreBoundedAndOnlyWhereTheyBelong) {
  const Person ann = world().person();
  EXPECT_EQ(world().put("/api/users/me", std::string(65'537, ' '), ann.token).status, 413);
  EXPECT_EQ(world().put("/api/users/me", std::string(65'534, ' ') + "{}", ann.token).status, 200);
  const std::string gig = world().post_gig(ann);
  Ask ask{Method::del, "/api/gigs/" + gig, R"({"reason":"x"})"};
  ask.token = ann.token;
  EXPECT_EQ(world().send(ask).faults(), std::vector<std::string>{"reason:unknown_field"});
  ask.body = "{}";
  EXPECT_EQ(world().send(ask).status, 204);
  EXPECT_EQ(world().post("/api/gigs", "", ann.token).status, 415);
  EXPECT_EQ(world().post("/api/gigs", "", ann.token, {{"content-type", "application/json"}}).code(), "malformed_json");
}

TEST_F(Pipeline, EveryAnswerCarriesItsSafeHeaders) {
  const Person ann = world().person();
  http::RequestHead head;
  head.method = Method::get;
  head.method_text = "GET";
  head.target = "/api/users/me";
  head.headers.push_back({"authorization", "bEaReR " + ann.token});
  const auto response = world().wait(world().desk().pipeline.handle(head, ""));
  EXPECT_EQ(response.status, 200);
  for (const char* line : {"X-Content-Type-Options: nosniff", "Cache-Control: private, no-cache",
                           "Content-Security-Policy: default-src 'none'", "Referrer-Policy: no-referrer"}) {
    EXPECT_NE(response.fixed_headers.find(line), std::string_view::npos) << line;
  }
  const Answer docs = world().get("/docs");
  EXPECT_NE(docs.header("Content-Security-Policy").find("default-src 'none'; script-src 'self'; style-src 'self'"),
            std::string::npos);
  EXPECT_EQ(world().get("/docs", {}, {{"if-none-match", docs.header("ETag")}}).status, 304);
}

TEST_F(Pipeline, WhatIsTooMuchIsRefusedAtOnceAndHasNoEffect) {
  world().restart([](Config& config) { config.overload_target_ms = 200; });
  const Person ann = world().person();
  for (const Method method : {Method::get, Method::post}) {
    std::vector<Ask> asks;
    for (int i = 0; i < 600; ++i) {
      Ask ask{method, method == Method::get ? "/api/users/me" : "/api/gigs"};
      if (method == Method::post) ask.body = World::gig_body();
      ask.token = ann.token;
      asks.push_back(std::move(ask));
    }
    asks.push_back({Method::get, "/health/live"});
    const auto answers = world().send_all(std::move(asks));
    std::size_t done = 0, refused = 0;
    for (const Answer& answer : answers) {
      if (answer.status != 503) {
        EXPECT_LT(answer.status, 300);
        ++done;
        continue;
      }
      ++refused;
      EXPECT_EQ(answer.code(), "overloaded");
      EXPECT_EQ(answer.header("Retry-After"), "1");
      EXPECT_EQ(answer.header("Content-Type"), "application/problem+json");
    }
    EXPECT_GE(done, http::Workload::first);
    EXPECT_GT(refused, 0);
    EXPECT_EQ(answers.back().status, 200);  // health is not refused
    if (method == Method::post) {
      EXPECT_EQ(world().sql("SELECT count(*)::text FROM gigs WHERE seeker_id = $1::uuid", {to_string(ann.id)}),
                std::to_string(done - 1));
    }
  }
  EXPECT_EQ(world().get("/api/users/me", ann.token).status, 200);
  world().restart();
}

TEST_F(Pipeline, HealthMetricsAndDocuments) {
  EXPECT_EQ(world().get("/health/live").string_at("/status"), "ok");
  EXPECT_EQ(world().get("/health/ready").status, 200);
  EXPECT_EQ(world().get("/health").status, 200);
  {
    // Uploads and readers of files that take all there is for them do not make it a server that cannot do its work.
    world().restart();
    std::promise<void> done;
    const auto end = done.get_future().share();
    for (int i = 0; i < 4 + 512; ++i) world().house().file_work.post([end] { end.wait(); });
    EXPECT_EQ(world().get("/health/ready").status, 200);
    done.set_value();
  }
  world().house().system.ready = false;
  EXPECT_EQ(world().get("/health/ready").status, 503);
  EXPECT_EQ(world().get("/health/live").status, 200);
  world().house().system.ready = true;
  EXPECT_EQ(world().get("/openapi.json").text, world().house().openapi());
  const std::string metrics = world().get("/metrics").text;
  EXPECT_NE(metrics.find("hourz_http_requests_total{endpoint=\"system.live\",status=\"200\"}"), std::string::npos);
  EXPECT_EQ(world().get("/docs/../etc/passwd").status, 404);
  EXPECT_EQ(world().get("/docs/nothing.js").status, 404);
}

TEST_F(Pipeline, MetricsHaveNoLabelFromOutside) {
  const Person ann = world().person();
  for (int i = 0; i < 20; ++i) world().get("/api/made-up-" + std::to_string(i), ann.token);
  EXPECT_EQ(world().get("/metrics").text.find("made-up"), std::string::npos);
}

TEST_F(Pipeline, ARunningServerPurgesFoldsAndExpires) {
  const Person ann = world().person();
  world().sql(
      "INSERT INTO idempotency_keys (user_id, key, fingerprint, status, headers, body, created_at) "
      "VALUES ($1::uuid, 'ancient', '', 200, '', '', now() - interval '25 hours')",
      {to_string(ann.id)});
  world().sql(
      "INSERT INTO sessions (id, user_id, expires_at) VALUES (gen_random_uuid(), $1::uuid, now() - interval '31 d')",
      {to_string(ann.id)});
  const std::string gig = world().post_gig(ann, {{"expires_at", "2099-01-01T00:00:00Z"}});
  world().sql("UPDATE gigs SET expires_at = now() WHERE id = $1::uuid", {gig});
  world().sql("UPDATE timers SET due_at = now() WHERE subject_id = $1::uuid", {gig});
  Config config = test_config();
  config.listen_port = 0;
  config.threads = 2;
  app::Server server(config, world().app_url());
  server.start();
  EXPECT_GT(server.port(), 0);
  server.set_ready();
  EXPECT_TRUE(world().until(
      [&] {
        return world().sql(
                   "SELECT (SELECT count(*) FROM idempotency_keys WHERE key = 'ancient') + (SELECT count(*) FROM "
                   "sessions WHERE expires_at < now() - interval '30 d') + (SELECT count(*) FROM timers WHERE "
                   "subject_id = $1::uuid) + (SELECT count(*) FROM gig_cell_changes)",
                   {gig}) == "0";
      },
      std::chrono::seconds(30)));
  EXPECT_EQ(world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {gig}), "CANCELLED");
  server.drain();
  EXPECT_TRUE(world().until([&] { return server.drained(); }, std::chrono::seconds(30)));
  server.stop();
  record_statement("http.idempotency_purge");  // seen by its effect above
}

// --- deadlocks and serialization failures
// ------------------------------------------------------------------------------

/// The database gives up the transaction `times` times, as it does with the loser of a deadlock. Sequences do not roll
/// back, so the tries are counted.
void give_up(World& world, int times) {
  world.sql("DROP TRIGGER IF EXISTS gives_up ON gigs");
  world.sql("DROP SEQUENCE IF EXISTS tries");
  world.sql("CREATE SEQUENCE tries");
  world.sql("GRANT USAGE ON SEQUENCE tries TO hourz_app");
  world.sql(
      "CREATE OR REPLACE FUNCTION gives_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
      "IF nextval('tries') <= " +
      std::to_string(times) +
      " THEN RAISE EXCEPTION 'deadlock detected' "
      "USING ERRCODE = 'deadlock_detected'; END IF; RETURN NEW; END $$");
  world.sql("CREATE TRIGGER gives_up BEFORE INSERT ON gigs FOR EACH ROW EXECUTE FUNCTION gives_up()");
}

class Retries : public WorldTest {};

/// F06.
TEST_F(Retries, ALostDeadlockIsTriedAgainAndNobodyHears) {
  const Person ann = world().person();
  give_up(world(), 3);
  EXPECT_EQ(world().post("/api/gigs", World::gig_body(), ann.token).status, 201);
  EXPECT_EQ(world().sql("SELECT last_value::text FROM tries"), "4");
  give_up(world(), 3);
  const Answer keyed = world().post("/api/gigs", World::gig_body(), ann.token, {{"idempotency-key", "again"}});
  EXPECT_EQ(keyed.status, 201);
  EXPECT_EQ(world().post("/api/gigs", World::gig_body(), ann.token, {{"idempotency-key", "again"}}).text, keyed.text);
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM gigs"), "2");
}

/// F06.
TEST_F(Retries, AreBoundedAndLeaveNothing) {
  const Person ann = world().person();
  const std::string before = world().sql("SELECT count(*)::text FROM gigs");
  give_up(world(), 1000);
  const Answer answer = world().post("/api/gigs", World::gig_body(), ann.token, {{"idempotency-key", "never"}});
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.header("Retry-After"), "1");
  EXPECT_EQ(world().sql("SELECT last_value::text FROM tries"), "4");
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM gigs"), before);
  give_up(world(), 0);
  EXPECT_EQ(world().post("/api/gigs", World::gig_body(), ann.token, {{"idempotency-key", "never"}}).status, 201);
}

}  // namespace
}  // namespace hourz::harness
