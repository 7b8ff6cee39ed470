// Any bytes as a request head: the scanner decides the same however they are cut, and what is accepted keeps the
// promises that the rooms rely on (one Host, no transfer coding, no control characters, a target in a known form).
#include <string_view>

#include "fuzz.hpp"
#include "net/head.hpp"

namespace {

using hourz::fuzz::require;
using hourz::net::Fault;
using hourz::net::Head;
using hourz::net::HeadScanner;

void check_accepted(const Head& head) {
  std::size_t hosts = 0;
  for (const auto& header : head.request.headers) {
    require(header.name != "transfer-encoding" && !header.name.empty());
    if (header.name == "host") {
      ++hosts;
      require(hourz::net::valid_authority(header.value));
    }
    for (const char c : header.value) require(c == '\t' || static_cast<unsigned char>(c) >= 0x20);
    for (const char c : header.name) require(c > 0x20 && c < 0x7f && !(c >= 'A' && c <= 'Z'));
  }
  require(hosts == 1 || (hosts == 0 && head.http_1_0));
  require(!head.request.target.empty());
  for (const char c : head.request.target) require(c > 0x20 && c < 0x7f && c != '#');
  require(head.request.target.front() == '/' || head.request.method_text == "OPTIONS" ||
          head.request.method_text == "CONNECT");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = hourz::fuzz::as_text(bytes, size);
  HeadScanner whole(512, 8);
  const auto verdict = whole.scan(data);

  HeadScanner piecewise(512, 8);
  auto last = HeadScanner::Verdict::need_more;
  for (std::size_t n = 1; n <= size && last == HeadScanner::Verdict::need_more; ++n) {
    last = piecewise.scan(data.substr(0, n));
  }
  require(size == 0 || last == verdict);
  require(whole.fault().status == piecewise.fault().status);
  require(whole.begin() == piecewise.begin() && whole.end() == piecewise.end());

  if (verdict != HeadScanner::Verdict::complete) return 0;
  require(whole.end() <= size && whole.begin() < whole.end());
  Head head;
  const Fault fault = hourz::net::parse_head(data.substr(whole.begin(), whole.end() - whole.begin()), head);
  if (!fault) check_accepted(head);
  return 0;
}
