// Events of the WebSocket, declared like endpoints: a constant beside its handler gives the name, the data's type, the
// answer and the errors, and from these come the dispatch, the check of every frame and the AsyncAPI document. One
// EventBook a shard, since a handler's Deps hold what belongs to the shard's connections.
//
// A frame is `{"type": …, "id"?: …, "data": {…}}`; what is wrong with it is answered by an `error` event with the
// frame's id, and the connection stays.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/call.hpp"
#include "realtime/socket.hpp"
#include "reflect/walk.hpp"

namespace hourz::realtime {

struct ClientEvent {
  std::string_view name;
  std::string_view summary;
  std::string_view answer = {};  ///< name of the server event that answers; empty: none
  http::Errors errors = {};
  bool anonymous = false;  ///< allowed before anybody has authenticated
  http::RateClass rate =
      http::RateClass::none;  ///< what pays besides the frame, of an event that reads much: as opening
};

struct ServerEvent {
  std::string_view name;
  std::string_view summary;
};

/// The whole message; `reply` is the JSON text of the id that it answers, or empty.
template <class D>
Frame frame_of(const ServerEvent& event, const D& data, std::string_view reply = {}) {
  std::string text;
  text.reserve(512);
  text += "{\"type\":\"";
  text += event.name;
  text += '"';
  if (!reply.empty()) {
    text += ",\"id\":";
    text += reply;
  }
  text += ",\"data\":";
  reflect::write_json(text, data);
  text += '}';
  return text_frame(text);
}

/// One open socket as rooms see it. Belongs to its shard; gone after the hooks of on_close() have run.
class Connection {
 public:
  Connection(db::Client& client, std::string peer) : database(client), address(std::move(peer)) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  const Uuid id = make_uuid();
  db::Client& database;
  const std::string address;           ///< the client's
  std::optional<http::Caller> caller;  ///< not there until it has authenticated

  const Uuid& user() const { return caller->user_id; }

  void send(Frame frame) {
    if (wire != nullptr && !closing) wire->send(std::move(frame));
  }
  template <class D>
  void send(const ServerEvent& event, const D& data, std::string_view reply = {}) {
    send(frame_of(event, data, reply));
  }
  void close(CloseCode code, std::string_view reason = {});

  /// Runs once, when the connection ends. Must not throw.
  void on_close(std::function<void()> action) { at_end_.push_back(std::move(action)); }

  /// Drops the hooks.
  void abandon() { at_end_.clear(); }

  Wire* wire = nullptr;  ///< the gateway's
  bool closing = false;

 private:
  std::vector<std::function<void()>> at_end_;
};

/// One frame on its way through a handler.
struct Incoming {
  Connection& from;
  std::string reply;  ///< JSON text of the frame's id, or empty

  const Uuid& user() const { return from.user(); }
  template <class D>
  void answer(const ServerEvent& event, const D& data) {
    from.send(event, data, reply);
  }
};

class EventBook {
 public:
  struct Entry {
    const ClientEvent* event;
    std::function<Awaitable<void>(Incoming&, const boost::json::value& data)> invoke;
    std::function<boost::json::object(reflect::SchemaBook&)> schema;
  };
  struct Sent {
    const ServerEvent* event;
    std::function<boost::json::object(reflect::SchemaBook&)> schema;
  };

  /// `deps` must outlive the book; `event` must be a constant. The data is read with every fault at once, as a body is.
  template <class Deps, class D>
  void on(const ClientEvent& event, Awaitable<void> (*handler)(Deps&, Incoming&, D), Deps& deps) {
    add({&event,
         [handler, room = &deps](Incoming& in, const boost::json::value& data) {
           D read{};
           reflect::Faults faults;
           reflect::read_object(data, read, reflect::Place{nullptr, "data"}, faults);
           if (!faults.empty()) throw Problem(std::move(faults));
           return handler(*room, in, std::move(read));
         },
         [](reflect::SchemaBook& book) { return reflect::schema_of<D>(book); }});
  }

  /// For the document alone: an event that somebody else than a room answers.
  template <class D>
  void declares(const ClientEvent& event) {
    add({&event, {}, [](reflect::SchemaBook& book) { return reflect::schema_of<D>(book); }});
  }

  /// Declares what the server sends, for the document.
  template <class D>
  void sends(const ServerEvent& event) {
    sent_.push_back({&event, [](reflect::SchemaBook& book) { return reflect::schema_of<D>(book); }});
  }

  const Entry* find(std::string_view name) const;
  const std::map<std::string_view, Entry>& received() const { return received_; }
  const std::vector<Sent>& sent() const { return sent_; }

 private:
  void add(Entry entry);
  std::map<std::string_view, Entry> received_;
  std::vector<Sent> sent_;
};

/// The AsyncAPI 3.0 document: the same constants and types that dispatch and check.
boost::json::object asyncapi_document(const EventBook& book);

}  // namespace hourz::realtime
