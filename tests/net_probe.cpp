// A server with nothing behind it: src/net with a small fixed service, so that framing, limits, timeouts and draining
// are tested, measured and run under sanitizers without a database. /ws is a WebSocket that does as its messages say.
// Prints `port N` once it listens and `drained` at its end; SIGTERM drains. Each limit is set by an environment
// variable, named in main().
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "net/server.hpp"

namespace {

namespace asio = boost::asio;
using namespace hourz;

constexpr std::uint64_t body_limit = 64 * 1024;

enum class Route { live, echo, login, slow, big };

struct Plan final : http::Admission {
  Route route = Route::live;
  std::string target;
  std::string type;
};

http::Response problem(int status, std::string_view detail) {
  http::Response response;
  response.status = status;
  response.content_type = "application/problem+json";
  response.body = "{\"status\":" + std::to_string(status) + ",\"detail\":\"" + std::string(detail) + "\"}";
  return response;
}

http::Response text(std::string body) {
  http::Response response;
  response.content_type = "text/plain";
  response.body = std::move(body);
  return response;
}

http::Admitted refused(http::Response response) {
  http::Admitted admitted;
  admitted.refusal = std::move(response);
  return admitted;
}

http::Admitted refused(int status, std::string_view detail) { return refused(problem(status, detail)); }

class Probe final : public http::Service {
 public:
  asio::awaitable<http::Response> respond_streamed(std::unique_ptr<http::Admission>, http::BodyReader&) override {
    co_return text("");
  }
  asio::awaitable<http::Admitted> admit(http::RequestHead head) override {
    using http::Method;
    if (head.method == Method::other) {
      const bool known = head.method_text == "TRACE" || head.method_text == "CONNECT";
      co_return refused(known ? 405 : 501, "That method is not served.");
    }
    const std::string path = head.target.substr(0, head.target.find('?'));
    const bool reads = head.method == Method::get || head.method == Method::head;
    const auto authorization = head.header("authorization");
    if (path == "/api/me" || path == "/api/gigs") {
      if (authorization != "Bearer good") co_return refused(401, "No access token.");
      if (path == "/api/me") co_return refused(text("me"));
    }
    if (path == "/fields") {  // what a handler would see
      std::string all = head.target + "\n";
      for (const http::Header& header : head.headers) all += header.name + "=" + header.value + "\n";
      co_return refused(text(all));
    }
    if (path == "/empty") {
      http::Response response;
      response.status = 204;
      co_return refused(std::move(response));
    }
    if (path == "/forge") {
      http::Response response = text("x");
      response.headers.emplace_back("X-Value", "a\r\nX-Forged: 1");
      co_return refused(std::move(response));
    }
    auto plan = std::make_unique<Plan>();
    plan->target = head.target;
    plan->type = head.header("content-type").value_or("text/plain");
    if (path == "/health/live" && reads)
      plan->route = Route::live;
    else if (path == "/slow" && reads)
      plan->route = Route::slow;
    else if (path == "/big" && reads)
      plan->route = Route::big;
    else if (path == "/echo" && head.method == Method::post)
      plan->route = Route::echo;
    else if (path == "/api/auth/login" && head.method == Method::post)
      plan->route = Route::login;
    else if (path == "/api/gigs" && head.method == Method::post)
      plan->route = Route::echo;
    else if (path == "/health/live" || path == "/echo" || path == "/api/auth/login") {
      http::Response response = problem(405, "Not that method.");
      response.headers.emplace_back("Allow", path == "/health/live" ? "GET, HEAD" : "POST");
      co_return refused(std::move(response));
    } else {
      co_return refused(404, "Nothing here.");
    }
    if (head.content_length.value_or(0) > (reads ? 0 : body_limit)) co_return refused(413, "The body is too long.");
    http::Admitted admitted;
    admitted.admission = std::move(plan);
    admitted.body_limit = reads ? 0 : body_limit;
    co_return admitted;
  }

  asio::awaitable<http::Response> respond(std::unique_ptr<http::Admission> admission, std::string body) override {
    const auto& plan = static_cast<const Plan&>(*admission);
    switch (plan.route) {
      case Route::live:
        co_return text("ok");
      case Route::login:
        co_return problem(422, "Nobody can log in here.");
      case Route::echo: {
        http::Response response = text(std::move(body));
        response.content_type = plan.type;
        co_return response;
      }
      case Route::big: {
        static const std::string bytes(8u << 20, 'x');
        http::Response response = text({});
        response.static_body = bytes;
        co_return response;
      }
      case Route::slow:
        break;
    }
    const std::size_t at = plan.target.find("ms=");
    const long pause_ms = at == std::string::npos ? 1000 : std::atol(plan.target.c_str() + at + 3);
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(pause_ms));
    co_await timer.async_wait(asio::use_awaitable);
    co_return text("slow");
  }

  http::Response refuse(int status, std::string_view detail, std::string_view) override {
    return problem(status, detail);
  }
  http::Response turn_away() override { return problem(503, "No room."); }
};

// ---- WebSockets -----------------------------------------------------------------------------------------------------

/// The number behind `name=` in a target, or `fallback`.
long parameter(std::string_view target, std::string_view name, long fallback) {
  const std::size_t at = target.find(std::string(name) + "=");
  return at == std::string_view::npos ? fallback : std::atol(std::string(target.substr(at + name.size() + 1)).c_str());
}

std::atomic<int> sessions_alive = 0;
std::atomic<net::Server*> running_server = nullptr;

/// What it is told, a message a line: `flood COUNT SIZE` sends frames, `all COUNT SIZE` sends them to every socket of
/// the shard, `close CODE REASON` closes, `slow MS` waits, `ticks` and `figures` tell numbers; all else is echoed.
class ProbeSession final : public realtime::Session {
 public:
  ProbeSession(std::vector<ProbeSession*>& others, std::string_view target)
      : others_(others),
        frames_(parameter(target, "frames", -1)),
        binaries_(parameter(target, "binaries", 2)),
        stays_(parameter(target, "stay", 0) != 0),
        greets_(parameter(target, "greet", 0)) {
    ++sessions_alive;
    others_.push_back(this);
  }
  ~ProbeSession() override {
    if (receiving_) std::abort();
    std::erase(others_, this);
    --sessions_alive;
  }

  void opened(realtime::Wire& wire) override {
    wire_ = &wire;
    for (long i = 0; i < greets_; ++i) wire.send(realtime::text_frame("hello " + std::to_string(i)));
  }

  realtime::Awaitable<void> receive(std::string message) override {
    if (receiving_) std::abort();
    receiving_ = true;
    unsigned long a = 0;
    unsigned long b = 0;
    if (std::sscanf(message.c_str(), "flood %lu %lu", &a, &b) == 2) {
      const realtime::Frame frame = realtime::text_frame(std::string(b, 'f'));
      for (unsigned long i = 0; i < a; ++i) wire_->send(frame);
    } else if (std::sscanf(message.c_str(), "all %lu %lu", &a, &b) == 2) {
      const realtime::Frame frame = realtime::text_frame(std::string(b, 'a'));
      for (unsigned long i = 0; i < a; ++i) {
        for (ProbeSession* other : others_) other->wire_->send(frame);
      }
    } else if (std::sscanf(message.c_str(), "close %lu", &a) == 1) {
      const std::size_t reason = message.find(' ', 6);
      wire_->close(static_cast<realtime::CloseCode>(a),
                   reason == std::string::npos ? std::string_view() : std::string_view(message).substr(reason + 1));
      wire_->send(realtime::text_frame("too late"));
    } else if (std::sscanf(message.c_str(), "slow %lu", &a) == 1) {
      asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(a));
      co_await timer.async_wait(asio::use_awaitable);
      wire_->send(realtime::text_frame("slow"));
    } else if (message == "ticks") {
      wire_->send(realtime::text_frame(std::to_string(ticks_)));
    } else if (message == "throw") {
      receiving_ = false;
      throw std::runtime_error("thrown");
    } else if (message == "figures") {
      const auto figures = running_server.load()->figures();
      wire_->send(realtime::text_frame(std::to_string(figures.open) + " " + std::to_string(figures.sockets) + " " +
                                       std::to_string(figures.outbox_bytes) + " " + std::to_string(figures.frames_in) +
                                       " " + std::to_string(figures.frames_out) + " " +
                                       std::to_string(figures.too_slow) + " " + std::to_string(sessions_alive)));
    } else {
      wire_->send(realtime::text_frame(message));
    }
    receiving_ = false;
  }

  void receive_binary() override {
    wire_->send(realtime::text_frame("binary"));
    if (--binaries_ == 0) wire_->close(realtime::CloseCode::unsupported, "Text only.");
  }

  bool admit_frame() override {
    if (frames_ < 0 || frames_-- > 0) return true;
    wire_->close(realtime::CloseCode::too_fast, "Too many frames.");
    return false;
  }

  void tick() override { ++ticks_; }

  void going_away() override {
    if (!stays_) wire_->close(realtime::CloseCode::going_away, "The server is being stopped.");
  }

 private:
  std::vector<ProbeSession*>& others_;  ///< of the shard
  realtime::Wire* wire_ = nullptr;
  long frames_;    ///< still admitted; negative: any number
  long binaries_;  ///< until it has had enough
  bool stays_;
  long greets_;
  bool receiving_ = false;
  int ticks_ = 0;
};

/// /ws, with numbers in its query: `refuse=STATUS`, `wait=MS` before it opens, `named=1` for a subprotocol, and what
/// ProbeSession takes.
class ProbeGateway final : public realtime::Gateway {
 public:
  bool serves(std::string_view target) const override { return target == "/ws" || target.starts_with("/ws?"); }

  realtime::Awaitable<realtime::Opening> open(http::RequestHead head) override {
    realtime::Opening opening;
    if (const long wait_ms = parameter(head.target, "wait", 0); wait_ms > 0) {
      asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(wait_ms));
      co_await timer.async_wait(asio::use_awaitable);
    }
    const auto status = static_cast<int>(parameter(head.target, "refuse", 0));
    if (status != 0) {
      opening.refusal = problem(status, "Not for you.");
      co_return opening;
    }
    if (parameter(head.target, "named", 0) != 0) opening.subprotocol = "hourz.1";
    opening.session = std::make_unique<ProbeSession>(sessions_, head.target);
    co_return opening;
  }

  http::Response refuse(const http::RequestHead&, int status, std::string_view detail) override {
    return problem(status, detail);
  }

 private:
  std::vector<ProbeSession*> sessions_;
};

long setting(const char* name, long fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : std::atol(value);
}

}  // namespace

int main() {
  const auto threads = static_cast<std::size_t>(setting("PROBE_THREADS", 2));
  net::Limits limits;
  limits.connections = static_cast<std::size_t>(setting("PROBE_CONNECTIONS", 10'000));
  limits.requests_per_connection = static_cast<std::uint32_t>(setting("PROBE_REQUESTS", 100'000));
  limits.idle_timeout = std::chrono::milliseconds(setting("PROBE_IDLE_MS", 60'000));
  limits.header_timeout = std::chrono::milliseconds(setting("PROBE_HEADER_MS", 10'000));
  limits.body_timeout = std::chrono::milliseconds(setting("PROBE_BODY_MS", 15'000));
  limits.write_timeout = std::chrono::milliseconds(setting("PROBE_WRITE_MS", 15'000));
  limits.outbox_bytes = static_cast<std::size_t>(setting("PROBE_OUTBOX_BYTES", 1024 * 1024));
  limits.outbox_frames = static_cast<std::size_t>(setting("PROBE_OUTBOX_FRAMES", 512));
  limits.ping_interval = std::chrono::milliseconds(setting("PROBE_PING_MS", 30'000));
  limits.silence = std::chrono::milliseconds(setting("PROBE_SILENCE_MS", 75'000));
  limits.stall_timeout = std::chrono::milliseconds(setting("PROBE_STALL_MS", 30'000));
  limits.close_timeout = std::chrono::milliseconds(setting("PROBE_CLOSE_MS", 1'000));
  const std::chrono::milliseconds drain_time(setting("PROBE_DRAIN_MS", 5'000));

  std::vector<std::unique_ptr<asio::io_context>> contexts;
  std::vector<Probe> services(threads);
  std::vector<ProbeGateway> gateways(threads);
  std::vector<net::Shard> shards;
  for (std::size_t i = 0; i < threads; ++i) {
    contexts.push_back(std::make_unique<asio::io_context>(1));
    shards.push_back({contexts.back().get(), &services[i], &gateways[i]});
  }
  std::vector<asio::executor_work_guard<asio::io_context::executor_type>> guards;
  for (auto& context : contexts) guards.push_back(asio::make_work_guard(*context));

  net::Server server(shards, limits);
  running_server = &server;
  if (const char* name = std::getenv("PROBE_AUTHORITY")) server.allow_authorities({name});
  server.listen("127.0.0.1", static_cast<std::uint16_t>(setting("PROBE_PORT", 0)));

  asio::signal_set signals(*contexts[0], SIGTERM, SIGINT);
  asio::steady_timer last_wait(*contexts[0]);
  signals.async_wait([&](const boost::system::error_code& ec, int) {
    if (ec) return;
    server.drain(drain_time, [&] {
      std::puts("drained");
      // What was cut ends by itself; what sits in a handler is left behind.
      for (auto& guard : guards) guard.reset();
      last_wait.expires_after(std::chrono::milliseconds(800));
      last_wait.async_wait([&](const boost::system::error_code&) {
        for (auto& context : contexts) context->stop();
      });
    });
  });

  std::printf("port %u\n", server.port());
  std::fflush(stdout);
  std::vector<std::thread> crew;
  for (std::size_t i = 1; i < threads; ++i) crew.emplace_back([&context = *contexts[i]] { context.run(); });
  contexts[0]->run();
  for (std::thread& thread : crew) thread.join();
  const auto figures = server.figures();
  std::printf("left=%lld accepted=%llu refused=%llu accept_errors=%llu bad_requests=%llu sockets=%lld sessions=%d\n",
              static_cast<long long>(figures.open), static_cast<unsigned long long>(figures.accepted),
              static_cast<unsigned long long>(figures.refused), static_cast<unsigned long long>(figures.accept_errors),
              static_cast<unsigned long long>(figures.bad_requests), static_cast<long long>(figures.sockets),
              sessions_alive.load());
  return sessions_alive == 0 && figures.sockets == 0 && figures.outbox_bytes == 0 ? 0 : 3;
}
