// Moves files from one store to another while servers go on: what a change from a folder to S3, or back, needs. Can be
// stopped and repeated at any time: objects never change, so one that is there with the right size is left alone, and
// one that is copied is looked at again afterwards. Nothing is removed on either side.
#pragma once
#include <cstdint>
#include <filesystem>

#include "storage/storage.hpp"

namespace hourz::storage {

struct Copied {
  std::uint64_t seen = 0;
  std::uint64_t copied = 0;
  std::uint64_t bytes = 0;  ///< of those copied
  std::uint64_t there = 0;  ///< already
  std::uint64_t gone = 0;   ///< removed at the source meanwhile
};

/// `incoming`: an existing folder for files on their way. Throws Error at the first object that cannot be copied, after
/// those under way have ended.
Copied copy_objects(Store& from, Store& to, const std::filesystem::path& incoming);

}  // namespace hourz::storage
