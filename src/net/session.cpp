// One HTTP connection: reads a head, asks the service, reads the body, answers, and again, until it ends or becomes a
// WebSocket. Every way out of a request that leaves bytes of it unread, or in doubt, ends the connection, so that what
// follows is never taken for a request.
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>

#include "core/problem.hpp"
#include "net/head.hpp"
#include "net/response.hpp"
#include "net/shard.hpp"
#include "net/upgrade.hpp"

namespace hourz::net {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using namespace std::chrono_literals;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t read_bytes = 4096;           // what an idle connection keeps
constexpr std::size_t body_step_bytes = 8 * 1024;  // a body's memory grows with what has arrived, not what is promised
constexpr std::size_t write_step_bytes = 256 * 1024;
constexpr std::size_t stream_bytes = 64 * 1024;  // of a body that is taken piece by piece
// For each of these, so 32 MiB a second: the body of a near client comes as fast as it is taken, and taking it all at
// once leaves nothing of the cores to what others ask meanwhile.
constexpr std::chrono::microseconds stream_pause = 2ms;
constexpr std::size_t linger_bytes = 64 * 1024;
constexpr auto linger_time = 1s;
constexpr std::uint64_t mebibyte = 1024 * 1024;

enum class Sent { all, some, failed };

struct Session final : Connection {
  Session(std::shared_ptr<ShardContext> context, Stream&& stream, Slot&& counted)
      : Connection(std::move(stream), std::move(counted)),
        shard(std::move(context)),
        limits(shard->common->limits),
        buffer(std::max<std::size_t>(2 * limits.header_bytes, 2 * read_bytes)) {
    shard->add(*this);
  }
  ~Session() override { shard->remove(*this); }

  std::string_view received() const { return {static_cast<const char*>(buffer.data().data()), buffer.size()}; }
  asio::mutable_buffer room() { return buffer.prepare(std::min(read_bytes, buffer.max_size() - buffer.size())); }
  /// Bytes of the answer that the peer has not taken, here and in the kernel, which tells of room only in large steps.
  std::size_t untaken_now() {
    int queued = 0;
    ::ioctl(socket.native_handle(), SIOCOUTQ, &queued);
    return asio::buffer_size(out) + static_cast<std::size_t>(queued);
  }
  void expire() override {
    if (phase == Phase::writing) {
      const std::size_t left = untaken_now();
      if (left + write_step_bytes <= untaken) {
        untaken = left;
        arm(Phase::writing, limits.write_timeout);
        return;
      }
    }
    Connection::expire();
  }
  bool draining() const { return shard->common->draining.load(std::memory_order_relaxed); }

  std::shared_ptr<ShardContext> shard;
  const Limits& limits;
  std::string peer;
  boost::beast::flat_buffer buffer;
  std::string head_out;                   // kept from answer to answer for its memory
  std::array<asio::const_buffer, 2> out;  // what is still to be sent: head and body
  std::size_t untaken = 0;                // when the time for writing began
};

/// Sends what the socket takes without waiting.
Sent send_some(Session& session) {
  for (;;) {
    error_code ec;
    std::size_t sent = session.socket.write_some(session.out, ec);
    if (ec == asio::error::would_block || ec == asio::error::try_again) return Sent::some;
    if (ec) return Sent::failed;
    for (asio::const_buffer& part : session.out) {
      const std::size_t step = std::min(sent, part.size());
      part += step;
      sent -= step;
    }
    if (asio::buffer_size(session.out) == 0) return Sent::all;
  }
}

/// Waits until the rest is sent. Whoever is slow has write_timeout for each write_step of it.
asio::awaitable<bool> send_rest(Session& session) {
  session.untaken = session.untaken_now();
  session.arm(Phase::writing, session.limits.write_timeout);
  for (;;) {
    const auto [ec] = co_await session.socket.async_wait(Stream::wait_write, as_result);
    if (ec || session.expired) co_return false;
    const Sent sent = send_some(session);
    if (sent == Sent::failed) co_return false;
    if (sent == Sent::all) break;
  }
  session.disarm();
  co_return true;
}

asio::awaitable<bool> send_all(Session& session) {
  const Sent sent = send_some(session);
  if (sent == Sent::some) co_return co_await send_rest(session);
  co_return sent == Sent::all;
}

/// Sends a body that is fetched while it is sent, behind its head. Whoever is slow has write_timeout for each piece.
asio::awaitable<bool> send_source(Session& session, http::BodySource& source) {
  if (!co_await send_all(session)) co_return false;
  for (std::uint64_t left = source.size; left > 0;) {
    std::string piece;
    try {
      piece = co_await source.next();
    } catch (const std::exception&) {
      co_return false;  // the head is out: a connection that ends is all that can still be said
    }
    if (piece.empty() || piece.size() > left) co_return false;
    left -= piece.size();
    session.out = {asio::buffer(piece), asio::const_buffer()};
    if (!co_await send_all(session)) co_return false;
  }
  co_return true;
}

/// Puts an answer up for sending. `response` must live until it is sent.
void prepare(Session& session, const http::Response& response, Persistence persistence, bool without_body) {
  const std::string_view body = body_of(response);
  write_head(session.head_out, response, session.shard->date(), persistence);
  session.out = {asio::buffer(session.head_out),
                 without_body ? asio::const_buffer() : asio::const_buffer(body.data(), body.size())};
}

/// Ends the sending side and reads on for a moment: closing a socket with unread bytes makes the kernel send a reset,
/// which can destroy the answer before the peer has read it.
asio::awaitable<void> linger(Session& session) {
  error_code ec;
  session.socket.shutdown(Stream::shutdown_send, ec);
  if (ec) co_return;
  session.buffer.clear();
  session.arm(Phase::closing, linger_time);
  for (std::size_t left = linger_bytes; left > 0;) {
    const auto [failed, n] = co_await session.socket.async_read_some(session.room(), as_result);
    if (failed || session.expired) co_return;
    left -= std::min(left, n);
  }
}

/// Answers a request that broke HTTP, and ends the connection.
asio::awaitable<void> refuse(Session& session, Fault fault, bool without_body, std::string origin) {
  session.expired = false;
  session.disarm();
  session.shard->common->bad_requests.fetch_add(1, std::memory_order_relaxed);
  const http::Response response = session.shard->service->refuse(fault.status, fault.detail, origin);
  prepare(session, response, Persistence::close, without_body);
  if (!co_await send_all(session)) co_return;
  co_await linger(session);
}

/// Whether the peer may name itself so in an absolute-form target.
bool known_authority(const Session& session, std::string_view authority) {
  const auto& names = session.shard->common->authorities;
  if (names.empty()) return true;
  for (const std::string& name : names) {
    if (same_authority(authority, name)) return true;
  }
  const std::string_view host = host_of(authority);
  if (host == "localhost") return true;
  error_code ec;
  const auto address = asio::ip::make_address(host, ec);
  if (ec) return false;
  if (address.is_loopback()) return true;
  const auto local = session.socket.local_endpoint(ec);
  return !ec && local.address() == address;
}

enum class Got { head, refused, gone };

/// Waits for a whole head. The limit on time starts with its first byte and no later byte moves it.
asio::awaitable<Got> read_head(Session& session, HeadScanner& scanner) {
  bool begun = session.buffer.size() > 0;
  if (begun) session.arm(Phase::head, session.limits.header_timeout);
  for (;;) {
    if (begun) {
      const auto verdict = scanner.scan(session.received());
      if (verdict == HeadScanner::Verdict::complete) co_return Got::head;
      if (verdict == HeadScanner::Verdict::refused) co_return Got::refused;
    } else {
      error_code ec;
      if (session.draining() && session.socket.available(ec) == 0) co_return Got::gone;
      session.arm(Phase::idle, session.limits.idle_timeout);
    }
    const auto [ec, n] = co_await session.socket.async_read_some(session.room(), as_result);
    if (session.expired) co_return begun ? Got::refused : Got::gone;
    if (ec == asio::error::operation_aborted && !begun && session.draining())
      continue;  // looks whether bytes are there
    if (ec) co_return Got::gone;
    session.buffer.commit(n);
    if (!begun) session.arm(Phase::head, session.limits.header_timeout);
    begun = true;
  }
}

/// Reads a body of `length` bytes; false when the peer went or was too slow (`expired`).
asio::awaitable<bool> read_body(Session& session, std::size_t length, std::string& body) {
  session.arm(Phase::body, session.limits.body_timeout * static_cast<std::int64_t>(1 + (length - 1) / mebibyte));
  std::size_t have = std::min(length, session.buffer.size());
  body.assign(session.received().substr(0, have));
  session.buffer.consume(have);
  while (have < length) {
    if (have == body.size()) body.resize(std::min(length, std::max(2 * have, body_step_bytes)));
    const auto [ec, n] =
        co_await session.socket.async_read_some(asio::buffer(body.data() + have, body.size() - have), as_result);
    if (ec || session.expired) co_return false;
    have += n;
  }
  session.disarm();
  co_return true;
}

/// The body of a request, handed on as it arrives. The time that the service takes between two pieces is not the
/// peer's.
class StreamedBody final : public http::BodyReader {
 public:
  StreamedBody(Session& session, std::uint64_t length, bool expect_continue)
      : session_(session),
        left_(length),
        time_left_(session.limits.body_timeout *
                   static_cast<std::int64_t>(1 + (length == 0 ? 0 : length - 1) / mebibyte)),
        proceed_(expect_continue && length > 0) {}

  asio::awaitable<std::string_view> read() override {
    if (left_ == 0) co_return std::string_view();
    if (std::exchange(proceed_, false)) {
      constexpr std::string_view proceed = "HTTP/1.1 100 Continue\r\n\r\n";
      session_.out = {asio::const_buffer(proceed.data(), proceed.size()), asio::const_buffer()};
      if (!co_await send_all(session_)) give_up();
    }
    const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(stream_bytes, left_));
    co_await keep_pace();
    if (piece_.size() < most) piece_.resize(most);
    std::size_t have = std::min(most, session_.buffer.size());
    std::copy_n(session_.received().data(), have, piece_.data());
    session_.buffer.consume(have);
    if (have == 0) {
      const Clock::time_point begun = Clock::now();
      session_.arm(Phase::body, time_left_);
      const auto [ec, n] = co_await session_.socket.async_read_some(asio::buffer(piece_.data(), most), as_result);
      time_left_ -= std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begun);
      const bool late = session_.expired;
      if (ec && !late) give_up();
      session_.expired = false;
      session_.disarm();
      if (late) throw Problem(ErrorCode::request_timeout, "The request body took too long to arrive.");
      have = n;
    }
    left_ -= have;
    next_ += stream_pause * static_cast<std::int64_t>(have) / static_cast<std::int64_t>(stream_bytes);
    co_return std::string_view(piece_).substr(0, have);
  }

  bool unread() const { return left_ > 0; }
  bool gone() const { return gone_; }

 private:
  asio::awaitable<void> keep_pace() {
    const Clock::time_point now = Clock::now();
    if (next_ <= now) {
      next_ = now;
      co_return;
    }
    asio::steady_timer timer(session_.socket.get_executor(), next_);
    co_await timer.async_wait(as_result);
  }

  [[noreturn]] void give_up() {
    gone_ = true;
    session_.disarm();
    throw Problem(ErrorCode::request_timeout, "The connection ended before the request body did.");
  }

  Session& session_;
  std::uint64_t left_;
  std::chrono::milliseconds time_left_;
  bool proceed_;
  bool gone_ = false;
  Clock::time_point next_{};  ///< when the next piece may be taken
  std::string piece_;
};

std::string_view http_origin(const Head& head) { return head.request.header("origin").value_or(""); }

/// The Origin field of a head that was refused before it was taken apart, as far as it has arrived.
std::string_view find_origin(std::string_view bytes) {
  constexpr std::string_view name = "\norigin:";
  if (const auto end = bytes.find("\r\n\r\n"); end != std::string_view::npos) bytes = bytes.substr(0, end + 2);
  const auto found = std::ranges::search(
      bytes, name, [](char c, char wanted) { return (c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c) == wanted; });
  if (found.empty()) return {};
  std::string_view value(found.end(), bytes.end());
  const auto end = value.find_first_of("\r\n");
  if (end == std::string_view::npos) return {};
  value = value.substr(0, end);
  while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
  while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
  return value;
}

/// A request for a WebSocket's target. Opened, the connection lives on as a WebSocket, and there is nothing to answer.
asio::awaitable<std::optional<http::Response>> upgrade(Session& session, Head& head) {
  realtime::Gateway& gateway = *session.shard->gateway;
  if (const Fault fault = check_handshake(head)) {
    http::Response response = gateway.refuse(head.request, fault.status, fault.detail);
    if (fault.status == 426) {
      std::erase_if(response.headers, [](const auto& header) { return header.first == "Sec-WebSocket-Version"; });
      response.headers.emplace_back("Sec-WebSocket-Version", "13");
      if (head.keep_alive && !response.close) {  // RFC 9110, 15.5.22; else Connection says that there is no going on
        response.headers.emplace_back("Upgrade", "websocket");
        response.headers.emplace_back("Connection", "Upgrade");
      }
    }
    co_return response;
  }
  if (session.draining()) {
    co_return session.shard->service->refuse(503, "The server is being stopped.", http_origin(head));
  }
  const std::string key(head.request.header("sec-websocket-key").value_or(""));
  const std::string origin(http_origin(head));
  realtime::Opening opening = co_await gateway.open(std::move(head.request));
  if (opening.refusal) co_return std::move(opening.refusal);
  if (!opening.session) {
    co_return session.shard->service->refuse(500, "The request could not be served.", origin);
  }
  session.head_out = switching_protocols(key, opening.subprotocol, session.shard->date());
  session.out = {asio::buffer(session.head_out), asio::const_buffer()};
  if (co_await send_all(session)) {
    open_socket(session.shard, std::move(session.socket), std::move(session.slot), std::move(opening.session),
                std::string(session.received()));
  }
  co_return std::nullopt;
}

/// One request and its answer. True when another may follow on the connection.
asio::awaitable<bool> exchange(Session& session, bool last) {
  HeadScanner scanner(session.limits.header_bytes, session.limits.header_fields);
  const Got got = co_await read_head(session, scanner);
  if (got == Got::gone) co_return false;
  const std::string_view bytes = session.received().substr(std::min(scanner.begin(), session.buffer.size()));
  const bool is_head = bytes.starts_with("HEAD ");
  Head head;
  Fault fault = scanner.fault();
  if (got == Got::head) {
    session.disarm();
    fault = parse_head(bytes.substr(0, scanner.end() - scanner.begin()), head);
    session.buffer.consume(scanner.end());
    if (!fault && !head.authority.empty() && !known_authority(session, head.authority)) {
      fault = {421, "This server does not answer for that authority."};
    }
  } else if (!fault) {
    fault = {408, "The request head took too long to arrive."};
  }
  if (fault) {
    // A head that is too long may have its Origin in what has arrived, but has not been read.
    std::string arrived(bytes);
    error_code ec;
    const std::span<char> more = session.shard->read_buffer();
    if (got != Got::head) arrived.append(more.data(), session.socket.read_some(asio::buffer(more), ec));
    co_await refuse(session, fault, is_head, std::string(find_origin(arrived)));
    co_return false;
  }

  head.request.peer = session.peer;
  const std::string origin(http_origin(head));
  const std::uint64_t length = head.request.content_length.value_or(0);
  bool unread = length > 0;
  http::Admitted admitted;
  std::optional<http::Response> response;
  // A request to change to WebSocket is told here, before the service sees it. For any other target it is an ordinary
  // request, its Upgrade field an offer not taken.
  realtime::Gateway* const gateway = session.shard->gateway;
  if (gateway != nullptr && gateway->serves(head.request.target)) {
    response = co_await upgrade(session, head);
    if (!response) co_return false;
  } else {
    admitted = co_await session.shard->service->admit(std::move(head.request));
    response = std::move(admitted.refusal);
    // A small body that is here already is dropped: under overload each refused change would cost a new connection. Of
    // a client that waits to be told to proceed nobody knows whether what follows is the body.
    if (response && length > 0 && length <= session.buffer.size() && !head.expect_continue) {
      session.buffer.consume(static_cast<std::size_t>(length));
      unread = false;
    }
  }
  if (!response) {
    if (!admitted.admission) {
      co_await refuse(session, {500, "The request could not be served."}, is_head, origin);
      co_return false;
    }
    if (length > admitted.body_limit) {
      co_await refuse(session, {413, "The request body is too long."}, is_head, origin);
      co_return false;
    }
    if (admitted.streamed) {
      StreamedBody body(session, length, head.expect_continue);
      response = co_await session.shard->service->respond_streamed(std::move(admitted.admission), body);
      if (body.gone()) co_return false;
      unread = body.unread();
    }
    std::string body;
    if (length > 0 && !response) {
      if (head.expect_continue) {
        constexpr std::string_view proceed = "HTTP/1.1 100 Continue\r\n\r\n";
        session.out = {asio::const_buffer(proceed.data(), proceed.size()), asio::const_buffer()};
        if (!co_await send_all(session)) co_return false;
      }
      if (!co_await read_body(session, static_cast<std::size_t>(length), body)) {
        if (session.expired)
          co_await refuse(session, {408, "The request body took too long to arrive."}, is_head, origin);
        co_return false;
      }
      unread = false;
    }
    if (!response) {
      response = co_await session.shard->service->respond(std::move(admitted.admission), std::move(body));
    }
  }

  const bool close = last || unread || response->close || !head.keep_alive || session.draining();
  prepare(session, *response,
          close           ? Persistence::close
          : head.http_1_0 ? Persistence::keep_alive
                          : Persistence::unsaid,
          is_head);
  if (response->source && !is_head) {
    if (!co_await send_source(session, *response->source)) co_return false;
  } else {
    const Sent sent = send_some(session);
    if (sent == Sent::failed) co_return false;
    if (sent == Sent::some && !co_await send_rest(session)) co_return false;
  }
  if (close) co_await linger(session);
  co_return !close;
}

}  // namespace

asio::awaitable<void> turn_away(std::shared_ptr<ShardContext> shard, Stream socket, Slot slot) {
  try {
    Session session(std::move(shard), std::move(socket), std::move(slot));
    error_code ec;
    session.socket.non_blocking(true, ec);
    if (ec) co_return;
    const http::Response response = session.shard->service->turn_away();
    prepare(session, response, Persistence::close, false);
    if (co_await send_all(session)) co_await linger(session);
  } catch (...) {
    // As in serve().
  }
}

asio::awaitable<void> serve(std::shared_ptr<ShardContext> shard, Stream socket, Slot slot) {
  try {
    Session session(std::move(shard), std::move(socket), std::move(slot));
    error_code ec;
    session.socket.non_blocking(true, ec);
    if (ec) co_return;
    const auto remote = session.socket.remote_endpoint(ec);
    if (ec) co_return;  // gone between connecting and here
    auto address = remote.address();
    if (address.is_v6() && address.to_v6().is_v4_mapped()) {
      address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    }
    session.peer = address.to_string();
    for (std::uint32_t count = 1;; ++count) {
      const bool last = count >= session.limits.requests_per_connection;
      if (!co_await exchange(session, last)) break;
    }
  } catch (...) {
    // The service promises not to throw; what remains is memory running out, and then this connection ends.
  }
}

}  // namespace hourz::net
