#include <array>

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

/// The same for programs: what may come as `error.code`, each with what it says.
array error_list(const http::Errors& errors) {
  array list;
  for (const ErrorCode code : errors.all()) {
    list.push_back(object{{"code", info_of(code).word}, {"title", info_of(code).title}});
  }
  return list;
}

/// What any frame may be answered with, whatever its event.
constexpr http::Errors common_errors{ErrorCode::malformed_json,         ErrorCode::validation_failed,
                                     ErrorCode::unknown_event,          ErrorCode::unauthenticated,
                                     ErrorCode::unsupported_media_type, ErrorCode::rate_limited,
                                     ErrorCode::service_unavailable,    ErrorCode::overloaded,
                                     ErrorCode::deadline_exceeded,      ErrorCode::internal_error};

constexpr std::array close_codes{CloseCode::normal,         CloseCode::going_away,      CloseCode::protocol_error,
                                 CloseCode::unsupported,    CloseCode::bad_data,        CloseCode::too_big,
                                 CloseCode::internal_error, CloseCode::token_ended,     CloseCode::too_slow,
                                 CloseCode::silent,         CloseCode::resume,          CloseCode::too_fast,
                                 CloseCode::too_many,       CloseCode::unauthenticated, CloseCode::session_ended};

std::string_view meaning_of(CloseCode code) {
  switch (code) {
    case CloseCode::normal:
      return "Either side is done.";
    case CloseCode::going_away:
      return "The server is being stopped: another one is there, or soon this one again.";
    case CloseCode::protocol_error:
      return "The frames break RFC 6455.";
    case CloseCode::unsupported:
      return "Binary messages, five times.";
    case CloseCode::bad_data:
      return "Text that is not UTF-8, or not JSON five times.";
    case CloseCode::too_big:
      return "A message of more than 64 KiB.";
    case CloseCode::internal_error:
      return "Something went wrong on our side.";
    case CloseCode::token_ended:
      return "The access token has ended: get a fresh one. `authenticate` in time avoids this.";
    case CloseCode::too_slow:
      return "The client reads slower than its events come. Nothing stored is lost: resume with `after_seq`.";
    case CloseCode::silent:
      return "Nothing was heard for 75 s (two and a half pings), not even a pong.";
    case CloseCode::resume:
      return "The server cannot promise any more that nothing is missing: resume with `after_seq`.";
    case CloseCode::too_fast:
      return "More frames than the limit, and again after `rate_limited`.";
    case CloseCode::too_many:
      return "The account has as many sockets as it may: close one, or come back later.";
    case CloseCode::unauthenticated:
      return "No token came within 5 s, or a wrong one.";
    case CloseCode::session_ended:
      return "Logged out, password changed, or account suspended.";
  }
  return {};
}

/// What a client does next. Codes below 4000 are RFC 6455's, with no rule in their number.
std::string_view next_step(CloseCode code) {
  switch (code) {
    case CloseCode::normal:
      return "nothing";
    case CloseCode::going_away:
    case CloseCode::internal_error:
      return "come back";
    case CloseCode::token_ended:
      return "come back with a fresh token";
    default:
      if (static_cast<int>(code) < 4000) return "mend the client";
      return static_cast<int>(code) < 4500 ? "come back" : "stay away";
  }
}

array close_code_list() {
  array list;
  for (const CloseCode code : close_codes) {
    list.push_back(object{{"code", static_cast<int>(code)}, {"meaning", meaning_of(code)}, {"next", next_step(code)}});
  }
  return list;
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
    if (auto errors = error_list(entry.event->errors); !errors.empty()) operation["x-errors"] = std::move(errors);
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
                             {"messages", channel_messages},
                             {"x-close-codes", close_code_list()},
                             {"x-errors", error_list(common_errors)}}},
           {"room", object{{"address", "/ws/chat/{room_id}"},
                           {"title", "The socket, with a room joined at once"},
                           {"description", "As /ws, with `join_room` done by the server."},
                           {"parameters", object{{"room_id", object{{"description", "id of a chat room"}}}}},
                           {"messages", channel_messages}}}}},
      {"operations", std::move(operations)},
      {"components",
       object{{"messages", std::move(messages)},
              {"schemas", schema_book.take()},
              {"securitySchemes",
               object{{"bearer", object{{"type", "http"},
                                        {"scheme", "bearer"},
                                        {"bearerFormat", "JWT"},
                                        {"description", "The access token of POST /api/auth/login."}}}}}}}};
}

}  // namespace hourz::realtime
