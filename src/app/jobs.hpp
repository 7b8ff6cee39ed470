// Work that no request waits for: durable timers, folding the map's cells, purging what has outlived its use. Runs on
// one shard of every server; the database lets one server at a time do each piece. Each job's runs, failures, time and
// last success are metrics, and so is how late timers are. What a job does is its owner's.
#pragma once
#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/metrics.hpp"
#include "db/database.hpp"

namespace hourz::app {

class Jobs {
 public:
  /// Does a timer's work in the transaction that removes the timer.
  using Timer = std::function<db::Awaitable<void>(db::Executor&, Uuid)>;
  /// Repeated work; what it throws is logged, and it runs again next time.
  using Task = std::function<db::Awaitable<void>(db::Client&)>;

  /// `changed` is called after each timer's commit: others may have to hear of it.
  Jobs(boost::asio::io_context& io, db::Client& database, Metrics& metrics, std::function<void()> changed);
  ~Jobs();

  void on_timer(std::string kind, Timer work);
  void every(std::chrono::milliseconds pause, std::string name, Task work);

  void start();
  /// On the shard's thread. Begins nothing more; work under way ends with its statements.
  void stop();
  /// Whether no work is under way. From any thread.
  bool idle() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace hourz::app
