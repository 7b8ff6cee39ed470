// Where files lie: a local folder or any S3-compatible store, behind one face. Objects are written once under a key
// that the server made, and never changed. Every function blocks and may be called from several threads at once: from a
// worker pool, never from an I/O thread. What a file means, and who may see it, is the uploads room's.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace hourz::storage {

struct ObjectInfo {
  std::string key;
  std::uint64_t size = 0;  ///< bytes
  std::chrono::system_clock::time_point changed_at;
};

enum class Failure {
  not_found,    ///< no object of that key
  no_space,     ///< the disk or the account is full; trying again later may help
  unavailable,  ///< the store cannot be reached, or answered that it cannot just now; what was asked may have happened
  refused,      ///< wrong credentials, bucket or rights: trying again will not help
};

struct Error : std::runtime_error {
  Failure failure;
  Error(Failure why, const std::string& what) : std::runtime_error(what), failure(why) {}
};

/// Keys are 1 to 200 of `a-z 0-9 / - . _`, without empty, `.` or `..` parts. Every function throws Error.
class Store {
 public:
  virtual ~Store() = default;

  /// Keeps the bytes of `file` under `key`: whole and durable when it returns, and never visible by halves. The file
  /// may have been moved away then. An object of that key is replaced.
  virtual void put(std::string_view key, const std::filesystem::path& file, std::string_view content_type) = 0;

  /// The bytes from `offset` on, `length` at most; fewer only where the object ends. Throws not_found.
  virtual std::string read(std::string_view key, std::uint64_t offset, std::uint64_t length) = 0;

  virtual std::optional<ObjectInfo> find(std::string_view key) = 0;

  /// No object of that key is no error.
  virtual void remove(std::string_view key) = 0;

  /// Each object whose key begins with `prefix` once, in the order of keys.
  virtual void list(std::string_view prefix, const std::function<void(const ObjectInfo&)>& each) = 0;

  /// Whether other machines may be writing to it.
  virtual bool is_shared() const { return true; }

  /// Returns when the store can be reached and written to: for readiness.
  virtual void check() = 0;
};

}  // namespace hourz::storage
