#include "rooms/uploads/uploads.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "http/cursor.hpp"
#include "http/multipart.hpp"
#include "rooms/uploads/files.hpp"
#include "rooms/uploads/picture_process.hpp"
#include "rooms/users/users.hpp"
#include "storage/local.hpp"
#include "uploads_sql.hpp"

namespace hourz::uploads {
namespace {

using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::NoContent;
using http::Path;
using http::Query;
using http::RateClass;

namespace fs = std::filesystem;

constexpr std::uint64_t most_file_bytes = 10 * 1024 * 1024;
constexpr std::uint64_t most_body_bytes = most_file_bytes + 8 * 1024;  // the form around it
constexpr std::size_t write_bytes = 256 * 1024;

// --- rows ------------------------------------------------------------------------------------------------------------

struct SumsRow {
  std::int64_t files, bytes;
};
BOOST_DESCRIBE_STRUCT(SumsRow, (), (files, bytes))

struct NewRow {
  Uuid id, owner_id;
  Category category;
  std::string content_type;
  std::int32_t width, height;
  std::int64_t size, thumbnail_size;
  std::string sha256;
  std::int64_t most_files, most_bytes;
};
BOOST_DESCRIBE_STRUCT(NewRow, (),
                      (id, owner_id, category, content_type, width, height, size, thumbnail_size, sha256, most_files,
                       most_bytes))

struct ShownRow {
  Uuid id;
  Category category;
  std::string content_type;
  std::int32_t width, height;
  std::int64_t size;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(ShownRow, (), (id, category, content_type, width, height, size, created_at))

struct MinePage {
  Uuid owner_id, before_id;
  std::optional<Category> category;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(MinePage, (), (owner_id, before_id, category, page))

struct Owned {
  Uuid id, owner_id;
};
BOOST_DESCRIBE_STRUCT(Owned, (), (id, owner_id))

struct Kept {
  Uuid subject_id;
  std::vector<Uuid> kept;
};
BOOST_DESCRIBE_STRUCT(Kept, (), (subject_id, kept))

const db::Query<SumsRow, Uuid> select_sums{sql::sums};
const db::Query<ShownRow, NewRow> insert_upload{sql::add};
const db::Query<ShownRow, MinePage> select_mine{sql::mine};
const db::Query<db::Nothing, Owned> delete_upload{sql::remove};
const db::Query<bool, Owned> select_owned{sql::is_owned};
const db::Query<Uuid, Use> use_uploads{sql::use};
const db::Query<db::Nothing, Kept> release_uploads{sql::release};

File to_file(ShownRow&& row) {
  const std::string url = url_of(row.id);
  return {row.id,        row.category, url,      url + "/thumb",
          row.width,     row.height,   row.size, std::move(row.content_type),
          row.created_at};
}

Problem over_quota() { return Problem(ErrorCode::quota_exceeded); }

// --- taking a picture in ---------------------------------------------------------------------------------------------

/// A file that is written on the pool.
class Output {
 public:
  explicit Output(fs::path path) : path_(std::move(path)) {}
  ~Output() {
    if (file_ >= 0) ::close(file_);
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  /// Blocks. Throws storage::Error.
  void write(std::string_view bytes) {
    if (file_ < 0) file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (file_ < 0) throw storage::error_of(errno, "cannot make " + path_.string());
    while (!bytes.empty()) {
      const ssize_t step = ::write(file_, bytes.data(), bytes.size());
      if (step < 0 && errno == EINTR) continue;
      if (step < 0) throw storage::error_of(errno, "cannot write " + path_.string());
      bytes.remove_prefix(static_cast<std::size_t>(step));
    }
  }

 private:
  fs::path path_;
  int file_ = -1;
};

/// One upload's files, from the first byte on. Whatever is not stored for good is gone when it goes.
class Workpiece {
 public:
  explicit Workpiece(Deps& deps) : deps_(deps), id(make_uuid()) {
    const std::string base = (deps.folder->path() / to_string(id)).string();
    source = base + ".in";
    picture = base + ".picture";
    thumbnail = base + ".thumb";
  }
  ~Workpiece() {
    deps_.file_work.post([files = std::vector<fs::path>{source, picture, thumbnail}] {
      for (const fs::path& file : files) ::unlink(file.c_str());
    });
    if (stored && !kept) deps_.folder->leave(id);
  }
  Workpiece(const Workpiece&) = delete;
  Workpiece& operator=(const Workpiece&) = delete;

 private:
  Deps& deps_;

 public:
  const Uuid id;
  fs::path source, picture, thumbnail;
  bool stored = false;  ///< in the store, or in part
  bool kept = false;    ///< there is a row for it, or there may be one
};

Problem wrong_type() { return Problem(ErrorCode::unsupported_media_type, "The file is not a JPEG, PNG or WebP."); }

/// The file of the form, written to `piece.source` as it arrives.
Awaitable<void> receive(Deps& deps, const http::Upload& upload, const Workpiece& piece) {
  http::Multipart form(upload.boundary, most_file_bytes);
  const auto output = std::make_shared<Output>(piece.source);
  std::string waiting;
  bool typed = false;
  const auto take = [&waiting](std::string_view bytes) { waiting += bytes; };
  const auto write = [&deps, output, &waiting] {
    deps.folder->enter();
    output->write(waiting);
  };
  for (;;) {
    const std::string_view bytes = co_await upload.body->read();
    if (bytes.empty()) break;
    form.feed(bytes, take);
    if (!typed && waiting.size() >= 12) {
      if (!type_of(waiting)) throw wrong_type();
      typed = true;
    }
    if (waiting.size() < write_bytes) continue;
    co_await deps.file_work.run(write);
    waiting.clear();
  }
  form.finish();
  if (!typed) throw wrong_type();
  co_await deps.file_work.run(write);
}

/// Both files in the store, durable.
Awaitable<void> keep(Deps& deps, Workpiece& piece, std::string_view content_type) {
  piece.stored = true;
  co_await deps.file_work.run([&deps, &piece, content_type] {
    deps.store.put(key_of(piece.id, Variant::picture), piece.picture, content_type);
    deps.store.put(key_of(piece.id, Variant::thumbnail), piece.thumbnail, content_type);
  });
}

Awaitable<File> insert(Deps& deps, Call& call, Workpiece& piece, Category category, const MadePicture& made) {
  NewRow row{piece.id,
             call.user(),
             category,
             std::string(media_type_of(made.type)),
             made.width,
             made.height,
             static_cast<std::int64_t>(made.picture.size),
             static_cast<std::int64_t>(made.thumbnail.size),
             made.picture.sha256,
             deps.config.upload_quota_files,
             deps.config.upload_quota_mb * 1024 * 1024};
  auto shown = co_await db::maybe(call.db(), insert_upload, std::move(row));
  if (!shown) {
    // A first picture always fits: whoever has no sums and gets none deleted the account while this one came.
    const auto sums = co_await db::maybe(call.db(), select_sums, call.user());
    throw sums ? over_quota() : Problem(ErrorCode::session_ended);
  }
  if (category == Category::PROFILE) {
    co_await use(call.db(), {call.user(), category, call.user(), {piece.id}});
    co_await release(call.db(), call.user(), {piece.id});
    co_await users::set_photo(call.db(), call.user(), url_of(piece.id));
  }
  // Committed here, so that files and row go the same way: only a lost answer leaves it open, and then they stay.
  piece.kept = true;
  try {
    co_await call.commit_and_go_on();
  } catch (const db::Error& error) {
    piece.kept = error.kind == db::ErrorKind::outcome_unknown;
    throw;
  }
  co_return to_file(std::move(*shown));
}

Awaitable<File> take_in(Deps& deps, Call& call, http::Upload upload, Category category) {
  const auto sums = co_await db::maybe(call.database.reads(), select_sums, call.user());
  if (sums &&
      (sums->files >= deps.config.upload_quota_files || sums->bytes >= deps.config.upload_quota_mb * 1024 * 1024)) {
    throw over_quota();
  }
  Workpiece piece(deps);
  std::optional<Problem> problem;
  MadePicture made{};
  try {
    co_await receive(deps, upload, piece);
    made = co_await deps.image_work.run(
        [&piece] { return make_picture_apart(piece.source, piece.picture, piece.thumbnail); });
    co_await keep(deps, piece, media_type_of(made.type));
  } catch (const storage::Error& error) {
    log::Line(log::Level::warn, "upload.not_stored").with("cause", error.what());
    problem.emplace(to_problem(error));
  }
  if (problem) throw std::move(*problem);
  File file = co_await insert(deps, call, piece, category, made);
  call.header("Location", file.url);
  co_return file;
}

constexpr std::string_view upload_description =
    "A form with one field, `file`. The bytes decide what it is: JPEG, PNG or WebP, up to 10 MiB and 40 megapixels. It "
    "is made anew, upright and without metadata, and so is a thumbnail. What nothing refers to is gone after a day.";
constexpr http::Errors upload_errors{ErrorCode::quota_exceeded};

constexpr Endpoint endpoint_of(std::string_view path, std::string_view name, std::string_view summary) {
  return {.method = Method::post,
          .path = path,
          .name = name,
          .summary = summary,
          .description = upload_description,
          .effect = Effect::change,
          .rate = RateClass::upload,
          .status = 201,
          .errors = upload_errors,
          .idempotent = false,
          .body_limit = most_body_bytes};
}

constexpr Endpoint post_profile =
    endpoint_of("/api/upload/profile", "uploads.profile", "Upload a picture of the caller, who has it from then on");
constexpr Endpoint post_gig = endpoint_of("/api/upload/gig", "uploads.gig", "Upload a picture for a gig");
constexpr Endpoint post_chat = endpoint_of("/api/upload/chat", "uploads.chat", "Upload a picture for a message");

Awaitable<File> take_profile(Deps& deps, Call& call, http::Upload upload) {
  co_return co_await take_in(deps, call, std::move(upload), Category::PROFILE);
}
Awaitable<File> take_gig(Deps& deps, Call& call, http::Upload upload) {
  co_return co_await take_in(deps, call, std::move(upload), Category::GIG);
}
Awaitable<File> take_chat(Deps& deps, Call& call, http::Upload upload) {
  co_return co_await take_in(deps, call, std::move(upload), Category::CHAT);
}

// --- the caller's own ------------------------------------------------------------------------------------------------

struct MineQuery {
  std::optional<Category> category;
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
};
BOOST_DESCRIBE_STRUCT(MineQuery, (), (category, limit, cursor))

struct FileList {
  static constexpr bool is_answer = true;
  std::vector<File> files;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(FileList, (), (files, next_cursor))

struct MinePosition {
  std::optional<Category> category;
  Uuid before_id;
};
BOOST_DESCRIBE_STRUCT(MinePosition, (), (category, before_id))

constexpr Endpoint list_mine{.method = Method::get,
                             .path = "/api/upload/my-files",
                             .name = "uploads.mine",
                             .summary = "The caller's uploads, newest first",
                             .description = "A cursor keeps the category it was made with.",
                             .errors = {ErrorCode::invalid_cursor}};

Awaitable<FileList> get_mine(Deps& deps, Call& call, Query<MineQuery> query) {
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  MinePage wanted{call.user(), {}, query->category, static_cast<std::int64_t>(limit) + 1};
  wanted.before_id.bytes.fill(0xff);
  if (query->cursor) {
    const auto at = http::from_cursor<MinePosition>(deps.cursor_key, call.user(), query->cursor->value);
    wanted.category = at.category;
    wanted.before_id = at.before_id;
  }
  auto rows = co_await db::all(call.db(), select_mine, wanted);
  FileList list;
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), MinePosition{wanted.category, {}},
                                    [](MinePosition& end, const ShownRow& last) { end.before_id = last.id; });
  for (ShownRow& row : rows) list.files.push_back(to_file(std::move(row)));
  co_return list;
}

struct UploadPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(UploadPath, (), (id))

constexpr Endpoint remove_upload{
    .method = Method::del,
    .path = "/api/upload/{id}",
    .name = "uploads.remove",
    .summary = "Remove an upload of the caller's",
    .description =
        "One that a profile, a gig or a message refers to stays: 409. Give the profile another picture, or take it off "
        "the gig; messages keep theirs.",
    .effect = Effect::change,
    .status = 204,
    .errors = {ErrorCode::not_found, ErrorCode::upload_in_use}};

Awaitable<NoContent> delete_one(Deps& deps, Call& call, Path<UploadPath> path) {
  if (co_await remove_row(call.db(), path->id, call.user()) == 0) {
    const bool is_there = co_await db::one(call.db(), select_owned, Owned{path->id, call.user()});
    throw Problem(is_there ? ErrorCode::upload_in_use : ErrorCode::not_found);
  }
  call.after_commit([&deps, id = path->id] { forget_one(deps, id); });
  co_return NoContent{};
}

}  // namespace

Awaitable<std::int64_t> remove_row(db::Executor& db, Uuid id, Uuid owner_id) {
  co_return co_await db::run(db, delete_upload, Owned{id, owner_id});
}

std::string url_of(const Uuid& id) { return "/files/" + to_string(id); }

std::optional<Uuid> id_in(std::string_view url) {
  constexpr std::string_view front = "/files/";
  if (!url.starts_with(front)) return std::nullopt;
  const auto id = parse_uuid(url.substr(front.size()));
  if (!id || url != url_of(*id)) return std::nullopt;
  return id;
}

Awaitable<std::vector<Uuid>> use(db::Executor& db, Use wanted) {
  co_return co_await db::all(db, use_uploads, std::move(wanted));
}

Awaitable<void> release(db::Executor& db, Uuid subject_id, std::vector<Uuid> kept) {
  co_await db::run(db, release_uploads, Kept{subject_id, std::move(kept)});
}

void install(http::Router& router, Deps& deps) {
  deps.shelf = std::make_shared<Shelf>();
  deps.folder = std::make_shared<Folder>(storage::incoming_directory(deps.config));
  router.add(post_profile, take_profile, deps);
  router.add(post_gig, take_gig, deps);
  router.add(post_chat, take_chat, deps);
  router.add(list_mine, get_mine, deps);
  router.add(remove_upload, delete_one, deps);
  install_files(router, deps);
  install_forgetting(deps);
}

}  // namespace hourz::uploads
