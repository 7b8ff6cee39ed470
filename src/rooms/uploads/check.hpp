// Whether what is stored is whole: every upload's row held against its two files. For a command after a restore, which
// may take its time: it looks at every upload, reads every picture and compares its hash. It changes nothing; what to
// do about a file that is missing is for a person, who may still have it. What no row refers to is the sweep's
// (uploads.hpp).
#pragma once
#include "rooms/uploads/uploads.hpp"

namespace hourz::uploads {

/// Rows held against the files of a store.
struct FilesCheck {
  std::int64_t uploads = 0;
  std::int64_t missing = 0;  ///< of which one of the two files is not there
  std::int64_t damaged = 0;  ///< of another length, or a picture of another hash
  Uuid first;                ///< of those
};
/// Looks at every upload and reads every picture. Blocks on the store: for a command, not for a server. Throws
/// storage::Error for what is neither there nor missing.
Awaitable<FilesCheck> check_files(storage::Store& store, db::Executor& db);

}  // namespace hourz::uploads
