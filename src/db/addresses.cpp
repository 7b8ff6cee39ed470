#include "db/addresses.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>

namespace hourz::db {
namespace {

namespace asio = boost::asio;
using Resolver = asio::ip::basic_resolver<asio::ip::tcp, IoExecutor>;

std::string* find(Settings& settings, std::string_view key) {
  const auto found = std::ranges::find(settings, key, &Settings::value_type::first);
  return found == settings.end() || found->second.empty() ? nullptr : &found->second;
}

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> items;
  for (;;) {
    const auto comma = list.find(',');
    items.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return items;
    list.remove_prefix(comma + 1);
  }
}

bool is_name(const std::string& host) {
  boost::system::error_code ec;
  asio::ip::make_address(host, ec);
  return ec && !host.empty() && host.front() != '/' && host.front() != '@';
}

/// What a lookup leaves behind; it may end long after its waiter.
struct Lookup {
  explicit Lookup(asio::io_context& io) : resolver(io), timer(io) {}
  Resolver resolver;
  Timer timer;
  boost::system::error_code error = asio::error::timed_out;
  Resolver::results_type found;
};

/// Three lists of libpq's, one item a place; an empty address leaves the host to libpq.
struct Places {
  std::string hosts, addresses, ports;
  bool any = false;

  void add(const std::string& host, const std::string& address, const std::string& port) {
    const std::string comma = std::exchange(any, true) ? "," : "";
    hosts += comma + host;
    addresses += comma + address;
    ports += comma + port;
  }
};

}  // namespace

Awaitable<Settings> with_addresses(asio::io_context& io, Settings settings, std::chrono::milliseconds limit) {
  const std::string* const given = find(settings, "host");
  if (given == nullptr || find(settings, "hostaddr") != nullptr) co_return settings;
  const std::vector<std::string> hosts = split(*given);
  std::string* const port = find(settings, "port");
  const std::vector<std::string> ports = port == nullptr ? std::vector<std::string>{""} : split(*port);
  const bool odd = ports.size() > 1 && ports.size() != hosts.size();  // for libpq to complain of
  if (odd || std::ranges::none_of(hosts, is_name)) co_return settings;
  const auto deadline = Clock::now() + limit;
  Places places;
  std::string failure;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const std::string& at = ports[ports.size() == 1 ? 0 : i];
    if (!is_name(hosts[i])) {
      places.add(hosts[i], "", at);
      continue;
    }
    const auto lookup = std::make_shared<Lookup>(io);
    lookup->resolver.async_resolve(hosts[i], "",
                                   [lookup](boost::system::error_code ec, const Resolver::results_type& found) {
                                     lookup->error = ec;
                                     lookup->found = found;
                                     lookup->timer.cancel();
                                   });
    lookup->timer.expires_at(deadline);
    boost::system::error_code ec;
    co_await lookup->timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    lookup->resolver.cancel();
    if (lookup->error) failure += " " + hosts[i] + ": " + lookup->error.message() + ".";
    for (const auto& entry : lookup->found) places.add(hosts[i], entry.endpoint().address().to_string(), at);
  }
  if (!places.any) throw Error(ErrorKind::unavailable, "no address of the database:" + failure);
  *find(settings, "host") = places.hosts;
  if (ports.size() > 1) *port = places.ports;
  settings.emplace_back("hostaddr", places.addresses);
  co_return settings;
}

}  // namespace hourz::db
