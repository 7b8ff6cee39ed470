#include "http/openapi.hpp"

#include <algorithm>
#include <array>
#include <set>

namespace hourz::http {
namespace {

using boost::json::array;
using boost::json::object;

/// What each room is about. A room that is missing here has no description, which the document's lint refuses.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> room_texts{{
    {"account",
     "The whole of the caller's account: everything stored about them as one document, and its deletion for good."},
    {"admin",
     "Reports that anybody can make of a person, a gig or a message; and for administrators what became of them, who "
     "is suspended, and the log of every act of theirs."},
    {"auth",
     "Accounts and sessions: register, log in, refresh, log out, change the password. An access token is short-lived; "
     "a refresh token rotates with every use, and using an old one again ends the session."},
    {"buddies",
     "A list of people to remember, with notes, private to its owner; and which of them are available now, the nearest "
     "first."},
    {"chat",
     "A room for the two sides of an accepted gig. Messages count 1, 2, 3 without gaps in each room; a closed room can "
     "be read and not written. What is live comes over the WebSocket at `/ws`; sending works here too."},
    {"gigs",
     "Gigs from posting to completion: search them by distance, bounds, words and money, see them on a map, accept "
     "one, and take it through its states. Strangers are shown a point that is off by some metres."},
    {"payments",
     "A gig's money: held in escrow once the gig is accepted, released after completion by the seeker or the clock, "
     "given back when the gig is cancelled, and decided on by an administrator when disputed. The provider is a mock; "
     "the ledger behind it is not."},
    {"reviews",
     "What the two sides of a completed gig say of each other, once each, and how the reputation score comes about, "
     "which every review moves at once."},
    {"system", "Health, metrics and the documents of this API. None of them needs a token."},
    {"uploads",
     "Pictures: JPEG, PNG and WebP, made anew without metadata, with a thumbnail; for profiles, gigs and messages. "
     "Served under `/files`, those of messages only to the sides of their rooms."},
    {"users",
     "Profiles, a Helper's fixed location and availability, and the Helpers nearby. Contact details are shown only to "
     "the other side of an accepted gig."},
}};

std::string_view text_of_room(std::string_view room) {
  for (const auto& [name, text] : room_texts) {
    if (name == room) return text;
  }
  return {};
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

object reference(std::string_view kind, std::string_view name) {
  return {{"$ref", "#/components/" + std::string(kind) + "/" + std::string(name)}};
}

object fault_schema() {
  return {{"type", "object"},
          {"description", "One thing that is wrong with a request."},
          {"required", array{"field", "code", "message"}},
          {"properties",
           object{{"field", object{{"type", "string"}, {"description", "as `budget`, `contact_info.phone_number`"}}},
                  {"code", object{{"type", "string"}, {"description", "stable, as `required` or `out_of_range`"}}},
                  {"message", object{{"type", "string"}}}}},
          {"additionalProperties", false}};
}

object problem_schema() {
  object errors{{"type", "array"},
                {"description", "of a 422: every fault of the request"},
                {"items", reference("schemas", "Fault")}};
  return {{"type", "object"},
          {"description", "RFC 9457. `code` is stable; `message` is the same text as `detail`."},
          {"required", array{"type", "title", "status", "detail", "instance", "code", "message", "request_id"}},
          {"properties",
           object{{"type", object{{"type", "string"}, {"format", "uri-reference"}}},
                  {"title", object{{"type", "string"}}},
                  {"status", object{{"type", "integer"}, {"minimum", 400}, {"maximum", 599}}},
                  {"detail", object{{"type", "string"}}},
                  {"instance", object{{"type", "string"}, {"format", "uri-reference"}}},
                  {"code", reference("schemas", "ErrorCode")},
                  {"message", object{{"type", "string"}}},
                  {"request_id", object{{"type", "string"}}},
                  {"errors", std::move(errors)},
                  {"current_status",
                   object{{"type", "string"}, {"description", "of a gig or payment that is in another state"}}},
                  {"allowed", object{{"type", "array"},
                                     {"description", "of an invalid_transition: where the caller may take it"},
                                     {"items", object{{"type", "string"}}}}}}},
          {"additionalProperties", false}};
}

object header(std::string_view description, std::string_view type = "string") {
  return {{"description", description}, {"schema", object{{"type", type}}}};
}

object responses_of(const Bound& bound, const OperationSchemas& schemas) {
  const Endpoint& endpoint = *bound.endpoint;
  object success{{"description", endpoint.status == 201 ? "Made." : endpoint.status == 204 ? "Done." : "The answer."}};
  if (!schemas.answer.empty()) {
    success["content"] = object{{endpoint.media_type, object{{"schema", schemas.answer}}}};
  } else if (endpoint.status == 200) {
    success["content"] = object{{endpoint.media_type, object{{"schema", object{}}}}};
  }
  object headers{{"X-Request-Id", reference("headers", "X-Request-Id")}};
  if (endpoint.status == 201) headers["Location"] = reference("headers", "Location");
  if (endpoint.etag || endpoint.if_match) headers["ETag"] = reference("headers", "ETag");
  if (takes_idempotency_key(endpoint)) headers["Idempotency-Replayed"] = reference("headers", "Idempotency-Replayed");
  if (endpoint.rate != RateClass::none) {
    headers["RateLimit"] = reference("headers", "RateLimit");
    headers["RateLimit-Policy"] = reference("headers", "RateLimit-Policy");
  }
  success["headers"] = std::move(headers);
  object responses{{std::to_string(endpoint.status), std::move(success)}};
  if (endpoint.etag) {
    responses["304"] = object{{"description", "Not changed since the version that If-None-Match names."},
                              {"headers", object{{"ETag", reference("headers", "ETag")}}}};
  }
  if (endpoint.ranges) {
    responses["206"] = object{{"description", "The bytes that Range asked for."},
                              {"headers", object{{"Content-Range", reference("headers", "Content-Range")}}},
                              {"content", object{{endpoint.media_type, object{{"schema", object{}}}}}}};
  }
  std::map<int, std::string> by_status;
  for (const ErrorCode code : errors_of(bound)) {
    std::string& text = by_status[info_of(code).status];
    text += (text.empty() ? "" : ", ") + std::string("`") + std::string(info_of(code).word) + "`";
  }
  for (const auto& [status, words] : by_status) {
    object problem_headers{{"X-Request-Id", reference("headers", "X-Request-Id")}};
    if (status == 401) problem_headers["WWW-Authenticate"] = reference("headers", "WWW-Authenticate");
    if (status == 429 || status == 503) problem_headers["Retry-After"] = reference("headers", "Retry-After");
    responses[std::to_string(status)] =
        object{{"description", words},
               {"content", object{{"application/problem+json", object{{"schema", reference("schemas", "Problem")}}}}},
               {"headers", std::move(problem_headers)}};
  }
  return responses;
}

object operation_of(const Bound& bound, reflect::SchemaBook& book) {
  const Endpoint& endpoint = *bound.endpoint;
  OperationSchemas schemas = bound.describe(book);
  object operation{{"operationId", endpoint.name},
                   {"summary", endpoint.summary},
                   {"description", endpoint.description.empty() ? endpoint.summary : endpoint.description},
                   {"tags", array{room_of(endpoint)}}};
  array parameters;
  for (auto& [name, schema] : schemas.path_parameters) {
    parameters.push_back(object{{"name", name}, {"in", "path"}, {"required", true}, {"schema", std::move(schema)}});
  }
  for (auto& parameter : schemas.query_parameters) {
    object entry{{"name", parameter.name}, {"in", "query"}, {"required", parameter.required}};
    if (!parameter.description.empty()) entry["description"] = parameter.description;
    entry["schema"] = std::move(parameter.schema);
    parameters.push_back(std::move(entry));
  }
  if (takes_idempotency_key(endpoint)) {
    parameters.push_back(reference("parameters", "Idempotency-Key"));
  }
  if (endpoint.if_match) parameters.push_back(reference("parameters", "If-Match"));
  if (endpoint.etag) parameters.push_back(reference("parameters", "If-None-Match"));
  if (endpoint.ranges) parameters.push_back(reference("parameters", "Range"));
  if (!parameters.empty()) operation["parameters"] = std::move(parameters);
  if (!schemas.request_body.empty()) operation["requestBody"] = std::move(schemas.request_body);
  operation["responses"] = responses_of(bound, schemas);
  operation["security"] = endpoint.access == Access::anyone ? array{} : array{object{{"bearer", array{}}}};
  if (endpoint.knows_caller) operation["security"] = array{object{}, object{{"bearer", array{}}}};
  return operation;
}

object parameter(std::string_view name, std::string_view description, object schema) {
  return {{"name", name},
          {"in", "header"},
          {"required", false},
          {"description", description},
          {"schema", std::move(schema)}};
}

void print(std::string& out, const boost::json::value& value, std::size_t indent) {
  const std::string pad(indent + 2, ' ');
  if (const auto* members = value.if_object(); members != nullptr && !members->empty()) {
    out += "{\n";
    bool first = true;
    for (const auto& pair : *members) {
      if (!first) out += ",\n";
      first = false;
      out += pad;
      append_json_string(out, pair.key());
      out += ": ";
      print(out, pair.value(), indent + 2);
    }
    out += "\n" + std::string(indent, ' ') + "}";
  } else if (const auto* items = value.if_array(); items != nullptr && !items->empty()) {
    out += "[\n";
    for (const auto& item : *items) {
      if (&item != &items->front()) out += ",\n";
      out += pad;
      print(out, item, indent + 2);
    }
    out += "\n" + std::string(indent, ' ') + "]";
  } else if (value.is_double()) {
    reflect::Leaf<double>::write(out, value.get_double());
  } else {
    out += boost::json::serialize(value);
  }
}

}  // namespace

std::vector<ErrorCode> errors_of(const Bound& bound) {
  const Endpoint& endpoint = *bound.endpoint;
  std::vector<ErrorCode> codes(endpoint.errors.all().begin(), endpoint.errors.all().end());
  const auto add = [&codes](ErrorCode code) {
    if (std::find(codes.begin(), codes.end(), code) == codes.end()) codes.push_back(code);
  };
  add(ErrorCode::malformed_request);
  add(ErrorCode::duplicate_parameter);
  if (bound.takes_body && !bound.takes_upload) add(ErrorCode::malformed_json);
  if (bound.takes_upload) {
    for (const ErrorCode code : {ErrorCode::length_required, ErrorCode::request_timeout, ErrorCode::overloaded,
                                 ErrorCode::insufficient_storage}) {
      add(code);
    }
  }
  if (endpoint.ranges) add(ErrorCode::range_not_satisfiable);
  add(ErrorCode::body_too_large);
  add(ErrorCode::validation_failed);
  add(ErrorCode::service_unavailable);
  add(ErrorCode::internal_error);
  if (endpoint.rate != RateClass::none) add(ErrorCode::rate_limited);
  if (endpoint.rate == RateClass::standard) add(ErrorCode::overloaded);  // see Pipeline::workload_of
  if (endpoint.access != Access::anyone) {
    add(ErrorCode::unauthenticated);
    add(ErrorCode::token_invalid);
    add(ErrorCode::token_expired);
    add(ErrorCode::session_ended);
    add(ErrorCode::account_suspended);
  }
  if (endpoint.access == Access::admin) add(ErrorCode::forbidden);
  if (endpoint.method != Method::get) add(ErrorCode::unsupported_media_type);
  if (takes_idempotency_key(endpoint)) {
    add(ErrorCode::idempotency_in_progress);
    add(ErrorCode::idempotency_key_reused);
    add(ErrorCode::invalid_idempotency_key);
  }
  if (endpoint.if_match) add(ErrorCode::precondition_failed);
  return codes;
}

object openapi_document(const Router& router) {
  reflect::SchemaBook book;
  *book.enter("Problem", typeid(Problem)) = problem_schema();
  *book.enter("Fault", typeid(Fault)) = fault_schema();
  reflect::schema_of<ErrorCode>(book);
  std::map<std::string, object> paths;
  std::set<std::string> rooms;
  for (const auto& bound : router.endpoints()) {
    const Endpoint& endpoint = *bound->endpoint;
    object operation = operation_of(*bound, book);
    object& path = paths[std::string(endpoint.path)];
    if (endpoint.method == Method::put) {
      object patch = operation;
      patch["operationId"] = std::string(endpoint.name) + "_patch";
      path["patch"] = std::move(patch);
    }
    path[lower(to_text(endpoint.method))] = std::move(operation);
    rooms.emplace(room_of(endpoint));
  }
  object all_paths;
  for (auto& [path, operations] : paths) all_paths[path] = std::move(operations);
  array tags;
  for (const std::string& room : rooms) tags.push_back(object{{"name", room}, {"description", text_of_room(room)}});
  return {
      {"openapi", "3.1.0"},
      {"info",
       object{
           {"title", "Hourz"},
           {"version", "1.0.0"},
           {"summary", "Gigs of an hour or more, from people nearby."},
           {"description",
            "Seekers post gigs on a map, Helpers nearby accept them. JSON in UTF-8; times are RFC 3339 in UTC; money "
            "is a number of baht with at most two decimals; distances are kilometres. Every error is a problem "
            "document (RFC 9457) with a stable `code`. A path with and without a trailing slash is the same "
            "resource; PATCH is the same as PUT; HEAD and OPTIONS work wherever GET does. Enum values are accepted "
            "in any case. The WebSocket's events have a document of their own: /asyncapi.json, as a page "
            "/docs/events."},
           {"license", object{{"name", "MIT"}, {"identifier", "MIT"}}}}},
      {"servers", array{object{{"url", "/"}, {"description", "this server"}}}},
      {"tags", std::move(tags)},
      {"paths", std::move(all_paths)},
      {"components",
       object{
           {"schemas", book.take()},
           {"securitySchemes",
            object{{"bearer", object{{"type", "http"},
                                     {"scheme", "bearer"},
                                     {"bearerFormat", "JWT"},
                                     {"description", "The access token of POST /api/auth/login."}}}}},
           {"parameters",
            object{
                {"Idempotency-Key",
                 parameter("Idempotency-Key",
                           "Makes a retry harmless: the same key, caller and body gives the first answer again for "
                           "24 hours, with `Idempotency-Replayed: true`. Kept are successes and 402, 404 and 409; "
                           "other errors changed nothing and leave the key free.",
                           object{{"type", "string"}, {"minLength", 1}, {"maxLength", 255}})},
                {"If-Match", parameter("If-Match", "Change only this version; else 412.", object{{"type", "string"}})},
                {"Range", parameter("Range", "Part of the file: one range of bytes.", object{{"type", "string"}})},
                {"If-None-Match",
                 parameter("If-None-Match", "Answer 304 when it is still this version.", object{{"type", "string"}})}}},
           {"headers",
            object{{"X-Request-Id", header("Names this request in logs; the caller's own when sane.")},
                   {"Location", header("Where the new resource is.")},
                   {"ETag", header("Version of the resource.")},
                   {"Content-Range", header("Which bytes of how many.")},
                   {"Idempotency-Replayed", header("`true` when this is the first answer given again.")},
                   {"RateLimit", header("What is left: `\"name\";r=requests;t=seconds`. Absent while limits are off.")},
                   {"RateLimit-Policy", header("The limit: `\"name\";q=requests;w=seconds`.")},
                   {"Retry-After", header("Seconds to wait before trying again.", "integer")},
                   {"WWW-Authenticate", header("Bearer, and why a token was refused.")}}}}}};
}

std::string to_pretty_json(const boost::json::value& value) {
  std::string out;
  print(out, value, 0);
  out += '\n';
  return out;
}

}  // namespace hourz::http
