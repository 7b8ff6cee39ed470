// The private PostgreSQL: first and later starts, one server per directory, and what is left behind by kill -9 of
// either side. Tests that need another user, mounts or namespaces run as root only.
#include "db/cluster.hpp"
#include "temporary_folder.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "db/session.hpp"

namespace hourz::db {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class Folder {
 public:
  Folder() { path_ = make_temporary_folder("cluster"); }
  ~Folder() {
    // A server that was killed has left a postmaster shutting down, which must not write behind our back.
    const auto deadline = Clock::now() + 10s;
    while (!process::postgres_processes_in(path_ / "postgres").empty() && Clock::now() < deadline) {
      std::this_thread::sleep_for(5ms);
    }
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// A prepared cluster, made once: copying it spares initdb and PostGIS.
const fs::path& prepared() {
  static const auto folder = std::make_unique<Folder>();
  static const bool made = [] {
    Cluster cluster({.directory = folder->path(), .durable = false});
    cluster.start();
    cluster.stop();
    return true;
  }();
  (void)made;
  return folder->path();
}

/// Puts an environment variable back at the end.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* old = getenv(name)) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Environment() { old_ ? setenv(name_, old_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

ClusterOptions quick(const fs::path& directory) { return {.directory = directory, .durable = false}; }

std::string refusal(const ClusterOptions& options) {
  Cluster cluster(options);
  try {
    cluster.start();
  } catch (const ClusterError& error) {
    return error.what();
  }
  return "";
}

/// Runs `work` in a process of its own, which tells its first line early through `tell` and may then be killed.
class Helper {
 public:
  explicit Helper(const std::function<void(const std::function<void(const std::string&)>& tell)>& work) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    pid_ = fork();
    if (pid_ == 0) {
      const auto tell = [&](const std::string& line) {
        const std::string text = line + "\n";
        if (write(ends[1], text.data(), text.size()) < 0) _exit(9);
      };
      try {
        work(tell);
      } catch (const std::exception& error) {
        tell(std::string("failed: ") + error.what());
        _exit(1);
      }
      _exit(0);
    }
    close(ends[1]);
    read_ = ends[0];
  }
  ~Helper() {
    kill_now();
    close(read_);
  }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  /// The next line, or what went wrong.
  std::string line(std::chrono::milliseconds patience = 20s) {
    const auto deadline = Clock::now() + patience;
    std::string text;
    for (;;) {
      pollfd descriptor{read_, POLLIN, 0};
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0 || poll(&descriptor, 1, static_cast<int>(left)) <= 0) return text + " (nothing in time)";
      char c = 0;
      if (read(read_, &c, 1) != 1) return text + " (ended)";
      if (c == '\n') return text;
      text += c;
    }
  }

  pid_t pid() const { return pid_; }
  void kill_now() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    EXPECT_TRUE(process::wait_until(pid_, Clock::now() + 10s));
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  int read_ = -1;
};

template <class Condition>
bool soon(Condition condition, std::chrono::milliseconds patience = 10s) {
  const auto deadline = Clock::now() + patience;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool answers(const std::string& url) {
  try {
    return Session(url, 2s).value("SELECT 1", {}, 2s) == "1";
  } catch (const SessionError&) {
    return false;
  }
}

void hold(const fs::path& directory, bool durable, const std::function<void(const std::string&)>& tell) {
  Cluster cluster({.directory = directory, .durable = durable});
  cluster.start();
  tell("ready " + std::to_string(cluster.pid()));
  for (;;) pause();
}

/// D02.
TEST(Cluster, IsMadeOnFirstStartAndQuickOnTheSecond) {
  const Folder folder;
  // A directory that does not exist yet, below one that does.
  const fs::path directory = folder.path() / "data";
  if (geteuid() == 0) chmod(folder.path().c_str(), 0755);
  Cluster cluster({.directory = directory});
  cluster.start();
  EXPECT_TRUE(cluster.ready());
  {
    Session session(cluster.app_url());
    EXPECT_EQ(session.value("SELECT current_user || '@' || current_database()"), "hourz_app@hourz");
    EXPECT_EQ(session.value("SELECT postgis_lib_version() IS NOT NULL"), "t");
    for (const char* setting : {"fsync", "full_page_writes", "synchronous_commit", "data_checksums"}) {
      EXPECT_EQ(session.value("SELECT current_setting($1)", {setting}), "on") << setting;
    }
    EXPECT_EQ(session.value("SHOW listen_addresses"), "");
    EXPECT_EQ(session.value("SHOW server_encoding"), "UTF8");
    EXPECT_EQ(session.value("SELECT count(*) FROM pg_settings WHERE pending_restart OR sourcefile LIKE '%hba%'"), "0");
    for (const char* statement : {"CREATE TABLE mine (a int)", "CREATE TEMPORARY TABLE mine (a int)",
                                  "CREATE SCHEMA mine", "CREATE EXTENSION hstore", "CREATE ROLE other"}) {
      try {
        session.execute(statement);
        ADD_FAILURE() << statement;
      } catch (const SessionError& error) {
        EXPECT_EQ(error.sqlstate, "42501") << statement;
      }
    }
    Session owner(cluster.owner_url());
    owner.execute("CREATE TABLE kept (a int); INSERT INTO kept VALUES (7)");
    EXPECT_EQ(owner.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"), "f");
  }
  struct stat status {};
  ASSERT_EQ(stat(directory.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  if (geteuid() == 0) {
    EXPECT_EQ(status.st_uid, identity_for().uid);
    ASSERT_EQ(stat(("/proc/" + std::to_string(cluster.pid())).c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, identity_for().uid) << "PostgreSQL does not run as root";
  }
  const auto running = find_running_cluster(directory);
  ASSERT_TRUE(running);
  EXPECT_EQ(running->server, getpid());
  EXPECT_TRUE(answers(running->app_url));
  const pid_t first = cluster.pid();
  cluster.stop();
  EXPECT_NE(kill(first, 0), 0);
  EXPECT_FALSE(find_running_cluster(directory));

  const auto start = Clock::now();
  cluster.start();
  const double took = seconds_since(start);
  RecordProperty("second_start_ms", static_cast<int>(took * 1000));
  std::printf("second start: %.0f ms\n", took * 1000);
  EXPECT_LT(took, 2.0);
  EXPECT_EQ(Session(cluster.owner_url()).value("SELECT a FROM kept"), "7");
}

TEST(Cluster, TakesNothingOfOursAlong) {
  const Folder folder;
  const Environment secret("HOURZ_SECRET_FOR_TEST", "do not tell");
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  const int socket = open("/dev/null", O_RDONLY);  // not close-on-exec
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  Cluster cluster(quick(folder.path()));
  cluster.start();
  sigprocmask(SIG_SETMASK, &before, nullptr);
  const std::string process = "/proc/" + std::to_string(cluster.pid());
  std::ifstream file(process + "/environ", std::ios::binary);
  const std::string environment{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(environment.empty());
  EXPECT_EQ(environment.find("do not tell"), std::string::npos);
  for (const auto& entry : fs::directory_iterator(process + "/fd")) {
    std::error_code gone;
    const fs::path target = fs::read_symlink(entry.path(), gone);
    EXPECT_NE(target.filename(), "hourz.lock");
    if (std::stoi(entry.path().filename()) > 2) {
      EXPECT_NE(target, "/dev/null") << "a descriptor of ours";
    }
  }
  EXPECT_EQ(getpgid(cluster.pid()), cluster.pid()) << "Ctrl-C at the terminal must not reach it";
  close(socket);
}

TEST(Cluster, RefusesASecondServerAndNamesTheFirst) {
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Helper first([&](const auto& tell) { hold(folder.path(), false, tell); });
  ASSERT_TRUE(first.line().starts_with("ready ")) << "first";
  const std::string text = refusal(quick(folder.path()));
  EXPECT_NE(text.find("in use by process " + std::to_string(first.pid())), std::string::npos) << text;
  EXPECT_NE(text.find("cluster_test"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(Cluster, IsReadyAgainWithinTwoSecondsOfKillNine) {
  const Folder folder;
  {
    Cluster cluster({.directory = folder.path()});
    cluster.start();
    Session(cluster.owner_url()).execute("CREATE TABLE kept (a int)");
  }
  for (int round = 1; round <= 5; ++round) {
    Helper server([&](const auto& tell) { hold(folder.path(), true, tell); });
    const std::string line = server.line();
    ASSERT_TRUE(line.starts_with("ready ")) << line;
    const pid_t postmaster = std::stoi(line.substr(6));
    const auto running = find_running_cluster(folder.path());
    ASSERT_TRUE(running);
    Session session(running->owner_url);
    session.execute("INSERT INTO kept SELECT $1::int", {std::to_string(round)});
    // Dirty pages to write at the end, a session that stays, and in some rounds an old server that does not answer.
    session.execute("BEGIN; INSERT INTO kept SELECT g FROM generate_series(1000, 200000) g");
    if (round == 3) kill(postmaster, SIGSTOP);
    const auto start = Clock::now();
    server.kill_now();
    Cluster cluster({.directory = folder.path()});
    cluster.start();
    const double took = seconds_since(start);
    std::printf("ready again after kill -9: %.0f ms%s\n", took * 1000, round == 3 ? " (frozen postmaster)" : "");
    EXPECT_LT(took, 2.0);
    EXPECT_EQ(Session(cluster.app_url()).value("SELECT 1"), "1");
    EXPECT_EQ(Session(cluster.owner_url()).value("SELECT count(*) FROM kept"), std::to_string(round));
  }
}

TEST(Cluster, SupervisionStartsADeadPostmasterAgain) {
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  std::vector<std::string> said;
  ClusterOptions options = quick(folder.path());
  options.report = [&](const std::string& text) { said.push_back(text); };
  Cluster cluster(options);
  cluster.start();
  EXPECT_TRUE(cluster.supervise());
  for (const int signal : {SIGKILL, SIGQUIT, SIGKILL}) {
    // An orphan with the old shared memory that does not notice by itself that its postmaster is gone.
    Session orphan(cluster.app_url());
    const pid_t backend = std::stoi(*orphan.value("SELECT pg_backend_pid()"));
    if (signal == SIGKILL) kill(backend, SIGSTOP);
    const pid_t old = cluster.pid();
    const auto start = Clock::now();
    ASSERT_EQ(kill(old, signal), 0);
    auto longest = 0ms;
    ASSERT_TRUE(soon([&] {
      const auto before = Clock::now();
      cluster.supervise();
      longest = std::max(longest, std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - before));
      return cluster.pid() != 0 && cluster.pid() != old && cluster.ready();
    })) << (said.empty() ? "" : said.back());
    std::printf("restored after signal %d: %.0f ms, longest call %d ms\n", signal, seconds_since(start) * 1000,
                static_cast<int>(longest.count()));
    EXPECT_LT(longest, 100ms);
    EXPECT_TRUE(answers(cluster.app_url()));
    EXPECT_LT(seconds_since(start), 5.0);
  }
  EXPECT_EQ(cluster.restarts(), 3);
  ASSERT_GE(said.size(), 6U);
  EXPECT_NE(said[0].find("signal 9"), std::string::npos) << said[0];
}

TEST(Cluster, StopsEvenAFrozenPostmaster) {
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Cluster cluster(quick(folder.path()));
  cluster.start();
  Session session(cluster.app_url());
  for (pid_t pid : process::postgres_processes_in(cluster.data())) kill(pid, SIGSTOP);
  const auto start = Clock::now();
  cluster.stop();
  EXPECT_LT(seconds_since(start), 4.0);
  EXPECT_TRUE(process::postgres_processes_in(cluster.data()).empty());
  cluster.start();  // which also gives back the shared memory of the killed one
  EXPECT_TRUE(answers(cluster.app_url()));
}

TEST(Cluster, RepairsAFirstStartThatWasKilled) {
  const Folder folder;
  for (const auto delay : {100ms, 400ms, 700ms, 1000ms, 1300ms}) {
    Helper server([&](const auto& tell) { hold(folder.path(), true, tell); });
    const std::string line = server.line(delay);
    server.kill_now();
    if (line.starts_with("ready")) break;
  }
  Cluster cluster({.directory = folder.path()});
  cluster.start();
  EXPECT_EQ(Session(cluster.app_url()).value("SELECT count(*) FROM pg_extension"), "2");
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("postgres.new")) << entry.path();
  }
}

TEST(Cluster, OverlooksStaleFilesWithAReusedPid) {
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Cluster cluster(quick(folder.path()));
  cluster.start();
  cluster.stop();
  // Our own pid: alive, and not a postmaster.
  std::ofstream(cluster.data() / "postmaster.pid") << getppid() << "\n" << cluster.data().string() << "\n0\n5432\n";
  std::ofstream(folder.path() / "run/.s.PGSQL.5432.lock") << getppid() << "\n";
  std::ofstream(folder.path() / "run/.s.PGSQL.5432") << "x";
  cluster.start();
  EXPECT_TRUE(answers(cluster.app_url()));
}

TEST(Cluster, UsesAShortSocketPathForALongDirectory) {
  const Folder folder;
  if (geteuid() == 0) chmod(folder.path().c_str(), 0755);
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Cluster cluster(quick(folder.path() / std::string(90, 'd') / "it's"));
  cluster.start();
  EXPECT_TRUE(answers(cluster.app_url()));
  EXPECT_NE(cluster.app_url().find("/tmp/hourz-"), std::string::npos);
}

TEST(Cluster, SaysWhichProgramsAreMissing) {
  const Folder folder;
  const Environment programs("HOURZ_POSTGRES_BIN", folder.path());
  const std::string text = refusal(quick(folder.path() / "data"));
  EXPECT_NE(text.find("postgresql-15-postgis-3"), std::string::npos) << text;
}

TEST(Cluster, RefusesTheDataOfAnotherVersion) {
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Cluster cluster(quick(folder.path()));
  cluster.start();
  cluster.stop();
  std::ofstream(cluster.data() / "PG_VERSION") << "14\n";
  const std::string text = refusal(quick(folder.path()));
  EXPECT_NE(text.find("was made by PostgreSQL 14"), std::string::npos) << text;
  EXPECT_NE(text.find("is version 15"), std::string::npos) << text;
  std::ofstream(cluster.data() / "PG_VERSION") << "";
  EXPECT_NE(refusal(quick(folder.path())).find("is not a PostgreSQL cluster"), std::string::npos);
}

TEST(Cluster, TellsWhyPostgreSqlDoesNotStart) {
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  ClusterOptions options = quick(folder.path());
  options.extra_settings = {"shared_buffers=many"};
  const std::string text = refusal(options);
  EXPECT_NE(text.find("shared_buffers"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(DataDirectory, NamesTheParentThatMayNotBePassed) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can start as another user than PostgreSQL's";
  const Folder folder;
  fs::create_directories(folder.path() / "open");
  chmod(folder.path().c_str(), 0700);
  const std::string text = refusal(quick(folder.path() / "open" / "data"));
  EXPECT_NE(text.find("may not pass through " + folder.path().string() + ","), std::string::npos) << text;
}

TEST(DataDirectory, DoesNotTakeSomebodyElsesFiles) {
  if (geteuid() != 0) GTEST_SKIP() << "only root could";
  const Folder folder;
  // As /var would be: files of others, and something called lock.
  std::ofstream(folder.path() / "letter.txt") << "dear";
  fs::create_directory(folder.path() / "below");
  fs::create_symlink("below", folder.path() / "lock");
  fs::create_symlink("letter.txt", folder.path() / "hourz.lock");
  chmod(folder.path().c_str(), 0755);
  EXPECT_THROW(prepare_data_directory(folder.path()), ClusterError);
  EXPECT_THROW(prepare_data_directory(folder.path() / "letter.txt"), ClusterError);
  EXPECT_THROW(prepare_data_directory(folder.path() / "letter.txt" / "data"), ClusterError);
  for (const char* name : {".", "letter.txt", "below", "lock", "hourz.lock"}) {
    struct stat status {};
    ASSERT_EQ(lstat((folder.path() / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, 0U) << name;
  }
  struct stat status {};
  ASSERT_EQ(stat(folder.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0755U);
  // Marked as Hourz's, but root's: a person's decision.
  fs::remove(folder.path() / "hourz.lock");
  std::ofstream(folder.path() / "hourz.lock") << "";
  try {
    prepare_data_directory(folder.path());
    ADD_FAILURE() << "taken";
  } catch (const ClusterError& error) {
    EXPECT_NE(std::string(error.what()).find("chown -R postgres"), std::string::npos) << error.what();
  }
}

TEST(DataDirectory, DropsRootForGood) {
  if (geteuid() != 0) GTEST_SKIP() << "only root has something to drop";
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Helper server([&](const auto& tell) {
    const fs::path directory = prepare_data_directory(folder.path());
    drop_privileges();
    if (setuid(0) == 0) throw std::runtime_error("root again");
    std::error_code error;
    if (fs::directory_iterator("/proc/self/fd", error) == fs::directory_iterator() || error) {
      throw std::runtime_error("cannot see its own descriptors");
    }
    Cluster cluster(quick(directory));
    cluster.start();
    tell(Session(cluster.app_url()).value("SELECT current_user").value_or("?"));
  });
  EXPECT_EQ(server.line(), "hourz_app");
}

TEST(DataDirectory, SaysThatTheRightsAreMissing) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody without rights";
  const Folder folder;
  chmod(folder.path().c_str(), 0755);
  Helper server([&](const auto& tell) {
    drop_privileges();
    tell(refusal(quick(folder.path() / "data")));
    tell(refusal(quick(folder.path())));
  });
  std::string text = server.line();
  EXPECT_NE(text.find("cannot make " + (folder.path() / "data").string()), std::string::npos) << text;
  EXPECT_NE(text.find("Permission denied"), std::string::npos) << text;
  text = server.line();
  EXPECT_NE(text.find("does not belong to user postgres"), std::string::npos) << text;
}

TEST(Cluster, NamesThePackageWhenPostGisIsMissing) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can hide the extension";
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Helper server([&](const auto& tell) {
    // In this process's own view of the file system alone.
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", "/usr/share/postgresql/15/extension", "tmpfs", 0, "size=1m,mode=755") != 0) {
      tell("skip");
      return;
    }
    tell(refusal(quick(folder.path())));
  });
  const std::string text = server.line();
  if (text == "skip") GTEST_SKIP() << "no mount namespaces here";
  EXPECT_NE(text.find("postgis: apt-get install postgresql-15-postgis-3"), std::string::npos) << text;
}

TEST(Cluster, SaysThatThereIsNoSpace) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can mount a small file system";
  const Folder folder;
  Helper server([&](const auto& tell) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.path().c_str(), "tmpfs", 0, "size=40m") != 0) {
      tell("skip");
      return;
    }
    tell(refusal(quick(folder.path())));
  });
  const std::string text = server.line();
  if (text == "skip") GTEST_SKIP() << "no mount namespaces here";
  EXPECT_NE(text.find("no space"), std::string::npos) << text;
}

/// Disk full where the write-ahead log lies: PostgreSQL panics, cannot start, and comes back by itself once there is
/// space, with every row that was acknowledged.
TEST(Cluster, ComesBackByItselfAfterAFullDisk) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can mount a small file system";
  const Folder folder;
  const Environment template_cluster("HOURZ_TEST_CLUSTER_TEMPLATE", prepared());
  Helper server([&](const auto& tell) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", folder.path().c_str(), "tmpfs", 0, "size=260m") != 0) {
      tell("skip");
      return;
    }
    Cluster cluster(quick(folder.path()));
    cluster.start();
    Session(cluster.owner_url()).execute("CREATE TABLE kept (a int, filler text)");
    const fs::path filler = folder.path() / "filler";
    {
      std::ofstream file(filler);
      const std::string block(1 << 20, 'x');
      while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
      }
    }
    int acknowledged = 0;
    try {
      Session session(cluster.owner_url());
      for (; acknowledged < 100000; ++acknowledged) {
        session.execute("INSERT INTO kept SELECT $1::int, repeat(md5(random()::text), 1000)",
                        {std::to_string(acknowledged)});
      }
    } catch (const SessionError&) {
    }
    for (int i = 0; i < 100; ++i) {
      cluster.supervise();
      std::this_thread::sleep_for(10ms);
    }
    fs::remove(filler);
    const bool back = soon([&] {
      cluster.supervise();
      return cluster.ready() && answers(cluster.owner_url());
    });
    if (!back) {
      tell("not back");
      return;
    }
    const std::string rows = Session(cluster.owner_url()).value("SELECT count(*) FROM kept").value_or("none");
    tell(std::stoi(rows) >= acknowledged ? "all there" : rows + " of " + std::to_string(acknowledged));
  });
  const std::string text = server.line(60s);
  if (text == "skip") GTEST_SKIP() << "no mount namespaces here";
  EXPECT_EQ(text, "all there");
}

}  // namespace
}  // namespace hourz::db
