// Whether the store of files answers, for readiness. Asking a store of the S3 kind writes to it, and anybody may ask
// for readiness: so the store is asked by one thread of its own, by one asker at a time and at most once a second,
// however many want to know. Shared by all shards.
#pragma once
#include <atomic>
#include <chrono>

#include "core/worker_pool.hpp"
#include "db/database.hpp"
#include "storage/storage.hpp"

namespace hourz::app {

class StoreCheck {
 public:
  using Clock = std::chrono::steady_clock;
  struct Times {
    Clock::duration lasts = std::chrono::seconds(1);     ///< an answer holds
    Clock::duration patience = std::chrono::seconds(5);  ///< with a store that is being asked
  };

  explicit StoreCheck(storage::Store& store, Times times) : store_(store), times_(times) {}

  /// What the store last said. Whoever comes first once that is old waits for what it says now; others meanwhile are
  /// told the last answer, and no once it takes longer than `patience`.
  db::Awaitable<bool> answers();

  /// As a pool is stopped: before the io_contexts go.
  void stop() { pool_.stop(); }

 private:
  storage::Store& store_;
  const Times times_;
  std::atomic<bool> good_ = true;
  std::atomic<Clock::rep> told_ = 0;         ///< when; 0: never
  std::atomic<Clock::rep> asked_since_ = 0;  ///< 0: nobody asks
  WorkerPool pool_{{.threads = 1, .queue = 1, .busy = "The store of files is being asked."}};
};

}  // namespace hourz::app
