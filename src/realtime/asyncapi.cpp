#include "realtime/events.hpp"

namespace hourz::realtime {
namespace {

using boost::json::array;
using boost::json::object;

object reference(const std::string& path) { return {{"$ref", "#/" + path}}; }

object message_of(std::string_view name, std::string_view summary, std::string_view description, object data,
                  bool from_client) {
  object properties{{"type", object{{"type", "string"}, {"const", name}}},
                    {"id", object{{"description", from_client ? "comes back on the answer"
                                                              : "of the frame that this answers; absent otherwise"},
                                  {"type", array{"string", "integer"}},
                                  {"maxLength", 128}}},
                    {"data", std::move(data)}};
  object message{{"name", name},
                 {"title", name},
                 {"summary", summary},
                 {"contentType", "application/json"},
                 {"payload", object{{"type", "object"},
                                    {"required", array{"type", "data"}},
                                    {"properties", std::move(properties)},
                                    {"additionalProperties", false}}}};
  if (!description.empty()) message["description"] = description;
  return message;
}

std::string errors_of(const ClientEvent& event) {
  std::string text;
  for (const ErrorCode code : event.errors.all()) {
    text += (text.empty() ? "Errors: `" : ", `") + std::string(info_of(code).word) + "`";
  }
  if (!text.empty()) text += ".";
  return text;
}

object message_reference(std::string_view name) { return reference("channels/socket/messages/" + std::string(name)); }

}  // namespace

object asyncapi_document(const EventBook& book) {
  reflect::SchemaBook schema_book;
  object messages, channel_messages, operations;
  for (const auto& [name, entry] : book.received()) {
    const std::string text(name);
    messages[text] = message_of(name, entry.event->summary, errors_of(*entry.event), entry.schema(schema_book), true);
    channel_messages[text] = reference("components/messages/" + text);
    object operation{{"action", "receive"},
                     {"channel", reference("channels/socket")},
                     {"summary", entry.event->summary},
                     {"messages", array{message_reference(name)}}};
    array answers;
    if (!entry.event->answer.empty()) answers.push_back(message_reference(entry.event->answer));
    answers.push_back(message_reference("error"));
    operation["reply"] = object{{"channel", reference("channels/socket")}, {"messages", std::move(answers)}};
    operations["client_" + text] = std::move(operation);
  }
  for (const EventBook::Sent& sent : book.sent()) {
    const std::string text(sent.event->name);
    // `typing` goes both ways, with data of its own each way.
    const std::string key = messages.contains(text) ? text + "_event" : text;
    messages[key] = message_of(text, sent.event->summary, {}, sent.schema(schema_book), false);
    channel_messages[key] = reference("components/messages/" + key);
    operations["server_" + text] = object{{"action", "send"},
                                          {"channel", reference("channels/socket")},
                                          {"summary", sent.event->summary},
                                          {"messages", array{message_reference(key)}}};
  }
  object schemas;
  for (auto& [name, schema] : schema_book) schemas[name] = std::move(schema);
  const std::string frames =
      "Each frame is one JSON object in a text message of at most 64 KiB. Close codes 4000 to 4499 mean come back "
      "(after a pause with jitter; with a fresh token for 4401), 4500 to 4999 do not. 1001 means come back too.";
  return {
      {"asyncapi", "3.0.0"},
      {"info", object{{"title", "Hourz: events of the WebSocket"},
                      {"version", "1.0.0"},
                      {"description",
                       "Chat, presence, alerts for a place, and what happens to a person's gigs, over one WebSocket. " +
                           frames},
                      {"contact", object{{"name", "Hourz"}, {"url", "https://hourz.example/"}}},
                      {"license", object{{"name", "MIT"}, {"url", "https://opensource.org/license/mit"}}},
                      {"tags", array{object{{"name", "realtime"}, {"description", "Events of the WebSocket"}}}}}},
      {"defaultContentType", "application/json"},
      {"servers", object{{"here", object{{"host", "127.0.0.1:8000"},
                                         {"protocol", "ws"},
                                         {"description", "a server on this machine, as ./dev up starts it"},
                                         {"security", array{reference("components/securitySchemes/bearer")}}}}}},
      {"channels",
       object{
           {"socket", object{{"address", "/ws"},
                             {"title", "The socket"},
                             {"description",
                              "Credentials at the upgrade: `Authorization: Bearer`, or `Sec-WebSocket-Protocol: "
                              "hourz.v1, bearer.<token>`, or `?ticket=` from POST /api/ws/ticket, or `?token=`. With "
                              "none, the first frame must be `authenticate` within 5 s."},
                             {"messages", channel_messages}}},
           {"room", object{{"address", "/ws/chat/{room_id}"},
                           {"title", "The socket, with a room joined at once"},
                           {"description", "As /ws, with `join_room` done by the server."},
                           {"parameters", object{{"room_id", object{{"description", "id of a chat room"}}}}},
                           {"messages", channel_messages}}}}},
      {"operations", std::move(operations)},
      {"components",
       object{{"messages", std::move(messages)},
              {"schemas", std::move(schemas)},
              {"securitySchemes",
               object{{"bearer", object{{"type", "http"},
                                        {"scheme", "bearer"},
                                        {"bearerFormat", "JWT"},
                                        {"description", "The access token of POST /api/auth/login."}}}}}}}};
}

}  // namespace hourz::realtime
