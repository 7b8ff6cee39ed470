// Mails as they travel, and the folder they are written to when there is no mail server.
#include <gtest/gtest.h>
#include <sodium.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "core/crypto.hpp"
#include "mail/message.hpp"
#include "mail/sender.hpp"
#include "temporary_folder.hpp"

namespace hourz::mail {
namespace {

namespace fs = std::filesystem;

std::string decoded(std::string text) {
  std::string bytes(text.size(), '\0');
  std::size_t length = 0;
  EXPECT_EQ(sodium_base642bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(), text.size(),
                              "\r\n", &length, nullptr, sodium_base64_VARIANT_ORIGINAL),
            0);
  bytes.resize(length);
  return bytes;
}

const Message hello{"0190", "mali@example.com", "Hello", "First line\n.dot\n"};

TEST(MailMessage, IsPlainWhereItCanBe) {
  const std::string mail = render(hello, "Hourz <no-reply@hourz.example>", *parse_timestamp("2026-11-03T04:05:06Z"));
  const auto end = mail.find("\r\n\r\n");
  EXPECT_EQ(mail.substr(0, end),
            "Date: Tue, 03 Nov 2026 04:05:06 +0000\r\nFrom: \"Hourz\" <no-reply@hourz.example>\r\n"
            "To: mali@example.com\r\nMessage-ID: <0190@hourz.example>\r\nSubject: Hello\r\n"
            "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: base64");
  EXPECT_EQ(decoded(mail.substr(end + 4)), "First line\r\n.dot\r\n");
}

TEST(MailMessage, EncodesThaiWithoutCuttingCharacters) {
  Message thai = hello;
  for (int i = 0; i < 30; ++i) thai.subject += "ตั้งรหัสผ่าน" + std::string(static_cast<std::size_t>(i % 3), 'x');
  for (int i = 0; i < 100; ++i) thai.text += "สวัสดี";
  const std::string mail = render(thai, "ชั่วโมง <no-reply@hourz.example>", Timestamp{});
  std::string subject;
  std::size_t start = 0;
  for (std::size_t end = mail.find("\r\n"); end != std::string::npos; end = mail.find("\r\n", start)) {
    const std::string line = mail.substr(start, end - start);
    EXPECT_LE(line.size(), 90U);
    for (const char c : line) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
    start = end + 2;
    for (auto word = line.find("=?UTF-8?B?"); word != std::string::npos; word = std::string::npos) {
      const auto stop = line.find("?=", word);
      EXPECT_LE(stop + 2 - word, 75U);
      if (!line.starts_with("From")) subject += decoded(line.substr(word + 10, stop - word - 10));
    }
  }
  EXPECT_EQ(subject, thai.subject);
}

TEST(MailMessage, NobodyEndsAHeader) {
  for (const char* wrong : {"", "a", "@b", "a@", "a@b\r\nBcc: c@d", "a@b\n", "a b@c", "<a@b>", "a@b,c@d", "a@b@c",
                            "-oQ/tmp@b", "a@b\x7f", "\xff@b"}) {
    EXPECT_FALSE(is_address(wrong)) << wrong;
    Message message = hello;
    message.to = wrong;
    EXPECT_THROW(render(message, "a@b", Timestamp{}), std::invalid_argument) << wrong;
  }
  Message message = hello;
  message.subject = "x\r\nBcc: evil@example.com";
  EXPECT_EQ(render(message, "a@b.example", Timestamp{}).find("Bcc"), std::string::npos);
  for (const char* wrong : {"a\r\nb <c@d>", "a\"b <c@d>", "a <c@d", "a <c@d> b", "<>", ""}) {
    EXPECT_FALSE(read_mailbox(wrong).has_value()) << wrong;
  }
  EXPECT_EQ(read_mailbox("ชั่วโมง <a@b>")->name, "ชั่วโมง");
}

TEST(MailOutbox, KeepsOneFileAMailForItsOwnerOnly) {
  const fs::path folder = make_temporary_folder("outbox");
  Config config;
  config.data_directory = folder;
  const auto sender = make_sender(config);
  const Delivery first = sender->send(hello);
  EXPECT_EQ(first.outcome, Outcome::sent);
  EXPECT_EQ(first.remark, (folder / "outbox/0190.eml").string());
  EXPECT_EQ(sender->send(hello).outcome, Outcome::sent);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "outbox"), {}), 1);
  struct stat status {};
  ASSERT_EQ(::stat(first.remark.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  config.data_directory = folder / "not" / "there";
  EXPECT_EQ(make_sender(config)->send(hello).outcome, Outcome::failed);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace hourz::mail
