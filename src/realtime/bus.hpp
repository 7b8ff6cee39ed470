// How servers on one database reach each other quickly. What is said on the bus is lost when nobody listens: it carries
// wake-ups ("there is something new in the outbox") and what is never stored (typing, presence). The rows of the outbox
// stay the truth, so a bus that is down costs speed and nothing else. Everything runs on the first shard.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "db/database.hpp"

namespace hourz::realtime {

class Bus {
 public:
  virtual ~Bus() = default;

  /// Connects, and again whenever the connection is lost. `hear` gets what every server says, this one included. `up`
  /// is called when it is connected, and when it has lost a text without losing the connection: what was said or heard
  /// meanwhile is gone.
  virtual void start(std::function<void(std::string_view text)> hear, std::function<void()> up = {}) = 0;
  virtual void stop() = 0;

  /// To every server, soon, at most once; dropped while there is no connection. `text` is UTF-8, at most
  /// `longest_text` bytes.
  virtual void say(std::string text) = 0;

  /// Whether what is said is heard just now.
  virtual bool connected() const = 0;

  static constexpr std::size_t longest_text = 7000;  ///< NOTIFY takes 8,000 bytes
};

/// By LISTEN and NOTIFY on the database itself, outside of all business transactions: inside one it would serialise
/// commits.
std::unique_ptr<Bus> make_postgres_bus(boost::asio::io_context& io, db::Client& database, const db::Options& options);

/// By Redis' PUBLISH and SUBSCRIBE. `url`: redis://[:password@]host[:port][/database]. Throws std::invalid_argument
/// when it cannot be read.
std::unique_ptr<Bus> make_redis_bus(boost::asio::io_context& io, const std::string& url);

}  // namespace hourz::realtime
