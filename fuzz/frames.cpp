// Any bytes as a client's frames: the events are the same however the bytes are cut, and what is given keeps the
// promises that sessions rely on (texts are UTF-8, messages and control frames within their limits, codes valid).
#include <string_view>
#include <vector>

#include "core/text.hpp"
#include "fuzz.hpp"
#include "net/frames.hpp"

namespace {

using hourz::fuzz::require;
using hourz::net::FrameEvent;
using hourz::net::FrameReader;
using Kind = FrameEvent::Kind;

constexpr std::size_t limit = 300;  // small, so that short inputs reach it

void drain(FrameReader& reader, std::string_view piece, std::vector<FrameEvent>& events) {
  for (;;) {
    FrameEvent event = reader.next(piece);
    if (event.kind == Kind::none) break;
    events.push_back(std::move(event));
  }
  require(piece.empty());
}

void check(const std::vector<FrameEvent>& events) {
  for (const FrameEvent& event : events) {
    switch (event.kind) {
      case Kind::text:
        require(hourz::is_utf8(event.payload));
        [[fallthrough]];
      case Kind::binary:
        require(event.payload.size() <= limit);
        break;
      case Kind::close:
        require(event.code == 0 ? event.payload.empty() : hourz::net::valid_close_code(event.code));
        require(hourz::is_utf8(event.payload));
        break;
      case Kind::ping:
      case Kind::pong:
        require(event.payload.size() <= 125);
        break;
      case Kind::fault:
        require(event.code == 1002 || event.code == 1007 || event.code == 1009);
        break;
      case Kind::none:
      case Kind::begun:
        break;
    }
    if (event.kind == Kind::close || event.kind == Kind::fault) require(&event == &events.back());
  }
}

void require_same(const std::vector<FrameEvent>& a, const std::vector<FrameEvent>& b) {
  require(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    require(a[i].kind == b[i].kind && a[i].code == b[i].code && a[i].payload == b[i].payload);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t seed = bytes[0];
  const std::string_view data = hourz::fuzz::as_text(bytes + 1, size - 1);

  std::vector<FrameEvent> whole;
  FrameReader at_once(limit);
  drain(at_once, data, whole);
  check(whole);

  std::vector<FrameEvent> by_bytes;
  FrameReader slow(limit);
  for (std::size_t at = 0; at < data.size(); ++at) drain(slow, data.substr(at, 1), by_bytes);
  require_same(whole, by_bytes);

  std::vector<FrameEvent> by_pieces;
  FrameReader pieces(limit);
  for (std::size_t at = 0, turn = seed; at < data.size(); ++turn) {
    const std::size_t step = 1 + turn * 7 % 23;
    drain(pieces, data.substr(at, step), by_pieces);
    at += step;
  }
  require_same(whole, by_pieces);
  require(at_once.ended() == slow.ended() && slow.ended() == pieces.ended());
  return 0;
}
