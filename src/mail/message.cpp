#include "mail/message.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sodium.h>

#include <chrono>
#include <stdexcept>

#include "core/text.hpp"

namespace hourz::mail {
namespace {

std::string base64(std::string_view bytes) {
  std::string text(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(text.data(), text.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  text.pop_back();  // the terminator
  return text;
}

bool is_plain(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) return false;
  }
  return text.find("=?") == std::string_view::npos;
}

/// Encoded words of at most 75 characters, none of which cuts a character.
std::string header_text(std::string_view text) {
  if (is_plain(text) && text.size() <= 60) return std::string(text);
  constexpr std::size_t bytes_a_word = 45;
  std::string words;
  while (!text.empty()) {
    std::size_t end = std::min(bytes_a_word, text.size());
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) --end;
    words += (words.empty() ? "" : "\r\n ") + fmt::format("=?UTF-8?B?{}?=", base64(text.substr(0, end)));
    text.remove_prefix(end);
  }
  return words;
}

std::string date_text(Timestamp date) {
  constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t seconds = date.microseconds / 1'000'000;
  const std::tm time = fmt::gmtime(seconds);
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} +0000", days[time.tm_wday], time.tm_mday, months[time.tm_mon],
                     time.tm_year + 1900, time.tm_hour, time.tm_min, time.tm_sec);
}

std::string trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return std::string(text);
}

}  // namespace

bool is_address(std::string_view text) {
  const auto at = text.find('@');
  if (at == 0 || at == std::string_view::npos || at + 1 == text.size() || text.size() > 254) return false;
  if (text.find('@', at + 1) != std::string_view::npos || text.front() == '-' || !is_utf8(text)) return false;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return false;
    if (std::string_view("\"(),:;<>[\\]").find(c) != std::string_view::npos) return false;
  }
  return true;
}

std::optional<Mailbox> read_mailbox(std::string_view text) {
  Mailbox mailbox;
  const auto open = text.find('<');
  if (open == std::string_view::npos) {
    mailbox.address = trimmed(text);
  } else {
    if (!text.ends_with('>')) return std::nullopt;
    mailbox.name = trimmed(text.substr(0, open));
    mailbox.address = text.substr(open + 1, text.size() - open - 2);
  }
  if (!is_address(mailbox.address) || !is_utf8(mailbox.name) || find_forbidden(mailbox.name)) return std::nullopt;
  if (mailbox.name.find_first_of("\"\\<>\n\t") != std::string::npos) return std::nullopt;
  return mailbox;
}

std::string render(const Message& message, std::string_view from, Timestamp date) {
  const auto sender = read_mailbox(from);
  if (!sender || !is_address(message.to)) throw std::invalid_argument("not an address to send mail from or to");
  const std::string name = is_plain(sender->name) ? '"' + sender->name + '"' : header_text(sender->name);
  std::string mail;
  mail += "Date: " + date_text(date) + "\r\n";
  mail += "From: " + (sender->name.empty() ? sender->address : name + " <" + sender->address + '>') + "\r\n";
  mail += "To: " + message.to + "\r\n";
  mail += "Message-ID: <" + message.id + sender->address.substr(sender->address.find('@')) + ">\r\n";
  mail += "Subject: " + header_text(message.subject) + "\r\n";
  mail += "Auto-Submitted: auto-generated\r\n";
  mail += "MIME-Version: 1.0\r\n";
  mail += "Content-Type: text/plain; charset=utf-8\r\n";
  mail += "Content-Transfer-Encoding: base64\r\n\r\n";
  std::string lines;
  for (const char c : message.text) {
    if (c == '\n') lines += '\r';
    lines += c;
  }
  const std::string encoded = base64(lines);
  for (std::size_t i = 0; i < encoded.size(); i += 76) mail += encoded.substr(i, 76) + "\r\n";
  return mail;
}

}  // namespace hourz::mail
