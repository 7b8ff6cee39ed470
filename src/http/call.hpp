// One request on its way through an endpoint: who calls, what was sent, and the database as the endpoint may use it.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ids.hpp"
#include "db/database.hpp"
#include "http/endpoint.hpp"
#include "http/idempotency.hpp"
#include "http/rate_gate.hpp"
#include "reflect/walk.hpp"

namespace hourz::http {

template <class T>
using Awaitable = boost::asio::awaitable<T>;

enum class Role { USER, ADMIN };
BOOST_DESCRIBE_ENUM(Role, USER, ADMIN)
constexpr std::string_view schema_name_of(std::type_identity<Role>) { return "Role"; }

struct Caller {
  Uuid user_id;
  Uuid session_id;
  Role role = Role::USER;
  std::int64_t token_ends_s = 0;  ///< Unix seconds; what outlives a request ends with its token
};

class Call {
 public:
  Call(const Endpoint& chosen, const RequestHead& request, db::Client& client, RateGate& rate_gate)
      : endpoint(chosen), head(request), database(client), gate(rate_gate) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  const Endpoint& endpoint;
  const RequestHead& head;
  db::Client& database;
  RateGate& gate;
  RateReports rates;       ///< of quotas that the handler charged, beside the endpoint's own
  Uuid id;                 ///< made here, and the same at every try of the request
  std::string request_id;  ///< for people and logs: the client's own, if it sent one
  std::string address;     ///< the client's, as rate limits and sessions see it
  std::optional<Caller> caller;
  reflect::Pairs path_parameters;
  std::string_view query;  ///< as sent, without `?`
  std::string body;
  BodyReader* reader = nullptr;   ///< the body instead, of an endpoint that takes it piece by piece
  std::string_view content_type;  ///< in lower case, without parameters; empty when none was sent
  Response response;
  std::optional<std::int64_t> version;  ///< of the resource answered with: the front of its ETag

  /// The caller's id; only where the endpoint's access is not `anyone`.
  const Uuid& user() const { return caller->user_id; }

  /// The transaction of a `change`, else the read connections.
  db::Executor& db() {
    if (keyed) return *keyed;
    return transaction ? static_cast<db::Executor&>(*transaction) : database.reads();
  }

  /// Commits what was done so far; what follows is another transaction, begun by its first statement. For a `change`
  /// that waits for an outsider in between, so that nothing is held open meanwhile. An idempotency key is let go of and
  /// claimed anew, and its answer kept with what comes last.
  Awaitable<void> commit_and_go_on() {
    co_await transaction->commit();
    auto next = database.begin();
    if (keyed) keyed->go_on(*next);
    transaction = std::move(next);
  }

  /// Runs after the commit (of a `read`: before the answer), in order; must not throw.
  void after_commit(std::function<void()> action) { after.push_back(std::move(action)); }

  /// Charges a further quota. Throws rate_limited.
  Awaitable<void> charge(RateClass rate, std::string_view subject) { return gate.charge(rate, subject, rates); }

  void header(std::string name, std::string value) { response.headers.emplace_back(std::move(name), std::move(value)); }

  /// Throws precondition_failed unless If-Match is absent, `*`, or names this version.
  void require_match(std::int64_t current_version) const;

  std::unique_ptr<db::Transaction> transaction;
  std::unique_ptr<KeyedTransaction> keyed;  ///< around the transaction, when an idempotency key was sent
  std::vector<std::function<void()>> after;
};

// What a handler may ask for, in any order after the room's Deps& and the Call&.

/// Members named as the path's `{…}`.
template <class T>
struct Path {
  T value;
  const T* operator->() const { return &value; }
};
template <class T>
struct Query {
  T value;
  const T* operator->() const { return &value; }
};
template <class T>
struct Body {
  T value;
  const T* operator->() const { return &value; }
};
/// A body that may be left out; then T's members must all be optional.
template <class T>
struct OptionalBody {
  T value;
  const T* operator->() const { return &value; }
};
/// application/x-www-form-urlencoded (fields that F does not know are ignored) or JSON.
template <class F, class J>
struct FormOrBody {
  std::variant<F, J> value;
};

/// A multipart/form-data body with one file, read piece by piece: see multipart.hpp.
struct Upload {
  BodyReader* body;
  std::string boundary;
};

/// The query of a list without filters.
struct PageQuery {
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
};
BOOST_DESCRIBE_STRUCT(PageQuery, (), (limit, cursor))

/// An answer without a body.
struct NoContent {};

}  // namespace hourz::http
