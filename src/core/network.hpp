// Internet addresses and networks as text in, bytes inside: whether an address lies in a list of networks (CIDR), how
// an address is written, and by which part of it a client is counted. An IPv4 address written as IPv6 is the IPv4 one.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hourz {

/// IPv4 as its mapped IPv6 address.
using AddressBytes = std::array<std::uint8_t, 16>;

/// An address without port, zone and brackets; nothing for any other text.
std::optional<AddressBytes> parse_address(std::string_view text);
std::string to_text(const AddressBytes& address);
bool is_ipv4(const AddressBytes& address);

class Networks {
 public:
  Networks() = default;

  /// `10.0.0.0/8, 192.0.2.7, 2001:db8::/32`; nothing when one of them is no network, or has bits behind its prefix.
  static std::optional<Networks> parse(std::string_view list);

  bool empty() const { return networks_.empty(); }
  bool contain(const AddressBytes& address) const;

 private:
  struct Network {
    AddressBytes first;
    int prefix_bits = 128;
  };
  std::vector<Network> networks_;
};

/// What stands for a client in a count by address: an IPv4 address, or the /64 of an IPv6 address, which is what one
/// subscriber is given. The text itself when it is no address.
std::string network_of_client(std::string_view address);

}  // namespace hourz
