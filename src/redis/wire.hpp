// One connection to Redis on Asio, with hiredis to write commands and to read replies.
//
// hiredis' own asynchronous connection is not used: in version 0.14 it aborts the process at a reply that it did not
// expect, resolves names in the calling thread and cannot PING while subscribed. So the socket is ours: nothing here
// blocks, and whatever the server sends ends in a text that says what was wrong. A wire that is closed stays closed;
// its owner makes another. Everything runs on one io_context.
#pragma once
#include <hiredis/hiredis.h>

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

namespace hourz::redis {

/// Where Redis is and who we are there.
struct Address {
  std::string host;
  std::uint16_t port = 6379;
  std::string user;      ///< empty: the server's default user
  std::string password;  ///< empty: none is sent
  int database = 0;
};

/// redis://[[user]:password@]host[:port][/database]; user and password may be percent-encoded, an IPv6 address stands
/// in brackets. Throws std::invalid_argument, whose text never holds the password.
Address parse_url(std::string_view url);

/// A command as Redis takes it.
std::string command(std::initializer_list<std::string_view> words);

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

/// A reply's text; empty for what has none.
inline std::string_view text_of(const redisReply& reply) {
  return reply.str != nullptr ? std::string_view(reply.str, reply.len) : std::string_view();
}

class Wire : public std::enable_shared_from_this<Wire> {
 public:
  static constexpr std::chrono::milliseconds greet_timeout{2000};  ///< to resolve, connect and greet
  static constexpr std::chrono::milliseconds beat{1000};           ///< between two PINGs
  static constexpr int most_silent_beats = 3;                      ///< without a byte: the server is given up
  static constexpr std::size_t longest_reply = 1 << 20;            ///< bytes; ours have 7,000

  explicit Wire(boost::asio::io_context& io);
  ~Wire() = default;
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  /// Resolves and connects; gives it all, with what is read up to `greeted()`, greet_timeout. False when it is closed.
  boost::asio::awaitable<bool> connect(Address address);

  /// Ends the deadline, and begins to PING.
  void greeted();

  /// The next reply; none once the wire is closed.
  boost::asio::awaitable<Reply> read();

  /// Queues commands; `idle()` is told when the socket has taken them.
  void write(std::string commands);
  bool writing() const { return writing_; }
  std::function<void()> on_idle;

  /// The first reason stays.
  void close(std::string_view why);
  bool open() const { return open_; }
  const std::string& why() const { return why_; }

 private:
  struct FreeReader {
    void operator()(redisReader* reader) const { redisReaderFree(reader); }
  };

  void flush();
  void ping_later();

  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  std::unique_ptr<redisReader, FreeReader> reader_;
  std::array<char, 16 * 1024> input_{};
  std::string queued_;   ///< not yet given to the socket
  std::string sending_;  ///< what the socket is taking
  bool writing_ = false;
  bool open_ = true;
  int silent_beats_ = 0;  ///< beats, not time: a thread that was held up has not read what is there
  std::string why_;
};

}  // namespace hourz::redis
