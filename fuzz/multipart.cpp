// The form of an upload: however it is cut, it gives the same bytes or the same refusal.
#include "http/multipart.hpp"

#include "fuzz.hpp"

namespace {

std::pair<std::string, std::string> parse(std::string_view bytes, std::size_t step) {
  std::pair<std::string, std::string> outcome;
  try {
    hourz::http::Multipart form("XX", 4096);
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      form.feed(bytes.substr(at, step), [&](std::string_view file) { outcome.first += file; });
    }
    form.finish();
  } catch (const hourz::Problem& problem) {
    outcome.second = problem.detail;
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using hourz::fuzz::require;
  const std::string_view data = hourz::fuzz::as_text(bytes, size);
  const auto whole = parse(data, std::max<std::size_t>(1, size));
  require(whole.first.size() <= 4096);
  for (const std::size_t step : {1, 3, 17}) {
    const auto cut = parse(data, step);
    require(cut.second == whole.second);
    if (whole.second.empty()) require(cut.first == whole.first);
  }
  // And as what a Content-Type says.
  try {
    const std::string boundary = hourz::http::boundary_in("multipart/form-data;" + std::string(data));
    require(!boundary.empty() && boundary.size() <= 70 && boundary.find_first_of("\r\n\"") == std::string::npos);
  } catch (const hourz::Problem& problem) {
    require(problem.code == hourz::ErrorCode::malformed_request);
  }
  return 0;
}
