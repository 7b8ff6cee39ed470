#include "db/cluster.hpp"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "core/crypto.hpp"
#include "db/session.hpp"

namespace hourz::db {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kPackage = "postgresql-15-postgis-3";
constexpr const char* kSocket = ".s.PGSQL.5432";
constexpr std::uintmax_t kLogBound = 16 << 20;
constexpr std::uintmax_t kNewClusterBytes = 120 << 20;  // 70 MB once made, and room to work

std::string quoted(const std::string& value, char escape) {
  std::string text = "'";
  for (char c : value) {
    if (c == '\'' || (c == '\\' && escape == '\\')) text += escape;
    text += c;
  }
  return text + "'";
}

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Whole or not at all, and the user's own: a kill in the middle leaves the old file.
void write_file(const fs::path& path, const std::string& text, const process::Identity& identity) {
  const fs::path temporary = path.string() + ".new";
  unlink(temporary.c_str());
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  const bool written = file >= 0 && write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       (!identity.change || fchown(file, identity.uid, identity.gid) == 0);
  const int problem = written ? 0 : (errno == 0 ? ENOSPC : errno);
  if (file >= 0) close(file);
  if (!written || rename(temporary.c_str(), path.c_str()) != 0) {
    const int why = written ? errno : problem;
    unlink(temporary.c_str());
    throw ClusterError("cannot write " + path.string() + ": " + strerror(why));
  }
}

std::uintmax_t free_bytes(const fs::path& path) {
  struct statvfs status {};
  if (statvfs(path.c_str(), &status) != 0) return ~std::uintmax_t{0};
  return static_cast<std::uintmax_t>(status.f_bavail) * status.f_frsize;
}

/// What this process may use: the machine's memory, or the container's share.
std::uintmax_t memory_bytes() {
  auto bytes =
      static_cast<std::uintmax_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uintmax_t>(sysconf(_SC_PAGESIZE));
  std::uintmax_t limit = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit && limit > 0) bytes = std::min(bytes, limit);
  return bytes;
}

/// A free path for the socket directory: the kernel takes 107 bytes for the whole name.
fs::path socket_directory_for(const fs::path& directory) {
  const fs::path own = directory / "run";
  if (own.string().size() + 1 + strlen(kSocket) <= 107) return own;
  return "/tmp/hourz-" + to_hex(as_text(sha256(directory.string()))).substr(0, 16);
}

std::string connection_string(const fs::path& sockets, const std::string& role, const std::string& database) {
  return "host=" + quoted(sockets, '\\') + " port=5432 user=" + role + " dbname=" + quoted(database, '\\');
}

/// Lines of postmaster.pid: pid, data directory, start, port, socket directory, address, shared memory, status.
std::vector<std::string> pid_file(const fs::path& data) {
  std::vector<std::string> lines;
  std::istringstream text(read_all(data / "postmaster.pid"));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

pid_t pid_of(const std::vector<std::string>& lines) {
  pid_t pid = 0;
  if (!lines.empty()) std::from_chars(lines[0].data(), lines[0].data() + lines[0].size(), pid);
  return pid;
}

bool says_ready(const std::vector<std::string>& lines) { return lines.size() >= 8 && lines[7].starts_with("ready"); }

std::string in_megabytes(std::uintmax_t bytes) { return std::to_string(bytes >> 20) + " MB"; }

}  // namespace

Cluster::Cluster(ClusterOptions options) : options_(std::move(options)) {
  const char* const given = getenv("HOURZ_POSTGRES_BIN");
  programs_ = given != nullptr && *given != '\0' ? given : "/usr/lib/postgresql/15/bin";
}

Cluster::~Cluster() { stop(); }

std::string Cluster::program(const char* name) const { return programs_ + "/" + name; }

std::string Cluster::url(const std::string& role, const std::string& database) const {
  return connection_string(sockets_, role, database);
}

void Cluster::report(const std::string& text) const {
  if (options_.report) options_.report(text);
}

template <class Step>
void Cluster::attempt(const Step& step) {
  try {
    step();
  } catch (const std::system_error& error) {
    stop();
    throw ClusterError(std::string("PostgreSQL cannot be started: ") + error.what());
  } catch (const SessionError& error) {
    const std::string words = last_words();
    stop();
    throw ClusterError(std::string("the private PostgreSQL could not be set up: ") + error.what() +
                       (words.empty() ? "" : " (" + words + ")"));
  } catch (...) {
    stop();
    throw;
  }
}

void Cluster::start() {
  begin();
  while (!arrive()) std::this_thread::sleep_for(milliseconds(3));
}

void Cluster::begin() {
  if (wanted_ || pid_ != 0) return;
  check_programs();
  identity_ = identity_for(options_.user);
  directory_ = prepare_data_directory(options_.directory, options_.user);
  lock_.acquire(directory_);
  attempt([this] {
    make_socket_directory();
    clear_leftovers();
    learn_version();  // while an earlier one ends
    const auto deadline = Clock::now() + seconds(10);
    while (!clear_leftovers()) {
      if (Clock::now() > deadline) {
        throw ClusterError("an earlier PostgreSQL of " + data().string() + " does not end, even when killed");
      }
      std::this_thread::sleep_for(milliseconds(3));
    }
    make();
    check_version();
    write_settings();
    std::error_code ignored;
    if (fs::file_size(log_file(), ignored) > kLogBound / 16 && !ignored) {
      fs::rename(log_file(), log_file().string() + ".1", ignored);
    }
    launch();
  });
}

bool Cluster::arrive() {
  if (wanted_) return true;
  attempt([this] {
    if (!look_after_start()) return;
    provision();
    wanted_ = true;
  });
  return wanted_;
}

void Cluster::check_programs() {
  for (const char* name : {"postgres", "initdb"}) {
    if (access(program(name).c_str(), X_OK) != 0) {
      throw ClusterError("PostgreSQL is not installed (there is no " + program(name) + "): apt-get install " +
                         kPackage + ", or set HOURZ_POSTGRES_BIN to the folder of its programs");
    }
  }
}

void Cluster::learn_version() {
  const process::Outcome outcome =
      process::run({{program("postgres"), "--version"}, -1, SIGKILL}, identity_, seconds(10));
  const std::size_t at = outcome.output.find(") ");
  if (at != std::string::npos) {
    std::from_chars(outcome.output.data() + at + 2, outcome.output.data() + outcome.output.size(), major_);
  }
  if (!outcome.ok() || major_ == 0) {
    throw ClusterError(program("postgres") + " does not run: " + process::describe_exit(outcome.status) + " " +
                       outcome.output);
  }
}

void Cluster::check_version() {
  struct stat status {};
  if (stat(data().c_str(), &status) == 0 && status.st_uid != identity_.uid) {
    throw ClusterError(data().string() + " does not belong to user " + identity_.name +
                       ", whom PostgreSQL runs as: chown -R " + identity_.name + " " + data().string());
  }
  int made_by = 0;
  const std::string text = read_all(data() / "PG_VERSION");
  std::from_chars(text.data(), text.data() + text.size(), made_by);
  if (made_by == 0) {
    throw ClusterError(data().string() +
                       " is not a PostgreSQL cluster (its PG_VERSION is missing or empty): restore "
                       "it from a backup, or move it away to start anew");
  }
  if (made_by != major_) {
    throw ClusterError(data().string() + " was made by PostgreSQL " + std::to_string(made_by) + ", and " +
                       program("postgres") + " is version " + std::to_string(major_) +
                       ": set HOURZ_POSTGRES_BIN to the programs of version " + std::to_string(made_by) +
                       ", or carry the data over with pg_dump");
  }
}

/// The cluster appears under its name only when it is whole; what a killed first start left goes.
void Cluster::make() {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_, error)) {
    std::error_code ignored;
    if (entry.path().filename().string().starts_with("postgres.new-")) fs::remove_all(entry.path(), ignored);
  }
  if (fs::exists(data(), error)) return;
  // A prepared cluster to copy spares a test process the second that initdb and PostGIS take.
  const char* const given = options_.durable ? nullptr : getenv("HOURZ_TEST_CLUSTER_TEMPLATE");
  fs::path prepared;
  if (given != nullptr && *given != '\0') {
    prepared = fs::exists(fs::path(given) / "PG_VERSION") ? fs::path(given) : fs::path(given) / "postgres";
    if (!fs::exists(prepared / "PG_VERSION") || fs::exists(prepared / "postmaster.pid")) prepared.clear();
  }
  const std::uintmax_t space = free_bytes(directory_);
  if (space < kNewClusterBytes) {
    throw ClusterError("no space for a new database in " + directory_.string() + ": " + in_megabytes(space) +
                       " are free, and it takes " + in_megabytes(kNewClusterBytes));
  }
  const fs::path fresh = directory_ / ("postgres.new-" + std::to_string(getpid()));
  process::Command command;
  if (prepared.empty()) {
    command.arguments = {program("initdb"),
                         "-D",
                         fresh,
                         "--username=postgres",
                         "--auth=trust",
                         "--encoding=UTF8",
                         "--locale=C.UTF-8",
                         "--data-checksums",
                         "--no-instructions"};
    if (!options_.durable) command.arguments.emplace_back("--no-sync");
  } else {
    command.arguments = {"/bin/cp", "-a", "--reflink=auto", prepared, fresh};
  }
  const process::Outcome outcome = process::run(command, identity_, seconds(120));
  if (!outcome.ok()) {
    fs::remove_all(fresh, error);
    std::string words = outcome.output;
    while (!words.empty() && words.back() == '\n') words.pop_back();
    for (char& c : words) {
      if (c == '\n') c = ' ';
    }
    if (words.find("No space left") != std::string::npos) {
      throw ClusterError("no space left on the file system of " + directory_.string() + " to make the database");
    }
    if (words.size() > 400) words = "…" + words.substr(words.size() - 400);
    throw ClusterError("the database could not be made in " + directory_.string() + " (" +
                       (outcome.timed_out ? "it took over 2 minutes" : process::describe_exit(outcome.status)) +
                       "): " + words);
  }
  if (rename(fresh.c_str(), data().c_str()) != 0) {
    throw ClusterError("cannot rename " + fresh.string() + ": " + strerror(errno));
  }
  const int folder = open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    if (options_.durable) fsync(folder);
    close(folder);
  }
}

void Cluster::make_socket_directory() {
  sockets_ = socket_directory_for(directory_);
  if (mkdir(sockets_.c_str(), 0700) == 0) {
    if (identity_.change && lchown(sockets_.c_str(), identity_.uid, identity_.gid) != 0) {
      throw ClusterError("cannot chown " + sockets_.string() + ": " + strerror(errno));
    }
  } else if (errno != EEXIST) {
    throw ClusterError("cannot make " + sockets_.string() + " for the database's socket: " + strerror(errno));
  }
  // Everybody may write to /tmp: the directory could be somebody else's trap.
  struct stat status {};
  if (lstat(sockets_.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != identity_.uid ||
      (status.st_mode & 077) != 0) {
    throw ClusterError(sockets_.string() + ", meant for the database's socket, is not a directory that user " +
                       identity_.name + " alone may enter: remove it");
  }
}

/// Both files are ours alone and written anew on each start, so that a newer Hourz brings its settings along. What a
/// person sets with ALTER SYSTEM lives in postgresql.auto.conf and wins.
void Cluster::write_settings() {
  const std::uintmax_t memory = memory_bytes();
  const std::uintmax_t buffers =
      std::max<std::uintmax_t>(std::min<std::uintmax_t>(memory / 8, (options_.durable ? 256 : 64) << 20), 16 << 20);
  const char* const safe = options_.durable ? "on" : "off";
  // After a crash every file must be on the disk before the log is replayed. One call to the kernel does what opening
  // and syncing each of some 1,500 files did, in a tenth of the time; it tells of failed writes since Linux 5.8.
  const char* const syncing = major_ >= 14 ? "recovery_init_sync_method = syncfs\n" : "";
  std::ostringstream text;
  text << "# Written by Hourz at every start: change nothing here. ALTER SYSTEM keeps settings of your own.\n"
       << "cluster_name = 'hourz'\n"
       << "listen_addresses = ''\n"
       << "port = 5432\n"
       << "unix_socket_directories = " << quoted(sockets_, '\'') << "\n"
       << "unix_socket_permissions = 0700\n"
       << "max_connections = " << options_.max_connections << "\n"
       << "shared_buffers = " << (buffers >> 10) << "kB\n"
       << "effective_cache_size = " << (memory >> 11) << "kB\n"
       << "work_mem = 8MB\n"
       << "maintenance_work_mem = 128MB\n"
       << "fsync = " << safe << "\n"
       << "synchronous_commit = " << safe << "\n"
       << "full_page_writes = " << safe << "\n"
       << syncing << "wal_compression = lz4\n"
       << "min_wal_size = 256MB\n"
       // After a crash what was logged since the last checkpoint but one is replayed, some 300 MB a second on a core of
       // its own: this bounds the wait to a second or two, for some more pages written whole.
       << "checkpoint_timeout = 60s\n"
       << "max_wal_size = 512MB\n"
       << "checkpoint_completion_target = 0.9\n"
       << "random_page_cost = 1.1\n"
       << "effective_io_concurrency = 100\n"
       << "jit = off\n"
       // Many small queries on few cores: a second process for one of them only takes from the others.
       << "max_parallel_workers_per_gather = 0\n"
       << "deadlock_timeout = 200ms\n"
       << "idle_in_transaction_session_timeout = 30s\n"
       << "client_connection_check_interval = 2s\n"
       << "update_process_title = off\n"
       << "logging_collector = off\n"
       << "log_line_prefix = '%m [%p] %u '\n"
       << "log_min_messages = error\n"
       // Neither statements nor the values in a constraint's detail: they hold what people wrote.
       << "log_min_error_statement = panic\n"
       << "log_error_verbosity = terse\n"
       << "log_timezone = 'UTC'\n"
       << "timezone = 'UTC'\n"
       << "datestyle = 'iso, ymd'\n"
       << "lc_messages = 'C'\n"
       << "default_text_search_config = 'pg_catalog.simple'\n";
  for (const std::string& setting : options_.extra_settings) {
    const std::size_t at = setting.find('=');
    if (at == std::string::npos) throw ClusterError("a database setting must be name=value: " + setting);
    text << setting.substr(0, at) << " = " << quoted(setting.substr(at + 1), '\'') << "\n";
  }
  write_file(data() / "postgresql.conf", text.str(), identity_);
  // Trust: whoever can reach the socket has passed the 0700 directory that it lies in, and is our user or root. There
  // is no other way in.
  write_file(data() / "pg_hba.conf", "# Written by Hourz at every start.\nlocal all all trust\n", identity_);
}

/// One step, without waiting; true when nothing is left. A postmaster still shutting down (the kernel told it of its
/// parent's death) has 1.5 s to end well, since the next one would have to write all the same and replay the log
/// before; then it must end at once, then it is killed.
bool Cluster::clear_leftovers() {
  const std::vector<pid_t> left = process::postgres_processes_in(data());
  if (left.empty()) {
    leftovers_ = {};
    for (const fs::path& stale :
         {data() / "postmaster.pid", sockets_ / kSocket, sockets_ / (std::string(kSocket) + ".lock")}) {
      unlink(stale.c_str());
    }
    return true;
  }
  const auto now = Clock::now();
  if (!leftovers_.since) {
    leftovers_.since = now;
    for (pid_t pid : left) kill(pid, SIGCONT);  // a frozen one hears nothing else
  }
  const auto waited = now - *leftovers_.since;
  const pid_t postmaster = pid_of(pid_file(data()));
  const bool has_postmaster = std::find(left.begin(), left.end(), postmaster) != left.end();
  if (leftovers_.asked == 0 && (waited >= milliseconds(1500) || !has_postmaster)) {
    leftovers_.asked = 1;
    for (pid_t pid : left) {
      if (!has_postmaster || pid == postmaster) kill(pid, SIGQUIT);
    }
  } else if (leftovers_.asked >= 1 && waited >= milliseconds(has_postmaster ? 1800 : 300)) {
    for (pid_t pid : left) kill(pid, SIGKILL);
  }
  return false;
}

void Cluster::launch() {
  const int log = open(log_file().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (log < 0) throw ClusterError("cannot open " + log_file().string() + ": " + strerror(errno));
  if (identity_.change && fchown(log, identity_.uid, identity_.gid) != 0) errno = 0;
  struct stat status {};
  log_start_ = fstat(log, &status) == 0 ? static_cast<std::uintmax_t>(status.st_size) : 0;
  launched_ = Clock::now();
  try {
    pid_ = process::spawn({{program("postgres"), "-D", data()}, log, SIGINT}, identity_);
  } catch (...) {
    close(log);
    throw;
  }
  close(log);
}

bool Cluster::ready() const {
  const auto lines = pid_file(data());
  return pid_ != 0 && pid_of(lines) == pid_ && says_ready(lines);
}

/// Whether it takes connections. Two minutes: the disk may be slow, and the log to replay long.
bool Cluster::look_after_start() {
  if (ready()) return true;
  if (const auto status = process::wait_until(pid_, Clock::now())) {
    pid_ = 0;
    const std::string words = last_words();
    if (words.find("No space left") != std::string::npos) {
      throw ClusterError("no space left on the file system of " + directory_.string() + ": PostgreSQL cannot start");
    }
    throw ClusterError("PostgreSQL did not start (" + process::describe_exit(*status) +
                       "): " + (words.empty() ? "see " + log_file().string() : words));
  }
  if (Clock::now() - launched_ > seconds(120)) {
    throw ClusterError("PostgreSQL is not ready after 2 minutes: see " + log_file().string());
  }
  return false;
}

/// What is there already is left alone, so that a start that was killed here is taken up by the next.
void Cluster::provision() {
  {
    Session session(superuser_url());
    session.execute(
        "DO $$ BEGIN"
        " IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hourz_owner') THEN CREATE ROLE hourz_owner LOGIN; END "
        "IF;"
        " IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hourz_app') THEN CREATE ROLE hourz_app LOGIN; END IF;"
        " END $$");
    if (!session.value("SELECT 1 FROM pg_database WHERE datname = 'hourz'")) {
      session.execute("CREATE DATABASE hourz OWNER hourz_owner", {}, seconds(60));
    }
  }
  Session session(superuser_url("hourz"));
  for (const char* extension : {"postgis"}) {
    const auto state = session.value(
        "SELECT CASE WHEN installed_version IS NULL THEN 'available' ELSE 'installed' END FROM pg_available_extensions "
        "WHERE name = $1",
        {extension});
    if (!state) {
      throw ClusterError(std::string("PostgreSQL lacks the extension ") + extension + ": apt-get install " + kPackage);
    }
    if (*state == "available") {
      session.execute(std::string("CREATE EXTENSION IF NOT EXISTS ") + extension, {}, seconds(60));
    }
  }
  // Everybody may make temporary tables in a new database; the application's role makes nothing.
  session.execute(
      "DO $$ BEGIN"
      " IF has_database_privilege('hourz_app', 'hourz', 'TEMPORARY') THEN"
      "  REVOKE ALL ON DATABASE hourz FROM PUBLIC; GRANT CONNECT ON DATABASE hourz TO hourz_app;"
      " END IF;"
      " IF has_schema_privilege('hourz_app', 'public', 'CREATE') THEN REVOKE CREATE ON SCHEMA public FROM PUBLIC; END "
      "IF;"
      " END $$");
}

bool Cluster::supervise() {
  if (!wanted_) return false;
  const auto now = Clock::now();
  if (pid_ != 0) {
    bound_log();
    const auto status = process::wait_until(pid_, now);
    if (!status) return true;
    pid_ = 0;
    failures_ = now - launched_ > seconds(3) ? 0 : failures_ + 1;
    const milliseconds pause{failures_ == 0 ? 0 : std::min(100 << std::min(failures_ - 1, 5), 2000)};
    next_try_ = now + pause;
    const std::string words = last_words();
    report("PostgreSQL ended (" + process::describe_exit(*status) + ")" + (words.empty() ? "" : ": " + words) +
           "; it is started again in " + std::to_string(pause.count()) + " ms");
  }
  if (now < next_try_ || !clear_leftovers()) return false;
  try {
    launch();
    ++restarts_;
    report("PostgreSQL is started again as process " + std::to_string(pid_));
  } catch (const std::exception& error) {
    ++failures_;
    next_try_ = now + seconds(2);
    report(std::string("PostgreSQL cannot be started again, next try in 2000 ms: ") + error.what());
  }
  return pid_ != 0;
}

/// PostgreSQL appends to the log, so that cutting it off under its hands is safe; the last 16 MB are kept beside it.
void Cluster::bound_log() {
  struct stat status {};
  if (stat(log_file().c_str(), &status) != 0 || static_cast<std::uintmax_t>(status.st_size) < kLogBound) return;
  std::error_code ignored;
  fs::copy_file(log_file(), log_file().string() + ".1", fs::copy_options::overwrite_existing, ignored);
  if (truncate(log_file().c_str(), 0) == 0) log_start_ = 0;
}

/// The last line of the log that says why a start failed or the server ended.
std::string Cluster::last_words() const {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(log_file(), error);
  if (error) return "";
  constexpr std::uintmax_t kEnd = 64 << 10;
  std::ifstream file(log_file(), std::ios::binary);
  file.seekg(static_cast<std::streamoff>(std::max(log_start_, size > kEnd ? size - kEnd : 0)));
  std::string found, before;
  for (std::string line; std::getline(file, line); before = line) {
    for (const char* mark : {"FATAL:  ", "PANIC:  "}) {
      const std::size_t at = line.find(mark);
      // A client that comes too early is told so with the same word.
      const bool early = line.find("the database system is") != std::string::npos ||
                         line.find("\" does not exist") != std::string::npos;
      if (at != std::string::npos && !early) {
        found = line.substr(at + strlen(mark));
        // The setting at fault stands a line above.
        const std::size_t cause = before.find("LOG:  ");
        if (found.starts_with("configuration file") && cause != std::string::npos) {
          found += ": " + before.substr(cause + 6);
        }
      }
    }
  }
  return found;
}

void Cluster::stop() {
  wanted_ = false;
  struct Step {
    int signal;
    seconds patience;
  };
  for (const Step step : {Step{SIGINT, seconds(5)}, Step{SIGQUIT, seconds(2)}, Step{SIGKILL, seconds(1)}}) {
    if (pid_ == 0) break;
    kill(pid_, step.signal);
    if (step.signal == SIGINT) {
      for (pid_t frozen : process::postgres_processes_in(data())) kill(frozen, SIGCONT);
    }
    if (process::wait_until(pid_, Clock::now() + step.patience)) pid_ = 0;
  }
  pid_ = 0;
  if (!lock_.held()) return;
  // A killed postmaster's backends, or those of one that died and was not started again.
  if (!sockets_.empty()) {
    leftovers_ = {};
    const auto deadline = Clock::now() + seconds(1);
    while (!clear_leftovers() && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(3));
    if (sockets_.parent_path() == "/tmp") rmdir(sockets_.c_str());
  }
  lock_.release();
}

std::optional<RunningCluster> find_running_cluster(const fs::path& directory) {
  std::error_code error;
  const fs::path path = fs::canonical(directory, error);
  if (error) return std::nullopt;
  const pid_t server = lock_holder(path);
  if (server == 0 || !says_ready(pid_file(path / "postgres"))) return std::nullopt;
  const fs::path sockets = socket_directory_for(path);
  return RunningCluster{server, connection_string(sockets, "hourz_owner", "hourz"),
                        connection_string(sockets, "hourz_app", "hourz")};
}

}  // namespace hourz::db
