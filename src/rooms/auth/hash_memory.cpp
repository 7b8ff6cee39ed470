#include "rooms/auth/hash_memory.hpp"

#include <sodium.h>
#include <sys/mman.h>

#include <cstddef>

// The names are the linker's: a call of mmap in an object file becomes one of __wrap_mmap.
extern "C" {
void* __real_mmap(void* wish, std::size_t length, int protection, int flags, int file, off_t offset);
int __real_munmap(void* start, std::size_t length);
void* __wrap_mmap(void* wish, std::size_t length, int protection, int flags, int file, off_t offset);
int __wrap_munmap(void* start, std::size_t length);
}

namespace {

constexpr std::size_t at_least_bytes = 1024 * 1024;

/// Needs no construction and no destruction: an allocator may call mmap before either is possible.
struct Kept {
  void* start;
  std::size_t length;
  bool keeping, lent;
};

constinit thread_local Kept kept{};

struct UnmappedAtEnd {
  ~UnmappedAtEnd() {
    kept.keeping = false;
    if (kept.start != nullptr && !kept.lent) __real_munmap(kept.start, kept.length);
  }
};

}  // namespace

void* __wrap_mmap(void* wish, std::size_t length, int protection, int flags, int file, off_t offset) {
  // Argon2's memory is asked for with all its pages at once; that of an allocator is not.
  const bool fits = kept.keeping && !kept.lent && wish == nullptr && length >= at_least_bytes &&
                    (flags & (MAP_ANONYMOUS | MAP_POPULATE)) == (MAP_ANONYMOUS | MAP_POPULATE);
  if (fits && kept.start != nullptr && kept.length == length) {
    kept.lent = true;
    return kept.start;
  }
  void* const start = __real_mmap(wish, length, protection, flags, file, offset);
  if (fits && kept.start == nullptr && start != MAP_FAILED) {
    madvise(start, length, MADV_DONTDUMP);
    kept.start = start;
    kept.length = length;
    kept.lent = true;
  }
  return start;
}

int __wrap_munmap(void* start, std::size_t length) {
  if (kept.lent && start == kept.start && length == kept.length) {
    kept.lent = false;
    return 0;
  }
  return __real_munmap(start, length);
}

namespace hourz::auth {

void keep_hash_memory() {
  thread_local UnmappedAtEnd end;
  static_cast<void>(end);
  kept.keeping = true;
}

void wipe_hash_memory() {
  if (kept.start != nullptr && !kept.lent) sodium_memzero(kept.start, kept.length);
}

}  // namespace hourz::auth
