#include "core/metrics.hpp"

#include <prometheus/text_serializer.h>

namespace hourz {

Metrics::Metrics() = default;

prometheus::Counter& Metrics::counter(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels);
}

prometheus::Gauge& Metrics::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels);
}

prometheus::Histogram& Metrics::latency(const std::string& name, const std::string& help, const Labels& labels) {
  static const prometheus::Histogram::BucketBoundaries bounds{
      0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels, bounds);
}

void Metrics::before_scrape(std::function<void()> update) { updates_.push_back(std::move(update)); }

std::string Metrics::expose() {
  const std::lock_guard lock(scraping_);
  for (const auto& update : updates_) update();
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace hourz
