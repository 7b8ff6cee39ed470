#include "rooms/payments/provider.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace hourz::payments {

std::vector<std::string> MockProvider::methods() const {
  return {"mock_card", "mock_declined", "mock_slow", "mock_timeout"};
}

boost::asio::awaitable<Charge> MockProvider::charge(Uuid key, std::string method, Money) {
  if (method == "mock_declined") co_return Charge::declined;
  if (method == "mock_slow") {
    boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, slow_);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
  if (method == "mock_timeout") {
    const std::scoped_lock lock(mutex_);
    if (unanswered_.try_emplace(key, 1).second) co_return Charge::unknown;
    unanswered_.erase(key);
  }
  co_return Charge::charged;
}

boost::asio::awaitable<bool> MockProvider::pay_back(Uuid key, std::string, Money) {
  const std::scoped_lock lock(mutex_);
  unanswered_.erase(key);
  co_return true;
}

}  // namespace hourz::payments
