// What the payments room says of what waits: for the provider, for an administrator, and for nothing at all.
#include "harness/harness.hpp"
#include "rooms/payments/payments.hpp"

namespace hourz::harness {
namespace {

using http::Method;
using payments::Charge;

/// Says nothing and gives nothing back, until it is told to.
class SilentProvider final : public payments::MockProvider {
 public:
  bool answers = false;
  Awaitable<Charge> charge(Uuid, std::string, Money) override { co_return answers ? Charge::charged : Charge::unknown; }
  Awaitable<bool> pay_back(Uuid, std::string, Money) override { co_return answers; }
};

class PaymentsWaiting : public WorldTest {
 protected:
  void SetUp() override {
    world().house().payments.provider = provider;
    world().sql("ALTER TABLE transactions DISABLE TRIGGER transactions_guard");  // so that the past can be moved
  }
  const std::shared_ptr<SilentProvider> provider = std::make_shared<SilentProvider>();
  const Person ann = world().person("Ann"), ben = world().person("Ben"), admin = world().admin();

  static payments::Unsettled unsettled() { return world().wait(payments::unsettled(world().desk().database.reads())); }
  static payments::InEscrow in_escrow() {
    return world().wait(payments::in_escrow(world().desk().database.reads(), world().house().config.auto_release_h));
  }
  static void settle() {
    world().sql("UPDATE transactions SET settle_at = now() WHERE settle_at IS NOT NULL");
    world().wait(payments::settle(world().house().payments, world().desk().database));
  }
  Answer put(const std::string& path, Sent body, const Person& who) const {
    return world().put(path, std::move(body), who.token);
  }
  std::string accepted() const {
    const std::string gig = world().post_gig(ann, {{"budget", 100}});
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ben.token).status, 200);
    return gig;
  }
  Answer hold(const std::string& gig) const {
    return world().post("/api/transactions/escrow", {{"gig_id", gig}}, ann.token);
  }
  std::string held(const std::string& gig) const {
    provider->answers = true;
    const Answer made = hold(gig);
    EXPECT_EQ(made.status, 201) << made.text;
    return made.string_at("/id");
  }
  void complete(const std::string& gig) const {
    for (const char* step : {"IN_PROGRESS", "COMPLETED"}) {
      EXPECT_EQ(put("/api/gigs/" + gig + "/status", {{"status", step}}, ben).status, 200);
    }
  }
  static std::int64_t hours(std::int64_t us) { return us / 3'600'000'000; }
};

TEST_F(PaymentsWaiting, ForTheProvider) {
  EXPECT_EQ(unsettled().charges + unsettled().repayments, 0);
  EXPECT_EQ(hold(accepted()).status, 503);
  EXPECT_EQ(unsettled().charges, 1);
  world().sql("UPDATE transactions SET created_at = created_at - interval '5 h' WHERE status = 'PENDING'");
  settle();  // in vain
  payments::Unsettled now = unsettled();
  EXPECT_EQ(now.charges, 1);
  EXPECT_EQ(now.repayments, 0);
  EXPECT_EQ(hours(now.charge_age_us), 5);
  EXPECT_EQ(now.repayment_age_us, 0);
  EXPECT_EQ(in_escrow().held, 0) << "nobody has a payment yet";
  provider->answers = true;
  settle();
  EXPECT_EQ(unsettled().charges, 0);
  EXPECT_EQ(unsettled().charge_age_us, 0);
  EXPECT_EQ(in_escrow().held, 1);

  // Given back: out of escrow at once, and open until the provider has done it.
  const std::string id = world().sql("SELECT id::text FROM transactions WHERE status = 'HELD'");
  provider->answers = false;
  ASSERT_EQ(put("/api/transactions/" + id + "/refund", {}, admin).status, 200);
  world().sql("UPDATE transactions SET refunded_at = refunded_at - interval '3 h' WHERE id = $1::uuid", {id});
  settle();
  now = unsettled();
  EXPECT_EQ(now.charges, 0);
  EXPECT_EQ(now.repayments, 1);
  EXPECT_EQ(hours(now.repayment_age_us), 3);
  EXPECT_EQ(in_escrow().held, 0);
  provider->answers = true;
  settle();
  EXPECT_EQ(unsettled().repayments, 0);
  EXPECT_EQ(unsettled().repayment_age_us, 0);
}

TEST_F(PaymentsWaiting, ForAnAdministratorAndForNothing) {
  const std::string kept = accepted(), disputed = accepted();
  held(kept);
  const std::string dispute = held(disputed);
  ASSERT_EQ(put("/api/transactions/" + dispute + "/dispute", {{"reason", "no"}}, ann).status, 200);
  world().sql("UPDATE transactions SET disputed_at = disputed_at - interval '7 h' WHERE status = 'DISPUTED'");
  payments::InEscrow now = in_escrow();
  EXPECT_EQ(now.held, 1);
  EXPECT_EQ(now.disputed, 1);
  EXPECT_EQ(hours(now.dispute_age_us), 7);
  EXPECT_EQ(now.overdue, 0);

  // Completed, it waits for its timer: as long as that is there, in time, and does not fail.
  complete(kept);
  EXPECT_EQ(in_escrow().overdue, 0);
  world().sql("UPDATE gigs SET completed_at = completed_at - interval '82 h' WHERE id = $1::uuid", {kept});
  world().sql("UPDATE transactions SET created_at = created_at - interval '90 h' WHERE gig_id = $1::uuid", {kept});
  for (const char* fault : {"due_at = now() - interval '2 min'", "attempts = 1"}) {
    world().sql("UPDATE timers SET due_at = now() + interval '1 h', attempts = 0 WHERE kind = 'payment.release'");
    EXPECT_EQ(in_escrow().overdue, 0);
    world().sql(std::string("UPDATE timers SET ") + fault + " WHERE kind = 'payment.release'");
    now = in_escrow();
    EXPECT_EQ(now.overdue, 1) << fault;
    EXPECT_EQ(hours(now.late_us), 10) << fault;
  }
  world().sql("DELETE FROM timers WHERE kind = 'payment.release'");
  EXPECT_EQ(in_escrow().overdue, 1);
  // A dispute waits for a person, however its gig ends.
  complete(disputed);
  EXPECT_EQ(in_escrow().overdue, 1);
  const std::string id = world().sql("SELECT id::text FROM transactions WHERE status = 'HELD'");
  ASSERT_EQ(put("/api/transactions/" + id + "/release", {}, ann).status, 200);
  ASSERT_EQ(put("/api/transactions/" + dispute + "/refund", {}, admin).status, 200);
  now = in_escrow();
  EXPECT_EQ(now.held + now.disputed + now.dispute_age_us + now.overdue + now.late_us, 0);
}

}  // namespace
}  // namespace hourz::harness
