#include "core/worker_pool.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <future>
#include <thread>

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

}  // namespace
}  // namespace hourz
