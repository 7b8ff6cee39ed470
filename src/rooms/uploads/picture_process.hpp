// A picture made in a process of its own: this program again, as `hourz make-picture`. What a hostile file could do to
// a decoder, and what GLib does where memory is short, ends that process and nothing else; it has no socket, no secret
// and no descriptor of the server's, sees one person's picture, and gives all of its memory back. Costs some 25 ms of
// processor, most of it loading shared libraries. Blocks: for a worker pool, whose size bounds how many there are.
#pragma once
#include <filesystem>

#include "rooms/uploads/images.hpp"

namespace hourz::uploads {

/// As make_picture(), but for what the machine cannot do just now: Problem service_unavailable, and a line in the log.
MadePicture make_picture_apart(const std::filesystem::path& source, const std::filesystem::path& picture,
                               const std::filesystem::path& thumbnail);

}  // namespace hourz::uploads
