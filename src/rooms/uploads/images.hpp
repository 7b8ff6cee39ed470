// Pictures: what a file is by its bytes, and a new picture made from it with a thumbnail. By libvips, which may load
// JPEG, PNG and WebP here and nothing else. What comes out was written anew: upright, in sRGB, without metadata,
// comments or whatever was appended. Sizes are looked at before a pixel is decoded. The decoders are C, and GLib ends
// the process where memory is short: a server calls this by picture_process.hpp.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace hourz::uploads {

enum class ImageType { jpeg, png, webp };

std::string_view media_type_of(ImageType type);  ///< `image/jpeg`
std::string_view extension_of(ImageType type);   ///< `jpg`

/// By the first bytes, 12 at most; nothing for any other kind of file.
std::optional<ImageType> type_of(std::string_view beginning);

inline constexpr std::int64_t most_pixels = 40'000'000;
inline constexpr int most_side = 16'384;
inline constexpr int thumbnail_side = 320;

struct MadeFile {
  std::uint64_t size = 0;  ///< bytes
  std::string sha256;      ///< in hex
};

struct MadePicture {
  ImageType type;
  int width = 0;
  int height = 0;
  MadeFile picture;
  MadeFile thumbnail;
};

/// Makes both from `source`. Throws Problem unsupported_media_type, or validation_failed with the field `file` and one
/// of too_many_pixels, animated, unreadable; insufficient_storage when the disk is full; runtime_error when the machine
/// cannot, storage::Error for what cannot be read. What was written of the two is left to the caller then.
MadePicture make_picture(const std::filesystem::path& source, const std::filesystem::path& picture,
                         const std::filesystem::path& thumbnail);

}  // namespace hourz::uploads
