#include "redis/wire.hpp"

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <stdexcept>
#include <vector>

namespace hourz::redis {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr int most_elements = 64;  ///< of an array; ours have three

/// hiredis' own builder of replies, but for arrays so long that to make room for them would end the process.
redisReplyObjectFunctions* reply_builder() {
  static void* (*const make_array)(const redisReadTask*, int) = [] {
    const std::unique_ptr<redisReader, void (*)(redisReader*)> probe(redisReaderCreate(), redisReaderFree);
    return probe->fn->createArray;
  }();
  static redisReplyObjectFunctions builder = [] {
    const std::unique_ptr<redisReader, void (*)(redisReader*)> probe(redisReaderCreate(), redisReaderFree);
    redisReplyObjectFunctions made = *probe->fn;
    made.createArray = [](const redisReadTask* task, int elements) -> void* {
      return elements > most_elements ? nullptr : make_array(task, elements);
    };
    return made;
  }();
  return &builder;
}

[[noreturn]] void refuse(const char* what) {
  throw std::invalid_argument(std::string("must be redis://[:password@]host[:port][/database]: ") + what);
}

template <class T>
T whole_number(std::string_view text, T most, const char* what) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0 || value > most) refuse(what);
  return value;
}

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    unsigned value = 0;
    const char* first = text.data() + i + 1;
    if (i + 2 >= text.size()) refuse("the user or the password is not well encoded");
    const auto [end, error] = std::from_chars(first, first + 2, value, 16);
    if (error != std::errc{} || end != first + 2) refuse("the user or the password is not well encoded");
    decoded.push_back(static_cast<char>(value));
    i += 2;
  }
  return decoded;
}

}  // namespace

Address parse_url(std::string_view url) {
  constexpr std::string_view scheme = "redis://";
  if (!url.starts_with(scheme)) refuse("another scheme");
  url.remove_prefix(scheme.size());
  Address address;
  std::string_view authority = url.substr(0, url.find('/'));
  if (authority.size() < url.size()) {
    const std::string_view database = url.substr(authority.size() + 1);
    if (!database.empty()) address.database = whole_number(database, 1'000'000, "the database is not a number");
  }
  if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
    const std::string_view who = authority.substr(0, at);
    const auto colon = who.find(':');
    if (colon == std::string_view::npos) refuse("a user without a password");
    address.user = percent_decoded(who.substr(0, colon));
    address.password = percent_decoded(who.substr(colon + 1));
    if (address.password.empty()) refuse("the password is empty");
    authority.remove_prefix(at + 1);
  }
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto end = authority.find(']');
    if (end == std::string_view::npos) refuse("a bracket is open");
    address.host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
  } else {
    address.host = authority.substr(0, authority.find(':'));
    port = authority.substr(address.host.size());
  }
  if (address.host.empty()) refuse("the host is missing");
  if (!port.empty()) {
    if (port.front() != ':') refuse("the port is not a number");
    address.port = static_cast<std::uint16_t>(whole_number(port.substr(1), 65535, "the port is not a number"));
    if (address.port == 0) refuse("the port is not a number");
  }
  return address;
}

std::string command(std::initializer_list<std::string_view> words) {
  std::vector<const char*> starts;
  std::vector<std::size_t> lengths;
  for (const std::string_view word : words) {
    starts.push_back(word.data());
    lengths.push_back(word.size());
  }
  char* raw = nullptr;
  const int length = redisFormatCommandArgv(&raw, static_cast<int>(starts.size()), starts.data(), lengths.data());
  if (length < 0) throw std::bad_alloc();
  const std::unique_ptr<char, void (*)(char*)> command(raw, redisFreeCommand);
  return {command.get(), static_cast<std::size_t>(length)};
}

Wire::Wire(asio::io_context& io) : resolver_(io), socket_(io), timer_(io) {
  reader_.reset(redisReaderCreateWithFunctions(reply_builder()));
  if (!reader_) throw std::bad_alloc();
}

asio::awaitable<bool> Wire::connect(Address address) {
  const auto self = shared_from_this();
  timer_.expires_after(greet_timeout);
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    const auto wire = weak.lock();
    if (!ec && wire) wire->close("no connection in time");
  });
  std::vector<tcp::endpoint> endpoints;
  boost::system::error_code ec;
  if (const auto numeric = asio::ip::make_address(address.host, ec); !ec) {
    endpoints.emplace_back(numeric, address.port);
  } else {
    const auto found = co_await resolver_.async_resolve(address.host, std::to_string(address.port),
                                                        asio::redirect_error(asio::use_awaitable, ec));
    if (ec) close("the host is not found: " + ec.message());
    for (const auto& one : found) endpoints.push_back(one.endpoint());
  }
  for (const tcp::endpoint& endpoint : endpoints) {
    if (!open_) co_return false;
    socket_.close(ec);
    co_await socket_.async_connect(endpoint, asio::redirect_error(asio::use_awaitable, ec));
    if (!open_) co_return false;
    if (ec) continue;
    boost::system::error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    co_return true;
  }
  close(ec ? ec.message() : "the host has no address");
  co_return false;
}

void Wire::greeted() {
  silent_beats_ = 0;
  ping_later();
}

void Wire::ping_later() {
  if (!open_) return;
  timer_.expires_after(beat);  // which ends the deadline of connect(), the first time
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code ec) {
    const auto self = weak.lock();
    if (ec || !self || !self->open_) return;
    if (++self->silent_beats_ > most_silent_beats) return self->close("Redis does not answer");
    // While the socket takes nothing a PING would only wait with the rest.
    if (!self->writing_) self->write(command({"PING"}));
    self->ping_later();
  });
}

asio::awaitable<Reply> Wire::read() {
  const auto self = shared_from_this();
  while (open_) {
    void* raw = nullptr;
    if (redisReaderGetReply(reader_.get(), &raw) != REDIS_OK) {
      close(std::string("not to be understood: ") + reader_->errstr);
      break;
    }
    if (raw != nullptr) co_return Reply(static_cast<redisReply*>(raw));
    if (reader_->len - reader_->pos > longest_reply) {
      close("a reply is too long");
      break;
    }
    boost::system::error_code ec;
    const std::size_t size =
        co_await socket_.async_read_some(asio::buffer(input_), asio::redirect_error(asio::use_awaitable, ec));
    if (!open_) break;
    if (ec) {
      close(ec == asio::error::eof ? "Redis closed the connection" : ec.message());
    } else if (redisReaderFeed(reader_.get(), input_.data(), size) != REDIS_OK) {
      close("out of memory");
    } else {
      silent_beats_ = 0;
    }
  }
  co_return Reply();
}

void Wire::write(std::string commands) {
  if (!open_) return;
  if (queued_.empty()) {
    queued_ = std::move(commands);
  } else {
    queued_ += commands;
  }
  if (!writing_) flush();
}

void Wire::flush() {
  writing_ = true;
  sending_ = std::exchange(queued_, {});
  asio::async_write(socket_, asio::buffer(sending_),
                    [self = shared_from_this()](boost::system::error_code ec, std::size_t) {
                      self->writing_ = false;
                      if (!self->open_) return;
                      if (ec) return self->close(ec.message());
                      if (!self->queued_.empty()) return self->flush();
                      if (self->on_idle) self->on_idle();
                    });
}

void Wire::close(std::string_view why) {
  if (!open_) return;
  open_ = false;
  why_ = why;
  boost::system::error_code ignored;
  resolver_.cancel();
  timer_.cancel();
  socket_.close(ignored);
}

}  // namespace hourz::redis
