#include "storage/copy.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <fstream>
#include <mutex>
#include <thread>
#include <vector>

#include "core/crypto.hpp"

namespace hourz::storage {
namespace {

constexpr std::size_t batch_objects = 512;
constexpr std::size_t workers = 8;  // most of the time is waiting for the store
constexpr std::uint64_t piece_bytes = 1U << 20U;

std::string_view content_type_of(std::string_view key) {
  if (key.ends_with(".jpg") || key.ends_with(".jpeg")) return "image/jpeg";
  if (key.ends_with(".png")) return "image/png";
  if (key.ends_with(".webp")) return "image/webp";
  return "application/octet-stream";
}

/// A file on its way, removed if the store has not moved it away.
struct Passing {
  std::filesystem::path path;
  ~Passing() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

void fetch(Store& from, const ObjectInfo& object, const std::filesystem::path& path) {
  std::ofstream file(path, std::ios::binary);
  for (std::uint64_t offset = 0; offset < object.size;) {
    const std::string piece = from.read(object.key, offset, std::min(piece_bytes, object.size - offset));
    if (piece.empty()) throw Error(Failure::unavailable, object.key + " is shorter than it was listed");
    file.write(piece.data(), static_cast<std::streamsize>(piece.size()));
    offset += piece.size();
  }
  file.close();
  if (!file) throw Error(Failure::no_space, "cannot write " + path.string());
}

struct Tally {
  std::atomic<std::uint64_t> copied = 0, bytes = 0, there = 0, gone = 0;
};

void copy_one(Store& from, Store& to, const ObjectInfo& object, const std::filesystem::path& incoming, Tally& tally) {
  const auto is_there = [&] {
    const auto found = to.find(object.key);
    return found && found->size == object.size;
  };
  if (is_there()) {
    ++tally.there;
    return;
  }
  const Passing passing{incoming / ("copy-" + to_hex(random_bytes(12)))};
  try {
    fetch(from, object, passing.path);
  } catch (const Error& error) {
    if (error.failure != Failure::not_found) throw;
    ++tally.gone;
    return;
  }
  to.put(object.key, passing.path, content_type_of(object.key));
  if (!is_there()) throw Error(Failure::unavailable, object.key + " does not have its size after it was copied");
  ++tally.copied;
  tally.bytes += object.size;
}

void copy_batch(Store& from, Store& to, const std::vector<ObjectInfo>& batch, const std::filesystem::path& incoming,
                Tally& tally) {
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::size_t at = next++; at < batch.size(); at = next++) {
      try {
        copy_one(from, to, batch[at], incoming, tally);
      } catch (...) {
        next = batch.size();
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < std::min(workers, batch.size()); ++i) threads.emplace_back(work);
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

Copied copy_objects(Store& from, Store& to, const std::filesystem::path& incoming) {
  Tally tally;
  Copied done;
  std::vector<ObjectInfo> batch;
  from.list({}, [&](const ObjectInfo& object) {
    ++done.seen;
    batch.push_back(object);
    if (batch.size() < batch_objects) return;
    copy_batch(from, to, batch, incoming, tally);
    batch.clear();
  });
  copy_batch(from, to, batch, incoming, tally);
  done.copied = tally.copied;
  done.bytes = tally.bytes;
  done.there = tally.there;
  done.gone = tally.gone;
  return done;
}

}  // namespace hourz::storage
