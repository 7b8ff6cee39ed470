// Many WebSocket connections from one thread, for measuring servers: epoll, RFC 6455 by hand, and no JSON.
//
// Opens the sockets of a plan, sends each one's first frame once the server is ready, and hands every text message to
// its owner as bytes. Frugal, since it shares the machine with what it measures: one buffer for all reads, one system
// call a read, and frames taken apart by their headers. Answers pings. Leaves to its owner what is measured.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace hourz::load {

/// Of CLOCK_MONOTONIC, which every program on the machine shares.
inline std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

/// One connection to be made.
struct Plan {
  std::string token;
  std::string room;   ///< to be joined; or empty
  std::string after;  ///< seq to go on from; or empty
  std::string area;   ///< what watch_area says, as JSON; or empty
};

/// Lines `TOKEN -`, `TOKEN room ID SEQ|-` and `TOKEN area LATITUDE LONGITUDE RADIUS_KM`. Throws std::runtime_error.
std::vector<Plan> read_plan(const std::string& path);

/// Latencies in milliseconds.
class Samples {
 public:
  void add_ns(std::int64_t duration_ns) {
    values_.push_back(static_cast<float>(static_cast<double>(duration_ns) / 1e6));
  }
  std::size_t size() const { return values_.size(); }
  /// 0 without samples; `part` is 0 to 1.
  double quantile(double part);

 private:
  std::vector<float> values_;
};

struct Socket {
  enum class State : std::uint8_t { idle, shaking, opened, ready, closed };
  int fd = -1;
  std::uint32_t number = 0;
  State state = State::idle;
  bool wants_out = false;
  const Plan* plan = nullptr;
  std::string rest;    ///< a frame that has not come whole
  std::string unsent;  ///< what the kernel would not take
  // --- for the owner ---
  std::uint32_t room = 0;
  std::int64_t last_seq = 0;
  std::int64_t sent_ns = 0;
};

class Client {
 public:
  /// `port` of 127.0.0.1. Sockets come from 127.0.0.2 on, 20,000 from each address.
  Client(std::uint16_t port, const std::vector<Plan>& plans);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Opens all, some at a time, until each is ready: its first frame (when `with_first_frame`) has been answered.
  /// Throws std::runtime_error when one is refused, closed, answered by an error, or late.
  void open_all(bool with_first_frame, double patience_s);

  /// Serves sockets until `done` says so or the time is over. `due` gives when it wants to be called next.
  void serve(std::int64_t until_ns, const std::function<bool()>& done, const std::function<std::int64_t()>& due = {});

  void send_text(Socket& socket, std::string_view text) { send_frame(socket, 0x81, text); }

  /// Something else to be read, such as an HTTP connection or standard input.
  void watch(int fd, std::function<void()> readable);
  void unwatch(int fd);

  std::vector<Socket> sockets;
  /// A text message and when it was read.
  std::function<void(Socket&, std::string_view, std::int64_t)> on_text;
  std::uint64_t closed = 0;  ///< by the server
  std::uint64_t errors = 0;  ///< error events
  std::string first_fault;   ///< why the first was closed, or what the first error said

 private:
  void open(Socket& socket);
  void readable(Socket& socket);
  std::size_t take_handshake(Socket& socket, std::string_view bytes);
  std::size_t take_frames(Socket& socket, std::string_view bytes, std::int64_t at_ns);
  void take_text(Socket& socket, std::string_view text, std::int64_t at_ns);
  void send_frame(Socket& socket, std::uint8_t first, std::string_view text);
  void send_bytes(Socket& socket, std::string_view bytes);
  void flush(Socket& socket);
  void end(Socket& socket, std::string_view why);
  void became_ready(Socket& socket);

  std::uint16_t port_;
  int epoll_ = -1;
  bool with_first_frame_ = true;
  std::size_t opening_ = 0, ready_ = 0;
  std::vector<char> buffer_;
  std::vector<std::pair<int, std::function<void()>>> others_;
};

/// What stands between `before` and the next `"` in a message; empty when it is not there.
std::string_view field(std::string_view text, std::string_view before);
/// The number behind `before`; -1 when there is none.
std::int64_t number_after(std::string_view text, std::string_view before);

}  // namespace hourz::load
