#include "core/worker_pool.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <new>

namespace hourz {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds starving{1};

/// A coroutine that is suspended; calling it resumes it.
using Suspended = boost::asio::async_result<boost::asio::use_awaitable_t<>, void()>::handler_type;

/// Tried until there is memory for it: nobody else knows of the coroutine, which would wait for ever.
void send_home(const boost::asio::any_io_executor& home, const std::shared_ptr<std::optional<Suspended>>& who,
               const std::atomic<bool>& stopped) {
  for (;;) {
    try {
      boost::asio::post(home, [who] { (**who)(); });
      return;
    } catch (const std::bad_alloc&) {
      if (stopped) return;
      std::this_thread::sleep_for(10ms);
    }
  }
}

}  // namespace

/// Given back when it goes, unless a job has it.
class WorkerPool::Place {
 public:
  explicit Place(WorkerPool& pool) : pool_(&pool) { pool.enter(); }
  ~Place() {
    if (pool_ != nullptr) pool_->leave();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  void hand_over() { pool_ = nullptr; }

 private:
  WorkerPool* pool_;
};

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
  Queue dropped;
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

void WorkerPool::push(Queue& job) {
  bool first = false;
  job.front().since = Clock::now();
  {
    const std::lock_guard lock(mutex_);
    first = jobs_.empty();
    jobs_.splice(jobs_.end(), job);
  }
  wake_.notify_one();
  if (first && options_.yielding) wake_standby_.notify_one();
}

void WorkerPool::do_first(std::unique_lock<std::mutex>& lock) {
  Queue job;
  job.splice(job.end(), jobs_, jobs_.begin());
  lock.unlock();
  job.front().work();
  job.clear();
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
  Queue job;
  try {
    Place place(*this);
    job.push_back({[this, work] {
                     work();
                     leave();
                   },
                   {}});
    place.hand_over();
  } catch (const std::exception&) {
    work();
    return;
  }
  push(job);
}

boost::asio::awaitable<void> WorkerPool::do_elsewhere(std::function<void()> work) {
  Place place(*this);
  const auto home = co_await boost::asio::this_coro::executor;
  // What throws once a coroutine is suspended leaves the loop and ends the process. So all memory is had before.
  Queue job;
  auto who = std::make_shared<std::optional<Suspended>>();
  auto* const slot = who.get();
  job.push_back({[this, home, who = std::move(who), work = std::move(work)] {
                   work();
                   leave();
                   send_home(home, who, stopped_);
                 },
                 {}});
  // From here to its resumption at home this coroutine touches nothing of the shard; what is dropped drops it.
  co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>&, void()>(
      [this, slot, &job, &place](Suspended handler) {
        slot->emplace(std::move(handler));
        place.hand_over();
        push(job);
      },
      boost::asio::use_awaitable);
}

}  // namespace hourz
