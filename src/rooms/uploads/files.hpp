// What the files of this room share: keys in the store, the folder where files are written first, the shelf of public
// pictures in memory, and serving.
//
// The shelf is one for all shards and guarded by a mutex that is held for a look-up alone: a picture in memory twice
// would halve what fits. Servers tell each other what was removed; whatever they fail to hear, what lies on it is asked
// of the database again after five seconds.
#pragma once
#include <chrono>
#include <filesystem>
#include <list>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "rooms/uploads/uploads.hpp"

namespace hourz::uploads {

enum class Variant { picture, thumbnail };

/// `pictures/<last two digits>/<id>`, with `.thumb` behind it. Digits of the end, since ids begin with the time.
std::string key_of(const Uuid& id, Variant variant);
/// The id in a key; nothing when it is none of this room's.
std::optional<Uuid> id_in_key(std::string_view key);

/// No server shows this one from memory any more: see forget().
void forget_one(Deps& deps, const Uuid& id);
/// Before the node starts: does what other servers' forget() asks for.
void install_forgetting(Deps& deps);

/// The row, if nothing refers to it; 1 when it is gone.
Awaitable<std::int64_t> remove_row(db::Executor& db, Uuid id, Uuid owner_id);

/// What a client hears of a store's error.
Problem to_problem(const storage::Error& error);

/// What is served: bytes, and the fields that go with them.
struct Shelved {
  Uuid id, owner_id;
  Variant variant;
  std::string bytes;
  std::string content_type;
  std::string etag;
  std::chrono::steady_clock::time_point checked;
};

class Shelf {
 public:
  static constexpr std::size_t most_bytes = 64 * 1024 * 1024;
  static constexpr std::size_t most_bytes_each = 1024 * 1024;
  static constexpr std::chrono::seconds trusted_for{5};

  std::shared_ptr<const Shelved> find(const Uuid& id, Variant variant);
  /// How often something was removed: asked before the database is, and given to put().
  std::uint64_t removals();
  /// Nothing when something was removed since: it may have been this.
  void put(std::shared_ptr<const Shelved> item, std::uint64_t removals_before);
  void remove(const Uuid& id);
  void remove_all_of(const Uuid& owner_id);

 private:
  struct Key {
    Uuid id;
    Variant variant;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return std::hash<Uuid>{}(key.id) + (key.variant == Variant::picture);
    }
  };
  using Items = std::list<std::shared_ptr<const Shelved>>;
  void drop(Items::iterator item);

  std::mutex mutex_;
  Items items_;  ///< the last used first
  std::unordered_map<Key, Items::iterator, Hash> places_;
  std::size_t bytes_ = 0;
  std::uint64_t removals_ = 0;
};

/// The folder of incoming files. Blocks: for a worker pool.
class Folder {
 public:
  explicit Folder(std::filesystem::path path);
  ~Folder();

  const std::filesystem::path& path() const { return path_; }
  /// Makes it and says that a server uses it, once. Whether no other did at that moment. Throws storage::Error.
  bool enter();
  /// When this process began: what is older was under way in none of its requests.
  std::chrono::system_clock::time_point began() const { return began_; }

  /// A picture that was stored and came to nothing: remove_left_over() takes it from here. A crash leaves it to the
  /// sweep.
  void leave(const Uuid& id) {
    const std::lock_guard guard(mutex_);
    left_.push_back(id);
  }
  std::vector<Uuid> take_left() {
    const std::lock_guard guard(mutex_);
    return std::exchange(left_, {});
  }

  std::chrono::steady_clock::time_point next_sweep{}, next_removal{};  ///< of the jobs' thread

 private:
  std::filesystem::path path_;
  std::chrono::system_clock::time_point began_;
  std::mutex mutex_;
  std::vector<Uuid> left_;
  int lock_ = -1;
  bool alone_ = false;
};

/// GET of both variants and of a link to them.
void install_files(http::Router& router, Deps& deps);

}  // namespace hourz::uploads
