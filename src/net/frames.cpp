#include "net/frames.hpp"

#include <algorithm>
#include <cstring>

namespace hourz::net {
namespace {

using realtime::CloseCode;
using Kind = FrameEvent::Kind;

constexpr std::uint8_t byte(char c) { return static_cast<std::uint8_t>(c); }

/// `size` bytes from `in` to `out`, unmasked; `at` is where in the mask the first of them stands.
void unmask(char* out, const char* in, std::size_t size, const std::array<char, 4>& mask, std::uint8_t at) {
  std::array<char, 8> turned;
  for (std::size_t i = 0; i < turned.size(); ++i) turned[i] = mask[(at + i) % 4];
  std::uint64_t wide = 0;
  std::memcpy(&wide, turned.data(), sizeof wide);
  std::size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, in + i, sizeof eight);
    eight ^= wide;
    std::memcpy(out + i, &eight, sizeof eight);
  }
  for (; i < size; ++i) out[i] = static_cast<char>(in[i] ^ turned[i % 8]);
}

realtime::Frame control_frame(std::uint8_t opcode, std::string_view payload) {
  auto frame = std::make_shared<std::string>();
  frame->reserve(2 + payload.size());
  frame->push_back(static_cast<char>(0x80 | opcode));
  frame->push_back(static_cast<char>(payload.size()));
  frame->append(payload);
  return frame;
}

}  // namespace

bool Utf8Checker::feed(std::string_view piece) {
  const char* at = piece.data();
  const char* const end = at + piece.size();
  while (at != end) {
    if (missing_ == 0) {
      for (std::uint64_t eight = 0; end - at >= 8; at += 8) {
        std::memcpy(&eight, at, sizeof eight);
        if ((eight & 0x8080808080808080u) != 0) break;
      }
      if (at == end) break;
    }
    const std::uint8_t c = byte(*at++);
    if (missing_ > 0) {
      if (c < low_ || c > high_) return false;
      --missing_;
      low_ = 0x80;
      high_ = 0xbf;
    } else if (c >= 0x80) {
      if (c < 0xc2 || c > 0xf4) return false;
      missing_ = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
      // No overlong form, no surrogate, nothing past U+10FFFF.
      if (c == 0xe0) low_ = 0xa0;
      if (c == 0xed) high_ = 0x9f;
      if (c == 0xf0) low_ = 0x90;
      if (c == 0xf4) high_ = 0x8f;
    }
  }
  return true;
}

FrameEvent FrameReader::fault(CloseCode code, std::string_view reason) {
  ended_ = true;
  std::string().swap(message_);
  std::string().swap(control_);
  return {Kind::fault, static_cast<std::uint16_t>(code), std::string(reason)};
}

FrameEvent FrameReader::next(std::string_view& bytes) {
  while (!ended_) {
    if (!in_payload_) {
      const std::size_t step = std::min<std::size_t>(static_cast<std::size_t>(need_ - have_), bytes.size());
      std::copy_n(bytes.data(), step, header_.data() + have_);
      have_ = static_cast<std::uint8_t>(have_ + step);
      bytes.remove_prefix(step);
      if (have_ < need_) return {};
      if (FrameEvent event = read_header(); event.kind != Kind::none) return event;
      continue;
    }
    if (left_ > 0) {
      if (bytes.empty()) return {};
      const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
      std::string& payload = is_control() ? control_ : message_;
      const std::size_t had = payload.size();
      payload.resize(had + step);
      unmask(payload.data() + had, bytes.data(), step, mask_, mask_at_);
      mask_at_ = static_cast<std::uint8_t>((mask_at_ + step) % 4);
      left_ -= step;
      bytes.remove_prefix(step);
      if (!is_control() && message_opcode_ == text && !utf8_.feed(std::string_view(payload).substr(had))) {
        return fault(CloseCode::bad_data, "Text is not UTF-8.");
      }
      if (left_ > 0) return {};
    }
    in_payload_ = false;
    have_ = 0;
    need_ = 2;
    if (FrameEvent event = finish_frame(); event.kind != Kind::none) return event;
  }
  bytes = {};
  return {};
}

/// With `need_` bytes there: finds that more are needed, or what is wrong, or that the frame has begun.
FrameEvent FrameReader::read_header() {
  const std::uint8_t first = byte(header_[0]);
  const std::uint8_t second = byte(header_[1]);
  const std::uint8_t short_length = second & 0x7f;
  if (have_ == 2) {
    opcode_ = first & 0x0f;
    final_ = (first & 0x80) != 0;
    if ((first & 0x70) != 0) return fault(CloseCode::protocol_error, "A reserved bit is set.");
    if (opcode_ > pong || (opcode_ > binary && opcode_ < close)) {
      return fault(CloseCode::protocol_error, "The opcode is reserved.");
    }
    if ((second & 0x80) == 0) return fault(CloseCode::protocol_error, "The frame is not masked.");
    if (is_control() && !final_) return fault(CloseCode::protocol_error, "A control frame is fragmented.");
    if (is_control() && short_length > 125) return fault(CloseCode::protocol_error, "A control frame is too long.");
    if (opcode_ == continuation && message_opcode_ == 0) {
      return fault(CloseCode::protocol_error, "There is no message to continue.");
    }
    if ((opcode_ == text || opcode_ == binary) && message_opcode_ != 0) {
      return fault(CloseCode::protocol_error, "The message before was not ended.");
    }
    need_ = short_length < 126 ? 6 : short_length == 126 ? 8 : 14;
    return {};
  }
  std::uint64_t length = short_length;
  if (short_length > 125) {
    length = 0;
    for (int i = 2; i < need_ - 4; ++i) length = length << 8 | byte(header_[static_cast<std::size_t>(i)]);
    if (length >> 63 != 0) return fault(CloseCode::protocol_error, "The length has its highest bit set.");
    if (length < (short_length == 126 ? 126u : 65536u)) {
      return fault(CloseCode::protocol_error, "The length is not in its shortest form.");
    }
  }
  if (!is_control() && length > limit_ - message_.size()) {
    return fault(CloseCode::too_big, "The message is too long.");
  }
  std::copy_n(header_.data() + need_ - 4, 4, mask_.data());
  mask_at_ = 0;
  left_ = length;
  in_payload_ = true;
  if (opcode_ == text || opcode_ == binary) message_opcode_ = opcode_;
  return {Kind::begun, 0, {}};
}

FrameEvent FrameReader::finish_frame() {
  switch (opcode_) {
    case close:
      return finish_close();
    case ping:
      return {Kind::ping, 0, std::exchange(control_, {})};
    case pong:
      return {Kind::pong, 0, std::exchange(control_, {})};
    default:
      break;
  }
  if (!final_) return {};
  const bool is_text = message_opcode_ == text;
  if (is_text && !utf8_.whole()) return fault(CloseCode::bad_data, "Text is not UTF-8.");
  message_opcode_ = 0;
  utf8_ = {};
  return {is_text ? Kind::text : Kind::binary, 0, std::exchange(message_, {})};
}

FrameEvent FrameReader::finish_close() {
  if (control_.size() == 1) return fault(CloseCode::protocol_error, "A close code has two bytes.");
  std::uint16_t code = 0;
  if (control_.size() >= 2) {
    code = static_cast<std::uint16_t>(byte(control_[0]) << 8 | byte(control_[1]));
    if (!valid_close_code(code)) return fault(CloseCode::protocol_error, "That close code may not be sent.");
    Utf8Checker reason;
    if (!reason.feed(std::string_view(control_).substr(2)) || !reason.whole()) {
      return fault(CloseCode::bad_data, "The reason is not UTF-8.");
    }
    control_.erase(0, 2);
  }
  ended_ = true;
  std::string().swap(message_);
  return {Kind::close, code, std::exchange(control_, {})};
}

bool valid_close_code(std::uint16_t code) {
  if (code >= 3000) return code <= 4999;
  return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

realtime::Frame close_frame(std::uint16_t code, std::string_view reason) {
  std::string payload;
  if (code != 0) {
    payload.push_back(static_cast<char>(code >> 8));
    payload.push_back(static_cast<char>(code & 0xff));
    std::size_t size = std::min<std::size_t>(reason.size(), 123);
    while (size < reason.size() && size > 0 && (byte(reason[size]) & 0xc0) == 0x80) --size;
    payload.append(reason.substr(0, size));
  }
  return control_frame(8, payload);
}

realtime::Frame ping_frame(std::string_view payload) { return control_frame(9, payload.substr(0, 125)); }

realtime::Frame pong_frame(std::string_view payload) { return control_frame(10, payload.substr(0, 125)); }

}  // namespace hourz::net
