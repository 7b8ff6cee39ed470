// Idempotency keys: a retry that does nothing twice. The first answer is kept in the transaction of its effect, so that
// no crash comes between the two, and given again for 24 hours.
//
// The key is claimed by the handler's first statement, not before: work that needs no database (a password's hash) is
// done without holding a connection. The claim is an advisory lock of the transaction, so a crash lets go of it. Kept
// are successes and the refusals that the state of things gave (402, 404, 409); what a caller can mend and what is our
// fault leaves the key free.
#pragma once
#include <string>
#include <string_view>

#include "db/database.hpp"
#include "http/message.hpp"

namespace hourz::http {

/// Leaves the handler of a request whose answer is known already.
struct Replay {
  Response response;
};

bool is_kept_for_replay(int status);

class KeyedTransaction final : public db::Executor {
 public:
  /// `owner` and `key` name the request, `fingerprint` says whether it is the same one. `transaction` is only borrowed.
  KeyedTransaction(db::Transaction& transaction, Uuid owner, std::string key, std::string fingerprint);

  /// The first throws Replay, or Problem idempotency_in_progress or idempotency_key_reused.
  db::Awaitable<db::Result> execute(db::Bound bound) override;

  /// The handler's work goes on in another transaction, whose first statement claims the key again.
  void go_on(db::Transaction& next);

  /// Undoes what the handler did, for an outcome that is to be kept all the same.
  db::Awaitable<void> undo();

  /// Keeps the answer. Throws db::Error retryable when somebody else's answer to the same key appeared meanwhile.
  db::Awaitable<void> keep(const Response& response);

 private:
  db::Awaitable<void> claim();
  db::Transaction* transaction_;
  Uuid owner_;
  std::string key_;
  std::string fingerprint_;
  bool claimed_ = false;
};

}  // namespace hourz::http
