// The private PostgreSQL of Hourz: made on first start, kept in the data directory, stopped with the server.
//
// It listens on a unix socket in a directory that only its user may enter, runs durably, and belongs to one server at a
// time. Whatever a kill -9 of either side left behind (a half-made cluster, an old postmaster, orphaned backends, stale
// pid and socket files) the next start() clears away; supervise() starts a postmaster again that died. The database
// `hourz` has PostGIS and two roles: hourz_owner, who runs migrations, and hourz_app, who may only read
// and write rows. Tables are left to the migrations, connections and their recovery to db::Client.
#pragma once
#include <functional>
#include <optional>

#include "db/data_directory.hpp"

namespace hourz::db {

struct ClusterOptions {
  std::filesystem::path directory;  ///< data directory of Hourz; the cluster lives in its folder `postgres`
  bool durable = true;              ///< false only for tests: no fsync
  int max_connections = 100;
  std::vector<std::string> extra_settings;  ///< "name=value", after ours
  std::string user = "postgres";            ///< whom PostgreSQL runs as when this process is root
  /// Told in plain words when the postmaster died or was started again; nothing by default.
  std::function<void(const std::string&)> report;
};

class Cluster {
 public:
  /// Children die with the thread that made them: start() and supervise() belong on the main thread, or on one that
  /// lives as long.
  explicit Cluster(ClusterOptions options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  /// Takes the directory, makes or repairs the cluster and waits until it takes connections. Throws ClusterError.
  void start();

  /// start() in two: the first ends whatever an earlier one left and launches the postmaster, so that the addresses are
  /// known; the second never waits, and is to be asked every few ms until it is true. Both throw ClusterError, and then
  /// nothing runs.
  void begin();
  bool arrive();

  /// Fast shutdown, then harder means: 9 s at the very most. Nothing to do when it is not started.
  void stop();

  /// Never waits. Call it every 100 ms or so and on SIGCHLD: reaps, starts a dead postmaster again (at once, then
  /// with pauses growing to 2 s), keeps the log within its bound. True while a postmaster runs, ready or not.
  bool supervise();

  /// Whether the postmaster says that it takes connections.
  bool ready() const;

  pid_t pid() const { return pid_; }  ///< of the postmaster; 0 while there is none
  int restarts() const { return restarts_; }

  /// libpq connection strings. The third is for tests and for repairs by hand.
  std::string owner_url() const { return url("hourz_owner", "hourz"); }
  std::string app_url() const { return url("hourz_app", "hourz"); }
  std::string superuser_url(const std::string& database = "postgres") const { return url("postgres", database); }

  std::filesystem::path log_file() const { return directory_ / "postgres.log"; }
  std::filesystem::path data() const { return directory_ / "postgres"; }

 private:
  /// Ends, step by step and without waiting, every process that an earlier postmaster left in the directory.
  struct Leftovers {
    std::optional<Clock::time_point> since;
    int asked = 0;
  };

  std::string url(const std::string& role, const std::string& database) const;
  std::string program(const char* name) const;
  void check_programs();
  /// Takes a step of the start; whatever it throws, nothing is left running, and it is a ClusterError.
  template <class Step>
  void attempt(const Step& step);
  void learn_version();
  void check_version();
  void make();
  void make_socket_directory();
  void write_settings();
  bool clear_leftovers();
  void launch();
  bool look_after_start();
  void provision();
  void bound_log();
  std::string last_words() const;
  void report(const std::string& text) const;

  ClusterOptions options_;
  process::Identity identity_;
  std::filesystem::path directory_;
  std::filesystem::path sockets_;
  std::string programs_;
  int major_ = 0;
  DirectoryLock lock_;
  Leftovers leftovers_;
  pid_t pid_ = 0;
  bool wanted_ = false;
  int restarts_ = 0;
  int failures_ = 0;  ///< starts in a row that did not last
  Clock::time_point launched_;
  Clock::time_point next_try_;
  std::uintmax_t log_start_ = 0;  ///< size of the log when the postmaster was launched
};

/// Where the cluster of a data directory listens that another process runs just now; for commands beside a server.
struct RunningCluster {
  pid_t server;  ///< who keeps it
  std::string owner_url, app_url;
};
std::optional<RunningCluster> find_running_cluster(const std::filesystem::path& directory);

}  // namespace hourz::db
