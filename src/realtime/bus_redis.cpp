// The bus by PUBLISH and SUBSCRIBE: one link that is subscribed, one that publishes, each kept up by itself.
//
// Redis' channels know no databases, so the channel's name holds the number. An empty text says nothing and is handed
// to nobody: it is what a publishing connection opens with, to learn whether it may publish at all.
#include <deque>

#include "realtime/bus.hpp"
#include "realtime/bus_ear.hpp"
#include "redis/link.hpp"

namespace hourz::realtime {
namespace {

namespace asio = boost::asio;
using redis::command;
using redis::text_of;

constexpr std::size_t most_waiting = 1000;
constexpr std::size_t batch_bytes = 64 * 1024;  ///< given to the socket at once

struct State : std::enable_shared_from_this<State> {
  State(asio::io_context& io, const redis::Address& address)
      : channel("hourz_bus:" + std::to_string(address.database)),
        hearing(std::make_shared<redis::Link>(io, address)),
        saying(std::make_shared<redis::Link>(io, address)) {}

  bool connected() const { return !stopped && hearing->up() && saying->up(); }

  void drop_waiting(std::string_view why) {
    ear.drop(waiting.size(), why);
    waiting.clear();
  }

  void came() {
    if (connected()) ear.announce(true, {});
  }

  void lost(std::string_view why) {
    // What waits would come too late once Redis is back.
    drop_waiting(why);
    ear.announce(false, why);
  }

  /// Gives the socket what waits, unless it is busy still: then `idle` comes back here.
  void send_waiting() {
    if (!saying->up() || saying->writing()) return;
    std::string batch;
    while (!waiting.empty() && batch.size() < batch_bytes) {
      batch += command({"PUBLISH", channel, waiting.front()});
      waiting.pop_front();
    }
    if (!batch.empty()) saying->write(std::move(batch));
  }

  /// False when the reply is none that Redis gives to a subscriber.
  bool hear(const redisReply& reply) {
    if (reply.type != REDIS_REPLY_ARRAY || reply.elements < 2) return false;
    const bool message = reply.elements == 3 && text_of(*reply.element[0]) == "message";
    if (message && text_of(*reply.element[1]) == channel && !text_of(*reply.element[2]).empty()) {
      ear.hear(text_of(*reply.element[2]));
    }
    return true;
  }

  std::string channel;
  Ear ear{"redis"};
  std::shared_ptr<redis::Link> hearing;
  std::shared_ptr<redis::Link> saying;
  std::deque<std::string> waiting;  ///< said, not yet given to the socket
  bool stopped = false;
};

/// What both sides do alike.
redis::Link::Ears ears_of(const std::shared_ptr<State>& state) {
  const std::weak_ptr<State> weak = state;
  redis::Link::Ears ears;
  ears.up = [weak] {
    if (const auto still = weak.lock()) still->came();
  };
  ears.lost = [weak](std::string_view why) {
    if (const auto still = weak.lock()) still->lost(why);
  };
  return ears;
}

class RedisBus final : public Bus {
 public:
  RedisBus(asio::io_context& io, const std::string& url) : state_(std::make_shared<State>(io, redis::parse_url(url))) {}

  ~RedisBus() override { stop(); }

  void start(std::function<void(std::string_view)> hear, std::function<void()> up) override {
    state_->ear.listen(std::move(hear), std::move(up));
    const std::weak_ptr<State> weak = state_;
    auto hearing = ears_of(state_);
    hearing.opened = [](const redisReply& reply) { return reply.type == REDIS_REPLY_ARRAY; };
    hearing.reply = [weak](const redisReply& reply) {
      const auto state = weak.lock();
      return state && state->hear(reply);
    };
    state_->hearing->start({command({"SUBSCRIBE", state_->channel})}, std::move(hearing));
    auto saying = ears_of(state_);
    saying.opened = [](const redisReply& reply) { return reply.type == REDIS_REPLY_INTEGER; };
    saying.reply = [](const redisReply& reply) {
      return reply.type == REDIS_REPLY_INTEGER || reply.type == REDIS_REPLY_STATUS;
    };
    saying.idle = [weak] {
      if (const auto state = weak.lock()) state->send_waiting();
    };
    state_->saying->start({command({"PUBLISH", state_->channel, ""})}, std::move(saying));
  }

  void stop() override {
    state_->stopped = true;
    state_->drop_waiting("the bus stopped");
    state_->hearing->stop();
    state_->saying->stop();
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
    state_->send_waiting();
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
