// What rooms store about a person, as seen by who must give all of it out or make it nobody's: a room registers its own
// part here, so that no room reads another's tables and none is forgotten. The composition root has the list; a test
// fails for a table that refers to people and has no part in it.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/problem.hpp"
#include "db/database.hpp"

namespace hourz::http {

/// Somebody's things after a key; the first page is after the empty one.
struct ExportPage {
  Uuid user;
  std::string after;
  std::int64_t page = 1000;
};
BOOST_DESCRIBE_STRUCT(ExportPage, (), (user, after, page))

/// `item` is the text of a JSON object; keys grow.
struct ExportRow {
  std::string key, item;
};
BOOST_DESCRIBE_STRUCT(ExportRow, (), (key, item))

using ExportQuery = db::Query<ExportRow, ExportPage>;

/// One list of the export.
struct ExportPart {
  std::string_view name;
  const ExportQuery* query;
};

/// Why an account cannot be deleted now, if so. Asked while the account is held: nothing new comes to refer to it.
using Obstacle = std::function<db::Awaitable<std::optional<ErrorCode>>(db::Executor&, Uuid)>;
/// Makes what the room stores nobody's, in the transaction that deletes the account.
using Erasure = std::function<db::Awaitable<void>(db::Executor&, Uuid)>;

/// What a server keeps in memory of somebody is forgotten, once the deletion is committed.
using Farewell = std::function<void(const Uuid&)>;

struct PersonalData {
  std::vector<ExportPart> parts;
  std::vector<Obstacle> obstacles;
  std::vector<Erasure> erasures;
  std::vector<Farewell> farewells = {};
};

/// Answers kept for retries go with the account.
void add_personal_data(PersonalData& data);

}  // namespace hourz::http
