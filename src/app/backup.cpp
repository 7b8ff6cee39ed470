#include "app/backup.hpp"

#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "core/crypto.hpp"
#include "core/time.hpp"
#include "core/version.hpp"
#include "db/data_directory.hpp"
#include "db/dump.hpp"
#include "db/migrations.hpp"
#include "db/session.hpp"
#include "rooms/uploads/uploads.hpp"
#include "storage/local.hpp"

namespace hourz::app {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr int format = 1;

[[noreturn]] void fail(const std::string& what, int error) {
  throw BackupError(what + ": " + std::generic_category().message(error));
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, mode_t mode = 0600)
      : number_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
    if (number_ < 0) fail(path.string(), errno);
  }
  ~Descriptor() { ::close(number_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

void sync(const fs::path& path) {
  const Descriptor opened(path, O_RDONLY);
  if (::fsync(opened.number()) != 0) fail(path.string(), errno);
}

void write_text(const fs::path& path, std::string_view text) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_EXCL);
  while (!text.empty()) {
    const ssize_t written = ::write(file.number(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path.string(), errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(file.number()) != 0) fail(path.string(), errno);
}

std::string sum_of(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  std::vector<unsigned char> buffer(1 << 20);
  while (true) {
    const ssize_t count = ::read(file.number(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path.string(), errno);
    if (count == 0) break;
    crypto_hash_sha256_update(&state, buffer.data(), static_cast<unsigned long long>(count));
  }
  Mac sum;
  crypto_hash_sha256_final(&state, sum.data());
  return to_hex(as_text(sum));
}

/// Every file below `database/` and `files/`, by its path in the backup, in order.
std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const char* part : {"database", "files"}) {
    if (!fs::exists(folder / part)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(folder / part)) {
      if (!entry.is_directory()) names.push_back(fs::relative(entry.path(), folder).string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// --- files -----------------------------------------------------------------------------------------------------------

/// Every object of the store. One that goes away meanwhile was in no upload of the snapshot.
void copy_files(storage::Store& store, const fs::path& folder, BackupSummary& summary) {
  constexpr std::uint64_t piece = 4 << 20;
  std::vector<storage::ObjectInfo> objects;
  store.list("", [&](const storage::ObjectInfo& object) { objects.push_back(object); });
  for (const storage::ObjectInfo& object : objects) {
    const fs::path path = folder / object.key;
    fs::create_directories(path.parent_path());
    std::ofstream file(path, std::ios::binary);
    std::uint64_t copied = 0;
    try {
      for (std::uint64_t at = 0; at < object.size; at += piece) {
        const std::string bytes = store.read(object.key, at, piece);
        file << bytes;
        copied += bytes.size();
      }
    } catch (const storage::Error& error) {
      if (error.failure != storage::Failure::not_found) throw;
      file.close();
      fs::remove(path);
      continue;
    }
    file.close();
    if (!file) throw BackupError(path.string() + " cannot be written: is the disk full?");
    // Its sum would be that of the damaged copy.
    if (copied != object.size) {
      throw BackupError(object.key + " has " + std::to_string(object.size) + " bytes, and the store gave " +
                        std::to_string(copied) + ": run it again");
    }
    ++summary.files;
    summary.file_bytes += static_cast<std::int64_t>(object.size);
  }
}

std::string_view media_type_of(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".jpg" || extension == ".jpeg") return "image/jpeg";
  if (extension == ".png") return "image/png";
  if (extension == ".webp") return "image/webp";
  return "application/octet-stream";
}

/// Into the store. What is there already is left alone, since objects never change, but for where they are to be
/// replaced: a damaged one may well have its size.
void put_files(const Config& config, storage::Store& store, const fs::path& folder, bool replace) {
  const fs::path incoming = storage::incoming_directory(config);
  storage::make_incoming(incoming);
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string key = fs::relative(entry.path(), folder).string();
    const auto there = replace ? std::nullopt : store.find(key);
    if (there && there->size == entry.file_size()) continue;
    const fs::path copy = incoming / ("restore-" + to_hex(random_bytes(8)));
    fs::copy_file(entry.path(), copy);
    try {
      store.put(key, copy, media_type_of(entry.path()));
    } catch (...) {
      std::error_code ignored;
      fs::remove(copy, ignored);
      throw;
    }
    std::error_code moved;
    fs::remove(copy, moved);
  }
}

// --- the manifest ----------------------------------------------------------------------------------------------------

db::DumpTools tools_of(const Config& config) {
  return {config.postgres_bin.empty() ? "/usr/lib/postgresql/15/bin" : config.postgres_bin,
          db::identity_for(config.run_as)};
}

std::string manifest_text(const BackupSummary& summary, std::string_view sums) {
  json::object rows;
  for (const auto& [table, count] : summary.rows) rows[table] = count;
  const json::object manifest{
      {"format", format}, {"hourz", version},       {"made_at", summary.made_at},       {"schema", summary.schema},
      {"rows", rows},     {"files", summary.files}, {"file_bytes", summary.file_bytes}, {"sums_sha256", sums}};
  return json::serialize(manifest) + "\n";
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw BackupError(path.string() + " cannot be read: is this a whole backup?");
  return {std::istreambuf_iterator<char>(file), {}};
}

BackupSummary read_manifest(const fs::path& folder) {
  const fs::path path = folder / "manifest.json";
  BackupSummary summary;
  try {
    const json::object manifest = json::parse(text_of(path)).as_object();
    if (manifest.at("format").to_number<int>() != format) {
      throw BackupError(path.string() + ": another format than " + std::to_string(format) +
                        ": a newer program made it");
    }
    summary.made_at = manifest.at("made_at").as_string().c_str();
    summary.schema = manifest.at("schema").to_number<std::int64_t>();
    summary.files = manifest.at("files").to_number<std::int64_t>();
    summary.file_bytes = manifest.at("file_bytes").to_number<std::int64_t>();
    for (const auto& [table, count] : manifest.at("rows").as_object()) {
      summary.rows[std::string(table)] = count.to_number<std::int64_t>();
    }
    if (manifest.at("sums_sha256").as_string() != sum_of(folder / "SHA256SUMS")) {
      throw BackupError((folder / "SHA256SUMS").string() + " is not the one of this backup");
    }
  } catch (const BackupError&) {
    throw;
  } catch (const std::exception& error) {
    throw BackupError(path.string() + " cannot be understood: " + error.what());
  }
  return summary;
}

/// Every file has the sum it had, none is missing and none came along.
void verify(const fs::path& folder) {
  std::ifstream sums(folder / "SHA256SUMS");
  std::set<std::string> listed;
  std::string line;
  while (std::getline(sums, line)) {
    if (line.size() < 67 || line.find("..") != std::string::npos) {
      throw BackupError((folder / "SHA256SUMS").string() + " has a line that is none: " + line);
    }
    const std::string name = line.substr(66);
    if (!fs::is_regular_file(folder / name)) throw BackupError("the backup lacks " + name);
    if (sum_of(folder / name) != line.substr(0, 64)) throw BackupError("the backup is damaged: " + name);
    listed.insert(name);
  }
  for (const std::string& name : files_in(folder)) {
    if (!listed.contains(name)) throw BackupError("the backup holds a file that is not its own: " + name);
  }
}

/// The folder that is filled before it takes the backup's name: held by one process at a time, emptied of what an
/// earlier one left, removed unless it was finished.
class Partial {
 public:
  explicit Partial(const fs::path& folder) : target_(folder), path_(folder.string() + ".partial") {
    std::error_code error;
    if (fs::exists(target_, error) && !fs::is_empty(target_, error)) {
      throw BackupError(target_.string() + " is there already and not empty: name a new folder");
    }
    if (::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) fail(path_.string(), errno);
    lock_.emplace(path_, O_RDONLY | O_DIRECTORY);
    if (::flock(lock_->number(), LOCK_EX | LOCK_NB) != 0) {
      lock_.reset();
      throw BackupError(path_.string() + " is being filled by another backup");
    }
    for (const auto& entry : fs::directory_iterator(path_)) fs::remove_all(entry.path());
  }
  ~Partial() {
    if (finished_ || !lock_) return;
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Partial(const Partial&) = delete;
  Partial& operator=(const Partial&) = delete;

  const fs::path& path() const { return path_; }

  void finish() {
    sync(path_);
    if (::rename(path_.c_str(), target_.c_str()) != 0) fail(target_.string(), errno);
    finished_ = true;
    sync(target_.parent_path());
  }

 private:
  fs::path target_, path_;
  std::optional<Descriptor> lock_;
  bool finished_ = false;
};

}  // namespace

std::int64_t BackupSummary::all_rows() const {
  std::int64_t sum = 0;
  for (const auto& [table, count] : rows) sum += count;
  return sum;
}

BackupSummary back_up(const Config& config, const std::string& owner_url, const fs::path& folder) {
  const fs::path target = fs::absolute(folder).lexically_normal();
  Partial partial(target.has_filename() ? target : target.parent_path());
  BackupSummary summary;
  // Both before the snapshot: what happens meanwhile may or may not be in it.
  summary.made_at = to_string(now());
  db::SharedLock files_stay(owner_url, uploads::backup_lock);
  db::DumpContents contents = db::take_dump(owner_url, tools_of(config), partial.path() / "database");
  summary.rows = std::move(contents.rows);
  summary.schema = contents.schema;
  fs::create_directory(partial.path() / "files");
  copy_files(*storage::make_store(config), partial.path() / "files", summary);
  try {
    files_stay.release();
  } catch (const db::SessionError& error) {
    throw BackupError("the database ended the session that kept the files of removed pictures (" +
                      std::string(error.what()) + "): run it again");
  }
  std::string sums;
  std::set<fs::path> folders;
  for (const std::string& name : files_in(partial.path())) {
    sync(partial.path() / name);
    folders.insert((partial.path() / name).parent_path());
    sums += sum_of(partial.path() / name) + "  " + name + "\n";
  }
  for (const fs::path& one : folders) sync(one);
  write_text(partial.path() / "SHA256SUMS", sums);
  write_text(partial.path() / "manifest.json", manifest_text(summary, sum_of(partial.path() / "SHA256SUMS")));
  partial.finish();
  return summary;
}

BackupSummary restore(const Config& config, const std::string& owner_url, const fs::path& folder, bool replace) {
  const fs::path source = fs::absolute(folder).lexically_normal();
  const BackupSummary summary = read_manifest(source);
  const auto& known = db::embedded_migrations();
  if (summary.schema > known.back().version) {
    throw BackupError("the backup's schema is at version " + std::to_string(summary.schema) +
                      ", newer than this program, which knows up to " + std::to_string(known.back().version) +
                      ": restore it with the newer program");
  }
  verify(source);
  db::check_target(owner_url, replace);
  // Files first: no row comes before its file.
  put_files(config, *storage::make_store(config), source / "files", replace);
  db::load_dump(owner_url, tools_of(config), source / "database", summary.rows);
  db::migrate_up(owner_url);
  return summary;
}

}  // namespace hourz::app
