// From method and path to the endpoint and its handler. Built once at start; read-only afterwards, and shared by all
// shards. Binding a handler derives from its types how arguments are parsed, how the answer is written, and both
// schemas of the OpenAPI document: they cannot disagree with the code.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http/call.hpp"

namespace hourz::http {

/// What the OpenAPI document says of an operation beyond its Endpoint.
struct OperationSchemas {
  std::vector<std::pair<std::string, boost::json::object>> path_parameters;  ///< name, schema
  struct Parameter {
    std::string name;
    boost::json::object schema;
    std::string description;
    bool required;
  };
  std::vector<Parameter> query_parameters;
  boost::json::object request_body;  ///< empty when there is none
  boost::json::object answer;        ///< schema; empty when there is no body
};

struct Bound {
  const Endpoint* endpoint;
  std::function<Awaitable<void>(Call&)> invoke;
  std::function<OperationSchemas(reflect::SchemaBook&)> describe;
  std::size_t index;  ///< of the endpoint in the router
  bool takes_body;    ///< of any kind
  bool takes_form;
  bool takes_upload;
};

class Router {
 public:
  Router();
  ~Router();

  /// `handler` is `Awaitable<R> handler(Deps&, Call&, Path<T>, Query<T>, Body<T> …)`. `endpoint` must be a constant
  /// that lives for the whole process; `deps` must outlive the router.
  template <class Deps, class R, class... Args>
  void add(const Endpoint& endpoint, Awaitable<R> (*handler)(Deps&, Call&, Args...), Deps& deps);

  struct Match {
    const Bound* bound = nullptr;
    reflect::Pairs path_parameters;
    std::string allow;  ///< methods of the path, when the path exists
  };
  Match find(Method method, std::string_view path) const;

  const std::vector<std::unique_ptr<Bound>>& endpoints() const { return bounds_; }

 private:
  void insert(std::unique_ptr<Bound> bound);
  struct Node;
  std::unique_ptr<Node> root_;
  std::vector<std::unique_ptr<Bound>> bounds_;
};

// --- how arguments are made
// -------------------------------------------------------------------------------------------

/// Throws unsupported_media_type unless the body is JSON.
void require_json(const Call& call);

template <class T>
struct Argument;

template <class T>
struct Argument<Path<T>> {
  static Path<T> make(Call& call) { return {reflect::read_pairs<T>(call.path_parameters)}; }
  static void describe(OperationSchemas& schemas, reflect::SchemaBook& book) {
    boost::mp11::mp_for_each<reflect::MembersOf<T>>([&](auto member) {
      using Member = std::remove_cvref_t<decltype(std::declval<T&>().*member.pointer)>;
      schemas.path_parameters.emplace_back(member.name, reflect::schema_of<Member>(book));
    });
  }
};

template <class T>
struct Argument<Query<T>> {
  static Query<T> make(Call& call) { return {reflect::read_pairs<T>(reflect::parse_query(call.query))}; }
  static void describe(OperationSchemas& schemas, reflect::SchemaBook& book) {
    boost::mp11::mp_for_each<reflect::MembersOf<T>>([&](auto member) {
      using Member = std::remove_cvref_t<decltype(std::declval<T&>().*member.pointer)>;
      constexpr bool required = !reflect::is_optional<Member> && !reflect::is_default<Member>;
      boost::json::object schema;
      if constexpr (reflect::is_optional<Member>) {
        schema = reflect::schema_of<typename Member::value_type>(book);  // a query has no null
      } else {
        schema = reflect::schema_of<Member>(book);
      }
      schemas.query_parameters.push_back(
          {member.name, std::move(schema), std::string(reflect::note_of<T>(member.name)), required});
    });
  }
};

boost::json::object json_body(boost::json::object schema, bool required);

template <class T>
struct Argument<Body<T>> {
  static constexpr bool is_body = true;
  static Body<T> make(Call& call) {
    require_json(call);
    return {reflect::read_json<T>(call.body)};
  }
  static void describe(OperationSchemas& schemas, reflect::SchemaBook& book) {
    schemas.request_body = json_body(reflect::schema_of<T>(book), true);
  }
};

template <class T>
struct Argument<OptionalBody<T>> {
  static constexpr bool is_body = true;
  static OptionalBody<T> make(Call& call) {
    if (call.body.empty()) return {};
    require_json(call);
    return {reflect::read_json<T>(call.body)};
  }
  static void describe(OperationSchemas& schemas, reflect::SchemaBook& book) {
    schemas.request_body = json_body(reflect::schema_of<T>(book), false);
  }
};

template <class F, class J>
struct Argument<FormOrBody<F, J>> {
  static constexpr bool is_body = true;
  static constexpr bool is_form = true;
  static FormOrBody<F, J> make(Call& call) {
    if (call.content_type == "application/x-www-form-urlencoded") {
      return {reflect::read_pairs<F>(reflect::parse_query(call.body), true)};
    }
    require_json(call);
    return {reflect::read_json<J>(call.body)};
  }
  static void describe(OperationSchemas& schemas, reflect::SchemaBook& book) {
    schemas.request_body = json_body(reflect::schema_of<J>(book), true);
    auto form = reflect::schema_of<F>(book);
    schemas.request_body["content"].as_object()["application/x-www-form-urlencoded"] =
        boost::json::object{{"schema", std::move(form)}};
  }
};

/// Of a multipart/form-data Content-Type. Throws malformed_request.
std::string boundary_in(std::string_view content_type);

template <>
struct Argument<Upload> {
  static constexpr bool is_body = true;
  static constexpr bool is_upload = true;
  static Upload make(Call& call) { return {call.reader, boundary_in(call.head.header("content-type").value_or(""))}; }
  static void describe(OperationSchemas& schemas, reflect::SchemaBook& book);
};

/// A body where none is expected must be empty or `{}`.
void refuse_body(const Call& call);
/// No parameter is known where none is declared; of the interface alone, since a page's files may carry a `?version`.
void refuse_query(const Call& call);

template <class T>
inline constexpr bool is_query = false;
template <class T>
inline constexpr bool is_query<Query<T>> = true;

template <class T>
concept TakesBody = requires { Argument<T>::is_body; };
template <class T>
concept TakesForm = requires { Argument<T>::is_form; };

template <class T>
concept TakesUpload = requires { Argument<T>::is_upload; };

template <class R>
void answer(Call& call, const R& value) {
  call.response.content_type = "application/json";
  call.response.body.reserve(512);
  reflect::write_json(call.response.body, value);
}

template <class Deps, class R, class... Args>
Awaitable<void> invoke(Awaitable<R> (*handler)(Deps&, Call&, Args...), Deps* deps, Call& call) {
  if constexpr (!(is_query<Args> || ...)) refuse_query(call);
  if constexpr (!(TakesBody<Args> || ...)) refuse_body(call);
  // Arguments are named before the call, so that every one is whole before the handler's frame is made.
  std::tuple<Args...> arguments{Argument<Args>::make(call)...};
  if constexpr (std::is_same_v<R, NoContent> || std::is_void_v<R>) {
    co_await std::apply([&](Args&... args) { return handler(*deps, call, std::move(args)...); }, arguments);
  } else if constexpr (std::is_same_v<R, Response>) {
    Response made =
        co_await std::apply([&](Args&... args) { return handler(*deps, call, std::move(args)...); }, arguments);
    for (auto& header : call.response.headers) made.headers.push_back(std::move(header));
    call.response = std::move(made);
  } else {
    const R result =
        co_await std::apply([&](Args&... args) { return handler(*deps, call, std::move(args)...); }, arguments);
    answer(call, result);
  }
}

template <class Deps, class R, class... Args>
void Router::add(const Endpoint& endpoint, Awaitable<R> (*handler)(Deps&, Call&, Args...), Deps& deps) {
  auto bound = std::make_unique<Bound>();
  bound->endpoint = &endpoint;
  bound->takes_body = (TakesBody<Args> || ...);
  bound->takes_form = (TakesForm<Args> || ...);
  bound->takes_upload = (TakesUpload<Args> || ...);
  bound->invoke = [handler, room = &deps](Call& call) { return http::invoke(handler, room, call); };
  bound->describe = [](reflect::SchemaBook& book) {
    OperationSchemas schemas;
    (Argument<Args>::describe(schemas, book), ...);
    if constexpr (!std::is_same_v<R, NoContent> && !std::is_same_v<R, Response> && !std::is_void_v<R>) {
      schemas.answer = reflect::schema_of<R>(book);
    } else {
      static_cast<void>(book);
    }
    return schemas;
  };
  insert(std::move(bound));
}

}  // namespace hourz::http
