// Rows and files held together: what a crash left is swept after the start, what nothing refers to is collected, and
// the files of rows that are gone follow them.
#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "rooms/uploads/files.hpp"
#include "rooms/uploads/uploads.hpp"
#include "storage/local.hpp"
#include "uploads_sql.hpp"

namespace hourz::uploads {
namespace {

namespace fs = std::filesystem;
using SystemTime = std::chrono::system_clock::time_point;

struct SomeParameters {
  Uuid after;
  Timestamp made_before;
};
BOOST_DESCRIBE_STRUCT(SomeParameters, (), (after, made_before))

struct SomeRow {
  Uuid id, owner_id;
  bool in_use;
};
BOOST_DESCRIBE_STRUCT(SomeRow, (), (id, owner_id, in_use))

struct CheckedRow {
  Uuid id;
  std::int64_t size, thumbnail_size;
  std::string sha256;
};
BOOST_DESCRIBE_STRUCT(CheckedRow, (), (id, size, thumbnail_size, sha256))

const db::Query<CheckedRow, Uuid> select_checked{sql::check};
const db::Query<Uuid> collect_unused{sql::collect};
const db::Query<db::Nothing> mend_unused{sql::mend};
const db::Query<Uuid, std::vector<Uuid>> select_known{sql::known};
const db::Query<Uuid, std::int64_t> select_removable{sql::removable};
const db::Query<db::Nothing, std::vector<Uuid>> insert_left_over{sql::leave_over};
const db::Query<db::Nothing, std::vector<Uuid>> note_removed{sql::files_removed};
const db::Query<SomeRow, SomeParameters> select_some{sql::some};

constexpr std::size_t bite = 1000;
constexpr auto sweep_every = std::chrono::hours(24);
constexpr auto remove_again_after = std::chrono::minutes(1);
constexpr auto grace = std::chrono::hours(1);  ///< for what another server may have under way
/// A file's time may lie this much before that of the clock: the kernel's moves by ticks.
constexpr auto tick = std::chrono::milliseconds(50);

/// What lies in the store: older than the limit and so no upload under way, and all of it. Sorted.
struct Inventory {
  std::vector<Uuid> old;
  std::vector<Uuid> pictures, thumbnails;
  SystemTime limit;
};

void clear_incoming(const fs::path& folder, SystemTime limit) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    struct stat status {};
    const fs::path& file = entry->path();
    if (file.filename() == "lock" || ::lstat(file.c_str(), &status) != 0) continue;
    const SystemTime changed_at =
        SystemTime::clock::from_time_t(status.st_mtim.tv_sec) + std::chrono::nanoseconds(status.st_mtim.tv_nsec);
    if (changed_at + tick <= limit) ::unlink(file.c_str());
  }
}

Inventory take_stock(storage::Store& store, Folder& folder) {
  Inventory stock;
  const bool alone = folder.enter() && !store.is_shared();
  stock.limit = alone ? folder.began() : folder.began() - grace;
  clear_incoming(folder.path(), stock.limit);
  store.list("pictures/", [&stock](const storage::ObjectInfo& info) {
    const auto id = id_in_key(info.key);
    if (!id) return;
    (info.key == key_of(*id, Variant::picture) ? stock.pictures : stock.thumbnails).push_back(*id);
    if (info.changed_at + tick <= stock.limit) stock.old.push_back(*id);
  });
  for (auto* ids : {&stock.old, &stock.pictures, &stock.thumbnails}) std::ranges::sort(*ids);
  stock.old.erase(std::unique(stock.old.begin(), stock.old.end()), stock.old.end());
  return stock;
}

Awaitable<void> leave_over(db::Client& database, std::vector<Uuid> ids) {
  if (ids.empty()) co_return;
  const auto transaction = database.begin();
  co_await db::run_last(*transaction, insert_left_over, std::move(ids));
}

/// Files without a row. How many pictures they are of.
Awaitable<std::int64_t> leave_strays(db::Client& database, const Inventory& stock) {
  std::int64_t found = 0;
  for (std::size_t at = 0; at < stock.old.size(); at += bite) {
    const auto begin = stock.old.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = stock.old.begin() + static_cast<std::ptrdiff_t>(std::min(stock.old.size(), at + bite));
    std::vector<Uuid> known = co_await db::all(database.reads(), select_known, std::vector<Uuid>(begin, end));
    std::ranges::sort(known);
    std::vector<Uuid> strays;
    std::set_difference(begin, end, known.begin(), known.end(), std::back_inserter(strays));
    found += static_cast<std::int64_t>(strays.size());
    co_await leave_over(database, std::move(strays));
  }
  co_return found;
}

/// Rows without a file: one that nothing refers to goes; of others it can only be told, for the file may come back with
/// the folder or bucket that is missing.
Awaitable<void> look_for_missing(db::Client& database, const Inventory& stock) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(stock.limit.time_since_epoch()).count();
  SomeParameters page{{}, {micros}};
  std::int64_t missing = 0, dropped = 0;
  for (;;) {
    const auto rows = co_await db::all(database.reads(), select_some, page);
    for (const SomeRow& row : rows) {
      if (std::ranges::binary_search(stock.pictures, row.id) && std::ranges::binary_search(stock.thumbnails, row.id)) {
        continue;
      }
      ++missing;
      if (row.in_use) continue;
      const auto transaction = database.begin();
      dropped += co_await remove_row(*transaction, row.id, row.owner_id);
      co_await transaction->commit();
    }
    if (rows.size() < bite) break;
    page.after = rows.back().id;
  }
  if (missing > dropped) {
    log::Line(log::Level::error, "files.missing").with("uploads", missing - dropped);
  }
}

/// Whether the bytes under the key are those of the hash. Throws storage::Error, not_found among them.
bool has_hash(storage::Store& store, const std::string& key, std::int64_t size, const std::string& sha256) {
  constexpr std::uint64_t piece = 4 << 20;
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  for (std::uint64_t at = 0; at < static_cast<std::uint64_t>(size); at += piece) {
    const std::string bytes = store.read(key, at, piece);
    crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  Mac sum;
  crypto_hash_sha256_final(&state, sum.data());
  return to_hex(as_text(sum)) == sha256;
}

struct Removal {
  std::vector<Uuid> done;
  std::int64_t failed = 0;
  std::string cause;  ///< of the first
};

/// Both files of each. One that fails stands in nobody's way; a store that does nothing is not asked for all of them.
Removal remove_from(storage::Store& store, const std::vector<Uuid>& ids) {
  Removal removal;
  for (const Uuid& id : ids) {
    try {
      store.remove(key_of(id, Variant::picture));
      store.remove(key_of(id, Variant::thumbnail));
      removal.done.push_back(id);
    } catch (const storage::Error& error) {
      if (++removal.failed == 1) removal.cause = error.what();
      if (removal.failed == 3) break;
    }
  }
  return removal;
}

enum class Found { whole, missing, damaged };

Found look_at(storage::Store& store, const CheckedRow& row) {
  const std::string key = key_of(row.id, Variant::picture);
  const auto picture = store.find(key), thumbnail = store.find(key_of(row.id, Variant::thumbnail));
  if (!picture || !thumbnail) return Found::missing;
  const bool whole = picture->size == static_cast<std::uint64_t>(row.size) &&
                     thumbnail->size == static_cast<std::uint64_t>(row.thumbnail_size) &&
                     has_hash(store, key, row.size, row.sha256);
  return whole ? Found::whole : Found::damaged;
}

}  // namespace

Awaitable<FilesCheck> check_files(storage::Store& store, db::Executor& db) {
  FilesCheck check;
  for (Uuid after;;) {
    const auto rows = co_await db::all(db, select_checked, after);
    for (const CheckedRow& row : rows) {
      ++check.uploads;
      const Found found = look_at(store, row);
      if (found == Found::whole) continue;
      if (check.missing + check.damaged == 0) check.first = row.id;
      ++(found == Found::missing ? check.missing : check.damaged);
    }
    if (rows.size() < bite) break;
    after = rows.back().id;
  }
  co_return check;
}

Folder::Folder(fs::path path) : path_(std::move(path)), began_(SystemTime::clock::now()) {}

Folder::~Folder() {
  if (lock_ >= 0) ::close(lock_);
}

bool Folder::enter() {
  const std::lock_guard guard(mutex_);
  if (lock_ >= 0) return alone_;
  storage::make_incoming(path_);
  const fs::path file = path_ / "lock";
  const int lock = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (lock < 0) throw storage::error_of(errno, "cannot open " + file.string());
  alone_ = ::flock(lock, LOCK_EX | LOCK_NB) == 0;
  // Others wait for no longer than this; the kernel lets go when the process ends, however it ends.
  if (::flock(lock, LOCK_SH) != 0) {
    ::close(lock);
    throw storage::error_of(errno, "cannot lock " + file.string());
  }
  lock_ = lock;
  return alone_;
}

Awaitable<void> sweep(Deps& deps, db::Client& database) {
  if (std::chrono::steady_clock::now() < deps.folder->next_sweep) co_return;
  const Inventory stock = co_await deps.file_work.run([&deps] { return take_stock(deps.store, *deps.folder); });
  const std::int64_t strays = co_await leave_strays(database, stock);
  co_await look_for_missing(database, stock);
  if (strays > 0) log::Line(log::Level::info, "files.swept").with("uploads", strays);
  deps.folder->next_sweep = std::chrono::steady_clock::now() + sweep_every;
}

Awaitable<void> collect(Deps& deps, db::Client& database) {
  for (;;) {
    const auto transaction = database.begin();
    const std::vector<Uuid> gone = co_await db::all(*transaction, collect_unused);
    co_await transaction->commit();
    if (gone.empty()) break;
    for (const Uuid& id : gone) deps.shelf->remove(id);
  }
  const auto transaction = database.begin();
  co_await db::run(*transaction, mend_unused);
  co_await transaction->commit();
}

Awaitable<void> remove_left_over(Deps& deps, db::Client& database) {
  const std::vector<Uuid> left = deps.folder->take_left();
  try {
    co_await leave_over(database, left);
  } catch (...) {
    for (const Uuid& id : left) deps.folder->leave(id);  // an upload fails where the database does
    throw;
  }
  if (std::chrono::steady_clock::now() < deps.folder->next_removal) co_return;
  for (;;) {
    const std::vector<Uuid> ids = co_await db::all(database.reads(), select_removable, backup_lock);
    if (ids.empty()) co_return;
    Removal removal = co_await deps.file_work.run([&deps, &ids] { return remove_from(deps.store, ids); });
    if (!removal.done.empty()) {
      const auto transaction = database.begin();
      co_await db::run(*transaction, note_removed, std::move(removal.done));
      co_await transaction->commit();
    }
    if (removal.failed == 0) continue;
    log::Line(log::Level::warn, "file.not_removed").with("uploads", removal.failed).with("cause", removal.cause);
    deps.folder->next_removal = std::chrono::steady_clock::now() + remove_again_after;
    co_return;
  }
}

}  // namespace hourz::uploads
