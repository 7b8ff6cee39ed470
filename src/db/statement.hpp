// A named SQL statement. The name (`gigs.nearby`) is its metric, its log field and its coverage key. Made from the
// rooms' .sql files by tools/embed_sql.py; no SQL text is put together at run time.
#pragma once
#include <string_view>

namespace hourz::db {

struct Statement {
  std::string_view name;
  std::string_view parameters;  ///< names, comma-separated, in the order $1, $2 …
  std::string_view text;        ///< SQL with $n parameters
};

}  // namespace hourz::db
