// Payments on a real database: holding, releasing, refunding, disputes, the provider's moods, the clock, and all of
// them at once.
#include "rooms/payments/payments.hpp"

#include <boost/asio/steady_timer.hpp>
#include <random>

#include "app/jobs.hpp"
#include "harness/harness.hpp"

namespace hourz::harness {
namespace {

using http::Method;
using payments::Charge;

/// A provider whose answers the test decides, and that can be kept waiting.
class ScriptedProvider final : public payments::MockProvider {
 public:
  std::vector<Charge> answers;  ///< of the next charges; after them, the mock's own
  bool waits = false;
  int waiting = 0;
  std::map<Uuid, int> charges;
  std::map<Uuid, std::int64_t> paid_back;
  bool pays_back = true;

  Awaitable<Charge> charge(Uuid key, std::string method, Money amount) override {
    ++charges[key];
    ++waiting;
    while (waits) {
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, std::chrono::milliseconds(1));
      co_await timer.async_wait(boost::asio::use_awaitable);
    }
    --waiting;
    if (!answers.empty()) {
      const Charge first = answers.front();
      answers.erase(answers.begin());
      if (first == Charge::unknown && throws) throw std::runtime_error("the line is dead");
      co_return first;
    }
    co_return co_await MockProvider::charge(key, std::move(method), amount);
  }
  Awaitable<bool> pay_back(Uuid key, std::string, Money amount) override {
    if (!pays_back) co_return false;
    paid_back[key] += amount.satang;
    co_return true;
  }
  bool throws = false;
};

class Payments : public WorldTest {
 protected:
  void SetUp() override {
    provider = std::make_shared<ScriptedProvider>();
    world().house().payments.provider = provider;
  }
  std::shared_ptr<ScriptedProvider> provider;

  static Answer move(const Person& who, const std::string& gig, const std::string& status) {
    return world().put("/api/gigs/" + gig + "/status", {{"status", status}, {"reason", "so"}}, who.token);
  }
  /// A gig with a helper, brought to a state by its lawful way.
  static std::string gig_in(const std::string& state, const Person& payer, const Person& payee, double budget = 350.5) {
    const std::string gig = world().post_gig(payer, {{"budget", budget}});
    EXPECT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, payee.token).status, 200);
    if (state == "ACCEPTED") return gig;
    EXPECT_EQ(move(payee, gig, "IN_PROGRESS").status, 200);
    if (state == "COMPLETED") EXPECT_EQ(move(payee, gig, "COMPLETED").status, 200);
    return gig;
  }
  static Answer hold(const Person& who, const std::string& gig, const std::string& method = {}, Fields fields = {}) {
    json::object body{{"gig_id", gig}};
    if (!method.empty()) body["payment_method"] = method;
    return world().post("/api/transactions/escrow", body, who.token, std::move(fields));
  }
  static Ask act(const std::string& what, const Person& who, const std::string& id, Sent body = {}) {
    return {Method::put, "/api/transactions/" + id + "/" + what, std::move(body), who.token};
  }
  struct Held {
    std::string gig, id;
  };
  static Held held_in(const std::string& state, const Person& payer, const Person& payee, double budget = 350.5) {
    const std::string gig = gig_in("ACCEPTED", payer, payee, budget);
    const Answer made = hold(payer, gig);
    EXPECT_EQ(made.status, 201) << made.text;
    if (state != "ACCEPTED") EXPECT_EQ(move(payee, gig, "IN_PROGRESS").status, 200);
    if (state == "COMPLETED") EXPECT_EQ(move(payee, gig, "COMPLETED").status, 200);
    return {gig, made.string_at("/id")};
  }
  static std::string wallet(const Person& who) {
    const Answer answer = world().get("/api/wallet", who.token);
    return to_string(Money{std::llround(answer.number_at("/balance") * 100)}) + " " +
           to_string(Money{std::llround(answer.number_at("/held") * 100)});
  }
  static std::string status_of(const std::string& id) {
    return world().sql("SELECT status FROM transactions WHERE id = $1::uuid", {id});
  }
  static std::string journals_of(const std::string& id) {
    return world().sql(
        "SELECT string_agg(kind, ' ' ORDER BY number) FROM ledger_journals WHERE transaction_id = $1::uuid", {id});
  }
  static void settle() { world().wait(payments::settle(world().house().payments, world().desk().database)); }
  static void settle_now() {
    world().sql("UPDATE transactions SET settle_at = now() WHERE settle_at IS NOT NULL");
    // A turn takes some of them; a thousand races leave more.
    for (int turn = 0; turn < 100; ++turn) {
      settle();
      if (world().sql("SELECT count(*)::text FROM transactions WHERE settle_at <= now()") == "0") return;
    }
  }
  static void expect_sound() {
    const auto report = world().wait(payments::audit_ledger(world().desk().database.reads()));
    for (const std::string& fault : report.faults) ADD_FAILURE() << fault;
  }
  void TearDown() override { expect_sound(); }
};

// --- holding ---------------------------------------------------------------------------------------------------------

TEST_F(Payments, HoldingTakesTheBudgetOnceAGig) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const std::string gig = world().post_gig(ann);
  EXPECT_EQ(hold(ann, gig).code(), "gig_not_payable");
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, ben.token).status, 200);
  EXPECT_EQ(hold(ben, gig).status, 403);
  EXPECT_EQ(hold(eve, gig).status, 403);
  EXPECT_EQ(hold(ann, to_string(make_uuid())).status, 404);
  EXPECT_EQ(hold(ann, gig, "gold").faults(), std::vector<std::string>{"payment_method:not_in_list"});
  const Answer made = hold(ann, gig, "MOCK_card");
  ASSERT_EQ(made.status, 201) << made.text;
  EXPECT_EQ(made.header("Location"), "/api/transactions/" + made.string_at("/id"));
  EXPECT_EQ(made.string_at("/gig_id"), gig);
  EXPECT_EQ(made.string_at("/payer_id"), to_string(ann.id));
  EXPECT_EQ(made.string_at("/payee_id"), to_string(ben.id));
  EXPECT_EQ(made.number_at("/amount"), 350.5);
  EXPECT_EQ(made.number_at("/service_fee"), 17.53);
  EXPECT_EQ(made.number_at("/net_amount"), 332.97);
  EXPECT_EQ(made.string_at("/status"), "HELD");
  EXPECT_EQ(made.string_at("/payment_method"), "mock_card");
  EXPECT_TRUE(made.string_at("/reference").starts_with("HZ-"));
  EXPECT_TRUE(made.at("/released_at").is_null() && made.at("/dispute").is_null() && made.at("/split").is_null());
  EXPECT_EQ(hold(ann, gig).code(), "escrow_exists");
  EXPECT_EQ(wallet(ann), "0 350.5");
  EXPECT_EQ(wallet(ben), "0 0");
  for (const Person& side : {ann, ben}) {
    EXPECT_EQ(world().get(made.header("Location"), side.token).text, made.text);
    EXPECT_EQ(world().get("/api/transactions/gig/" + gig, side.token).text, made.text);
  }
  EXPECT_EQ(world().get(made.header("Location"), eve.token).status, 404);
  EXPECT_EQ(world().get("/api/transactions/gig/" + gig, eve.token).status, 404);
  EXPECT_EQ(world().get(made.header("Location"), world().admin().token).status, 200);
  EXPECT_EQ(hold(ann, gig_in("ACCEPTED", ann, ben, 0)).code(), "nothing_to_pay");
  EXPECT_EQ(hold(ann, gig_in("COMPLETED", ann, ben)).code(), "gig_not_payable");
}

TEST_F(Payments, DecliningLeavesNothingButARecordForThePayer) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = gig_in("ACCEPTED", ann, ben);
  const Fields key{{"idempotency-key", "declined"}};
  const Answer refused = hold(ann, gig, "mock_declined", key);
  EXPECT_EQ(refused.status, 402);
  EXPECT_EQ(refused.code(), "payment_declined");
  const Answer again = hold(ann, gig, "mock_declined", key);
  EXPECT_EQ(again.status, 402);
  EXPECT_EQ(again.header("Idempotency-Replayed"), "true");
  EXPECT_EQ(hold(ann, gig, "mock_declined").status, 402);
  EXPECT_EQ(provider->charges.size(), 2U);
  EXPECT_EQ(world().get("/api/transactions/gig/" + gig, ann.token).string_at("/status"), "FAILED");
  EXPECT_EQ(world().get("/api/transactions/gig/" + gig, ben.token).status, 404);
  EXPECT_EQ(world().get("/api/transactions/history?status=failed", ann.token).at("/transactions").as_array().size(),
            2U);
  EXPECT_EQ(wallet(ann), "0 0");
  EXPECT_EQ(hold(ann, gig).status, 201);
  EXPECT_EQ(world().get("/api/transactions/gig/" + gig, ben.token).string_at("/status"), "HELD");
}

TEST_F(Payments, AKeyHoldsOnceHoweverOftenAndFromWhomever) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = gig_in("ACCEPTED", ann, ben), other = gig_in("ACCEPTED", ann, ben);
  std::vector<Ask> asks;
  for (int i = 0; i < 20; ++i) {
    asks.push_back(
        {Method::post, "/api/transactions/escrow", {{"gig_id", gig}}, ann.token, {{"idempotency-key", "k"}}});
  }
  for (const Answer& answer : world().send_all(asks)) {
    EXPECT_TRUE(answer.status == 201 || answer.code() == "idempotency_in_progress") << answer.text;
  }
  const Answer again = hold(ann, gig, {}, {{"idempotency-key", "k"}});
  EXPECT_EQ(again.status, 201);
  EXPECT_EQ(again.header("Idempotency-Replayed"), "true");
  EXPECT_EQ(hold(ann, other, {}, {{"idempotency-key", "k"}}).code(), "idempotency_key_reused");
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM transactions WHERE gig_id = $1::uuid", {gig}), "1");
  EXPECT_EQ(journals_of(again.string_at("/id")), "HOLD");
}

// --- the provider's moods --------------------------------------------------------------------------------------------

TEST_F(Payments, AnAnswerThatGotLostIsAskedForAgainWithTheSameKey) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const std::string gig = gig_in("ACCEPTED", ann, ben);
  const Fields key{{"idempotency-key", "lost"}};
  const Answer lost = hold(ann, gig, "mock_timeout", key);
  EXPECT_EQ(lost.status, 503);
  EXPECT_EQ(lost.header("Retry-After"), "2");
  EXPECT_EQ(world().get("/api/transactions/gig/" + gig, ann.token).status, 404);
  EXPECT_EQ(wallet(ann), "0 0");
  EXPECT_EQ(hold(ann, gig).code(), "escrow_exists");
  const Answer found = hold(ann, gig, "mock_timeout", key);
  ASSERT_EQ(found.status, 201) << found.text;
  ASSERT_EQ(provider->charges.size(), 1U);
  EXPECT_EQ(provider->charges.begin()->second, 2);
  EXPECT_EQ(wallet(ann), "0 350.5");

  // Or the job finds out, and a retry is told so.
  const std::string second = gig_in("ACCEPTED", ann, ben);
  provider->throws = true;
  provider->answers = {Charge::unknown, Charge::unknown, Charge::charged};
  EXPECT_EQ(hold(ann, second, {}, {{"idempotency-key", "lost 2"}}).code(), "invalid_idempotency_key");
  EXPECT_EQ(hold(ann, second, {}, {{"idempotency-key", "lost-2"}}).status, 503);
  settle();
  EXPECT_EQ(wallet(ann), "0 350.5");
  settle();  // not due yet
  EXPECT_EQ(provider->answers.size(), 1U);
  settle_now();
  EXPECT_EQ(wallet(ann), "0 701");
  const Answer known = hold(ann, second, {}, {{"idempotency-key", "lost-2"}});
  EXPECT_EQ(known.status, 201);
  EXPECT_EQ(journals_of(known.string_at("/id")), "HOLD");

  // Which is so whatever became of it meanwhile: one key is one charge.
  const std::string ended = gig_in("ACCEPTED", ann, ben);
  provider->answers = {Charge::unknown};
  EXPECT_EQ(hold(ann, ended, {}, {{"idempotency-key", "lost-3"}}).status, 503);
  settle_now();
  const std::string id = world().get("/api/transactions/gig/" + ended, ann.token).string_at("/id");
  EXPECT_EQ(world().send(act("refund", world().admin(), id)).status, 200);
  const Answer told = hold(ann, ended, {}, {{"idempotency-key", "lost-3"}});
  EXPECT_EQ(told.status, 201);
  EXPECT_EQ(told.string_at("/id"), id);
  EXPECT_EQ(told.string_at("/status"), "REFUNDED");
  EXPECT_EQ(journals_of(id), "HOLD REFUND");

  // Or finds that there was nothing.
  const std::string third = gig_in("ACCEPTED", ann, ben);
  provider->answers = {Charge::unknown, Charge::declined};
  EXPECT_EQ(hold(ann, third).status, 503);
  settle_now();
  EXPECT_EQ(world().get("/api/transactions/gig/" + third, ann.token).string_at("/status"), "FAILED");
  EXPECT_EQ(hold(ann, third).status, 201);
}

TEST_F(Payments, NothingIsHeldOpenWhileTheProviderTakesItsTime) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  const auto ask = [&](const std::string& gig, const std::string& key) {
    return Ask{Method::post, "/api/transactions/escrow", {{"gig_id", gig}}, ann.token, {{"idempotency-key", key}}};
  };
  const auto during = [&](const std::string& gig, const std::string& key, const std::function<void()>& work) {
    provider->waits = true;
    Answer answer;
    bool done = false;
    boost::asio::co_spawn(
        world().io(),
        [](World* w, Ask sent) -> Awaitable<http::Response> {
          http::RequestHead head;
          head.method = sent.method;
          head.target = sent.target;
          head.peer = sent.peer;
          head.headers = {{"authorization", "Bearer " + sent.token}, {"content-type", "application/json"}};
          for (const auto& [name, value] : sent.fields) head.headers.push_back({name, value});
          co_return co_await w->desk().pipeline.handle(std::move(head), sent.body.text);
        }(&world(), ask(gig, key)),
        [&](std::exception_ptr, http::Response response) {
          answer.status = response.status;
          answer.body = json::parse(response.body);
          done = true;
        });
    EXPECT_TRUE(world().until([&] { return provider->waiting == 1; }));
    EXPECT_EQ(world().desk().database.gauges().in_use, 0);
    work();
    provider->waits = false;
    EXPECT_TRUE(world().until([&] { return done; }));
    return answer;
  };
  // Completed meanwhile: held, and the clock runs.
  const std::string done = gig_in("IN_PROGRESS", ann, ben);
  const Answer late = during(done, "a", [&] { EXPECT_EQ(move(ben, done, "COMPLETED").status, 200); });
  EXPECT_EQ(late.status, 201);
  EXPECT_EQ(
      world().sql("SELECT (due_at > now() + interval '71 h')::text FROM timers WHERE kind = 'payment.release' AND "
                  "subject_id = $1::uuid",
                  {late.string_at("/id")}),
      "true");
  // Cancelled or withdrawn meanwhile: refused, and what was charged goes back.
  for (const bool cancelled : {true, false}) {
    const std::string gig = gig_in("ACCEPTED", ann, ben);
    const Answer gone = during(gig, cancelled ? "b" : "c", [&] {
      const Answer moved = cancelled ? world().del("/api/gigs/" + gig, ann.token)
                                     : world().post("/api/gigs/" + gig + "/withdraw", {}, ben.token);
      EXPECT_LT(moved.status, 300);
    });
    EXPECT_EQ(gone.status, 409);
    EXPECT_EQ(gone.code(), "gig_not_payable");
    provider->pays_back = false;
    settle();
    provider->pays_back = true;
    settle();  // put off
    EXPECT_EQ(provider->paid_back.size(), cancelled ? 0U : 1U);
    settle_now();
    EXPECT_EQ(provider->paid_back.size(), cancelled ? 1U : 2U);
    settle_now();
    for (const auto& [key, amount] : provider->paid_back) EXPECT_EQ(amount, 35'050);
  }
  // Withdrawn meanwhile, and then declined: nothing was taken, so nothing goes back.
  const std::string declined = gig_in("ACCEPTED", ann, ben);
  provider->paid_back.clear();
  const Answer never = during(declined, "e", [&] {
    EXPECT_EQ(world().post("/api/gigs/" + declined + "/withdraw", {}, ben.token).status, 200);
    provider->answers = {Charge::declined};
  });
  EXPECT_EQ(never.status, 402) << never.body;
  settle_now();
  EXPECT_TRUE(provider->paid_back.empty());
  EXPECT_EQ(world().sql("SELECT concat_ws(' ', status, pay_back, settle_at IS NULL) FROM transactions WHERE gig_id = "
                        "$1::uuid",
                        {declined}),
            "FAILED 0 t");
  // Nobody comes back to ask: the job does.
  const std::string left = gig_in("ACCEPTED", ann, ben);
  const Answer both = during(left, "d", [&] {
    provider->waits = false;
    settle_now();
  });
  EXPECT_EQ(both.status, 201);
  EXPECT_EQ(journals_of(both.string_at("/id")), "HOLD");
}

// --- ending ----------------------------------------------------------------------------------------------------------

TEST_F(Payments, ReleaseIsThePayersAfterCompletionAndOnce) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const Person admin = world().admin();
  const Held held = held_in("IN_PROGRESS", ann, ben);
  EXPECT_EQ(world().send(act("release", ann, held.id)).code(), "gig_not_completed");
  ASSERT_EQ(move(ben, held.gig, "COMPLETED").status, 200);
  EXPECT_EQ(world().send(act("release", ben, held.id)).status, 403);
  EXPECT_EQ(world().send(act("release", eve, held.id)).status, 404);
  // To an administrator it is there, and still not theirs to release or to dispute.
  EXPECT_EQ(world().send(act("release", admin, held.id)).code(), "forbidden");
  EXPECT_EQ(world().send(act("dispute", admin, held.id, R"({"reason":"mine"})")).code(), "forbidden");
  EXPECT_EQ(world().send(act("dispute", eve, held.id, R"({"reason":"mine"})")).status, 404);
  const Answer released = world().send(act("release", ann, held.id));
  ASSERT_EQ(released.status, 200) << released.text;
  EXPECT_EQ(released.string_at("/status"), "RELEASED");
  EXPECT_FALSE(released.at("/released_at").is_null());
  EXPECT_EQ(world().send(act("release", ann, held.id)).text, released.text);
  EXPECT_EQ(wallet(ann), "0 0");
  EXPECT_EQ(wallet(ben), "332.97 0");
  EXPECT_EQ(journals_of(held.id), "HOLD RELEASE");
  const Answer refund = world().send(act("refund", admin, held.id));
  EXPECT_EQ(refund.code(), "payment_not_open");
  EXPECT_EQ(refund.string_at("/current_status"), "RELEASED");
  EXPECT_EQ(world().send(act("dispute", ben, held.id, R"({"reason":"late"})")).code(), "payment_not_open");
  EXPECT_EQ(world().send(act("split", admin, held.id, R"({"payee_amount":1})")).code(), "payment_not_open");
  for (const char* what : {"release", "refund", "split"}) {
    const Sent body = std::string_view(what) == "split" ? Sent(R"({"payee_amount":1})") : Sent();
    EXPECT_EQ(world().send(act(what, admin, to_string(make_uuid()), body)).status, 404) << what;
  }
}

/// M08.
TEST_F(Payments, WithdrawnAndCancelledGoesBack) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), eve = world().person("Eve");
  const Held first = held_in("ACCEPTED", ann, ben);
  ASSERT_EQ(world().post("/api/gigs/" + first.gig + "/withdraw", {}, ben.token).status, 200);
  EXPECT_EQ(status_of(first.id), "REFUNDED");
  EXPECT_EQ(wallet(ann), "0 0");
  settle();
  EXPECT_EQ(provider->paid_back.size(), 1U);
  ASSERT_EQ(world().post("/api/gigs/" + first.gig + "/accept", {}, eve.token).status, 200);
  const Answer second = hold(ann, first.gig);
  ASSERT_EQ(second.status, 201);
  EXPECT_EQ(second.string_at("/payee_id"), to_string(eve.id));
  EXPECT_EQ(world().get("/api/transactions/gig/" + first.gig, ann.token).text, second.text);
  ASSERT_EQ(world().del("/api/gigs/" + first.gig, ann.token).status, 204);
  EXPECT_EQ(status_of(second.string_at("/id")), "REFUNDED");
  for (const bool by_helper : {true, false}) {
    const Held held = held_in("IN_PROGRESS", ann, ben);
    ASSERT_EQ(move(by_helper ? ben : ann, held.gig, "CANCELLED").status, 200);
    EXPECT_EQ(world().get("/api/transactions/" + held.id, ben.token).string_at("/status"), "REFUNDED");
    EXPECT_EQ(journals_of(held.id), "HOLD REFUND");
  }
  settle();
  EXPECT_EQ(provider->paid_back.size(), 4U);
  EXPECT_EQ(wallet(ann), "0 0");
  EXPECT_EQ(wallet(ben), "0 0");
}

TEST_F(Payments, AnAdministratorEndsADispute) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), admin = world().admin();
  const Sent reason{{"reason", "Half of it is undone."}};
  const Held held = held_in("COMPLETED", ann, ben, 100);
  EXPECT_EQ(world().send(act("split", admin, held.id, R"({"payee_amount":1})")).code(), "payment_not_open");
  const Answer disputed = world().send(act("dispute", ben, held.id, reason));
  ASSERT_EQ(disputed.status, 200) << disputed.text;
  EXPECT_EQ(disputed.string_at("/status"), "DISPUTED");
  EXPECT_EQ(disputed.string_at("/dispute/by"), to_string(ben.id));
  EXPECT_EQ(world().send(act("dispute", ann, held.id, reason)).code(), "payment_not_open");
  EXPECT_EQ(world().send(act("release", ann, held.id)).code(), "payment_not_open");
  EXPECT_EQ(wallet(ann), "0 100");
  const Answer much = world().send(act("split", admin, held.id, R"({"payee_amount":100.01})"));
  EXPECT_EQ(much.faults(), std::vector<std::string>{"payee_amount:out_of_range"});
  const Answer split = world().send(act("split", admin, held.id, R"({"payee_amount":60.1})"));
  ASSERT_EQ(split.status, 200) << split.text;
  EXPECT_EQ(split.string_at("/status"), "RELEASED");
  EXPECT_EQ(split.number_at("/split/service_fee"), 3.01);
  EXPECT_EQ(split.number_at("/split/net_amount"), 57.09);
  EXPECT_EQ(split.number_at("/split/payer_amount"), 39.9);
  EXPECT_EQ(split.number_at("/service_fee") + split.number_at("/net_amount"), 100);
  EXPECT_EQ(wallet(ben), "57.09 0");
  EXPECT_EQ(wallet(ann), "0 0");
  settle();
  EXPECT_EQ(provider->paid_back[*parse_uuid(held.id)], 3990);
  EXPECT_EQ(world().send(act("release", ann, held.id)).code(), "payment_not_open");
  EXPECT_EQ(world().send(act("refund", admin, held.id)).code(), "payment_not_open");

  // All to one side; and a disputed payment does not move with the gig.
  const Held none = held_in("IN_PROGRESS", ann, ben, 100), all = held_in("COMPLETED", ann, ben, 100);
  const Held back = held_in("ACCEPTED", ann, ben, 100);
  for (const Held& one : {none, all, back}) ASSERT_EQ(world().send(act("dispute", ann, one.id, reason)).status, 200);
  ASSERT_EQ(move(ben, none.gig, "CANCELLED").status, 200);
  EXPECT_EQ(status_of(none.id), "DISPUTED");
  const Answer nothing = world().send(act("split", admin, none.id, R"({"payee_amount":0})"));
  EXPECT_EQ(nothing.string_at("/status"), "REFUNDED");
  EXPECT_TRUE(nothing.at("/released_at").is_null());
  const Answer everything = world().send(act("split", admin, all.id, R"({"payee_amount":100})"));
  EXPECT_TRUE(everything.at("/refunded_at").is_null());
  const Answer refunded = world().send(act("refund", admin, back.id));
  EXPECT_EQ(refunded.string_at("/status"), "REFUNDED");
  EXPECT_EQ(world().send(act("refund", admin, back.id)).text, refunded.text);
  EXPECT_EQ(wallet(ann), "0 0");
  EXPECT_EQ(wallet(ben), "152.09 0");
  EXPECT_EQ(world().sql("SELECT string_agg(action, ' ' ORDER BY at) FROM audit_log WHERE admin_id = $1::uuid",
                        {to_string(admin.id)}),
            "payment.split payment.split payment.split payment.refund");
}

// --- what is shown ---------------------------------------------------------------------------------------------------

TEST_F(Payments, HistoryPagesWithoutGapsAndSumsAddUp) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  std::vector<std::string> newest;
  for (int i = 0; i < 9; ++i) {
    const Held held = i % 3 == 0 ? held_in("COMPLETED", ben, ann, 10) : held_in("COMPLETED", ann, ben, 10);
    newest.insert(newest.begin(), held.id);
    if (i % 3 == 1) EXPECT_EQ(world().send(act("release", ann, held.id)).status, 200);
    if (i == 2) EXPECT_EQ(world().send(act("refund", world().admin(), held.id)).status, 200);
  }
  const auto walk = [&](const std::string& filter, int limit) {
    std::vector<std::string> ids;
    std::string cursor;
    do {
      const Answer page =
          world().get("/api/transactions/history?limit=" + std::to_string(limit) + filter + cursor, ann.token);
      EXPECT_EQ(page.status, 200) << page.text;
      for (const auto& one : page.at("/transactions").as_array()) ids.emplace_back(one.at("id").as_string());
      cursor = page.at("/next_cursor").is_null() ? "" : "&cursor=" + page.string_at("/next_cursor");
    } while (!cursor.empty());
    return ids;
  };
  for (const int limit : {1, 2, 4, 9, 100}) EXPECT_EQ(walk("", limit), newest);
  EXPECT_EQ(walk("&role=payer", 2).size(), 6U);
  EXPECT_EQ(walk("&role=PAYEE", 2).size(), 3U);
  EXPECT_EQ(walk("&role=payer&status=released", 2).size(), 3U);
  EXPECT_EQ(walk("&status=HELD", 2).size(), 5U);
  EXPECT_EQ(world().get("/api/transactions/history?cursor=x", ann.token).code(), "invalid_cursor");
  EXPECT_EQ(world().get("/api/transactions/history?role=boss", ann.token).status, 422);
  EXPECT_EQ(
      world().get("/api/transactions/summary", ann.token).text,
      R"({"paid":30,"held":20,"refunded":10,"earned":0,"awaited":28.5,"fees":0,"transactions":9,"currency":"THB"})");
  EXPECT_EQ(
      world().get("/api/transactions/summary", ben.token).text,
      R"({"paid":0,"held":30,"refunded":0,"earned":28.5,"awaited":19,"fees":1.5,"transactions":9,"currency":"THB"})");
  EXPECT_EQ(wallet(ben), "28.5 30");
  EXPECT_EQ(world().post("/api/transactions/calculate-fee", R"({"amount":350.5})", ann.token).text,
            R"({"amount":350.5,"service_fee":17.53,"net_amount":332.97,"fee_bps":500})");
  EXPECT_EQ(world().post("/api/transactions/calculate-fee", R"({"amount":0.001})", ann.token).status, 422);
}

// --- the clock -------------------------------------------------------------------------------------------------------

class PaymentClock : public Payments {
 protected:
  static void strike() { world().sql("UPDATE timers SET due_at = now() WHERE kind = 'payment.release'"); }
  static bool struck() {
    return world().until(
        [] { return world().sql("SELECT count(*)::text FROM timers WHERE kind = 'payment.release'") == "0"; },
        std::chrono::seconds(30));
  }
};

TEST_F(PaymentClock, ReleasesWhatIsStillHeldOnceWithTwoServers) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  std::vector<Held> held;
  for (int i = 0; i < 12; ++i) held.push_back(held_in("COMPLETED", ann, ben, 100));
  const Held early = held_in("IN_PROGRESS", ann, ben, 100);
  EXPECT_EQ(
      world().sql("SELECT bool_and(due_at BETWEEN now() + interval '71 h 59 min' AND now() + interval '72 h')::text "
                  "FROM timers WHERE kind = 'payment.release'"),
      "true");
  ASSERT_EQ(world().send(act("dispute", ann, held[0].id, R"({"reason":"no"})")).status, 200);
  ASSERT_EQ(world().send(act("release", ann, held[1].id)).status, 200);
  strike();
  Runner one(world(), "payment.release", payments::release_due), two(world(), "payment.release", payments::release_due);
  one.jobs.start();
  two.jobs.start();
  EXPECT_TRUE(struck());
  EXPECT_EQ(status_of(held[0].id), "DISPUTED");
  EXPECT_EQ(status_of(early.id), "HELD");
  for (std::size_t i = 1; i < held.size(); ++i) EXPECT_EQ(journals_of(held[i].id), "HOLD RELEASE");
  EXPECT_EQ(wallet(ben), "1045 0");
  EXPECT_EQ(wallet(ann), "0 200");
}

TEST_F(PaymentClock, AgainstPeopleExactlyOneWins) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), admin = world().admin();
  std::vector<Held> held;
  for (int i = 0; i < 30; ++i) held.push_back(held_in("COMPLETED", ann, ben, 100));
  strike();
  std::vector<Ask> asks;
  for (std::size_t i = 0; i < held.size(); ++i) {
    asks.push_back(i % 3 == 0   ? act("release", ann, held[i].id)
                   : i % 3 == 1 ? act("refund", admin, held[i].id)
                                : act("dispute", ben, held[i].id, R"({"reason":"no"})"));
  }
  Runner one(world(), "payment.release", payments::release_due);
  one.jobs.start();
  const auto answers = world().send_all(asks);
  EXPECT_TRUE(struck());
  for (std::size_t i = 0; i < held.size(); ++i) {
    const std::string status = status_of(held[i].id);
    if (i % 3 == 0) {
      EXPECT_EQ(answers[i].status, 200) << answers[i].text;
      EXPECT_EQ(status, "RELEASED");
    } else {
      const std::string mine = i % 3 == 1 ? "REFUNDED" : "DISPUTED";
      EXPECT_EQ(status, answers[i].status == 200 ? mine : "RELEASED") << answers[i].text;
      if (answers[i].status != 200) EXPECT_EQ(answers[i].code(), "payment_not_open");
    }
  }
}

// --- races -----------------------------------------------------------------------------------------------------------

class PaymentRaces : public Payments {
 protected:
  /// HOURZ_TEST_RACES=1000 for a long run.
  static int rounds() {
    const char* wanted = std::getenv("HOURZ_TEST_RACES");
    return wanted == nullptr ? 100 : std::atoi(wanted);
  }
};

TEST_F(PaymentRaces, ReleaseAgainstRefundAndAgainstItself) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), admin = world().admin();
  int released = 0, refunded = 0;
  std::mt19937 random(7);
  for (int round = 0; round < rounds(); ++round) {
    const Held held = held_in("COMPLETED", ann, ben, 100);
    std::vector<Ask> asks{act("release", ann, held.id), act("release", ann, held.id), act("refund", admin, held.id),
                          act("refund", admin, held.id)};
    std::shuffle(asks.begin(), asks.end(), random);
    int release_ok = 0, refund_ok = 0;
    for (const Answer& answer : world().send_all(asks)) {
      if (answer.status == 200) {
        ++(answer.string_at("/status") == "RELEASED" ? release_ok : refund_ok);
      } else {
        EXPECT_EQ(answer.code(), "payment_not_open");
      }
    }
    EXPECT_EQ(release_ok + refund_ok, 2);  // the winner's two, which are one
    EXPECT_TRUE(release_ok == 0 || refund_ok == 0);
    EXPECT_EQ(journals_of(held.id), release_ok > 0 ? "HOLD RELEASE" : "HOLD REFUND");
    ++(release_ok > 0 ? released : refunded);
  }
  EXPECT_EQ(wallet(ben), to_string(Money{released * 9500}) + " 0");
  EXPECT_EQ(wallet(ann), "0 0");
  EXPECT_EQ(released + refunded, rounds());
}

TEST_F(PaymentRaces, OneLivePaymentAGig) {
  const Person ann = world().person("Ann"), ben = world().person("Ben");
  for (int round = 0; round < 4; ++round) {
    const std::string gig = gig_in("ACCEPTED", ann, ben, 10);
    std::vector<Ask> asks(50, Ask{Method::post, "/api/transactions/escrow", {{"gig_id", gig}}, ann.token});
    int made = 0;
    for (const Answer& answer : world().send_all(asks)) {
      made += answer.status == 201;
      if (answer.status != 201) EXPECT_EQ(answer.code(), "escrow_exists") << answer.text;
    }
    EXPECT_EQ(made, 1);
  }
  EXPECT_EQ(wallet(ann), "0 40");
}

TEST_F(PaymentRaces, TheGigMovesWhileItsMoneyDoes) {
  const Person ann = world().person("Ann"), ben = world().person("Ben"), admin = world().admin();
  for (int round = 0; round < 40; ++round) {
    // Held or not yet, cancelled or completed, released, refunded and disputed at once.
    const bool paid = round % 2 == 0;
    const std::string gig = gig_in("IN_PROGRESS", ann, ben, 100);
    std::string id = to_string(make_uuid());
    if (paid) id = hold(ann, gig).string_at("/id");
    std::vector<Ask> asks{
        {Method::put, "/api/gigs/" + gig + "/status", R"({"status":"CANCELLED","reason":"so"})", ann.token},
        {Method::put, "/api/gigs/" + gig + "/status", R"({"status":"COMPLETED"})", ben.token},
        act("release", ann, id),
        act("release", ann, id),
        act(round % 4 == 0 ? "refund" : "release", round % 4 == 0 ? admin : ann, id),
        act("dispute", ben, id, R"({"reason":"no"})"),
        {Method::post, "/api/transactions/escrow", {{"gig_id", gig}}, ann.token}};
    std::shuffle(asks.begin(), asks.end(), std::mt19937(static_cast<unsigned>(round)));
    for (const Answer& answer : world().send_all(asks)) EXPECT_LT(answer.status, 500) << answer.text;
    const std::string now = world().sql("SELECT status FROM gigs WHERE id = $1::uuid", {gig});
    for (const auto& row : world().rows(
             "SELECT t.status, string_agg(j.kind, ' ' ORDER BY j.number) FROM transactions t LEFT JOIN ledger_journals "
             "j ON j.transaction_id = t.id WHERE t.gig_id = $1::uuid GROUP BY t.id",
             {gig})) {
      const std::string status = row[0].value(), kinds = row[1].value_or("");
      EXPECT_EQ(kinds, status == "RELEASED"   ? "HOLD RELEASE"
                       : status == "REFUNDED" ? "HOLD REFUND"
                       : status == "FAILED"   ? ""
                                              : "HOLD");
      if (now == "CANCELLED") EXPECT_TRUE(status != "HELD" && status != "RELEASED") << status;
    }
  }
}

TEST_F(PaymentRaces, ARandomHistoryLeavesNothingBehind) {
  std::vector<Person> people;
  for (int i = 0; i < 5; ++i) people.push_back(world().person());
  const Person admin = world().admin();
  std::mt19937 random(11);
  const auto pick = [&](std::size_t count) { return random() % count; };
  std::vector<std::string> gigs;
  std::vector<std::pair<std::string, const Person*>> ids;
  for (int i = 0; i < 24; ++i) {
    const std::size_t payer = pick(5);
    gigs.push_back(gig_in("ACCEPTED", people[payer], people[(payer + 1 + pick(4)) % 5], 1.01 + 7 * i));
  }
  for (int step = 0; step < 40; ++step) {
    std::vector<Ask> asks;
    for (int i = 0; i < 8; ++i) {
      const Person& who = people[pick(5)];
      const std::string gig = "/api/gigs/" + gigs[pick(gigs.size())];
      switch (pick(5)) {
        case 0:
          asks.push_back({Method::put, gig + "/status", R"({"status":"IN_PROGRESS"})", who.token});
          break;
        case 1:
          asks.push_back({Method::put, gig + "/status", R"({"status":"COMPLETED"})", who.token});
          break;
        case 2:
          asks.push_back(pick(4) == 0 ? Ask{Method::post, gig + "/withdraw", {}, who.token}
                                      : Ask{Method::post, gig + "/accept", {}, who.token});
          break;
        default:
          const char* methods[] = {"mock_card", "mock_card", "mock_timeout", "mock_declined"};
          asks.push_back({Method::post,
                          "/api/transactions/escrow",
                          {{"gig_id", gig.substr(10)}, {"payment_method", methods[pick(4)]}},
                          who.token});
      }
    }
    const auto live = world().rows("SELECT id FROM transactions WHERE status <> 'FAILED'");
    for (std::size_t i = 0; i < 4 && !live.empty(); ++i) {
      const std::string id = live[pick(live.size())][0].value();
      const char* what[] = {"release", "release", "dispute", "split", "refund"};
      const std::size_t chosen = pick(5);
      asks.push_back(act(what[chosen], chosen > 2 ? admin : people[pick(5)], id,
                         chosen == 2   ? Sent(R"({"reason":"no"})")
                         : chosen == 3 ? Sent(R"({"payee_amount":0.55})")
                                       : Sent()));
    }
    for (const Answer& answer : world().send_all(asks)) EXPECT_TRUE(answer.status < 500 || answer.status == 503);
    if (step % 8 == 0) settle_now();
    if (step % 10 == 0) expect_sound();
  }
  // Everything is brought to its end: nothing is left in escrow.
  settle_now();
  for (const auto& row : world().rows("SELECT id FROM transactions WHERE status IN ('HELD', 'DISPUTED')")) {
    EXPECT_EQ(world().send(act("refund", admin, row[0].value())).status, 200);
  }
  settle_now();
  EXPECT_EQ(world().sql("SELECT count(*)::text FROM transactions WHERE settle_at IS NOT NULL"), "0");
  EXPECT_EQ(world().sql("SELECT coalesce(sum(balance), 0)::text FROM ledger_accounts WHERE kind = 'ESCROW'"), "0");
  EXPECT_EQ(world().sql("SELECT sum(balance)::text FROM ledger_accounts"), "0");
}

}  // namespace
}  // namespace hourz::harness
