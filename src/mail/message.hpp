// A mail as it travels: RFC 5322 with MIME. Texts are UTF-8 and leave as base64, a subject beyond ASCII as encoded
// words (RFC 2047), so that any mail server takes them. Nothing that a person has written stands in a header but the
// address, and an address that could end a header is refused. Sending is sender.hpp's.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "core/time.hpp"

namespace hourz::mail {

struct Message {
  std::string id;  ///< unique and the same at each try: becomes the Message-ID, and the file's name in an outbox
  std::string to;  ///< a bare address
  std::string subject;
  std::string text;  ///< lines end with \n
};

struct Mailbox {
  std::string name;
  std::string address;
};

/// `Name <address>` or `address`; nothing when it is neither.
std::optional<Mailbox> read_mailbox(std::string_view text);

/// Whether an address can stand in a header and an SMTP command as it is.
bool is_address(std::string_view text);

/// The whole mail, lines ending with \r\n. `from` as read_mailbox takes it. Throws std::invalid_argument for an address
/// that is none.
std::string render(const Message& message, std::string_view from, Timestamp date);

}  // namespace hourz::mail
