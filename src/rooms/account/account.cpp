#include "rooms/account/account.hpp"

#include "core/json_text.hpp"
#include "core/log.hpp"
#include "reflect/raw_json.hpp"

namespace hourz::account {
namespace {

using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::NoContent;
using http::OptionalBody;
using http::RateClass;

// --- export ----------------------------------------------------------------------------------------------------------

struct Export {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"truncated", "lists that are cut short, since the whole would be larger than 64 MiB; empty as a rule"},
      Note{"data", "one list a kind of thing: profile, sessions, gigs, chat_messages, transactions and so on"}};
  Uuid user_id;
  Timestamp exported_at;
  std::vector<std::string> truncated;
  RawObject data;
};
BOOST_DESCRIBE_STRUCT(Export, (), (user_id, exported_at, truncated, data))

constexpr Endpoint export_me{
    .method = Method::get,
    .path = "/api/users/me/export",
    .name = "account.export",
    .summary = "Everything stored about the caller, as one document",
    .description =
        "Messages are the caller's own: what others said is theirs. Who blocked or reported the caller, or keeps them "
        "as "
        "a buddy, is told to nobody, here neither. Without secrets, and without answers kept for a day for retries.",
    .rate = RateClass::auth,
    .errors = {ErrorCode::overloaded}};

/// A place among the exports under way, until it is let go of; it may outlive the house. Throws overloaded.
std::shared_ptr<const void> take_place(const Deps& deps) {
  const bool full = ++*deps.exports > deps.most_exports;
  std::shared_ptr<const void> place(deps.exports.get(), [exports = deps.exports](const void*) { --*exports; });
  if (full) throw Problem(ErrorCode::overloaded, "Other exports are being made just now.").retry_after(5);
  return place;
}

Awaitable<Export> get_export(Deps& deps, Call& call) {
  std::shared_ptr<const void> place = take_place(deps);
  Export made;
  made.user_id = call.user();
  made.exported_at = now();
  std::string& text = made.data.text;
  for (const http::ExportPart& part : deps.personal.parts) {
    text += text.size() > 2 ? "," : "";
    if (text == "{}") text = "{";
    append_json_string(text, part.name);
    text += ":[";
    http::ExportPage at{call.user(), {}};
    bool first = true, more = true;
    while (more) {
      const auto rows = co_await db::all(call.db(), *part.query, at);
      more = static_cast<std::int64_t>(rows.size()) == at.page;
      for (const http::ExportRow& row : rows) {
        if (text.size() + row.item.size() > deps.most_bytes) {
          made.truncated.emplace_back(part.name);
          more = false;
          break;
        }
        text += first ? "" : ",";
        first = false;
        text += row.item;
      }
      if (!rows.empty()) at.after = rows.back().key;
    }
    text += "]";
  }
  text += text == "{}" ? "" : "}";
  if (text.size() > deps.small_bytes) call.response.keep_alive = std::move(place);
  call.header("Content-Disposition", "attachment; filename=\"hourz-export.json\"");
  co_return made;
}

// --- deletion --------------------------------------------------------------------------------------------------------

struct Leave {
  static constexpr std::array notes{
      Note{"password", "the current one; may be left out within ten minutes of logging in"}};
  std::optional<Secret<1, 128>> password;
};
BOOST_DESCRIBE_STRUCT(Leave, (), (password))

constexpr Endpoint delete_me{
    .method = Method::del,
    .path = "/api/users/me",
    .name = "account.delete",
    .summary = "Delete the caller's account",
    .description =
        "For good, at once, with every session and open socket. Name, email, contact, places, pictures, messages and "
        "what gigs said are erased; reviews and payments stay as those of a deleted user, and so does the ledger, with "
        "what is in the wallet. 409 while a gig of the caller's, on either side, is not ended, or money is held or on "
        "its way "
        "back. The email can be registered anew.",
    .effect = Effect::change,
    .rate = RateClass::auth,
    .status = 204,
    .errors = {ErrorCode::wrong_password, ErrorCode::gigs_open, ErrorCode::payment_held, ErrorCode::last_admin,
               ErrorCode::overloaded}};

Awaitable<NoContent> remove_me(Deps& deps, Call& call, OptionalBody<Leave> body) {
  std::optional<std::string> password;
  if (body->password) password = body->password->value;
  co_await auth::prove_owner(deps.auth, call, std::move(password));
  const Uuid user = call.user();
  co_await users::hold_admins(call.db(), user, user);
  if (!co_await users::hold_account(call.db(), user)) throw Problem(ErrorCode::session_ended);
  // Statements of their own, after the hold: what was under way when it began is seen, and nothing new can begin.
  for (const http::Obstacle& obstacle : deps.personal.obstacles) {
    if (const auto code = co_await obstacle(call.db(), user)) throw Problem(*code);
  }
  co_await auth::end_sessions(deps.auth, call, user, "deleted");
  for (const http::Erasure& erase : deps.personal.erasures) co_await erase(call.db(), user);
  call.after_commit([&deps, user] {
    for (const http::Farewell& forget : deps.personal.farewells) forget(user);
  });
  log::Line(log::Level::info, "user.deleted").with("request_id", call.request_id).with("user_id", to_string(user));
  co_return NoContent{};
}

}  // namespace

void install(http::Router& router, Deps& deps) {
  router.add(export_me, get_export, deps);
  router.add(delete_me, remove_me, deps);
}

}  // namespace hourz::account
