#include "http/multipart.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/text.hpp"

namespace hourz::http {
namespace {

constexpr std::size_t header_bytes = 4096;
constexpr std::size_t header_fields = 8;

Problem malformed(std::string why) { return Problem(ErrorCode::malformed_request, std::move(why)); }

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
  return text;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

using Parameters = std::vector<std::pair<std::string, std::string>>;

/// `; name=token; name="quoted"` behind a field's value, names in lower case; nothing when it is not that.
std::optional<Parameters> parameters_in(std::string_view text) {
  Parameters all;
  for (text = trimmed(text); !text.empty(); text = trimmed(text)) {
    if (text.front() != ';') return std::nullopt;
    text = trimmed(text.substr(1));
    const auto equals = text.find('=');
    if (equals == std::string_view::npos || !is_token(text.substr(0, equals))) return std::nullopt;
    std::string name = fold_case(text.substr(0, equals));
    text.remove_prefix(equals + 1);
    std::string value;
    if (text.starts_with('"')) {
      std::size_t at = 1;
      for (; at < text.size() && text[at] != '"'; ++at) {
        if (text[at] == '\\' && at + 1 < text.size()) ++at;
        value += text[at];
      }
      if (at >= text.size()) return std::nullopt;
      text.remove_prefix(at + 1);
    } else {
      const auto end = std::min(text.find_first_of("; \t"), text.size());
      value = text.substr(0, end);
      text.remove_prefix(end);
    }
    all.emplace_back(std::move(name), std::move(value));
  }
  return all;
}

/// The value of the parameter that stands there once; nothing when it does not, or stands twice.
std::optional<std::string> only(const Parameters& all, std::string_view name) {
  std::optional<std::string> found;
  for (const auto& [known, value] : all) {
    if (known != name) continue;
    if (found) return std::nullopt;
    found = value;
  }
  return found;
}

void check_disposition(std::string_view value) {
  const auto semicolon = std::min(value.find(';'), value.size());
  if (fold_case(trimmed(value.substr(0, semicolon))) != "form-data") throw malformed("A part is not form-data.");
  const auto parameters = parameters_in(value.substr(semicolon));
  if (!parameters) throw malformed("A part's Content-Disposition cannot be read.");
  if (only(*parameters, "name") != "file") throw malformed("The form must have one field, named file.");
}

}  // namespace

std::string boundary_in(std::string_view content_type) {
  const auto semicolon = std::min(content_type.find(';'), content_type.size());
  const auto parameters = parameters_in(content_type.substr(semicolon));
  const auto boundary = parameters ? only(*parameters, "boundary") : std::nullopt;
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("'()+_,-./:=? ").find(c) != std::string_view::npos;
  };
  if (!boundary || boundary->empty() || boundary->size() > 70 || !std::ranges::all_of(*boundary, allowed) ||
      boundary->ends_with(' ')) {
    throw malformed("The Content-Type needs a boundary of 1 to 70 characters.");
  }
  return *boundary;
}

// The first delimiter may stand at the very beginning, without its CRLF.
Multipart::Multipart(std::string_view boundary, std::uint64_t limit)
    : delimiter_("\r\n--" + std::string(boundary)), limit_(limit), matched_(2) {}

void Multipart::give(std::string_view bytes, const Take& take) {
  if (bytes.empty()) return;
  file_bytes_ += bytes.size();
  if (file_bytes_ > limit_) {
    throw Problem(ErrorCode::body_too_large, "The file may have at most " + std::to_string(limit_) + " bytes.");
  }
  take(bytes);
}

void Multipart::read_header() {
  bool disposed = false;
  std::size_t fields = 0;
  std::string_view left(kept_);
  left.remove_suffix(2);  // the empty line
  while (!left.empty()) {
    const auto end = left.find("\r\n");
    const std::string_view line = left.substr(0, end);
    left.remove_prefix(end + 2);
    const auto colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)) || ++fields > header_fields ||
        line.find_first_of("\r\n") != std::string_view::npos) {
      throw malformed("A part's header cannot be read.");
    }
    const std::string name = fold_case(line.substr(0, colon));
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (name == "content-disposition") {
      if (std::exchange(disposed, true)) throw malformed("A part has two Content-Dispositions.");
      check_disposition(value);
    } else if (name == "content-type") {
      if (fold_case(value).starts_with("multipart/")) throw malformed("A part must not be multipart itself.");
    } else if (name == "content-transfer-encoding") {
      const std::string coding = fold_case(value);
      if (coding != "binary" && coding != "8bit" && coding != "7bit") throw malformed("A part must not be encoded.");
    }
  }
  if (!disposed) throw malformed("A part has no Content-Disposition.");
}

void Multipart::feed(std::string_view piece, const Take& take) {
  while (!piece.empty()) {
    switch (state_) {
      case State::opening: {
        // Also `\r\n--boundary`: the CRLF that a preamble would end with.
        if (kept_.empty() && matched_ == 2 && piece.front() == '\r') matched_ = 0;
        kept_ += '.';  // not the first byte any more
        if (piece.front() != delimiter_[matched_]) throw malformed("The body does not begin with its boundary.");
        piece.remove_prefix(1);
        if (++matched_ < delimiter_.size()) break;
        kept_.clear();
        state_ = State::after_delimiter;
        break;
      }
      case State::header: {
        kept_ += piece.front();
        piece.remove_prefix(1);
        if (kept_.ends_with("\r\n\r\n") || kept_ == "\r\n") {
          read_header();
          kept_.clear();
          matched_ = 0;
          state_ = State::file;
        } else if (kept_.size() >= header_bytes) {
          throw malformed("A part's header is too long.");
        }
        break;
      }
      case State::file: {
        if (matched_ == 0) {
          const auto found = std::min(piece.find('\r'), piece.size());
          give(piece.substr(0, found), take);
          piece.remove_prefix(found);
          if (piece.empty()) break;
        }
        if (piece.front() == delimiter_[matched_]) {
          piece.remove_prefix(1);
          if (++matched_ < delimiter_.size()) break;
          kept_.clear();
          state_ = State::after_delimiter;
        } else {
          // CR stands nowhere in a delimiter but in front: what was held back is the file's, all of it.
          give(std::string_view(delimiter_).substr(0, std::exchange(matched_, 0)), take);
        }
        break;
      }
      case State::after_delimiter: {
        kept_ += piece.front();
        piece.remove_prefix(1);
        if (kept_.size() < 2) break;
        const bool had_file = file_seen_;
        if (kept_ == "\r\n" && !had_file) {
          file_seen_ = true;
          state_ = State::header;
        } else if (kept_ == "--" && had_file) {
          state_ = State::end;
        } else {
          throw malformed(kept_ == "\r\n" ? "The form must have one field, named file." : "A boundary is not whole.");
        }
        kept_.clear();
        break;
      }
      case State::end: {
        kept_ += piece.front();
        piece.remove_prefix(1);
        if (!std::string_view("\r\n").starts_with(kept_)) throw malformed("Something follows the last boundary.");
        break;
      }
    }
  }
}

void Multipart::finish() const {
  if (state_ != State::end || kept_.size() == 1) throw malformed("The body ends before its last boundary.");
}

}  // namespace hourz::http
