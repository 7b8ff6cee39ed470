// Health, metrics, and the documents.
#include "app/house.hpp"
#include "http/assets.hpp"
#include "http/etag.hpp"

namespace hourz::app {
namespace {

using http::Access;
using http::Awaitable;
using http::Call;
using http::Endpoint;
using http::Method;
using http::Path;
using http::RateClass;
using http::Response;

struct Health {
  static constexpr bool is_answer = true;
  std::string status;
};
BOOST_DESCRIBE_STRUCT(Health, (), (status))

constexpr Endpoint live{.method = Method::get,
                        .path = "/health/live",
                        .name = "system.live",
                        .summary = "The process answers",
                        .access = Access::anyone,
                        .rate = RateClass::none};
constexpr Endpoint ready{.method = Method::get,
                         .path = "/health/ready",
                         .name = "system.ready",
                         .summary = "The service can do its work: the database and the store of files answer",
                         .access = Access::anyone,
                         .rate = RateClass::none};
constexpr Endpoint health{.method = Method::get,
                          .path = "/health",
                          .name = "system.health",
                          .summary = "As /health/ready",
                          .access = Access::anyone,
                          .rate = RateClass::none};
constexpr Endpoint metrics{.method = Method::get,
                           .path = "/metrics",
                           .name = "system.metrics",
                           .summary = "Metrics in Prometheus' text format",
                           .access = Access::anyone,
                           .rate = RateClass::none,
                           .media_type = "text/plain"};
constexpr Endpoint openapi{.method = Method::get,
                           .path = "/openapi.json",
                           .name = "system.openapi",
                           .summary = "This document",
                           .access = Access::anyone,
                           .rate = RateClass::none,
                           .etag = true};
constexpr Endpoint asyncapi{.method = Method::get,
                            .path = "/asyncapi.json",
                            .name = "system.asyncapi",
                            .summary = "The events of the WebSocket, as AsyncAPI 3.0",
                            .access = Access::anyone,
                            .rate = RateClass::none,
                            .etag = true};
constexpr Endpoint docs{.method = Method::get,
                        .path = "/docs",
                        .name = "system.docs",
                        .summary = "This document as a page",
                        .access = Access::anyone,
                        .rate = RateClass::none,
                        .etag = true,
                        .media_type = "text/html"};
constexpr Endpoint docs_file{.method = Method::get,
                             .path = "/docs/{file}",
                             .name = "system.docs_file",
                             .summary = "What the page loads",
                             .access = Access::anyone,
                             .rate = RateClass::none,
                             .errors = {ErrorCode::not_found},
                             .etag = true,
                             .media_type = "*/*"};

Awaitable<Health> get_live(SystemDeps&, Call&) { co_return Health{"ok"}; }

Awaitable<Health> get_ready(SystemDeps& deps, Call& call) {
  if (!deps.ready || !co_await call.database.ping(std::chrono::milliseconds(1000))) {
    throw Problem(ErrorCode::service_unavailable, deps.ready ? "The database does not answer." : "Not ready.")
        .retry_after(1);
  }
  if (!co_await deps.storage_answers()) {
    throw Problem(ErrorCode::service_unavailable, "The store of files does not answer.").retry_after(1);
  }
  co_return Health{"ok"};
}

Awaitable<Response> get_metrics(SystemDeps& deps, Call&) {
  Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = deps.metrics.expose();
  co_return response;
}

/// Whether the client has it already; the answer then needs no body.
bool is_known(const Call& call, std::string_view etag) {
  const auto known = call.head.header("if-none-match");
  return known && http::names_etag(*known, etag);
}

Response document(const Call& call, const std::string& text, const std::string& etag) {
  Response response;
  response.headers.emplace_back("ETag", etag);
  if (is_known(call, etag)) {
    response.status = 304;
    return response;
  }
  response.content_type = "application/json";
  response.static_body = text;
  return response;
}

Awaitable<Response> get_openapi(SystemDeps& deps, Call& call) {
  co_return document(call, deps.openapi, deps.openapi_etag);
}

Awaitable<Response> get_asyncapi(SystemDeps& deps, Call& call) {
  co_return document(call, deps.asyncapi, deps.asyncapi_etag);
}

void add_page_headers(Response& response, const std::string& etag) {
  response.headers.emplace_back("Content-Security-Policy",
                                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                                "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
                                "frame-ancestors 'none'");
  response.headers.emplace_back("Cache-Control", "public, max-age=300");
  response.headers.emplace_back("ETag", etag);
}

Response to_response(const Call& call, const http::Asset* asset) {
  if (asset == nullptr) throw Problem(ErrorCode::not_found);
  Response response;
  response.headers.emplace_back("Vary", "Accept-Encoding");
  const auto accepted = call.head.header("accept-encoding");
  const bool packed = !asset->gzip_bytes.empty() && accepted && accepted->find("gzip") != std::string_view::npos;
  // Other bytes, another strong tag.
  std::string etag(asset->etag);
  if (packed) etag.insert(etag.size() - 1, "-gzip");
  add_page_headers(response, etag);
  if (is_known(call, etag)) {
    response.status = 304;
    return response;
  }
  response.content_type = asset->content_type;
  if (packed) response.headers.emplace_back("Content-Encoding", "gzip");
  response.static_body = packed ? asset->gzip_bytes : asset->bytes;
  return response;
}

Awaitable<Response> get_docs(SystemDeps&, Call& call) { co_return to_response(call, http::find_asset("/docs")); }

struct FilePath {
  Text<1, 100> file;
};
BOOST_DESCRIBE_STRUCT(FilePath, (), (file))

/// What the `type` of every problem document points at.
Response errors_page(const Call& call, const SystemDeps& deps) {
  Response response;
  add_page_headers(response, deps.errors_etag);
  if (is_known(call, deps.errors_etag)) {
    response.status = 304;
    return response;
  }
  response.content_type = "text/html; charset=utf-8";
  response.static_body = deps.errors_page;
  return response;
}

Awaitable<Response> get_docs_file(SystemDeps& deps, Call& call, Path<FilePath> path) {
  if (path->file.value == "errors") co_return errors_page(call, deps);
  co_return to_response(call, http::find_asset("/docs/" + path->file.value));
}

}  // namespace

void install_system(http::Router& router, SystemDeps& deps) {
  router.add(live, get_live, deps);
  router.add(ready, get_ready, deps);
  router.add(health, get_ready, deps);
  router.add(metrics, get_metrics, deps);
  router.add(openapi, get_openapi, deps);
  router.add(asyncapi, get_asyncapi, deps);
  router.add(docs, get_docs, deps);
  router.add(docs_file, get_docs_file, deps);
}

}  // namespace hourz::app
