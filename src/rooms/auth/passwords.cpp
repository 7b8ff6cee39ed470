#include "rooms/auth/passwords.hpp"

#include <sodium.h>

#include <algorithm>
#include <stdexcept>

#include "core/text.hpp"
#include "core/worker_pool.hpp"
#include "http/assets.hpp"
#include "rooms/auth/hash_memory.hpp"

namespace hourz::auth {
namespace {

std::string argon2id(std::string_view password, HashCost cost) {
  char out[crypto_pwhash_STRBYTES];
  if (crypto_pwhash_str_alg(out, password.data(), password.size(), cost.passes, cost.memory_bytes,
                            crypto_pwhash_ALG_ARGON2ID13) != 0) {
    throw std::runtime_error("no memory for a password hash");
  }
  return out;
}

}  // namespace

struct Hasher::State {
  State(HashCost wanted, std::size_t threads, std::size_t queue)
      : cost(wanted),
        pool({.threads = threads,
              .queue = queue,
              .busy = "Too many logins just now; try again in a moment.",
              .yielding = true,
              .on_thread = keep_hash_memory,
              .on_quiet = wipe_hash_memory}),
        decoy(argon2id("nobody has this password", wanted)) {}
  HashCost cost;
  WorkerPool pool;
  std::string decoy;  ///< stands in for the hash of an account that is not there
};

Hasher::Hasher(HashCost cost, std::size_t threads, std::size_t queue)
    : state_(std::make_unique<State>(cost, threads, queue)) {}

Hasher::~Hasher() { stop(); }

void Hasher::stop() { state_->pool.stop(); }

namespace {

struct HashWork {
  std::string password;
  HashCost cost;
  std::string operator()() const { return argon2id(password, cost); }
};

struct VerifyWork {
  std::string password;
  std::string stored;
  bool real;
  bool operator()() const {
    const bool same = crypto_pwhash_str_verify(stored.c_str(), password.data(), password.size()) == 0;
    return same && real;
  }
};

}  // namespace

boost::asio::awaitable<std::string> Hasher::hash(std::string password) {
  HashWork work{std::move(password), state_->cost};
  co_return co_await state_->pool.run(std::move(work));
}

boost::asio::awaitable<bool> Hasher::verify(std::string password, std::string stored) {
  const bool real = !stored.empty();
  VerifyWork work{std::move(password), real ? std::move(stored) : state_->decoy, real};
  co_return co_await state_->pool.run(std::move(work));
}

bool Hasher::is_outdated(const std::string& stored) const {
  return crypto_pwhash_str_needs_rehash(stored.c_str(), state_->cost.passes, state_->cost.memory_bytes) != 0;
}

std::size_t Hasher::waiting() const { return state_->pool.waiting(); }

std::optional<Fault> weakness_of(std::string_view password, std::string_view email) {
  const std::string folded = fold_case(password);
  const auto is_common = [](std::string_view word) {
    // The list is sorted, a word a line.
    const std::string_view list = http::common_passwords();
    std::size_t low = 0;
    std::size_t high = list.size();
    while (low < high) {
      const std::size_t middle = low + (high - low) / 2;
      const auto before = list.rfind('\n', middle == 0 ? 0 : middle - 1);
      const std::size_t start = before == std::string_view::npos || middle == 0 ? 0 : before + 1;
      const std::size_t end = std::min(list.find('\n', start), list.size());
      const std::string_view line = list.substr(start, end - start);
      if (line == word) return true;
      if (line < word) {
        low = end + 1;
      } else {
        high = start;
      }
    }
    return false;
  };
  // "password1234": a common word is no better for some digits behind it.
  std::string_view stem = folded;
  while (!stem.empty() &&
         !((stem.back() >= 'a' && stem.back() <= 'z') || static_cast<unsigned char>(stem.back()) >= 0x80)) {
    stem.remove_suffix(1);
  }
  const bool one_character = folded.find_first_not_of(folded.front()) == std::string::npos;
  if (one_character || is_common(folded) || (stem.size() >= 6 && is_common(stem))) {
    return Fault{"password", "too_common", "is among the most common passwords"};
  }
  const std::string_view local = email.substr(0, email.find('@'));
  if (folded == email || folded == local) return Fault{"password", "too_common", "must not be the email address"};
  return std::nullopt;
}

}  // namespace hourz::auth
