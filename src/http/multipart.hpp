// The one form of multipart/form-data (RFC 7578) that an upload may have: one part, named `file`, and nothing else.
// Takes bytes as they come and gives the file's bytes on; what it gives depends on the bytes alone and never on how
// they were cut. Strict and bounded: whatever is in doubt is a 400, and it keeps no more than a part's header. The
// file's name and type, as the client states them, are not looked at. Knows nothing of sockets, so it can be fuzzed as
// it is.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/problem.hpp"

namespace hourz::http {

class Multipart {
 public:
  using Take = std::function<void(std::string_view)>;

  /// `boundary` as boundary_in() gives it. A file of more than `limit` bytes is body_too_large.
  Multipart(std::string_view boundary, std::uint64_t limit);

  /// Calls `take` with the file's bytes in `piece`, in order. Throws Problem malformed_request or body_too_large; then
  /// it is of no more use.
  void feed(std::string_view piece, const Take& take);

  /// There is nothing more. Throws Problem malformed_request unless the file came whole.
  void finish() const;

  std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  enum class State { opening, header, file, after_delimiter, end };
  void read_header();
  void give(std::string_view bytes, const Take& take);

  const std::string delimiter_;  ///< CRLF, two dashes, boundary
  const std::uint64_t limit_;
  State state_ = State::opening;
  bool file_seen_ = false;
  std::size_t matched_ = 0;  ///< bytes of delimiter_ seen
  std::string kept_;         ///< of the part's header, or of what follows a delimiter
  std::uint64_t file_bytes_ = 0;
};

/// The boundary of a multipart/form-data Content-Type: 1 to 70 of the characters of RFC 2046. Throws malformed_request.
std::string boundary_in(std::string_view content_type);

}  // namespace hourz::http
