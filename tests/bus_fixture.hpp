// The servers of the bus tests: a PostgreSQL and a Redis of their own that are killed, frozen and started again.
//
// Both listen on the loopback or in a folder of /tmp alone and keep nothing; what a test process starts ends with it,
// even when it crashes. It needs redis-server on PATH, and what db_fixture.hpp needs.
#pragma once
#include <arpa/inet.h>
#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <stdexcept>

#include "db_fixture.hpp"
#include "harness/harness.hpp"
#include "realtime/bus.hpp"
#include "temporary_folder.hpp"

namespace hourz::realtime::testing_bus {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HOURZ_SANITIZED
#endif
#endif
#ifdef HOURZ_SANITIZED
constexpr milliseconds soon = 8s;
#else
constexpr milliseconds soon = 2s;
#endif

class Server {
 public:
  virtual ~Server() = default;
  virtual void start() = 0;  ///< returns when it answers
  virtual void kill_it() = 0;
  virtual void freeze() = 0;
  virtual void go_on() = 0;
  virtual void cut_connections() = 0;
  /// A bus with what it needs; `client` is filled where there is one.
  virtual std::unique_ptr<Bus> make(asio::io_context& io, std::unique_ptr<db::Client>& client) = 0;
};

class PostgresServer final : public Server {
 public:
  void start() override { cluster_.start(); }
  void kill_it() override { cluster_.end(SIGQUIT); }
  void freeze() override { cluster_.signal_all(SIGSTOP); }
  void go_on() override { cluster_.signal_all(SIGCONT); }
  void cut_connections() override {
    cluster_.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hourz'");
  }
  std::unique_ptr<Bus> make(asio::io_context& io, std::unique_ptr<db::Client>& client) override {
    client = std::make_unique<db::Client>(io, options());
    harness::record_statements(*client);
    return make_postgres_bus(io, *client, options());
  }
  db::Options options() const { return db::testing_db::quick_options(cluster_.url()); }

 private:
  db::testing_db::Cluster cluster_;
};

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

class RedisServer final : public Server {
 public:
  RedisServer() {
    folder_ = make_temporary_folder("redis").string();
    const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (bind(probe, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        getsockname(probe, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::runtime_error("no free port");
    }
    port_ = ntohs(address.sin_port);
    ::close(probe);
    start();
  }
  ~RedisServer() override {
    kill_it();
    fs::remove_all(folder_);
  }

  void start() override {
    const std::string port = std::to_string(port_);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const std::string log = folder_ + "/log";
      execlp("redis-server", "redis-server", "--bind", "127.0.0.1", "--port", port.c_str(), "--save", "",
             "--appendonly", "no", "--dir", folder_.c_str(), "--logfile", log.c_str(), "--requirepass", "it's a p@ss",
             nullptr);
      _exit(127);
    }
    const auto deadline = Clock::now() + 20s;
    while (ask("PING\r\n").empty()) {
      if (Clock::now() > deadline) throw std::runtime_error("the Redis server does not start");
      poll(nullptr, 0, 5);
    }
  }
  void kill_it() override {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  void freeze() override { kill(pid_, SIGSTOP); }
  void go_on() override { kill(pid_, SIGCONT); }
  void cut_connections() override { EXPECT_FALSE(ask("CLIENT KILL TYPE pubsub\r\n").empty()); }
  std::unique_ptr<Bus> make(asio::io_context& io, std::unique_ptr<db::Client>&) override {
    return make_redis_bus(io, url());
  }

  std::string url(const std::string& password = "it's%20a%20p%40ss", const std::string& host = "127.0.0.1") const {
    return "redis://:" + password + "@" + host + ":" + std::to_string(port_);
  }

 private:
  /// Sends a line behind the password, blocking; what comes back, or nothing when nobody is there.
  std::string ask(const std::string& line) const {
    const int raw = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(port_);
    std::string answer;
    if (connect(raw, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      const std::string text = "AUTH \"it's a p@ss\"\r\n" + line + "QUIT\r\n";
      if (send(raw, text.data(), text.size(), MSG_NOSIGNAL) > 0) {
        char buffer[512];
        for (ssize_t got = 0; (got = recv(raw, buffer, sizeof buffer, 0)) > 0;) {
          answer.append(buffer, static_cast<std::size_t>(got));
        }
      }
    }
    ::close(raw);
    return answer;
  }

  std::string folder_;
  std::uint16_t port_ = 0;
  pid_t pid_ = 0;
};

/// One of each for the whole process, made when it is first asked for.
template <class Kind>
Kind& server_of() {
  static Kind server;
  return server;
}

/// Answers every connection with the same bytes and keeps it open, or closes it at once.
class OddServer {
 public:
  OddServer(asio::io_context& io, std::string bytes, bool stays)
      : acceptor_(io, {asio::ip::address_v4::loopback(), 0}), bytes_(std::move(bytes)), stays_(stays) {
    accept();
  }
  std::string url() const { return "redis://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }
  int connections() const { return static_cast<int>(connections_); }

 private:
  void accept() {
    acceptor_.async_accept([this](boost::system::error_code ec, asio::ip::tcp::socket socket) {
      if (ec) return;
      ++connections_;
      boost::system::error_code ignored;
      socket.non_blocking(true, ignored);
      socket.write_some(asio::buffer(bytes_), ignored);
      if (stays_) open_.push_back(std::move(socket));
      accept();
    });
  }

  asio::ip::tcp::acceptor acceptor_;
  std::string bytes_;
  bool stays_;
  std::vector<asio::ip::tcp::socket> open_;
  std::size_t connections_ = 0;
};

}  // namespace hourz::realtime::testing_bus
