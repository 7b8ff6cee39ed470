// The schema's numbered steps up and down, and who applies them.
//
// The files of migrations/ are embedded in the binary with their checksums. migrate_up() applies what is missing, one
// transaction each, under an advisory lock of the database: servers that start together migrate once, and a kill in the
// middle leaves the schema as it was before that step. A schema that is newer than the binary, or a step changed after
// it was applied, is refused in one clear line. Afterwards the application's role has its rights, as described at
// migrate_up(). What the schema holds is left to the files.
#pragma once
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace hourz::db {

/// A line `-- oldest program: N` in the up text says that programs knowing only versions up to N can work on the schema
/// after this step; without it only programs that know the step can.
struct Migration {
  int version = 0;  ///< 1, 2, 3 …
  std::string name;
  std::string up, down;
  std::string checksum;  ///< SHA-256 of `up`, hexadecimal

  Migration() = default;
  Migration(int number, std::string label, std::string up_text, std::string down_text, std::string sum = "");

  int oldest_program() const;
};

/// From migrations/, in order.
const std::vector<Migration>& embedded_migrations();

struct MigrationError : std::runtime_error {
  bool unavailable;  ///< no server answered: worth trying again, unlike everything else
  explicit MigrationError(const std::string& text, bool no_server = false)
      : std::runtime_error(text), unavailable(no_server) {}
};

struct MigrationState {
  int version = 0;
  std::string name;
  std::optional<std::string> applied_at;  ///< ISO 8601 UTC; nothing while pending
  bool checksum_ok = true;
  bool known = true;  ///< to this binary
  bool pending() const { return !applied_at; }
};

/// Applies what is missing and returns how many that were. Makes the extension postgis if it is not
/// there. If the role hourz_app exists it may afterwards read and write the rows of every table and use every sequence;
/// a table whose comment starts with "append-only" takes no UPDATE and no DELETE from it, and one whose comment starts
/// with "read-only" no change at all. Waits up to 60 s for another migrator, and 2 s, five times, for a table's lock.
int migrate_up(const std::string& owner_url, const std::vector<Migration>& known = embedded_migrations());

/// Undoes every step above `to_version`, newest first; returns how many that were.
int migrate_down(const std::string& owner_url, int to_version,
                 const std::vector<Migration>& known = embedded_migrations());

/// Every step that is known or applied, in order.
std::vector<MigrationState> migration_status(const std::string& url,
                                             const std::vector<Migration>& known = embedded_migrations());

/// Throws MigrationError unless a program with these migrations can work on the schema as it is.
void check_schema(const std::string& app_url, const std::vector<Migration>& known = embedded_migrations());

}  // namespace hourz::db
