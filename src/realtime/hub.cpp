#include "realtime/hub.hpp"

namespace hourz::realtime {
namespace {

using Lists = std::unordered_map<Uuid, std::vector<Connection*>>;

void drop(Lists& lists, const Uuid& key, Connection* connection) {
  const auto found = lists.find(key);
  if (found == lists.end()) return;
  std::erase(found->second, connection);
  if (found->second.empty()) lists.erase(found);
}

}  // namespace

void Hub::add(Connection& connection) {
  by_user_[connection.caller->user_id].push_back(&connection);
  by_session_[connection.caller->session_id].push_back(&connection);
}

void Hub::remove(Connection& connection) {
  drop(by_user_, connection.caller->user_id, &connection);
  drop(by_session_, connection.caller->session_id, &connection);
}

void Hub::to_user(const Uuid& user, const Frame& frame) {
  const auto found = by_user_.find(user);
  if (found == by_user_.end()) return;
  for (Connection* connection : found->second) connection->send(frame);
}

void Hub::end_session(const Uuid& session) {
  const auto found = by_session_.find(session);
  if (found == by_session_.end()) return;
  for (Connection* connection : found->second) connection->close(CloseCode::session_ended, "the session has ended");
}

void Hub::close_all(CloseCode code, std::string_view reason) {
  for (const auto& [user, connections] : by_user_) {
    for (Connection* connection : connections) connection->close(code, reason);
  }
}

}  // namespace hourz::realtime
