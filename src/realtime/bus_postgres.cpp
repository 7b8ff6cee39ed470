// The bus by LISTEN and NOTIFY: one connection that listens, and statements on the client's read connections.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <deque>

#include "db/listener.hpp"
#include "realtime/bus.hpp"
#include "realtime/bus_ear.hpp"
#include "realtime_sql.hpp"

namespace hourz::realtime {
namespace {

namespace asio = boost::asio;

constexpr std::size_t most_waiting = 1000;

const db::Query<bool, std::string> notify{sql::notify};

struct State {
  State(asio::io_context& io_context, db::Client& client) : io(io_context), database(client) {}
  void drop_waiting(std::string_view why) {
    ear.drop(waiting.size(), why);
    waiting.clear();
  }

  asio::io_context& io;
  db::Client& database;
  Ear ear{"postgres"};
  std::deque<std::string> waiting;  ///< said, not yet sent
  bool sending = false;
  bool stopped = false;
};

/// One at a time, so that what is said in order is heard in order. Once stopped it leaves the client alone, which may
/// be gone by then.
db::Awaitable<void> send_waiting(std::shared_ptr<State> state) {
  while (!state->stopped && !state->waiting.empty()) {
    std::string text = std::move(state->waiting.front());
    state->waiting.pop_front();
    try {
      co_await db::one(state->database.reads(), notify, std::move(text));
    } catch (const std::exception& error) {
      state->ear.drop(1, error.what());
      if (!state->stopped) state->ear.miss();
    }
  }
  state->sending = false;
}

class PostgresBus final : public Bus {
 public:
  PostgresBus(asio::io_context& io, db::Client& database, const db::Options& options)
      : state_(std::make_shared<State>(io, database)),
        listener_(io, options,
                  {[weak = std::weak_ptr(state_)](std::string_view text) {
                     if (const auto state = weak.lock()) state->ear.hear(text);
                   },
                   [weak = std::weak_ptr(state_)](bool listening, const std::string& why) {
                     const auto state = weak.lock();
                     if (!state) return;
                     state->ear.announce(listening, why);
                     // It would come too late once the database is back.
                     if (!listening) state->drop_waiting(why);
                   }}) {}

  ~PostgresBus() override { stop(); }

  void start(std::function<void(std::string_view)> hear, std::function<void()> up) override {
    state_->ear.listen(std::move(hear), std::move(up));
    listener_.start();
  }

  void stop() override {
    state_->stopped = true;
    state_->drop_waiting("the bus stopped");
    listener_.stop();
  }

  void say(std::string text) override {
    if (!connected()) return state_->ear.drop(1, "there is no connection");
    if (text.empty()) return;
    if (text.size() > longest_text || text.find('\0') != std::string::npos)
      return state_->ear.drop(1, "the text is not sendable");
    if (state_->waiting.size() >= most_waiting) {
      state_->waiting.pop_front();
      state_->ear.drop(1, "too many texts are waiting");
      state_->ear.miss();
    }
    state_->waiting.push_back(std::move(text));
    if (!std::exchange(state_->sending, true)) asio::co_spawn(state_->io, send_waiting(state_), asio::detached);
  }

  bool connected() const override { return !state_->stopped && listener_.connected(); }

 private:
  std::shared_ptr<State> state_;
  db::Listener listener_;
};

}  // namespace

std::unique_ptr<Bus> make_postgres_bus(asio::io_context& io, db::Client& database, const db::Options& options) {
  return std::make_unique<PostgresBus>(io, database, options);
}

}  // namespace hourz::realtime
