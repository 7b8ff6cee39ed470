#include "app/jobs.hpp"

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

}  // namespace

struct Jobs::State {
  State(boost::asio::io_context& context, db::Client& client, std::function<void()> news)
      : io(context), database(client), changed(std::move(news)) {}
  struct Repeated {
    std::chrono::milliseconds pause;
    std::string name;
    Task work;
    std::unique_ptr<boost::asio::steady_timer> timer;
  };
  boost::asio::io_context& io;
  db::Client& database;
  const std::function<void()> changed;
  std::map<std::string, Timer, std::less<>> timers;
  std::vector<std::unique_ptr<Repeated>> repeated;
  bool stopped = false;
};

namespace {

db::Awaitable<void> fire(db::Client& database, const Jobs::Timer& work, const TimerRow& row) {
  const auto transaction = database.begin();
  if (co_await db::run(*transaction, take_timer, row) == 1) co_await work(*transaction, row.subject_id);
  co_await transaction->commit();
}

/// Rounds over what is due, until a round is not full. A timer that fails is put off, so that it never blocks the ones
/// behind it.
db::Awaitable<void> fire_due(db::Client& database, const std::map<std::string, Jobs::Timer, std::less<>>& timers,
                             const std::function<void()>& changed) {
  std::vector<std::string> kinds;
  for (const auto& [kind, work] : timers) kinds.push_back(kind);
  std::size_t fired = 0;
  do {
    fired = 0;
    for (const TimerRow& row : co_await db::all(database.reads(), select_due, kinds)) {
      std::string failure;
      try {
        co_await fire(database, timers.at(row.kind), row);
        ++fired;
        changed();
        continue;
      } catch (const db::Error& error) {
        if (error.kind == db::ErrorKind::retryable) continue;  // somebody holds it: the next round
        failure = error.what();
      } catch (const std::exception& error) {
        failure = error.what();
      }
      log::Line(log::Level::error, "timer.failed").with("kind", row.kind).with("cause", failure);
      const auto transaction = database.begin();
      co_await db::run(*transaction, postpone_timer, row);
      co_await transaction->commit();
    }
  } while (fired == timers_a_round);
}

}  // namespace

Jobs::Jobs(boost::asio::io_context& io, db::Client& database, std::function<void()> changed)
    : state_(std::make_shared<State>(io, database, std::move(changed))) {}
Jobs::~Jobs() = default;

void Jobs::on_timer(std::string kind, Timer work) { state_->timers.emplace(std::move(kind), std::move(work)); }

void Jobs::every(std::chrono::milliseconds pause, std::string name, Task work) {
  auto repeated = std::make_unique<State::Repeated>();
  repeated->pause = pause;
  repeated->name = std::move(name);
  repeated->work = std::move(work);
  repeated->timer = std::make_unique<boost::asio::steady_timer>(state_->io);
  state_->repeated.push_back(std::move(repeated));
}

namespace {

template <class State, class Repeated>
db::Awaitable<void> repeat(std::shared_ptr<State> state, Repeated* job) {
  while (!state->stopped) {
    std::string failure;
    try {
      co_await job->work(state->database);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    if (!failure.empty() && !state->stopped) {
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
        [state = state_.get()](db::Client& database) { return fire_due(database, state->timers, state->changed); });
  for (const auto& job : state_->repeated) {
    boost::asio::co_spawn(state_->io, repeat(state_, job.get()), boost::asio::detached);
  }
}

void Jobs::stop() {
  state_->stopped = true;
  for (const auto& job : state_->repeated) job->timer->cancel();
}

}  // namespace hourz::app
