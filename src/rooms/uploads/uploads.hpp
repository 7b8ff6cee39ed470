// Uploads: pictures that people put here, made anew, kept in a store and served.
//
// Owns `uploads`, `upload_uses`, `upload_sums` and `removed_files`, and the files in the store. Promises that a row and
// its files are one unit whatever crashes, that nobody keeps more than the quota, that a chat picture is seen by the
// sides of its rooms alone, that what nothing refers to is gone after a day, and that a backup finds both files of
// every row it sees. What refers to a picture (a profile, a gig, a message) says so through use() and release(), in its
// own transaction; what a participant is, is the chat room's to say.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.hpp"
#include "core/worker_pool.hpp"
#include "http/personal.hpp"
#include "http/router.hpp"
#include "realtime/node.hpp"
#include "storage/storage.hpp"

namespace hourz::uploads {

using db::Awaitable;

enum class Category { PROFILE, GIG, CHAT };
BOOST_DESCRIBE_ENUM(Category, PROFILE, GIG, CHAT)
constexpr std::string_view schema_name_of(std::type_identity<Category>) { return "UploadCategory"; }

struct File {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{
      Note{"url", "of the picture as it was made anew: upright, in sRGB, without metadata"},
      Note{"thumbnail_url", "the same within 320 by 320 pixels"}, Note{"size", "bytes of the picture"}};
  Uuid id;
  Category category = Category::GIG;
  std::string url;
  std::string thumbnail_url;
  std::int32_t width = 0;
  std::int32_t height = 0;
  std::int64_t size = 0;
  std::string content_type;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(File, (), (id, category, url, thumbnail_url, width, height, size, content_type, created_at))

class Shelf;
class Folder;

struct Deps {
  const Config& config;
  storage::Store& store;
  WorkerPool& file_work;
  WorkerPool& image_work;
  realtime::Node& node;
  std::string cursor_key;
  std::string link_key;
  /// Whether somebody is a side of one of these chat rooms (the chat room's).
  std::function<Awaitable<bool>(db::Executor&, std::vector<Uuid>, Uuid)> in_a_room;
  std::shared_ptr<Shelf> shelf = {};    ///< public pictures in memory; made by install()
  std::shared_ptr<Folder> folder = {};  ///< where files are written before they are stored; made by install()
};

void install(http::Router& router, Deps& deps);

void add_personal_data(http::PersonalData& data);

/// `/files/{id}`
std::string url_of(const Uuid& id);
/// The id in what url_of() gives, and in nothing else.
std::optional<Uuid> id_in(std::string_view url);

struct Use {
  Uuid owner_id;
  Category category;
  Uuid subject_id;  ///< what refers to them: a gig, a room, a person
  std::vector<Uuid> ids;
};
BOOST_DESCRIBE_STRUCT(Use, (), (owner_id, category, subject_id, ids))

/// From now on the subject refers to these uploads; for the transaction that makes it so. Those that are the owner's
/// and of the category, in no order: the others are not there.
Awaitable<std::vector<Uuid>> use(db::Executor& db, Use wanted);
/// The subject refers to none but `kept` any more.
Awaitable<void> release(db::Executor& db, Uuid subject_id, std::vector<Uuid> kept);

/// Each picture is made by this program, started again with this word and three paths (picture_process.hpp): a `main`
/// whose first argument it is calls make_picture_and_exit() with the rest, which prints one line of JSON with what
/// became of it.
inline constexpr std::string_view picture_command = "make-picture";
[[noreturn]] void make_picture_and_exit(const std::vector<std::string>& paths);

// For the jobs.

/// Once after the start: leftovers of a crash, files without a row, rows without a file. Does nothing when it was done.
Awaitable<void> sweep(Deps& deps, db::Client& database);
/// Uploads that nothing has referred to for a day.
Awaitable<void> collect(Deps& deps, db::Client& database);
/// The files of uploads whose rows are gone, whoever deleted them: unless a backup runs. What the store does not do is
/// tried again after a minute.
Awaitable<void> remove_left_over(Deps& deps, db::Client& database);

/// Of an account that was deleted, once that is committed: no server shows a picture of it from memory any more; this
/// one from now on, others as soon as they hear of it, or after five seconds.
void forget(Deps& deps, const Uuid& owner_id);

/// An advisory lock of the database. Whoever holds it, shared, from before a snapshot is taken, finds the files of all
/// uploads in that snapshot until they let go.
constexpr std::int64_t backup_lock = 20261123002;

/// Every upload's row held against its two files, as a command does after a restore.
struct FilesCheck {
  std::int64_t uploads = 0;
  std::int64_t missing = 0;  ///< of which one of the two files is not there
  std::int64_t damaged = 0;  ///< of another length, or a picture of another hash
  Uuid first;                ///< of those
};

/// Looks at every upload, reads every picture and changes nothing: what to do about a missing file is for a person, who
/// may still have it. Blocks on the store: for a command, not for a server. Throws storage::Error for what is neither
/// there nor missing.
Awaitable<FilesCheck> check_files(storage::Store& store, db::Executor& db);

}  // namespace hourz::uploads
