#include "rooms/uploads/images.hpp"

#include <sodium.h>
#include <vips/vips.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "core/crypto.hpp"
#include "core/problem.hpp"
#include "storage/local.hpp"

namespace hourz::uploads {
namespace {

namespace fs = std::filesystem;

struct Unref {
  void operator()(VipsImage* image) const { g_object_unref(image); }
};
using Image = std::unique_ptr<VipsImage, Unref>;

void ignore_log(const char*, GLogLevelFlags, const char*, void*) {}

void start_vips() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (vips_init("hourz") != 0) throw std::runtime_error("libvips does not start");
    g_log_set_handler("VIPS", static_cast<GLogLevelFlags>(G_LOG_LEVEL_MASK), ignore_log, nullptr);
    // Whatever a plugin may bring: of all loaders, these three.
    vips_block_untrusted_set(TRUE);
    vips_operation_block_set("VipsForeignLoad", TRUE);
    for (const char* loader : {"VipsForeignLoadJpeg", "VipsForeignLoadPng", "VipsForeignLoadWebp"}) {
      vips_operation_block_set(loader, FALSE);
    }
    // One picture a worker, on one thread, and nothing kept of it: memory is bounded by the number of workers.
    vips_concurrency_set(1);
    vips_cache_set_max(0);
    vips_cache_set_max_mem(0);
    vips_cache_set_max_files(0);
  });
}

Problem unreadable() { return invalid("file", "unreadable", "cannot be read as the picture it begins as"); }

/// What libvips says went wrong, as a problem of the picture or of a full disk. Throws runtime_error for a machine
/// without memory, threads or descriptors to spare.
Problem problem_of_vips() {
  const std::string text = vips_error_buffer();
  vips_error_clear();
  const auto says = [&text](std::string_view words) { return text.find(words) != std::string::npos; };
  for (const int number : {ENOSPC, EDQUOT, EFBIG}) {
    if (says(std::strerror(number))) return Problem(ErrorCode::insufficient_storage);
  }
  bool short_of_something = says("out of memory") || says("nsufficient memory") || says("unable to create thread");
  for (const int number : {EMFILE, ENFILE, ENOMEM, EAGAIN, EIO}) {
    short_of_something = short_of_something || says(std::strerror(number));
  }
  if (short_of_something) throw std::runtime_error(text.substr(0, 200));
  return unreadable();
}

void check(int result) {
  if (result != 0) throw problem_of_vips();
}

template <class Make>
Image made(Make make) {
  VipsImage* raw = nullptr;
  const int result = make(&raw);
  Image image(raw);
  check(result);
  return image;
}

Image load(const fs::path& file, ImageType type, VipsAccess access) {
  const char* const name = file.c_str();
  return made([&](VipsImage** out) {
    switch (type) {
      case ImageType::jpeg:
        return vips_jpegload(name, out, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, nullptr);
      case ImageType::png:
        return vips_pngload(name, out, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, nullptr);
      case ImageType::webp:
        return vips_webpload(name, out, "access", access, "fail_on", VIPS_FAIL_ON_ERROR, nullptr);
    }
    return -1;
  });
}

/// Eight bits of sRGB or grey, by the picture's own profile where that can be followed.
Image to_srgb(Image image) {
  const VipsInterpretation space = vips_image_get_interpretation(image.get());
  if (vips_image_get_typeof(image.get(), VIPS_META_ICC_NAME) != 0) {
    VipsImage* raw = nullptr;
    const int result = vips_icc_transform(image.get(), &raw, "srgb", "embedded", TRUE, "intent", VIPS_INTENT_PERCEPTUAL,
                                          "depth", 8, nullptr);
    Image converted(raw);
    if (result == 0) return converted;
    vips_error_clear();
  }
  const bool grey = space == VIPS_INTERPRETATION_B_W || space == VIPS_INTERPRETATION_GREY16;
  return made([&](VipsImage** out) {
    return vips_colourspace(image.get(), out, grey ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB, nullptr);
  });
}

void save(VipsImage* image, const fs::path& file, ImageType type) {
  const char* const name = file.c_str();
  switch (type) {
    case ImageType::jpeg:
      check(vips_jpegsave(image, name, "Q", 85, "strip", TRUE, nullptr));
      return;
    case ImageType::png:
      check(vips_pngsave(image, name, "compression", 6, "strip", TRUE, nullptr));
      return;
    case ImageType::webp:
      check(vips_webpsave(image, name, "Q", 82, "effort", 2, "strip", TRUE, nullptr));
      return;
  }
}

MadeFile measured(const fs::path& file) {
  MadeFile result;
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  std::ifstream in(file, std::ios::binary);
  std::vector<char> piece(65536);
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())), in.gcount() > 0) {
    const auto got = static_cast<std::size_t>(in.gcount());
    crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(piece.data()), got);
    result.size += got;
  }
  if (in.bad() || result.size == 0) throw storage::error_of(errno, "cannot read " + file.string());
  std::array<unsigned char, crypto_hash_sha256_BYTES> sum{};
  crypto_hash_sha256_final(&state, sum.data());
  result.sha256 = to_hex({reinterpret_cast<const char*>(sum.data()), sum.size()});
  return result;
}

}  // namespace

std::string_view media_type_of(ImageType type) {
  return type == ImageType::jpeg ? "image/jpeg" : type == ImageType::png ? "image/png" : "image/webp";
}

std::string_view extension_of(ImageType type) {
  return type == ImageType::jpeg ? "jpg" : type == ImageType::png ? "png" : "webp";
}

std::optional<ImageType> type_of(std::string_view beginning) {
  if (beginning.starts_with("\xff\xd8\xff")) return ImageType::jpeg;
  if (beginning.starts_with("\x89PNG\r\n\x1a\n")) return ImageType::png;
  if (beginning.size() >= 12 && beginning.starts_with("RIFF") && beginning.substr(8, 4) == "WEBP") {
    return ImageType::webp;
  }
  return std::nullopt;
}

MadePicture make_picture(const fs::path& source, const fs::path& picture, const fs::path& thumbnail) {
  start_vips();
  std::string beginning(12, '\0');
  std::ifstream in(source, std::ios::binary);
  if (!in) throw storage::error_of(errno, "cannot read " + source.string());
  in.read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
  beginning.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, in.gcount())));
  in.close();
  const auto type = type_of(beginning);
  if (!type) throw Problem(ErrorCode::unsupported_media_type, "The file is not a JPEG, PNG or WebP.");

  // Loading reads the header; pixels are decoded when they are asked for.
  Image image = load(source, *type, VIPS_ACCESS_SEQUENTIAL);
  const std::int64_t width = vips_image_get_width(image.get());
  const std::int64_t height = vips_image_get_height(image.get());
  if (vips_image_get_n_pages(image.get()) > 1) throw invalid("file", "animated", "must be a single picture");
  if (width > most_side || height > most_side || width * height > most_pixels) {
    throw invalid("file", "too_many_pixels", "may have at most 40 megapixels, and 16384 to a side");
  }
  // A picture that only has to be mirrored can be read from top to bottom; one that lies on its side cannot.
  if (vips_image_get_orientation(image.get()) > 2) image = load(source, *type, VIPS_ACCESS_RANDOM);
  image = made([&](VipsImage** out) { return vips_autorot(image.get(), out, nullptr); });
  image = to_srgb(std::move(image));
  save(image.get(), picture, *type);
  MadePicture result{
      *type, vips_image_get_width(image.get()), vips_image_get_height(image.get()), measured(picture), {}};
  image.reset();

  // From the new picture: it is upright, in sRGB and sound; a JPEG is shrunk while it is decoded.
  const Image small = made([&](VipsImage** out) {
    return vips_thumbnail(picture.c_str(), out, thumbnail_side, "height", thumbnail_side, "size", VIPS_SIZE_DOWN,
                          nullptr);
  });
  save(small.get(), thumbnail, *type);
  result.thumbnail = measured(thumbnail);
  return result;
}

}  // namespace hourz::uploads
