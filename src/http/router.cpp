#include "http/router.hpp"

#include "http/etag.hpp"

#include <algorithm>
#include <stdexcept>

namespace hourz::http {

std::string_view to_text(Method method) {
  switch (method) {
    case Method::get:
      return "GET";
    case Method::head:
      return "HEAD";
    case Method::post:
      return "POST";
    case Method::put:
      return "PUT";
    case Method::patch:
      return "PATCH";
    case Method::del:
      return "DELETE";
    case Method::options:
      return "OPTIONS";
    case Method::other:
      break;
  }
  return "OTHER";
}

void Call::require_match(std::int64_t current_version) const {
  const auto field = head.header("if-match");
  if (field && !names_version(*field, current_version)) throw Problem(ErrorCode::precondition_failed);
}

struct Router::Node {
  std::map<std::string, std::unique_ptr<Node>, std::less<>> children;
  std::unique_ptr<Node> parameter;
  std::string parameter_name;
  std::map<Method, const Bound*> methods;
};

Router::Router() : root_(std::make_unique<Node>()) {}
Router::~Router() = default;

void Router::insert(std::unique_ptr<Bound> bound) {
  Node* node = root_.get();
  std::string_view path = bound->endpoint->path;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const auto end = std::min(path.find('/'), path.size());
    const std::string_view segment = path.substr(0, end);
    path.remove_prefix(end);
    if (segment.starts_with('{')) {
      const std::string name(segment.substr(1, segment.size() - 2));
      if (!node->parameter) {
        node->parameter = std::make_unique<Node>();
        node->parameter_name = name;
      } else if (node->parameter_name != name) {
        throw std::logic_error("two names for one path parameter: " + std::string(bound->endpoint->path));
      }
      node = node->parameter.get();
    } else {
      auto& child = node->children[std::string(segment)];
      if (!child) child = std::make_unique<Node>();
      node = child.get();
    }
  }
  if (!node->methods.emplace(bound->endpoint->method, bound.get()).second) {
    throw std::logic_error("two endpoints for " + std::string(bound->endpoint->path));
  }
  bound->index = bounds_.size();
  bounds_.push_back(std::move(bound));
}

Router::Match Router::find(Method method, std::string_view path) const {
  Match match;
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  if (path.size() > 1 && path.ends_with('/')) return {};  // one slash at the end is another spelling, two are not
  const Node* node = root_.get();
  while (!path.empty() && path != "/") {
    path.remove_prefix(1);
    const auto end = std::min(path.find('/'), path.size());
    const std::string_view segment = path.substr(0, end);
    path.remove_prefix(end);
    if (segment.empty()) return {};
    if (const auto child = node->children.find(segment); child != node->children.end()) {
      node = child->second.get();
    } else if (node->parameter) {
      auto value = reflect::percent_decode(segment, false);
      if (!value) return {};
      match.path_parameters.emplace_back(node->parameter_name, std::move(*value));
      node = node->parameter.get();
    } else {
      return {};
    }
  }
  if (node->methods.empty()) return {};
  // PATCH is the same operation as PUT (partial bodies), HEAD as GET.
  const Method asked = method == Method::head ? Method::get : method == Method::patch ? Method::put : method;
  if (const auto found = node->methods.find(asked); found != node->methods.end()) match.bound = found->second;
  for (const auto& [known, bound] : node->methods) {
    match.allow += (match.allow.empty() ? "" : ", ") + std::string(to_text(known));
    if (known == Method::get) match.allow += ", HEAD";
    if (known == Method::put) match.allow += ", PATCH";
  }
  match.allow += ", OPTIONS";
  return match;
}

void require_json(const Call& call) {
  if (call.content_type == "application/json") return;
  throw Problem(ErrorCode::unsupported_media_type, "The body must be sent as application/json.")
      .header("Accept-Post", "application/json");
}

void Argument<Upload>::describe(OperationSchemas& schemas, reflect::SchemaBook&) {
  using boost::json::array;
  using boost::json::object;
  object file{{"type", "string"},
              {"contentMediaType", "application/octet-stream"},
              {"description", "the bytes of a JPEG, PNG or WebP; name and type as stated are not looked at"}};
  object form{{"type", "object"},
              {"required", array{"file"}},
              {"properties", object{{"file", std::move(file)}}},
              {"additionalProperties", false}};
  schemas.request_body =
      object{{"required", true}, {"content", object{{"multipart/form-data", object{{"schema", std::move(form)}}}}}};
}

void refuse_body(const Call& call) {
  if (call.body.empty() || call.endpoint.method == Method::get) return;
  require_json(call);
  const auto document = reflect::parse_json(call.body);
  std::vector<Fault> faults;
  if (!document.is_object()) {
    faults.push_back({"", "wrong_type", "must be an object"});
  } else {
    for (const auto& pair : document.get_object()) {
      faults.push_back(
          {std::string(std::string_view(pair.key()).substr(0, 64)), "unknown_field", "is not a field of this request"});
    }
  }
  if (!faults.empty()) throw Problem(std::move(faults));
}

void refuse_query(const Call& call) {
  if (call.query.empty() || !call.endpoint.path.starts_with("/api")) return;
  std::vector<Fault> faults;
  for (const auto& [name, value] : reflect::parse_query(call.query)) {
    faults.push_back({name.substr(0, 64), "unknown_parameter", "is not a parameter of this request"});
  }
  if (!faults.empty()) throw Problem(std::move(faults));
}

boost::json::object json_body(boost::json::object schema, bool required) {
  return {{"required", required},
          {"content", boost::json::object{{"application/json", boost::json::object{{"schema", std::move(schema)}}}}}};
}

}  // namespace hourz::http
