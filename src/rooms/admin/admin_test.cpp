// Reports with their copies, suspension and its end, and the audit log of it all.
#include <set>

#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

class Admin : public WorldTest {
 protected:
  static Answer report(const Person& who, const json::object& body) {
    return world().post("/api/reports", body, who.token);
  }
  static Answer suspend(const Person& admin, const Person& who) {
    return world().post("/api/admin/users/" + to_string(who.id) + "/suspend", {{"reason", "Spam"}}, admin.token);
  }
  static Answer restore(const Person& admin, const Person& who) {
    return world().post("/api/admin/users/" + to_string(who.id) + "/restore", {}, admin.token);
  }
  static std::string room_of(const std::string& gig) {
    return world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  }
  static std::string accepted(const Person& seeker, const Person& helper) {
    const std::string gig = world().post_gig(seeker);
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, helper.token).status, 200);
    return gig;
  }
};

TEST_F(Admin, AReportKeepsACopyOfWhatItIsAbout) {
  const Person admin = world().admin(), ann = world().person("Ann"), ben = world().person("Ben");
  ASSERT_EQ(world().put("/api/users/me", {{"bio", "Rude words"}}, ben.token).status, 200);
  const std::string open = world().post_gig(ben, {{"title", "Forbidden things"}});
  const std::string gig = accepted(ann, ben), said = "/api/chat/rooms/" + room_of(gig) + "/messages";
  const Answer message = world().post(said, {{"content", "Worse words"}}, ben.token);

  const Answer of_user =
      report(ann, {{"user_id", to_string(ben.id)}, {"reason", "rude"}, {"comment", "See the profile"}});
  ASSERT_EQ(of_user.status, 201) << of_user.text;
  EXPECT_EQ(of_user.string_at("/user_id"), to_string(ben.id));
  EXPECT_TRUE(of_user.at("/gig_id").is_null());
  EXPECT_EQ(world().get(of_user.header("Location"), ann.token).text, of_user.text);
  EXPECT_EQ(world().get(of_user.header("Location"), ben.token).status, 404) << "nobody else's, the reported least";
  const Answer of_gig = report(ann, {{"gig_id", open}, {"reason", "illegal"}});
  const Answer of_message = report(ann, {{"message_id", message.string_at("/id")}, {"reason", "abuse"}});
  ASSERT_EQ(of_gig.status, 201) << of_gig.text;
  ASSERT_EQ(of_message.status, 201) << of_message.text;

  // What it is about changes; the copies do not.
  ASSERT_EQ(world().put("/api/users/me", {{"bio", "Kind words"}}, ben.token).status, 200);
  ASSERT_EQ(world().put("/api/gigs/" + open, {{"title", "Nothing at all"}}, ben.token).status, 200);
  const Answer list = world().get("/api/admin/reports?status=open", admin.token);
  ASSERT_EQ(list.at("/reports").as_array().size(), 3U) << list.text;
  EXPECT_EQ(list.string_at("/reports/0/content/content"), "Worse words");
  EXPECT_EQ(list.string_at("/reports/0/kind"), "MESSAGE");
  EXPECT_EQ(list.string_at("/reports/1/content/title"), "Forbidden things");
  EXPECT_EQ(list.string_at("/reports/2/content/bio"), "Rude words");
  for (int i = 0; i < 3; ++i) {
    const auto& one = list.at("/reports/" + std::to_string(i));
    EXPECT_EQ(one.at("reported_id").as_string(), to_string(ben.id));
    EXPECT_EQ(one.at("reporter_id").as_string(), to_string(ann.id));
  }
  const std::string target = "/api/admin/reports/" + of_user.string_at("/id");
  EXPECT_EQ(world().get(target, admin.token).string_at("/comment"), "See the profile");
  EXPECT_EQ(world().get("/api/admin/reports/" + to_string(make_uuid()), admin.token).status, 404);

  // Once while it is open; resolved once; then again.
  const json::object again{{"user_id", to_string(ben.id)}, {"reason", "rude"}};
  EXPECT_EQ(report(ann, again).code(), "already_reported");
  const Answer resolved = world().put(target, {{"resolution", "ACTION_TAKEN"}, {"note", "Warned"}}, admin.token);
  ASSERT_EQ(resolved.status, 200) << resolved.text;
  EXPECT_EQ(resolved.string_at("/status"), "ACTION_TAKEN");
  EXPECT_EQ(resolved.string_at("/resolved_by"), to_string(admin.id));
  const Answer late = world().put(target, {{"resolution", "DISMISSED"}}, admin.token);
  EXPECT_EQ(late.code(), "report_resolved");
  EXPECT_EQ(late.string_at("/current_status"), "ACTION_TAKEN");
  EXPECT_EQ(
      world().put("/api/admin/reports/" + to_string(make_uuid()), {{"resolution", "DISMISSED"}}, admin.token).status,
      404);
  EXPECT_EQ(report(ann, again).status, 201);
  const Answer log = world().get("/api/admin/audit-log?action=report.resolve", admin.token);
  ASSERT_EQ(log.at("/entries").as_array().size(), 1U);
  EXPECT_EQ(log.string_at("/entries/0/subject_id"), of_user.string_at("/id"));
  EXPECT_EQ(log.string_at("/entries/0/details/note"), "Warned");
}

TEST_F(Admin, OnlyWhatOneMaySeeCanBeReported) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string gig = accepted(ann, ben);
  const Answer message = world().post("/api/chat/rooms/" + room_of(gig) + "/messages", {{"content", "Hi"}}, ben.token);
  const std::string id = message.string_at("/id"), nobody = to_string(make_uuid());
  for (const char* member : {"user_id", "gig_id", "message_id"}) {
    EXPECT_EQ(report(eve, {{member, nobody}, {"reason", "x"}}).status, 404) << member;
  }
  const Answer foreign = report(eve, {{"message_id", id}, {"reason", "x"}});
  EXPECT_EQ(foreign.status, 404);
  EXPECT_EQ(report(ben, {{"message_id", id}, {"reason", "x"}}).code(), "self_report");
  EXPECT_EQ(report(ann, {{"gig_id", gig}, {"reason", "x"}}).code(), "self_report");
  EXPECT_EQ(report(ann, {{"user_id", to_string(ann.id)}, {"reason", "x"}}).code(), "self_report");
  EXPECT_EQ(report(ann, {{"reason", "x"}}).faults(), std::vector<std::string>{"user_id:not_one"});
  EXPECT_EQ(report(ann, {{"reason", "x"}, {"user_id", nobody}, {"gig_id", nobody}}).faults(),
            std::vector<std::string>{"user_id:not_one"});
  EXPECT_EQ(report(ann, {{"user_id", to_string(ben.id)}}).faults(), std::vector<std::string>{"reason:required"});

  // A block hides an open gig; a person, and what was said, can be reported across it.
  const std::string open = world().post_gig(ben);
  ASSERT_EQ(world().post("/api/users/" + to_string(ann.id) + "/block", {}, ben.token).status, 204);
  EXPECT_EQ(report(ann, {{"gig_id", open}, {"reason", "x"}}).status, 404);
  EXPECT_EQ(report(ann, {{"user_id", to_string(ben.id)}, {"reason", "x"}}).status, 201);
  EXPECT_EQ(report(ann, {{"message_id", id}, {"reason", "x"}}).status, 201);
  EXPECT_EQ(report(ben, {{"gig_id", gig}, {"reason", "x"}}).status, 201) << "a side of it";
}

TEST_F(Admin, TwentyReportsAtOnceAreOne) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  std::vector<Ask> asks(20,
                        {http::Method::post, "/api/reports",
                         json::serialize(json::object{{"user_id", to_string(ben.id)}, {"reason", "x"}}), ann.token});
  int made = 0;
  for (const Answer& answer : world().send_all(asks)) {
    if (answer.status == 201) {
      ++made;
    } else {
      EXPECT_EQ(answer.code(), "already_reported");
    }
  }
  EXPECT_EQ(made, 1);
}

TEST_F(Admin, ReportsAndTheAuditLogComeInPages) {
  const Person admin = world().admin(), ann = world().person("Ann");
  std::vector<std::string> made;
  for (int i = 0; i < 5; ++i) {
    const Person other = world().person();
    made.insert(made.begin(), report(ann, {{"user_id", to_string(other.id)}, {"reason", "x"}}).string_at("/id"));
    ASSERT_EQ(suspend(admin, other).status, 200);
  }
  const auto paged = [&](const std::string& target, const std::string& plural, const char* member) {
    std::vector<std::string> met;
    std::string next = target + "limit=2";
    for (int pages = 0; pages < 30; ++pages) {
      const Answer page = world().get(next, admin.token);
      EXPECT_EQ(page.status, 200) << page.text;
      for (const auto& one : page.at("/" + plural).as_array()) met.emplace_back(one.at(member).as_string());
      if (page.at("/next_cursor").is_null()) break;
      next = target + "limit=2&cursor=" + page.string_at("/next_cursor");
    }
    return met;
  };
  auto reports = paged("/api/admin/reports?", "reports", "id");
  ASSERT_GE(reports.size(), 5U);
  reports.resize(5);
  EXPECT_EQ(reports, made);
  EXPECT_EQ(paged("/api/admin/audit-log?admin_id=" + to_string(admin.id) + "&", "entries", "action"),
            std::vector<std::string>(5, "user.suspend"));
  EXPECT_EQ(world().get("/api/admin/reports?cursor=nonsense", admin.token).code(), "invalid_cursor");
}

TEST_F(Admin, ASuspendedPersonIsOutAtOnceAndTheirOpenGigsAreGone) {
  const Person admin = world().admin(), ann = world().person("Ann"), ben = world().person("Ben");
  const std::string open = world().post_gig(ann), going = accepted(ann, ben);
  const Uuid other_session = world().session_for(ann.id);
  ASSERT_EQ(world().get("/api/users/me", ann.token).status, 200);  // is remembered now
  const Answer suspended = suspend(admin, ann);
  ASSERT_EQ(suspended.status, 200) << suspended.text;
  EXPECT_FALSE(suspended.at("/suspended_at").is_null());
  EXPECT_EQ(world().get("/api/users/me", ann.token).code(), "session_ended");
  EXPECT_EQ(world().get("/api/users/me", world().token_for(ann.id, other_session)).code(), "session_ended");
  EXPECT_EQ(
      world().sql("SELECT count(*) FROM outbox o JOIN sessions s ON s.id = o.topic WHERE o.kind = 'session.ended' "
                  "AND s.user_id = $1::uuid AND s.end_reason = 'suspended'",
                  {to_string(ann.id)}),
      "2");
  EXPECT_EQ(world().get("/api/users/" + to_string(ann.id), ben.token).status, 404);
  EXPECT_EQ(world().get("/api/gigs/" + open, ben.token).string_at("/status"), "CANCELLED");
  EXPECT_EQ(world().post("/api/gigs/" + open + "/accept", {}, ben.token).code(), "gig_not_open");
  EXPECT_EQ(world().get("/api/gigs/" + going, ben.token).string_at("/status"), "ACCEPTED");
  EXPECT_EQ(world().put("/api/gigs/" + going + "/status", {{"status", "IN_PROGRESS"}}, ben.token).status, 200);
  EXPECT_EQ(world().get("/api/admin/users/" + to_string(ann.id), admin.token).text, suspended.text);

  // Again and back again: the same, and the log has each once.
  EXPECT_EQ(suspend(admin, ann).text, suspended.text);
  const Answer restored = restore(admin, ann);
  ASSERT_EQ(restored.status, 200) << restored.text;
  EXPECT_TRUE(restored.at("/suspended_at").is_null());
  EXPECT_EQ(restore(admin, ann).status, 200);
  EXPECT_EQ(world().get("/api/users/me", ann.token).code(), "session_ended") << "what ended stays ended";
  EXPECT_EQ(world().get("/api/users/me", world().token_for(ann.id, world().session_for(ann.id))).status, 200);
  const Answer log = world().get("/api/admin/audit-log?subject_id=" + to_string(ann.id), admin.token);
  ASSERT_EQ(log.at("/entries").as_array().size(), 2U) << log.text;
  EXPECT_EQ(log.string_at("/entries/0/action"), "user.restore");
  EXPECT_EQ(log.string_at("/entries/1/action"), "user.suspend");
  EXPECT_EQ(log.string_at("/entries/1/details/reason"), "Spam");
  // The act is in the export of whom it was done to, and its reason in the administrator's alone.
  const auto acts = [](const std::string& token) {
    const Answer exported = world().get("/api/users/me/export", token);
    EXPECT_EQ(exported.status, 200) << exported.text;
    return json::serialize(exported.at("/data/audit_log"));
  };
  const std::string theirs = acts(world().token_for(ann.id, world().session_for(ann.id)));
  EXPECT_NE(theirs.find("user.suspend"), std::string::npos) << theirs;
  EXPECT_EQ(theirs.find("Spam"), std::string::npos) << theirs;
  EXPECT_NE(acts(admin.token).find("Spam"), std::string::npos);

  for (const char* act : {"suspend", "restore"}) {
    const std::string target = "/api/admin/users/" + to_string(make_uuid()) + "/" + act;
    EXPECT_EQ(world().post(target, {{"reason", "x"}}, admin.token).status, 404);
  }
}

TEST_F(Admin, AMessageIsFoundByItsIdHoweverManyThereAre) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = world().post_gig(ann);
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ben.token).status, 200);
  const std::string room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  world().sql(
      "INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, created_at) "
      "SELECT $1::uuid, 1 + n, gen_random_uuid(), $2::uuid, 'TEXT', 'x', now() FROM generate_series(1, 50000) n",
      {room, to_string(ben.id)});
  world().sql("ANALYZE chat_messages");
  const std::string id =
      world().sql("SELECT id::text FROM chat_messages WHERE room_id = $1::uuid AND seq = 30000", {room});
  const auto visited = [] {
    const auto row = world().rows(
        "SELECT seq_scan + idx_scan, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables "
        "WHERE relname = 'chat_messages'");
    return std::pair{std::stoll(row[0][0].value()), std::stoll(row[0][1].value())};
  };
  // PostgreSQL counts what a connection did within a second of its next transaction.
  const auto ask = [&] { return world().post("/api/reports", {{"message_id", id}, {"reason", "Rude"}}, ann.token); };
  world().sql("SELECT pg_stat_force_next_flush()");
  const auto before = visited();
  ASSERT_EQ(ask().status, 201);
  EXPECT_TRUE(world().until([&] { return ask().status == 409 && visited().first > before.first + 5; }));
  EXPECT_LT(visited().second - before.second, 10'000);
}

TEST_F(Admin, OnlyTheRightPasswordIsToldOfASuspension) {
  const Person admin = world().admin();
  const json::object account{{"email", "suspended@example.com"}, {"password", "a long pass phrase"}};
  const Answer made = world().post("/api/auth/register", account);
  ASSERT_EQ(made.status, 201) << made.text;
  const Person ann{*parse_uuid(made.string_at("/id")), {}, {}, {}};
  const Answer pair = world().post("/api/auth/login", account);
  ASSERT_EQ(suspend(admin, ann).status, 200);
  EXPECT_EQ(world().post("/api/auth/login", account).code(), "account_suspended");
  const json::object wrong{{"email", "suspended@example.com"}, {"password", "another pass phrase"}};
  EXPECT_EQ(world().post("/api/auth/login", wrong).code(), "invalid_credentials");
  EXPECT_EQ(world().post("/api/auth/refresh", {{"refresh_token", pair.string_at("/refresh_token")}}).status, 401);
  ASSERT_EQ(restore(admin, ann).status, 200);
  EXPECT_EQ(world().post("/api/auth/login", account).status, 200);
}

TEST_F(Admin, ThereIsAlwaysAnAdministratorLeft) {
  world().sql("UPDATE users SET role = 'USER' WHERE role = 'ADMIN'");
  const Person one = world().admin(), two = world().admin();
  EXPECT_EQ(suspend(one, one).code(), "self_suspension");
  // Both at once: one of them is left.
  for (int round = 0; round < 10; ++round) {
    world().sql("UPDATE users SET suspended_at = NULL WHERE role = 'ADMIN'");
    const Person first{one.id, {}, {}, world().token_for(one.id, world().session_for(one.id))};
    const Person second{two.id, {}, {}, world().token_for(two.id, world().session_for(two.id))};
    const auto ask = [](const Person& admin, const Person& who) {
      return Ask{http::Method::post, "/api/admin/users/" + to_string(who.id) + "/suspend", R"({"reason":"x"})",
                 admin.token};
    };
    const auto answers = world().send_all({ask(first, second), ask(second, first)});
    EXPECT_EQ((answers[0].status == 200) + (answers[1].status == 200), 1) << answers[0].text << answers[1].text;
    EXPECT_EQ(world().sql("SELECT count(*) FROM users WHERE role = 'ADMIN' AND suspended_at IS NULL"), "1");
  }
}

TEST_F(Admin, TheCommandLineMakesAdministratorsAndTakesItBackAndBothStandInTheLog) {
  world().sql("UPDATE users SET role = 'USER' WHERE role = 'ADMIN'");
  const Person boss = world().person("Boss", "boss@example.com"), ann = world().person("Ann", "ann.admin@example.com");
  const auto set = [](const char* email, http::Role role) {
    const auto transaction = world().desk().database.begin();
    const auto changed = world().wait(users::set_role(*transaction, email, role));
    world().wait(transaction->commit());
    return changed;
  };
  const auto role_of = [](const Person& who) {
    return world().sql("SELECT role FROM users WHERE id = $1::uuid", {to_string(who.id)});
  };
  EXPECT_FALSE(set("nobody@example.com", http::Role::ADMIN).has_value());
  EXPECT_FALSE(set("nobody@example.com", http::Role::USER).has_value());
  EXPECT_EQ(set("boss@example.com", http::Role::USER), false);
  EXPECT_EQ(set("boss@example.com", http::Role::ADMIN), true);
  EXPECT_EQ(set("boss@example.com", http::Role::ADMIN), false);
  EXPECT_EQ(world().get("/api/auth/me", boss.token).string_at("/role"), "ADMIN");
  const auto last = [&](const char* email) {
    try {
      set(email, http::Role::USER);
    } catch (const Problem& problem) {
      return problem.code == ErrorCode::last_admin;
    }
    return false;
  };
  EXPECT_TRUE(last("boss@example.com"));
  EXPECT_EQ(role_of(boss), "ADMIN");
  EXPECT_EQ(set("ann.admin@example.com", http::Role::ADMIN), true);
  // Somebody who is suspended is no administrator whom others could ask.
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(ann.id)});
  EXPECT_TRUE(last("boss@example.com"));
  world().sql("UPDATE users SET suspended_at = NULL WHERE id = $1::uuid", {to_string(ann.id)});
  EXPECT_EQ(set("ann.admin@example.com", http::Role::USER), true);
  EXPECT_EQ(role_of(ann), "USER");
  const Answer of_ann = world().get("/api/admin/audit-log?subject_id=" + to_string(ann.id),
                                    world().token_for(boss.id, world().session_for(boss.id)));
  ASSERT_EQ(of_ann.status, 200) << of_ann.text;
  ASSERT_EQ(of_ann.at("/entries").as_array().size(), 2U) << of_ann.text;
  for (const auto& [entry, from, to] :
       {std::tuple{"/entries/1", "USER", "ADMIN"}, std::tuple{"/entries/0", "ADMIN", "USER"}}) {
    EXPECT_TRUE(of_ann.at(entry + std::string("/admin_id")).is_null()) << "nobody's account did it";
    EXPECT_EQ(of_ann.string_at(entry + std::string("/action")), "role.set");
    EXPECT_EQ(of_ann.string_at(entry + std::string("/details/from")), from);
    EXPECT_EQ(of_ann.string_at(entry + std::string("/details/to")), to);
  }
  EXPECT_EQ(world().sql("SELECT count(*) FROM audit_log WHERE subject_id = $1::uuid", {to_string(boss.id)}), "1")
      << "what changed nothing, or was refused, is no act";
  const Answer exported = world().get("/api/users/me/export", ann.token);
  EXPECT_EQ(exported.at("/data/audit_log/0/by_me").as_bool(), false) << exported.text;

  // Of two who are taken it at once, one stays.
  for (int round = 0; round < 10; ++round) {
    world().sql("UPDATE users SET role = 'ADMIN' WHERE id IN ($1::uuid, $2::uuid)",
                {to_string(boss.id), to_string(ann.id)});
    const auto one = world().desk().database.begin(), two = world().desk().database.begin();
    int refused = 0, ended = 0;
    const auto revoke = [&](db::Transaction& transaction, const char* email) {
      boost::asio::co_spawn(world().io(), users::set_role(transaction, email, http::Role::USER),
                            [&](std::exception_ptr failure, std::optional<bool>) {
                              refused += failure != nullptr;
                              boost::asio::co_spawn(world().io(),
                                                    failure ? transaction.rollback() : transaction.commit(),
                                                    [&](std::exception_ptr) { ++ended; });
                            });
    };
    revoke(*one, "boss@example.com");
    revoke(*two, "ann.admin@example.com");
    ASSERT_TRUE(world().until([&] { return ended == 2; }));
    EXPECT_EQ(refused, 1);
    EXPECT_EQ(world().sql("SELECT count(*) FROM users WHERE role = 'ADMIN' AND suspended_at IS NULL"), "1");
  }
}

TEST_F(Admin, NoOpenGigOfASuspendedPersonIsLeftWhateverRaces) {
  const Person admin = world().admin(), helper = world().person("Helper");
  for (int round = 0; round < 25; ++round) {
    const Person ann = world().person("Ann");
    const std::string gig = world().post_gig(ann);
    std::vector<Ask> asks;
    for (int i = 0; i < 4; ++i) {
      asks.push_back({http::Method::post, "/api/gigs", World::gig_body(), ann.token});
    }
    asks.push_back({http::Method::post, "/api/gigs/" + gig + "/accept", {}, helper.token});
    asks.insert(asks.begin() + 2, {http::Method::post, "/api/admin/users/" + to_string(ann.id) + "/suspend",
                                   R"({"reason":"x"})", admin.token});
    for (const Answer& answer : world().send_all(asks)) EXPECT_LT(answer.status, 500) << answer.text;
    EXPECT_EQ(
        world().sql("SELECT count(*) FROM gigs WHERE seeker_id = $1::uuid AND status = 'PENDING'", {to_string(ann.id)}),
        "0");
    EXPECT_EQ(
        world().sql("SELECT count(*) FROM sessions WHERE user_id = $1::uuid AND ended_at IS NULL", {to_string(ann.id)}),
        "0");
  }
}

TEST_F(Admin, EveryActOfAnAdministratorStandsInTheLog) {
  const Person admin = world().admin(), ann = world().person("Ann"), ben = world().person("Ben");
  const auto dispute = [&] {
    const std::string gig = accepted(ann, ben);
    const std::string id = world().post("/api/transactions/escrow", {{"gig_id", gig}}, ann.token).string_at("/id");
    EXPECT_EQ(world().put("/api/transactions/" + id + "/dispute", {{"reason", "x"}}, ann.token).status, 200);
    return id;
  };
  const std::string split = dispute(), refund = dispute();
  ASSERT_EQ(world().put("/api/transactions/" + split + "/split", {{"payee_amount", 1}}, admin.token).status, 200);
  ASSERT_EQ(world().put("/api/transactions/" + refund + "/refund", {}, admin.token).status, 200);
  const std::string score = "/api/users/" + to_string(ann.id) + "/reputation";
  ASSERT_EQ(world().put(score, {{"score", 4}, {"reason", "x"}}, admin.token).status, 200);
  ASSERT_EQ(world().put(score, {}, admin.token).status, 200);
  ASSERT_EQ(suspend(admin, ann).status, 200);
  ASSERT_EQ(restore(admin, ann).status, 200);
  const std::string made = report(ben, {{"user_id", to_string(ann.id)}, {"reason", "x"}}).string_at("/id");
  ASSERT_EQ(world().put("/api/admin/reports/" + made, {{"resolution", "DISMISSED"}}, admin.token).status, 200);

  std::vector<std::pair<std::string, std::string>> met;
  const Answer log = world().get("/api/admin/audit-log?limit=100&admin_id=" + to_string(admin.id), admin.token);
  for (const auto& one : log.at("/entries").as_array()) {
    met.emplace_back(one.at("action").as_string(), one.at("subject_id").as_string());
  }
  const std::string her = to_string(ann.id);
  EXPECT_EQ(met, (std::vector<std::pair<std::string, std::string>>{{"report.resolve", made},
                                                                   {"user.restore", her},
                                                                   {"user.suspend", her},
                                                                   {"reputation.set", her},
                                                                   {"reputation.set", her},
                                                                   {"payment.refund", refund},
                                                                   {"payment.split", split}}));
  // One who writes must have been met above: an endpoint for administrators that changes something leaves a line.
  for (const auto& bound : world().house().router.endpoints()) {
    if (bound->endpoint->access != http::Access::admin || bound->endpoint->effect == http::Effect::read) continue;
    const std::set<std::string_view> known{"users.set_reputation", "payments.refund", "payments.split",
                                           "admin.resolve_report", "admin.suspend",   "admin.restore"};
    EXPECT_TRUE(known.contains(bound->endpoint->name)) << bound->endpoint->name << " must write the audit log";
  }
}

}  // namespace
}  // namespace hourz::harness
