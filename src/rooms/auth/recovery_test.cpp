// Verifying an address and setting a forgotten password anew, by mails that a test takes instead of a server.
#include "rooms/auth/recovery.hpp"

#include <regex>

#include "core/crypto.hpp"
#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

/// Keeps what is sent, and answers as it is told.
struct Mailbox final : mail::Sender {
  std::vector<mail::Message> mails;
  mail::Outcome outcome = mail::Outcome::sent;
  std::function<void()> taken = [] {};
  mail::Delivery send(const mail::Message& message) override {
    mails.push_back(message);
    taken();
    return {outcome, {}};
  }
};

class AuthMail : public WorldTest {
 protected:
  AuthMail() : post_(std::unique_ptr<mail::Sender>(mailbox_ = new Mailbox)) {}
  ~AuthMail() override { post_.stop(); }

  static inline int count = 0;
  static inline const std::string old_password = "correct horse staple";
  static std::string registered() {
    const std::string email = "mail" + std::to_string(++count) + "@example.com";
    const Answer made =
        world().post("/api/auth/register", {{"email", email}, {"password", old_password}, {"name", "มะลิ"}});
    EXPECT_EQ(made.status, 201);
    return email;
  }
  static Answer login(const std::string& email, const std::string& password) {
    return world().post("/api/auth/login", {{"email", email}, {"password", password}});
  }
  static Answer ask_reset(const std::string& email) {
    return world().post("/api/auth/password-reset", {{"email", email}});
  }
  static Answer confirm(const std::string& token, const std::string& password = "another long phrase") {
    return world().post("/api/auth/password-reset/confirm", {{"token", token}, {"password", password}});
  }
  static Answer verify(const std::string& token) { return world().post("/api/auth/verify-email", {{"token", token}}); }
  static void expect_bad_token(const Answer& answer) {
    EXPECT_EQ(answer.status, 422);
    EXPECT_EQ(answer.faults(), std::vector<std::string>{"token:invalid"});
  }
  auth::MailTally send() {
    auth::Deps& own = world().house().auth;
    auth::Deps deps{own.config, own.tokens, own.hasher, own.revocations, own.cursor_key, post_, own.mail_key};
    return world().wait(auth::send_mail(deps, world().desk().database));
  }
  static auth::MailBacklog waiting() { return world().wait(auth::mails_waiting(world().desk().database.reads())); }
  /// The token in the last mail to somebody.
  std::string token_to(const std::string& email, const char* word = "") {
    send();
    for (auto mail = mailbox_->mails.rbegin(); mail != mailbox_->mails.rend(); ++mail) {
      std::smatch match;
      static const std::regex token("[A-Za-z0-9_-]{54}");
      if (mail->to == email && mail->subject.find(word) != std::string::npos &&
          std::regex_search(mail->text, match, token)) {
        return match[0];
      }
    }
    ADD_FAILURE() << "no mail to " << email;
    return {};
  }
  std::size_t mails_to(const std::string& email) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(mailbox_->mails, [&](const mail::Message& mail) { return mail.to == email; }));
  }

  Mailbox* mailbox_ = nullptr;
  mail::Post post_;
};

TEST_F(AuthMail, RegisteringSendsALinkThatVerifiesOnce) {
  const std::string email = registered();
  const std::string token = token_to(email, "Confirm");
  EXPECT_EQ(mails_to(email), 1U);
  // Whoever registered may have written the name to somebody whose address it is not.
  EXPECT_EQ(mailbox_->mails.back().text.find("มะลิ"), std::string::npos);
  const std::string access = login(email, old_password).string_at("/access_token");
  EXPECT_FALSE(world().get("/api/users/me", access).at("/email_verified").as_bool());
  EXPECT_EQ(verify(token).status, 204);
  EXPECT_TRUE(world().get("/api/users/me", access).at("/email_verified").as_bool());
  expect_bad_token(verify(token));
  // Verified: there is nothing to send again.
  EXPECT_EQ(world().post("/api/auth/verify-email/resend", "", access).status, 202);
  send();
  EXPECT_EQ(mails_to(email), 1U);
}

TEST_F(AuthMail, ANameIsSaidToWhoseAddressItIs) {
  const std::string email = registered();
  const std::string check = token_to(email, "Confirm");
  const auto reset_says_name = [&] {
    EXPECT_EQ(ask_reset(email).status, 202);
    send();
    return mailbox_->mails.back().text.find("มะลิ") != std::string::npos;
  };
  EXPECT_FALSE(reset_says_name());
  EXPECT_EQ(verify(check).status, 204);
  EXPECT_TRUE(reset_says_name());
  // And what opens a mail is one line.
  for (const char* name : {"You won!\nhttps://evil.example", "You won!\tx", "You won!\u2028x"}) {
    const json::object body{{"email", "lines@example.com"}, {"password", old_password}, {"name", name}};
    EXPECT_EQ(world().post("/api/auth/register", body).faults(), std::vector<std::string>{"name:forbidden_character"});
  }
}

TEST_F(AuthMail, TheMailComesAgainButNotForEver) {
  const std::string email = registered();
  const std::string first = token_to(email);
  const std::string access = login(email, old_password).string_at("/access_token");
  for (int i = 0; i < 7; ++i) EXPECT_EQ(world().post("/api/auth/verify-email/resend", "", access).status, 202);
  const std::string last = token_to(email);
  EXPECT_EQ(mails_to(email), 5U);
  EXPECT_NE(first, last);
  EXPECT_EQ(verify(last).status, 204);
  expect_bad_token(verify(first));
}

TEST_F(AuthMail, AForgottenPasswordIsSetAnewAndEverySessionEnds) {
  const std::string email = registered();
  const std::string access = login(email, old_password).string_at("/access_token");
  EXPECT_EQ(ask_reset("  " + email).status, 202);
  const std::string token = token_to(email, "password");
  // What can be mended leaves the token good.
  EXPECT_EQ(confirm(token, "short").status, 422);
  EXPECT_EQ(confirm(token, "password1234").faults(), std::vector<std::string>{"password:too_common"});
  EXPECT_EQ(world().get("/api/auth/me", access).status, 200);
  EXPECT_EQ(confirm(token).status, 204);
  EXPECT_EQ(world().get("/api/auth/me", access).status, 401);
  EXPECT_EQ(login(email, old_password).status, 401);
  const Answer in = login(email, "another long phrase");
  ASSERT_EQ(in.status, 200);
  EXPECT_TRUE(world().get("/api/auth/me", in.string_at("/access_token")).at("/email_verified").as_bool());
  expect_bad_token(confirm(token));
}

TEST_F(AuthMail, NobodyLearnsWhoHasAnAccount) {
  const std::string email = registered();
  const std::string everybody = "SELECT count(*)::text FROM mails";
  const std::string before = world().sql(everybody);
  const Answer known = ask_reset(email);
  const Answer unknown = ask_reset("nobody@example.com");
  EXPECT_EQ(known.status, 202);
  EXPECT_EQ(unknown.status, 202);
  EXPECT_EQ(known.text, unknown.text);
  // One row each, and the same in both: nothing has looked yet whose they are.
  EXPECT_EQ(world().sql(everybody), std::to_string(std::stoi(before) + 2));
  EXPECT_EQ(
      world().sql("SELECT count(DISTINCT to_jsonb(m) - '{id,asked_for,created_at,due_at,expires_at}'::text[])::text "
                  "FROM mails m WHERE asked_for IS NOT NULL"),
      "1");
  send();
  EXPECT_EQ(mails_to("nobody@example.com"), 0U);
  EXPECT_EQ(mails_to(email), 2U);
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM mails WHERE asked_for IS NOT NULL"), "0") << "no address is kept";
  EXPECT_EQ(ask_reset("not an address").status, 422);
}

TEST_F(AuthMail, AMailboxIsNotFlooded) {
  const std::string email = registered();
  for (int i = 0; i < 6; ++i) EXPECT_EQ(ask_reset(email).status, 202);
  send();
  EXPECT_EQ(mails_to(email), 4U) << "one to verify, three to reset";
  EXPECT_EQ(ask_reset(email).status, 202);
  send();
  EXPECT_EQ(mails_to(email), 4U);
}

TEST_F(AuthMail, OfManyAtOnceOneUsesAToken) {
  const std::string email = registered();
  ask_reset(email);
  const std::string token = token_to(email, "password");
  std::vector<Ask> asks;
  for (int i = 0; i < 8; ++i) {
    asks.push_back({http::Method::post,
                    "/api/auth/password-reset/confirm",
                    {{"token", token}, {"password", "racing phrase " + std::to_string(i)}}});
  }
  const auto answers = world().send_all(std::move(asks));
  EXPECT_EQ(std::ranges::count_if(answers, [](const Answer& answer) { return answer.status == 204; }), 1);
  EXPECT_EQ(std::ranges::count_if(answers, [](const Answer& answer) { return answer.status == 422; }), 7);
}

TEST_F(AuthMail, TokensAreForOnePurposeOnePersonAndATime) {
  const std::string email = registered();
  ask_reset(email);
  const std::string reset = token_to(email, "password");
  const std::string check = token_to(email, "Confirm");
  expect_bad_token(verify(reset));
  expect_bad_token(confirm(check));
  EXPECT_EQ(world().get("/api/auth/me", reset).status, 401);
  for (std::string wrong : {std::string("x"), reset + "A", reset.substr(1), std::string(54, 'A'), std::string("ก")}) {
    expect_bad_token(confirm(wrong));
  }
  std::string other = reset;
  other.back() = other.back() == 'A' ? 'B' : 'A';
  expect_bad_token(confirm(other));
  // Of another address, though the row is the same.
  world().sql("UPDATE users SET email = 'moved' || email WHERE email = $1", {email});
  expect_bad_token(confirm(reset));
  world().sql("UPDATE users SET email = $1 WHERE email = 'moved' || $1", {email});
  // Too late, and in time again.
  world().sql(
      "UPDATE mails SET expires_at = now() - interval '1 second' WHERE user_id = (SELECT id FROM users WHERE email = "
      "$1)",
      {email});
  expect_bad_token(confirm(reset));
  expect_bad_token(verify(check));
  world().sql(
      "UPDATE mails SET expires_at = now() + interval '1 minute' WHERE user_id = (SELECT id FROM users WHERE email = "
      "$1)",
      {email});
  // Somebody who is suspended gets in by no door.
  world().sql("UPDATE users SET suspended_at = now() WHERE email = $1", {email});
  expect_bad_token(confirm(reset));
  ask_reset(email);
  send();
  EXPECT_EQ(mails_to(email), 2U);
  world().sql("UPDATE users SET suspended_at = NULL WHERE email = $1", {email});
  EXPECT_EQ(confirm(reset).status, 204);
}

TEST_F(AuthMail, AChangedPasswordEndsTheLinks) {
  const std::string email = registered();
  ask_reset(email);
  const std::string token = token_to(email, "password");
  const std::string access = login(email, old_password).string_at("/access_token");
  ASSERT_EQ(
      world()
          .put("/api/auth/password", {{"current_password", old_password}, {"new_password", "chosen in peace"}}, access)
          .status,
      204);
  expect_bad_token(confirm(token));
  // Nor does one that was asked for before and is not sent yet come.
  ask_reset(email);
  ASSERT_EQ(
      world()
          .put("/api/auth/password", {{"current_password", "chosen in peace"}, {"new_password", "chosen in haste"}},
               login(email, "chosen in peace").string_at("/access_token"))
          .status,
      204);
  send();
  EXPECT_EQ(mails_to(email), 2U);
}

TEST_F(AuthMail, AResetEndsWhatWasAskedForBesideIt) {
  const std::string email = registered();
  ask_reset(email);
  const std::string token = token_to(email, "password");
  ask_reset(email);
  EXPECT_EQ(confirm(token).status, 204);
  send();
  EXPECT_EQ(mails_to(email), 2U) << "one to verify, one to reset";
  // What nobody looked at in time takes no place of what is asked for now.
  for (int i = 0; i < 3; ++i) ask_reset(email);
  world().sql(
      "UPDATE mails SET expires_at = now(), created_at = now() - interval '1 hour' WHERE asked_for IS NOT NULL");
  ask_reset(email);
  send();
  EXPECT_EQ(mails_to(email), 3U);
}

TEST_F(AuthMail, WhatIsAskedForWhileOthersAreSentWaitsForItsTurnAlone) {
  send();
  world().sql("DELETE FROM mails");
  const std::string email = registered();
  registered();
  mailbox_->taken = [&, first = true]() mutable {
    if (std::exchange(first, false))
      world().sql(
          "INSERT INTO mails (id, asked_for, purpose, expires_at) VALUES "
          "(gen_random_uuid(), $1, 'PASSWORD_RESET', now() + interval '30 minutes')",
          {email});
  };
  EXPECT_EQ(send().sent, 3);
  EXPECT_EQ(mails_to(email), 2U);
}

TEST_F(AuthMail, TheDatabaseHoldsNothingToReplay) {
  const std::string email = registered();
  ask_reset(email);
  const std::string token = token_to(email, "password");
  const std::string all = world().sql("SELECT coalesce(string_agg(m::text, ' '), '') FROM mails m");
  EXPECT_EQ(all.find(token), std::string::npos);
  EXPECT_EQ(all.find(to_hex(as_text(sha256(token)))), std::string::npos);
}

TEST_F(AuthMail, WhatFailsIsTriedAgainAndWhatIsRefusedIsGivenUp) {
  const auto state = [](const std::string& email) {
    return world().sql(
        "SELECT concat_ws(' ', attempts, sent_at IS NOT NULL, refused_at IS NOT NULL, due_at > now()) FROM mails m "
        "JOIN users u ON u.id = m.user_id WHERE u.email = $1",
        {email});
  };
  const auto due = [] { world().sql("UPDATE mails SET due_at = now() WHERE sent_at IS NULL"); };
  send();
  const std::string email = registered();
  mailbox_->outcome = mail::Outcome::failed;
  send();
  EXPECT_EQ(state(email), "1 f f t");
  send();
  EXPECT_EQ(state(email), "1 f f t") << "not before its time";
  due();
  send();
  EXPECT_EQ(state(email), "2 f f t");
  mailbox_->outcome = mail::Outcome::sent;
  due();
  send();
  EXPECT_EQ(state(email), "3 t f t");
  due();
  send();
  EXPECT_EQ(mails_to(email), 3U) << "sent is sent";
  EXPECT_EQ(mailbox_->mails[mailbox_->mails.size() - 1].id, mailbox_->mails[mailbox_->mails.size() - 2].id);

  const std::string gone = registered();
  mailbox_->outcome = mail::Outcome::refused;
  for (int i = 0; i < 5; ++i) {
    due();
    send();
  }
  EXPECT_EQ(mails_to(gone), 3U);
  EXPECT_EQ(state(gone), "3 f t f");
}

TEST_F(AuthMail, WhatWaitsIsCountedAndWhatCameOfIt) {
  const auto age = [] { world().sql("UPDATE mails SET created_at = now() - interval '90 s' WHERE sent_at IS NULL"); };
  const auto due = [] { world().sql("UPDATE mails SET due_at = now() WHERE sent_at IS NULL"); };
  world().sql("DELETE FROM mails");
  registered();
  age();
  const std::string email = registered();
  ask_reset(email);
  ask_reset("nobody.at.all@example.com");  // a row that nobody is sent
  auth::MailBacklog now = waiting();
  EXPECT_EQ(now.waiting, 4) << "nobody knows yet that one is for nobody";
  EXPECT_EQ(now.expired, 0);
  EXPECT_EQ(now.age_us / 1'000'000, 90);
  mailbox_->outcome = mail::Outcome::failed;
  auth::MailTally tally;
  for (int i = 0; i < 3; ++i) {  // one that fails leaves the others for another time
    tally = send();
    EXPECT_EQ(tally.sent, 0);
    EXPECT_EQ(tally.failed, 1);
  }
  EXPECT_EQ(waiting().waiting, 3) << "put off is not sent";
  // A link that is worth nothing any more is not waited for; one that ended before it was sent is lost.
  world().sql("UPDATE mails SET used_at = now() WHERE purpose = 'PASSWORD_RESET'");
  EXPECT_EQ(waiting().waiting, 2);
  world().sql("UPDATE mails SET expires_at = now() WHERE created_at < now() - interval '60 s'");
  now = waiting();
  EXPECT_EQ(now.waiting, 1);
  EXPECT_EQ(now.expired, 1);
  EXPECT_LT(now.age_us, 60'000'000);
  mailbox_->outcome = mail::Outcome::refused;
  for (int i = 1; i <= 3; ++i) {
    due();
    tally = send();
    EXPECT_EQ(tally.failed + tally.refused, i == 1 || i == 2 ? 1 : 0) << i;
  }
  EXPECT_EQ(waiting().waiting, 0);
  EXPECT_EQ(waiting().age_us, 0);
  mailbox_->outcome = mail::Outcome::sent;
  registered();
  EXPECT_EQ(send().sent, 1);
  EXPECT_EQ(waiting().waiting, 0);
}

TEST_F(AuthMail, AServerThatEndsHasMarkedWhatItSentAndLeavesTheRest) {
  send();
  world().sql("DELETE FROM mails");
  for (int i = 0; i < 3; ++i) registered();
  mailbox_->mails.clear();
  const auto states = [] {
    return world().sql(
        "SELECT string_agg(concat_ws(' ', attempts, sent_at IS NOT NULL), ', ' ORDER BY sent_at) FROM mails");
  };
  // It ends while the first is on its way.
  mailbox_->taken = [this] { post_.drain(); };
  send();
  EXPECT_EQ(mailbox_->mails.size(), 1U);
  EXPECT_EQ(states(), "1 t, 0 f, 0 f");
}

TEST_F(AuthMail, OldRowsArePurged) {
  registered();
  send();
  world().sql("UPDATE mails SET expires_at = now() - interval '2 days'");
  const auto purged = [](db::Client& database) -> db::Awaitable<std::int64_t> {
    const auto transaction = database.begin();
    const auto count = co_await auth::purge_sessions(*transaction);
    co_await transaction->commit();
    co_return count;
  };
  EXPECT_GE(world().wait(purged(world().desk().database)), 1);
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM mails"), "0");
}

}  // namespace
}  // namespace hourz::harness
