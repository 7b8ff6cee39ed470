// The frame codec: what a client's bytes are read as, however they are cut, and what the server's control frames are;
// and the outbox, where frames wait.
#include "net/frames.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/text.hpp"
#include "net/outbox.hpp"
#include "net/upgrade.hpp"

namespace hourz::net {
namespace {

using Kind = FrameEvent::Kind;

constexpr std::size_t limit = 65536;

std::string masked(std::uint8_t first, std::string_view payload, int length_bytes = -1) {
  const std::size_t size = payload.size();
  if (length_bytes < 0) length_bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
  std::string out(1, static_cast<char>(first));
  out.push_back(static_cast<char>(0x80 | (length_bytes == 0 ? size : length_bytes == 2 ? 126 : 127)));
  for (int i = length_bytes - 1; i >= 0; --i)
    out.push_back(static_cast<char>(static_cast<std::uint64_t>(size) >> (8 * i)));
  const std::string mask = "\x12\xf4\x56\x01";
  out += mask;
  for (std::size_t i = 0; i < size; ++i) out.push_back(static_cast<char>(payload[i] ^ mask[i % 4]));
  return out;
}

/// One line an event, those of `begun` left out.
std::string read(std::string_view bytes, std::size_t step) {
  FrameReader reader(limit);
  std::string told;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    std::string_view piece = bytes.substr(at, step);
    for (;;) {
      const FrameEvent event = reader.next(piece);
      if (event.kind == Kind::none) break;
      if (event.kind == Kind::begun) continue;
      static constexpr const char* names[] = {"", "", "text", "binary", "ping", "pong", "close", "fault"};
      told += names[static_cast<int>(event.kind)];
      if (event.code != 0) told += " " + std::to_string(event.code);
      if (event.kind != Kind::fault && !event.payload.empty()) {
        told += " " + (event.payload.size() > 40 ? std::to_string(event.payload.size()) : event.payload);
      }
      told += "\n";
    }
    EXPECT_TRUE(piece.empty());
  }
  return told;
}

/// The same in pieces of every size that matters.
std::string read(std::string_view bytes) {
  const std::string whole = read(bytes, bytes.size());
  for (const std::size_t step : {1, 2, 3, 5, 7, 13, 64, 4096}) EXPECT_EQ(read(bytes, step), whole) << step;
  return whole;
}

std::string close_payload(int code, std::string_view reason = {}) {
  std::string payload{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  payload += reason;
  return payload;
}

TEST(Frames, MessagesAreWhole) {
  EXPECT_EQ(read(masked(0x81, "hello")), "text hello\n");
  EXPECT_EQ(read(masked(0x81, "")), "text\n");
  EXPECT_EQ(read(masked(0x82, "\x80")), "binary \x80\n");
  EXPECT_EQ(read(masked(0x01, "a") + masked(0x00, "") + masked(0x80, "b")), "text ab\n");
  EXPECT_EQ(read(masked(0x01, "a") + masked(0x89, "p") + masked(0x80, "b") + masked(0x8a, "")),
            "ping p\ntext ab\npong\n");
  for (const std::size_t size : {125u, 126u, 127u, 65535u, 65536u}) {
    EXPECT_EQ(read(masked(0x81, std::string(size, 'x'))), "text " + std::to_string(size) + "\n");
  }
}

TEST(Frames, UnmaskingFindsItsPlaceAnywhere) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text.push_back(static_cast<char>('a' + i % 26));
  const std::string bytes = masked(0x81, text);
  for (std::size_t cut = 1; cut < 60; ++cut) {
    FrameReader reader(limit);
    std::string_view first = std::string_view(bytes).substr(0, cut);
    std::string_view rest = std::string_view(bytes).substr(cut);
    std::string got;
    for (std::string_view* piece : {&first, &rest}) {
      for (FrameEvent event = reader.next(*piece); event.kind != Kind::none; event = reader.next(*piece)) {
        if (event.kind == Kind::text) got = event.payload;
      }
    }
    EXPECT_EQ(got, text);
  }
}

TEST(Frames, BrokenFramesAre1002) {
  const std::vector<std::string> wrong{
      std::string("\x81\x00", 2),  // not masked
      masked(0xc1, "x"),           // reserved bits
      masked(0xa1, "x"),
      masked(0x91, "x"),
      masked(0xf1, "x"),
      masked(0x83, "x"),  // reserved opcodes
      masked(0x87, "x"),
      masked(0x8b, "x"),
      masked(0x8f, "x"),
      masked(0x09, "x"),  // control frames in fragments
      masked(0x08, ""),
      masked(0x89, std::string(126, 'x')),  // too long
      masked(0x80, "x"),                    // nothing to continue
      masked(0x00, "x"),
      masked(0x01, "x") + masked(0x81, "y"),  // the message before is open
      masked(0x01, "x") + masked(0x02, "y"),
      masked(0x81, "x", 2),  // longer than need be
      masked(0x81, std::string(125, 'x'), 2),
      masked(0x81, std::string(126, 'x'), 8),
      masked(0x81, std::string(65535, 'x'), 8),
      std::string("\x81\xff\x80\0\0\0\0\0\0\1\0\0\0\0", 14),  // the highest bit
      masked(0x88, "\x03"),                                   // half a close code
  };
  for (const std::string& bytes : wrong) {
    EXPECT_EQ(read(bytes + masked(0x81, "after")), "fault 1002\n") << ::testing::PrintToString(bytes.substr(0, 20));
  }
}

TEST(Frames, CloseCodes) {
  EXPECT_EQ(read(masked(0x88, "") + masked(0x81, "after")), "close\n");
  for (const int code : {1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999}) {
    EXPECT_EQ(read(masked(0x88, close_payload(code, "why"))), "close " + std::to_string(code) + " why\n");
  }
  for (const int code : {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}) {
    EXPECT_EQ(read(masked(0x88, close_payload(code))), "fault 1002\n") << code;
  }
  EXPECT_EQ(read(masked(0x88, close_payload(1000, "\xff"))), "fault 1007\n");
  EXPECT_EQ(read(masked(0x88, close_payload(1000, "\xc3"))), "fault 1007\n");
  EXPECT_EQ(read(masked(0x88, close_payload(1000, std::string(123, 'x')))), "close 1000 123\n");
}

TEST(Frames, TooLongIsToldByTheHeader) {
  EXPECT_EQ(read(masked(0x81, std::string(65537, 'x')).substr(0, 14)), "fault 1009\n");
  EXPECT_EQ(read(std::string("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14)), "fault 1009\n");
  EXPECT_EQ(read(masked(0x01, std::string(65530, 'x')) + masked(0x80, "1234567").substr(0, 6)), "fault 1009\n");
  EXPECT_EQ(read(masked(0x01, std::string(65530, 'x')) + masked(0x80, "123456")), "text 65536\n");
}

TEST(Frames, TextIsUtf8) {
  EXPECT_EQ(read(masked(0x81, "\u0e01\u0e02 \U0001f600")), "text \u0e01\u0e02 \U0001f600\n");
  EXPECT_EQ(read(masked(0x01, "\xe0\xb8") + masked(0x80, "\x81")), "text \u0e01\n");
  for (const std::string_view bad : {"\xff", "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80",
                                     "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3(", "\xe2\x82"}) {
    EXPECT_EQ(read(masked(0x81, bad)), "fault 1007\n");
    EXPECT_EQ(read(masked(0x81, "12345678" + std::string(bad))), "fault 1007\n");
  }
  // The character is cut between two messages.
  EXPECT_EQ(read(masked(0x81, "\xc3") + masked(0x81, "\xa4")), "fault 1007\n");
  // At once, not at the message's end.
  EXPECT_EQ(read(masked(0x01, "ok\xf4\x90")), "fault 1007\n");
  EXPECT_EQ(read(masked(0x81, "ok\xff" + std::string(100, 'x')).substr(0, 9)), "fault 1007\n");
}

TEST(Frames, TheCheckerAgreesWithIcu) {
  std::string four;
  for (unsigned a = 0x7e; a < 0x100; ++a) {
    for (const unsigned b : {0x00u, 0x7fu, 0x80u, 0x8fu, 0x90u, 0x9fu, 0xa0u, 0xbfu, 0xc0u, 0xffu}) {
      for (const unsigned c : {0x41u, 0x7fu, 0x80u, 0xbfu, 0xc0u}) {
        for (const unsigned d : {0x41u, 0x80u, 0xbfu, 0xc2u}) {
          four = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c), static_cast<char>(d)};
          for (std::size_t size = 1; size <= 4; ++size) {
            Utf8Checker checker;
            const std::string_view text(four.data(), size);
            EXPECT_EQ(checker.feed(text) && checker.whole(), is_utf8(text)) << a << ' ' << b << ' ' << c << ' ' << d;
          }
        }
      }
    }
  }
}

TEST(Frames, WhatTheServerSends) {
  EXPECT_EQ(*close_frame(1000, "bye"), std::string("\x88\x05\x03\xe8") + "bye");
  EXPECT_EQ(*close_frame(0), std::string("\x88\x00", 2));
  EXPECT_EQ(*ping_frame(), std::string("\x89\x00", 2));
  EXPECT_EQ(*pong_frame("ab"), std::string("\x8a\x02") + "ab");
  std::string thai;
  for (int i = 0; i < 60; ++i) thai += "\u0e01";
  const realtime::Frame cut = close_frame(4408, thai);
  EXPECT_EQ(cut->size(), 4u + 123);
  EXPECT_TRUE(is_utf8(std::string_view(*cut).substr(4)));
  thai = "xx" + thai;
  EXPECT_EQ(close_frame(4408, thai)->size(), 4u + 122);
  EXPECT_EQ(*realtime::text_frame("hi"), std::string("\x81\x02") + "hi");
  EXPECT_EQ(realtime::text_frame(std::string(126, 'x'))->substr(0, 4), std::string("\x81\x7e\x00\x7e", 4));
  EXPECT_EQ(realtime::text_frame(std::string(65536, 'x'))->substr(0, 10), std::string("\x81\x7f\0\0\0\0\0\1\0\0", 10));
}

std::string gathered(const Outbox& outbox) {
  std::array<iovec, Outbox::gathered> parts;
  const std::size_t count = outbox.gather(parts);
  EXPECT_EQ(count, std::min(outbox.frames(), Outbox::gathered));
  std::string all;
  for (std::size_t i = 0; i < count; ++i) all.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  return all;
}

realtime::Frame frame_of(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

TEST(Outbox, SendsWhatWasPushedHoweverItGoes) {
  std::mt19937 random(7);
  Outbox outbox;
  std::string expected;  // what was pushed and not sent
  std::size_t pushed = 0;
  std::size_t ended = 0;
  for (int round = 0; round < 20'000; ++round) {
    if (random() % 3 != 0) {
      const std::string text(random() % 40 + 1, static_cast<char>('a' + random() % 26));
      outbox.push(frame_of(text));
      expected += text;
      ++pushed;
    } else {
      const std::string next = gathered(outbox);
      ASSERT_TRUE(expected.starts_with(next));
      const std::size_t sent = random() % 2 == 0 ? next.size() : next.empty() ? 0 : random() % next.size();
      ended += outbox.sent(sent);
      expected.erase(0, sent);
    }
    ASSERT_EQ(outbox.bytes(), expected.size());
    ASSERT_EQ(outbox.frames(), pushed - ended);
    ASSERT_EQ(outbox.empty(), expected.empty());
  }
}

TEST(Outbox, IsBoundedByBytesAndFrames) {
  Outbox outbox;
  EXPECT_TRUE(outbox.fits(1'000'000, 10, 1));  // alone
  outbox.push(frame_of("12345"));
  EXPECT_TRUE(outbox.fits(5, 10, 2));
  EXPECT_FALSE(outbox.fits(6, 10, 2));
  EXPECT_FALSE(outbox.fits(1, 10, 1));
  outbox.sent(4);
  EXPECT_TRUE(outbox.fits(9, 10, 2));
  outbox.sent(1);
  EXPECT_TRUE(outbox.fits(1'000'000, 10, 1));
}

TEST(Outbox, ReplacesWhatIsNotBegun) {
  Outbox outbox;
  for (int i = 0; i < 200; ++i) outbox.push(frame_of("xx"));
  while (outbox.frames() > 1) outbox.sent(2);
  const std::uint64_t number = outbox.next();
  outbox.push(frame_of("old"));
  EXPECT_TRUE(outbox.replace(number, frame_of("newer")));
  EXPECT_EQ(gathered(outbox), "xxnewer");
  EXPECT_EQ(outbox.bytes(), 7u);
  outbox.sent(3);  // its first byte is gone
  EXPECT_FALSE(outbox.replace(number, frame_of("late")));
  EXPECT_EQ(gathered(outbox), "ewer");
  outbox.sent(4);
  EXPECT_FALSE(outbox.replace(number, frame_of("late")));
  EXPECT_TRUE(outbox.empty());
}

TEST(Outbox, DropsAllButWhatCannotBeUnsent) {
  Outbox outbox;
  outbox.drop();
  EXPECT_TRUE(outbox.empty());
  for (int i = 0; i < 3; ++i) outbox.push(frame_of("abc"));
  outbox.sent(4);
  outbox.drop();
  EXPECT_EQ(gathered(outbox), "bc");
  EXPECT_EQ(outbox.bytes(), 2u);
  outbox.sent(2);
  for (int i = 0; i < 3; ++i) outbox.push(frame_of("abc"));
  outbox.drop();
  EXPECT_TRUE(outbox.empty());
  EXPECT_EQ(outbox.bytes(), 0u);
}

TEST(Frames, HandshakeAnswer) {
  EXPECT_EQ(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");  // of RFC 6455, 1.3
  EXPECT_EQ(switching_protocols("dGhlIHNhbXBsZSBub25jZQ==", "hourz.1", "now").find("forged"), std::string::npos);
  EXPECT_EQ(switching_protocols("dGhlIHNhbXBsZSBub25jZQ==", "a\r\nforged: 1", "now").find("forged"), std::string::npos);
}

}  // namespace
}  // namespace hourz::net
