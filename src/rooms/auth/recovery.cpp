#include "rooms/auth/recovery.hpp"

#include "auth_sql.hpp"
#include "core/crypto.hpp"
#include "core/log.hpp"

namespace hourz::auth {
namespace {

using http::Access;
using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::NoContent;
using http::RateClass;

constexpr std::string_view for_password = "PASSWORD_RESET";
constexpr std::string_view for_address = "VERIFY_EMAIL";

// --- rows ------------------------------------------------------------------------------------------------------------

struct NewReset {
  Uuid id;
  std::string email;
};
BOOST_DESCRIBE_STRUCT(NewReset, (), (id, email))

struct NewVerification {
  Uuid id, user_id;
};
BOOST_DESCRIBE_STRUCT(NewVerification, (), (id, user_id))

struct MailKey {
  Uuid id;
  std::string purpose;
};
BOOST_DESCRIBE_STRUCT(MailKey, (), (id, purpose))

struct MailHolder {
  Uuid user_id;
  std::string email;
};
BOOST_DESCRIBE_STRUCT(MailHolder, (), (user_id, email))

struct DueMail {
  Uuid id;
  std::string purpose;
  std::int32_t attempts;
  std::string email;
  std::optional<std::string> name;
};
BOOST_DESCRIBE_STRUCT(DueMail, (), (id, purpose, attempts, email, name))

const db::Query<db::Nothing, NewReset> insert_reset{sql::write_reset};
const db::Query<db::Nothing> look_up_asked{sql::look_up_asked};
const db::Query<db::Nothing, NewVerification> insert_verification{sql::write_verification};
const db::Query<MailHolder, MailKey> select_holder{sql::mail_holder};
const db::Query<Uuid, MailKey> take_mail{sql::use_mail};
const db::Query<db::Nothing, Uuid> end_resets{sql::void_resets};
const db::Query<DueMail> claim_due{sql::claim_mail};
const db::Query<MailBacklog> select_backlog{sql::mails_waiting};
const db::Query<db::Nothing, Uuid> mark_sent{sql::mail_sent};
const db::Query<db::Nothing, Uuid> mark_refused{sql::mail_refused};
const db::Query<db::Nothing, Uuid> mark_failed{sql::mail_failed};

// --- tokens ----------------------------------------------------------------------------------------------------------

constexpr std::size_t id_bytes = 16;
constexpr std::size_t mac_bytes = 24;

std::string_view bytes_of(const Uuid& id) { return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()}; }

std::string mac_of(const Deps& deps, const Uuid& id, std::string_view purpose, std::string_view email) {
  std::string text(purpose);
  text += '\0';
  text += bytes_of(id);
  text += email;
  return std::string(as_text(hmac_sha256(deps.mail_key, text)).substr(0, mac_bytes));
}

std::string token_of(const Deps& deps, const Uuid& id, std::string_view purpose, std::string_view email) {
  return to_base64url(std::string(bytes_of(id)) + mac_of(deps, id, purpose, email));
}

Problem bad_token() { return invalid("token", "invalid", "is not known, was used, or is too old"); }

struct Holder {
  Uuid mail_id;
  MailHolder who;
};

/// Throws validation_failed for every token that is not good, whatever is wrong with it.
Awaitable<Holder> holder_of(const Deps& deps, Call& call, std::string_view purpose, std::string token) {
  const auto bytes = from_base64url(token);
  if (!bytes || bytes->size() != id_bytes + mac_bytes) throw bad_token();
  Holder holder;
  std::copy_n(bytes->begin(), id_bytes, holder.mail_id.bytes.begin());
  const MailKey key{holder.mail_id, std::string(purpose)};
  auto who = co_await db::maybe(call.database.reads(), select_holder, key);
  if (!who) throw bad_token();
  const std::string right = mac_of(deps, holder.mail_id, purpose, who->email);
  if (!equal_in_constant_time(right, std::string_view(*bytes).substr(id_bytes))) throw bad_token();
  holder.who = std::move(*who);
  co_return holder;
}

Awaitable<void> use(Call& call, Uuid mail, std::string_view purpose) {
  const MailKey key{mail, std::string(purpose)};
  if (!co_await db::maybe(call.db(), take_mail, key)) throw bad_token();  // somebody was faster
}

// --- a forgotten password --------------------------------------------------------------------------------------------

struct ResetBody {
  Email email;
};
BOOST_DESCRIBE_STRUCT(ResetBody, (), (email))

struct ConfirmBody {
  Text<1, 512> token;
  Secret<8, 128> password;
};
BOOST_DESCRIBE_STRUCT(ConfirmBody, (), (token, password))

struct TokenBody {
  Text<1, 512> token;
};
BOOST_DESCRIBE_STRUCT(TokenBody, (), (token))

constexpr Endpoint reset{
    .method = Method::post,
    .path = "/api/auth/password-reset",
    .name = "auth.password_reset",
    .summary = "Ask for a mail by which to set a new password",
    .description =
        "The answer is the same, and takes as long, whether or not somebody has the address. The mail's "
        "link is good for 30 minutes and once; three mails a quarter of an hour at most.",
    .access = Access::anyone,
    .effect = Effect::change,
    .rate = RateClass::auth,
    .status = 202,
    .idempotent = false};

Awaitable<NoContent> post_reset(Deps&, Call& call, Body<ResetBody> body) {
  co_await call.charge(RateClass::email, body->email.value);
  const NewReset row{make_uuid(), body->email.value};
  co_await db::run_last(call.db(), insert_reset, row);
  co_return NoContent{};
}

constexpr Endpoint confirm{
    .method = Method::post,
    .path = "/api/auth/password-reset/confirm",
    .name = "auth.confirm_password_reset",
    .summary = "Set a new password with the token of a mail",
    .description = "Ends all sessions of the account. A token that is unknown, used or too old is a fault of `token`.",
    .access = Access::anyone,
    .effect = Effect::change,
    .rate = RateClass::auth,
    .status = 204,
    .errors = {ErrorCode::overloaded},
    .idempotent = false};

Awaitable<NoContent> post_confirm(Deps& deps, Call& call, Body<ConfirmBody> body) {
  const Holder holder = co_await holder_of(deps, call, for_password, body->token.value);
  if (auto weak = weakness_of(body->password.value, holder.who.email)) {
    throw invalid(weak->field, weak->code, weak->message);  // the token stays good
  }
  std::string hash = co_await deps.hasher.hash(body->password.value);
  co_await use(call, holder.mail_id, for_password);
  co_await users::reset_password(call.db(), holder.who.user_id, std::move(hash));
  co_await end_other_sessions(call.db(), holder.who.user_id, Uuid{}, "password_reset");
  call.after_commit([&revocations = deps.revocations, user = holder.who.user_id] { revocations.bump(user); });
  log::Line(log::Level::info, "password.reset")
      .with("request_id", call.request_id)
      .with("user_id", to_string(holder.who.user_id));
  co_return NoContent{};
}

// --- a verified address ----------------------------------------------------------------------------------------------

constexpr Endpoint verify{
    .method = Method::post,
    .path = "/api/auth/verify-email",
    .name = "auth.verify_email",
    .summary = "Show by the token of a mail that an address is one's own",
    .description =
        "Registering sends the mail; its link is good for 24 hours and once. A token that is unknown, used "
        "or too old is a fault of `token`.",
    .access = Access::anyone,
    .effect = Effect::change,
    .rate = RateClass::auth,
    .status = 204,
    .idempotent = false};

Awaitable<NoContent> post_verify(Deps& deps, Call& call, Body<TokenBody> body) {
  const Holder holder = co_await holder_of(deps, call, for_address, body->token.value);
  co_await use(call, holder.mail_id, for_address);
  co_await users::verify_email(call.db(), holder.who.user_id);
  co_return NoContent{};
}

constexpr Endpoint resend{
    .method = Method::post,
    .path = "/api/auth/verify-email/resend",
    .name = "auth.resend_verification",
    .summary = "Ask for the caller's verification mail again",
    .description = "Nothing is sent when the address is verified already, nor past five mails an hour.",
    .effect = Effect::change,
    .rate = RateClass::auth,
    .status = 202,
    .idempotent = false};

Awaitable<NoContent> post_resend(Deps&, Call& call) {
  co_await write_verification(call.db(), call.user());
  co_return NoContent{};
}

// --- sending ---------------------------------------------------------------------------------------------------------

mail::Message compose(const Deps& deps, const DueMail& due) {
  const std::string token = token_of(deps, due.id, due.purpose, due.email);
  const bool reset_mail = due.purpose == for_password;
  const std::string& base = deps.config.public_url;
  const std::string what =
      base.empty() ? token : base + (reset_mail ? "/reset-password#token=" : "/verify-email#token=") + token;
  const std::string name = due.name ? " " + *due.name : std::string();
  mail::Message message{to_string(due.id), due.email, {}, {}};
  if (reset_mail) {
    message.subject = "ตั้งรหัสผ่านใหม่ / Set a new password – Hourz";
    message.text =
        "สวัสดี" + name + "\n\nมีการขอตั้งรหัสผ่านใหม่สำหรับบัญชี Hourz ของคุณ ใช้ลิงก์หรือรหัสนี้ภายใน 30 นาที (ใช้ได้ครั้งเดียว):\n\n" + what +
        "\n\nหากคุณไม่ได้ขอ ไม่ต้องทำอะไร รหัสผ่านเดิมยังใช้ได้\n\n--\n\nHello" + name +
        ",\n\nSomebody asked for a new password for your Hourz account. Use the link or code above within 30 "
        "minutes; it works once. If it was not you, do nothing: your password stays as it is.\n";
  } else {
    message.subject = "ยืนยันอีเมล / Confirm your email – Hourz";
    message.text = "สวัสดี" + name +
                   "\n\nโปรดยืนยันอีเมลสำหรับบัญชี Hourz ของคุณด้วยลิงก์หรือรหัสนี้ภายใน 24 ชั่วโมง (ใช้ได้ครั้งเดียว):\n\n" + what +
                   "\n\nหากคุณไม่ได้สมัคร ไม่ต้องทำอะไร\n\n--\n\nHello" + name +
                   ",\n\nPlease confirm the email address of your Hourz account with the link or code above within 24 "
                   "hours; it works once. If you did not register, do nothing.\n";
  }
  return message;
}

constexpr std::int64_t look_up_bite = 100;      // of auth.look_up_asked
constexpr std::int32_t tries_when_refused = 3;  // some servers say 550 and mean "not now"

}  // namespace

void install_recovery(http::Router& router, Deps& deps) {
  router.add(reset, post_reset, deps);
  router.add(confirm, post_confirm, deps);
  router.add(verify, post_verify, deps);
  router.add(resend, post_resend, deps);
}

Awaitable<void> write_verification(db::Executor& db, Uuid user) {
  const NewVerification row{make_uuid(), user};
  co_await db::run_last(db, insert_verification, row);
}

Awaitable<void> void_resets(db::Executor& db, Uuid user) { co_await db::run(db, end_resets, user); }

Awaitable<MailTally> send_mail(Deps& deps, db::Client& database) {
  MailTally tally;
  // One by one, each marked as soon as its outcome is known: whenever a server ends, at most one is sent again. What
  // was asked for meanwhile is looked up before each, so that it waits for no longer than its turn.
  while (!deps.post.draining()) {
    const auto asked = database.begin();
    const bool more = co_await db::run_last(*asked, look_up_asked) == look_up_bite;
    const auto claim = database.begin();
    const auto due = co_await db::maybe(*claim, claim_due);
    co_await claim->commit();
    if (!due && more) continue;
    if (!due) break;
    const mail::Delivery delivery = co_await deps.post.send(compose(deps, *due));
    const bool sent = delivery.outcome == mail::Outcome::sent;
    const bool refused = delivery.outcome == mail::Outcome::refused && due->attempts >= tries_when_refused;
    const auto told = database.begin();
    co_await db::run_last(*told, sent ? mark_sent : refused ? mark_refused : mark_failed, due->id);
    ++(sent ? tally.sent : refused ? tally.refused : tally.failed);
    log::Line line(sent ? log::Level::info : log::Level::warn, sent      ? "mail.sent"
                                                               : refused ? "mail.refused"
                                                                         : "mail.failed");
    line.with("mail_id", to_string(due->id)).with("purpose", due->purpose).with("attempt", due->attempts);
    if (!delivery.remark.empty()) line.with(sent ? "file" : "cause", delivery.remark);
    if (delivery.outcome == mail::Outcome::failed) break;  // the others would hardly fare better just now
  }
  co_return tally;
}

Awaitable<MailBacklog> mails_waiting(db::Executor& db) { co_return co_await db::one(db, select_backlog); }

}  // namespace hourz::auth
