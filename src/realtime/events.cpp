#include "realtime/events.hpp"

#include <stdexcept>

namespace hourz::realtime {

Connection::~Connection() {
  wire = nullptr;
  for (const auto& action : at_end_) action();
}

void Connection::close(CloseCode code, std::string_view reason) {
  if (closing || wire == nullptr) return;
  closing = true;
  wire->close(code, reason);
}

const EventBook::Entry* EventBook::find(std::string_view name) const {
  const auto found = received_.find(name);
  return found == received_.end() ? nullptr : &found->second;
}

void EventBook::add(Entry entry) {
  const std::string_view name = entry.event->name;
  if (!received_.emplace(name, std::move(entry)).second) {
    throw std::logic_error("the event " + std::string(name) + " is declared twice");
  }
}

}  // namespace hourz::realtime
