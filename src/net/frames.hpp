// The frames of RFC 6455, section 5: a reader of what clients send, and the control frames a server sends. The reader
// takes bytes as they come and gives events; what it gives depends on the bytes alone and never on how they were cut.
// Strict: masked, minimal lengths, no reserved bit or opcode, control frames whole and short, UTF-8 checked as it
// arrives, a message too long refused by its header. Knows nothing of sockets, so it can be fuzzed as it is.
//
// Our own codec and not Beast's stream: an event goes to a thousand sockets as one encoded frame that all share, and
// several frames leave in one system call; Beast encodes and sends one message a call, answers pings from within its
// reader, and keeps buffers for every idle socket.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "realtime/socket.hpp"

namespace hourz::net {

/// Checks UTF-8 piece by piece; a wrong byte is found as soon as it is seen.
class Utf8Checker {
 public:
  /// False from the first byte on that cannot be part of valid UTF-8.
  bool feed(std::string_view piece);
  /// Whether no character is left half.
  bool whole() const { return missing_ == 0; }

 private:
  std::uint8_t missing_ = 0;  ///< continuation bytes still to come
  std::uint8_t low_ = 0x80;   ///< bounds of the next one
  std::uint8_t high_ = 0xbf;
};

struct FrameEvent {
  enum class Kind {
    none,    ///< more bytes are needed
    begun,   ///< the header of a frame of any kind was read and is sound
    text,    ///< a whole message, valid UTF-8
    binary,  ///< a whole message
    ping,
    pong,
    close,
    fault,  ///< the peer broke the protocol; nothing more is read
  };

  Kind kind = Kind::none;
  std::uint16_t code = 0;  ///< close: as sent, 0 when none was; fault: the code to close with
  std::string payload;     ///< of the message or control frame; of a fault the reason in words
};

class FrameReader {
 public:
  explicit FrameReader(std::size_t message_bytes) : limit_(message_bytes) {}

  /// The next event; what was read is taken off the front of `bytes`. `none` comes with nothing left of them. After
  /// `close` or `fault` there is only `none`.
  FrameEvent next(std::string_view& bytes);

  /// Whether a close or fault was given.
  bool ended() const { return ended_; }

  /// Whether a message has begun and is not whole yet: what is here of it takes memory.
  bool holds_part() const { return message_opcode_ != 0 && !ended_; }

 private:
  enum Opcode : std::uint8_t { continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 };

  FrameEvent fault(realtime::CloseCode code, std::string_view reason);
  FrameEvent read_header();
  FrameEvent finish_frame();
  FrameEvent finish_close();
  bool is_control() const { return (opcode_ & 8) != 0; }

  std::size_t limit_;
  std::string message_;     ///< of all fragments so far
  std::string control_;     ///< a control frame may come between fragments
  std::uint64_t left_ = 0;  ///< of the frame's payload
  std::array<char, 14> header_;
  std::uint8_t have_ = 0;  ///< bytes of header_
  std::uint8_t need_ = 2;  ///< how many it will be, as far as is known
  std::uint8_t opcode_ = 0;
  std::uint8_t message_opcode_ = 0;  ///< of the message begun; 0: none is
  std::uint8_t mask_at_ = 0;
  bool final_ = false;
  bool in_payload_ = false;
  bool ended_ = false;
  std::array<char, 4> mask_;
  Utf8Checker utf8_;
};

/// Whether a peer may send this code in a close frame.
bool valid_close_code(std::uint16_t code);

/// A close frame; code 0 sends none. The reason is cut to 123 bytes between two characters.
realtime::Frame close_frame(std::uint16_t code, std::string_view reason = {});

/// `payload` is at most 125 bytes.
realtime::Frame ping_frame(std::string_view payload = {});
realtime::Frame pong_frame(std::string_view payload);

}  // namespace hourz::net
