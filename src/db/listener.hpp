// A connection of its own that LISTENs on `hourz_bus` and hands on what is notified there.
//
// It is kept up: when the server is gone, or answers nothing for the options' answer_timeout, it connects again with
// the back-off of every connection and listens anew. What was notified meanwhile is lost; PostgreSQL keeps nothing for
// who does not listen. The same LISTEN is repeated as the keep-alive: it costs nothing while the server listens for us
// already, and one that does not answer is noticed. Everything runs on one io_context, which must outlive it.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "db/database.hpp"

namespace hourz::db {

class Listener {
 public:
  struct Reports {
    /// A notification's payload: UTF-8, below 8,000 bytes, in the order of the commits. Must not throw; may call
    /// stop().
    std::function<void(std::string_view payload)> heard;
    /// Now listening, or not any more and why; also for each attempt to connect that failed. Not called by stop().
    std::function<void(bool listening, const std::string& why)> changed;
  };

  /// Throws Error `other` when the options' URL cannot be parsed.
  Listener(boost::asio::io_context& io, Options options, Reports reports,
           std::chrono::milliseconds keep_alive = std::chrono::seconds(5));
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void start();

  /// For good. Nothing is reported any more.
  void stop();

  bool connected() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace hourz::db
