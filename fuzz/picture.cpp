// Any bytes as a picture: refused, or made anew within the limits.
#include "rooms/uploads/images.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/problem.hpp"
#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace hourz;
  static const std::filesystem::path folder = [] {
    auto path = std::filesystem::temp_directory_path() / ("hourz-fuzz-picture-" + std::to_string(getpid()));
    std::filesystem::create_directories(path);
    return path;
  }();
  const auto source = folder / "source";
  std::ofstream(source, std::ios::binary | std::ios::trunc) << fuzz::as_text(bytes, size);
  try {
    const auto made = uploads::make_picture(source, folder / "picture", folder / "thumbnail");
    fuzz::require(made.width > 0 && made.height > 0 && made.width <= uploads::most_side);
    fuzz::require(std::int64_t{made.width} * made.height <= uploads::most_pixels);
    fuzz::require(made.picture.size == std::filesystem::file_size(folder / "picture"));
  } catch (const Problem& problem) {
    fuzz::require(problem.code == ErrorCode::unsupported_media_type || problem.code == ErrorCode::validation_failed);
  }
  return 0;
}
