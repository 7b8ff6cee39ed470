// The ledger by itself: what the database refuses whoever asks, fees that lose nothing, and an audit that finds what
// was changed behind its back and says where.
#include "rooms/payments/ledger.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>

#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

using http::Method;
using payments::fee_of;

/// M09.
TEST(Fees, AreRoundedHalfUpAndLoseNothing) {
  for (const std::int64_t rate : {0, 1, 33, 250, 500, 1234, 5000, 9999, 10'000}) {
    for (std::int64_t satang = 0; satang <= 1'000'000; ++satang) {
      const std::int64_t fee = fee_of({satang}, rate).satang;
      // Twice the fee against twice the true quotient: within half a satang, a half going up.
      ASSERT_TRUE(20'000 * fee > 2 * satang * rate - 10'000 && 20'000 * fee <= 2 * satang * rate + 10'000)
          << satang << " at " << rate;
      ASSERT_TRUE(fee >= 0 && fee <= satang);
    }
    for (const std::int64_t satang :
         {Money::maximum_satang, Money::maximum_satang - 1, std::int64_t{999'999'999'999'999}, INT64_MAX / 2}) {
      const std::int64_t fee = fee_of({satang}, rate).satang, left = satang - fee;
      EXPECT_TRUE(fee >= 0 && left >= 0 && fee + left == satang) << satang << " at " << rate;
    }
  }
  EXPECT_EQ(fee_of({10}, 500).satang, 1);  // half a satang
  EXPECT_EQ(fee_of({9}, 500).satang, 0);
  EXPECT_EQ(fee_of({35'050}, 500).satang, 1753);  // 1752.5
}

class Ledger : public WorldTest {
 protected:
  static payments::LedgerAudit audit() { return world().wait(payments::audit_ledger(world().desk().database.reads())); }
  static std::string text_of(const payments::LedgerAudit& report) {
    std::string text;
    for (const std::string& fault : report.faults) text += fault + "\n";
    return text;
  }
  /// A completed gig whose payment is held.
  static std::string held(const Person& payer, const Person& payee, double budget = 350.5) {
    const std::string gig = world().post_gig(payer, {{"budget", budget}});
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, payee.token).status, 200);
    const Answer made = world().post("/api/transactions/escrow", {{"gig_id", gig}}, payer.token);
    EXPECT_EQ(made.status, 201) << made.text;
    for (const char* status : {"IN_PROGRESS", "COMPLETED"}) {
      EXPECT_EQ(world().put("/api/gigs/" + gig + "/status", {{"status", status}}, payee.token).status, 200);
    }
    return made.string_at("/id");
  }
  static Ask release(const Person& payer, const std::string& id) {
    return {Method::put, "/api/transactions/" + id + "/release", {}, payer.token};
  }
  static std::string refusal(db::Session& session, const std::string& sql) {
    try {
      session.execute(sql);
    } catch (const db::SessionError& error) {
      return error.sqlstate;
    }
    return "none";
  }
  static std::string post(const std::string& kinds, const std::string& owners, const std::string& amounts,
                          const std::string& kind = "HOLD") {
    return "SELECT ledger_post(gen_random_uuid(), '" + kind + "', ARRAY[" + kinds + "], ARRAY[" + owners +
           "]::uuid[], ARRAY[" + amounts + "]::bigint[])";
  }
};

const std::string nobody = "'00000000-0000-0000-0000-000000000000'";
const std::string denied = "42501", checked = "23514", kept = "23000", twice = "23505";

/// M01.
TEST_F(Ledger, TheDatabaseRefusesACrookedHand) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string paid = held(ann, ben);
  const std::string a = "'" + to_string(ann.id) + "'", b = "'" + to_string(ben.id) + "'";
  db::Session app(world().app_url());
  for (const std::string& table : {"ledger_entries", "ledger_journals", "ledger_accounts", "ledger_chains"}) {
    EXPECT_EQ(refusal(app, "DELETE FROM " + table), denied) << table;
    EXPECT_EQ(refusal(app, "TRUNCATE " + table), denied) << table;
    EXPECT_EQ(refusal(app, "INSERT INTO " + table + " DEFAULT VALUES"), denied) << table;
  }
  EXPECT_EQ(refusal(app, "UPDATE ledger_entries SET amount = 1"), denied);
  EXPECT_EQ(refusal(app, "UPDATE ledger_journals SET kind = 'HOLD'"), denied);
  EXPECT_EQ(refusal(app, "UPDATE ledger_accounts SET balance = 1"), denied);
  EXPECT_EQ(refusal(app, "UPDATE ledger_chains SET journals = 1"), denied);
  EXPECT_EQ(refusal(app, "DELETE FROM transactions"), kept);
  EXPECT_EQ(refusal(app, "UPDATE transactions SET amount = amount + 1"), checked);
  EXPECT_EQ(refusal(app, "UPDATE transactions SET status = 'PENDING' WHERE status = 'HELD'"), checked);

  EXPECT_EQ(refusal(app, post("'BANK', 'ESCROW'", nobody + ", " + a, "-100, 101")), checked);
  EXPECT_EQ(refusal(app, post("'BANK', 'ESCROW'", nobody + ", " + a, "-100, 99")), checked);
  EXPECT_EQ(refusal(app, post("'BANK'", nobody, "0")), checked);
  EXPECT_EQ(refusal(app, post("'BANK'", nobody, "-100")), checked);
  EXPECT_EQ(refusal(app, post("'WALLET', 'WALLET'", a + ", " + b, "-1, 1")), checked);          // nothing there
  EXPECT_EQ(refusal(app, post("'ESCROW', 'WALLET'", a + ", " + b, "-35051, 35051")), checked);  // one too many
  EXPECT_EQ(refusal(app, post("'FEES', 'WALLET'", nobody + ", " + b, "-1, 1")), checked);
  EXPECT_EQ(refusal(app, post("'BANK', 'SAFE'", nobody + ", " + a, "-1, 1")), checked);
  EXPECT_EQ(refusal(app, post("'BANK', 'ESCROW'", nobody + ", " + a, "-1, 1", "GIFT")), checked);
  EXPECT_EQ(refusal(app, post("'BANK', 'ESCROW'", nobody, "-1, 1")), checked);
  // A second hold of one transaction, by hand.
  EXPECT_EQ(refusal(app, "SELECT ledger_post('" + paid + "', 'HOLD', ARRAY['BANK', 'ESCROW'], ARRAY[" + nobody + ", " +
                             a + "]::uuid[], ARRAY[-1, 1]::bigint[])"),
            twice);

  // Nor does it get past the guards: triggers, checks and functions are the owner's, and nobody becomes the owner.
  for (const std::string& attempt :
       {"ALTER TABLE ledger_entries DISABLE TRIGGER ALL", "DROP TRIGGER ledger_entries_stay ON ledger_entries",
        "ALTER TABLE ledger_accounts DROP CONSTRAINT ledger_accounts_not_negative", "DROP TABLE ledger_chains CASCADE",
        "ALTER TABLE ledger_journals RENAME TO journals",
        "CREATE RULE r AS ON UPDATE TO ledger_entries DO INSTEAD NOTHING",
        "CREATE OR REPLACE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
        "DROP FUNCTION ledger_post", "SET session_replication_role = replica", "SET ROLE hourz_owner",
        "ALTER TABLE transactions DISABLE TRIGGER transactions_guard",
        "INSERT INTO ledger_entries SELECT chain, number, 3, account_id, 1, hash FROM ledger_entries LIMIT 1",
        "INSERT INTO ledger_journals SELECT chain, number + 1, kind, gen_random_uuid(), at, hash FROM ledger_journals "
        "LIMIT 1",
        "COPY ledger_entries FROM '/dev/null'"}) {
    EXPECT_EQ(refusal(app, attempt), denied) << attempt;
  }
  // A table of its own by the same name is not what the function writes to.
  EXPECT_EQ(refusal(app, "CREATE TEMP TABLE ledger_accounts (id bigint, kind text, owner text, balance bigint)"),
            "none");
  EXPECT_EQ(refusal(app, post("'WALLET', 'WALLET'", a + ", " + b, "-1, 1")), checked);
  // Together sums that do not fit are no way around either.
  EXPECT_NE(refusal(app, post("'BANK', 'ESCROW', 'ESCROW', 'BANK'", nobody + ", " + a + ", " + a + ", " + nobody,
                              "-9223372036854775807, 9223372036854775807, 9223372036854775807, -9223372036854775807")),
            "none");

  // Not even the owner of the tables.
  db::Session owner(world().owner_url());
  for (const std::string& table : {"ledger_entries", "ledger_journals"}) {
    EXPECT_EQ(refusal(owner, "DELETE FROM " + table), kept) << table;
    EXPECT_EQ(refusal(owner, "TRUNCATE " + table + " CASCADE"), kept) << table;
  }
  EXPECT_EQ(refusal(owner, "UPDATE ledger_entries SET amount = amount"), kept);
  EXPECT_EQ(refusal(owner, "UPDATE ledger_journals SET at = at"), kept);
  EXPECT_EQ(refusal(owner, "UPDATE ledger_accounts SET balance = balance + 1"), kept);
  EXPECT_EQ(refusal(owner, "DELETE FROM ledger_accounts"), kept);
  EXPECT_EQ(refusal(owner,
                    "INSERT INTO ledger_entries SELECT chain, number, 3, account_id, 1, hash FROM ledger_entries "
                    "WHERE line = 1 LIMIT 1"),
            checked);
  EXPECT_EQ(refusal(owner,
                    "INSERT INTO ledger_journals SELECT chain, number + 1000, kind, gen_random_uuid(), at, hash "
                    "FROM ledger_journals LIMIT 1"),
            checked);
  EXPECT_EQ(text_of(audit()), "");
}

TEST_F(Ledger, AnAccountOpensEmptyWhateverIsSaid) {
  db::Session owner(world().owner_url());
  owner.execute("INSERT INTO ledger_accounts (kind, owner, balance) VALUES ('WALLET', 'nobody', 1000)");
  EXPECT_EQ(world().sql("SELECT balance::text FROM ledger_accounts WHERE owner = 'nobody'"), "0");
}

/// M02: fifty at once want one of ten. There is no other way to overdraw an account than by hand: what is held comes
/// from outside, and what leaves escrow is what was held.
TEST_F(Ledger, OfFiftyAtOnceTenGetWhatThereIs) {
  World own;
  const std::string a = "'" + to_string(own.person("Ann").id) + "'", b = "'" + to_string(own.person("Ben").id) + "'";
  db::Session session(own.app_url());
  ASSERT_EQ(refusal(session, post("'BANK', 'WALLET'", nobody + ", " + a, "-10, 10")), "none");
  const std::string balance = "SELECT balance FROM ledger_accounts WHERE kind = 'WALLET' AND owner = " + a;
  std::atomic<int> paid = 0, refused = 0, working = 50;
  std::vector<std::thread> threads;
  for (int i = 0; i < 50; ++i) {
    threads.emplace_back([&] {
      db::Session mine(own.app_url());
      const std::string answer = refusal(mine, post("'WALLET', 'WALLET'", a + ", " + b, "-1, 1", "RELEASE"));
      ++(answer == "none" ? paid : refused);
      EXPECT_TRUE(answer == "none" || answer == checked) << answer;
      --working;
    });
  }
  while (working > 0) EXPECT_GE(std::stoll(session.value(balance).value()), 0);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(paid, 10);
  EXPECT_EQ(refused, 40);
  EXPECT_EQ(session.value(balance), "0");
}

/// F06: postings that cross wait for each other and never for ever; nobody hears of it.
TEST_F(Ledger, PostingsThatCrossAllArrive) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::vector<Person> people{ann, ben, eve};
  const char* wanted = std::getenv("HOURZ_TEST_RACES");
  const std::size_t each =
      ((wanted == nullptr ? 180 : static_cast<std::size_t>(std::atoi(wanted))) + 2) / people.size();
  std::vector<Ask> asks;
  for (std::size_t i = 0; i < 3 * each; ++i) {
    const Person& payer = people[i % 3];
    asks.push_back(release(payer, held(payer, people[(i + 1 + i / 3 % 2) % 3], 100)));
  }
  // As many at once as a server takes; more it turns away.
  for (auto from = asks.begin(); from != asks.end();) {
    const auto to = from + std::min<std::ptrdiff_t>(60, asks.end() - from);
    for (const Answer& answer : world().send_all({from, to})) EXPECT_EQ(answer.status, 200) << answer.text;
    from = to;
  }
  for (const Person& one : people) {
    const Answer wallet = world().get("/api/wallet", one.token);
    EXPECT_EQ(wallet.text, R"({"balance":)" + std::to_string(95 * each) + R"(,"held":0,"currency":"THB"})");
  }
  EXPECT_EQ(text_of(audit()), "");
}

TEST_F(Ledger, TheAuditNamesWhatWasTamperedWith) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  for (int i = 0; i < 20; ++i) {
    const std::string id = held(ann, ben, 100 + i);
    if (i % 2 == 0) EXPECT_EQ(world().send(release(ann, id)).status, 200);
  }
  const auto before = audit();
  ASSERT_EQ(text_of(before), "");
  EXPECT_EQ(std::to_string(before.entries), world().sql("SELECT count(*)::text FROM ledger_entries"));
  EXPECT_EQ(std::to_string(before.journals), world().sql("SELECT count(*)::text FROM ledger_journals"));
  // As the superuser, whom no trigger stops.
  const auto forge = [&](const std::string& sql) {
    world().rows("SET session_replication_role = replica");
    world().rows(sql);
    world().rows("SET session_replication_role = origin");
  };
  const std::string at = world().sql(
      "SELECT j.chain || '/' || j.number FROM ledger_journals j WHERE kind = 'RELEASE' AND EXISTS (SELECT 1 FROM "
      "ledger_journals n WHERE n.chain = j.chain AND n.number > j.number) ORDER BY j.chain, j.number LIMIT 1");
  ASSERT_NE(at, "");
  const std::string here =
      "chain = " + at.substr(0, at.find('/')) + " AND number = " + at.substr(at.find('/') + 1) + " ";

  struct Case {
    std::string forged, mended, first;
  };
  const std::string name = "journal " + at;
  const std::vector<Case> cases{
      {"UPDATE ledger_entries SET amount = amount + 1 WHERE " + here + "AND line = 2",
       "UPDATE ledger_entries SET amount = amount - 1 WHERE " + here + "AND line = 2", name + " entry 2 ("},
      {"UPDATE ledger_entries SET amount = amount + CASE line WHEN 2 THEN 1 ELSE -1 END WHERE " + here + "AND line > 1",
       "UPDATE ledger_entries SET amount = amount - CASE line WHEN 2 THEN 1 ELSE -1 END WHERE " + here + "AND line > 1",
       name + " entry 2 ("},
      {"UPDATE ledger_entries e SET account_id = (SELECT account_id FROM ledger_entries WHERE " + here +
           "AND line = 5 - e.line) WHERE " + here + "AND line > 1",
       "UPDATE ledger_entries e SET account_id = (SELECT account_id FROM ledger_entries WHERE " + here +
           "AND line = 5 - e.line) WHERE " + here + "AND line > 1",
       name + " entry 2 ("},
      {"UPDATE ledger_journals SET at = at + interval '1 s' WHERE " + here,
       "UPDATE ledger_journals SET at = at - interval '1 s' WHERE " + here, name + " (RELEASE of "},
      {"UPDATE ledger_journals SET kind = 'SPLIT' WHERE " + here,
       "UPDATE ledger_journals SET kind = 'RELEASE' WHERE " + here, name + " (SPLIT of "},
      {"UPDATE ledger_journals SET number = -number WHERE " + here,
       "UPDATE ledger_journals SET number = -number WHERE chain = " + at.substr(0, at.find('/')) + " AND number < 0",
       name + " is missing"},
      {"UPDATE ledger_accounts SET balance = balance + 5 WHERE owner = '" + to_string(ben.id) + "'",
       "UPDATE ledger_accounts SET balance = balance - 5 WHERE owner = '" + to_string(ben.id) + "'",
       "(WALLET of " + to_string(ben.id) + ") has "},
      {"UPDATE transactions SET status = 'RELEASED' WHERE status = 'HELD' AND payer_id = '" + to_string(ann.id) + "'",
       "UPDATE transactions SET status = 'HELD' WHERE released_at IS NULL AND payer_id = '" + to_string(ann.id) + "'",
       "escrow of " + to_string(ann.id) + " holds "},
      {"UPDATE ledger_chains SET journals = journals + 1 WHERE chain = 3",
       "UPDATE ledger_chains SET journals = journals - 1 WHERE chain = 3", "chain 3 has "},
      {"UPDATE ledger_chains SET hash = sha256(hash) WHERE chain = 3", "", "chain 3 does not end"},
  };
  for (const Case& one : cases) {
    forge(one.forged);
    const auto report = audit();
    ASSERT_FALSE(report.faults.empty()) << one.forged;
    EXPECT_NE(report.faults.front().find(one.first), std::string::npos) << one.forged << "\n" << text_of(report);
    if (!one.mended.empty()) {
      forge(one.mended);
      EXPECT_EQ(text_of(audit()), "") << one.mended;
    }
  }
}

}  // namespace
}  // namespace hourz::harness
