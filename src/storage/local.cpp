#include "storage/local.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "core/crypto.hpp"
#include "storage/s3.hpp"

namespace hourz::storage {
namespace {

namespace fs = std::filesystem;

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return value_; }
  /// A network's file system may tell of a full disk only here.
  void close(const std::string& what) {
    if (::close(std::exchange(value_, -1)) != 0) throw error_of(errno, what);
  }

 private:
  int value_;
};

Descriptor open_file(const fs::path& path, int flags, mode_t mode = 0) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) throw error_of(errno, "cannot open " + path.string());
  return Descriptor(descriptor);
}

/// Makes a folder and those above it, each named durably.
void make_folders(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0750) == 0) {
    sync_folder(folder.parent_path());
    return;
  }
  if (errno == EEXIST) return;
  if (errno != ENOENT || folder == folder.parent_path()) throw error_of(errno, "cannot make " + folder.string());
  make_folders(folder.parent_path());
  if (::mkdir(folder.c_str(), 0750) != 0 && errno != EEXIST) throw error_of(errno, "cannot make " + folder.string());
  sync_folder(folder.parent_path());
}

void copy_bytes(const fs::path& from, const fs::path& to) {
  const Descriptor source = open_file(from, O_RDONLY);
  Descriptor target = open_file(to, O_WRONLY | O_CREAT | O_EXCL, 0640);
  std::array<char, 65536> piece;
  for (;;) {
    const ssize_t got = ::read(source, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw error_of(errno, "cannot read " + from.string());
    if (got == 0) break;
    for (ssize_t written = 0; written < got;) {
      const ssize_t step = ::write(target, piece.data() + written, static_cast<std::size_t>(got - written));
      if (step < 0 && errno == EINTR) continue;
      if (step < 0) throw error_of(errno, "cannot write " + to.string());
      written += step;
    }
  }
  target.close("cannot write " + to.string());
}

ObjectInfo info_of(std::string key, const struct stat& status) {
  return {
      std::move(key), static_cast<std::uint64_t>(status.st_size),
      std::chrono::system_clock::from_time_t(status.st_mtim.tv_sec) + std::chrono::nanoseconds(status.st_mtim.tv_nsec)};
}

void list_folder(const fs::path& folder, const std::string& before, std::string_view prefix,
                 const std::function<void(const ObjectInfo&)>& each) {
  // A folder sorts as what is in it, with its slash, so that keys come in their own order.
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    const bool is_folder = entry->is_directory(ignored);
    std::string name = entry->path().filename().string();
    if (is_folder) name += '/';
    names.push_back(std::move(name));
  }
  if (error == std::errc::no_such_file_or_directory) return;
  if (error) throw error_of(error.value(), "cannot list " + folder.string());
  std::ranges::sort(names);
  for (const std::string& name : names) {
    const std::string key = before + name;
    if (name.ends_with('/')) {
      if (key.starts_with(prefix) || prefix.starts_with(key)) {
        list_folder(folder / name.substr(0, name.size() - 1), key, prefix, each);
      }
      continue;
    }
    struct stat status {};
    if (!key.starts_with(prefix) || ::lstat((folder / name).c_str(), &status) != 0) continue;  // gone since
    if (S_ISREG(status.st_mode)) each(info_of(key, status));
  }
}

}  // namespace

Error error_of(int number, const std::string& what) {
  Failure why = Failure::unavailable;
  if (number == ENOSPC || number == EDQUOT || number == EFBIG) why = Failure::no_space;
  if (number == ENOENT || number == ENOTDIR) why = Failure::not_found;
  if (number == EACCES || number == EPERM || number == EROFS || number == ELOOP) why = Failure::refused;
  return {why, what + ": " + std::strerror(number)};
}

bool is_key(std::string_view key) {
  if (key.empty() || key.size() > 200) return false;
  if (key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789/-._") != std::string_view::npos) return false;
  while (true) {
    const auto slash = key.find('/');
    const std::string_view part = key.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    key.remove_prefix(slash + 1);
  }
}

void sync_file(const fs::path& file) {
  Descriptor descriptor = open_file(file, O_RDONLY);
  if (::fsync(descriptor) != 0) throw error_of(errno, "cannot sync " + file.string());
}

void sync_folder(const fs::path& folder) {
  const Descriptor descriptor = open_file(folder, O_RDONLY | O_DIRECTORY);
  if (::fsync(descriptor) != 0) throw error_of(errno, "cannot sync " + folder.string());
}

LocalStore::LocalStore(fs::path folder) : objects_(folder / "objects"), incoming_(folder / "incoming") {}

fs::path LocalStore::path_of(std::string_view key) const {
  if (!is_key(key)) throw Error(Failure::refused, "not a key: " + std::string(key));
  return objects_ / key;
}

void LocalStore::put(std::string_view key, const fs::path& file, std::string_view) {
  const fs::path path = path_of(key);
  make_folders(path.parent_path());
  fs::path moved = file;
  struct stat here {
  }, there{};
  if (::stat(file.c_str(), &here) != 0) throw error_of(errno, "cannot read " + file.string());
  if (::stat(path.parent_path().c_str(), &there) != 0) throw error_of(errno, "cannot use " + path.string());
  const bool far = here.st_dev != there.st_dev;
  if (far) {
    make_incoming(incoming_);
    moved = incoming_ / to_hex(random_bytes(16));
  }
  try {
    if (far) copy_bytes(file, moved);
    if (::chmod(moved.c_str(), 0640) != 0) throw error_of(errno, "cannot chmod " + moved.string());
    sync_file(moved);
    if (::rename(moved.c_str(), path.c_str()) != 0) throw error_of(errno, "cannot name " + path.string());
  } catch (...) {
    if (far) ::unlink(moved.c_str());
    throw;
  }
  sync_folder(path.parent_path());
}

std::string LocalStore::read(std::string_view key, std::uint64_t offset, std::uint64_t length) {
  const fs::path path = path_of(key);
  const Descriptor file = open_file(path, O_RDONLY);
  struct stat status {};
  if (::fstat(file, &status) != 0) throw error_of(errno, "cannot read " + path.string());
  if (!S_ISREG(status.st_mode)) throw Error(Failure::not_found, "no file: " + path.string());
  const auto size = static_cast<std::uint64_t>(status.st_size);
  std::string bytes(static_cast<std::size_t>(offset >= size ? 0 : std::min(length, size - offset)), '\0');
  for (std::size_t have = 0; have < bytes.size();) {
    const ssize_t got = ::pread(file, bytes.data() + have, bytes.size() - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw error_of(errno, "cannot read " + path.string());
    if (got == 0) throw Error(Failure::unavailable, "shorter than it was: " + path.string());
    have += static_cast<std::size_t>(got);
  }
  return bytes;
}

std::optional<ObjectInfo> LocalStore::find(std::string_view key) {
  const fs::path path = path_of(key);
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw error_of(errno, "cannot look at " + path.string());
  }
  if (!S_ISREG(status.st_mode)) return std::nullopt;
  return info_of(std::string(key), status);
}

void LocalStore::remove(std::string_view key) {
  const fs::path path = path_of(key);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) {
    throw error_of(errno, "cannot remove " + path.string());
  }
}

void LocalStore::list(std::string_view prefix, const std::function<void(const ObjectInfo&)>& each) {
  list_folder(objects_, {}, prefix, each);
}

void LocalStore::check() {
  for (const fs::path& folder : {objects_, incoming_}) {
    make_folders(folder);
    if (::access(folder.c_str(), R_OK | W_OK | X_OK) != 0) throw error_of(errno, "cannot use " + folder.string());
  }
}

fs::path files_directory(const Config& config) {
  if (!config.files_directory.empty()) return config.files_directory;
  return fs::path(config.data_directory) / "files";
}

fs::path incoming_directory(const Config& config) { return files_directory(config) / "incoming"; }

void make_incoming(const fs::path& folder) { make_folders(folder); }

std::unique_ptr<Store> make_store(const Config& config) {
  if (config.storage == "s3") return std::make_unique<S3Store>(s3_options(config));
  return std::make_unique<LocalStore>(files_directory(config));
}

}  // namespace hourz::storage
