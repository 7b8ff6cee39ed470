// The rows of a database into a folder and out of it again, by PostgreSQL's own pg_dump and pg_restore.
//
// A dump is of one snapshot, and says how many rows each table had in it. Loading is one transaction: all of it or
// nothing. Passwords reach the programs by their environment, never by a command line. What else belongs to a backup,
// and whether a dump is whole, is left to the caller.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>

#include "core/process.hpp"

namespace hourz::db {

/// What a person must put right, in one line.
struct DumpError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// PostgreSQL's client programs, and whom they run as.
struct DumpTools {
  std::filesystem::path folder;
  process::Identity identity;
};

using RowCounts = std::map<std::string, std::int64_t>;  ///< by table

struct DumpContents {
  RowCounts rows;
  std::int64_t schema = 0;  ///< version
};

/// Into `folder`, which must not exist, in pg_dump's directory format; beside whoever reads and writes. Throws
/// DumpError and SessionError.
DumpContents take_dump(const std::string& owner_url, const DumpTools& tools, const std::filesystem::path& folder);

/// Throws DumpError when others use the database, when it holds accounts and is not to be replaced, or when it lacks
/// PostGIS and this role may not add it.
void check_target(const std::string& owner_url, bool replace);

/// Drops what is there and loads the dump. Afterwards the database has these row counts. Throws DumpError; the database
/// is then empty.
void load_dump(const std::string& owner_url, const DumpTools& tools, const std::filesystem::path& folder,
               const RowCounts& rows);

}  // namespace hourz::db
