// What a payment is asked for twice by: a key of the client's, or the request itself.
#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

class PaymentKeys : public WorldTest {
 protected:
  static std::string accepted(const Person& payer, const Person& helper) {
    const std::string gig = world().post_gig(payer, {{"budget", 350.5}});
    accept(helper, gig);
    return gig;
  }
  static void accept(const Person& who, const std::string& gig) {
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, who.token).status, 200);
  }
  static void withdraw(const Person& who, const std::string& gig) {
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/withdraw", {}, who.token).status, 200);
  }
  static Answer hold(const Person& who, const std::string& gig, const std::string& method, Fields fields) {
    const json::object body{{"gig_id", gig}, {"payment_method", method}};
    return world().post("/api/transactions/escrow", body, who.token, std::move(fields));
  }
  static void expect_held(const Answer& answer, const Person& payee) {
    ASSERT_EQ(answer.status, 201) << answer.text;
    EXPECT_EQ(answer.string_at("/status"), "HELD");
    EXPECT_EQ(answer.string_at("/payee_id"), to_string(payee.id));
  }
};

TEST_F(PaymentKeys, ARequestIdOfTheClientsIsNone) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string gig = accepted(ann, ben);
  const Fields constant{{"x-request-id", "constant"}};  // as of a proxy that calls every request the same
  const Answer first = hold(ann, gig, "mock_card", constant);
  expect_held(first, ben);
  EXPECT_EQ(first.header("X-Request-Id"), "constant");
  withdraw(ben, gig);
  accept(ben, gig);
  const Answer second = hold(ann, gig, "mock_card", constant);
  expect_held(second, ben);
  EXPECT_NE(second.string_at("/id"), first.string_at("/id"));
  withdraw(ben, gig);
  accept(eve, gig);
  expect_held(hold(ann, gig, "mock_card", constant), eve);
  EXPECT_EQ(world().get("/api/wallet", ann.token).number_at("/held"), 350.5);
}

TEST_F(PaymentKeys, AreForOneHelperAndADay) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string gig = accepted(ann, ben);
  const Fields key{{"idempotency-key", "of-a-day"}};
  // The answer to the first was never known, so that it is not kept.
  EXPECT_EQ(hold(ann, gig, "mock_timeout", key).status, 503);
  world().sql("UPDATE transactions SET settle_at = now() WHERE settle_at IS NOT NULL");
  world().wait(payments::settle(world().house().payments, world().desk().database));
  withdraw(ben, gig);
  accept(eve, gig);
  EXPECT_EQ(hold(ann, gig, "mock_timeout", key).status, 503);
  const Answer second = hold(ann, gig, "mock_timeout", key);
  expect_held(second, eve);
  // The next day it is a new one, for the same helper too.
  withdraw(eve, gig);
  accept(eve, gig);
  world().sql("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'");
  world().sql("ALTER TABLE transactions DISABLE TRIGGER USER");  // they hold what was agreed
  world().sql("UPDATE transactions SET created_at = now() - interval '25 hours' WHERE gig_id = $1::uuid", {gig});
  world().sql("ALTER TABLE transactions ENABLE TRIGGER USER");
  const Answer third = hold(ann, gig, "mock_card", key);
  expect_held(third, eve);
  EXPECT_NE(third.string_at("/id"), second.string_at("/id"));
  EXPECT_EQ(world().get("/api/wallet", ann.token).number_at("/held"), 350.5);
}

}  // namespace
}  // namespace hourz::harness
