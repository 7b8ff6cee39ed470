// Metrics in Prometheus' text format (prometheus-cpp). Names and units follow its conventions: `_total` for counters,
// seconds and bytes as base units. Label sets are fixed at start, so that nothing from outside can make new ones.
#pragma once
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace hourz {

class Metrics {
 public:
  using Labels = std::map<std::string, std::string>;
  Metrics();

  prometheus::Counter& counter(const std::string& name, const std::string& help, const Labels& labels = {});
  prometheus::Gauge& gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  /// Buckets in seconds from 100 µs to 10 s.
  prometheus::Histogram& latency(const std::string& name, const std::string& help, const Labels& labels = {});

  /// Called before each scrape, to set gauges from what others count.
  void before_scrape(std::function<void()> update);

  /// The exposition text. Safe from any thread; one at a time.
  std::string expose();

 private:
  std::mutex scraping_;  // two updates at once would count the same twice
  prometheus::Registry registry_;
  std::vector<std::function<void()>> updates_;
};

/// Brings a counter up to what is counted elsewhere.
inline void catch_up(prometheus::Counter& counter, double count) {
  if (count > counter.Value()) counter.Increment(count - counter.Value());
}

}  // namespace hourz
