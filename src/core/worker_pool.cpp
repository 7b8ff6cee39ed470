#include "core/worker_pool.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace hourz {
namespace {

constexpr std::chrono::seconds starving{1};

}  // namespace

WorkerPool::WorkerPool(Options options) : options_(std::move(options)) {
  if (options_.threads == 0) options_.threads = std::max(1U, std::thread::hardware_concurrency() / 2);
  most_ = options_.threads + options_.queue;
  try {
    for (std::size_t i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { work_off(); });
    if (options_.yielding) threads_.emplace_back([this] { stand_by(); });
  } catch (...) {
    stop();
    throw;
  }
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
  wake_standby_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  // Outside the lock: who is dropped may let go of what asks this pool again.
  std::deque<Job> dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped.swap(jobs_);
  }
}

void WorkerPool::enter() {
  if (waiting_.fetch_add(1) < most_ && !stopped_) return;
  waiting_.fetch_sub(1);
  throw Problem(ErrorCode::overloaded, options_.busy).retry_after(2);
}

void WorkerPool::leave() {
  if (waiting_.fetch_sub(1) <= 1 && options_.on_quiet) options_.on_quiet();
}

void WorkerPool::push(std::function<void()> work) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = jobs_.empty();
    jobs_.push_back({std::move(work), Clock::now()});
  }
  wake_.notify_one();
  if (first && options_.yielding) wake_standby_.notify_one();
}

void WorkerPool::do_first(std::unique_lock<std::mutex>& lock) {
  std::function<void()> work = std::move(jobs_.front().work);
  jobs_.pop_front();
  lock.unlock();
  work();
  work = nullptr;
  lock.lock();
}

void WorkerPool::work_off() {
  const sched_param none{};
  if (options_.yielding) sched_setscheduler(0, SCHED_IDLE, &none);
  if (options_.niceness != 0) setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), options_.niceness);
  if (options_.on_thread) options_.on_thread();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopped_ || !jobs_.empty(); });
    if (stopped_) return;
    do_first(lock);
    last_done_ = Clock::now();
  }
}

/// Does what has waited for a second in which the others have done nothing: a long queue alone is no reason to get in
/// anybody's way.
void WorkerPool::stand_by() {
  if (options_.on_thread) options_.on_thread();
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    if (jobs_.empty()) {
      wake_standby_.wait(lock);
    } else if (const auto due = std::max(jobs_.front().since, last_done_) + starving; Clock::now() < due) {
      wake_standby_.wait_until(lock, due);
    } else {
      do_first(lock);
    }
  }
}

void WorkerPool::post(std::function<void()> work) {
  try {
    enter();
  } catch (const Problem&) {
    work();
    return;
  }
  push([this, work = std::move(work)] {
    work();
    leave();
  });
}

}  // namespace hourz
