#include "core/log.hpp"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "core/json_text.hpp"
#include "core/time.hpp"

namespace hourz::log {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t most_waiting_bytes = 8 * 1024 * 1024;
constexpr std::size_t full_bytes = 256 * 1024;  // written without waiting for more
constexpr auto gathering_time = 10ms;

void write_out(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd error{STDERR_FILENO, POLLOUT, 0};
      poll(&error, 1, -1);
    } else if (errno != EINTR) {
      return;  // nobody reads it, and there is nowhere to say so
    }
  }
}

/// Takes lines from all threads and writes what came within 10 ms in one go: a write and a wake-up for each line were
/// a seventh of the server's work.
class Writer {
 public:
  static std::shared_ptr<Writer> start() {
    auto writer = std::make_shared<Writer>();
    writer->thread_ = std::thread([writer] { writer->work(); });
    return writer;
  }

  /// Writes what waits. Whoever stands still instead of reading it holds nobody up for longer than a second.
  void end() {
    std::unique_lock lock(mutex_);
    ending_ = true;
    wake_.notify_one();
    const bool written = ended_.wait_for(lock, 1s, [this] { return done_; });
    lock.unlock();
    if (written) {
      thread_.join();
    } else {
      thread_.detach();
    }
  }

  /// False: it does not fit.
  bool add(std::string_view line, bool urgent) {
    bool tell = false;
    {
      const std::lock_guard lock(mutex_);
      const std::size_t before = waiting_.size();
      if (before + line.size() > most_waiting_bytes) return false;
      waiting_ += line;
      tell = before == 0 || (before < full_bytes && waiting_.size() >= full_bytes) || (urgent && !urgent_);
      urgent_ = urgent_ || urgent;
    }
    if (tell) wake_.notify_one();
    return true;
  }

 private:
  void work() {
    std::string batch;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
      if (waiting_.empty()) break;
      wake_.wait_for(lock, gathering_time, [this] { return ending_ || urgent_ || waiting_.size() >= full_bytes; });
      batch.clear();
      batch.swap(waiting_);
      urgent_ = false;
      lock.unlock();
      write_out(batch);
      lock.lock();
    }
    done_ = true;
    ended_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable wake_, ended_;
  std::string waiting_;
  bool urgent_ = false, ending_ = false, done_ = false;
  std::thread thread_;
};

std::atomic<Level> least{Level::info};
std::atomic<std::uint64_t> lost{0};
std::shared_ptr<Writer> writer;  // set before threads start, reset after they end

constexpr std::string_view names[] = {"debug", "info", "warn", "error"};

}  // namespace

void start(std::string_view least_level) {
  for (int i = 0; i < 4; ++i) {
    if (names[i] == least_level) least = static_cast<Level>(i);
  }
  writer = Writer::start();
}

void stop() {
  if (const auto last = std::exchange(writer, nullptr)) last->end();
}

bool enabled(Level level) { return level >= least.load(std::memory_order_relaxed); }

std::uint64_t dropped() { return lost.load(std::memory_order_relaxed); }

Line::Line(Level level, std::string_view event) : level_(level) {
  if (!enabled(level)) return;
  text_.reserve(256);
  text_ += "{\"time\":\"";
  text_ += to_string(now());
  text_ += "\",\"level\":\"";
  text_ += names[static_cast<int>(level)];
  text_ += "\",\"event\":";
  append_json_string(text_, event);
}

Line::~Line() {
  if (text_.empty() || !writer) return;
  try {
    text_ += "}\n";
    if (writer->add(text_, level_ >= Level::warn)) return;
  } catch (const std::bad_alloc&) {
    // Lost like one that does not fit.
  }
  lost.fetch_add(1, std::memory_order_relaxed);
}

Line& Line::with(std::string_view field, std::string_view value) {
  if (text_.empty()) return *this;
  text_ += ',';
  append_json_string(text_, field);
  text_ += ':';
  append_json_string(text_, value);
  return *this;
}

Line& Line::with(std::string_view field, std::int64_t value) {
  if (text_.empty()) return *this;
  text_ += ',';
  append_json_string(text_, field);
  text_ += ':';
  text_ += std::to_string(value);
  return *this;
}

}  // namespace hourz::log
