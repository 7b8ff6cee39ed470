// What waits for somebody outside, as metrics: mails for the mail server, charges and repayments for the provider,
// disputes for an administrator; and payments that nothing will release. Also the job that sends mail, since it is
// counted by what came of it. The figures are of the whole database, so every server says the same; they are read by
// jobs and not by a scrape, which thus costs nothing. What they mean for somebody on call stands in the alerts.
#pragma once
#include "app/house.hpp"
#include "app/jobs.hpp"

namespace hourz::app {

/// Before the jobs start; `house` outlives them.
void watch_what_waits(Jobs& jobs, House& house);

}  // namespace hourz::app
