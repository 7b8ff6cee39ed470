#include "core/crypto.hpp"

#include <sodium.h>

#include <stdexcept>

namespace hourz {

void start_crypto() {
  if (sodium_init() < 0) throw std::runtime_error("libsodium cannot start: no source of randomness");
}

Mac hmac_sha256(std::string_view key, std::string_view message) {
  Mac mac;
  crypto_auth_hmacsha256_state state;
  crypto_auth_hmacsha256_init(&state, reinterpret_cast<const unsigned char*>(key.data()), key.size());
  crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(message.data()), message.size());
  crypto_auth_hmacsha256_final(&state, mac.data());
  return mac;
}

std::array<std::uint64_t, 2> short_hash(const std::array<std::uint8_t, 16>& key, std::string_view message) {
  static_assert(crypto_shorthash_siphashx24_KEYBYTES == 16 && crypto_shorthash_siphashx24_BYTES == 16);
  std::array<std::uint64_t, 2> hash{};
  crypto_shorthash_siphashx24(reinterpret_cast<unsigned char*>(hash.data()),
                              reinterpret_cast<const unsigned char*>(message.data()), message.size(), key.data());
  return hash;
}

Mac sha256(std::string_view message) {
  Mac hash;
  crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(message.data()), message.size());
  return hash;
}

namespace {

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

constexpr std::size_t nonce_bytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t tag_bytes = crypto_aead_xchacha20poly1305_ietf_ABYTES;

void check_key(std::string_view key) {
  if (key.size() != crypto_aead_xchacha20poly1305_ietf_KEYBYTES) throw std::logic_error("a sealing key has 32 bytes");
}

}  // namespace

std::string seal(std::string_view key, std::string_view context, std::string_view plain) {
  check_key(key);
  std::string sealed = random_bytes(nonce_bytes);
  sealed.resize(nonce_bytes + plain.size() + tag_bytes);
  auto* out = reinterpret_cast<unsigned char*>(sealed.data());
  crypto_aead_xchacha20poly1305_ietf_encrypt(out + nonce_bytes, nullptr, bytes_of(plain), plain.size(),
                                             bytes_of(context), context.size(), nullptr, out, bytes_of(key));
  return sealed;
}

std::optional<std::string> unseal(std::string_view key, std::string_view context, std::string_view sealed) {
  check_key(key);
  if (sealed.size() < nonce_bytes + tag_bytes) return std::nullopt;
  std::string plain(sealed.size() - nonce_bytes - tag_bytes, '\0');
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(
          reinterpret_cast<unsigned char*>(plain.data()), nullptr, nullptr, bytes_of(sealed) + nonce_bytes,
          sealed.size() - nonce_bytes, bytes_of(context), context.size(), bytes_of(sealed), bytes_of(key)) != 0) {
    return std::nullopt;
  }
  return plain;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string to_base64url(std::string_view bytes) {
  std::string text(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_URLSAFE_NO_PADDING), '\0');
  sodium_bin2base64(text.data(), text.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  text.pop_back();  // the terminating NUL
  return text;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string bytes(text.size() / 4 * 3 + 3, '\0');
  std::size_t length = 0;
  const char* end = nullptr;
  if (sodium_base642bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(), text.size(), nullptr,
                        &length, &end, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
      end != text.data() + text.size()) {
    return std::nullopt;
  }
  bytes.resize(length);
  if (to_base64url(bytes) != text) return std::nullopt;
  return bytes;
}

std::string to_hex(std::string_view bytes) {
  std::string text(bytes.size() * 2 + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  text.pop_back();
  return text;
}

std::string random_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  randombytes_buf(bytes.data(), count);
  return bytes;
}

}  // namespace hourz
