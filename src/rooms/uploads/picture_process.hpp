// A picture made in a process of its own: this program again, as `hourz make-picture`. What a hostile file could do to
// a decoder, and what GLib does where memory is short, ends that process and nothing else; it has no socket, no secret
// and no descriptor of the server's, sees one person's picture, and gives all of its memory back. Costs some 25 ms of
// processor, most of it loading shared libraries. Blocks: for a worker pool, whose size bounds how many there are.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "rooms/uploads/images.hpp"

namespace hourz::uploads {

/// As make_picture(), but for what the machine cannot do just now: Problem service_unavailable, and a line in the log.
MadePicture make_picture_apart(const std::filesystem::path& source, const std::filesystem::path& picture,
                               const std::filesystem::path& thumbnail);

inline constexpr std::string_view picture_command = "make-picture";

/// The other side: makes the picture of these three paths, prints one line of JSON with what became of it, and ends the
/// process. A program that calls make_picture_apart() calls this when its first argument is `picture_command`.
[[noreturn]] void make_picture_and_exit(const std::vector<std::string>& paths);

}  // namespace hourz::uploads
