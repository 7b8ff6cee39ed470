// Export and deletion of accounts: nothing about a person is left out of the one or left behind by the other, and
// neither open gigs nor money are lost to it.
#include "rooms/account/account.hpp"

#include <filesystem>
#include <map>
#include <set>

#include "core/crypto.hpp"
#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

class Account : public WorldTest {
 protected:
  static Answer leave(const Person& who, const std::string& body = {}) {
    return world().send({http::Method::del, "/api/users/me", body, who.token});
  }
  static Answer exported(const Person& who) { return world().get("/api/users/me/export", who.token); }
  static std::string accepted(const Person& seeker, const Person& helper, const json::object& change = {}) {
    const std::string gig = world().post_gig(seeker, change);
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, helper.token).status, 200);
    return gig;
  }
  static void finish(const std::string& gig, const Person& side) {
    for (const char* status : {"IN_PROGRESS", "COMPLETED"}) {
      EXPECT_EQ(world().put("/api/gigs/" + gig + "/status", {{"status", status}}, side.token).status, 200);
    }
  }
  static std::string room_of(const std::string& gig) {
    return world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  }

  static Ask uploading(const Person& who, const std::string& category) {
    // One pixel.
    static const std::string picture = *from_base64url(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk-M9QDwADhgGAWjR9awAAAABJRU5ErkJggg");
    const std::string body =
        "--line\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n" + picture + "\r\n--line--\r\n";
    return {http::Method::post,
            "/api/upload/" + category,
            body,
            who.token,
            {{"content-type", "multipart/form-data; boundary=line"}}};
  }
  static std::string uploaded(const Person& who, const std::string& category) {
    const Answer made = world().send(uploading(who, category));
    EXPECT_EQ(made.status, 201) << made.text;
    return made.string_at("/url");
  }

  struct Life {
    Person ann, ben;
    std::string gig, room, payment;
    std::map<std::string, std::string> pictures;  ///< address by category
  };
  /// Ann has something of everything, with her canaries; nothing is open.
  static Life lived() {
    Life life{world().admin(), world().person("Ben"), {}, {}, {}, {}};
    const Person& ann = life.ann;
    for (const char* category : {"profile", "gig", "chat"}) life.pictures[category] = uploaded(ann, category);
    EXPECT_EQ(world()
                  .put("/api/users/me",
                       {{"name", "CANARY-name"},
                        {"bio", "CANARY-bio"},
                        {"contact_info", {{"phone_number", "0812345678"}, {"line_id", "CANARY-line"}}}},
                       ann.token)
                  .status,
              200);
    EXPECT_EQ(world()
                  .put("/api/users/location",
                       {{"latitude", 13.7512345},
                        {"longitude", 100.5},
                        {"address_text", "CANARY-home"},
                        {"postal_code", "10110"}},
                       ann.token)
                  .status,
              200);
    EXPECT_EQ(world().put("/api/users/availability", {{"is_available", true}}, ann.token).status, 200);
    world().sql("UPDATE sessions SET user_agent = 'CANARY-device', ip = '203.0.113.7' WHERE user_id = $1::uuid",
                {to_string(ann.id)});
    EXPECT_EQ(world().post("/api/ws/ticket", {}, ann.token).status, 200);
    EXPECT_EQ(world().post("/api/auth/verify-email/resend", "", ann.token).status, 202);
    life.gig = accepted(ann, life.ben,
                        {{"title", "CANARY-title"},
                         {"description", "CANARY-description"},
                         {"address_text", "CANARY-address"},
                         {"latitude", 13.7554321},
                         {"image_urls", json::array{life.pictures["gig"]}}});
    life.room = room_of(life.gig);
    const json::object said{{"content", "CANARY-message"}, {"client_id", to_string(make_uuid())}};
    EXPECT_EQ(world().post("/api/chat/rooms/" + life.room + "/messages", said, ann.token).status, 201);
    const json::object shown{{"image_url", life.pictures["chat"]}};
    EXPECT_EQ(world().post("/api/chat/rooms/" + life.room + "/messages", shown, ann.token).status, 201);
    EXPECT_EQ(world()
                  .post("/api/chat/rooms/" + life.room + "/messages", {{"content", "OTHER-message"}}, life.ben.token)
                  .status,
              201);
    const Answer paid = world().post("/api/transactions/escrow", {{"gig_id", life.gig}}, ann.token,
                                     {{"idempotency-key", "CANARY-key"}});
    EXPECT_EQ(paid.status, 201) << paid.text;
    life.payment = paid.string_at("/id");
    finish(life.gig, ann);
    EXPECT_EQ(world().put("/api/transactions/" + life.payment + "/release", {}, ann.token).status, 200);
    const json::object review{{"gig_id", life.gig}, {"rating", 4}, {"comment", "CANARY-review"}};
    EXPECT_EQ(world().post("/api/reviews", review, ann.token).status, 201);
    const json::object answer{{"gig_id", life.gig}, {"rating", 5}, {"comment", "RECEIVED-review"}};
    EXPECT_EQ(world().post("/api/reviews", answer, life.ben.token).status, 201);
    const json::object note{{"buddy_id", to_string(life.ben.id)}, {"notes", "CANARY-notes"}};
    EXPECT_EQ(world().post("/api/buddies", note, ann.token).status, 201);
    EXPECT_EQ(world()
                  .post("/api/buddies", {{"buddy_id", to_string(ann.id)}, {"notes", "SECRET-notes"}}, life.ben.token)
                  .status,
              201);
    const Person eve = world().person("Eve");
    EXPECT_EQ(world().post("/api/users/" + to_string(eve.id) + "/block", {}, ann.token).status, 204);
    const json::object about{{"user_id", to_string(eve.id)}, {"reason", "CANARY-reason"}};
    EXPECT_EQ(world().post("/api/reports", about, ann.token).status, 201);
    EXPECT_EQ(
        world().post("/api/reports", {{"user_id", to_string(ann.id)}, {"reason", "SECRET-reason"}}, eve.token).status,
        201);
    const json::object score{{"score", 4.5}, {"reason", "CANARY-audit"}};
    EXPECT_EQ(world().put("/api/users/" + to_string(eve.id) + "/reputation", score, ann.token).status, 200);
    const std::string helped = accepted(life.ben, ann);
    EXPECT_EQ(world().post("/api/gigs/" + helped + "/withdraw", {{"reason", "CANARY-withdrawn"}}, ann.token).status,
              200);
    return life;
  }
};

/// Every column that names a person, and the list of the export that has its rows; or why it has none.
const std::map<std::string, std::string> columns{
    {"users.id", "profile"},
    {"uploads.owner_id", "uploads"},
    {"upload_sums.user_id", "- a count of uploads"},
    {"sessions.user_id", "sessions"},
    {"mails.user_id", "mails"},
    {"socket_tickets.user_id", "- half a minute's, and only a hash"},
    {"gigs.seeker_id", "gigs"},
    {"gigs.helper_id", "gigs"},
    {"gig_assignments.helper_id", "gig_assignments"},
    {"gig_events.actor_id", "gig_events"},
    {"chat_rooms.seeker_id", "chat_rooms"},
    {"chat_rooms.helper_id", "chat_rooms"},
    {"chat_participants.user_id", "chat_rooms"},
    {"chat_messages.sender_id", "chat_messages"},
    {"buddies.owner_id", "buddies"},
    {"buddies.buddy_id", "- private to its owner"},
    {"blocks.blocker_id", "blocks"},
    {"blocks.blocked_id", "- silent"},
    {"reviews.reviewer_id", "reviews_written"},
    {"reviews.reviewee_id", "reviews_received"},
    {"transactions.payer_id", "transactions"},
    {"transactions.payee_id", "transactions"},
    {"transactions.disputed_by", "transactions"},
    {"ledger_accounts.owner", "ledger_entries"},
    {"reports.reporter_id", "reports"},
    {"reports.reported_id", "- silent"},
    {"reports.resolved_by", "audit_log"},
    {"audit_log.admin_id", "audit_log"},
    {"audit_log.subject_id", "audit_log"},
    {"idempotency_keys.user_id", "- answers that the person was given, kept for a day"},
};

/// E06.
TEST_F(Account, TheExportHasAListForEveryTableThatNamesPeople) {
  std::set<std::string> parts;
  for (const auto& part : world().house().account.personal.parts) parts.insert(std::string(part.name));
  // By foreign key, and by what is known to name people without one.
  for (const auto& row : world().rows(R"(
      SELECT k.conrelid::regclass || '.' || a.attname FROM pg_constraint k
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
      WHERE k.contype = 'f' AND k.confrelid = 'users'::regclass
      UNION
      SELECT table_name || '.' || column_name FROM information_schema.columns
      WHERE table_schema = 'public' AND (column_name ~ '^(user|owner|sender|actor|author|uploader)(_id)?$'))")) {
    const auto known = columns.find(row[0].value());
    ASSERT_TRUE(known != columns.end()) << row[0].value() << " names people: where is its part of the export?";
    if (!known->second.starts_with('-')) EXPECT_TRUE(parts.contains(known->second)) << known->second;
  }
}

TEST_F(Account, TheExportHasEverythingAndNobodyElsesSecrets) {
  const Life life = lived();
  const Answer all = exported(life.ann);
  ASSERT_EQ(all.status, 200) << all.text;
  EXPECT_EQ(all.header("Content-Disposition"), "attachment; filename=\"hourz-export.json\"");
  EXPECT_EQ(all.at("/truncated").as_array().size(), 0U);
  for (const char* canary :
       {"CANARY-name",  "CANARY-bio",       "+66812345678",  "CANARY-line",     "13.7512345",         "CANARY-home",
        "10110",        "CANARY-device",    "203.0.113.7",   "CANARY-title",    "CANARY-description", "CANARY-address",
        "13.7554321",   "CANARY-message",   "CANARY-review", "RECEIVED-review", "CANARY-notes",       "CANARY-reason",
        "CANARY-audit", "CANARY-withdrawn", "ESCROW"}) {
    EXPECT_NE(all.text.find(canary), std::string::npos) << canary;
  }
  for (const char* secret : {"OTHER-message", "SECRET-notes", "SECRET-reason", "password", "argon2", "counter"}) {
    EXPECT_EQ(all.text.find(secret), std::string::npos) << secret;
  }
  for (const auto& part : world().house().account.personal.parts) {
    EXPECT_FALSE(all.at("/data/" + std::string(part.name)).as_array().empty()) << part.name;
  }
  for (const auto& [category, url] : life.pictures) EXPECT_NE(all.text.find(url.substr(7)), std::string::npos) << url;
  EXPECT_EQ(all.number_at("/data/transactions/0/amount"), 350.5);
  EXPECT_EQ(all.string_at("/data/profile/0/created_at").back(), 'Z');
  // What another has is their own.
  EXPECT_EQ(exported(life.ben).text.find("CANARY-notes"), std::string::npos);
  EXPECT_EQ(exported(life.ben).text.find("13.7512345"), std::string::npos);
  EXPECT_EQ(exported(life.ben).text.find("CANARY-message"), std::string::npos);
}

TEST_F(Account, AnExportComesInPagesAndHasABound) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = accepted(ann, ben), room = room_of(gig);
  world().sql(
      "INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, created_at) "
      "SELECT $1::uuid, 10 + n, gen_random_uuid(), $2::uuid, 'TEXT', 'number ' || n, now() "
      "FROM generate_series(1, 2500) n",
      {room, to_string(ann.id)});
  const Answer all = exported(ann);
  const auto& messages = all.at("/data/chat_messages").as_array();
  ASSERT_EQ(messages.size(), 2500U);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    ASSERT_EQ(messages[i].at("content").as_string(), "number " + std::to_string(i + 1));
  }
  world().house().account.most_bytes = 20'000;
  const Answer cut = exported(ann);
  world().house().account.most_bytes = 64 << 20;
  ASSERT_EQ(cut.status, 200);
  EXPECT_EQ(cut.string_at("/truncated/0"), "chat_messages");
  EXPECT_LT(cut.text.size(), 25'000U);
  EXPECT_GT(cut.at("/data/chat_messages").as_array().size(), 20U);
}

TEST_F(Account, ManyMessagesAreErasedInOneGoThroughThem) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  std::vector<std::string> rooms;
  for (int i = 0; i < 3; ++i) {
    const std::string gig = accepted(ann, ben);
    finish(gig, ann);
    rooms.push_back(room_of(gig));
  }
  // Of both in turn, in a long room between two short ones.
  world().sql("DELETE FROM chat_messages WHERE room_id = $1::uuid AND seq > 1", {rooms[1]});
  world().sql(
      "INSERT INTO chat_messages (room_id, seq, id, sender_id, type, content, created_at) "
      "SELECT $1::uuid, 1 + n, gen_random_uuid(), CASE WHEN n % 2 = 0 THEN $2::uuid ELSE $3::uuid END, 'TEXT', "
      "'said', now() FROM generate_series(1, 40000) n",
      {rooms[1], to_string(ann.id), to_string(ben.id)});
  world().sql("UPDATE chat_rooms SET last_seq = 40001 WHERE id = $1::uuid", {rooms[1]});
  world().sql("ANALYZE chat_messages");
  const auto figures = [] {
    const auto row = world().rows(
        "SELECT n_tup_upd, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables "
        "WHERE relname = 'chat_messages'");
    return std::pair{std::stoll(row[0][0].value()), std::stoll(row[0][1].value())};
  };
  const auto before = figures();
  ASSERT_EQ(leave(ann).status, 204);
  // PostgreSQL counts what a connection did within a second of its next transaction.
  EXPECT_TRUE(world().until([&] {
    world().put("/api/users/availability", {{"is_available", true}}, ben.token);
    return figures().first - before.first >= 20'000;
  }));
  EXPECT_LT(figures().second - before.second, 60'000);
  EXPECT_EQ(world().sql("SELECT concat_ws(' ', count(*) FILTER (WHERE content = '[deleted]'), count(*) FILTER (WHERE "
                        "sender_id = $2::uuid AND content <> '[deleted]'), count(*) FILTER (WHERE content = 'said')) "
                        "FROM chat_messages WHERE room_id = $1::uuid",
                        {rooms[1], to_string(ann.id)}),
            "20000 0 20000");
}

/// E06.
TEST_F(Account, ADeletedAccountIsNobodys) {
  world_ = std::make_unique<World>();  // without the canaries of other tests
  world().admin();                     // another one, who stays
  const Life life = lived();
  const std::string email = world().sql("SELECT email FROM users WHERE id = $1::uuid", {to_string(life.ann.id)});
  const std::string ledger =
      "SELECT count(*) || ' ' || string_agg(encode(hash, 'hex'), '' ORDER BY chain, number, line) "
      "FROM ledger_entries";
  const std::string entries = world().sql(ledger);
  const Answer gone = leave(life.ann);
  ASSERT_EQ(gone.status, 204) << gone.text;
  EXPECT_EQ(world().get("/api/users/me", life.ann.token).code(), "session_ended");
  EXPECT_EQ(world().sql(ledger), entries) << "the ledger is not touched";
  EXPECT_TRUE(world().wait(payments::audit_ledger(world().desk().database.reads())).faults.empty());

  // Nothing of hers is left in any text of any table, but what the documents say stays.
  const std::set<std::string> stays{"gigs.title",        "chat_rooms.gig_title",  "chat_messages.content",
                                    "reviews.comment",   "reports.reason",        "gig_events.reason",
                                    "audit_log.details", "idempotency_keys.body", "transactions.request_key",
                                    "reports.content"};
  for (const auto& row : world().rows("SELECT table_name::text, column_name::text FROM information_schema.columns "
                                      "WHERE table_schema = 'public' AND table_name <> 'spatial_ref_sys' "
                                      "AND data_type IN ('text', 'jsonb', 'ARRAY', 'character varying')")) {
    const std::string table = row[0].value(), column = row[1].value();
    const std::string found = world().sql(
        "SELECT string_agg(DISTINCT left(" + column + "::text, 60), ', ') FROM " + table + " WHERE " + column +
        "::text ~ 'CANARY|66812345678|203\\.0\\.113\\.7' OR " + column + "::text LIKE '%" + email + "%'");
    // A copy that was reported is kept as it was.
    const bool hers =
        found.find("CANARY-message") != std::string::npos || found.find("CANARY-name") != std::string::npos;
    const bool allowed = stays.contains(table + "." + column) && (!hers || table == "reports");
    EXPECT_TRUE(found.empty() || allowed) << table << "." << column << ": " << found;
  }
  EXPECT_EQ(world().sql("SELECT count(*) FROM gigs WHERE seeker_id = $1::uuid AND NOT "
                        "(location::text = public_location::text AND address_text IS NULL)",
                        {to_string(life.ann.id)}),
            "0");
  EXPECT_EQ(world().sql("SELECT count(*) FROM users WHERE fixed_location IS NOT NULL AND id = $1::uuid",
                        {to_string(life.ann.id)}),
            "0");

  // The other side's record stays, of a deleted user.
  const auto get = [&](const std::string& target) { return world().get(target, life.ben.token); };
  EXPECT_EQ(get("/api/gigs/" + life.gig).string_at("/seeker/name"), "Deleted user");
  EXPECT_EQ(get("/api/gigs/" + life.gig).string_at("/description"), "[deleted]");
  const Answer reviews = get("/api/reviews/user/" + to_string(life.ben.id));
  EXPECT_EQ(reviews.string_at("/reviews/0/comment"), "CANARY-review");
  EXPECT_EQ(reviews.string_at("/reviews/0/reviewer/name"), "Deleted user");
  const Answer messages = get("/api/chat/rooms/" + life.room + "/messages");
  bool met = false;
  std::int64_t seq = 0;
  for (const auto& one : messages.at("/messages").as_array()) {
    EXPECT_EQ(one.at("seq").as_int64(), ++seq) << "no gaps";
    if (one.at("content").as_string() == "[deleted]") met = true;
  }
  EXPECT_TRUE(met);
  EXPECT_EQ(get("/api/transactions/" + life.payment).string_at("/status"), "RELEASED");
  EXPECT_EQ(get("/api/users/" + to_string(life.ann.id)).status, 404);
  EXPECT_EQ(get("/api/buddies").at("/buddies").as_array().size(), 0U);
  EXPECT_EQ(world().post("/api/buddies", {{"buddy_id", to_string(life.ann.id)}}, life.ben.token).status, 404);
  EXPECT_EQ(world().post("/api/users/" + to_string(life.ann.id) + "/block", {}, life.ben.token).status, 404);
  const Person admin = world().admin();
  const std::string target = "/api/admin/users/" + to_string(life.ann.id);
  EXPECT_FALSE(world().get(target, admin.token).at("/deleted_at").is_null());
  for (const char* act : {"/suspend", "/restore"}) {
    EXPECT_EQ(world().post(target + act, {{"reason", "x"}}, admin.token).status, 404);
  }
  EXPECT_EQ(world().sql("SELECT count(*) FROM outbox o JOIN sessions s ON s.id = o.topic "
                        "WHERE o.kind = 'session.ended' AND s.user_id = $1::uuid",
                        {to_string(life.ann.id)}),
            "1");
  // The email is free.
  const json::object anew{{"email", email}, {"password", "a long pass phrase"}};
  const Answer again = world().post("/api/auth/register", anew);
  ASSERT_EQ(again.status, 201) << again.text;
  EXPECT_NE(again.string_at("/id"), to_string(life.ann.id));
  EXPECT_EQ(world().post("/api/auth/login", anew).status, 200);
}

/// E06.
TEST_F(Account, PicturesGoWithTheAnswer) {
  world_ = std::make_unique<World>();
  world().admin();
  const Life life = lived();
  const std::string bens = uploaded(life.ben, "gig"), unused = uploaded(life.ann, "chat");
  const Answer link = world().get("/api/upload/" + life.pictures.at("chat").substr(7) + "/link", life.ben.token);
  std::vector<std::string> targets{link.string_at("/url"), link.string_at("/thumbnail_url"), unused};
  for (const auto& [category, url] : life.pictures) targets.insert(targets.end(), {url, url + "/thumb"});
  // In memory too, as far as they are kept there.
  for (const std::string& target : targets) {
    EXPECT_EQ(world().get(target, target == unused ? life.ann.token : life.ben.token).status, 200) << target;
  }
  ASSERT_EQ(leave(life.ann).status, 204);
  for (const std::string& target : targets) {
    EXPECT_EQ(world().get(target, life.ben.token).status, 404) << target;
    EXPECT_EQ(world().get(target).status, 404) << target;
  }
  EXPECT_EQ(world().get("/api/upload/" + unused.substr(7) + "/link", life.ben.token).status, 404);
  EXPECT_EQ(world().get(bens).status, 200);
  // Nothing points at them either.
  const Answer messages = world().get("/api/chat/rooms/" + life.room + "/messages", life.ben.token);
  EXPECT_EQ(messages.text.find("/files/"), std::string::npos) << messages.text;
  EXPECT_EQ(world().get("/api/gigs/" + life.gig, life.ben.token).text.find("/files/"), std::string::npos);
  EXPECT_EQ(world().sql("SELECT string_agg(DISTINCT owner_id::text, ' ') FROM uploads"), to_string(life.ben.id));
  EXPECT_EQ(world().sql("SELECT string_agg(user_id::text, ' ') FROM upload_sums"), to_string(life.ben.id));
  EXPECT_EQ(world().sql("SELECT count(*) FROM upload_uses"), "0");

  const auto files = [] {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(world().files() / "objects")) {
      if (entry.is_regular_file()) names.insert(entry.path().filename().string());
    }
    return names;
  };
  EXPECT_EQ(files().size(), 10U);
  world().wait(uploads::remove_left_over(world().house().uploads, world().desk().database));
  EXPECT_EQ(files(), (std::set<std::string>{bens.substr(7), bens.substr(7) + ".thumb"}));
  EXPECT_EQ(world().sql("SELECT count(*) FROM removed_files"), "0");
}

TEST_F(Account, UploadingAgainstDeletingLeavesNoPicture) {
  int taken = 0, late = 0;
  for (int round = 0; round < 30; ++round) {
    const Person ann = world().person("Ann");
    if (round % 3 == 0) uploaded(ann, "profile");
    const auto answers = world().send_all({uploading(ann, "profile"),
                                           uploading(ann, "gig"),
                                           {http::Method::del, "/api/users/me", {}, ann.token},
                                           uploading(ann, "profile")});
    EXPECT_EQ(answers[2].status, 204) << answers[2].text;
    for (const std::size_t at : {0, 1, 3}) {
      const Answer& answer = answers[at];
      if (answer.status != 201) EXPECT_EQ(answer.code(), "session_ended") << answer.text;
      (answer.status == 201 ? taken : late) += 1;
    }
    EXPECT_EQ(world().sql("SELECT count(*) FROM uploads WHERE owner_id = $1::uuid", {to_string(ann.id)}), "0");
    EXPECT_EQ(world().sql("SELECT count(*) FROM upload_sums WHERE user_id = $1::uuid", {to_string(ann.id)}), "0");
    EXPECT_EQ(
        world().sql("SELECT count(*) FROM users WHERE id = $1::uuid AND photo_url IS NOT NULL", {to_string(ann.id)}),
        "0");
  }
  EXPECT_GT(late, 0);
}

TEST_F(Account, OnlyItsOwnerDeletesAnAccount) {
  const json::object account{{"email", "owner@example.com"}, {"password", "a long pass phrase"}};
  const Answer made = world().post("/api/auth/register", account);
  const Answer pair = world().post("/api/auth/login", account);
  const Person ann{*parse_uuid(made.string_at("/id")), {}, {}, pair.string_at("/access_token")};
  EXPECT_EQ(leave(ann, R"({"password":"another pass phrase"})").code(), "wrong_password");
  EXPECT_EQ(leave(ann, R"({"passwort":"x"})").status, 422);
  world().sql("UPDATE sessions SET created_at = now() - interval '11 minutes' WHERE user_id = $1::uuid",
              {to_string(ann.id)});
  EXPECT_EQ(leave(ann).code(), "wrong_password") << "not lately logged in";
  EXPECT_EQ(leave(ann, R"({"password":"a long pass phrase"})").status, 204);
  EXPECT_EQ(world().post("/api/auth/login", account).code(), "invalid_credentials");
  EXPECT_EQ(world().post("/api/auth/refresh", {{"refresh_token", pair.string_at("/refresh_token")}}).status, 401);
}

/// M08.
TEST_F(Account, StaysWhileAGigOrMoneyIsOpen) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), admin = world().admin();
  const auto refused = [&](const char* code) {
    for (const Person& one : {ann, ben}) EXPECT_EQ(leave(one).code(), code);
  };
  const std::string pending = world().post_gig(ann);
  EXPECT_EQ(leave(ann).code(), "gigs_open");
  ASSERT_EQ(world().del("/api/gigs/" + pending, ann.token).status, 204);
  const std::string gig = accepted(ann, ben);
  refused("gigs_open");
  const std::string id = world().post("/api/transactions/escrow", {{"gig_id", gig}}, ann.token).string_at("/id");
  finish(gig, ben);
  refused("payment_held");
  ASSERT_EQ(world().put("/api/transactions/" + id + "/dispute", {{"reason", "x"}}, ann.token).status, 200);
  refused("payment_held");
  ASSERT_EQ(world().put("/api/transactions/" + id + "/split", {{"payee_amount", 100}}, admin.token).status, 200);
  // What goes back to her is not there yet.
  EXPECT_EQ(leave(ann).code(), "payment_held");
  world().wait(payments::settle(world().house().payments, world().desk().database));
  EXPECT_EQ(leave(ann).status, 204);
  EXPECT_EQ(leave(ben).status, 204) << "what is in the wallet stays in the ledger";
  EXPECT_TRUE(world().wait(payments::audit_ledger(world().desk().database.reads())).faults.empty());
}

TEST_F(Account, AFewExportsAreMadeAtATimeAndLargeOnesCountUntilTheyAreSent) {
  const Person ann = world().person("Ann");
  account::Deps& deps = world().house().account;
  http::RequestHead head;
  head.method = http::Method::get;
  head.method_text = "GET";
  head.target = "/api/users/me/export";
  head.headers = {{"authorization", "Bearer " + ann.token}};
  const auto made = [&] { return world().wait(world().desk().pipeline.handle(head, "")); };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(made().status, 200);
  const http::Response small = made();
  EXPECT_EQ(*deps.exports, 0);
  deps.small_bytes = 0;
  {
    const http::Response one = made(), other = made();
    EXPECT_EQ(one.status + other.status, 400);
    EXPECT_EQ(*deps.exports, 2);
    const Answer refused = exported(ann);
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.code(), "overloaded");
    EXPECT_EQ(refused.header("Retry-After"), "5");
    EXPECT_EQ(*deps.exports, 2);
  }
  EXPECT_EQ(*deps.exports, 0);
  EXPECT_EQ(exported(ann).status, 200);
  deps.small_bytes = 1 << 20;
}

TEST_F(Account, TheLastAdministratorStays) {
  world().sql("UPDATE users SET role = 'USER' WHERE role = 'ADMIN'");
  const Person one = world().admin();
  EXPECT_EQ(leave(one).code(), "last_admin");
  world().admin();
  EXPECT_EQ(leave(one).status, 204);
}

TEST_F(Account, AcceptingAgainstDeletingHasOneWinner) {
  int left = 0, taken = 0;
  for (int round = 0; round < 60; ++round) {
    const Person ann = world().person("Ann"), ben = world().person("Ben");
    const std::string gig = world().post_gig(ann);
    const Ask accept{http::Method::post, "/api/gigs/" + gig + "/accept", {}, ben.token};
    const Ask go{http::Method::del, "/api/users/me", {}, ben.token};
    const bool first = round % 2 == 0;
    const auto answers = first ? world().send_all({accept, go}) : world().send_all({go, accept});
    const Answer& took = answers[first ? 0 : 1];
    const Answer& went = answers[first ? 1 : 0];
    EXPECT_NE(took.status == 200, went.status == 204) << took.text << went.text;
    if (went.status != 204) EXPECT_EQ(went.code(), "gigs_open");
    (went.status == 204 ? left : taken) += 1;
    EXPECT_EQ(
        world().sql("SELECT count(*) FROM gigs g JOIN users u ON u.id = g.helper_id WHERE u.deleted_at IS NOT NULL "
                    "AND g.status NOT IN ('COMPLETED', 'CANCELLED')"),
        "0");
    EXPECT_EQ(world().get("/api/gigs/" + gig, ann.token).string_at("/status"),
              took.status == 200 ? "ACCEPTED" : "PENDING");
  }
  EXPECT_GT(taken, 0);
}

TEST_F(Account, PostingAndPayingAgainstDeletingLeaveNothingOpen) {
  for (int round = 0; round < 30; ++round) {
    const Person ann = world().person("Ann"), ben = world().person("Ben");
    const std::string gig = accepted(ann, ben);
    const auto answers = world().send_all(
        {{http::Method::post, "/api/transactions/escrow", R"({"gig_id":")" + gig + "\"}", ann.token},
         {http::Method::put, "/api/gigs/" + gig + "/status", R"({"status":"CANCELLED","reason":"x"})", ann.token},
         {http::Method::del, "/api/users/me", {}, ann.token},
         {http::Method::post, "/api/gigs", World::gig_body(), ann.token},
         {http::Method::del, "/api/users/me", {}, ann.token}});
    for (const Answer& answer : answers) EXPECT_LT(answer.status, 500) << answer.text;
    EXPECT_EQ(world().sql("SELECT count(*) FROM users u WHERE u.deleted_at IS NOT NULL AND u.id = $1::uuid AND ("
                          "EXISTS (SELECT 1 FROM gigs g WHERE u.id IN (g.seeker_id, g.helper_id) "
                          "        AND g.status IN ('PENDING', 'ACCEPTED', 'IN_PROGRESS')) OR "
                          "EXISTS (SELECT 1 FROM transactions t WHERE u.id IN (t.payer_id, t.payee_id) "
                          "        AND t.status IN ('PENDING', 'HELD', 'DISPUTED')))",
                          {to_string(ann.id)}),
              "0");
  }
}

}  // namespace
}  // namespace hourz::harness
