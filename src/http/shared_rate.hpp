// One count of several servers: the quotas' points in time kept in Redis, moved by one script there in one round trip,
// by Redis' clock. One a shard, on a connection of its own; what is asked in one turn travels together.
//
// Promises that Redis costs a request at most `patience`, and that only once: while an answer is overdue, and while
// there is no connection, nobody is made to wait, and each server counts for itself (the log says so once, and so does
// the metric hourz_rate_limit_shared). Redis holds hashes of keys under our secret, each for as long as it owes.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/metrics.hpp"
#include "http/rate_limit.hpp"

namespace hourz::redis {
class Link;
}

namespace hourz::http {

/// What all shards' connections tell the log and the metrics. Thread-safe.
class SharingNews {
 public:
  explicit SharingNews(Metrics& metrics);
  /// A shard's connection came, went, or could not be made.
  void came();
  void went(std::string_view why);
  void failed(std::string_view why);
  /// A request was counted here alone, though it should not have been.
  void count_alone() { alone_.Increment(); }

 private:
  prometheus::Gauge& shared_;
  prometheus::Counter& alone_;
  std::mutex mutex_;
  int up_ = 0;
  std::optional<bool> said_;
};

class SharedRate {
 public:
  static constexpr std::chrono::milliseconds patience{50};

  struct Word {
    bool allowed = false;
    std::chrono::nanoseconds owed{};  ///< until the full quota is there again
  };

  /// Throws std::invalid_argument when `url` cannot be read.
  SharedRate(boost::asio::io_context& io, const std::string& url, SharingNews& news);
  ~SharedRate();
  SharedRate(const SharedRate&) = delete;
  SharedRate& operator=(const SharedRate&) = delete;

  void start();
  /// Who waits is answered with nothing.
  void stop();

  /// Takes one request of `key`; nothing when Redis has not said in time whether it may.
  boost::asio::awaitable<std::optional<Word>> take(const RateKey& key, const RateRule& rule);

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace hourz::http
