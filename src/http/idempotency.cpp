#include "http/idempotency.hpp"

#include "core/crypto.hpp"
#include "core/problem.hpp"
#include "http/personal.hpp"
#include "http_sql.hpp"

namespace hourz::http {
namespace {

struct KeyOwner {
  Uuid user_id;
  std::string key;
};
BOOST_DESCRIBE_STRUCT(KeyOwner, (), (user_id, key))

struct SavedAnswer {
  db::Bytes fingerprint;
  std::int32_t status;
  std::string headers;
  std::string body;
};
BOOST_DESCRIBE_STRUCT(SavedAnswer, (), (fingerprint, status, headers, body))

struct AnswerToSave {
  Uuid user_id;
  std::string key;
  db::Bytes fingerprint;
  std::int32_t status;
  std::string headers;
  std::string body;
};
BOOST_DESCRIBE_STRUCT(AnswerToSave, (), (user_id, key, fingerprint, status, headers, body))

const db::Query<bool, KeyOwner> take_lock{sql::idempotency_lock};
const db::Query<SavedAnswer, KeyOwner> find_answer{sql::idempotency_find};
const db::Query<db::Nothing, AnswerToSave> save_answer{sql::idempotency_save};
const db::Query<db::Nothing, Uuid> forget_answers{sql::idempotency_forget};

db::Awaitable<void> forget(db::Executor& db, Uuid user) { co_await db::run(db, forget_answers, user); }

Response to_response(SavedAnswer&& saved) {
  Response response;
  response.status = saved.status;
  if (!saved.body.empty()) {
    response.content_type = saved.status >= 400 ? "application/problem+json" : "application/json";
  }
  response.body = std::move(saved.body);
  for (std::string_view rest = saved.headers; !rest.empty();) {
    const auto end = rest.find('\n');
    const auto colon = rest.find(':');
    response.headers.emplace_back(rest.substr(0, colon), rest.substr(colon + 1, end - colon - 1));
    rest.remove_prefix(end + 1);
  }
  response.headers.emplace_back("Idempotency-Replayed", "true");
  return response;
}

}  // namespace

bool is_kept_for_replay(int status) { return status < 300 || status == 402 || status == 404 || status == 409; }

KeyedTransaction::KeyedTransaction(db::Transaction& transaction, Uuid owner, std::string key, std::string fingerprint)
    : owner_(owner), key_(std::move(key)), fingerprint_(std::move(fingerprint)) {
  go_on(transaction);
}

void KeyedTransaction::go_on(db::Transaction& next) {
  transaction_ = &next;
  transaction_->allow_early_commit(false);
  claimed_ = false;
}

db::Awaitable<void> KeyedTransaction::claim() {
  claimed_ = true;
  const KeyOwner owner{owner_, key_};
  if (!co_await db::one(*transaction_, take_lock, owner)) {
    throw Problem(ErrorCode::idempotency_in_progress).retry_after(1);
  }
  auto saved = co_await db::maybe(*transaction_, find_answer, owner);
  if (saved) {
    if (!equal_in_constant_time(saved->fingerprint.value, fingerprint_)) {
      throw Problem(ErrorCode::idempotency_key_reused);
    }
    throw Replay{to_response(std::move(*saved))};
  }
  co_await transaction_->savepoint();
}

db::Awaitable<db::Result> KeyedTransaction::execute(db::Bound bound) {
  if (!claimed_) co_await claim();
  co_return co_await transaction_->execute(std::move(bound));
}

db::Awaitable<void> KeyedTransaction::undo() {
  if (!claimed_) co_await claim();
  co_await transaction_->rollback_to_savepoint();
}

db::Awaitable<void> KeyedTransaction::keep(const Response& response) {
  if (!claimed_) co_await claim();
  std::string headers;
  for (const auto& [name, value] : response.headers) headers += name + ":" + value + "\n";
  const AnswerToSave answer{owner_, key_, db::Bytes{fingerprint_}, response.status, headers, response.body};
  if (co_await db::run(*transaction_, save_answer, answer) == 0) {
    throw db::Error(db::ErrorKind::retryable, "an idempotency key appeared meanwhile");
  }
}

void add_personal_data(PersonalData& data) { data.erasures.emplace_back(forget); }

}  // namespace hourz::http
