// AWS Signature Version 4: how a request tells an S3-compatible store who sent it and that nobody changed it. Pure
// functions over what is going to be sent; libcurl's own signing fails on uploads, unsorted queries and keys beyond
// ASCII. Every path and query is given as it is meant, unescaped, and escaped here, once, in the one way that both the
// signature and the wire need. Sending is the caller's.
#pragma once
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hourz::storage::sigv4 {

using Fields = std::vector<std::pair<std::string, std::string>>;
using Time = std::chrono::sys_seconds;

struct Credentials {
  std::string access_key;
  std::string secret_key;
  std::string region;
  std::string service = "s3";
};

struct Request {
  std::string method;
  std::string host;  ///< with its port, when that is not the scheme's own
  std::string path;  ///< unescaped, begins with `/`
  Fields query;      ///< unescaped, in any order
  Fields headers;    ///< to be signed, besides host; names in lower case
};

/// SHA-256 of no bytes, in hex.
inline constexpr std::string_view hash_of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// RFC 3986 escapes of UTF-8 bytes, in capitals; `/` stays when it divides a path.
std::string escape(std::string_view text, bool keep_slashes);

/// The escaped path and the query, sorted, as they must stand in the request's line.
std::string target(const Request& request);

/// `20130524T000000Z`, for x-amz-date.
std::string date_text(Time time);

/// The value of Authorization. `payload_hash`: SHA-256 of the body in hex. What S3 also wants, x-amz-date and
/// x-amz-content-sha256, must be among the headers.
std::string authorization(const Credentials& credentials, const Request& request, Time time,
                          std::string_view payload_hash);

/// A target that anybody may ask for until `lifetime` is over, without credentials: its query holds the signature. The
/// body is not covered.
std::string presigned_target(const Credentials& credentials, Request request, Time time, std::chrono::seconds lifetime);

}  // namespace hourz::storage::sigv4
