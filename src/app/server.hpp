// `hourz serve`: the house with its shards, threads and listener, from start to drained stop.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "core/config.hpp"

namespace hourz::app {

class Server {
 public:
  /// `database_url` is the application role's.
  Server(Config config, const std::string& database_url);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Starts threads and listens. Requests that need the database are 503 until set_ready(). Throws std::system_error.
  void start();
  std::uint16_t port() const;

  /// The schema is in place: jobs start, /health/ready says so.
  void set_ready();

  /// Not ready any more, accepts nothing, answers what is in flight. Returns at once.
  void drain();
  bool drained() const;

  /// Cuts what is left and joins the threads.
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hourz::app
