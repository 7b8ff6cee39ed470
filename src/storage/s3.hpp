// Files in a bucket of any S3-compatible store: AWS, Ceph, MinIO and their like. Requests are signed by our own
// Signature Version 4 and sent by libcurl over connections that are kept. Every upload names the SHA-256 of its bytes
// under the signature, so that the store refuses what the network changed. What may be asked twice is tried again when
// the store stumbles, a little later each time; every try has a deadline. Objects whose names are no keys of ours are
// left alone and not listed.
#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "core/config.hpp"
#include "storage/storage.hpp"

namespace hourz::storage {

struct S3Options {
  std::string endpoint;  ///< https://host[:port]
  std::string bucket;
  std::string region;
  std::string access_key;
  std::string secret_key;
  bool path_style = true;  ///< bucket in the path; else in front of the host's name
  std::chrono::milliseconds connect_timeout{3'000};
  std::chrono::milliseconds stall_timeout{10'000};  ///< without a byte either way
  std::chrono::milliseconds total_timeout{60'000};  ///< of one try
  int tries = 3;
};

/// What the settings name, whichever store they choose. Throws ConfigError, a line for each that is missing.
S3Options s3_options(const Config& config);

class S3Store final : public Store {
 public:
  /// Touches no network. Throws Error when libcurl cannot start.
  explicit S3Store(S3Options options);
  ~S3Store() override;

  void put(std::string_view key, const std::filesystem::path& file, std::string_view content_type) override;
  std::string read(std::string_view key, std::uint64_t offset, std::uint64_t length) override;
  std::optional<ObjectInfo> find(std::string_view key) override;
  void remove(std::string_view key) override;
  void list(std::string_view prefix, const std::function<void(const ObjectInfo&)>& each) override;
  /// Writes an empty object of a name that no key of ours has.
  void check() override;

  /// A link by which anybody can read the object until `lifetime` (at most seven days) is over.
  std::string presigned_url(std::string_view key, std::chrono::seconds lifetime) const;

 private:
  struct Body;
  struct Answer;
  class Client;
  std::unique_ptr<Client> client_;
};

}  // namespace hourz::storage
