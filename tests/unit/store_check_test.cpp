#include "app/store_check.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <future>

namespace hourz::app {
namespace {

using namespace std::chrono_literals;
using Clock = StoreCheck::Clock;

/// Answers when it is let, and counts how often it is asked.
class SlowStore final : public storage::Store {
 public:
  void put(std::string_view, const std::filesystem::path&, std::string_view) override {}
  std::string read(std::string_view, std::uint64_t, std::uint64_t) override { return {}; }
  std::optional<storage::ObjectInfo> find(std::string_view) override { return std::nullopt; }
  void remove(std::string_view) override {}
  void list(std::string_view, const std::function<void(const storage::ObjectInfo&)>&) override {}
  void check() override {
    ++asked;
    held_.wait();
    if (lost) throw storage::Error(storage::Failure::unavailable, "lost");
  }
  void let() {
    if (!std::exchange(let_, true)) hold_.set_value();
  }

  std::atomic<int> asked = 0;
  std::atomic<bool> lost = false;

 private:
  bool let_ = false;
  std::promise<void> hold_;
  std::shared_future<void> held_ = hold_.get_future().share();
};

class StoreChecks : public testing::Test {
 protected:
  ~StoreChecks() override {
    store.let();
    check.stop();
  }

  static boost::asio::awaitable<void> note(StoreCheck& check, int& yes, int& no) {
    ++(co_await check.answers() ? yes : no);
  }
  void ask() { boost::asio::co_spawn(io, note(check, yes, no), boost::asio::detached); }
  template <class Condition>
  bool until(Condition done) {
    const auto deadline = Clock::now() + 20s;
    while (!done()) {
      if (Clock::now() > deadline) return false;
      io.restart();
      io.run_one_for(5ms);
    }
    return true;
  }

  boost::asio::io_context io;  // outlives the pool, whose thread sends work home
  SlowStore store;
  StoreCheck check{store, {.lasts = 300ms, .patience = 400ms}};
  int yes = 0, no = 0;
};

TEST_F(StoreChecks, TheStoreIsAskedOnceHoweverManyWantToKnow) {
  for (int i = 0; i < 1000; ++i) ask();
  ASSERT_TRUE(until([&] { return yes + no == 999 && store.asked == 1; }));  // and one waits for the store
  // A store that takes too long does not answer.
  ASSERT_TRUE(until([&] { return ask(), no > 0; }));
  const auto began = Clock::now();
  const int before = yes;
  store.let();
  ASSERT_TRUE(until([&] { return ask(), yes > before + 100; }));
  EXPECT_LE(store.asked, 1 + (Clock::now() - began) / 300ms);
  store.lost = true;
  no = 0;
  ASSERT_TRUE(until([&] { return ask(), no > 0; }));  // once the last answer is old
  store.lost = false;
  ASSERT_TRUE(until([&] { return ask(), yes > before + 200; }));
  EXPECT_LE(store.asked, 2 + (Clock::now() - began) / 300ms);
}

}  // namespace
}  // namespace hourz::app
