// The bus by PUBLISH and SUBSCRIBE: one connection that is subscribed, one that publishes, each kept up by itself.
//
// Redis' channels know no databases, so the channel's name holds the number. An empty text says nothing and is handed
// to nobody: it is what a publishing connection opens with, to learn whether it may publish at all.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <deque>
#include <random>

#include "realtime/bus.hpp"
#include "realtime/bus_ear.hpp"
#include "realtime/redis_wire.hpp"

namespace hourz::realtime {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr std::size_t most_waiting = 1000;
constexpr std::size_t batch_bytes = 64 * 1024;  ///< given to the socket at once
constexpr milliseconds short_life{1000};        ///< a connection lost sooner counts as a failed attempt
constexpr milliseconds first_pause{50};
// Short enough to hear Redis within two seconds of its return, on a busy machine too.
constexpr milliseconds longest_pause{1000};

struct Side {
  explicit Side(asio::io_context& io) : timer(io) {}
  bool up() const { return ready && wire->open(); }
  std::shared_ptr<RedisWire> wire;
  bool ready = false;
  int failures = 0;
  asio::steady_timer timer;
};

struct State {
  State(asio::io_context& io_context, RedisAddress where)
      : io(io_context),
        address(std::move(where)),
        channel("hourz_bus:" + std::to_string(address.database)),
        hearing(io),
        saying(io) {}

  bool connected() const { return !stopped && hearing.up() && saying.up(); }
  void drop_waiting(std::string_view why) {
    ear.drop(waiting.size(), why);
    waiting.clear();
  }

  asio::io_context& io;
  RedisAddress address;
  std::string channel;
  Ear ear{"redis"};
  Side hearing;
  Side saying;
  std::deque<std::string> waiting;  ///< said, not yet given to the socket
  bool started = false;
  bool stopped = false;
  std::minstd_rand random{std::random_device{}()};
};

/// 50 ms doubling to 1 s, less up to half of it, so that many servers do not come back at once.
milliseconds back_off(State& state, int failures) {
  const auto most = std::min(longest_pause, first_pause * (1 << std::clamp(failures - 1, 0, 10)));
  return milliseconds{std::uniform_int_distribution<milliseconds::rep>(most.count() / 2, most.count())(state.random)};
}

/// Gives the socket what waits, unless it is busy still: then on_idle comes back here.
void send_waiting(State& state) {
  if (!state.saying.up() || state.saying.wire->writing()) return;
  std::string batch;
  while (!state.waiting.empty() && batch.size() < batch_bytes) {
    batch += redis_command({"PUBLISH", state.channel, state.waiting.front()});
    state.waiting.pop_front();
  }
  if (!batch.empty()) state.saying.wire->write(std::move(batch));
}

/// Says who we are and opens the side; nothing when the server takes it, else why not.
asio::awaitable<std::string> greet(std::shared_ptr<State> state, std::shared_ptr<RedisWire> wire, bool hears) {
  if (!co_await wire->connect(state->address)) co_return wire->why();
  const RedisAddress& address = state->address;
  std::string commands;
  int replies = 1;
  if (!address.password.empty()) {
    commands += address.user.empty() ? redis_command({"AUTH", address.password})
                                     : redis_command({"AUTH", address.user, address.password});
    ++replies;
  }
  if (address.database != 0) {
    commands += redis_command({"SELECT", std::to_string(address.database)});
    ++replies;
  }
  commands += hears ? redis_command({"SUBSCRIBE", state->channel}) : redis_command({"PUBLISH", state->channel, ""});
  wire->write(std::move(commands));
  for (; replies > 0; --replies) {
    const Reply reply = co_await wire->read();
    if (!reply) co_return wire->why();
    if (reply->type == REDIS_REPLY_ERROR) co_return std::string(text_of(*reply));
    const int due = replies > 1 ? REDIS_REPLY_STATUS : hears ? REDIS_REPLY_ARRAY : REDIS_REPLY_INTEGER;
    if (reply->type != due) co_return std::string("a reply out of place");
  }
  wire->greeted();
  co_return std::string();
}

/// Takes a reply of an open side; false when it is none that Redis gives there.
bool take(State& state, const redisReply& reply, bool hears) {
  if (!hears) return reply.type == REDIS_REPLY_INTEGER || reply.type == REDIS_REPLY_STATUS;
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements < 2) return false;
  const bool message = reply.elements == 3 && text_of(*reply.element[0]) == "message";
  if (message && text_of(*reply.element[1]) == state.channel && !text_of(*reply.element[2]).empty()) {
    state.ear.hear(text_of(*reply.element[2]));
  }
  return true;
}

asio::awaitable<void> serve(std::shared_ptr<State> state, std::shared_ptr<RedisWire> wire, bool hears) {
  while (!state->stopped) {
    const Reply reply = co_await wire->read();
    if (!reply || state->stopped) co_return;
    if (reply->type == REDIS_REPLY_ERROR) co_return wire->close(text_of(*reply));
    if (!take(*state, *reply, hears)) co_return wire->close("a reply out of place");
  }
}

asio::awaitable<void> keep_up(std::shared_ptr<State> state, bool hears) {
  Side& side = hears ? state->hearing : state->saying;
  while (!state->stopped) {
    if (side.failures > 0) {
      boost::system::error_code ec;
      side.timer.expires_after(back_off(*state, side.failures));
      co_await side.timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      if (state->stopped) break;
    }
    const auto wire = std::make_shared<RedisWire>(state->io);
    side.wire = wire;
    std::string why = co_await greet(state, wire, hears);
    if (why.empty() && !state->stopped && wire->open()) {
      const auto since = Clock::now();
      if (!hears) {
        wire->on_idle = [weak = std::weak_ptr(state)] {
          if (const auto still = weak.lock()) send_waiting(*still);
        };
      }
      side.ready = true;
      if (state->connected()) state->ear.announce(true, {});
      co_await serve(state, wire, hears);
      side.ready = false;
      why = wire->why();
      if (Clock::now() - since >= short_life) side.failures = -1;
    }
    ++side.failures;
    wire->close(why);
    if (state->stopped) break;
    // What waits would come too late once Redis is back.
    state->drop_waiting(why);
    state->ear.announce(false, why);
  }
}

class RedisBus final : public Bus {
 public:
  RedisBus(asio::io_context& io, const std::string& url) : state_(std::make_shared<State>(io, parse_redis_url(url))) {}

  ~RedisBus() override { stop(); }

  void start(std::function<void(std::string_view)> hear, std::function<void()> up) override {
    state_->ear.listen(std::move(hear), std::move(up));
    if (std::exchange(state_->started, true)) return;
    asio::co_spawn(state_->io, keep_up(state_, true), asio::detached);
    asio::co_spawn(state_->io, keep_up(state_, false), asio::detached);
  }

  void stop() override {
    state_->stopped = true;
    state_->drop_waiting("the bus stopped");
    for (Side* side : {&state_->hearing, &state_->saying}) {
      side->ready = false;
      side->timer.cancel();
      if (side->wire) side->wire->close("the bus stopped");
    }
  }

  void say(std::string text) override {
    if (!state_->connected()) return state_->ear.drop(1, "there is no connection");
    if (text.empty()) return;
    if (text.size() > longest_text) return state_->ear.drop(1, "the text is too long");
    if (state_->waiting.size() >= most_waiting) {
      state_->waiting.pop_front();
      state_->ear.drop(1, "too many texts are waiting");
      state_->ear.miss();
    }
    state_->waiting.push_back(std::move(text));
    send_waiting(*state_);
  }

  bool connected() const override { return state_->connected(); }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<Bus> make_redis_bus(asio::io_context& io, const std::string& url) {
  return std::make_unique<RedisBus>(io, url);
}

}  // namespace hourz::realtime
