#include "core/process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>

namespace hourz::process {
namespace {

// The raw calls: glibc's wrappers signal every thread of the process, which makes no sense in a forked child and is not
// async-signal-safe.
bool become(const Identity& identity) {
  if (!identity.change) return true;
  return syscall(SYS_setgroups, identity.groups.size(), identity.groups.data()) == 0 &&
         syscall(SYS_setresgid, identity.gid, identity.gid, identity.gid) == 0 &&
         syscall(SYS_setresuid, identity.uid, identity.uid, identity.uid) == 0;
}

[[noreturn]] void execute(const Command& command, const Identity& identity, char* const* arguments,
                          char* const* environment, pid_t parent) {
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  for (int number = 1; number < 65; ++number) sigaction(number, &usual, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Away from the terminal: its Ctrl-C is for Hourz, which stops the child in good order.
  setsid();
  umask(0077);
  const int null = open("/dev/null", O_RDWR);
  const int output = command.output >= 0 ? command.output : null;
  if (null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) _exit(126);
  // Sockets of clients and the lock of the data directory must not live on in the child.
  syscall(SYS_close_range, 3U, ~0U, 0U);
  if (chdir("/") != 0 || !become(identity)) _exit(126);
  // After the change of user, which clears it. The parent may have died before this call took effect.
  prctl(PR_SET_PDEATHSIG, command.death_signal);
  if (getppid() != parent) _exit(125);
  execve(arguments[0], arguments, environment);
  _exit(127);
}

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    read = ends[0];
    write = ends[1];
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close(read);
    close_write();
  }
  void close_write() {
    if (write >= 0) close(write);
    write = -1;
  }
};

int milliseconds_left(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(left);
}

}  // namespace

pid_t spawn(const Command& command, const Identity& identity) {
  std::vector<char*> arguments;
  for (const std::string& argument : command.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  // Nothing of our own environment: it may hold secrets, and PG… variables that would lead PostgreSQL astray.
  std::vector<const char*> environment{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=/"};
  for (const std::string& variable : command.environment) environment.push_back(variable.c_str());
  environment.push_back(nullptr);
  const pid_t parent = getpid();
  // After a fork() every page that a busy server writes would be a fault. The child has this memory until it is another
  // program: no handler of a signal may run in it before.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork)
  if (pid == 0) execute(command, identity, arguments.data(), const_cast<char* const*>(environment.data()), parent);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) throw std::system_error(error, std::generic_category(), "vfork");
  return pid;
}

std::optional<int> wait_until(pid_t pid, Clock::time_point deadline) {
  auto pause = std::chrono::microseconds(200);
  for (;;) {
    int status = 0;
    const pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == pid) return status;
    if (got < 0 && errno != EINTR) return 0;  // not ours to wait for any more: it has ended
    if (Clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(5000));
  }
}

Outcome run(const Command& command, const Identity& identity, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  Outcome outcome;
  Pipe pipe;
  Command piped = command;
  piped.output = pipe.write;
  const pid_t pid = spawn(piped, identity);
  pipe.close_write();
  char buffer[4096];
  for (;;) {
    pollfd descriptor{pipe.read, POLLIN, 0};
    const int ready = poll(&descriptor, 1, milliseconds_left(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    const ssize_t count = read(pipe.read, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if (outcome.output.size() < output_bytes) outcome.output.append(buffer, static_cast<std::size_t>(count));
  }
  std::optional<int> status = wait_until(pid, deadline);
  if (!status) {
    outcome.timed_out = true;
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    status = wait_until(pid, Clock::now() + std::chrono::seconds(5));
  }
  outcome.status = status.value_or(SIGKILL);
  return outcome;
}

std::optional<std::size_t> first_unsearchable(const std::vector<std::string>& directories, const Identity& identity) {
  Pipe pipe;
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    std::size_t found = directories.size();
    if (!become(identity)) _exit(126);
    for (std::size_t i = 0; i < directories.size() && found == directories.size(); ++i) {
      if (access(directories[i].c_str(), X_OK) != 0) found = i;
    }
    _exit(write(pipe.write, &found, sizeof found) == sizeof found ? 0 : 126);
  }
  pipe.close_write();
  std::size_t found = directories.size();
  pollfd descriptor{pipe.read, POLLIN, 0};
  const bool answered = poll(&descriptor, 1, 5000) == 1 && read(pipe.read, &found, sizeof found) == sizeof found;
  if (!answered) kill(pid, SIGKILL);
  wait_until(pid, Clock::now() + std::chrono::seconds(5));
  if (!answered || found >= directories.size()) return std::nullopt;
  return found;
}

std::string describe_exit(int status) {
  if (WIFSIGNALED(status)) {
    return "signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) + ")";
  }
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

std::vector<pid_t> postgres_processes_in(const std::filesystem::path& directory) {
  std::vector<pid_t> found;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename();
    pid_t pid = 0;
    const auto [rest, problem] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (problem != std::errc{} || rest != name.data() + name.size() || pid == getpid()) continue;
    std::error_code gone;
    if (std::filesystem::read_symlink(it->path() / "cwd", gone) != directory || gone) continue;
    const std::string program = std::filesystem::read_symlink(it->path() / "exe", gone).filename();
    // "postgres (deleted)" after an upgrade of the package.
    if (!gone && program.starts_with("postgres")) found.push_back(pid);
  }
  return found;
}

std::string command_line(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline", std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  while (!text.empty() && text.back() == '\0') text.pop_back();
  for (char& c : text) {
    if (c == '\0' || c == '\n') c = ' ';
  }
  return text;
}

}  // namespace hourz::process
