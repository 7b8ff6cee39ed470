#include "app/watch.hpp"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <fstream>

#include "app/house.hpp"
#include "core/log.hpp"
#include "core/time.hpp"
#include "core/version.hpp"

namespace hourz::app {
namespace {

double unix_seconds() { return static_cast<double>(now().microseconds) / 1e6; }

double open_descriptors() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  int count = -3;  // `.`, `..` and the folder itself
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

db::Awaitable<payments::LedgerAudit> audit_with(db::Client& client) {
  co_return co_await payments::audit_ledger(client.reads());
}

}  // namespace

void install_process_metrics(Metrics& metrics) {
  metrics.gauge("hourz_build_info", "1, with the version that runs.", {{"version", version}}).Set(1);
  metrics.gauge("process_start_time_seconds", "When this process started.").Set(unix_seconds());
  auto& memory = metrics.gauge("process_resident_memory_bytes", "Memory of this process, its database's aside.");
  auto& processor = metrics.counter("process_cpu_seconds_total", "Processor time of this process.");
  auto& open = metrics.gauge("process_open_fds", "Open descriptors.");
  auto& most = metrics.gauge("process_max_fds", "Descriptors that may be open.");
  metrics.before_scrape([&memory, &processor, &open, &most] {
    std::ifstream statm("/proc/self/statm");
    double pages = 0;
    double resident = 0;
    statm >> pages >> resident;
    memory.Set(resident * static_cast<double>(sysconf(_SC_PAGESIZE)));
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    catch_up(processor, seconds_of(used.ru_utime) + seconds_of(used.ru_stime));
    open.Set(open_descriptors());
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    most.Set(static_cast<double>(limit.rlim_cur));
  });
}

LedgerWatch::LedgerWatch(const Config& config, std::string url, Metrics& metrics)
    : config_(config),
      url_(std::move(url)),
      faults_(metrics.gauge("hourz_ledger_faults", "Faults that the last audit of the ledger found, twenty at most.")),
      journals_(metrics.gauge("hourz_ledger_journals", "Journals that the last audit of the ledger read.")),
      audited_(metrics.gauge("hourz_ledger_audited_timestamp_seconds", "When the last audit of the ledger ended.")),
      time_(metrics.latency("hourz_ledger_audit_duration_seconds", "Time of an audit of the ledger.")) {}

LedgerWatch::~LedgerWatch() { stop(); }

void LedgerWatch::start() {
  if (config_.ledger_audit_h > 0 && !thread_.joinable()) thread_ = std::thread(&LedgerWatch::run, this);
}

void LedgerWatch::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    if (cut_) cut_();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void LedgerWatch::run() {
  // Behind everybody, and yet not standing still beside a neighbour who is always busy, as SCHED_IDLE would.
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19));
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    lock.unlock();
    bool done = true;
    try {
      audit();
    } catch (const std::exception& error) {
      log::Line(log::Level::warn, "ledger.not_audited").with("cause", error.what());
      done = false;
    }
    lock.lock();
    const std::chrono::minutes pause = done ? std::chrono::hours(config_.ledger_audit_h) : std::chrono::minutes(1);
    changed_.wait_for(lock, pause, [this] { return stopped_; });
  }
}

void LedgerWatch::audit() {
  boost::asio::io_context io(1);
  db::Options options = database_options(config_, url_, 1);
  options.pipelined_connections = options.pooled_connections = 1;
  options.statement_timeout = options.answer_timeout = std::chrono::hours(1);
  db::Client client(io, options);
  std::optional<payments::LedgerAudit> report;
  std::exception_ptr failure;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    cut_ = [&io, &client] { boost::asio::post(io, [&client] { client.stop(); }); };
  }
  boost::asio::co_spawn(io, audit_with(client), [&](std::exception_ptr error, payments::LedgerAudit made) {
    failure = error;
    report = std::move(made);
    client.stop();
    io.stop();
  });
  const auto began = std::chrono::steady_clock::now();
  io.run();
  {
    const std::lock_guard lock(mutex_);
    cut_ = nullptr;
    if (stopped_) return;
  }
  if (failure) std::rethrow_exception(failure);
  time_.Observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  faults_.Set(static_cast<double>(report->faults.size()));
  journals_.Set(static_cast<double>(report->journals));
  audited_.Set(unix_seconds());
  log::Line line(report->faults.empty() ? log::Level::info : log::Level::error,
                 report->faults.empty() ? "ledger.audited" : "ledger.broken");
  line.with("accounts", report->accounts).with("journals", report->journals).with("entries", report->entries);
  if (!report->faults.empty()) line.with("cause", report->faults.front());
}

}  // namespace hourz::app
