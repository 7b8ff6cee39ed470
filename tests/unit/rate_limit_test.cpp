// Rate limits: what is allowed, that remaining and reset tell the truth, and that a million keys cost what a few do.
#include "http/rate_limit.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace hourz::http {
namespace {

using namespace std::chrono_literals;
using Stamp = RateLimiter::Stamp;
const Stamp start{1h};

Config settings() {
  Config config;
  config.secret = "0123456789abcdef0123456789abcdef0123456789abcdef";
  return config;
}

RateVerdict take(RateLimiter& limiter, RateClass rate, std::string_view subject, Stamp now) {
  return limiter.take(limiter.key_of(rate, subject), now);
}

TEST(RateLimits, ABurstThenOneByOne) {
  RateLimiter limiter(settings());
  for (int i = 0; i < 5; ++i) {
    const auto verdict = take(limiter, RateClass::auth, "a", start);
    EXPECT_TRUE(verdict.allowed) << i;
    EXPECT_EQ(verdict.remaining, 4 - i);
  }
  const auto refused = take(limiter, RateClass::auth, "a", start);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.remaining, 0);
  EXPECT_EQ(refused.reset_s, 12);  // five a minute: one in twelve seconds
  EXPECT_FALSE(take(limiter, RateClass::auth, "a", start + 11'999ms).allowed);
  EXPECT_TRUE(take(limiter, RateClass::auth, "a", start + 12s).allowed);
  EXPECT_FALSE(take(limiter, RateClass::auth, "a", start + 12s).allowed);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(take(limiter, RateClass::auth, "a", start + 10min).allowed) << i;
  EXPECT_FALSE(take(limiter, RateClass::auth, "a", start + 10min).allowed);
}

TEST(RateLimits, KeysAndClassesDoNotShare) {
  RateLimiter limiter(settings());
  for (int i = 0; i < 5; ++i) take(limiter, RateClass::auth, "a", start);
  EXPECT_FALSE(take(limiter, RateClass::auth, "a", start).allowed);
  EXPECT_TRUE(take(limiter, RateClass::auth, "b", start).allowed);
  EXPECT_TRUE(take(limiter, RateClass::standard, "a", start).allowed);
  EXPECT_TRUE(take(limiter, RateClass::email, "a", start).allowed);
}

TEST(RateLimits, NoWindowLetsThroughMoreThanTheQuotaAndABurst) {
  RateLimiter limiter(settings());
  int allowed = 0;
  for (auto at = 0ms; at < 10min; at += 100ms) {
    if (take(limiter, RateClass::standard, "a", start + at).allowed) ++allowed;
  }
  EXPECT_EQ(allowed, 300 + 300 * 10 - 1 + (600'000 - 100) % 200 / 200);  // ten refills and the first burst
}

TEST(RateLimits, RemainingAndResetTellTheTruth) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    Config config = settings();
    config.rate_standard = {std::uniform_int_distribution<std::int64_t>(1, 40)(random),
                            std::uniform_int_distribution<std::int64_t>(1, 120)(random)};
    const std::int64_t quota = config.rate_standard.requests;
    RateLimiter limiter(config, 64);
    const RateKey key = limiter.key_of(RateClass::standard, "a");
    // Everything that is said is held against copies of the key, made by asking the same of another limiter.
    std::vector<Stamp> history;
    Stamp now = start;
    for (int step = 0; step < 30; ++step) {
      now += std::chrono::milliseconds(std::uniform_int_distribution<>(0, 3000)(random));
      history.push_back(now);
      const RateVerdict said = limiter.take(key, now);
      EXPECT_LE(said.remaining, quota - (said.allowed ? 1 : 0));
      const auto replayed = [&](Stamp then, std::int64_t requests) {
        RateLimiter copy(config, 64);
        const RateKey same = copy.key_of(RateClass::standard, "a");
        for (const Stamp at : history) copy.take(same, at);
        std::int64_t allowed = 0;
        for (std::int64_t i = 0; i < requests; ++i) allowed += copy.take(same, then).allowed;
        return allowed;
      };
      if (said.allowed) {
        EXPECT_EQ(replayed(now, said.remaining + 1), said.remaining);                      // no more, no fewer
        EXPECT_EQ(replayed(now + std::chrono::seconds(said.reset_s), quota + 1), quota);   // and then all of it
        EXPECT_LT(replayed(now + std::chrono::seconds(said.reset_s) - 1s, quota), quota);  // not much sooner
      } else {
        EXPECT_EQ(said.remaining, 0);
        EXPECT_GE(replayed(now + std::chrono::seconds(said.reset_s), 1), 1);
        if (said.reset_s > 1) {
          EXPECT_EQ(replayed(now + std::chrono::seconds(said.reset_s) - 1s, 1), 0);
        }
      }
    }
  }
}

TEST(RateLimits, WhoOwesLeastIsForgottenFirst) {
  RateLimiter small(settings(), 8);  // one bucket
  for (int i = 0; i < 5; ++i) take(small, RateClass::auth, "owes", start);
  for (int i = 0; i < 10'000; ++i) EXPECT_TRUE(take(small, RateClass::auth, std::to_string(i), start).allowed);
  EXPECT_FALSE(take(small, RateClass::auth, "owes", start).allowed);
}

TEST(RateLimits, AnotherCountsWordIsTakenAndNeverLessensADebt) {
  RateLimiter limiter(settings());
  const RateKey key = limiter.key_of(RateClass::auth, "a");
  EXPECT_EQ(limiter.peek(key, start).remaining, 4);
  EXPECT_EQ(limiter.peek(key, start).remaining, 4);
  const RateVerdict shared = limiter.learn(key, true, 36s, start);  // three are gone, here or elsewhere
  EXPECT_TRUE(shared.allowed);
  EXPECT_EQ(shared.remaining, 2);
  EXPECT_EQ(shared.reset_s, 36);
  EXPECT_EQ(limiter.take(key, start).remaining, 1);
  EXPECT_EQ(limiter.learn(key, true, 12s, start).remaining, 1);  // older news: said is what the caller meets here
  EXPECT_EQ(limiter.peek(key, start).remaining, 0);
  const RateVerdict refused = limiter.learn(key, false, 60s, start);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.reset_s, 12);
  EXPECT_FALSE(limiter.peek(key, start + 11s).allowed);
  EXPECT_TRUE(limiter.peek(key, start + 12s).allowed);
}

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST(RateLimits, AMillionKeysCostBoundedMemoryAndTheNoisyOneStaysHeldBack) {
  RateLimiter limiter(settings());
  const auto flood = [&](int first) {
    for (int i = first; i < first + 1'000'000; ++i) take(limiter, RateClass::auth, std::to_string(i), start);
  };
  for (int i = 0; i < 5; ++i) take(limiter, RateClass::auth, "noisy", start);
  const std::size_t before = resident_bytes();
  flood(0);
  [[maybe_unused]] const std::size_t after_one = resident_bytes();
  flood(1'000'000);
  flood(2'000'000);
  const std::size_t after_three = resident_bytes();
  EXPECT_FALSE(take(limiter, RateClass::auth, "noisy", start).allowed);
#if !defined(__SANITIZE_ADDRESS__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
  EXPECT_LT(after_one, before + (20 << 20));
  EXPECT_LT(after_three, after_one + (2 << 20));
#endif
  RecordProperty("growth_bytes", std::to_string(after_three - before));
}

TEST(RateLimits, ManyThreadsTakeNoMoreThanThereIs) {
  RateLimiter limiter(settings());
  const RateKey key = limiter.key_of(RateClass::standard, "a");
  std::atomic<int> allowed = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        if (limiter.take(key, start).allowed) ++allowed;
        take(limiter, RateClass::standard, std::to_string(i), start);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(allowed, 300);
}

}  // namespace
}  // namespace hourz::http
