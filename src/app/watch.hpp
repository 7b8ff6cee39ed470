// What a server says of itself at /metrics beside what the rooms count: its version, its process, its shards, and
// whether the ledger still adds up.
//
// Gauges are read when somebody asks. The ledger's audit reads all of the ledger, so it runs on a thread of its own
// that takes the processor when nobody else wants it, over a connection of its own, once the schema is in place and
// then every HOURZ_LEDGER_AUDIT_H hours. Its result is the metric `hourz_ledger_faults` and a log line; what to do
// about a fault is left to people.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/config.hpp"
#include "core/metrics.hpp"

namespace hourz::app {

/// Version and process: memory, processor time, descriptors, start.
void install_process_metrics(Metrics& metrics);

class LedgerWatch {
 public:
  /// `url`: the application role's.
  LedgerWatch(const Config& config, std::string url, Metrics& metrics);
  ~LedgerWatch();
  LedgerWatch(const LedgerWatch&) = delete;
  LedgerWatch& operator=(const LedgerWatch&) = delete;

  void start();
  /// Cuts an audit that runs, and joins the thread.
  void stop();

 private:
  void run();
  void audit();
  const Config& config_;
  const std::string url_;
  prometheus::Gauge& faults_;
  prometheus::Gauge& journals_;
  prometheus::Gauge& audited_;
  prometheus::Histogram& time_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::function<void()> cut_;  ///< ends the audit under way
  std::thread thread_;
};

}  // namespace hourz::app
