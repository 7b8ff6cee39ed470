// Programs that Hourz runs: initdb, pg_dump, the postmaster of its private cluster, and itself to make a picture.
//
// A child starts with a clean slate: its own session, an environment of four variables, no descriptor but 0 to 2, all
// signals at their defaults, another user when asked for, and a signal that the kernel sends it when the thread that
// forked it dies. Between vfork and exec only async-signal-safe calls are made, so spawning is allowed while other
// threads run. Every wait takes a deadline. Who may be stopped, and when, is left to the caller.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace hourz::process {

using Clock = std::chrono::steady_clock;

/// The user that children run as. `change` is set when this process is root and must become that user in the child.
struct Identity {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  bool change = false;
};

struct Command {
  std::vector<std::string> arguments;  ///< the first is the program's absolute path
  int output = -1;                     ///< descriptor for stdout and stderr; -1 discards them
  int death_signal = 9;                ///< sent by the kernel when the forking thread dies
  /// NAME=value, besides PATH, LC_ALL, TZ and HOME; only its user can see them.
  std::vector<std::string> environment = {};
};

/// Starts the program. Throws std::system_error when no process can be made; a program that cannot be executed shows
/// as exit code 127.
pid_t spawn(const Command& command, const Identity& identity);

/// Reaps: the wait status once the child has ended, nothing when the deadline passes first.
std::optional<int> wait_until(pid_t pid, Clock::time_point deadline);

/// How much is kept of what a program says.
inline constexpr std::size_t output_bytes = 1024 * 1024;

struct Outcome {
  int status = 0;  ///< as waitpid() gives it
  bool timed_out = false;
  std::string output;  ///< stdout and stderr, output_bytes and what one read brings at most
  bool ok() const { return !timed_out && status == 0; }
};

/// Runs to the end, or kills the child's whole process group at the timeout.
Outcome run(const Command& command, const Identity& identity, std::chrono::milliseconds timeout);

/// Runs a check as that user in a forked child: the position of the first path it may not search, if any.
std::optional<std::size_t> first_unsearchable(const std::vector<std::string>& directories, const Identity& identity);

/// "exit code 1", "signal 9 (Killed)".
std::string describe_exit(int status);

/// Processes whose program is `postgres` and whose working directory is `directory` (canonical): a postmaster and its
/// children, whoever started them.
std::vector<pid_t> postgres_processes_in(const std::filesystem::path& directory);

/// Command line of a process, arguments separated by spaces; empty when it is gone.
std::string command_line(pid_t pid);

}  // namespace hourz::process
