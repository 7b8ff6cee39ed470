#include "core/network.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "core/text.hpp"

namespace hourz {
namespace {

constexpr AddressBytes mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};

AddressBytes masked(AddressBytes address, int prefix_bits) {
  for (int bit = prefix_bits; bit < 128; ++bit) {
    address[static_cast<std::size_t>(bit / 8)] &= static_cast<std::uint8_t>(~(0x80 >> (bit % 8)));
  }
  return address;
}

}  // namespace

std::optional<AddressBytes> parse_address(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> copy{};
  if (text.empty() || text.size() >= copy.size()) return {};
  std::copy(text.begin(), text.end(), copy.begin());
  AddressBytes address = mapped;
  if (inet_pton(AF_INET, copy.data(), address.data() + 12) == 1) return address;
  if (inet_pton(AF_INET6, copy.data(), address.data()) == 1) return address;
  return {};
}

bool is_ipv4(const AddressBytes& address) { return std::equal(mapped.begin(), mapped.begin() + 12, address.begin()); }

std::string to_text(const AddressBytes& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool short_one = is_ipv4(address);
  inet_ntop(short_one ? AF_INET : AF_INET6, address.data() + (short_one ? 12 : 0), text.data(), text.size());
  return text.data();
}

std::optional<Networks> Networks::parse(std::string_view list) {
  Networks networks;
  for (const std::string_view item : items_of(list)) {
    const auto slash = item.find('/');
    const auto first = parse_address(item.substr(0, slash));
    if (!first) return {};
    const int most = is_ipv4(*first) ? 32 : 128;
    int bits = most;
    if (slash != std::string_view::npos) {
      const std::string_view digits = item.substr(slash + 1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
      if (error != std::errc{} || end != digits.data() + digits.size() || bits < 0 || bits > most) return {};
    }
    const Network network{*first, bits + 128 - most};
    if (masked(network.first, network.prefix_bits) != network.first) return {};
    networks.networks_.push_back(network);
  }
  return networks;
}

bool Networks::contain(const AddressBytes& address) const {
  return std::any_of(networks_.begin(), networks_.end(),
                     [&](const Network& network) { return masked(address, network.prefix_bits) == network.first; });
}

std::string network_of_client(std::string_view address) {
  if (address.find(':') == std::string_view::npos) return std::string(address);
  const auto bytes = parse_address(address);
  if (!bytes || is_ipv4(*bytes)) return std::string(address);
  return to_text(masked(*bytes, 64)) + "/64";
}

}  // namespace hourz
