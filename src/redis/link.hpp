// A connection to Redis that is kept up: greeted with our password and database, opened with commands of its owner's,
// and made anew with growing pauses whenever it is lost. The owner hears of each reply and of each loss, and decides
// what a loss means; nothing is queued here while the connection is down. Everything runs on one io_context.
#pragma once
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "redis/wire.hpp"

namespace hourz::redis {

class Link : public std::enable_shared_from_this<Link> {
 public:
  /// What the owner hears, never after stop(). They outlive the link's use of them, so they hold their owner weakly.
  struct Ears {
    /// Whether this is a reply to an opening command as it should be; asked for each of them, in order.
    std::function<bool(const redisReply&)> opened;
    /// The link is up.
    std::function<void()> up;
    /// A reply of an open link, PONG among them; false: none that may come there, and the connection is given up.
    std::function<bool(const redisReply&)> reply;
    /// The socket has taken all that was written.
    std::function<void()> idle;
    /// The connection is lost, or could not be made.
    std::function<void(std::string_view why)> lost;
  };

  Link(boost::asio::io_context& io, Address address) : io_(io), address_(std::move(address)), timer_(io) {}

  /// `opening`: commands sent after the greeting, each of which is answered once.
  void start(std::vector<std::string> opening, Ears ears);
  void stop();

  bool up() const { return ready_ && wire_->open(); }
  bool writing() const { return wire_->writing(); }
  /// Only while up().
  void write(std::string commands) { wire_->write(std::move(commands)); }
  /// Gives the connection up; another is made.
  void drop(std::string_view why) {
    if (wire_) wire_->close(why);
  }

 private:
  static boost::asio::awaitable<void> keep_up(std::shared_ptr<Link> self);
  static boost::asio::awaitable<std::string> greet(std::shared_ptr<Link> self, std::shared_ptr<Wire> wire);
  static boost::asio::awaitable<void> serve(std::shared_ptr<Link> self, std::shared_ptr<Wire> wire);
  std::chrono::milliseconds back_off();

  boost::asio::io_context& io_;
  Address address_;
  std::vector<std::string> opening_;
  Ears ears_;
  std::shared_ptr<Wire> wire_;
  bool ready_ = false;
  bool started_ = false;
  bool stopped_ = false;
  int failures_ = 0;
  boost::asio::steady_timer timer_;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace hourz::redis
