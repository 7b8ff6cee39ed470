#include "rooms/uploads/files.hpp"

#include <algorithm>
#include <charconv>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "http/etag.hpp"
#include "uploads_sql.hpp"

namespace hourz::uploads {
namespace {

using http::Access;
using http::Call;
using http::Endpoint;
using http::Method;
using http::Path;
using http::Query;
using http::RateClass;
using http::Response;

constexpr std::size_t piece_bytes = 256 * 1024;

struct FileRow {
  Uuid owner_id;
  Category category;
  std::string content_type;
  std::int64_t size, thumbnail_size;
  std::string sha256;
  std::vector<Uuid> subjects;
};
BOOST_DESCRIBE_STRUCT(FileRow, (), (owner_id, category, content_type, size, thumbnail_size, sha256, subjects))

const db::Query<FileRow, Uuid> select_file{sql::file};

struct FilePath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(FilePath, (), (id))

struct LinkQuery {
  static constexpr std::array notes{Note{"expires", "of a signed address: Unix seconds"},
                                    Note{"signature", "of a signed address, as GET /api/upload/{id}/link gives it"}};
  std::optional<Integer<0, 253'402'300'799>> expires;
  std::optional<Text<1, 100>> signature;
};
BOOST_DESCRIBE_STRUCT(LinkQuery, (), (expires, signature))

// --- who may see it --------------------------------------------------------------------------------------------------

std::string signature_of(const Deps& deps, const Uuid& id, std::int64_t expires) {
  return to_base64url(as_text(hmac_sha256(deps.link_key, to_string(id) + "|" + std::to_string(expires))));
}

std::int64_t now_s() { return now().microseconds / 1'000'000; }

bool is_signed(const Deps& deps, const Uuid& id, const LinkQuery& query) {
  if (!query.expires || !query.signature || query.expires->value <= now_s()) return false;
  return equal_in_constant_time(signature_of(deps, id, query.expires->value), query.signature->value);
}

/// The row, if it may be seen. Throws not_found.
Awaitable<FileRow> visible(Deps& deps, Call& call, Uuid id, bool has_link) {
  auto row = co_await db::maybe(call.db(), select_file, id);
  if (!row) throw Problem(ErrorCode::not_found);
  bool allowed = row->category != Category::CHAT || has_link;
  if (!allowed && call.caller) {
    allowed = row->owner_id == call.user();
    if (!allowed && !row->subjects.empty()) allowed = co_await deps.in_a_room(call.db(), row->subjects, call.user());
  }
  if (!allowed) throw Problem(ErrorCode::not_found);
  co_return std::move(*row);
}

// --- ranges ----------------------------------------------------------------------------------------------------------

struct Range {
  std::uint64_t first, last;
};

std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// The one range asked for; nothing when the whole is to be sent: no range, several, or not one of bytes. Throws
/// range_not_satisfiable.
std::optional<Range> range_of(const Call& call, std::string_view etag, std::uint64_t size) {
  const auto field = call.head.header("range");
  if (!field || (call.head.method != Method::get && call.head.method != Method::head)) return std::nullopt;
  if (const auto condition = call.head.header("if-range"); condition && *condition != etag) return std::nullopt;
  if (!field->starts_with("bytes=") || field->find(',') != std::string_view::npos) return std::nullopt;
  const std::string_view range = field->substr(6);
  const auto dash = range.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view from = range.substr(0, dash), to = range.substr(dash + 1);
  const auto first = number_in(from), last = number_in(to);
  if ((!from.empty() && !first) || (!to.empty() && !last) || (!first && !last)) return std::nullopt;
  if (first && last && *last < *first) return std::nullopt;
  if (!first ? *last == 0 : *first >= size) {
    throw Problem(ErrorCode::range_not_satisfiable).header("Content-Range", "bytes */" + std::to_string(size));
  }
  if (!first) return Range{size - std::min(*last, size), size - 1};
  return Range{*first, std::min(last.value_or(size - 1), size - 1)};
}

// --- answering -------------------------------------------------------------------------------------------------------

/// A file too large to be held whole, read a piece ahead of the client.
class StoredSource final : public http::BodySource {
 public:
  StoredSource(Deps& deps, std::string key, std::uint64_t from, std::uint64_t length)
      : deps_(deps), key_(std::move(key)), at_(from), end_(from + length) {
    size = length;
  }
  Awaitable<std::string> next() override {
    const std::uint64_t length = std::min<std::uint64_t>(piece_bytes, end_ - at_);
    std::string piece = co_await deps_.file_work.run([this, length] { return deps_.store.read(key_, at_, length); });
    at_ += piece.size();
    co_return piece;
  }

 private:
  Deps& deps_;
  const std::string key_;
  std::uint64_t at_;
  const std::uint64_t end_;
};

std::string_view extension_for(std::string_view content_type) {
  return content_type == "image/jpeg" ? "jpg" : content_type == "image/png" ? "png" : "webp";
}

/// What every answer about a file carries. Nothing in it can run, whatever the bytes are taken for.
Response frame_of(const Uuid& id, std::string_view content_type, std::string_view etag, bool is_public) {
  Response response;
  response.headers.reserve(8);
  response.headers.emplace_back("ETag", etag);
  response.headers.emplace_back("Cache-Control",
                                is_public ? "public, max-age=31536000, immutable" : "private, max-age=300");
  response.headers.emplace_back("Accept-Ranges", "bytes");
  response.headers.emplace_back("Content-Security-Policy", "default-src 'none'; sandbox");
  response.headers.emplace_back("Content-Disposition", "inline; filename=\"" + to_string(id) + "." +
                                                           std::string(extension_for(content_type)) + "\"");
  return response;
}

bool is_known(const Call& call, std::string_view etag) {
  const auto known = call.head.header("if-none-match");
  return known && http::names_etag(*known, etag);
}

void mark_range(Response& response, const Range& range, std::uint64_t size) {
  response.status = 206;
  response.headers.emplace_back("Content-Range", "bytes " + std::to_string(range.first) + "-" +
                                                     std::to_string(range.last) + "/" + std::to_string(size));
}

Response answer_with(const Call& call, std::shared_ptr<const Shelved> item, bool is_public) {
  Response response = frame_of(item->id, item->content_type, item->etag, is_public);
  if (is_known(call, item->etag)) {
    response.status = 304;
    return response;
  }
  response.content_type = item->content_type;
  response.static_body = item->bytes;
  if (const auto range = range_of(call, item->etag, item->bytes.size())) {
    mark_range(response, *range, item->bytes.size());
    response.static_body = response.static_body.substr(range->first, range->last - range->first + 1);
  }
  response.keep_alive = std::move(item);
  return response;
}

Awaitable<std::string> read_all(Deps& deps, std::string key, std::uint64_t size) {
  std::optional<Problem> problem;
  try {
    std::string bytes = co_await deps.file_work.run([&deps, &key, size] { return deps.store.read(key, 0, size); });
    if (bytes.size() != size) throw storage::Error(storage::Failure::unavailable, "shorter than it was: " + key);
    co_return bytes;
  } catch (const storage::Error& error) {
    log::Line(log::Level::warn, "file.unread").with("key", key).with("cause", error.what());
    problem.emplace(to_problem(error));
  }
  throw std::move(*problem);
}

Awaitable<Response> serve(Deps& deps, Call& call, Uuid id, Variant variant, bool has_link) {
  const std::uint64_t removals = deps.shelf->removals();
  std::shared_ptr<const Shelved> shelved = deps.shelf->find(id, variant);
  if (shelved && std::chrono::steady_clock::now() - shelved->checked < Shelf::trusted_for) {
    co_return answer_with(call, std::move(shelved), true);
  }
  std::optional<FileRow> row;
  std::optional<Problem> refused;
  try {
    row = co_await visible(deps, call, id, has_link);
  } catch (Problem& problem) {
    refused.emplace(std::move(problem));
  }
  if (refused) {
    if (shelved && refused->code == ErrorCode::not_found) deps.shelf->remove(id);
    throw std::move(*refused);
  }
  const bool is_public = row->category != Category::CHAT;
  const auto size = static_cast<std::uint64_t>(variant == Variant::picture ? row->size : row->thumbnail_size);
  const std::string etag = "\"" + row->sha256.substr(0, 32) + (variant == Variant::picture ? "\"" : "-t\"");
  if (size > Shelf::most_bytes_each) {
    Response response = frame_of(id, row->content_type, etag, is_public);
    if (is_known(call, etag)) {
      response.status = 304;
      co_return response;
    }
    const auto range = range_of(call, etag, size);
    if (range) mark_range(response, *range, size);
    response.content_type = row->content_type;
    response.source = std::make_shared<StoredSource>(deps, key_of(id, variant), range ? range->first : 0,
                                                     range ? range->last - range->first + 1 : size);
    co_return response;
  }
  auto item = std::make_shared<Shelved>();
  item->id = id;
  item->owner_id = row->owner_id;
  item->variant = variant;
  item->content_type = std::move(row->content_type);
  item->etag = etag;
  item->checked = std::chrono::steady_clock::now();
  if (shelved && shelved->etag == etag) {
    item->bytes = shelved->bytes;
  } else {
    item->bytes = co_await read_all(deps, key_of(id, variant), size);
  }
  if (is_public) deps.shelf->put(item, removals);
  co_return answer_with(call, std::move(item), is_public);
}

constexpr Endpoint get_picture{
    .method = Method::get,
    .path = "/files/{id}",
    .name = "uploads.file",
    .summary = "A picture",
    .description =
        "Profile and gig pictures are public and never change. A chat picture is for the sides of its rooms and "
        "whoever uploaded it: with the access token, or by a signed address that ends; for others it is not there. One "
        "range of bytes can be asked for.",
    .access = Access::anyone,
    .rate = RateClass::none,
    .errors = {ErrorCode::not_found, ErrorCode::overloaded},
    .etag = true,
    .ranges = true,
    .knows_caller = true,
    .media_type = "*/*"};

constexpr Endpoint get_thumbnail{.method = Method::get,
                                 .path = "/files/{id}/thumb",
                                 .name = "uploads.thumbnail",
                                 .summary = "The same picture within 320 by 320 pixels",
                                 .access = Access::anyone,
                                 .rate = RateClass::none,
                                 .errors = {ErrorCode::not_found, ErrorCode::overloaded},
                                 .etag = true,
                                 .ranges = true,
                                 .knows_caller = true,
                                 .media_type = "*/*"};

Awaitable<Response> serve_picture(Deps& deps, Call& call, Path<FilePath> path, Query<LinkQuery> query) {
  const bool has_link = is_signed(deps, path->id, query.value);
  co_return co_await serve(deps, call, path->id, Variant::picture, has_link);
}

Awaitable<Response> serve_thumbnail(Deps& deps, Call& call, Path<FilePath> path, Query<LinkQuery> query) {
  const bool has_link = is_signed(deps, path->id, query.value);
  co_return co_await serve(deps, call, path->id, Variant::thumbnail, has_link);
}

struct Link {
  static constexpr bool is_answer = true;
  static constexpr std::array notes{Note{"url", "works without a token until then, for whoever has it"}};
  std::string url;
  std::string thumbnail_url;
  Timestamp expires_at;
};
BOOST_DESCRIBE_STRUCT(Link, (), (url, thumbnail_url, expires_at))

constexpr Endpoint get_link{.method = Method::get,
                            .path = "/api/upload/{id}/link",
                            .name = "uploads.link",
                            .summary = "A signed address of a picture that the caller may see",
                            .description =
                                "For where a token cannot be sent, as in an img element. It ends after "
                                "HOURZ_FILE_LINK_S, one hour by default.",
                            .errors = {ErrorCode::not_found}};

Awaitable<Link> make_link(Deps& deps, Call& call, Path<FilePath> path) {
  co_await visible(deps, call, path->id, false);
  const std::int64_t expires = now_s() + deps.config.file_link_s;
  const std::string query =
      "?expires=" + std::to_string(expires) + "&signature=" + signature_of(deps, path->id, expires);
  co_return Link{url_of(path->id) + query, url_of(path->id) + "/thumb" + query, Timestamp{expires * 1'000'000}};
}

}  // namespace

std::string key_of(const Uuid& id, Variant variant) {
  const std::string text = to_string(id);
  return "pictures/" + text.substr(34) + "/" + text + (variant == Variant::thumbnail ? ".thumb" : "");
}

std::optional<Uuid> id_in_key(std::string_view key) {
  if (key.size() < 48) return std::nullopt;
  const auto id = parse_uuid(key.substr(12, 36));
  if (!id || (key != key_of(*id, Variant::picture) && key != key_of(*id, Variant::thumbnail))) return std::nullopt;
  return id;
}

void forget_one(Deps& deps, const Uuid& id) {
  deps.shelf->remove(id);
  deps.node.say("picture.removed", R"({"id":")" + to_string(id) + "\"}");
}

void forget(Deps& deps, const Uuid& owner_id) {
  deps.shelf->remove_all_of(owner_id);
  deps.node.say("picture.removed", R"({"owner_id":")" + to_string(owner_id) + "\"}");
}

void install_forgetting(Deps& deps) {
  deps.node.on_said("picture.removed", [shelf = deps.shelf](const Uuid&, const boost::json::value& said) {
    const auto named = [&said](const char* name) {
      const auto* text = said.as_object().if_contains(name);
      return text == nullptr ? std::nullopt : parse_uuid(std::string_view(text->as_string()));
    };
    if (const auto id = named("id")) shelf->remove(*id);
    if (const auto owner_id = named("owner_id")) shelf->remove_all_of(*owner_id);
    return realtime::Spread();
  });
}

Problem to_problem(const storage::Error& error) {
  switch (error.failure) {
    case storage::Failure::no_space:
      return Problem(ErrorCode::insufficient_storage);
    case storage::Failure::not_found:
      return Problem(ErrorCode::not_found);
    case storage::Failure::unavailable:
      return Problem(ErrorCode::service_unavailable, "The store of files does not answer.").retry_after(2);
    case storage::Failure::refused:
      break;
  }
  return Problem(ErrorCode::service_unavailable, "The store of files cannot be used.").retry_after(30);
}

std::shared_ptr<const Shelved> Shelf::find(const Uuid& id, Variant variant) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find({id, variant});
  if (place == places_.end()) return nullptr;
  items_.splice(items_.begin(), items_, place->second);
  return *place->second;
}

void Shelf::drop(Items::iterator item) {
  bytes_ -= (*item)->bytes.size();
  places_.erase({(*item)->id, (*item)->variant});
  items_.erase(item);
}

std::uint64_t Shelf::removals() {
  const std::lock_guard lock(mutex_);
  return removals_;
}

void Shelf::put(std::shared_ptr<const Shelved> item, std::uint64_t removals_before) {
  const std::lock_guard lock(mutex_);
  if (removals_ != removals_before) return;
  if (const auto place = places_.find({item->id, item->variant}); place != places_.end()) drop(place->second);
  bytes_ += item->bytes.size();
  items_.push_front(item);
  places_.emplace(Key{item->id, item->variant}, items_.begin());
  while (bytes_ > most_bytes) drop(std::prev(items_.end()));
}

void Shelf::remove_all_of(const Uuid& owner_id) {
  const std::lock_guard lock(mutex_);
  ++removals_;
  for (auto item = items_.begin(); item != items_.end();) {
    const auto next = std::next(item);
    if ((*item)->owner_id == owner_id) drop(item);
    item = next;
  }
}

void Shelf::remove(const Uuid& id) {
  const std::lock_guard lock(mutex_);
  ++removals_;
  for (const Variant variant : {Variant::picture, Variant::thumbnail}) {
    if (const auto place = places_.find({id, variant}); place != places_.end()) drop(place->second);
  }
}

void install_files(http::Router& router, Deps& deps) {
  router.add(get_picture, serve_picture, deps);
  router.add(get_thumbnail, serve_thumbnail, deps);
  router.add(get_link, make_link, deps);
}

}  // namespace hourz::uploads
