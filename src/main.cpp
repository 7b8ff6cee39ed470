// The command line: serve, migrate, backup, restore, demo, files, admin, openapi, asyncapi, errors, config. Exit codes:
// 0 done, 1 failed, 2 wrong use or settings.
#include <libpq-fe.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <random>
#include <thread>

#include "app/backup.hpp"
#include "app/house.hpp"
#include "app/server.hpp"
#include "core/crypto.hpp"
#include "core/log.hpp"
#include "core/version.hpp"
#include "db/cluster.hpp"
#include "db/data_directory.hpp"
#include "db/migrations.hpp"
#include "demo/demo.hpp"
#include "rooms/uploads/uploads.hpp"
#include "storage/copy.hpp"
#include "storage/local.hpp"
#include "storage/s3.hpp"

namespace hourz {
namespace {

constexpr std::string_view usage = R"(hourz: the backend of Hourz

  hourz serve                 run the server (with its own PostgreSQL when HOURZ_DATABASE_URL is not set)
  hourz migrate up            apply the schema's missing steps
  hourz migrate down VERSION  undo every step above VERSION
  hourz migrate status        list the steps
  hourz demo [--users N] [--gigs N] [--seed S] [--at TIME]
                              fill an empty database with a believable Bangkok, as of now or of TIME (RFC 3339)
  hourz files copy FROM TO    copy all files between the stores `local` and `s3`; can be stopped and repeated
  hourz backup DIR            copy the database and the files into a new folder, while the service runs
  hourz restore DIR [--replace]
                              load such a folder into an empty database, or in place of what it holds
  hourz admin grant EMAIL     make an account an administrator's
  hourz admin revoke EMAIL    take that back, unless nobody else would be left
  hourz admin audit-ledger    add the ledger up from its entries and follow its chains; exit 1 on any difference
  hourz admin recompute-reputation
                              make every score anew from the reviews; nothing changes where nothing is wrong
  hourz openapi               print the OpenAPI document
  hourz asyncapi              print the AsyncAPI document: the events of the WebSocket
  hourz errors                print the catalogue of errors, as docs/errors.md
  hourz config                print every setting: default, meaning, current value
  hourz version               print the version

Settings are environment variables HOURZ_*, or NAME=value lines of the file that HOURZ_CONFIG names; a variable wins
over the file. `hourz config` lists them.
)";

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The database that a command works on: the one of the settings, or the private one, running already or started here.
class Database {
 public:
  explicit Database(Config& config) : config_(config) {
    if (!config.database_url.empty()) {
      owner_url_ = config.migration_url;
      app_url_ = config.database_url;
      return;
    }
    if (auto running = db::find_running_cluster(config.data_directory)) {
      owner_url_ = running->owner_url;
      app_url_ = running->app_url;
      return;
    }
    start(Own::started);
  }

  /// Starts the private cluster even where another process has it, which is then the error; or only begins to, so that
  /// the addresses are known, and cluster()->arrive() is the caller's to ask.
  enum class Own { started, begun };
  Database(Config& config, Own own) : config_(config) {
    if (config.database_url.empty()) {
      start(own);
    } else {
      owner_url_ = config.migration_url;
      app_url_ = config.database_url;
    }
  }

  const std::string& owner_url() const { return owner_url_; }
  const std::string& app_url() const { return app_url_; }
  db::Cluster* cluster() { return cluster_.get(); }

 private:
  void start(Own own) {
    db::ClusterOptions options;
    options.directory = config_.data_directory;
    options.user = config_.run_as;
    const std::int64_t threads =
        config_.threads > 0 ? config_.threads : std::max(1U, std::thread::hardware_concurrency());
    // What the shards open, and some for commands beside the server and for a second one during a change-over.
    options.max_connections =
        static_cast<int>(2 * (threads * config_.read_connections + std::max(config_.pool_connections, threads)) + 20);
    options.report = [](const std::string& text) { log::Line(log::Level::warn, "database").with("cause", text); };
    cluster_ = std::make_unique<db::Cluster>(std::move(options));
    own == Own::started ? cluster_->start() : cluster_->begin();
    owner_url_ = cluster_->owner_url();
    app_url_ = cluster_->app_url();
  }
  Config& config_;
  std::unique_ptr<db::Cluster> cluster_;
  std::string owner_url_;
  std::string app_url_;
};

/// A connection string that cannot be read would only be noticed much later, as a database that never answers.
void check_url(std::string_view variable, const std::string& url) {
  if (url.empty()) return;
  char* message = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> parsed(PQconninfoParse(url.c_str(), &message),
                                                                            &PQconninfoFree);
  if (parsed) return;
  std::string text = message == nullptr ? "cannot be read" : message;
  PQfreemem(message);
  while (text.ends_with('\n')) text.pop_back();
  throw ConfigError(std::string(variable) + ": " + text);
}

/// Makes the folder of files where it is not there; one that is there must be the server's already.
void prepare_files_directory(const std::string& directory, const std::string& user) {
  std::error_code error;
  if (!std::filesystem::create_directories(directory, error)) {
    if (error) throw ConfigError("HOURZ_FILES_DIRECTORY: cannot make " + directory + ": " + error.message());
    return;
  }
  const process::Identity identity = db::identity_for(user);
  if (::chmod(directory.c_str(), 0750) != 0 ||
      (identity.change && ::chown(directory.c_str(), identity.uid, identity.gid) != 0)) {
    throw ConfigError("HOURZ_FILES_DIRECTORY: cannot give " + directory + " to user " + identity.name);
  }
}

/// Makes the data directory, and leaves root's powers behind, before anything else is done.
void settle_down(Config& config) {
  check_url("HOURZ_DATABASE_URL", config.database_url);
  check_url("HOURZ_MIGRATION_URL", config.migration_url);
  if (!config.postgres_bin.empty()) setenv("HOURZ_POSTGRES_BIN", config.postgres_bin.c_str(), 1);
  const bool needs_directory = config.database_url.empty() || config.secret.empty() || config.files_directory.empty();
  if (needs_directory) {
    config.data_directory = db::prepare_data_directory(config.data_directory, config.run_as).string();
  }
  if (!config.files_directory.empty()) prepare_files_directory(config.files_directory, config.run_as);
  if (geteuid() == 0) db::drop_privileges(config.run_as);
  ensure_secret(config);
}

std::string make_hash(const Config& config, std::string password) {
  auth::Hasher hasher(
      {static_cast<std::size_t>(config.hash_memory_kib) * 1024, static_cast<unsigned long long>(config.hash_passes)}, 1,
      1);
  boost::asio::io_context io;
  std::string hash;
  boost::asio::co_spawn(io, hasher.hash(std::move(password)), [&hash](std::exception_ptr failure, std::string made) {
    if (failure) std::rethrow_exception(failure);
    hash = std::move(made);
  });
  io.run();
  return hash;
}

void load_demo(const Config& config, const std::string& owner_url, std::int64_t people, std::int64_t gigs,
               std::uint64_t seed, Timestamp at) {
  demo::Options options;
  options.users = people;
  options.gigs = gigs;
  options.seed = seed;
  options.blur_key = derive_key(config, "blur");
  options.blur_radius_m = static_cast<double>(config.location_blur_m);
  options.password_hash = make_hash(config, std::string(demo::demo_password));
  options.base_time = at;
  const auto loaded =
      demo::load(owner_url, options, [](std::string_view line) { std::cout << "demo: " << line << std::endl; });
  std::cout << "demo: " << loaded.users << " people and " << loaded.gigs << " gigs; log in as " << loaded.seeker.email
            << " or " << loaded.helper.email << " with the password " << loaded.password << std::endl;
}

// --- serve -----------------------------------------------------------------------------------------------------------

/// Brings the schema up to date; false when there is no database to be reached yet.
bool migrated(Database& database) {
  try {
    const int applied = db::migrate_up(database.owner_url());
    if (applied > 0) log::Line(log::Level::info, "schema.migrated").with("steps", applied);
    return true;
  } catch (const db::MigrationError& error) {
    if (!error.unavailable) throw;
    log::Line(log::Level::warn, "database.unavailable").with("cause", error.what());
    return false;
  }
}

int serve(Config config) {
  // Signals are taken by this thread alone, between rounds of supervision.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  settle_down(config);
  log::start(config.log_level);
  // It listens while the database comes, which may replay a log first: a probe of life must not have to wait for that.
  Database database(config, Database::Own::begun);
  app::Server server(config, database.app_url());
  server.start();
  std::cout << "hourz: listening on http://" << config.listen_address << ":" << server.port() << std::endl;
  log::Line(log::Level::info, "server.started").with("address", config.listen_address).with("port", server.port());

  using Clock = std::chrono::steady_clock;
  bool arrived = database.cluster() == nullptr, ready = false;
  auto next_try = Clock::now();
  std::chrono::milliseconds pause{100};
  std::minstd_rand jitter(std::random_device{}());
  Clock::time_point cut_off = Clock::time_point::max();
  int stops = 0;
  while (true) {
    // A stop goes before the next try at the database: nobody waits for a schema that nobody will use.
    const bool due = arrived && !ready && stops == 0 && Clock::now() >= next_try;
    const timespec tick{0, due ? 0 : arrived ? 50'000'000 : 3'000'000};
    const int signal = sigtimedwait(&signals, nullptr, &tick);
    if (database.cluster() != nullptr && stops == 0) {
      if (arrived) {
        database.cluster()->supervise();
      } else {
        arrived = database.cluster()->arrive();
      }
    }
    if (signal == SIGTERM || signal == SIGINT) {
      ++stops;
      if (stops == 1) {
        log::Line(log::Level::info, "server.draining");
        server.drain();
        cut_off = Clock::now() + std::chrono::milliseconds(config.drain_timeout_ms + 1000);
      }
    }
    if (stops > 1 || server.drained() || Clock::now() > cut_off) break;
    if (!due || stops > 0) continue;
    if (migrated(database)) {
      if (config.demo == "small" && demo::is_empty(database.owner_url())) {
        load_demo(config, database.owner_url(), 2000, 10000, 1, now());
      }
      server.set_ready();
      ready = true;
      std::cout << "hourz: ready" << std::endl;
      log::Line(log::Level::info, "server.ready");
    } else {
      pause = std::min<std::chrono::milliseconds>(pause * 2, std::chrono::seconds(2));
      next_try = Clock::now() + pause + std::chrono::milliseconds(jitter() % 200);
    }
  }
  server.stop();
  if (database.cluster() != nullptr) database.cluster()->stop();
  log::Line(log::Level::info, "server.stopped");
  log::stop();
  return 0;
}

// --- the other commands ----------------------------------------------------------------------------------------------

std::int64_t number_in(std::string_view text, std::string_view what) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 0) {
    throw UsageError(std::string(what) + " takes a whole number");
  }
  return number;
}

int migrate(Config config, const std::vector<std::string>& arguments) {
  const std::string what = arguments.empty() ? "" : arguments[0];
  const bool down = what == "down" && arguments.size() == 2;
  if (!down && !((what == "up" || what == "status") && arguments.size() == 1)) {
    throw UsageError("migrate takes up, status, or down and a version");
  }
  const int version = down ? static_cast<int>(number_in(arguments[1], "migrate down")) : 0;
  settle_down(config);
  Database database(config);
  if (what == "up") {
    std::cout << db::migrate_up(database.owner_url()) << " steps applied\n";
  } else if (down) {
    std::cout << db::migrate_down(database.owner_url(), version) << " steps undone\n";
  } else {
    for (const auto& state : db::migration_status(database.owner_url())) {
      std::cout << state.version << " " << state.name << ": "
                << (state.pending() ? std::string("pending") : "applied " + *state.applied_at)
                << (state.checksum_ok ? "" : ", ALTERED SINCE") << (state.known ? "" : ", UNKNOWN TO THIS PROGRAM")
                << "\n";
    }
  }
  return 0;
}

int fill_demo(Config config, const std::vector<std::string>& arguments) {
  std::int64_t people = 2000;
  std::int64_t gigs = 10000;
  std::int64_t seed = 1;
  Timestamp at = now();
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    if (i + 1 == arguments.size()) throw UsageError(arguments[i] + " takes a value");
    if (arguments[i] == "--at") {
      const auto time = parse_timestamp(arguments[i + 1]);
      if (!time) throw UsageError("--at takes a time as 2026-11-23T12:00:00Z");
      at = *time;
      continue;
    }
    std::int64_t* target = arguments[i] == "--users"  ? &people
                           : arguments[i] == "--gigs" ? &gigs
                           : arguments[i] == "--seed" ? &seed
                                                      : nullptr;
    if (target == nullptr) throw UsageError("demo does not know " + arguments[i]);
    *target = number_in(arguments[i + 1], arguments[i]);
  }
  settle_down(config);
  Database database(config);
  db::migrate_up(database.owner_url());
  load_demo(config, database.owner_url(), people, gigs, static_cast<std::uint64_t>(seed), at);
  return 0;
}

std::unique_ptr<storage::Store> store_named(const std::string& name, const Config& config) {
  if (name == "s3") return std::make_unique<storage::S3Store>(storage::s3_options(config));
  if (name == "local") return std::make_unique<storage::LocalStore>(storage::files_directory(config));
  throw UsageError("a store is local or s3");
}

int copy_files(Config config, const std::vector<std::string>& arguments) {
  if (arguments.size() != 3 || arguments[0] != "copy" || arguments[1] == arguments[2]) {
    throw UsageError("files takes copy and two stores: local and s3, or s3 and local");
  }
  settle_down(config);
  log::start(config.log_level);
  const auto from = store_named(arguments[1], config);
  const auto to = store_named(arguments[2], config);
  to->check();
  storage::make_incoming(storage::incoming_directory(config));
  const auto done = storage::copy_objects(*from, *to, storage::incoming_directory(config));
  std::cout << done.seen << " files: " << done.copied << " copied (" << done.bytes << " bytes), " << done.there
            << " there already, " << done.gone << " removed meanwhile\n";
  log::stop();
  return 0;
}

db::Awaitable<std::optional<bool>> set_role(db::Client& client, std::string email, http::Role role) {
  const auto transaction = client.begin();
  const auto changed = co_await users::set_role(*transaction, std::move(email), role);
  co_await transaction->commit();
  co_return changed;
}

/// What the work gives, done with one client of the database that is up to date with this program.
template <class T, class Work>
T with_client(Config config, const Work& work) {
  settle_down(config);
  Database database(config);
  db::check_schema(database.app_url());
  boost::asio::io_context io;
  db::Client client(io, app::database_options(config, database.app_url(), 1));
  std::optional<T> made;
  std::exception_ptr failure;
  boost::asio::co_spawn(io, work(client), [&](std::exception_ptr error, T value) {
    failure = error;
    made = std::move(value);
    client.stop();
    io.stop();
  });
  io.run();
  if (failure) std::rethrow_exception(failure);
  return std::move(*made);
}

db::Awaitable<payments::LedgerAudit> audit(db::Client& client) {
  co_return co_await payments::audit_ledger(client.reads());
}

/// 0 when nothing differs.
int tell(const payments::LedgerAudit& report) {
  std::cout << report.accounts << " accounts, " << report.journals << " journals, " << report.entries
            << " entries: " << (report.faults.empty() ? "all add up" : "NOT AS POSTED") << "\n";
  for (const std::string& fault : report.faults) std::cerr << "hourz: " << fault << "\n";
  return report.faults.empty() ? 0 : 1;
}

/// A large database may take its time.
void be_patient(Config& config) { config.statement_timeout_ms = config.answer_timeout_ms = 3'600'000; }

int audit_ledger(Config config) {
  be_patient(config);
  return tell(with_client<payments::LedgerAudit>(std::move(config), audit));
}

void tell(const char* what, const app::BackupSummary& summary, const std::string& folder) {
  std::cout << what << ": " << summary.rows.size() << " tables with " << summary.all_rows() << " rows, "
            << summary.files << " files of " << summary.file_bytes << " bytes, schema " << summary.schema << ", as of "
            << summary.made_at << ", " << folder << std::endl;
}

int back_up(Config config, const std::vector<std::string>& arguments) {
  if (arguments.size() != 1) throw UsageError("backup takes a folder, which it makes");
  settle_down(config);
  Database database(config);
  tell("backup", app::back_up(config, database.owner_url(), arguments[0]), arguments[0]);
  return 0;
}

/// 0 when every upload has its files.
int tell(const uploads::FilesCheck& files) {
  if (files.missing + files.damaged == 0) {
    std::cout << files.uploads << " uploads: all have their files\n";
    return 0;
  }
  std::cerr << "hourz: of " << files.uploads << " uploads " << files.missing << " lack a file and " << files.damaged
            << " have one with other bytes, the first of them " << to_string(files.first) << "\n";
  return 1;
}

struct Aftermath {
  uploads::FilesCheck files;
  payments::LedgerAudit ledger;
};

db::Awaitable<Aftermath> look_over(db::Client& client, storage::Store& store) {
  uploads::FilesCheck files = co_await uploads::check_files(store, client.reads());
  co_return Aftermath{files, co_await payments::audit_ledger(client.reads())};
}

/// 0 when every upload of what was restored has its files and the ledger adds up.
int restore(Config config, const std::vector<std::string>& arguments) {
  const bool replace = arguments.size() == 2 && arguments[1] == "--replace";
  if (arguments.size() != 1 && !replace) throw UsageError("restore takes a folder, and perhaps --replace");
  settle_down(config);
  {
    Database database(config, Database::Own::started);
    tell("restore", app::restore(config, database.owner_url(), arguments[0], replace), arguments[0]);
  }
  be_patient(config);
  const auto store = storage::make_store(config);
  const auto found =
      with_client<Aftermath>(std::move(config), [&store](db::Client& client) { return look_over(client, *store); });
  const int files = tell(found.files);
  return std::max(files, tell(found.ledger));
}

int admin(Config config, const std::vector<std::string>& arguments) {
  const std::string what = arguments.empty() ? "" : arguments[0];
  if (what == "audit-ledger" && arguments.size() == 1) return audit_ledger(std::move(config));
  if (what == "recompute-reputation" && arguments.size() == 1) {
    const auto all = with_client<reviews::Recomputed>(std::move(config), reviews::recompute);
    std::cout << all.people << " people looked at, " << all.corrected << " corrected\n";
    return 0;
  }
  if ((what != "grant" && what != "revoke") || arguments.size() != 2) {
    throw UsageError("admin takes grant or revoke and an email, recompute-reputation, or audit-ledger");
  }
  const http::Role role = what == "grant" ? http::Role::ADMIN : http::Role::USER;
  std::optional<bool> changed;
  try {
    changed = with_client<std::optional<bool>>(
        std::move(config), [&](db::Client& client) { return set_role(client, fold_case(arguments[1]), role); });
  } catch (const Problem& problem) {
    if (problem.code != ErrorCode::last_admin) throw;
    std::cerr << "hourz: " << arguments[1] << " is the last administrator: make another one first\n";
    return 1;
  }
  if (!changed) {
    std::cerr << "hourz: nobody has the email " << arguments[1] << "\n";
    return 1;
  }
  std::cout << arguments[1] << (role == http::Role::ADMIN ? " is an administrator" : " is no administrator")
            << (*changed ? " now\n" : ", and was so already\n");
  return 0;
}

/// One of the documents that are made from the declarations.
int print_document(Config config, const std::string& command) {
  config.secret = std::string(32, 'x');  // no token is made here
  app::House house(std::move(config));
  std::cout << (command == "openapi" ? house.openapi() : command == "asyncapi" ? house.asyncapi() : house.errors());
  return 0;
}

int print_config(const Config& config) {
  for (const SettingInfo& setting : settings_of(config)) {
    std::cout << setting.variable << "\n    " << setting.meaning
              << "\n    default: " << (setting.default_text.empty() ? "(empty)" : setting.default_text)
              << "\n    now:     " << (setting.current.empty() ? "(empty)" : setting.current) << "\n";
  }
  return 0;
}

int run(const std::vector<std::string>& arguments) {
  const std::string command = arguments.empty() ? "help" : arguments[0];
  const auto asks = [](const std::string& word) { return word == "help" || word == "--help" || word == "-h"; };
  if (asks(command) || std::any_of(arguments.begin(), arguments.end(), asks)) {
    std::cout << usage;
    return 0;
  }
  if (command == "version" || command == "--version") {
    std::cout << "hourz " << version << "\n";
    return 0;
  }
  // A core would hold passwords, tokens and what people wrote; programs that are started here inherit it.
  constexpr rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  start_crypto();
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (command == uploads::picture_command) uploads::make_picture_and_exit(rest);
  const bool is_document = command == "openapi" || command == "asyncapi" || command == "errors";
  if (!rest.empty() && (command == "serve" || is_document || command == "config")) {
    throw UsageError(command + " takes no arguments; settings are variables HOURZ_* (see hourz config)");
  }
  if (is_document) return print_document(Config{}, command);
  Config config = load_config(environment_variables());
  if (command == "serve") return serve(std::move(config));
  if (command == "migrate") return migrate(std::move(config), rest);
  if (command == "files") return copy_files(std::move(config), rest);
  if (command == "demo") return fill_demo(std::move(config), rest);
  if (command == "backup") return back_up(std::move(config), rest);
  if (command == "restore") return restore(std::move(config), rest);
  if (command == "admin") return admin(std::move(config), rest);
  if (command == "config") return print_config(config);
  throw UsageError("'" + command + "' is not a command (see hourz --help)");
}

}  // namespace
}  // namespace hourz

int main(int count, char** values) {
  try {
    return hourz::run(std::vector<std::string>(values + 1, values + count));
  } catch (const hourz::UsageError& error) {
    std::cerr << "hourz: " << error.what() << "\n";
  } catch (const hourz::ConfigError& error) {
    std::cerr << "hourz: the settings are wrong:\n" << error.what() << "\n";
  } catch (const hourz::db::ClusterError& error) {
    std::cerr << "hourz: " << error.what() << "\n";
  } catch (const hourz::db::MigrationError& error) {
    std::cerr << "hourz: " << error.what() << "\n";
  } catch (const std::exception& error) {
    std::cerr << "hourz: " << error.what() << "\n";
    return 1;
  }
  return 2;
}
