// Accounts and sessions on a real database: registering, logging in, staying in, getting out.
#include "rooms/auth/auth.hpp"

#include <algorithm>
#include <chrono>
#include <set>

#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

using Clock = std::chrono::steady_clock;

class Auth : public WorldTest {
 protected:
  static inline int count = 0;
  static std::string fresh_email() { return "auth" + std::to_string(++count) + "@example.com"; }
  static json::object account(const std::string& email, const std::string& password = "correct horse staple") {
    return {{"email", email}, {"password", password}};
  }
  static Answer form(const std::string& text) {
    return world().post("/api/auth/login", text, {}, {{"content-type", "application/x-www-form-urlencoded"}});
  }
  struct Pair {
    std::string email, access, refresh;
  };
  static Pair logged_in(std::string email = {}) {
    if (email.empty()) {
      email = fresh_email();
      EXPECT_EQ(world().post("/api/auth/register", account(email)).status, 201);
    }
    const Answer answer = world().post("/api/auth/login", account(email));
    EXPECT_EQ(answer.status, 200);
    return {email, answer.string_at("/access_token"), answer.string_at("/refresh_token")};
  }
  static int me(const std::string& access) { return world().get("/api/auth/me", access).status; }
  static Answer refresh(const std::string& token) { return world().post("/api/auth/refresh", "", token); }
};

// --- register --------------------------------------------------------------------------------------------------------

TEST_F(Auth, RegisteringGivesTheUserAndNoSecret) {
  const Answer made = world().post(
      "/api/auth/register", {{"email", "  Ann.New@Example.COM "}, {"password", "correct horse"}, {"name", " Ann  "}});
  ASSERT_EQ(made.status, 201);
  EXPECT_EQ(made.string_at("/email"), "ann.new@example.com");
  EXPECT_EQ(made.string_at("/name"), "Ann");
  EXPECT_EQ(made.header("Location"), "/api/users/" + made.string_at("/id"));
  EXPECT_FALSE(made.at("/is_profile_setup").as_bool());
  EXPECT_EQ(made.number_at("/reputation_score"), 5);
  EXPECT_EQ(made.string_at("/role"), "USER");
  EXPECT_EQ(made.text.find("password"), std::string::npos);
  EXPECT_EQ(made.text.find("argon"), std::string::npos);
}

TEST_F(Auth, AnEmailIsTakenInEverySpelling) {
  ASSERT_EQ(world().post("/api/auth/register", account("straße@example.com")).status, 201);
  for (const char* email :
       {"straße@example.com", "STRASSE@example.com", "ＳＴＲＡＳＳＥ@example.com", " strasse@EXAMPLE.com "}) {
    const Answer again = world().post("/api/auth/register", account(email));
    EXPECT_EQ(again.status, 409) << email;
    EXPECT_EQ(again.code(), "email_taken") << email;
  }
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM users WHERE email LIKE 'strasse@%'"), "1");
}

TEST_F(Auth, OfManyAtOnceOneGetsTheEmail) {
  std::vector<Ask> asks;
  for (int i = 0; i < 12; ++i) asks.push_back({http::Method::post, "/api/auth/register", account("race@example.com")});
  int made = 0;
  for (const Answer& answer : world().send_all(std::move(asks))) {
    if (answer.status == 201)
      ++made;
    else
      EXPECT_EQ(answer.code(), "email_taken");
  }
  EXPECT_EQ(made, 1);
}

TEST_F(Auth, WeakAndWrongPasswordsAreRefused) {
  const auto faults = [](const std::string& password, const std::string& email = "weak@example.com") {
    const Answer answer = world().post("/api/auth/register", {{"email", email}, {"password", password}});
    EXPECT_EQ(answer.status, 422) << password.substr(0, 40);
    return answer.faults();
  };
  const std::vector<std::string> common{"password:too_common"};
  EXPECT_EQ(faults("password1"), common);
  EXPECT_EQ(faults("PASSWORD1234"), common);
  EXPECT_EQ(faults("password1234!"), common);
  EXPECT_EQ(faults("12345678"), common);
  EXPECT_EQ(faults("weak@example.com"), common);
  EXPECT_EQ(faults("longlocalpart", "longlocalpart@example.com"), common);
  EXPECT_EQ(faults("1234567"), std::vector<std::string>{"password:too_short"});
  EXPECT_EQ(faults(std::string(129, 'x')), std::vector<std::string>{"password:too_long"});
  EXPECT_EQ(faults(std::string("pass\0word-long", 14)), std::vector<std::string>{"password:forbidden_character"});
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM users WHERE email = 'weak@example.com'"), "0");
}

TEST_F(Auth, PasswordsOfAnyCharactersWorkWhole) {
  std::string emoji;
  for (int i = 0; i < 128; ++i) emoji += "😀";
  const std::string a72 = std::string(72, 'a') + "b", b72 = std::string(72, 'a') + "c";
  for (const std::string& password : {emoji, std::string("      blanks      "), std::string("รหัสผ่านยาวๆ"), a72}) {
    const std::string email = fresh_email();
    ASSERT_EQ(world().post("/api/auth/register", account(email, password)).status, 201);
    EXPECT_EQ(world().post("/api/auth/login", account(email, password)).status, 200);
    EXPECT_EQ(world().post("/api/auth/login", account(email, password == a72 ? b72 : password + "x")).status,
              password == emoji ? 422 : 401);
  }
  // Composed or not: the same password.
  const std::string email = fresh_email();
  ASSERT_EQ(world().post("/api/auth/register", account(email, "caf\u00e9-caf\u00e9")).status, 201);
  EXPECT_EQ(world().post("/api/auth/login", account(email, "cafe\u0301-cafe\u0301")).status, 200);
}

TEST_F(Auth, ServerOwnedFieldsAreNotTaken) {
  const Answer answer = world().post("/api/auth/register", {{"email", "mass@example.com"},
                                                            {"password", "correct horse"},
                                                            {"role", "ADMIN"},
                                                            {"is_verified", true},
                                                            {"id", "x"}});
  EXPECT_EQ(answer.faults(),
            (std::vector<std::string>{"id:unknown_field", "is_verified:unknown_field", "role:unknown_field"}));
}

// --- login -----------------------------------------------------------------------------------------------------------

TEST_F(Auth, LoginTakesJsonAndTheOAuthForm) {
  const std::string email = fresh_email();
  ASSERT_EQ(world().post("/api/auth/register", account(email)).status, 201);
  for (const Answer& answer :
       {world().post("/api/auth/login", account(" " + email + " ")),
        form("grant_type=password&username=" + email + "&password=correct+horse%20staple&scope=&client_id=app")}) {
    ASSERT_EQ(answer.status, 200) << answer.text;
    EXPECT_EQ(answer.string_at("/token_type"), "bearer");
    EXPECT_EQ(answer.number_at("/expires_in"), 900);
    EXPECT_FALSE(answer.at("/is_profile_setup").as_bool());
    EXPECT_EQ(me(answer.string_at("/access_token")), 200);
    EXPECT_EQ(answer.header("ETag"), "");
  }
  EXPECT_EQ(world().post("/api/auth/login", account("AUTH" + email.substr(4))).status, 200);
  EXPECT_EQ(form("username=" + email).faults(), std::vector<std::string>{"password:required"});
  EXPECT_EQ(form("username=" + email + "&password=x&password=y").status, 400);
  EXPECT_EQ(form("username=%ff&password=x").status, 400);
  EXPECT_EQ(world().post("/api/auth/login", "[{\"email\":\"a\",\"password\":\"b\"}]").status, 422);
  EXPECT_EQ(world().post("/api/auth/login", "<x/>", {}, {{"content-type", "text/xml"}}).status, 415);
}

TEST_F(Auth, WrongEmailAndWrongPasswordAnswerAlike) {
  const std::string email = fresh_email();
  ASSERT_EQ(world().post("/api/auth/register", account(email)).status, 201);
  const auto shape = [](const Answer& answer) {
    EXPECT_EQ(answer.status, 401);
    EXPECT_EQ(answer.header("WWW-Authenticate"), "Bearer realm=\"hourz\"");
    json::object body = answer.body.as_object();
    body.erase("request_id");
    body.erase("instance");
    return json::serialize(body);
  };
  const std::string wrong = shape(world().post("/api/auth/login", account(email, "wrong horse")));
  EXPECT_EQ(wrong, shape(world().post("/api/auth/login", account("nobody@example.com", "wrong horse"))));
  EXPECT_EQ(wrong, shape(world().post("/api/auth/login", account("not an email", "wrong horse"))));
  EXPECT_EQ(wrong, shape(form("username=nobody@example.com&password=wrong+horse")));
  EXPECT_EQ(wrong, shape(world().post("/api/auth/login", account(email, "x"))));
}

TEST_F(Auth, SuspendedAccountsDoNotEnterAndLearnSoOnlyWithThePassword) {
  const Pair pair = logged_in();
  world().sql("UPDATE users SET suspended_at = now() WHERE email = $1", {pair.email});
  EXPECT_EQ(world().post("/api/auth/login", account(pair.email)).code(), "account_suspended");
  EXPECT_EQ(world().post("/api/auth/login", account(pair.email, "wrong horse")).code(), "invalid_credentials");
  EXPECT_EQ(refresh(pair.refresh).code(), "account_suspended");
  world().sql("UPDATE users SET suspended_at = NULL WHERE email = $1", {pair.email});
  EXPECT_EQ(refresh(pair.refresh).status, 200);
}

TEST_F(Auth, HashesAreArgon2idSaltedAndGrowWithTheSettings) {
  World grown([](Config& config) { config.hash_memory_kib = 19456, config.hash_passes = 2; });
  const auto stored = [&grown](const std::string& email) {
    return grown.sql("SELECT password_hash FROM users WHERE email = $1", {email});
  };
  ASSERT_EQ(grown.post("/api/auth/register", account("one@example.com")).status, 201);
  ASSERT_EQ(grown.post("/api/auth/register", account("two@example.com")).status, 201);
  EXPECT_TRUE(stored("one@example.com").starts_with("$argon2id$v=19$m=19456,t=2,p=1$")) << stored("one@example.com");
  EXPECT_NE(stored("one@example.com"), stored("two@example.com"));
  grown.restart([](Config& config) { config.hash_memory_kib = 20480, config.hash_passes = 3; });
  const std::string before = stored("two@example.com");
  ASSERT_EQ(grown.post("/api/auth/login", account("one@example.com")).status, 200);
  EXPECT_TRUE(stored("one@example.com").starts_with("$argon2id$v=19$m=20480,t=3,p=1$")) << stored("one@example.com");
  EXPECT_EQ(stored("two@example.com"), before);
  EXPECT_EQ(grown.post("/api/auth/login", account("one@example.com")).status, 200);
}

TEST_F(Auth, AFullQueueAnswers503AndOthersGoOn) {
  World busy([](Config& config) { config.hash_memory_kib = 19456, config.hash_threads = 1, config.hash_queue = 2; });
  const Person reader = busy.person();
  ASSERT_EQ(busy.post("/api/auth/register", account("busy@example.com")).status, 201);
  std::vector<Ask> asks;
  for (int i = 0; i < 20; ++i) asks.push_back({http::Method::post, "/api/auth/login", account("busy@example.com")});
  asks.push_back({http::Method::get, "/api/users/me", {}, reader.token});
  int entered = 0, refused = 0;
  const auto answers = busy.send_all(std::move(asks));
  for (const Answer& answer : answers) {
    if (answer.code() == "overloaded")
      ++refused;
    else if (answer.status == 200)
      ++entered;
  }
  EXPECT_EQ(entered + refused, 21);
  EXPECT_GE(entered, 4);
  EXPECT_GE(refused, 10);
  EXPECT_EQ(answers.back().status, 200);
  EXPECT_EQ(busy.post("/api/auth/login", account("busy@example.com")).status, 200);
}

TEST_F(Auth, AHugePasswordCostsNoHash) {
  World slow([](Config& config) { config.hash_memory_kib = 65536, config.hash_passes = 10; });
  const auto start = Clock::now();
  EXPECT_EQ(slow.post("/api/auth/login", account("x@example.com", std::string(50'000, 'p'))).status, 422);
  EXPECT_EQ(slow.post("/api/auth/register", account("x@example.com", std::string(50'000, 'p'))).status, 422);
  EXPECT_EQ(slow.post("/api/auth/login", account("x@example.com", std::string(1 << 20, 'p'))).status, 413);
  EXPECT_LT(Clock::now() - start, std::chrono::milliseconds(400));  // one such hash takes longer
}

TEST_F(Auth, UnknownUsersCostAsMuchWork) {
  World slow([](Config& config) { config.hash_memory_kib = 19456, config.hash_threads = 1; });
  ASSERT_EQ(slow.post("/api/auth/register", account("known@example.com")).status, 201);
  std::vector<double> known, unknown;
  for (int i = 0; i < 15; ++i) {
    for (auto* times : {&known, &unknown}) {
      const auto start = Clock::now();
      slow.post("/api/auth/login",
                account(times == &known ? "known@example.com" : "nobody@example.com", "wrong horse"));
      times->push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
  }
  // The least of many: what else runs on the machine only ever adds. An answer without a hash takes a hundredth; how
  // closely the two agree is measured over HTTP.
  const double a = *std::min_element(known.begin(), known.end()), b = *std::min_element(unknown.begin(), unknown.end());
  EXPECT_LT(std::max(a, b) / std::min(a, b), 2) << a << " " << b;
}

// --- refresh ---------------------------------------------------------------------------------------------------------

TEST_F(Auth, RefreshMovesOnAndGivesALostAnswerAgain) {
  const Pair pair = logged_in();
  const Answer first = refresh(pair.refresh);
  ASSERT_EQ(first.status, 200);
  const std::string second_token = first.string_at("/refresh_token");
  EXPECT_NE(second_token, pair.refresh);
  EXPECT_EQ(me(first.string_at("/access_token")), 200);
  EXPECT_EQ(me(pair.access), 200);
  // The answer was lost: the parent gives the same successor, as often as it is asked, until that is used.
  for (int i = 0; i < 3; ++i) {
    const Answer again = world().post("/api/auth/refresh", {{"refresh_token", pair.refresh}});
    ASSERT_EQ(again.status, 200);
    EXPECT_EQ(again.string_at("/refresh_token"), second_token);
  }
  const Answer second = refresh(second_token);
  ASSERT_EQ(second.status, 200);
  EXPECT_NE(second.string_at("/refresh_token"), second_token);
  EXPECT_EQ(me(second.string_at("/access_token")), 200);
}

TEST_F(Auth, AnOldRefreshTokenIsTheftAndEndsTheSession) {
  const Pair pair = logged_in(), other = logged_in(pair.email);
  const std::string second = refresh(pair.refresh).string_at("/refresh_token");
  const Answer third = refresh(second);
  ASSERT_EQ(third.status, 200);
  EXPECT_EQ(refresh(pair.refresh).code(), "token_reused");
  EXPECT_EQ(refresh(second).code(), "session_ended");
  EXPECT_EQ(refresh(third.string_at("/refresh_token")).code(), "session_ended");
  EXPECT_EQ(me(third.string_at("/access_token")), 401);
  EXPECT_EQ(me(pair.access), 401);
  EXPECT_EQ(me(other.access), 200);  // another session of the same account lives on
  EXPECT_EQ(world().sql("SELECT end_reason FROM sessions WHERE ended_at IS NOT NULL AND user_id = "
                        "(SELECT id FROM users WHERE email = $1)",
                        {pair.email}),
            "token_reused");
}

TEST_F(Auth, TwentyAtOnceGetOneAndTheSamePair) {
  const Pair pair = logged_in();
  std::vector<Ask> asks;
  for (int i = 0; i < 20; ++i) asks.push_back({http::Method::post, "/api/auth/refresh", {}, pair.refresh});
  std::set<std::string> successors;
  for (const Answer& answer : world().send_all(std::move(asks))) {
    ASSERT_EQ(answer.status, 200);
    successors.insert(answer.string_at("/refresh_token"));
  }
  EXPECT_EQ(successors.size(), 1U);
  EXPECT_EQ(refresh(*successors.begin()).status, 200);
  EXPECT_EQ(refresh(pair.refresh).code(), "token_reused");
}

TEST_F(Auth, RefreshTakesNothingElse) {
  const Pair pair = logged_in();
  EXPECT_EQ(refresh(pair.access).code(), "token_invalid");
  EXPECT_EQ(world().post("/api/auth/refresh", "").code(), "unauthenticated");
  EXPECT_EQ(world().post("/api/auth/refresh", "{}").code(), "unauthenticated");
  EXPECT_EQ(world().post("/api/auth/refresh", {{"refresh_token", "x"}}).code(), "token_invalid");
  EXPECT_EQ(world().post("/api/auth/refresh", {{"refresh_token", nullptr}}).code(), "unauthenticated");
  EXPECT_EQ(world().post("/api/auth/refresh", {{"token", pair.refresh}}).status, 422);
  EXPECT_EQ(world().get("/api/auth/me", pair.refresh).code(), "token_invalid");
  EXPECT_EQ(refresh(world().house().tokens.make_refresh({make_uuid(), 1})).code(), "session_ended");
  // A token from the future can only be forged with the key; it is not honoured either.
  const Uuid session =
      *parse_uuid(world().sql("SELECT s.id::text FROM sessions s JOIN users u ON u.id = s.user_id "
                              "WHERE u.email = $1",
                              {pair.email}));
  EXPECT_EQ(refresh(world().house().tokens.make_refresh({session, 7})).status, 401);
}

TEST_F(Auth, NothingStoredCanBeReplayed) {
  const Pair pair = logged_in();
  const std::string dump = world().sql("SELECT string_agg(s::text, ' ') FROM sessions s") +
                           world().sql("SELECT string_agg(u::text, ' ') FROM users u") +
                           world().sql("SELECT coalesce(string_agg(k::text, ' '), '') FROM idempotency_keys k");
  for (const std::string& token : {pair.access, pair.refresh}) {
    EXPECT_EQ(dump.find(token), std::string::npos);
    EXPECT_EQ(dump.find(token.substr(token.rfind('.') + 1)), std::string::npos);
  }
  EXPECT_EQ(dump.find("correct horse"), std::string::npos);
}

TEST_F(Auth, IdempotencyKeysDoNotStoreTokens) {
  const Pair pair = logged_in();
  const Fields key{{"idempotency-key", "login-key-1"}};
  EXPECT_EQ(world().post("/api/auth/login", account(pair.email), {}, key).status, 200);
  EXPECT_EQ(world().post("/api/auth/login", account(pair.email), {}, key).header("Idempotency-Replayed"), "");
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM idempotency_keys WHERE key = 'login-key-1'"), "0");
}

// --- getting out -----------------------------------------------------------------------------------------------------

TEST_F(Auth, LogoutEndsTheSessionAtOnce) {
  for (const http::Method method : {http::Method::post, http::Method::del}) {
    const Pair pair = logged_in(), other = logged_in(pair.email);
    ASSERT_EQ(me(pair.access), 200);  // and is remembered for a second from here on
    Ask ask{method, "/api/auth/logout"};
    ask.token = pair.access;
    EXPECT_EQ(world().send(ask).status, 204);
    EXPECT_EQ(world().get("/api/auth/me", pair.access).code(), "session_ended");
    EXPECT_EQ(refresh(pair.refresh).code(), "session_ended");
    EXPECT_EQ(me(other.access), 200);
    EXPECT_EQ(world().send(ask).status, 401);
  }
}

TEST_F(Auth, SessionsAreListedAndEndedOneByOne) {
  const Pair first = logged_in();
  const Answer second =
      world().post("/api/auth/login", account(first.email), {}, {{"user-agent", "Flutter " + std::string(300, 'x')}});
  const std::string token = second.string_at("/access_token");
  Answer list = world().get("/api/auth/sessions", token);
  ASSERT_EQ(list.at("/sessions").as_array().size(), 2U);
  EXPECT_TRUE(list.at("/sessions/0/is_current").as_bool());
  EXPECT_FALSE(list.at("/sessions/1/is_current").as_bool());
  EXPECT_TRUE(list.string_at("/sessions/0/device").starts_with("Flutter xxx"));
  EXPECT_EQ(list.string_at("/sessions/0/device").size(), 200U);
  EXPECT_EQ(list.string_at("/sessions/0/ip"), "127.0.0.1");
  EXPECT_TRUE(list.at("/sessions/1/device").is_null());
  const std::string other = list.string_at("/sessions/1/id");
  EXPECT_EQ(world().del("/api/auth/sessions/" + other, token).status, 204);
  EXPECT_EQ(world().del("/api/auth/sessions/" + other, token).status, 404);
  EXPECT_EQ(me(first.access), 401);
  EXPECT_EQ(me(token), 200);
  const Pair third = logged_in(first.email), fourth = logged_in(first.email);
  EXPECT_EQ(world().del("/api/auth/sessions", fourth.access).status, 204);
  EXPECT_EQ(me(third.access), 401);
  EXPECT_EQ(me(token), 401);
  EXPECT_EQ(me(fourth.access), 200);
  EXPECT_EQ(world().get("/api/auth/sessions", fourth.access).at("/sessions").as_array().size(), 1U);
}

TEST_F(Auth, OddUserAgentsDoNoHarm) {
  const std::string email = logged_in().email;
  for (const std::string& agent : {std::string("\xff\xfe"), std::string("x\x1b[2J"), std::string(199, 'a') + "😀",
                                   std::string("{\"level\":\"fatal\"}\u202e")}) {
    const Answer answer = world().post("/api/auth/login", account(email), {}, {{"user-agent", agent}});
    ASSERT_EQ(answer.status, 200);
    EXPECT_EQ(world().get("/api/auth/sessions", answer.string_at("/access_token")).status, 200);
  }
}

TEST_F(Auth, ThePasswordIsChangedWithTheCurrentOneAndOthersAreOut) {
  const Pair pair = logged_in(), other = logged_in(pair.email);
  const auto change = [&](const std::string& current, const std::string& next) {
    return world().put("/api/auth/password", {{"current_password", current}, {"new_password", next}}, pair.access);
  };
  EXPECT_EQ(change("wrong horse", "a new and better one").code(), "wrong_password");
  EXPECT_EQ(change("correct horse staple", "password1").faults(), std::vector<std::string>{"new_password:too_common"});
  EXPECT_EQ(change("correct horse staple", "short").faults(), std::vector<std::string>{"new_password:too_short"});
  EXPECT_EQ(change("correct horse staple", pair.email).faults(), std::vector<std::string>{"new_password:too_common"});
  ASSERT_EQ(me(other.access), 200);
  EXPECT_EQ(change("correct horse staple", "a new and better one").status, 204);
  EXPECT_EQ(me(other.access), 401);
  EXPECT_EQ(refresh(other.refresh).status, 401);
  EXPECT_EQ(me(pair.access), 200);
  EXPECT_EQ(refresh(pair.refresh).status, 200);
  EXPECT_EQ(world().post("/api/auth/login", account(pair.email)).status, 401);
  EXPECT_EQ(world().post("/api/auth/login", account(pair.email, "a new and better one")).status, 200);
}

TEST_F(Auth, AUserHasABoundedNumberOfSessions) {
  const Person someone = world().person();
  world().sql(
      "UPDATE users SET email = 'many@example.com', password_hash = (SELECT password_hash FROM users WHERE email "
      "= $2) WHERE id = $1::uuid",
      {to_string(someone.id), logged_in().email});
  world().sql(
      "INSERT INTO sessions (id, user_id, expires_at) SELECT gen_random_uuid(), $1::uuid, now() + interval '1 d' "
      "FROM generate_series(1, 150)",
      {to_string(someone.id)});
  ASSERT_EQ(world().post("/api/auth/login", account("many@example.com")).status, 200);
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM sessions WHERE user_id = $1::uuid AND ended_at IS NULL",
                        {to_string(someone.id)}),
            "100");
}

TEST_F(Auth, AProfileIsSetUpOnce) {
  const Pair pair = logged_in();
  const auto setup = [&](const json::object& body) {
    return world().put("/api/auth/profile-setup", body, pair.access);
  };
  EXPECT_EQ(setup({{"bio", "no name"}}).faults(), std::vector<std::string>{"name:required"});
  const Answer done =
      setup({{"name", "Ann"}, {"bio", "Cleans."}, {"contact_info", {{"phone_number", "081 234 5678"}}}});
  ASSERT_EQ(done.status, 200);
  EXPECT_TRUE(done.at("/is_profile_setup").as_bool());
  EXPECT_EQ(done.string_at("/contact_info/phone_number"), "+66812345678");
  EXPECT_EQ(setup({{"name", "Bob"}}).code(), "profile_already_set_up");
  EXPECT_EQ(world().get("/api/auth/me", pair.access).string_at("/name"), "Ann");
  EXPECT_TRUE(world().post("/api/auth/login", account(pair.email)).at("/is_profile_setup").as_bool());
}

TEST_F(Auth, EndedSessionsArePurgedAfterAMonth) {
  const Person someone = world().person();
  world().sql(
      "INSERT INTO sessions (id, user_id, expires_at) SELECT gen_random_uuid(), $1::uuid, now() - interval '31 d' "
      "FROM generate_series(1, 3)",
      {to_string(someone.id)});
  const auto transaction = world().desk().database.begin();
  EXPECT_EQ(world().wait(auth::purge_sessions(*transaction)), 3);
  world().wait(transaction->commit());
  EXPECT_EQ(me(someone.token), 200);
}

TEST_F(Auth, RateLimitsHoldPerAddressAndPerAccountAndSaySo) {
  World limited([](Config& config) { config.rate_limit = "on"; });
  const auto login = [&limited](const std::string& peer, const std::string& email, Fields fields = {}) {
    return limited.send(
        {http::Method::post, "/api/auth/login", account(email, "wrong horse"), {}, std::move(fields), peer});
  };
  for (int i = 0; i < 5; ++i) {
    const Answer answer = login("10.0.0.1", std::to_string(i) + "@example.com");
    EXPECT_EQ(answer.status, 401);
    EXPECT_EQ(answer.header("RateLimit-Policy"), "\"auth\";q=5;w=60");
    EXPECT_TRUE(answer.header("RateLimit").starts_with("\"auth\";r=" + std::to_string(4 - i) + ";t="));
  }
  EXPECT_EQ(login("10.0.0.1", "5@example.com").status, 429);
  EXPECT_EQ(login("10.0.0.1", "6@example.com", {{"x-forwarded-for", "9.9.9.9"}}).code(), "rate_limited");
  // One account from many addresses, however its email is spelt.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(login("10.0.1." + std::to_string(i), "victim@example.com").status, 401);
  for (const char* email : {"victim@example.com", "VICTIM@example.com", " Victim@Example.com "}) {
    const Answer refused = login("10.0.2.1", email);
    EXPECT_EQ(refused.code(), "rate_limited") << email;
    EXPECT_EQ(refused.header("RateLimit-Policy"), "\"auth\";q=5;w=60, \"email\";q=5;w=60");
    EXPECT_NE(refused.header("RateLimit").find(", \"email\";r=0;t=" + refused.header("Retry-After")),
              std::string::npos);
  }
  EXPECT_EQ(login("10.0.3.1", "other@example.com").status, 401);
  const Person someone = limited.person();
  const Answer other = limited.get("/api/users/me", someone.token);
  EXPECT_EQ(other.header("RateLimit-Policy"), "\"standard\";q=300;w=60");
  EXPECT_EQ(limited.get("/health/live").header("RateLimit"), "");
}

TEST_F(Auth, ATicketIsGoodForOneSocketOfTheSessionThatBoughtIt) {
  const Pair pair = logged_in();
  const Answer sold = world().post("/api/ws/ticket", "", pair.access);
  ASSERT_EQ(sold.status, 200) << sold.text;
  EXPECT_EQ(sold.number_at("/expires_in"), 30);
  const std::string ticket = sold.string_at("/ticket");
  auto& authenticator = world().desk().authenticator;
  auto& database = world().desk().database;
  const http::Caller caller = world().wait(authenticator.redeem(database, ticket));
  EXPECT_EQ(to_string(caller.user_id), world().get("/api/auth/me", pair.access).string_at("/id"));
  EXPECT_TRUE(world().wait(authenticator.alive(database, caller)));
  EXPECT_THROW(world().wait(authenticator.redeem(database, ticket)), Problem);
  EXPECT_THROW(world().wait(authenticator.redeem(database, "no such ticket")), Problem);
  // Past its time, and of a session that has ended.
  const std::string late = world().post("/api/ws/ticket", "", pair.access).string_at("/ticket");
  world().sql("UPDATE socket_tickets SET expires_at = now()");
  EXPECT_THROW(world().wait(authenticator.redeem(database, late)), Problem);
  const std::string orphan = world().post("/api/ws/ticket", "", pair.access).string_at("/ticket");
  EXPECT_EQ(world().post("/api/auth/logout", "", pair.access).status, 204);
  EXPECT_THROW(world().wait(authenticator.redeem(database, orphan)), Problem);
  EXPECT_FALSE(world().wait(authenticator.alive(database, caller)));
  EXPECT_EQ(world().post("/api/ws/ticket", "", pair.access).status, 401);
}

}  // namespace
}  // namespace hourz::harness
