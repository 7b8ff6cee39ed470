// The data directory of Hourz and who owns it.
//
// It is 0700 and belongs to the user that PostgreSQL runs as, which is never root. One server has it at a time: the
// lock is a flock on `hourz.lock` in it, which the kernel lets go when the holder dies, however it dies. What is kept
// in the directory is left to others.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "core/process.hpp"

namespace hourz::db {

using Clock = std::chrono::steady_clock;

/// Something the person who starts Hourz must put right: one plain line, exit code 2.
struct ClusterError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// This process's own user, or `user` when this process is root. Throws ClusterError when there is no such user.
process::Identity identity_for(const std::string& user = "postgres");

/// Makes the directory (and its parents), 0700 and owned by `user`, marks it with its lock file and gives back its
/// canonical path. A directory that exists must be empty, or marked and the user's already: nothing inside it ever
/// changes hands. Throws ClusterError naming that directory, or the parent that the user may not search.
std::filesystem::path prepare_data_directory(const std::filesystem::path& directory,
                                             const std::string& user = "postgres");

/// Root only, before any thread is started: the whole process becomes `user`, for good.
void drop_privileges(const std::string& user = "postgres");

/// Whoever holds the lock of a data directory: 0 when nobody does.
pid_t lock_holder(const std::filesystem::path& directory);

class DirectoryLock {
 public:
  DirectoryLock() = default;
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  /// Of a prepared directory. Throws ClusterError saying who holds it, by pid and command line.
  void acquire(const std::filesystem::path& directory);
  void release();
  bool held() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

}  // namespace hourz::db
