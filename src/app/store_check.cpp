#include "app/store_check.hpp"

#include "core/log.hpp"

namespace hourz::app {

db::Awaitable<bool> StoreCheck::answers() {
  const Clock::rep now = Clock::now().time_since_epoch().count();
  const Clock::rep told = told_;
  if (told != 0 && now - told < times_.lasts.count()) co_return good_;
  Clock::rep since = 0;
  if (!asked_since_.compare_exchange_strong(since, now)) co_return good_&& now - since < times_.patience.count();
  bool good = true;
  try {
    co_await pool_.run([this] { store_.check(); });
  } catch (const std::exception& error) {
    log::Line(log::Level::warn, "storage.unavailable").with("cause", error.what());
    good = false;
  }
  good_ = good;
  told_ = Clock::now().time_since_epoch().count();
  asked_since_ = 0;
  co_return good;
}

}  // namespace hourz::app
