#include "core/worker_pool.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace hourz {

WorkerPool::WorkerPool(Options options) : options_(std::move(options)) {
  if (options_.threads == 0) options_.threads = std::max(1U, std::thread::hardware_concurrency() / 2);
  most_ = options_.threads + options_.queue;
  pool_ = std::make_unique<boost::asio::thread_pool>(options_.threads);
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() {
  if (!pool_) return;
  pool_->stop();
  pool_->join();
  pool_.reset();
}

void WorkerPool::enter() {
  if (waiting_.fetch_add(1) < most_ && pool_) return;
  waiting_.fetch_sub(1);
  throw Problem(ErrorCode::overloaded, options_.busy).retry_after(2);
}

void WorkerPool::leave() {
  if (waiting_.fetch_sub(1) <= 1 && options_.on_quiet) options_.on_quiet();
}

void WorkerPool::settle_in() {
  thread_local bool settled = false;
  if (settled) return;
  settled = true;
  const sched_param none{};
  if (options_.yielding) sched_setscheduler(0, SCHED_IDLE, &none);
  if (options_.niceness != 0) setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), options_.niceness);
  if (options_.on_thread) options_.on_thread();
}

void WorkerPool::post(std::function<void()> work) {
  try {
    enter();
  } catch (const Problem&) {
    work();
    return;
  }
  boost::asio::post(*pool_, [this, work = std::move(work)] {
    settle_in();
    work();
    leave();
  });
}

}  // namespace hourz
