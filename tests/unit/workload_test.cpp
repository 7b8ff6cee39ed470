// The bound on what a shard takes on: it stays where there is no crowd, falls to where the target is kept, and rises
// again.
#include "http/workload.hpp"

#include <gtest/gtest.h>

#include <deque>

namespace hourz::http {
namespace {

using namespace std::chrono_literals;
using Clock = Workload::Clock;

/// A server that does `per_second` requests, one after another, behind the bound.
struct Simulated {
  Workload load;
  int per_second;
  Clock::time_point now{1h};
  std::deque<Clock::time_point> queue{};
  double credit = 0;
  int done = 0, refused = 0;
  Clock::duration slowest{};

  void run(std::chrono::milliseconds length, int arrivals_a_second) {
    done = refused = 0;
    slowest = {};
    double due = 0;
    for (auto t = 0ms; t < length; t += 1ms, now += 1ms) {
      for (due += arrivals_a_second / 1000.0; due >= 1; due -= 1) {
        if (!load.has_room(now)) {
          ++refused;
          continue;
        }
        load.begin(now);
        queue.push_back(now);
      }
      for (credit = std::min(credit + per_second / 1000.0, 10.0); credit >= 1 && !queue.empty(); credit -= 1) {
        slowest = std::max(slowest, now - queue.front());
        load.end(queue.front(), now);
        queue.pop_front();
        ++done;
      }
    }
  }
};

TEST(WorkloadTest, OneSlowRequestIsNoStandstill) {
  Workload load(200ms);
  Clock::time_point now{1h};
  load.begin(now);
  now += 2s;
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(load.has_room(now)) << i;
    load.begin(now);
  }
  now += 400ms;  // of these nothing has ended for too long
  EXPECT_FALSE(load.has_room(now));
}

TEST(WorkloadTest, TakesOnWhatItCanDoAndNoMore) {
  for (const int capacity : {200, 1000, 5000}) {
    Simulated server{Workload(200ms), capacity};
    server.run(5s, capacity / 2);
    EXPECT_EQ(server.refused, 0) << capacity;
    server.run(5s, capacity * 3);
    EXPECT_GT(server.done, capacity * 5 * 95 / 100) << capacity;  // goodput
    server.run(5s, capacity * 3);
    EXPECT_GT(server.done, capacity * 5 * 95 / 100) << capacity;
    EXPECT_LT(server.slowest, 600ms) << capacity;
    server.run(2s, capacity / 2);
    server.run(5s, capacity / 2);
    EXPECT_EQ(server.refused, 0) << capacity;  // and as before afterwards
  }
}

TEST(WorkloadTest, SlowRequestsThatAreNotManyMoveNothing) {
  Workload load(200ms);
  Clock::time_point now{1h};
  for (int i = 0; i < 100; ++i) {
    load.begin(now);
    load.end(now, now + 3s);
    now += 3s;
  }
  EXPECT_EQ(load.bound(), Workload::first);
}

TEST(WorkloadTest, WhatStopsAltogetherIsGivenLittleAndComesBack) {
  Workload load(200ms);
  Clock::time_point now{1h};
  for (int round = 0; round < 40; ++round) {
    const auto began = now;
    std::size_t taken = 0;
    for (; load.has_room(now); ++taken) load.begin(now);
    now += 2s;
    for (; taken > 0; --taken) load.end(began, now);
  }
  EXPECT_EQ(load.bound(), Workload::least);
  Simulated server{load, 1000, now};
  server.run(5s, 1000);
  server.run(1s, 900);
  EXPECT_EQ(server.refused, 0);
}

TEST(WorkloadTest, WhileNothingEndsLittleIsTakenOn) {
  Workload load(200ms);
  Clock::time_point now{1h};
  for (std::size_t i = 0; i < Workload::least; ++i) load.begin(now);
  EXPECT_TRUE(load.has_room(now + 200ms));
  EXPECT_FALSE(load.has_room(now + 301ms));
  load.end(now, now + 400ms);
  EXPECT_TRUE(load.has_room(now + 401ms));
  // A crowd after a pause is no standstill.
  for (std::size_t i = 1; i < Workload::least; ++i) load.end(now, now + 400ms);
  now += 1min;
  for (std::size_t i = 0; i < Workload::first; ++i) {
    EXPECT_TRUE(load.has_room(now)) << i;
    load.begin(now);
  }
  EXPECT_FALSE(load.has_room(now));
}

TEST(WorkloadTest, ATargetOfZeroRefusesNothing) {
  Workload load(0ms);
  const Clock::time_point now{1h};
  for (int i = 0; i < 100'000; ++i) load.begin(now);
  EXPECT_TRUE(load.has_room(now));
}

}  // namespace
}  // namespace hourz::http
