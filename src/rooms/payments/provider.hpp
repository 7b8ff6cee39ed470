// The payment provider: whoever really moves a payer's money. An interface, since it will be another one some day; the
// one that is here is a mock. Both calls name what they mean by a key, and asking again with the same key never charges
// or pays twice: that is how an answer that got lost is found out. A call may take its time, ten seconds at most, and
// is never made while a transaction of the database is open.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "core/ids.hpp"
#include "core/money.hpp"

namespace hourz::payments {

enum class Charge {
  charged,
  declined,  ///< for good: the same key is not charged later
  unknown,   ///< no answer: it may or may not have been charged; ask again
};

class Provider {
 public:
  Provider() = default;
  Provider(const Provider&) = delete;
  Provider& operator=(const Provider&) = delete;
  virtual ~Provider() = default;

  /// Its methods, the first one being the default.
  virtual std::vector<std::string> methods() const = 0;

  /// Takes the amount from the payer, once for a key. Called by several threads.
  virtual boost::asio::awaitable<Charge> charge(Uuid key, std::string method, Money amount) = 0;

  /// Gives back so much of what was charged with the key; a charge with it that comes later is declined. False when the
  /// answer did not come: ask again.
  virtual boost::asio::awaitable<bool> pay_back(Uuid key, std::string method, Money amount) = 0;
};

/// Moves no money. What happens is in the method's name: `mock_card` is charged, `mock_declined` declined, `mock_slow`
/// charged after a while, and `mock_timeout` charged without an answer, which the second try gives.
class MockProvider : public Provider {
 public:
  explicit MockProvider(std::chrono::milliseconds slow = std::chrono::milliseconds(1500)) : slow_(slow) {}
  std::vector<std::string> methods() const override;
  boost::asio::awaitable<Charge> charge(Uuid key, std::string method, Money amount) override;
  boost::asio::awaitable<bool> pay_back(Uuid key, std::string method, Money amount) override;

 private:
  const std::chrono::milliseconds slow_;
  std::mutex mutex_;  ///< the shards share the provider, as they would a real one
  std::map<Uuid, int> unanswered_;
};

}  // namespace hourz::payments
