#include "core/worker_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <future>
#include <new>
#include <thread>

namespace {

// Memory that runs out for one thread, as often as told, after so many allocations more.
thread_local int allocations_left = 0;
thread_local int refusals_left = 0;
std::atomic<int> refusals{0};

bool is_refused() {
  if (refusals_left == 0 || allocations_left-- > 0) return false;
  --refusals_left;
  ++refusals;
  return true;
}

struct Scarce {
  Scarce(int allocations, int times) {
    allocations_left = allocations;
    refusals_left = times;
  }
  ~Scarce() { refusals_left = 0; }
  Scarce(const Scarce&) = delete;
  Scarce& operator=(const Scarce&) = delete;
};

}  // namespace

// ThreadSanitizer brings these itself.
#if !__has_feature(thread_sanitizer)
void* operator new(std::size_t size) {
  if (void* memory = is_refused() ? nullptr : std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size > 0 ? size : 1); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
#endif

// Where Asio has its memory from: the program is linked with --wrap=aligned_alloc.
extern "C" void* __real_aligned_alloc(std::size_t alignment, std::size_t size);
extern "C" void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size);
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t size) {
  return is_refused() ? nullptr : __real_aligned_alloc(alignment, size);
}

namespace hourz {
namespace {

using namespace std::chrono_literals;

boost::asio::awaitable<void> twice(WorkerPool& pool, int number, int& made, std::thread::id& thread) {
  const int result = co_await pool.run([number, &thread] {
    thread = std::this_thread::get_id();
    if (number < 0) throw std::runtime_error("less than nothing");
    return 2 * number;
  });
  made = result;
}

TEST(WorkerPool, WorkIsDoneElsewhereAndItsResultComesHome) {
  boost::asio::io_context io;  // outlives the pool, whose threads send work home
  WorkerPool pool({.threads = 2});
  int made = 0;
  std::thread::id thread;
  std::exception_ptr failure;
  boost::asio::co_spawn(io, twice(pool, 21, made, thread), boost::asio::detached);
  io.run();
  EXPECT_EQ(made, 42);
  EXPECT_NE(thread, std::this_thread::get_id());
  io.restart();
  boost::asio::co_spawn(io, twice(pool, -1, made, thread), [&failure](std::exception_ptr thrown) { failure = thrown; });
  io.run();
  EXPECT_THROW(std::rethrow_exception(failure), std::runtime_error);
  EXPECT_EQ(pool.waiting(), 0U);
}

/// A thread that is never given the processor is to the pool as one that waits for something else.
void one_stands_still(bool yielding, bool expect_done) {
  WorkerPool pool({.threads = 1, .yielding = yielding});
  std::promise<void> begun, release, done;
  pool.post([&] {
    begun.set_value();
    release.get_future().wait();
  });
  begun.get_future().wait();
  pool.post([&done] { done.set_value(); });
  auto future = done.get_future();
  EXPECT_EQ(future.wait_for(expect_done ? 20s : 1500ms) == std::future_status::ready, expect_done);
  release.set_value();
  EXPECT_EQ(future.wait_for(20s), std::future_status::ready);
}

TEST(WorkerPool, WhatWaitsForThreadsThatStandStillIsDoneByAnother) { one_stands_still(true, true); }

TEST(WorkerPool, OthersHaveNoThreadMoreThanTheyWereGiven) { one_stands_still(false, false); }

TEST(WorkerPool, WhatIsTooMuchIsRefusedAndWhatWaitsAtTheEndIsDropped) {
  std::promise<void> begun, release;
  boost::asio::io_context io;
  WorkerPool pool({.threads = 1, .queue = 1, .busy = "busy"});
  pool.post([&] {
    begun.set_value();
    release.get_future().wait();
  });
  begun.get_future().wait();
  bool ran = false;
  pool.post([&ran] { ran = true; });
  int made = 0;
  std::thread::id thread;
  std::exception_ptr failure;
  boost::asio::co_spawn(io, twice(pool, 1, made, thread), [&failure](std::exception_ptr thrown) { failure = thrown; });
  io.run();
  EXPECT_THROW(std::rethrow_exception(failure), Problem);
  std::thread stopping([&pool] { pool.stop(); });
  release.set_value();
  stopping.join();
  EXPECT_EQ(made, 0);
  static_cast<void>(ran);  // it was done or dropped: whichever came first
}

#if !__has_feature(thread_sanitizer)

boost::asio::awaitable<void> in_need(WorkerPool& pool, int allocations, bool& refused, int& made) {
  const Scarce scarce(allocations, 1);
  try {
    made = co_await pool.run([] { return 42; });
  } catch (const std::bad_alloc&) {
    refused = true;
  }
}

TEST(WorkerPool, WithoutMemoryTheCallerHearsOfItAndItsPlaceIsGivenBack) {
  boost::asio::io_context io;
  WorkerPool pool({.threads = 1});
  int allocations = 0;
  for (bool refused = true; refused; ++allocations) {
    ASSERT_LT(allocations, 100);
    refused = false;
    int made = 0;
    boost::asio::co_spawn(io, in_need(pool, allocations, refused, made), boost::asio::detached);
    io.run();
    io.restart();
    EXPECT_EQ(made, refused ? 0 : 42);
    EXPECT_EQ(pool.waiting(), 0U);
  }
  EXPECT_GT(allocations, 3) << "it was never in need";
}

TEST(WorkerPool, WhatIsDoneComesHomeHoweverLongThereIsNoMemory) {
  boost::asio::io_context io;
  WorkerPool pool({.threads = 1});
  const int before = refusals;
  int made = 0;
  std::exception_ptr failure;
  const auto ask = [](WorkerPool& asked, int& result) -> boost::asio::awaitable<void> {
    result = co_await asked.run([] {
      allocations_left = 0;
      refusals_left = 3;
      return 42;
    });
  };
  boost::asio::co_spawn(io, ask(pool, made), [&failure](std::exception_ptr thrown) { failure = thrown; });
  io.run();
  EXPECT_EQ(made, 42);
  EXPECT_FALSE(failure);
  EXPECT_EQ(refusals - before, 3);
}

TEST(WorkerPool, WhatNobodyWaitsForIsDoneByTheCallerWhereThereIsNoMemory) {
  WorkerPool pool({.threads = 1});
  for (int allocations = 0; allocations < 2; ++allocations) {
    const int before = refusals;
    std::thread::id thread;
    std::promise<void> done;
    std::function<void()> work = [&thread, &done] {
      thread = std::this_thread::get_id();
      done.set_value();
    };
    {
      const Scarce scarce(allocations, 1);
      pool.post(std::move(work));
    }
    done.get_future().wait();
    EXPECT_EQ(refusals - before, 1);
    EXPECT_EQ(thread, std::this_thread::get_id());
    EXPECT_EQ(pool.waiting(), 0U);
  }
}

#endif

}  // namespace
}  // namespace hourz
