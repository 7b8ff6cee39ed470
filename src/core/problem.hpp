// What can go wrong, and how a client hears of it. One table gives each error its stable word, status and title; it is
// also what the OpenAPI document and the error catalogue are made from. A Problem is thrown: whatever transaction is
// open then is rolled back by unwinding, so an error never leaves half a change.
#pragma once
#include <array>
#include <boost/json/object.hpp>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace hourz {

// word, status, title
#define HOURZ_ERRORS(X)                                                                           \
  X(malformed_request, 400, "The request cannot be read")                                         \
  X(malformed_json, 400, "The body is not JSON")                                                  \
  X(duplicate_parameter, 400, "A query parameter stands twice")                                   \
  X(invalid_cursor, 400, "The cursor is not one that this list gave")                             \
  X(invalid_idempotency_key, 400, "The idempotency key is not 1 to 255 visible characters")       \
  X(unknown_event, 400, "There is no event of this type")                                         \
  X(unauthenticated, 401, "A valid access token is needed")                                       \
  X(invalid_credentials, 401, "Email or password is wrong")                                       \
  X(token_expired, 401, "The token has ended")                                                    \
  X(token_invalid, 401, "The token is not valid")                                                 \
  X(token_reused, 401, "The refresh token was used before; the session has ended")                \
  X(session_ended, 401, "The session has ended")                                                  \
  X(payment_declined, 402, "The payment was declined")                                            \
  X(forbidden, 403, "This is not yours to do")                                                    \
  X(wrong_password, 403, "The current password is wrong")                                         \
  X(foreign_origin, 403, "Pages of this origin may not open a socket here")                       \
  X(account_suspended, 403, "The account is suspended")                                           \
  X(not_found, 404, "There is no such thing")                                                     \
  X(method_not_allowed, 405, "The resource does not know this method")                            \
  X(request_timeout, 408, "The request took too long to arrive")                                  \
  X(email_taken, 409, "There is an account with this email")                                      \
  X(profile_already_set_up, 409, "The profile is set up already")                                 \
  X(location_required, 409, "Set a location first")                                               \
  X(own_gig, 409, "The gig is your own")                                                          \
  X(gig_already_taken, 409, "Another helper was faster")                                          \
  X(gig_not_open, 409, "The gig is no longer open")                                               \
  X(gig_not_editable, 409, "The gig can be changed only while it is pending")                     \
  X(invalid_transition, 409, "The gig cannot go there from where it is")                          \
  X(already_buddies, 409, "This person is among your buddies already")                            \
  X(too_many_buddies, 409, "You have as many buddies as one can have")                            \
  X(gig_not_completed, 409, "The gig is not completed")                                           \
  X(already_reviewed, 409, "You have reviewed this gig already")                                  \
  X(review_window_closed, 409, "The gig was completed too long ago to be reviewed")               \
  X(review_not_editable, 409, "The review was written too long ago to be changed")                \
  X(room_closed, 409, "The room is closed: it can be read, not written")                          \
  X(not_joined, 409, "The connection has not joined the room")                                    \
  X(too_many_rooms, 409, "The connection has joined as many rooms as it may")                     \
  X(gig_not_payable, 409, "The gig can be paid for only while it is accepted or in progress")     \
  X(nothing_to_pay, 409, "The gig costs nothing")                                                 \
  X(escrow_exists, 409, "The gig has a payment that is not ended")                                \
  X(payment_not_open, 409, "The payment cannot go there from where it is")                        \
  X(already_reported, 409, "You have reported this already")                                      \
  X(report_resolved, 409, "The report is resolved already")                                       \
  X(gigs_open, 409, "There are gigs of yours that are not ended")                                 \
  X(payment_held, 409, "There is a payment of yours that is not ended")                           \
  X(last_admin, 409, "There must be an administrator left")                                       \
  X(upload_in_use, 409, "The picture is in use")                                                  \
  X(quota_exceeded, 409, "You keep as many pictures as you may")                                  \
  X(idempotency_in_progress, 409, "The first request with this idempotency key is still running") \
  X(length_required, 411, "A Content-Length is needed")                                           \
  X(precondition_failed, 412, "The resource has changed since it was read")                       \
  X(body_too_large, 413, "The body is larger than this resource takes")                           \
  X(target_too_long, 414, "The request target is too long")                                       \
  X(unsupported_media_type, 415, "The resource does not take this media type")                    \
  X(range_not_satisfiable, 416, "The file has no such range of bytes")                            \
  X(expectation_failed, 417, "The expectation is not one the server knows")                       \
  X(misdirected_request, 421, "The request is for another host")                                  \
  X(validation_failed, 422, "Some fields are not valid")                                          \
  X(idempotency_key_reused, 422, "The idempotency key was used with another request")             \
  X(self_buddy, 422, "Nobody can be their own buddy")                                             \
  X(self_block, 422, "Nobody can block themselves")                                               \
  X(self_report, 422, "Nobody can report themselves")                                             \
  X(self_suspension, 422, "Nobody can suspend themselves")                                        \
  X(upgrade_required, 426, "The resource is a WebSocket of version 13")                           \
  X(rate_limited, 429, "Too many requests")                                                       \
  X(too_many_sockets, 429, "There are as many sockets of this account as there may be")           \
  X(headers_too_large, 431, "The header section is too large")                                    \
  X(internal_error, 500, "Something went wrong on our side")                                      \
  X(not_implemented, 501, "The server does not know this method or transfer coding")              \
  X(service_unavailable, 503, "The service cannot answer just now")                               \
  X(overloaded, 503, "The service has more work than it can take just now")                       \
  X(insufficient_storage, 507, "There is no room to store this just now")                         \
  X(deadline_exceeded, 503, "The answer was not ready in time; it may or may not have taken effect")

enum class ErrorCode {
#define HOURZ_ERROR_ENUM(word, status, title) word,
  HOURZ_ERRORS(HOURZ_ERROR_ENUM)
#undef HOURZ_ERROR_ENUM
};

struct ErrorInfo {
  ErrorCode code;
  std::string_view word;
  int status;
  std::string_view title;
};

inline constexpr auto error_table = std::to_array<ErrorInfo>({
#define HOURZ_ERROR_ROW(word, status, title) {ErrorCode::word, #word, status, title},
    HOURZ_ERRORS(HOURZ_ERROR_ROW)
#undef HOURZ_ERROR_ROW
});

constexpr std::string_view schema_name_of(std::type_identity<ErrorCode>) { return "ErrorCode"; }

constexpr const ErrorInfo& info_of(ErrorCode code) { return error_table[static_cast<std::size_t>(code)]; }

/// One fault of a request: which field (`title`, `filters.radius_km`, `images[2]`), a stable word, a sentence.
struct Fault {
  std::string field;
  std::string code;
  std::string message;
};

struct Problem : std::exception {
  ErrorCode code;
  std::string detail;                ///< a sentence for the caller; the table's title when empty
  std::vector<Fault> faults;         ///< of a 422, every one
  boost::json::object extra;         ///< further members, as `current_status`
  std::optional<int> retry_after_s;  ///< of a 429 or 503
  std::vector<std::pair<std::string, std::string>> headers;  ///< as `Allow`

  explicit Problem(ErrorCode error, std::string text = {}) : code(error), detail(std::move(text)) {}
  explicit Problem(std::vector<Fault> all) : code(ErrorCode::validation_failed), faults(std::move(all)) {}

  Problem&& with(std::string_view member, boost::json::value value) && {
    extra[member] = std::move(value);
    return std::move(*this);
  }
  Problem&& retry_after(int seconds) && {
    retry_after_s = seconds;
    return std::move(*this);
  }
  Problem&& header(std::string name, std::string value) && {
    headers.emplace_back(std::move(name), std::move(value));
    return std::move(*this);
  }
  const char* what() const noexcept override { return info_of(code).word.data(); }
};

/// A 422 with one fault.
inline Problem invalid(std::string field, std::string code, std::string message) {
  std::vector<Fault> faults;
  faults.push_back({std::move(field), std::move(code), std::move(message)});
  return Problem(std::move(faults));
}

}  // namespace hourz
