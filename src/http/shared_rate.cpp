#include "http/shared_rate.hpp"

#include <array>
#include <charconv>
#include <vector>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "redis/link.hpp"

namespace hourz::http {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

/// KEYS[1]; ARGV: the interval between two requests and the burst, in microseconds. Gives whether it may, and what is
/// owed then, in microseconds. A clock that was set back owes no more than the burst.
constexpr std::string_view script = R"(
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local owed = (tonumber(redis.call('GET', KEYS[1]) or '0')) - now
if owed < 0 then owed = 0 end
if owed > burst then owed = burst end
if owed + interval > burst then return {0, owed} end
owed = owed + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + owed), 'PX', math.ceil(owed / 1000))
return {1, owed}
)";

using Result = std::optional<SharedRate::Word>;
using Handler = asio::async_result<asio::use_awaitable_t<>, void(std::exception_ptr, Result)>::handler_type;

std::string text_of(std::chrono::nanoseconds time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(time).count());
}

std::string name_of(const RateKey& key, const RateRule& rule) {
  return "hourz_rate:" + std::string(rule.name) + ":" +
         to_hex({reinterpret_cast<const char*>(key.hash.data()), sizeof key.hash});
}

}  // namespace

// --- what is said of it ----------------------------------------------------------------------------------------------

SharingNews::SharingNews(Metrics& metrics)
    : shared_(
          metrics.gauge("hourz_rate_limit_shared", "Connections by which rate limits are shared with other servers.")),
      alone_(metrics.counter("hourz_rate_limit_alone_total",
                             "Requests counted by this server alone because Redis did not answer.")) {}

void SharingNews::came() {
  const std::lock_guard lock(mutex_);
  shared_.Set(++up_);
  if (said_ == true) return;
  said_ = true;
  log::Line(log::Level::info, "rate_limit.shared");
}

void SharingNews::went(std::string_view why) {
  {
    const std::lock_guard lock(mutex_);
    shared_.Set(--up_);
  }
  failed(why);
}

void SharingNews::failed(std::string_view why) {
  const std::lock_guard lock(mutex_);
  if (up_ > 0 || said_ == false) return;
  said_ = false;
  log::Line(log::Level::warn, "rate_limit.alone").with("cause", why);
}

// --- the connection --------------------------------------------------------------------------------------------------

struct SharedRate::State : std::enable_shared_from_this<State> {
  State(asio::io_context& io, const std::string& url, SharingNews& told)
      : link(std::make_shared<redis::Link>(io, redis::parse_url(url))), news(told), timer(io) {}

  struct Waiting {
    std::optional<Handler> handler;  ///< gone once it was answered: its reply is still to come
    Clock::time_point deadline;
  };

  /// Overdue answers make nobody else wait: until they are here, or the connection is given up, none are asked for.
  bool reachable() const { return link->up() && (waiting.empty() || waiting.front().handler); }

  static void answer(Waiting& one, Result result) {
    if (!one.handler) return;
    Handler handler = std::move(*one.handler);
    one.handler.reset();
    std::move(handler)(std::exception_ptr(), result);
  }

  void fail_all() {
    auto gone = std::move(waiting);
    waiting.clear();
    timer.cancel();
    for (Waiting& one : gone) answer(one, {});
  }

  void watch() {
    timer.expires_at(waiting.front().deadline);
    timer.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
      const auto self = weak.lock();
      if (!ec && self) self->expire();
    });
  }

  void expire() {
    const auto now = Clock::now();
    // By index: who is answered may ask again.
    for (std::size_t i = 0; i < waiting.size() && waiting[i].deadline <= now; ++i) answer(waiting[i], {});
    for (const Waiting& one : waiting) {
      if (!one.handler) continue;
      timer.expires_at(one.deadline);
      timer.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
        const auto self = weak.lock();
        if (!ec && self) self->expire();
      });
      return;
    }
  }

  void flush() {
    if (unsent.empty() || !link->up()) return;
    link->write(std::exchange(unsent, {}));
  }

  bool take_reply(const redisReply& reply) {
    if (reply.type == REDIS_REPLY_STATUS) return true;  // PONG
    if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2 || waiting.empty()) return false;
    const redisReply &allowed = *reply.element[0], &owed = *reply.element[1];
    if (allowed.type != REDIS_REPLY_INTEGER || owed.type != REDIS_REPLY_INTEGER) return false;
    Waiting one = std::move(waiting.front());
    waiting.pop_front();
    answer(one, Word{allowed.integer != 0, std::chrono::microseconds(owed.integer)});
    return true;
  }

  std::shared_ptr<redis::Link> link;
  SharingNews& news;
  asio::steady_timer timer;
  std::deque<Waiting> waiting;
  std::string unsent;  ///< asked in this turn
  std::string digest;  ///< of the script, as Redis gives it
  bool flushing = false;
  bool was_up = false;
  bool stopped = false;
};

SharedRate::SharedRate(asio::io_context& io, const std::string& url, SharingNews& news)
    : state_(std::make_shared<State>(io, url, news)) {}

SharedRate::~SharedRate() { stop(); }

void SharedRate::start() {
  const std::weak_ptr<State> weak = state_;
  redis::Link::Ears ears;
  ears.opened = [weak](const redisReply& reply) {
    const auto state = weak.lock();
    if (!state || reply.type == REDIS_REPLY_ERROR) return false;
    if (reply.type == REDIS_REPLY_STRING) state->digest = redis::text_of(reply);
    return true;
  };
  ears.up = [weak] {
    const auto state = weak.lock();
    if (!state) return;
    state->was_up = true;
    state->news.came();
  };
  ears.reply = [weak](const redisReply& reply) {
    const auto state = weak.lock();
    return state && state->take_reply(reply);
  };
  ears.lost = [weak](std::string_view why) {
    const auto state = weak.lock();
    if (!state || state->stopped) return;
    if (std::exchange(state->was_up, false)) {
      state->news.went(why);
    } else {
      state->news.failed(why);
    }
    state->unsent.clear();
    state->fail_all();
  };
  // Run once on a key of nobody's, so that a Redis that takes no writes is not taken for one that shares.
  state_->link->start({redis::command({"SCRIPT", "LOAD", script}),
                       redis::command({"EVAL", script, "1", "hourz_rate:opening", "1000", "1000"})},
                      std::move(ears));
}

void SharedRate::stop() {
  state_->stopped = true;
  state_->link->stop();
  state_->fail_all();
}

asio::awaitable<std::optional<SharedRate::Word>> SharedRate::take(const RateKey& key, const RateRule& rule) {
  const std::shared_ptr<State> state = state_;
  Result result;
  if (!state->stopped && state->reachable()) {
    std::string command = redis::command({"EVALSHA", state->digest, "1", name_of(key, rule), text_of(rule.interval()),
                                          text_of(rule.interval() * rule.quota.requests)});
    result = co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(std::exception_ptr, Result)>(
        [state, &command](Handler handler) {
          const bool first = state->waiting.empty();
          // Together, so that each reply meets who waits for it.
          state->unsent += command;
          state->waiting.push_back({std::move(handler), Clock::now() + patience});
          if (first) state->watch();
          if (std::exchange(state->flushing, true)) return;
          asio::post(state->timer.get_executor(), [state] {
            state->flushing = false;
            state->flush();
          });
        },
        asio::use_awaitable);
  }
  if (!result && !state->stopped) state->news.count_alone();
  co_return result;
}

}  // namespace hourz::http
