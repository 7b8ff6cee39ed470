// The few cryptographic parts that Hourz needs, all of them libsodium's.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hourz {

using Mac = std::array<std::uint8_t, 32>;

/// Must run once before any other call here; throws when the system has no randomness.
void start_crypto();

Mac hmac_sha256(std::string_view key, std::string_view message);
Mac sha256(std::string_view message);

/// SipHash-2-4 of 128 bits, for tables that strangers choose the keys of. `key` has 16 bytes.
std::array<std::uint64_t, 2> short_hash(const std::array<std::uint8_t, 16>& key, std::string_view message);

/// Authenticated encryption (XChaCha20-Poly1305) with a random nonce in front; `context` is authenticated, not stored.
/// `key` has 32 bytes.
std::string seal(std::string_view key, std::string_view context, std::string_view plain);
std::optional<std::string> unseal(std::string_view key, std::string_view context, std::string_view sealed);

/// Compares in time that depends on the length alone.
bool equal_in_constant_time(std::string_view a, std::string_view b);
inline std::string_view as_text(const Mac& mac) { return {reinterpret_cast<const char*>(mac.data()), mac.size()}; }

/// base64url without padding; decoding accepts only what encoding writes (no padding, no white space, unused bits 0).
std::string to_base64url(std::string_view bytes);
std::optional<std::string> from_base64url(std::string_view text);

std::string to_hex(std::string_view bytes);
std::string random_bytes(std::size_t count);

}  // namespace hourz
