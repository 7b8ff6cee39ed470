// One WebSocket, from behind its handshake to its end. A single coroutine reads: it waits without a buffer, reads into
// the shard's, and hands each message to the session before it looks at the next, so a busy session slows its peer down
// and nothing piles up here. Sending needs no coroutine: frames queue up during a turn of the io_context and leave
// together at its end.
//
// The end has one shape, whoever begins it: our close frame goes out behind what is queued; once it is sent, the
// sending side is shut down as soon as the peer's is here, or at once when its frames are not read any more; then the
// peer has a moment to end the connection, and is cut after that.
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "net/frames.hpp"
#include "net/outbox.hpp"
#include "net/shard.hpp"

namespace hourz::net {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using realtime::CloseCode;
using realtime::Frame;
using namespace std::chrono_literals;
using Kind = FrameEvent::Kind;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr auto tick_time = 1s;
constexpr auto close_patience = 5s;                // for what is queued before a close frame
constexpr std::size_t closing_bytes = 256 * 1024;  // read from a peer that was told to close

class WebSocket final : public Connection, public realtime::Wire, public std::enable_shared_from_this<WebSocket> {
 public:
  WebSocket(std::shared_ptr<ShardContext> context, Stream&& stream, Slot&& counted,
            std::unique_ptr<realtime::Session> session)
      : Connection(std::move(stream), std::move(counted)),
        shard_(std::move(context)),
        session_(std::move(session)),
        limits_(shard_->common->limits),
        reader_(limits_.message_bytes),
        heard_(Clock::now()),
        moved_(heard_),
        ping_at_(heard_ + limits_.ping_interval) {
    phase = Phase::serving;
    deadline = heard_ + tick_time;
    shard_->add(*this);
    shard_->sockets.add(1);
  }
  ~WebSocket() override {
    error_code ec;
    socket.close(ec);
    session_.reset();  // there still when the io_context ends before the connection; it may call what is below
    shard_->outbox_bytes.add(-static_cast<std::int64_t>(outbox_.bytes()));
    shard_->sockets.add(-1);
    shard_->remove(*this);
  }

  void send(Frame frame) override;
  void close(CloseCode code, std::string_view reason) override;

  void expire() override;
  void leave() override;
  void flush() override;

  // For the reading coroutine.
  void open();
  /// Whether frames are still looked at.
  bool listens() const { return !deaf_ && socket.is_open(); }
  FrameEvent next(std::string_view& bytes) { return reader_.next(bytes); }
  /// Whether this event is a message for the session's receive().
  bool is_message(const FrameEvent& event) const { return event.kind == Kind::text && !closing_; }
  asio::awaitable<void> receive(std::string text);
  void handle(FrameEvent event);
  /// What is there to be read, in the shard's buffer; nothing when the connection has ended.
  std::optional<std::string_view> read();
  void end();

 private:
  enum class Wait { queue, drop };

  void begin_close(std::uint16_t code, std::string_view reason, Wait wait);
  void push(Frame frame);
  void pong(std::string_view payload);
  void on_drained();
  void wait_writable();
  void cut();

  std::shared_ptr<ShardContext> shard_;
  std::unique_ptr<realtime::Session> session_;
  const Limits& limits_;
  FrameReader reader_;
  Outbox outbox_;
  Clock::time_point heard_;  ///< the last byte from the peer
  Clock::time_point moved_;  ///< the last byte that the kernel took, or the wait for it began
  Clock::time_point ping_at_;
  Clock::time_point part_since_ = Clock::time_point::max();  ///< a message has been in parts, as the tick saw it
  Clock::time_point cut_at_;                                 ///< once closing
  std::size_t read_closing_ = 0;                             ///< bytes, once closing
  std::uint64_t pong_ = UINT64_MAX;                          ///< its number in the outbox
  bool waiting_ = false;                                     ///< for the kernel to take more
  bool opened_ = false;                                      ///< the session knows its wire
  bool receiving_ = false;
  bool closing_ = false;     ///< our close frame is queued or sent; nothing is queued behind it
  bool close_sent_ = false;  ///< to the last byte
  bool deaf_ = false;        ///< what the peer sends is not looked at any more
  bool shut_ = false;        ///< the sending side is shut down
};

// ---- sending ------------------------------------------------------------------------------------------------------

void WebSocket::push(Frame frame) {
  shard_->outbox_bytes.add(static_cast<std::int64_t>(frame->size()));
  outbox_.push(std::move(frame));
  if (!waiting_) shard_->flush_soon(*this);
}

void WebSocket::send(Frame frame) {
  if (closing_ || !socket.is_open()) return;
  const auto fits = [&] { return outbox_.fits(frame->size(), limits_.outbox_bytes, limits_.outbox_frames); };
  if (!fits()) {
    flush();  // a long turn fills the outbox of a quick peer too
    if (!socket.is_open()) return;
    if (!fits()) {
      close(CloseCode::too_slow, "The outbox is full.");
      return;
    }
  }
  push(std::move(frame));
}

void WebSocket::pong(std::string_view payload) {
  Frame frame = pong_frame(payload);
  const std::size_t before = outbox_.bytes();
  // RFC 6455, 5.5.3: only the latest of several pings need be answered.
  if (pong_ != UINT64_MAX && outbox_.replace(pong_, frame)) {
    shard_->outbox_bytes.add(static_cast<std::int64_t>(outbox_.bytes()) - static_cast<std::int64_t>(before));
    return;
  }
  pong_ = outbox_.next();
  push(std::move(frame));
}

void WebSocket::flush() {
  if (waiting_) return;
  std::array<iovec, Outbox::gathered> parts;
  while (!outbox_.empty()) {
    if (!socket.is_open()) return;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = outbox_.gather(parts);
    const ssize_t taken = ::sendmsg(socket.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        wait_writable();
      } else {
        cut();
      }
      return;
    }
    moved_ = Clock::now();
    shard_->outbox_bytes.add(-static_cast<std::int64_t>(taken));
    shard_->frames_out.add(outbox_.sent(static_cast<std::size_t>(taken)));
  }
  on_drained();
}

void WebSocket::wait_writable() {
  waiting_ = true;
  moved_ = Clock::now();
  socket.async_wait(Stream::wait_write, [self = shared_from_this()](const error_code& ec) {
    self->waiting_ = false;
    if (!ec) self->flush();
  });
}

// ---- the end ------------------------------------------------------------------------------------------------------

void WebSocket::close(CloseCode code, std::string_view reason) {
  const bool at_once = code == CloseCode::too_slow || code == CloseCode::too_fast;
  if (code == CloseCode::too_slow && !closing_) shard_->too_slow.add(1);
  begin_close(static_cast<std::uint16_t>(code), reason, at_once ? Wait::drop : Wait::queue);
}

void WebSocket::begin_close(std::uint16_t code, std::string_view reason, Wait wait) {
  if (closing_ || !socket.is_open()) return;
  closing_ = true;
  Clock::duration patience = close_patience;
  if (wait == Wait::drop) {
    const auto before = static_cast<std::int64_t>(outbox_.bytes());
    outbox_.drop();
    shard_->outbox_bytes.add(static_cast<std::int64_t>(outbox_.bytes()) - before);
    deaf_ = true;
    patience = limits_.close_timeout;
  }
  push(close_frame(code, reason));
  cut_at_ = Clock::now() + patience;
  deadline = cut_at_;
}

/// All that was queued is sent. Who is not looked at any more (its close frame is here, or it broke the protocol) is
/// waiting for the end.
void WebSocket::on_drained() {
  if (!closing_ || !socket.is_open()) return;
  if (!close_sent_) {
    close_sent_ = true;
    cut_at_ = std::min(cut_at_, Clock::now() + limits_.close_timeout);
    deadline = cut_at_;
  }
  if (deaf_ && !shut_) {
    shut_ = true;
    error_code ec;
    socket.shutdown(Stream::shutdown_send, ec);
  }
}

/// Ends the connection now. What the peer has not read of it would else stay in the kernel for minutes.
void WebSocket::cut() {
  error_code ec;
  int unsent = 0;
  if (socket.is_open() && ::ioctl(socket.native_handle(), SIOCOUTQ, &unsent) == 0 && unsent > 0) {
    socket.set_option(Stream::linger(true, 0), ec);
  }
  socket.close(ec);
  deadline = Clock::time_point::max();
}

void WebSocket::expire() {
  const Clock::time_point now = Clock::now();
  if (!socket.is_open()) {
    deadline = Clock::time_point::max();
    return;
  }
  if (closing_) {
    if (now >= cut_at_) cut();
    return;
  }
  deadline = now + tick_time;
  if (!opened_) return;
  session_->tick();
  if (closing_ || !socket.is_open()) return;
  if (!reader_.holds_part()) {
    part_since_ = Clock::time_point::max();
  } else if (part_since_ == Clock::time_point::max()) {
    part_since_ = now;
  } else if (now - part_since_ >= limits_.body_timeout) {
    begin_close(static_cast<std::uint16_t>(CloseCode::too_slow), "The message took too long to arrive.", Wait::drop);
    return;
  }
  if (waiting_ && now - moved_ >= limits_.stall_timeout) {
    close(CloseCode::too_slow, "Nothing was read for long.");
  } else if (!receiving_ && now - heard_ >= limits_.silence) {  // while it receives, nothing is listened to
    close(CloseCode::silent, "Nothing was heard for long.");
  } else if (now >= ping_at_) {
    ping_at_ = now + limits_.ping_interval;
    if (outbox_.empty()) push(ping_frame());  // else what is queued will show whether anybody is there
  }
}

void WebSocket::leave() {
  if (opened_ && session_ && !closing_) session_->going_away();
}

// ---- reading ------------------------------------------------------------------------------------------------------

void WebSocket::open() {
  session_->opened(*this);
  opened_ = true;
  if (shard_->common->draining.load(std::memory_order_relaxed)) leave();  // it began while the gateway was asked
}

asio::awaitable<void> WebSocket::receive(std::string text) {
  receiving_ = true;
  part_since_ = Clock::time_point::max();
  try {
    co_await session_->receive(std::move(text));
  } catch (...) {
    close(CloseCode::internal_error, {});
  }
  receiving_ = false;
  heard_ = Clock::now();
}

void WebSocket::handle(FrameEvent event) {
  switch (event.kind) {
    case Kind::begun:
      shard_->frames_in.add(1);
      if (closing_ || session_->admit_frame()) break;
      if (!closing_) close(CloseCode::too_fast, {});
      deaf_ = true;
      break;
    case Kind::ping:
      if (!closing_) pong(event.payload);
      break;
    case Kind::binary:
      part_since_ = Clock::time_point::max();
      if (!closing_) session_->receive_binary();
      break;
    case Kind::close:
      deaf_ = true;
      begin_close(event.code, {}, Wait::queue);
      if (close_sent_) on_drained();
      break;
    case Kind::fault:
      deaf_ = true;
      begin_close(event.code, event.payload, Wait::queue);
      if (close_sent_) on_drained();
      break;
    case Kind::none:
    case Kind::text:
    case Kind::pong:
      break;
  }
}

std::optional<std::string_view> WebSocket::read() {
  const std::span<char> buffer = shard_->read_buffer();
  error_code ec;
  const std::size_t size = socket.read_some(asio::buffer(buffer.data(), buffer.size()), ec);
  if (ec == asio::error::would_block || ec == asio::error::try_again) return std::string_view();
  if (ec) return std::nullopt;
  if (closing_) read_closing_ += size;
  if (read_closing_ > closing_bytes) return std::nullopt;
  heard_ = Clock::now();
  return std::string_view(buffer.data(), size);
}

void WebSocket::end() {
  if (closing_ && !close_sent_) flush();
  if (!close_sent_) cut();
  error_code ec;
  socket.close(ec);
  session_.reset();
}

/// Serves one WebSocket to its end.
asio::awaitable<void> run(std::shared_ptr<WebSocket> self, std::string held) {
  try {
    self->open();
    std::optional<std::string_view> bytes = held;
    while (bytes) {
      while (self->listens()) {
        FrameEvent event = self->next(*bytes);
        if (event.kind == Kind::none) break;
        if (self->is_message(event)) {
          // The buffer is the shard's: what stands behind the message is kept here, while others read into it.
          if (!bytes->empty() && held.empty()) {
            held = *bytes;
            bytes = held;
          }
          co_await self->receive(std::move(event.payload));
        } else {
          self->handle(std::move(event));
        }
      }
      if (!held.empty()) std::string().swap(held);
      if (!self->socket.is_open()) break;
      const auto [ec] = co_await self->socket.async_wait(Stream::wait_read, as_result);
      if (ec || !self->socket.is_open()) break;
      bytes = self->read();
    }
  } catch (...) {
    // Neither session nor codec throws; what remains is memory running out, and then this connection ends.
  }
  self->end();
}

}  // namespace

void open_socket(std::shared_ptr<ShardContext> shard, Stream socket, Slot slot,
                 std::unique_ptr<realtime::Session> session, std::string left_over) {
  const Executor executor = shard->executor;
  auto opened = std::make_shared<WebSocket>(std::move(shard), std::move(socket), std::move(slot), std::move(session));
  asio::co_spawn(executor, run(std::move(opened), std::move(left_over)), asio::detached);
}

}  // namespace hourz::net
