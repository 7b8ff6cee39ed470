#include "db/data_directory.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

namespace hourz::db {
namespace {

namespace fs = std::filesystem;

ClusterError failed(const std::string& what) { return ClusterError(what + ": " + strerror(errno)); }

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

/// The lock file is also what marks a directory as Hourz's.
constexpr const char* kLock = "hourz.lock";

bool is_marked(int directory) {
  struct stat status {};
  return fstatat(directory, kLock, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

process::Identity identity_for(const std::string& user) {
  process::Identity identity;
  const bool root = geteuid() == 0;
  const passwd* const entry = root ? getpwnam(user.c_str()) : getpwuid(geteuid());
  if (entry == nullptr) {
    throw ClusterError(root ? "there is no user " + user +
                                  " to run PostgreSQL as (it refuses root): apt-get install postgresql-15-postgis-3"
                            : "user id " + std::to_string(geteuid()) +
                                  " has no entry in /etc/passwd, without which PostgreSQL does not run");
  }
  if (root && entry->pw_uid == 0) throw ClusterError("PostgreSQL refuses to run as " + user + ": name another user");
  identity.name = entry->pw_name;
  identity.uid = entry->pw_uid;
  identity.gid = entry->pw_gid;
  identity.change = root;
  if (root) {
    int count = 64;
    identity.groups.resize(static_cast<std::size_t>(count));
    if (getgrouplist(identity.name.c_str(), identity.gid, identity.groups.data(), &count) < 0) count = 1;
    identity.groups[0] = count == 1 ? identity.gid : identity.groups[0];
    identity.groups.resize(static_cast<std::size_t>(count));
  }
  return identity;
}

fs::path prepare_data_directory(const fs::path& directory, const std::string& user) {
  const process::Identity identity = identity_for(user);
  std::error_code error;
  const fs::path absolute = fs::absolute(directory).lexically_normal();
  const bool made = !fs::exists(absolute, error);
  if (made) {
    fs::create_directories(absolute.parent_path(), error);
    if (error) throw ClusterError("cannot make " + absolute.parent_path().string() + ": " + error.message());
    if (mkdir(absolute.c_str(), 0700) != 0 && errno != EEXIST) throw failed("cannot make " + absolute.string());
  }
  const fs::path path = fs::canonical(absolute, error);
  if (error) throw ClusterError("cannot use " + absolute.string() + " as data directory: " + error.message());
  const Descriptor top(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (top < 0 || fstat(top, &status) != 0) throw failed("cannot open the data directory " + path.string());
  // A home directory or /var, given by mistake, must neither change hands nor modes: what Hourz takes is empty, or was
  // Hourz's before. Nothing inside is ever given to another user; that is for a person to do.
  const bool marked = is_marked(top);
  const bool empty = fs::is_empty(path, error);
  if (!marked && !empty) {
    throw ClusterError("the data directory " + path.string() +
                       " holds files that are not Hourz's: name an empty or a new directory");
  }
  if (status.st_uid != identity.uid) {
    if (!identity.change || !empty) {
      throw ClusterError("the data directory " + path.string() + " does not belong to user " + identity.name +
                         ", whom PostgreSQL runs as: give it to that user (chown -R " + identity.name + " " +
                         path.string() + "), or name another directory");
    }
    if (fchown(top, identity.uid, identity.gid) != 0) {
      throw failed("cannot give " + path.string() + " to user " + identity.name);
    }
  }
  if ((status.st_mode & 077) != 0 && fchmod(top, 0700) != 0) throw failed("cannot chmod 0700 " + path.string());
  if (!marked) {
    const Descriptor mark(openat(top, kLock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (mark < 0 && errno != EEXIST) throw failed("cannot write in " + path.string());
    if (mark >= 0 && identity.change && fchown(mark, identity.uid, identity.gid) != 0) {
      throw failed("cannot give " + path.string() + " to user " + identity.name);
    }
  }

  std::vector<std::string> directories;
  for (fs::path step = path; directories.emplace_back(step), step != step.root_path(); step = step.parent_path()) {
  }
  std::reverse(directories.begin(), directories.end());
  if (const auto blocked = process::first_unsearchable(directories, identity)) {
    throw ClusterError("user " + identity.name + ", whom PostgreSQL runs as, may not pass through " +
                       directories[*blocked] + ", where the data directory " + path.string() + " lies: chmod a+x " +
                       directories[*blocked] + ", or name another data directory");
  }
  return path;
}

void drop_privileges(const std::string& user) {
  const process::Identity identity = identity_for(user);
  if (!identity.change) return;
  // Whoever started us may have asked that we end with them; the kernel forgets that when the user changes.
  int parent_death_signal = 0;
  prctl(PR_GET_PDEATHSIG, &parent_death_signal);
  const pid_t parent = getppid();
  if (initgroups(identity.name.c_str(), identity.gid) != 0 ||
      setresgid(identity.gid, identity.gid, identity.gid) != 0 ||
      setresuid(identity.uid, identity.uid, identity.uid) != 0) {
    throw failed("cannot become user " + identity.name);
  }
  if (setuid(0) == 0 || geteuid() != identity.uid) throw ClusterError("root's rights could not be dropped");
  // The change of user made /proc/self root's: without this the process could not count its own descriptors.
  prctl(PR_SET_DUMPABLE, 1);
  if (parent_death_signal != 0) {
    prctl(PR_SET_PDEATHSIG, parent_death_signal);
    if (getppid() != parent) raise(parent_death_signal);  // gone in between
  }
  if (const passwd* const entry = getpwuid(identity.uid)) {
    setenv("HOME", entry->pw_dir, 1);
    setenv("USER", entry->pw_name, 1);
    setenv("LOGNAME", entry->pw_name, 1);
  }
}

namespace {

pid_t pid_in(int descriptor) {
  std::array<char, 32> text{};
  const ssize_t count = pread(descriptor, text.data(), text.size() - 1, 0);
  pid_t pid = 0;
  if (count > 0) std::from_chars(text.data(), text.data() + count, pid);
  return pid;
}

}  // namespace

pid_t lock_holder(const fs::path& directory) {
  const Descriptor file(open((directory / kLock).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (file < 0 || flock(file, LOCK_SH | LOCK_NB) == 0) return 0;
  return pid_in(file);
}

DirectoryLock::~DirectoryLock() { release(); }

void DirectoryLock::acquire(const fs::path& directory) {
  if (held()) return;
  const fs::path path = directory / kLock;
  Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file < 0) throw failed("cannot open " + path.string());
  // A dying holder's last child may have the lock for a moment between fork and exec.
  const auto deadline = Clock::now() + std::chrono::milliseconds(100);
  while (flock(file, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) throw failed("cannot lock " + path.string());
    const pid_t holder = pid_in(file);
    const std::string line = holder > 0 ? process::command_line(holder) : "";
    if (Clock::now() < deadline && line.empty()) {
      usleep(5000);
      continue;
    }
    throw ClusterError("the data directory " + directory.string() + " is in use by " +
                       (holder > 0 ? "process " + std::to_string(holder) : std::string("another process")) +
                       (line.empty() ? "" : " (" + line + ")") + ": stop that, or name another data directory");
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  // The pid is only for people to read; a full disk must not stop a server that could otherwise answer reads.
  if (ftruncate(file, 0) != 0 || pwrite(file, pid.data(), pid.size(), 0) < 0) errno = 0;
  descriptor_ = file.release();
}

void DirectoryLock::release() {
  if (!held()) return;
  if (ftruncate(descriptor_, 0) != 0) errno = 0;
  flock(descriptor_, LOCK_UN);
  close(std::exchange(descriptor_, -1));
}

}  // namespace hourz::db
