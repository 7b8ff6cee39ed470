#include "socket_client.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace hourz::load {
namespace {

constexpr std::size_t opening_at_once = 64;
constexpr std::size_t sockets_an_address = 20'000;
constexpr std::uint64_t is_other = std::uint64_t{1} << 32;
// The key of RFC 6455's own example, and what must come of it.
constexpr std::string_view key = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr std::string_view accept_of_key = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
constexpr unsigned char mask[4] = {0x5a, 0x17, 0xc3, 0x9e};

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

std::string first_frame(const Plan& plan) {
  if (!plan.room.empty()) {
    std::string text = R"({"type":"join_room","id":"first","data":{"room_id":")" + plan.room + '"';
    if (!plan.after.empty()) text += ",\"after_seq\":" + plan.after;
    return text + "}}";
  }
  if (!plan.area.empty()) return R"({"type":"watch_area","id":"first","data":)" + plan.area + "}";
  return {};
}

}  // namespace

std::vector<Plan> read_plan(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail(path + " cannot be read");
  std::vector<Plan> plans;
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    Plan plan;
    std::string kind;
    words >> plan.token >> kind;
    if (kind == "room") {
      words >> plan.room >> plan.after;
      if (plan.after == "-") plan.after.clear();
    } else if (kind == "area") {
      std::string latitude, longitude, radius;
      words >> latitude >> longitude >> radius;
      plan.area = "{\"latitude\":" + latitude + ",\"longitude\":" + longitude + ",\"radius_km\":" + radius + "}";
    } else if (kind != "-") {
      fail("the plan says '" + kind + "'");
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

double Samples::quantile(double part) {
  if (values_.empty()) return 0;
  const auto place = values_.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(values_.size() - 1));
  std::nth_element(values_.begin(), place, values_.end());
  return static_cast<double>(*place);
}

std::string_view field(std::string_view text, std::string_view before) {
  const auto start = text.find(before);
  if (start == std::string_view::npos) return {};
  const auto end = text.find('"', start + before.size());
  return text.substr(start + before.size(), end == std::string_view::npos ? end : end - start - before.size());
}

std::int64_t number_after(std::string_view text, std::string_view before) {
  auto at = text.find(before);
  if (at == std::string_view::npos) return -1;
  std::int64_t value = 0;
  bool any = false;
  for (at += before.size(); at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, any = true) {
    value = value * 10 + (text[at] - '0');
  }
  return any ? value : -1;
}

Client::Client(std::uint16_t port, const std::vector<Plan>& plans)
    : sockets(plans.size()), port_(port), epoll_(epoll_create1(EPOLL_CLOEXEC)), buffer_(std::size_t{4} << 20) {
  if (epoll_ < 0) fail("epoll_create1: " + std::string(std::strerror(errno)));
  for (std::size_t i = 0; i < plans.size(); ++i) {
    sockets[i].number = static_cast<std::uint32_t>(i);
    sockets[i].plan = &plans[i];
  }
}

Client::~Client() {
  for (Socket& socket : sockets) {
    if (socket.fd >= 0) ::close(socket.fd);
  }
  ::close(epoll_);
}

void Client::open(Socket& socket) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket " + std::to_string(socket.number) + ": " + std::strerror(errno));
  socket.fd = fd;
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  sockaddr_in from{}, to{};
  from.sin_family = to.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + static_cast<std::uint32_t>(socket.number / sockets_an_address));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(port_);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) != 0) {
    fail("bind: " + std::string(std::strerror(errno)));
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
    fail("connect: " + std::string(std::strerror(errno)));
  }
  epoll_event event{EPOLLIN, {.u64 = socket.number}};
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  socket.state = Socket::State::shaking;
  ++opening_;
  std::string request = "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
  request += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ";
  request += key;
  request += "\r\nAuthorization: Bearer " + socket.plan->token + "\r\n\r\n";
  send_bytes(socket, request);
}

void Client::open_all(bool with_first_frame, double patience_s) {
  with_first_frame_ = with_first_frame;
  const std::int64_t deadline = now_ns() + static_cast<std::int64_t>(patience_s * 1e9);
  std::size_t next = 0;
  while (ready_ < sockets.size()) {
    while (next < sockets.size() && opening_ < opening_at_once) open(sockets[next++]);
    const std::size_t before = ready_;
    serve(deadline, [&] { return ready_ != before || closed != 0 || errors != 0; });
    if (closed != 0 || errors != 0) fail("a socket did not open: " + first_fault);
    if (now_ns() >= deadline)
      fail(std::to_string(ready_) + " of " + std::to_string(sockets.size()) + " sockets are open");
  }
}

void Client::became_ready(Socket& socket) {
  if (socket.state == Socket::State::ready) return;
  socket.state = Socket::State::ready;
  --opening_;
  ++ready_;
}

void Client::serve(std::int64_t until_ns, const std::function<bool()>& done, const std::function<std::int64_t()>& due) {
  epoll_event events[256];
  while (true) {
    std::int64_t wake = until_ns;
    if (due) wake = std::min(wake, due());
    if (done()) return;
    const std::int64_t moment = now_ns();
    if (moment >= until_ns) return;
    const std::int64_t wait = std::max<std::int64_t>(0, wake - moment);
    const timespec timeout{static_cast<time_t>(wait / 1'000'000'000), static_cast<long>(wait % 1'000'000'000)};
    const int count = ::epoll_pwait2(epoll_, events, 256, &timeout, nullptr);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 & is_other) {
        const int fd = static_cast<int>(events[i].data.u64 & 0xffffffff);
        const auto other =
            std::find_if(others_.begin(), others_.end(), [&](const auto& one) { return one.first == fd; });
        if (other != others_.end()) other->second();
        continue;
      }
      Socket& socket = sockets[events[i].data.u64];
      if (events[i].events & EPOLLOUT) flush(socket);
      if (events[i].events & ~static_cast<unsigned>(EPOLLOUT)) readable(socket);
    }
  }
}

void Client::watch(int fd, std::function<void()> action) {
  others_.emplace_back(fd, std::move(action));
  epoll_event event{EPOLLIN, {.u64 = is_other | static_cast<std::uint32_t>(fd)}};
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

void Client::unwatch(int fd) {
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  std::erase_if(others_, [&](const auto& one) { return one.first == fd; });
}

void Client::readable(Socket& socket) {
  if (socket.state == Socket::State::closed) return;
  const std::size_t kept = socket.rest.size();
  std::memcpy(buffer_.data(), socket.rest.data(), kept);
  const ssize_t got = ::read(socket.fd, buffer_.data() + kept, buffer_.size() - kept);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return end(socket, got == 0 ? "the connection ended" : std::strerror(errno));
  const std::int64_t at = now_ns();
  std::string_view bytes(buffer_.data(), kept + static_cast<std::size_t>(got));
  if (socket.state == Socket::State::shaking) bytes.remove_prefix(take_handshake(socket, bytes));
  if (socket.state != Socket::State::shaking) bytes.remove_prefix(take_frames(socket, bytes, at));
  if (bytes.empty()) {
    if (kept != 0) socket.rest = {};
  } else if (bytes.size() >= buffer_.size()) {
    end(socket, "a frame is too long");
  } else {
    socket.rest.assign(bytes);
  }
}

std::size_t Client::take_handshake(Socket& socket, std::string_view bytes) {
  const auto end_of_head = bytes.find("\r\n\r\n");
  if (end_of_head == std::string_view::npos) return 0;
  const std::string_view head = bytes.substr(0, end_of_head);
  if (!head.starts_with("HTTP/1.1 101 ") || head.find(accept_of_key) == std::string_view::npos) {
    end(socket, bytes.substr(0, 600));
    return bytes.size();
  }
  socket.state = Socket::State::opened;
  return end_of_head + 4;
}

std::size_t Client::take_frames(Socket& socket, std::string_view bytes, std::int64_t at_ns) {
  std::size_t at = 0;
  while (bytes.size() - at >= 2 && socket.state != Socket::State::closed) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[at + i]); };
    std::size_t head = 2, size = byte(1) & 0x7f;
    if (size >= 126) {
      const std::size_t width = size == 126 ? 2 : 8;
      head += width;
      if (bytes.size() - at < head) break;
      size = 0;
      for (std::size_t i = 0; i < width; ++i) size = size << 8 | byte(2 + i);
    }
    if (bytes.size() - at < head + size) break;
    const std::string_view payload = bytes.substr(at + head, size);
    switch (byte(0)) {
      case 0x81:
        take_text(socket, payload, at_ns);
        break;
      case 0x88: {
        std::string why = "closed";
        if (size >= 2) {
          why += " with " +
                 std::to_string((static_cast<std::uint8_t>(payload[0]) << 8) | static_cast<std::uint8_t>(payload[1]));
          why += " " + std::string(payload.substr(2));
        }
        end(socket, why);
        break;
      }
      case 0x89:
        send_frame(socket, 0x8a, payload);
        break;
      case 0x8a:
        break;
      default:
        end(socket, "an unexpected frame");
    }
    at += head + size;
  }
  return socket.state == Socket::State::closed ? bytes.size() : at;
}

void Client::take_text(Socket& socket, std::string_view text, std::int64_t at_ns) {
  if (socket.state == Socket::State::opened) {
    if (text.starts_with(R"({"type":"ready")")) {
      const std::string first = with_first_frame_ ? first_frame(*socket.plan) : std::string();
      first.empty() ? became_ready(socket) : send_text(socket, first);
      return;
    }
    if (text.starts_with(R"({"type":"room_joined")") || text.starts_with(R"({"type":"area_watched")")) {
      became_ready(socket);
      return;
    }
  }
  if (text.starts_with(R"({"type":"error")")) {
    ++errors;
    if (first_fault.empty()) first_fault = text.substr(0, 300);
  }
  if (on_text) on_text(socket, text, at_ns);
}

void Client::send_frame(Socket& socket, std::uint8_t first, std::string_view text) {
  std::string frame;
  frame.reserve(text.size() + 8);
  frame.push_back(static_cast<char>(first));
  if (text.size() < 126) {
    frame.push_back(static_cast<char>(0x80 | text.size()));
  } else {
    frame.push_back(static_cast<char>(0x80 | 126));
    frame.push_back(static_cast<char>(text.size() >> 8));
    frame.push_back(static_cast<char>(text.size() & 0xff));
  }
  frame.append(reinterpret_cast<const char*>(mask), 4);
  for (std::size_t i = 0; i < text.size(); ++i) frame.push_back(static_cast<char>(text[i] ^ mask[i % 4]));
  send_bytes(socket, frame);
}

void Client::send_bytes(Socket& socket, std::string_view bytes) {
  if (socket.fd < 0) return;
  if (socket.unsent.empty()) {
    const ssize_t sent = ::send(socket.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN && errno != EINPROGRESS && errno != ENOTCONN) {
      return end(socket, std::strerror(errno));
    }
  }
  if (bytes.empty()) return;
  socket.unsent.append(bytes);
  if (socket.wants_out) return;
  socket.wants_out = true;
  epoll_event event{EPOLLIN | EPOLLOUT, {.u64 = socket.number}};
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, socket.fd, &event);
}

void Client::flush(Socket& socket) {
  if (socket.fd < 0) return;
  const ssize_t sent = ::send(socket.fd, socket.unsent.data(), socket.unsent.size(), MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN) end(socket, std::strerror(errno));
    return;
  }
  socket.unsent.erase(0, static_cast<std::size_t>(sent));
  if (!socket.unsent.empty()) return;
  socket.unsent = {};
  socket.wants_out = false;
  epoll_event event{EPOLLIN, {.u64 = socket.number}};
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, socket.fd, &event);
}

void Client::end(Socket& socket, std::string_view why) {
  if (socket.state == Socket::State::closed) return;
  socket.state = Socket::State::closed;
  ::close(socket.fd);
  socket.fd = -1;
  ++closed;
  if (first_fault.empty()) first_fault = why;
}

}  // namespace hourz::load
