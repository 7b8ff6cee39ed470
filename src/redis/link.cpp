#include "redis/link.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace hourz::redis {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

namespace {

constexpr milliseconds short_life{1000};  ///< a connection lost sooner counts as a failed attempt
constexpr milliseconds first_pause{50};
// Short enough to hear Redis within two seconds of its return, on a busy machine too.
constexpr milliseconds longest_pause{1000};

}  // namespace

void Link::start(std::vector<std::string> opening, Ears ears) {
  if (std::exchange(started_, true)) return;
  opening_ = std::move(opening);
  ears_ = std::move(ears);
  asio::co_spawn(io_, keep_up(shared_from_this()), asio::detached);
}

void Link::stop() {
  stopped_ = true;
  ready_ = false;
  timer_.cancel();
  if (wire_) wire_->close("stopped");
}

/// 50 ms doubling to 1 s, less up to half of it, so that many servers do not come back at once.
milliseconds Link::back_off() {
  const auto most = std::min(longest_pause, first_pause * (1 << std::clamp(failures_ - 1, 0, 10)));
  return milliseconds{std::uniform_int_distribution<milliseconds::rep>(most.count() / 2, most.count())(random_)};
}

/// Says who we are and opens the link; nothing when the server takes it, else why not.
asio::awaitable<std::string> Link::greet(std::shared_ptr<Link> self, std::shared_ptr<Wire> wire) {
  const Address& address = self->address_;
  if (!co_await wire->connect(address)) co_return wire->why();
  std::string commands;
  std::size_t greetings = 0;
  if (!address.password.empty()) {
    commands +=
        address.user.empty() ? command({"AUTH", address.password}) : command({"AUTH", address.user, address.password});
    ++greetings;
  }
  if (address.database != 0) {
    commands += command({"SELECT", std::to_string(address.database)});
    ++greetings;
  }
  for (const std::string& one : self->opening_) commands += one;
  wire->write(std::move(commands));
  for (std::size_t seen = 0; seen < greetings + self->opening_.size(); ++seen) {
    const Reply reply = co_await wire->read();
    if (!reply) co_return wire->why();
    if (reply->type == REDIS_REPLY_ERROR) co_return std::string(text_of(*reply));
    const bool due = seen < greetings ? reply->type == REDIS_REPLY_STATUS
                                      : !self->stopped_ && self->ears_.opened && self->ears_.opened(*reply);
    if (!due) co_return std::string("a reply out of place");
  }
  wire->greeted();
  co_return std::string();
}

asio::awaitable<void> Link::serve(std::shared_ptr<Link> self, std::shared_ptr<Wire> wire) {
  while (!self->stopped_) {
    const Reply reply = co_await wire->read();
    if (!reply || self->stopped_) co_return;
    if (!self->ears_.reply(*reply)) {
      co_return wire->close(reply->type == REDIS_REPLY_ERROR ? text_of(*reply) : "a reply out of place");
    }
  }
}

asio::awaitable<void> Link::keep_up(std::shared_ptr<Link> self) {
  while (!self->stopped_) {
    if (self->failures_ > 0) {
      boost::system::error_code ec;
      self->timer_.expires_after(self->back_off());
      co_await self->timer_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      if (self->stopped_) break;
    }
    const auto wire = std::make_shared<Wire>(self->io_);
    self->wire_ = wire;
    wire->on_idle = [weak = std::weak_ptr(self)] {
      const auto link = weak.lock();
      if (link && link->ready_ && link->ears_.idle) link->ears_.idle();
    };
    std::string why = co_await greet(self, wire);
    if (why.empty() && !self->stopped_ && wire->open()) {
      const auto since = Clock::now();
      self->ready_ = true;
      if (self->ears_.up) self->ears_.up();
      co_await serve(self, wire);
      self->ready_ = false;
      why = wire->why();
      if (Clock::now() - since >= short_life) self->failures_ = -1;
    }
    ++self->failures_;
    wire->close(why);
    if (self->stopped_) break;
    if (self->ears_.lost) self->ears_.lost(why);
  }
}

}  // namespace hourz::redis
