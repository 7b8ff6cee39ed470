// How mail leaves: by SMTP when HOURZ_SMTP_URL is set, else as `.eml` files in the folder `outbox` of the data
// directory, for development and for whoever carries them on. A Sender blocks; a Post has one on a thread of its own,
// so that no I/O thread waits for a mail server. Neither keeps anything: what must not be lost is a row of its room,
// tried again until it is sent. What a mail says is never logged.
#pragma once
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>

#include "core/config.hpp"
#include "core/worker_pool.hpp"
#include "mail/message.hpp"

namespace hourz::mail {

enum class Outcome {
  sent,
  refused,  ///< by the mail server, for good as it says
  failed,   ///< trying again later may help; the mail may have been sent nevertheless
};

struct Delivery {
  Outcome outcome = Outcome::failed;
  std::string remark;  ///< why not, or the file's path; fit for a log
};

class Sender {
 public:
  virtual ~Sender() = default;
  /// From one thread.
  virtual Delivery send(const Message& message) = 0;
  /// Makes a send under way give up soon; from any thread.
  virtual void stop() {}
};

/// The one that the settings name. Touches neither disk nor network.
std::unique_ptr<Sender> make_sender(const Config& config);

class Post {
 public:
  explicit Post(std::unique_ptr<Sender> sender);
  ~Post();
  Post(const Post&) = delete;
  Post& operator=(const Post&) = delete;

  /// Throws Problem overloaded when too many wait.
  boost::asio::awaitable<Delivery> send(Message message);

  /// The server is about to end: whoever sends one mail after the other begins no further one. From any thread.
  void drain() { draining_ = true; }
  bool draining() const { return draining_; }

  /// Ends the thread. Before the io_contexts that callers run on go.
  void stop();

 private:
  std::unique_ptr<Sender> sender_;
  std::atomic<bool> draining_{false};
  WorkerPool thread_;
};

}  // namespace hourz::mail
