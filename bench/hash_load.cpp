// How many passwords a second the server's own pool verifies when it does nothing else: `hourz_hash_load SECONDS`.
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/crypto.hpp"
#include "rooms/auth/passwords.hpp"

namespace {

using Clock = std::chrono::steady_clock;

boost::asio::awaitable<void> verify_until(hourz::auth::Hasher& hasher, Clock::time_point end, int& done) {
  const std::string stored = co_await hasher.hash("hourz-demo-2026");
  while (Clock::now() < end && co_await hasher.verify("hourz-demo-2026", stored)) ++done;
}

}  // namespace

int main(int count, char** values) {
  if (count != 2) return 2;
  hourz::start_crypto();
  boost::asio::io_context context;
  hourz::auth::Hasher hasher({}, 0, 256);
  const auto began = Clock::now();
  const auto end =
      began + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::atof(values[1])));
  int done = 0;
  for (int i = 0; i < 16; ++i) {
    boost::asio::co_spawn(context, verify_until(hasher, end, done), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
  }
  context.run();
  hasher.stop();
  std::printf("%.3f\n", done / std::chrono::duration<double>(Clock::now() - began).count());
}
