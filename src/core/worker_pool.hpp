// Work that would block an I/O thread (hashes, pictures, files) on a bounded pool of threads of its own. A coroutine
// awaits run(): its work is done on one of the threads, and it goes on where it was. When as much is waiting as may
// wait, run() throws Problem overloaded at once, which is a 503 with Retry-After; nothing queues without bound.
#pragma once
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/problem.hpp"

namespace hourz {

class WorkerPool {
 public:
  struct Options {
    std::size_t threads = 0;  ///< 0: half the cores, at least one
    std::size_t queue = 256;  ///< what may wait besides what is being done
    std::string busy;         ///< what a refused caller is told
    /// Takes the processor only when nobody else wants it: being nice is not enough where the kernel groups processes
    /// by session, for it counts within a session only, and each of PostgreSQL's is one. Where others leave none for a
    /// second, one more thread, which asks for it like any other, does what waits, until these come along again.
    bool yielding = false;
    /// 0 to 19: how far behind the other threads of this server.
    int niceness = 0;
    std::function<void()> on_thread = {};  ///< called on each thread before its first work
    std::function<void()> on_quiet = {};   ///< called on a thread when nothing is left to do
  };

  explicit WorkerPool(Options options);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// What `work` gives or throws. Throws Problem overloaded when too much waits, std::bad_alloc when there is no memory
  /// to queue it; either way nothing was done.
  template <class Work>
  boost::asio::awaitable<std::invoke_result_t<Work>> run(Work work) {
    using Result = std::invoke_result_t<Work>;
    std::exception_ptr failure;
    std::optional<std::conditional_t<std::is_void_v<Result>, std::monostate, Result>> result;
    co_await do_elsewhere([&] {
      try {
        if constexpr (std::is_void_v<Result>) {
          work();
        } else {
          result.emplace(work());
        }
      } catch (...) {
        failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
    if constexpr (!std::is_void_v<Result>) co_return std::move(*result);
  }

  /// The same for work that nobody waits for, and that must not throw. Done at once by the caller when the pool is
  /// full, or when there is no memory to queue it.
  void post(std::function<void()> work);

  /// Ends the threads; what waits is dropped. Before the io_contexts that callers run on go.
  void stop();

  std::size_t waiting() const { return waiting_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Job {
    std::function<void()> work;
    Clock::time_point since;
  };

  /// Moved from one to the next without asking for memory.
  using Queue = std::list<Job>;
  class Place;

  boost::asio::awaitable<void> do_elsewhere(std::function<void()> work);
  void enter();
  void leave();
  void push(Queue& job);
  void work_off();
  void stand_by();
  void do_first(std::unique_lock<std::mutex>& lock);

  Options options_;
  std::size_t most_;
  std::atomic<std::size_t> waiting_{0};
  std::mutex mutex_;
  std::condition_variable wake_, wake_standby_;
  Queue jobs_;
  Clock::time_point last_done_{};  ///< by a thread other than the one that stands by
  std::atomic<bool> stopped_{false};
  std::vector<std::thread> threads_;
};

}  // namespace hourz
