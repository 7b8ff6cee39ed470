#include "rooms/users/blocks.hpp"

#include "http/cursor.hpp"
#include "users_sql.hpp"

namespace hourz::users {
namespace {

using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::NoContent;
using http::Path;
using http::Query;

struct BlockRow {
  Uuid user, other;
};
BOOST_DESCRIBE_STRUCT(BlockRow, (), (user, other))

struct BlockParameters {
  Uuid user;
  std::vector<Uuid> others;
};
BOOST_DESCRIBE_STRUCT(BlockParameters, (), (user, others))

struct BlockUsers {
  std::vector<Uuid> users;
};
BOOST_DESCRIBE_STRUCT(BlockUsers, (), (users))

struct ListedRow {
  Uuid id;
  std::optional<std::string> name, photo_url;
  double reputation_score;
  std::int32_t total_reviews;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(ListedRow, (), (id, name, photo_url, reputation_score, total_reviews, created_at))

struct ListPage {
  Uuid user;
  Timestamp before;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(ListPage, (), (user, before, before_id, page))

const db::Query<Uuid, BlockRow> insert_block{sql::block};
const db::Query<Uuid, BlockRow> delete_block{sql::unblock};
const db::Query<ListedRow, ListPage> select_listed{sql::blocks};
const db::Query<BlockedPair, BlockUsers> select_blocks{sql::blocks_of};
const db::Query<Uuid, BlockParameters> select_blocked{sql::blocked_among};

struct UserPath {
  Uuid id;
};
BOOST_DESCRIBE_STRUCT(UserPath, (), (id))

constexpr Endpoint block_user{
    .method = Method::post,
    .path = "/api/users/{id}/block",
    .name = "users.block",
    .summary = "Block somebody",
    .description =
        "Silent and mutual: from the answer on neither finds the other in searches, on the map, among buddies or in "
        "alerts, reads the other's profile or open gigs, accepts the other's gigs, or gets a message, typing, "
        "receipts or presence of the other's, sockets that are open already among them. A gig that the two have "
        "together goes on, with its money; their room looks closed to both. Again: the same answer.",
    .effect = Effect::change,
    .status = 204,
    .errors = {ErrorCode::not_found, ErrorCode::self_block}};

constexpr Endpoint unblock_user{.method = Method::del,
                                .path = "/api/users/{id}/block",
                                .name = "users.unblock",
                                .summary = "Take a block of the caller's back",
                                .description = "One that the other side made holds on. Again: the same answer.",
                                .effect = Effect::change,
                                .status = 204,
                                .errors = {ErrorCode::not_found, ErrorCode::self_block}};

Awaitable<NoContent> change(Call& call, const db::Query<Uuid, BlockRow>& statement, Uuid other) {
  if (other == call.user()) throw Problem(ErrorCode::self_block);
  const BlockRow row{call.user(), other};
  if (!co_await db::maybe_last(call.db(), statement, row)) throw Problem(ErrorCode::not_found);
  co_return NoContent{};
}

Awaitable<NoContent> post_block(Deps&, Call& call, Path<UserPath> path) { return change(call, insert_block, path->id); }

Awaitable<NoContent> remove_block(Deps&, Call& call, Path<UserPath> path) {
  return change(call, delete_block, path->id);
}

struct Block {
  static constexpr bool is_answer = true;
  UserCard user;
  Timestamp created_at;
};
BOOST_DESCRIBE_STRUCT(Block, (), (user, created_at))

struct BlockList {
  static constexpr bool is_answer = true;
  std::vector<Block> blocks;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(BlockList, (), (blocks, next_cursor))

/// Where a page ended.
struct BlockPosition {
  Timestamp before{253402300799'000000};
  Uuid before_id;
};
BOOST_DESCRIBE_STRUCT(BlockPosition, (), (before, before_id))

constexpr Endpoint list_blocks{.method = Method::get,
                               .path = "/api/users/blocks",
                               .name = "users.blocks",
                               .summary = "Whom the caller has blocked, newest first",
                               .description = "Who has blocked the caller is told to nobody.",
                               .errors = {ErrorCode::invalid_cursor}};

Awaitable<BlockList> get_blocks(Deps& deps, Call& call, Query<http::PageQuery> query) {
  BlockPosition at;
  at.before_id = http::last_uuid();
  if (query->cursor) at = http::from_cursor<BlockPosition>(deps.cursor_key, call.user(), query->cursor->value);
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  const ListPage wanted{call.user(), at.before, at.before_id, static_cast<std::int64_t>(limit) + 1};
  auto rows = co_await db::all(call.db(), select_listed, wanted);
  BlockList list;
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), at);
  for (ListedRow& row : rows) {
    list.blocks.push_back(
        {{row.id, std::move(row.name), std::move(row.photo_url), row.reputation_score, row.total_reviews},
         row.created_at});
  }
  co_return list;
}

}  // namespace

void install_blocks(http::Router& router, Deps& deps) {
  router.add(block_user, post_block, deps);
  router.add(unblock_user, remove_block, deps);
  router.add(list_blocks, get_blocks, deps);
}

Awaitable<std::vector<BlockedPair>> blocks_of(db::Executor& db, std::vector<Uuid> users) {
  co_return co_await db::all(db, select_blocks, BlockUsers{std::move(users)});
}

Awaitable<std::vector<Uuid>> blocked_among(db::Executor& db, Uuid user, std::vector<Uuid> others) {
  const BlockParameters asked{user, std::move(others)};
  co_return co_await db::all(db, select_blocked, asked);
}

}  // namespace hourz::users
