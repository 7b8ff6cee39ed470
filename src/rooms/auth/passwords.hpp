// Passwords: Argon2id by libsodium, on a bounded pool of low-priority threads, so that a burst of logins neither blocks
// an I/O thread nor fills memory: each thread takes HOURZ_HASH_MEMORY_KIB with its first hash, uses it for all that
// follow (hash_memory.hpp) and wipes it when none waits.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/problem.hpp"

namespace hourz::auth {

struct HashCost {
  std::size_t memory_bytes = 19456 * 1024;
  unsigned long long passes = 2;
};

class Hasher {
 public:
  /// `threads` 0: half the cores, at least one. At most `queue` wait.
  Hasher(HashCost cost, std::size_t threads, std::size_t queue);
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  /// Ends the threads; what waits is dropped. Before the io_contexts that callers run on go.
  void stop();

  /// `$argon2id$v=19$m=…,t=…,p=1$salt$hash`. Throws Problem overloaded when the queue is full.
  boost::asio::awaitable<std::string> hash(std::string password);

  /// With an empty `stored`, as of an unknown user, does the same work and says no. Throws Problem overloaded.
  boost::asio::awaitable<bool> verify(std::string password, std::string stored);

  /// Whether a stored hash was made with less than today's cost.
  bool is_outdated(const std::string& stored) const;

  std::size_t waiting() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What is wrong with a password for this account, if anything: among the commonest, or the email itself.
std::optional<Fault> weakness_of(std::string_view password, std::string_view email);

}  // namespace hourz::auth
