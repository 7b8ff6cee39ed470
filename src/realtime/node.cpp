#include "realtime/node.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <map>

#include "core/log.hpp"

namespace hourz::realtime {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto busy_pause = 200ms;   // between looks nobody woke us for, while somebody is connected
constexpr auto deaf_pause = 50ms;    // the same while the bus is down
constexpr auto idle_pause = 1s;      // while nobody is connected
constexpr auto longest_away = 240s;  // rows are kept for 300 s
constexpr auto bus_pause = 2ms;      // between two texts of ours, so that a burst of wake-ups is one
constexpr auto alive_pause = 2s;
constexpr auto hello_pause = 200ms;  // between two times that everything is said again
constexpr auto lost_after = 7s;
constexpr int bad_looks = 5;                // of a look whose events cannot be read, before it is given up
constexpr std::size_t most_waiting = 1000;  // words for the bus; past it the oldest are dropped

}  // namespace

struct Node::State : std::enable_shared_from_this<Node::State> {
  struct Shard {
    asio::io_context* io;
    Hub* hub;
  };

  // Written before start() only.
  std::vector<Shard> shards;
  std::map<std::string, Expander, std::less<>> expanders;
  std::map<std::string, Hearer, std::less<>> hearers;
  std::vector<std::function<void(const Uuid&)>> lost;
  std::vector<std::function<void()>> met;
  Uuid id;
  prometheus::Histogram* look_time = nullptr;
  prometheus::Counter* events_read = nullptr;
  prometheus::Counter* words_dropped = nullptr;
  prometheus::Counter* looks_failed = nullptr;
  prometheus::Gauge* last_look_at = nullptr;

  // From any thread.
  std::atomic<std::int64_t> sockets{0};
  std::atomic<std::int64_t> peers_known{0};
  std::atomic<bool> woken{false};  // a wake-up is on its way to the first shard
  std::atomic<bool> running{false};
  std::atomic<bool> follows{false};

  // Of the first shard's thread.
  db::Client* database = nullptr;
  std::unique_ptr<Bus> bus;
  Feed feed;
  Clock::time_point last_look;
  std::vector<Event> unspread;  // events read whose meaning could not be read yet
  std::vector<Spread> made;     // of the same look, waiting for the rest of it
  int failures = 0;
  bool again = false;  // woken while looking
  bool stopped = false;
  std::unique_ptr<asio::steady_timer> look_timer, bus_timer, alive_timer, hello_timer;
  std::unordered_map<Uuid, Clock::time_point> peers;
  std::deque<std::string> words;  // `["kind",data]`, waiting for the bus
  bool wake_peers = false;
  bool flushing = false;
  Clock::time_point last_flush;
  bool greeting = false;  // hello_timer runs
  bool ask_others = false;
  Clock::time_point last_greeting;

  void post_spread(const Spread& work) {
    if (!work) return;
    const auto shared = std::make_shared<const Spread>(work);
    for (std::size_t i = 0; i < shards.size(); ++i) {
      asio::post(*shards[i].io, [shared, i] { (*shared)(i); });
    }
  }

  void post_made() {
    if (made.empty()) return;
    post_spread([spreads = std::exchange(made, {})](std::size_t shard) {
      for (const Spread& spread : spreads) spread(shard);
    });
  }

  void kick() {
    again = true;
    if (look_timer) look_timer->cancel();
  }

  void resume_all() {
    post_spread(
        [hubs = shards](std::size_t shard) { hubs[shard].hub->close_all(CloseCode::resume, "come back and resume"); });
  }

  void hear(std::string_view text);
  void heard_from(const Uuid& server, bool alive);
  void greet(bool ask);
  void hear_words(const Uuid& from, const json::array& said);
  void queue_words(std::string text);
  void flush();
  std::string next_text();
};

namespace {

using State = Node::State;

/// Gives the events, kind by kind, to who knows what they stand for, and posts what comes of it.
Awaitable<void> expand(State& state) {
  std::vector<std::pair<std::string, std::vector<Event>>> kinds;
  for (const Event& event : state.unspread) {
    auto found = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.first == event.kind; });
    if (found == kinds.end()) found = kinds.insert(kinds.end(), {event.kind, {}});
    found->second.push_back(event);
  }
  for (auto& [kind, events] : kinds) {
    const auto expander = state.expanders.find(kind);
    if (expander != state.expanders.end()) {  // else of a newer server, perhaps
      if (Spread spread = co_await expander->second(state.database->reads(), std::move(events))) {
        state.made.push_back(std::move(spread));
      }
    }
    // Done, whatever becomes of the other kinds: an expander is asked again only for what it could not read.
    std::erase_if(state.unspread, [&name = kind](const Event& event) { return event.kind == name; });
  }
  state.post_made();
}

Awaitable<void> look(State& state) {
  const auto began = Clock::now();
  if (state.feed.begun() && began - state.last_look > longest_away) {
    log::Line(log::Level::warn, "feed.lost");
    state.feed = Feed();
    state.unspread.clear();
  }
  if (!state.feed.begun()) {
    co_await state.feed.begin(state.database->reads());
    // Only now: who joined before the beginning may have missed what was committed in between.
    if (state.sockets.load() > 0) state.resume_all();
    state.follows = true;
  } else if (state.unspread.empty()) {
    state.unspread = co_await state.feed.look(state.database->reads());
  }
  state.last_look = Clock::now();
  state.last_look_at->Set(static_cast<double>(now().microseconds) / 1e6);
  if (state.unspread.empty()) co_return;
  const auto count = state.unspread.size();
  co_await expand(state);
  state.events_read->Increment(static_cast<double>(count));
  state.look_time->Observe(std::chrono::duration<double>(Clock::now() - began).count());
}

Awaitable<void> tail(std::shared_ptr<State> state) {
  while (!state->stopped) {
    state->again = false;
    std::string failure;
    bool ours = false;
    try {
      co_await look(*state);
      state->failures = 0;
    } catch (const db::Error& error) {
      failure = error.what();
      ours = error.kind == db::ErrorKind::other || error.kind == db::ErrorKind::constraint;
    } catch (const std::exception& error) {
      failure = error.what();
      ours = true;
    }
    if (state->stopped) co_return;
    std::chrono::milliseconds pause = state->sockets.load() == 0               ? std::chrono::milliseconds(idle_pause)
                                      : state->bus && !state->bus->connected() ? deaf_pause
                                                                               : busy_pause;
    if (!failure.empty()) {
      ++state->failures;
      state->looks_failed->Increment();
      log::Line(log::Level::warn, "feed.failed").with("cause", failure).with("failures", state->failures);
      if (ours && state->failures >= bad_looks && !state->unspread.empty()) {
        // What cannot be read must not hold up what comes after it: the clients get it from the rows themselves.
        log::Line(log::Level::error, "feed.skipped").with("events", static_cast<std::int64_t>(state->unspread.size()));
        state->unspread.clear();
        state->post_made();
        state->resume_all();
      }
      pause = std::min<std::chrono::milliseconds>(1s, 50ms * state->failures);
    } else if (state->again) {
      continue;
    }
    state->look_timer->expires_after(pause);
    co_await state->look_timer->async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

Awaitable<void> stay_alive(std::shared_ptr<State> state) {
  while (!state->stopped) {
    state->bus->say("{\"from\":\"" + to_string(state->id) + "\"}");
    const auto now = Clock::now();
    std::vector<Uuid> silent;
    for (auto& [server, seen] : state->peers) {
      if (!state->bus->connected()) {
        seen = now;  // it is the bus that is silent
      } else if (now - seen > lost_after) {
        silent.push_back(server);
      }
    }
    for (const Uuid& server : silent) state->heard_from(server, false);
    state->alive_timer->expires_after(alive_pause);
    co_await state->alive_timer->async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

}  // namespace

void State::heard_from(const Uuid& server, bool alive) {
  if (!alive) {
    if (peers.erase(server) == 0) return;
    log::Line(log::Level::info, "server.lost").with("server", to_string(server));
    for (const auto& action : lost) action(server);
  } else if (const auto [at, fresh] = peers.insert_or_assign(server, Clock::now()); fresh) {
    log::Line(log::Level::info, "server.met").with("server", to_string(server));
    greet(true);  // it has not heard of us either, or we have not heard of it for long
    kick();
  }
  peers_known = static_cast<std::int64_t>(peers.size());
}

/// Soon, once for many calls: everything of ours is said again, and with `ask` everybody else is asked to do so too.
/// What is told by differences alone would stay wrong for ever where one of them was lost.
void State::greet(bool ask) {
  ask_others = ask_others || ask;
  if (greeting || stopped) return;
  greeting = true;
  hello_timer->expires_at(std::max(Clock::now(), last_greeting + hello_pause));
  hello_timer->async_wait([self = shared_from_this()](const boost::system::error_code& ec) {
    self->greeting = false;
    if (ec || self->stopped) return;
    self->last_greeting = Clock::now();
    if (std::exchange(self->ask_others, false)) {
      self->bus->say("{\"from\":\"" + to_string(self->id) + "\",\"hello\":1}");
    }
    for (const auto& action : self->met) action();
  });
}

void State::hear(std::string_view text) {
  boost::system::error_code ec;
  const json::value message = json::parse(text, ec);
  if (ec || !message.is_object()) return;
  const json::object& object = message.get_object();
  const auto* from = object.if_contains("from");
  const auto server =
      from != nullptr && from->is_string() ? parse_uuid(std::string_view(from->get_string())) : std::optional<Uuid>();
  if (!server || *server == id) return;
  heard_from(*server, !object.contains("bye"));
  if (object.contains("hello")) greet(false);
  if (object.contains("wake")) kick();
  if (const auto* said = object.if_contains("words"); said != nullptr && said->is_array()) {
    hear_words(*server, said->get_array());
  }
}

void State::hear_words(const Uuid& from, const json::array& said) {
  for (const json::value& word : said) {
    if (!word.is_array() || word.get_array().size() != 2 || !word.get_array()[0].is_string()) continue;
    const auto hearer = hearers.find(std::string_view(word.get_array()[0].get_string()));
    if (hearer == hearers.end()) continue;
    try {
      post_spread(hearer->second(from, word.get_array()[1]));
    } catch (const std::exception& error) {
      log::Line(log::Level::warn, "bus.misheard").with("kind", hearer->first).with("cause", error.what());
    }
  }
}

void State::queue_words(std::string text) {
  if (peers.empty() || text.size() > Bus::longest_text - 100) return;
  words.push_back(std::move(text));
  if (words.size() > most_waiting) {
    words.pop_front();
    words_dropped->Increment();
    greet(false);
  }
  flush();
}

/// As many words as fit, with the wake-up.
std::string State::next_text() {
  std::string text = "{\"from\":\"" + to_string(id) + "\"";
  if (wake_peers) text += ",\"wake\":1";
  wake_peers = false;
  text += ",\"words\":[";
  bool first = true;
  while (!words.empty() && text.size() + words.front().size() + 4 <= Bus::longest_text) {
    if (!first) text += ',';
    first = false;
    text += words.front();
    words.pop_front();
  }
  return text + "]}";
}

void State::flush() {
  if (flushing || stopped || !bus || (words.empty() && !wake_peers)) return;
  const auto now = Clock::now();
  if (now - last_flush >= bus_pause) {
    last_flush = now;
    bus->say(next_text());
    if (words.empty()) return;
  }
  flushing = true;
  bus_timer->expires_at(last_flush + bus_pause);
  bus_timer->async_wait([self = shared_from_this()](const boost::system::error_code& ec) {
    self->flushing = false;
    if (!ec) self->flush();
  });
}

Node::Node(Metrics& metrics) : state_(std::make_shared<State>()) {
  state_->id = id;
  state_->look_time = &metrics.latency("hourz_feed_look_duration_seconds",
                                       "Time from a look at the outbox that found something to its spreading.");
  state_->events_read = &metrics.counter("hourz_feed_events_total", "Events read from the outbox.");
  state_->looks_failed = &metrics.counter("hourz_feed_failures_total", "Looks at the outbox that failed.");
  state_->last_look_at =
      &metrics.gauge("hourz_feed_last_look_timestamp_seconds", "When the outbox was last looked at with success.");
  state_->words_dropped =
      &metrics.counter("hourz_bus_dropped_total", "Words for other servers dropped because the bus was too slow.");
  auto& sockets_open = metrics.gauge("hourz_sockets_open", "Open WebSocket connections.");
  auto& peers_heard = metrics.gauge("hourz_bus_peers", "Other servers heard of on the bus.");
  metrics.before_scrape([state = state_.get(), &sockets_open, &peers_heard] {
    sockets_open.Set(static_cast<double>(state->sockets.load()));
    peers_heard.Set(static_cast<double>(state->peers_known.load()));
  });
}

Node::~Node() = default;

void Node::on_event(std::string kind, Expander expander) {
  state_->expanders.emplace(std::move(kind), std::move(expander));
}
void Node::on_said(std::string kind, Hearer hearer) { state_->hearers.emplace(std::move(kind), std::move(hearer)); }
void Node::on_lost(std::function<void(const Uuid&)> action) { state_->lost.push_back(std::move(action)); }
void Node::on_met(std::function<void()> action) { state_->met.push_back(std::move(action)); }

std::size_t Node::attach(asio::io_context& io, Hub& hub) {
  state_->shards.push_back({&io, &hub});
  return state_->shards.size() - 1;
}

Hub& Node::hub(std::size_t shard) { return *state_->shards[shard].hub; }

void Node::start(db::Client& database, std::unique_ptr<Bus> bus) {
  State& state = *state_;
  asio::io_context& io = *state.shards.front().io;
  state.database = &database;
  state.look_timer = std::make_unique<asio::steady_timer>(io);
  state.bus_timer = std::make_unique<asio::steady_timer>(io);
  state.alive_timer = std::make_unique<asio::steady_timer>(io);
  state.hello_timer = std::make_unique<asio::steady_timer>(io);
  state.bus = std::move(bus);
  state.running = true;
  asio::co_spawn(io, tail(state_), asio::detached);
  if (!state.bus) return;
  const std::weak_ptr<State> weak = state_;
  state.bus->start(
      [weak](std::string_view text) {
        if (const auto alive = weak.lock()) alive->hear(text);
      },
      [weak] {
        if (const auto alive = weak.lock()) alive->greet(true);
      });
  asio::co_spawn(io, stay_alive(state_), asio::detached);
}

void Node::stop() {
  State& state = *state_;
  if (!state.running.exchange(false)) return;
  if (state.bus) state.bus->say("{\"from\":\"" + to_string(id) + "\",\"bye\":1}");
  state.stopped = true;
  if (state.bus) state.bus->stop();
  state.look_timer->cancel();
  state.bus_timer->cancel();
  state.alive_timer->cancel();
  state.hello_timer->cancel();
}

void Node::release() {
  State& state = *state_;
  state.stopped = true;
  state.bus.reset();
  for (auto* timer : {&state.look_timer, &state.bus_timer, &state.alive_timer, &state.hello_timer}) timer->reset();
}

void Node::wake() {
  State& state = *state_;
  if (!state.running || (state.sockets.load() == 0 && state.peers_known.load() == 0)) return;
  if (state.woken.exchange(true)) return;
  asio::post(*state.shards.front().io, [self = state_] {
    self->woken = false;
    if (self->sockets.load() > 0) self->kick();
    if (!self->peers.empty()) {
      self->wake_peers = true;
      self->flush();
    }
  });
}

void Node::post(std::function<void()> work) { asio::post(*state_->shards.front().io, std::move(work)); }

void Node::spread(Spread work) { state_->post_spread(work); }

void Node::say(std::string kind, std::string data) {
  std::string text = "[\"" + kind + "\"," + data + "]";
  asio::post(*state_->shards.front().io, [self = state_, text = std::move(text)]() mutable {
    boost::system::error_code ec;
    json::value word = json::parse(text, ec);
    if (ec) return;
    json::array said;
    said.push_back(std::move(word));
    self->hear_words(self->id, said);
    self->queue_words(std::move(text));
  });
}

void Node::count_socket(int change) {
  if (state_->sockets.fetch_add(change) == 0 && change > 0) {
    // The feed may be in its long pause.
    asio::post(*state_->shards.front().io, [self = state_] { self->kick(); });
  }
}

std::int64_t Node::sockets() const { return state_->sockets.load(std::memory_order_relaxed); }
bool Node::follows() const { return state_->follows.load(std::memory_order_relaxed); }
std::int64_t Node::peers() const { return state_->peers_known.load(std::memory_order_relaxed); }

}  // namespace hourz::realtime
