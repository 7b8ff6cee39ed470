#include "app/waiting.hpp"

namespace hourz::app {
namespace {

constexpr double microseconds_per_second = 1e6;

double count_of(std::int64_t count) { return static_cast<double>(count); }
double seconds_of(std::int64_t us) { return static_cast<double>(us) / microseconds_per_second; }

struct Meters {
  explicit Meters(Metrics& all)
      : waiting(all.gauge("hourz_mails_waiting", "Mails that are still to be sent.")),
        age(all.gauge("hourz_mails_age_seconds", "Age of the oldest mail that is still to be sent.")),
        expired(all.gauge("hourz_mails_expired", "Mails never sent before their token ended, of about a day.")),
        sent(mails(all, "sent")),
        failed(mails(all, "failed")),
        refused(mails(all, "refused")),
        charges(unsettled(all, "charge")),
        repayments(unsettled(all, "repayment")),
        charge_age(unsettled_age(all, "charge")),
        repayment_age(unsettled_age(all, "repayment")),
        held(all.gauge("hourz_payments_held", "Payments held in escrow.")),
        disputed(all.gauge("hourz_payments_disputed", "Payments in dispute.")),
        dispute_age(all.gauge("hourz_payments_dispute_age_seconds", "How long the oldest dispute has waited.")),
        overdue(all.gauge("hourz_payments_overdue",
                          "Payments held after the gig's end whose timer is gone, fails or is late; none should be.")),
        late(all.gauge("hourz_payments_late_seconds", "How late the oldest of the overdue payments is.")) {}

  static prometheus::Counter& mails(Metrics& all, const char* outcome) {
    return all.counter("hourz_mails_total", "Mails tried, by outcome; one that failed is tried again.",
                       {{"outcome", outcome}});
  }
  static prometheus::Gauge& unsettled(Metrics& all, const char* kind) {
    return all.gauge("hourz_payments_unsettled", "Charges and repayments that are open with the provider.",
                     {{"kind", kind}});
  }
  static prometheus::Gauge& unsettled_age(Metrics& all, const char* kind) {
    return all.gauge("hourz_payments_unsettled_age_seconds", "Age of the oldest that is open with the provider.",
                     {{"kind", kind}});
  }

  prometheus::Gauge &waiting, &age, &expired;
  prometheus::Counter &sent, &failed, &refused;
  prometheus::Gauge &charges, &repayments, &charge_age, &repayment_age;
  prometheus::Gauge &held, &disputed, &dispute_age, &overdue, &late;
};

db::Awaitable<void> send_mail(std::shared_ptr<Meters> meters, auth::Deps* deps, db::Client* database) {
  const auth::MailTally tally = co_await auth::send_mail(*deps, *database);
  meters->sent.Increment(count_of(tally.sent));
  meters->failed.Increment(count_of(tally.failed));
  meters->refused.Increment(count_of(tally.refused));
}

/// Two short indexes.
db::Awaitable<void> look_outside(std::shared_ptr<Meters> meters, db::Client* database) {
  const auth::MailBacklog mails = co_await auth::mails_waiting(database->reads());
  meters->waiting.Set(count_of(mails.waiting));
  meters->expired.Set(count_of(mails.expired));
  meters->age.Set(seconds_of(mails.age_us));
  const payments::Unsettled open = co_await payments::unsettled(database->reads());
  meters->charges.Set(count_of(open.charges));
  meters->repayments.Set(count_of(open.repayments));
  meters->charge_age.Set(seconds_of(open.charge_age_us));
  meters->repayment_age.Set(seconds_of(open.repayment_age_us));
}

/// Reads all that is in escrow, and so comes less often.
db::Awaitable<void> look_into_escrow(std::shared_ptr<Meters> meters, std::int64_t auto_release_h,
                                     db::Client* database) {
  const payments::InEscrow live = co_await payments::in_escrow(database->reads(), auto_release_h);
  meters->held.Set(count_of(live.held));
  meters->disputed.Set(count_of(live.disputed));
  meters->dispute_age.Set(seconds_of(live.dispute_age_us));
  meters->overdue.Set(count_of(live.overdue));
  meters->late.Set(seconds_of(live.late_us));
}

}  // namespace

void watch_what_waits(Jobs& jobs, House& house) {
  const auto meters = std::make_shared<Meters>(house.metrics);
  jobs.every(std::chrono::seconds(1), "mail",
             [meters, deps = &house.auth](db::Client& database) { return send_mail(meters, deps, &database); });
  jobs.every(std::chrono::seconds(10), "waiting",
             [meters](db::Client& database) { return look_outside(meters, &database); });
  jobs.every(std::chrono::minutes(1), "escrow", [meters, hours = house.config.auto_release_h](db::Client& database) {
    return look_into_escrow(meters, hours, &database);
  });
}

}  // namespace hourz::app
