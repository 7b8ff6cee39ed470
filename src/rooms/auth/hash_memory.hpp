// The memory of password hashes, kept by each hash thread from one hash to the next. libsodium maps Argon2's 19 MiB
// afresh for each hash and unmaps them after it: half of a login went into page faults, inside the kernel, where a
// thread of low priority holds up everybody else. libsodium offers no allocator to choose, so its calls of mmap and
// munmap are bound to ours when the program is linked (--wrap, CMakeLists.txt); on any thread that keeps no memory they
// are the system's own. A thread's memory is left out of core dumps and unmapped when the thread ends. To wipe it when
// no hash follows is left to the caller.
#pragma once

namespace hourz::auth {

/// From now on this thread's hashes share one piece of memory, as large as the first of them needs.
void keep_hash_memory();

/// Overwrites what hashes left in this thread's memory.
void wipe_hash_memory();

}  // namespace hourz::auth
