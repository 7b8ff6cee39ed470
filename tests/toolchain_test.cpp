// Probes of the compiler: coroutine code as handlers are written, which GCC 12 miscompiles (seen as objects destroyed
// twice or never). Each probe counts what it makes and destroys; run under AddressSanitizer they also show misuse.
#include <gtest/gtest.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace hourz {
namespace {

namespace asio = boost::asio;
template <class T>
using Task = asio::awaitable<T>;

int alive = 0;

/// Too long for the small-string buffer, so that a second destruction is a double free.
std::string words(const char* text = "some words that do not fit a small string") { return text; }

struct Counted {
  std::string text = words();
  Counted() { ++alive; }
  explicit Counted(std::string t) : text(std::move(t)) { ++alive; }
  Counted(const Counted& other) : text(other.text) { ++alive; }
  Counted(Counted&& other) noexcept : text(std::move(other.text)) { ++alive; }
  Counted& operator=(const Counted&) = default;
  Counted& operator=(Counted&&) = default;
  ~Counted() { --alive; }
};

struct Aggregate {
  Counted one;
  Counted two;
  std::vector<std::string> list;
  std::optional<Counted> maybe;
};

Task<void> hop() { co_await asio::post(asio::use_awaitable); }

Task<std::size_t> take(Aggregate value) {
  co_await hop();
  co_return value.one.text.size() + value.two.text.size() + value.list.size() + (value.maybe ? 1 : 0);
}
Task<std::size_t> take_two(Aggregate first, Aggregate second) {
  const std::size_t size = co_await take(std::move(first));
  co_return size + co_await take(std::move(second));
}
Task<Counted> make(std::string text) {
  co_await hop();
  co_return Counted(std::move(text));
}
Task<Aggregate> make_aggregate() {
  co_return Aggregate{co_await make(words()), co_await make(words()), {words(), words()}, co_await make(words())};
}
template <class Function>
Task<std::size_t> run(Function function) {
  co_await hop();
  co_return co_await function();
}
Task<bool> yes() {
  co_await hop();
  co_return true;
}
Task<int> choose(int n) {
  co_await hop();
  co_return n;
}
Task<void> fail() {
  co_await hop();
  throw std::runtime_error(words());
}

const std::size_t length = words().size();

template <class Body>
void probe(Body body) {
  alive = 0;
  asio::io_context io(1);
  bool done = false;
  std::exception_ptr failure;
  asio::co_spawn(io, body(), [&](std::exception_ptr e) {
    failure = e;
    done = true;
  });
  io.run();
  if (failure) std::rethrow_exception(failure);
  EXPECT_TRUE(done);
  EXPECT_EQ(alive, 0);
}

TEST(Toolchain, AggregatesByValueInsideCoAwait) {
  probe([]() -> Task<void> {
    EXPECT_EQ(co_await take(Aggregate{}), 2 * length);
    EXPECT_EQ(co_await take(Aggregate{Counted(words()), Counted(), {words()}, Counted()}), 2 * length + 2);
    Aggregate named{Counted(), Counted(), {}, std::nullopt};
    EXPECT_EQ(co_await take(named), 2 * length);
    EXPECT_EQ(co_await take(std::move(named)), 2 * length);
  });
}

TEST(Toolchain, BracedInitialisersInsideCoAwait) {
  probe([]() -> Task<void> {
    EXPECT_EQ(co_await take({Counted(words()), Counted(words()), {words(), words()}, std::nullopt}), 2 * length + 2);
    EXPECT_EQ(co_await take_two({{}, {}, {}, {}}, {{}, {}, {words()}, Counted()}), 4 * length + 2);
    std::vector<Aggregate> all;
    all.push_back({co_await make(words()), Counted(), {}, {}});
    EXPECT_EQ(all.size(), 1U);
  });
}

TEST(Toolchain, TernariesWithCoAwait) {
  probe([]() -> Task<void> {
    const Counted left = co_await yes() ? co_await make(words("left, and long enough to be on the heap"))
                                        : co_await make(words("right, and long enough to be on the heap"));
    EXPECT_EQ(left.text.front(), 'l');
    const bool no = !co_await yes();
    const Counted right = no ? Counted(words()) : co_await make(words("right, and long enough to be on the heap"));
    EXPECT_EQ(right.text.front(), 'r');
    EXPECT_EQ(no ? std::size_t{0} : co_await take(Aggregate{}), 2 * length);
  });
}

TEST(Toolchain, AggregatesAndArraysFromSeveralCoAwaits) {
  probe([]() -> Task<void> {
    const Aggregate made{co_await make(words()), co_await make(words()), {words()}, co_await make(words())};
    EXPECT_EQ(made.one.text, made.two.text);
    const std::array<Counted, 3> array{co_await make(words()), co_await make(words()), co_await make(words())};
    EXPECT_EQ(array[2].text, words());
    const Aggregate other = co_await make_aggregate();
    EXPECT_EQ(other.list.size(), 2U);
  });
}

TEST(Toolchain, CapturingLambdasInsideCoAwait) {
  probe([]() -> Task<void> {
    const Counted outer;
    const std::string more = words();
    EXPECT_EQ(co_await run([outer, more]() -> Task<std::size_t> {
                const std::size_t sum = outer.text.size() + more.size();
                co_return sum;
              }),
              2 * length);
  });
}

TEST(Toolchain, SwitchAndConditionsOnCoAwait) {
  probe([]() -> Task<void> {
    int reached = 0;
    switch (co_await choose(2)) {
      case 1:
        reached = 1;
        break;
      case 2: {
        const Counted inside = co_await make(words());
        reached = inside.text == words() ? 2 : 3;
        break;
      }
      default:
        break;
    }
    EXPECT_EQ(reached, 2);
    if (const auto made = co_await make(words()); !made.text.empty() && co_await yes()) ++reached;
    while (co_await choose(reached) < 5) ++reached;
    EXPECT_EQ(reached, 5);
    for (const std::string& text : (co_await make_aggregate()).list) EXPECT_EQ(text, words());
  });
}

TEST(Toolchain, ExceptionsLeaveNothingBehind) {
  probe([]() -> Task<void> {
    for (int i = 0; i < 3; ++i) {
      const Counted before;
      bool caught = false;
      try {
        const Aggregate whole{co_await make(words()), Counted(), {}, {}};
        co_await fail();
      } catch (const std::runtime_error& error) {
        caught = error.what() == words();
      }
      EXPECT_TRUE(caught);
    }
    std::optional<Counted> kept = co_await make(words());
    const auto moved = std::move(*kept);
    EXPECT_EQ(moved.text, words());
  });
}

TEST(Toolchain, AbandonedCoroutinesAreDestroyed) {
  alive = 0;
  {
    asio::io_context io(1);
    asio::co_spawn(
        io,
        []() -> Task<void> {
          const Counted held;
          const Aggregate more{Counted(), Counted(), {words()}, Counted()};
          co_await hop();
          co_await hop();
          EXPECT_EQ(held.text, more.one.text);
        }(),
        asio::detached);
    io.run_one();
    EXPECT_GT(alive, 0);
  }
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace hourz
