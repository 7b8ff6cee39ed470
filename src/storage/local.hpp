// Files in a folder of this machine, and which store the settings ask for. Objects lie under `objects/`, named by their
// keys, with mode 0640; `incoming/` beside it is where whoever makes a file writes it first, since a file is moved into
// place within one file system. A file is synced before it is named and its folder after, so a power cut leaves all of
// it or none.
#pragma once
#include <filesystem>
#include <memory>

#include "core/config.hpp"
#include "storage/storage.hpp"

namespace hourz::storage {

class LocalStore final : public Store {
 public:
  /// Makes the folders as they are needed; nothing is touched before the first call.
  explicit LocalStore(std::filesystem::path folder);

  void put(std::string_view key, const std::filesystem::path& file, std::string_view content_type) override;
  std::string read(std::string_view key, std::uint64_t offset, std::uint64_t length) override;
  std::optional<ObjectInfo> find(std::string_view key) override;
  void remove(std::string_view key) override;
  void list(std::string_view prefix, const std::function<void(const ObjectInfo&)>& each) override;
  void check() override;
  bool is_shared() const override { return false; }

 private:
  std::filesystem::path path_of(std::string_view key) const;
  std::filesystem::path objects_;
  std::filesystem::path incoming_;
};

/// HOURZ_FILES_DIRECTORY, or `files` in the data directory.
std::filesystem::path files_directory(const Config& config);

/// Where files are written before they are put, whatever the store. Made by make_incoming().
std::filesystem::path incoming_directory(const Config& config);

/// Makes the folder of incoming files, 0750. Throws Error.
void make_incoming(const std::filesystem::path& folder);

/// The store that the settings name. Touches neither disk nor network.
std::unique_ptr<Store> make_store(const Config& config);

/// Whether a key is one, as storage.hpp says.
bool is_key(std::string_view key);

/// What an errno means to a store's caller.
Error error_of(int number, const std::string& what);

/// Writes the file's bytes and its name's folder to the disk. Throws Error.
void sync_file(const std::filesystem::path& file);
void sync_folder(const std::filesystem::path& folder);

}  // namespace hourz::storage
