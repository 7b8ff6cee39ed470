// `hourz backup` and `hourz restore`: the database and the files, consistent with each other, while the service runs.
//
// A backup is a folder: `database/` (pg_dump's directory format, from one snapshot), `files/` (the store's objects,
// copied after the snapshot was taken, while a lock keeps those of removed pictures, so that each row of the dump finds
// its file), `SHA256SUMS` over both, and `manifest.json`, written last. It appears under its name whole and synced to
// the disk, or not at all. Restoring checks every sum before it touches anything, loads the dump in one transaction,
// applies what the schema lacks, and compares the rows with the manifest; the ledger's audit, and whether each upload
// has its files, is its caller's. Secrets are not in a backup.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>

#include "core/config.hpp"

namespace hourz::app {

/// What a person must put right, in one line.
struct BackupError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct BackupSummary {
  std::map<std::string, std::int64_t> rows;  ///< by table
  std::int64_t schema = 0;                   ///< version
  std::int64_t files = 0;
  std::int64_t file_bytes = 0;
  std::string made_at;  ///< RFC 3339: the moment of the snapshot

  std::int64_t all_rows() const;
};

/// `folder` must not exist, or be empty. Throws BackupError.
BackupSummary back_up(const Config& config, const std::string& owner_url, const std::filesystem::path& folder);

/// The database must hold no accounts unless `replace`, and nobody else may use it. Throws BackupError; the database is
/// then as it was, or, when it was to be replaced and loading failed, empty.
BackupSummary restore(const Config& config, const std::string& owner_url, const std::filesystem::path& folder,
                      bool replace);

}  // namespace hourz::app
