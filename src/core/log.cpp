#include "core/log.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

#include "core/json_text.hpp"
#include "core/time.hpp"

namespace hourz::log {
namespace {

std::atomic<Level> least{Level::info};
std::shared_ptr<spdlog::logger> logger;  // set before threads start, reset after they end

constexpr std::string_view names[] = {"debug", "info", "warn", "error"};

}  // namespace

void start(std::string_view least_level) {
  for (int i = 0; i < 4; ++i) {
    if (names[i] == least_level) least = static_cast<Level>(i);
  }
  spdlog::init_thread_pool(16384, 1);
  logger = std::make_shared<spdlog::async_logger>("hourz", std::make_shared<spdlog::sinks::stderr_sink_mt>(),
                                                  spdlog::thread_pool(), spdlog::async_overflow_policy::overrun_oldest);
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);
  spdlog::register_logger(logger);
  spdlog::flush_every(std::chrono::seconds(1));
}

void stop() {
  logger.reset();
  spdlog::shutdown();
}

bool enabled(Level level) { return level >= least.load(std::memory_order_relaxed); }

std::uint64_t dropped() {
  const auto pool = spdlog::thread_pool();
  return pool ? pool->overrun_counter() : 0;
}

Line::Line(Level level, std::string_view event) : level_(level) {
  if (!enabled(level)) return;
  text_.reserve(256);
  text_ += "{\"time\":\"";
  text_ += to_string(now());
  text_ += "\",\"level\":\"";
  text_ += names[static_cast<int>(level)];
  text_ += "\",\"event\":";
  append_json_string(text_, event);
}

Line::~Line() {
  if (text_.empty() || !logger) return;
  text_ += '}';
  logger->log(spdlog::level::info, spdlog::string_view_t(text_.data(), text_.size()));
  if (level_ >= Level::warn) logger->flush();
}

Line& Line::with(std::string_view field, std::string_view value) {
  if (text_.empty()) return *this;
  text_ += ',';
  append_json_string(text_, field);
  text_ += ':';
  append_json_string(text_, value);
  return *this;
}

Line& Line::with(std::string_view field, std::int64_t value) {
  if (text_.empty()) return *this;
  text_ += ',';
  append_json_string(text_, field);
  text_ += ':';
  text_ += std::to_string(value);
  return *this;
}

}  // namespace hourz::log
