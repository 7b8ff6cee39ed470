#include "app/jobs.hpp"

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/log.hpp"
#include "jobs_sql.hpp"

namespace hourz::app {
namespace {

struct TimerRow {
  std::string kind;
  Uuid subject_id;
};
BOOST_DESCRIBE_STRUCT(TimerRow, (), (kind, subject_id))

constexpr std::size_t timers_a_round = 100;  // the LIMIT of jobs.due

const db::Query<TimerRow, std::vector<std::string>> select_due{jobs::sql::due};
const db::Query<db::Nothing, TimerRow> take_timer{jobs::sql::take};
const db::Query<db::Nothing, TimerRow> postpone_timer{jobs::sql::postpone};

struct Backlog {
  std::int64_t overdue, late_us, outbox_us;
};
BOOST_DESCRIBE_STRUCT(Backlog, (), (overdue, late_us, outbox_us))

const db::Query<Backlog> select_backlog{jobs::sql::backlog};

double unix_seconds() { return static_cast<double>(now().microseconds) / 1e6; }

}  // namespace

struct Jobs::State {
  State(boost::asio::io_context& context, db::Client& client, Metrics& all, std::function<void()> news)
      : io(context),
        database(client),
        metrics(all),
        changed(std::move(news)),
        overdue(all.gauge("hourz_timers_overdue", "Timers whose time has come and whose work is not done.")),
        late(all.gauge("hourz_timers_late_seconds", "How late the oldest of the overdue timers is.")),
        outbox_age(all.gauge("hourz_outbox_age_seconds", "Age of the oldest row of the outbox.")) {}
  struct Repeated {
    std::chrono::milliseconds pause;
    std::string name;
    Task work;
    std::unique_ptr<boost::asio::steady_timer> timer;
    prometheus::Counter& done;
    prometheus::Counter& failed;
    prometheus::Histogram& time;
    prometheus::Gauge& last;
  };
  /// A kind of timer, with its meters.
  struct Kind {
    Timer work;
    prometheus::Counter& done;
    prometheus::Counter& failed;
  };
  boost::asio::io_context& io;
  db::Client& database;
  Metrics& metrics;
  const std::function<void()> changed;
  prometheus::Gauge& overdue;
  prometheus::Gauge& late;
  prometheus::Gauge& outbox_age;
  std::map<std::string, Kind, std::less<>> timers;
  std::vector<std::unique_ptr<Repeated>> repeated;
  bool stopped = false;
  std::atomic<int> under_way{0};
};

namespace {

db::Awaitable<void> fire(db::Client& database, const Jobs::Timer& work, const TimerRow& row) {
  const auto transaction = database.begin();
  if (co_await db::run(*transaction, take_timer, row) == 1) co_await work(*transaction, row.subject_id);
  co_await transaction->commit();
}

/// Rounds over what is due, until a round is not full. A timer that fails is put off, so that it never blocks the ones
/// behind it.
template <class State>
db::Awaitable<void> fire_due(db::Client& database, State* state) {
  std::vector<std::string> kinds;
  for (const auto& [kind, one] : state->timers) kinds.push_back(kind);
  std::size_t fired = 0;
  do {
    fired = 0;
    for (const TimerRow& row : co_await db::all(database.reads(), select_due, kinds)) {
      const auto& kind = state->timers.at(row.kind);
      std::string failure;
      try {
        co_await fire(database, kind.work, row);
        ++fired;
        kind.done.Increment();
        state->changed();
        continue;
      } catch (const db::Error& error) {
        if (error.kind == db::ErrorKind::retryable) continue;  // somebody holds it: the next round
        failure = error.what();
      } catch (const std::exception& error) {
        failure = error.what();
      }
      kind.failed.Increment();
      log::Line(log::Level::error, "timer.failed").with("kind", row.kind).with("cause", failure);
      const auto transaction = database.begin();
      co_await db::run(*transaction, postpone_timer, row);
      co_await transaction->commit();
    }
  } while (fired == timers_a_round && !state->stopped);
}

template <class State>
db::Awaitable<void> look_at_backlog(db::Client& database, State* state) {
  const Backlog backlog = co_await db::one(database.reads(), select_backlog);
  state->overdue.Set(static_cast<double>(backlog.overdue));
  state->late.Set(static_cast<double>(backlog.late_us) / 1e6);
  state->outbox_age.Set(static_cast<double>(backlog.outbox_us) / 1e6);
}

}  // namespace

Jobs::Jobs(boost::asio::io_context& io, db::Client& database, Metrics& metrics, std::function<void()> changed)
    : state_(std::make_shared<State>(io, database, metrics, std::move(changed))) {}
Jobs::~Jobs() = default;

void Jobs::on_timer(std::string kind, Timer work) {
  const auto counter = [&](const char* outcome) -> prometheus::Counter& {
    return state_->metrics.counter("hourz_timers_total", "Timers fired, by kind and outcome.",
                                   {{"kind", kind}, {"outcome", outcome}});
  };
  State::Kind one{std::move(work), counter("done"), counter("failed")};
  state_->timers.emplace(std::move(kind), std::move(one));
}

void Jobs::every(std::chrono::milliseconds pause, std::string name, Task work) {
  Metrics& metrics = state_->metrics;
  const auto counter = [&](const char* outcome) -> prometheus::Counter& {
    return metrics.counter("hourz_job_runs_total", "Runs of the work that no request waits for, by task and outcome.",
                           {{"task", name}, {"outcome", outcome}});
  };
  auto timer = std::make_unique<boost::asio::steady_timer>(state_->io);
  auto& time = metrics.latency("hourz_job_duration_seconds", "Time of one run, by task.", {{"task", name}});
  auto& last = metrics.gauge("hourz_job_last_success_timestamp_seconds", "When a task last ended well, by task.",
                             {{"task", name}});
  state_->repeated.push_back(std::make_unique<State::Repeated>(
      State::Repeated{pause, name, std::move(work), std::move(timer), counter("done"), counter("failed"), time, last}));
}

namespace {

template <class State, class Repeated>
db::Awaitable<void> repeat(std::shared_ptr<State> state, Repeated* job) {
  while (!state->stopped) {
    std::string failure;
    const auto began = std::chrono::steady_clock::now();
    ++state->under_way;
    try {
      co_await job->work(state->database);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    --state->under_way;
    job->time.Observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    if (failure.empty()) {
      job->done.Increment();
      job->last.Set(unix_seconds());
    } else if (!state->stopped) {
      job->failed.Increment();
      log::Line(log::Level::warn, "job.failed").with("job", job->name).with("cause", failure);
    }
    if (state->stopped) co_return;
    job->timer->expires_after(
        failure.empty() ? job->pause : std::max<std::chrono::milliseconds>(job->pause * 2, std::chrono::seconds(1)));
    boost::system::error_code ignored;
    co_await job->timer->async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  }
}

}  // namespace

void Jobs::start() {
  every(std::chrono::milliseconds(500), "timers",
        [state = state_.get()](db::Client& database) { return fire_due(database, state); });
  every(std::chrono::seconds(10), "backlog",
        [state = state_.get()](db::Client& database) { return look_at_backlog(database, state); });
  for (const auto& job : state_->repeated) {
    boost::asio::co_spawn(state_->io, repeat(state_, job.get()), boost::asio::detached);
  }
}

void Jobs::stop() {
  state_->stopped = true;
  for (const auto& job : state_->repeated) job->timer->cancel();
}

bool Jobs::idle() const { return state_->under_way == 0; }

}  // namespace hourz::app
