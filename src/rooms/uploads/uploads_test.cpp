// Uploads through the house: what is taken, what is made of it, who sees it, what refers to it, and what is swept.
#include "rooms/uploads/uploads.hpp"

#include <sys/stat.h>
#include <vips/vips.h>

#include <filesystem>
#include <fstream>

#include "core/crypto.hpp"
#include "harness/harness.hpp"
#include "rooms/uploads/files.hpp"
#include "rooms/uploads/images.hpp"

namespace hourz::harness {
namespace {

namespace fs = std::filesystem;
using Faults = std::vector<std::string>;

/// A picture of a colour gradient, encoded; `type` is jpeg, png or webp.
std::string picture(const std::string& type, int width = 64, int height = 48) {
  [[maybe_unused]] static const int started = vips_init("test");
  std::string pixels(static_cast<std::size_t>(width * height * 3), '\0');
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<char>(i * 7 / 3);
  VipsImage* image = vips_image_new_from_memory_copy(pixels.data(), pixels.size(), width, height, 3, VIPS_FORMAT_UCHAR);
  void* bytes = nullptr;
  size_t size = 0;
  const int result = type == "jpeg"  ? vips_jpegsave_buffer(image, &bytes, &size, nullptr)
                     : type == "png" ? vips_pngsave_buffer(image, &bytes, &size, nullptr)
                                     : vips_webpsave_buffer(image, &bytes, &size, nullptr);
  EXPECT_EQ(result, 0);
  std::string made(static_cast<const char*>(bytes), size);
  g_free(bytes);
  g_object_unref(image);
  return made;
}

/// The JPEG with an EXIF that says it lies on its side, was made at a place, and a comment; and something behind it.
std::string with_metadata(const std::string& jpeg) {
  using namespace std::string_literals;
  const std::string exif =
      "Exif\0\0MM\0*\0\0\0\x08"s
      "\0\x02"
      "\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"s
      "\x88\x25\0\x04\0\0\0\x01\0\0\0\x26"s
      "\0\0\0\0"
      "\0\x01\0\x01\0\x02\0\0\0\x02N\0\0\0\0\0\0\0"s
      "GPS-13.7563N"s;
  const auto segment = [](char marker, const std::string& data) {
    const std::size_t size = data.size() + 2;
    return std::string{'\xff', marker, static_cast<char>(size >> 8), static_cast<char>(size & 0xff)} + data;
  };
  return jpeg.substr(0, 2) + segment('\xe1', exif) + segment('\xfe', "a secret comment") + jpeg.substr(2) +
         "PK\x03\x04 an appended archive";
}

class Uploads : public WorldTest {
 protected:
  static constexpr const char* boundary = "7f2c--boundary";

  static std::string form(const std::string& file, const std::string& name = "photo.jpg") {
    return "--" + std::string(boundary) + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name +
           "\"\r\nContent-Type: image/jpeg\r\n\r\n" + file + "\r\n--" + boundary + "--\r\n";
  }
  static Answer upload(const Person& by, const std::string& file, const std::string& category = "gig",
                       World& where = world()) {
    return raw(by, form(file), category, "multipart/form-data; boundary=" + std::string(boundary), where);
  }
  static Answer raw(const Person& by, const std::string& body, const std::string& category, const std::string& type,
                    World& where = world()) {
    return where.send({http::Method::post, "/api/upload/" + category, body, by.token, {{"content-type", type}}});
  }
  static std::string uploaded(const Person& by, const std::string& category = "gig") {
    const Answer made = upload(by, picture("png"), category);
    EXPECT_EQ(made.status, 201) << made.text;
    return made.string_at("/url");
  }
  /// Every file below the folder, without the lock.
  static std::vector<std::string> files(World& where = world(), const std::string& below = "") {
    std::vector<std::string> all;
    if (!fs::exists(where.files() / below)) return all;
    for (const auto& entry : fs::recursive_directory_iterator(where.files() / below)) {
      if (entry.is_regular_file() && entry.path().filename() != "lock") all.push_back(entry.path().string());
    }
    return all;
  }
  static void settle(World& where = world()) {
    ASSERT_TRUE(where.until([&] { return where.house().file_work.waiting() == 0; }));
  }
  static json::object without_id(const Answer& answer) {
    json::object problem = answer.body.as_object();
    problem.erase("request_id");
    problem.erase("instance");
    return problem;
  }
  static std::string id_of(const std::string& url) { return url.substr(7); }
  static fs::path path_of(const std::string& id, World& where = world()) {
    return where.files() / "objects" / "pictures" / id.substr(34) / id;
  }
  static void remove_left_over(World& where = world()) {
    where.wait(uploads::remove_left_over(where.house().uploads, where.desk().database));
  }
  /// Whose files are to be removed.
  static std::string left_over(World& where = world()) { return where.sql("SELECT count(*) FROM removed_files"); }
};

/// U03, U04.
TEST_F(Uploads, AreMadeAnewUprightAndWithoutMetadata) {
  const Person someone = world().person();
  const Answer made = upload(someone, with_metadata(picture("jpeg", 640, 480)));
  ASSERT_EQ(made.status, 201) << made.text;
  EXPECT_EQ(made.number_at("/width"), 480);
  EXPECT_EQ(made.number_at("/height"), 640);
  EXPECT_EQ(made.string_at("/content_type"), "image/jpeg");
  EXPECT_EQ(made.string_at("/category"), "GIG");
  EXPECT_EQ(made.header("Location"), made.string_at("/url"));
  EXPECT_EQ(made.string_at("/thumbnail_url"), made.string_at("/url") + "/thumb");
  const Answer served = world().get(made.string_at("/url"));
  ASSERT_EQ(served.status, 200);
  EXPECT_EQ(static_cast<double>(served.text.size()), made.number_at("/size"));
  EXPECT_EQ(uploads::type_of(served.text), uploads::ImageType::jpeg);
  for (const char* trace : {"Exif", "GPS", "secret", "PK\x03\x04", "archive"}) {
    EXPECT_EQ(served.text.find(trace), std::string::npos) << trace;
  }
  const Answer small = world().get(made.string_at("/thumbnail_url"));
  EXPECT_LT(small.text.size(), served.text.size());
  VipsImage* image = vips_image_new_from_buffer(small.text.data(), small.text.size(), "", nullptr);
  ASSERT_NE(image, nullptr);
  EXPECT_EQ(vips_image_get_width(image), 240);
  EXPECT_EQ(vips_image_get_height(image), 320);
  g_object_unref(image);
  for (const char* type : {"png", "webp"}) {
    const Answer other = upload(someone, picture(type));
    ASSERT_EQ(other.status, 201) << other.text;
    EXPECT_EQ(other.string_at("/content_type"), std::string("image/") + type);
    EXPECT_EQ(world().get(other.string_at("/url")).header("Content-Type"), std::string("image/") + type);
  }
  settle();
  EXPECT_TRUE(files(world(), "incoming").empty());
  for (const std::string& file : files()) {
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0640U) << file;
  }
}

/// U01.
TEST_F(Uploads, TakeNothingButPictures) {
  const Person someone = world().person();
  const auto before = files();
  for (const std::string& file :
       {std::string("<html><script>alert(1)</script>"), std::string("<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
        std::string("<?php system('x');"),
        std::string("\x7f"
                    "ELF\x02\x01\x01"),
        std::string("GIF89a=1;alert(1);//\n"), std::string("%PDF-1.7"), std::string("II*\0\x08\0\0\0\0\0\0\0", 12),
        std::string(), std::string("\xff\xd8"),
        std::string("\0\0\0\x20"
                    "ftypavif\0\0\0\0",
                    16)}) {
    const Answer answer = upload(someone, file);
    EXPECT_EQ(answer.status, 415) << file << answer.text;
    EXPECT_EQ(answer.code(), "unsupported_media_type");
  }
  const std::string jpeg = picture("jpeg", 640, 480), png = picture("png", 640, 480), webp = picture("webp", 640, 480);
  for (const std::string& file :
       {jpeg.substr(0, jpeg.size() / 2), png.substr(0, png.size() / 2), webp.substr(0, webp.size() / 2),
        jpeg.substr(0, 20), png.substr(0, 20), "\xff\xd8\xff\xe0" + std::string(1000, 'x'), jpeg.substr(0, 3) + png}) {
    const Answer answer = upload(someone, file);
    EXPECT_EQ(answer.status, 422) << answer.text;
    EXPECT_EQ(answer.faults(), Faults{"file:unreadable"});
  }
  std::string wide = png;
  wide.replace(16, 8, std::string("\0\0\x75\x30\0\0\x75\x30", 8));  // 30,000 by 30,000
  const auto began = std::chrono::steady_clock::now();
  const Answer bomb = upload(someone, wide);
  EXPECT_EQ(bomb.status, 422) << bomb.text;
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
  settle();
  EXPECT_EQ(files(), before);
}

/// U04, U05.
TEST_F(Uploads, TheFormIsHeldToItsRules) {
  const Person someone = world().person();
  const std::string png = picture("png");
  const std::string type = "multipart/form-data; boundary=" + std::string(boundary);
  EXPECT_EQ(raw(someone, form(png), "gig", "application/json").status, 415);
  EXPECT_EQ(raw(someone, form(png), "gig", "multipart/mixed; boundary=x").status, 415);
  EXPECT_EQ(raw(someone, form(png), "gig", "multipart/form-data").status, 400);
  EXPECT_EQ(raw(someone, form(png), "gig", "multipart/form-data; boundary=" + std::string(71, 'x')).status, 400);
  EXPECT_EQ(raw(someone, form(png) + "more", "gig", type).status, 400);
  EXPECT_EQ(raw(someone, "", "gig", type).status, 400);
  EXPECT_EQ(raw(someone, form(png + std::string(10 * 1024 * 1024, 'x')), "gig", type).status, 413);
  EXPECT_EQ(raw(someone, form(png + std::string(10 * 1024 * 1024 - png.size() + 1, 'x')), "gig", type).status, 413);
  for (const char* name : {"../../x", "C:\\x", "\\\\host\\x", "%2e%2e%2fx", ".htaccess", "a.php"}) {
    EXPECT_EQ(raw(someone, form(png, name), "gig", type).status, 201) << name;
  }
  for (const std::string& name : {std::string(300, 'x'), std::string("a\0b.jpg", 7), std::string("รูป.jpg"),
                                  std::string("x\"; filename*=UTF-8''%2e%2e%2f%2e%2e%2fx; y=\"")}) {
    EXPECT_EQ(raw(someone, form(png, name), "gig", type).status, 201) << name;
  }
  EXPECT_EQ(raw(someone, form(png, "a.jpg\r\nX: y"), "gig", type).status, 400);
  // Whatever was asked for, every file lies where the server put it, under the id that it drew.
  settle();
  for (const std::string& file : files()) {
    const fs::path path(file);
    EXPECT_TRUE(parse_uuid(path.stem().string())) << file;
    EXPECT_TRUE(path.extension().empty() || path.extension() == ".thumb") << file;
    EXPECT_TRUE(file.starts_with((world().files() / "objects" / "pictures").string())) << file;
  }
  EXPECT_EQ(upload(someone, png, "gig?x=1").status, 422);
}

/// U07.
TEST_F(Uploads, AreServedInertAndInParts) {
  const Person someone = world().person();
  const std::string url = uploaded(someone);
  const Answer whole = world().get(url);
  ASSERT_EQ(whole.status, 200);
  const std::string etag = whole.header("ETag"), size = std::to_string(whole.text.size());
  EXPECT_EQ(whole.header("Content-Security-Policy"), "default-src 'none'; sandbox");
  EXPECT_EQ(whole.header("Cache-Control"), "public, max-age=31536000, immutable");
  EXPECT_EQ(whole.header("Content-Disposition"), "inline; filename=\"" + id_of(url) + ".png\"");
  EXPECT_EQ(whole.header("Accept-Ranges"), "bytes");
  EXPECT_FALSE(etag.starts_with("W/"));
  EXPECT_EQ(world().get(url, {}, {{"if-none-match", etag}}).status, 304);
  EXPECT_EQ(world().get(url, {}, {{"if-none-match", etag}, {"range", "bytes=0-1"}}).status, 304);
  EXPECT_NE(world().get(url + "/thumb").header("ETag"), etag);
  struct Case {
    std::string range;
    int status;
    std::string content_range;
  };
  const std::size_t last = whole.text.size() - 1;
  for (const Case& one : std::vector<Case>{
           {"bytes=0-0", 206, "bytes 0-0/" + size},
           {"bytes=2-5", 206, "bytes 2-5/" + size},
           {"bytes=10-", 206, "bytes 10-" + std::to_string(last) + "/" + size},
           {"bytes=-3", 206, "bytes " + std::to_string(last - 2) + "-" + std::to_string(last) + "/" + size},
           {"bytes=-999999999", 206, "bytes 0-" + std::to_string(last) + "/" + size},
           {"bytes=0-999999999", 206, "bytes 0-" + std::to_string(last) + "/" + size},
           {"bytes=" + size + "-", 416, "bytes */" + size},
           {"bytes=-0", 416, "bytes */" + size},
           {"bytes=5-2", 200, ""},
           {"bytes=x-", 200, ""},
           {"bytes=-", 200, ""},
           {"lines=0-1", 200, ""},
           {"bytes=0-0,2-2", 200, ""},
           {"bytes=99999999999999999999-", 200, ""},
       }) {
    const Answer part = world().get(url, {}, {{"range", one.range}});
    EXPECT_EQ(part.status, one.status) << one.range;
    EXPECT_EQ(part.header("Content-Range"), one.content_range) << one.range;
    if (one.status == 200) EXPECT_EQ(part.text, whole.text) << one.range;
  }
  EXPECT_EQ(world().get(url, {}, {{"range", "bytes=2-5"}}).text, whole.text.substr(2, 4));
  EXPECT_EQ(world().get(url, {}, {{"range", "bytes=2-5"}, {"if-range", etag}}).status, 206);
  EXPECT_EQ(world().get(url, {}, {{"range", "bytes=2-5"}, {"if-range", "\"other\""}}).status, 200);
  EXPECT_EQ(world().get("/files/" + to_string(make_uuid())).status, 404);
  EXPECT_EQ(world().get("/files/nonsense").status, 422);
  EXPECT_EQ(world().get(url + "?signature=x").status, 200);
}

TEST_F(Uploads, ALargeOneIsReadPieceByPiece) {
  const Person someone = world().person();
  std::string noise(3 * 900 * 900, '\0');
  std::uint32_t state = 1;
  for (char& c : noise) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  VipsImage* image = vips_image_new_from_memory_copy(noise.data(), noise.size(), 900, 900, 3, VIPS_FORMAT_UCHAR);
  void* bytes = nullptr;
  size_t size = 0;
  ASSERT_EQ(vips_pngsave_buffer(image, &bytes, &size, nullptr), 0);
  const Answer made = upload(someone, std::string(static_cast<const char*>(bytes), size));
  g_free(bytes);
  g_object_unref(image);
  ASSERT_EQ(made.status, 201) << made.text;
  ASSERT_GT(made.number_at("/size"), 1024 * 1024);
  const std::string url = made.string_at("/url");
  const Answer whole = world().get(url);
  EXPECT_EQ(static_cast<double>(whole.text.size()), made.number_at("/size"));
  EXPECT_EQ(to_hex(as_text(sha256(whole.text))),
            world().sql("SELECT sha256 FROM uploads WHERE id = $1::uuid", {id_of(url)}));
  EXPECT_EQ(world().get(url, {}, {{"range", "bytes=1000000-1500000"}}).text, whole.text.substr(1'000'000, 500'001));
  EXPECT_EQ(world().get(url, {}, {{"if-none-match", whole.header("ETag")}}).status, 304);
}

TEST_F(Uploads, ListsAndRemovesOnesOwn) {
  const Person someone = world().person(), other = world().person();
  std::vector<std::string> urls;
  for (const char* category : {"gig", "chat", "gig", "gig"}) urls.push_back(uploaded(someone, category));
  uploaded(other);
  const Answer first = world().get("/api/upload/my-files?limit=2&category=gig", someone.token);
  ASSERT_EQ(first.at("/files").as_array().size(), 2U);
  EXPECT_EQ(first.string_at("/files/0/url"), urls[3]);
  const Answer second =
      world().get("/api/upload/my-files?limit=2&cursor=" + first.string_at("/next_cursor"), someone.token);
  ASSERT_EQ(second.at("/files").as_array().size(), 1U);
  EXPECT_EQ(second.string_at("/files/0/url"), urls[0]);
  EXPECT_TRUE(second.at("/next_cursor").is_null());
  EXPECT_EQ(world().get("/api/upload/my-files", someone.token).at("/files").as_array().size(), 4U);
  EXPECT_EQ(world().get("/api/upload/my-files?category=other", someone.token).status, 422);

  const std::string sums = "SELECT files || ' ' || bytes FROM upload_sums WHERE user_id = $1::uuid";
  const std::string counted =
      "SELECT count(*) || ' ' || sum(size + thumbnail_size) FROM uploads WHERE owner_id = $1::uuid";
  EXPECT_EQ(world().sql(sums, {to_string(someone.id)}), world().sql(counted, {to_string(someone.id)}));
  EXPECT_EQ(world().get(urls[0]).status, 200);
  EXPECT_EQ(world().del("/api/upload/" + id_of(urls[0]), other.token).status, 404);
  EXPECT_EQ(world().del("/api/upload/" + id_of(urls[0]), someone.token).status, 204);
  EXPECT_EQ(world().del("/api/upload/" + id_of(urls[0]), someone.token).status, 404);
  EXPECT_EQ(world().get(urls[0]).status, 404);
  EXPECT_EQ(world().sql(sums, {to_string(someone.id)}), world().sql(counted, {to_string(someone.id)}));
  remove_left_over();
  for (const std::string& file : files()) EXPECT_EQ(file.find(id_of(urls[0])), std::string::npos) << file;
}

/// D04.
TEST_F(Uploads, KeepTheirFilesWhileABackupRuns) {
  World own;
  const Person someone = own.person();
  const auto made = [&] { return id_of(upload(someone, picture("png"), "gig", own).string_at("/url")); };
  const std::string removed = made(), collected = made(), kept = made();
  const std::string lock = "SELECT pg_advisory_lock_shared(" + std::to_string(uploads::backup_lock) + ")";
  std::optional<db::Session> backup(own.owner_url()), another(own.owner_url());
  backup->execute(lock);
  another->execute(lock);

  EXPECT_EQ(own.get("/files/" + removed).status, 200);
  ASSERT_EQ(own.del("/api/upload/" + removed, someone.token).status, 204);
  EXPECT_EQ(own.get("/files/" + removed).status, 404);
  EXPECT_EQ(own.del("/api/upload/" + removed, someone.token).status, 404);
  own.sql("UPDATE uploads SET unused_since = now() - interval '25 hours' WHERE id = $1::uuid", {collected});
  own.wait(uploads::collect(own.house().uploads, own.desk().database));
  EXPECT_EQ(own.get("/files/" + collected).status, 404);
  remove_left_over(own);
  // Nor does the sweep take them for leftovers of a crash.
  for (const std::string& file : files(own)) {
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(2));
  }
  own.restart();
  own.wait(uploads::sweep(own.house().uploads, own.desk().database));
  backup.reset();
  remove_left_over(own);
  settle(own);
  EXPECT_EQ(files(own).size(), 6U);
  EXPECT_EQ(left_over(own), "2");

  another.reset();
  EXPECT_TRUE(own.until([&] {
    remove_left_over(own);
    return left_over(own) == "0";
  }));
  EXPECT_EQ(files(own).size(), 2U);
  EXPECT_TRUE(fs::exists(path_of(kept, own)));
}

TEST_F(Uploads, AFileThatCannotBeRemovedStandsInNobodysWay) {
  World own;
  const Person someone = own.person();
  std::vector<std::string> ids;
  for (int i = 0; i < 60; ++i)
    ids.push_back(id_of(upload(someone, picture("png", 4, 4), "gig", own).string_at("/url")));
  fs::remove(path_of(ids[0], own));
  fs::create_directory(path_of(ids[0], own));
  for (const std::string& id : ids) ASSERT_EQ(own.del("/api/upload/" + id, someone.token).status, 204);
  remove_left_over(own);
  const int left = std::stoi(left_over(own));
  EXPECT_GE(left, 1);
  EXPECT_LE(left, 11);
  remove_left_over(own);
  EXPECT_EQ(left_over(own), std::to_string(left)) << "not again at once";
  own.restart();
  remove_left_over(own);
  EXPECT_EQ(left_over(own), "1");
  fs::remove(path_of(ids[0], own));
  own.restart();
  remove_left_over(own);
  EXPECT_EQ(left_over(own), "0");
  EXPECT_EQ(files(own).size(), 0U);
}

TEST_F(Uploads, WhatIsLeftWaitsForTheDatabaseAndNeverTakesTheFilesOfARow) {
  World own;
  const Person someone = own.person();
  const std::string kept = id_of(upload(someone, picture("png", 4, 4), "gig", own).string_at("/url"));
  const std::string lone = to_string(make_uuid());
  fs::create_directories(path_of(lone, own).parent_path());
  std::ofstream(path_of(lone, own)) << "x";
  for (const std::string& id : {kept, lone}) own.house().uploads.folder->leave(*parse_uuid(id));
  own.sql("ALTER TABLE removed_files RENAME TO elsewhere");
  EXPECT_THROW(remove_left_over(own), db::Error);
  own.sql("ALTER TABLE elsewhere RENAME TO removed_files");
  remove_left_over(own);
  EXPECT_FALSE(fs::exists(path_of(lone, own)));
  // Even one that stands in the table: a commit that was on its way when it was left over.
  own.sql("INSERT INTO removed_files (upload_id) VALUES ($1::uuid)", {kept});
  remove_left_over(own);
  EXPECT_TRUE(fs::exists(path_of(kept, own)));
  EXPECT_EQ(own.del("/api/upload/" + kept, someone.token).status, 204);
  remove_left_over(own);
  EXPECT_TRUE(files(own).empty());
}

TEST_F(Uploads, NothingRemovedComesBackToTheShelf) {
  uploads::Shelf shelf;
  const Uuid owner = make_uuid(), other = make_uuid();
  const auto item = [](const Uuid& of) {
    uploads::Shelved made{};
    made.id = make_uuid();
    made.owner_id = of;
    made.variant = uploads::Variant::picture;
    made.bytes = "x";
    return std::make_shared<const uploads::Shelved>(made);
  };
  const auto is_there = [&](const auto& one) { return shelf.find(one->id, one->variant) != nullptr; };
  const auto first = item(owner), second = item(owner), third = item(other), late = item(owner);
  const std::uint64_t before = shelf.removals();
  for (const auto& one : {first, second, third}) shelf.put(one, before);
  shelf.remove(first->id);
  EXPECT_FALSE(is_there(first));
  EXPECT_TRUE(is_there(second));
  shelf.put(first, before);
  EXPECT_FALSE(is_there(first)) << "it was looked up before it was removed";
  shelf.remove_all_of(owner);
  EXPECT_FALSE(is_there(second));
  EXPECT_TRUE(is_there(third));
  shelf.put(late, shelf.removals());
  EXPECT_TRUE(is_there(late));
}

TEST_F(Uploads, KeepAQuotaThatHoldsHoweverManyComeAtOnce) {
  World small([](Config& config) { config.upload_quota_files = 3; });
  const Person someone = small.person();
  EXPECT_EQ(upload(someone, picture("png"), "gig", small).status, 201);
  std::vector<Ask> asks;
  for (int i = 0; i < 20; ++i) {
    asks.push_back({http::Method::post,
                    "/api/upload/gig",
                    form(picture("png")),
                    someone.token,
                    {{"content-type", "multipart/form-data; boundary=" + std::string(boundary)}}});
  }
  int made = 0;
  for (const Answer& answer : small.send_all(std::move(asks))) {
    if (answer.status == 201) ++made;
    if (answer.status != 201) EXPECT_EQ(answer.code(), "quota_exceeded");
  }
  EXPECT_EQ(made, 2);
  settle(small);
  remove_left_over(small);
  EXPECT_EQ(files(small).size(), 6U);
  EXPECT_EQ(small.sql("SELECT files::text FROM upload_sums"), "3");
  EXPECT_EQ(upload(someone, picture("png"), "gig", small).code(), "quota_exceeded");
  small.restart([](Config& config) { config.upload_quota_mb = 1; });
  small.sql("UPDATE upload_sums SET bytes = 1048000");
  EXPECT_EQ(upload(someone, picture("png", 300, 300), "gig", small).code(), "quota_exceeded");
}

TEST_F(Uploads, AProfilePictureIsTheCallersFromThenOn) {
  const Person someone = world().person();
  const std::string first = uploaded(someone, "profile");
  EXPECT_EQ(world().get("/api/users/me", someone.token).string_at("/photo_url"), first);
  EXPECT_EQ(world().del("/api/upload/" + id_of(first), someone.token).code(), "upload_in_use");
  const std::string second = uploaded(someone, "profile");
  EXPECT_EQ(world().get("/api/users/me", someone.token).string_at("/photo_url"), second);
  EXPECT_EQ(world().del("/api/upload/" + id_of(first), someone.token).status, 204);
  EXPECT_EQ(world().del("/api/upload/" + id_of(second), someone.token).code(), "upload_in_use");
}

TEST_F(Uploads, AGigTakesTheSeekersOwnAlone) {
  const Person seeker = world().person(), other = world().person();
  const std::string one = uploaded(seeker), two = uploaded(seeker), foreign = uploaded(other);
  const std::string chat = uploaded(seeker, "chat");
  const auto post = [&](const json::array& urls) {
    return world().post("/api/gigs", World::gig_body({{"image_urls", urls}}), seeker.token);
  };
  EXPECT_EQ(
      post({one, foreign, chat, "/files/" + to_string(make_uuid())}).faults(),
      (Faults{"image_urls[1]:not_your_upload", "image_urls[2]:not_your_upload", "image_urls[3]:not_your_upload"}));
  EXPECT_EQ(post({one + "/thumb", "https://evil.example" + one}).faults(),
            (Faults{"image_urls[0]:not_your_upload", "image_urls[1]:not_your_upload"}));
  const Answer gig = post({one});
  ASSERT_EQ(gig.status, 201) << gig.text;
  EXPECT_EQ(gig.at("/image_urls"), json::value(json::array{one}));
  EXPECT_EQ(world().del("/api/upload/" + id_of(one), seeker.token).code(), "upload_in_use");
  const Answer changed = world().put(gig.header("Location"), {{"image_urls", json::array{two}}}, seeker.token);
  ASSERT_EQ(changed.status, 200) << changed.text;
  EXPECT_EQ(world().put(gig.header("Location"), {{"image_urls", json::array{foreign}}}, seeker.token).status, 422);
  EXPECT_EQ(world().del("/api/upload/" + id_of(one), seeker.token).status, 204);
  EXPECT_EQ(world().del("/api/upload/" + id_of(two), seeker.token).code(), "upload_in_use");
}

/// U07.
TEST_F(Uploads, AChatPictureIsForTheSidesOfItsRooms) {
  const Person seeker = world().person(), helper = world().person(), stranger = world().person();
  const std::string gig = world().post_gig(seeker);
  ASSERT_EQ(world().post("/api/gigs/" + gig + "/accept", {}, helper.token).status, 200);
  const std::string room = world().sql("SELECT id::text FROM chat_rooms WHERE gig_id = $1::uuid", {gig});
  const std::string messages = "/api/chat/rooms/" + room + "/messages";
  const std::string url = uploaded(seeker, "chat"), foreign = uploaded(stranger, "chat"), of_gig = uploaded(seeker);

  EXPECT_EQ(world().get(url, seeker.token).status, 200);
  EXPECT_EQ(world().get(url, helper.token).status, 404) << "not sent yet";
  EXPECT_EQ(world().post(messages, {{"image_url", foreign}}, seeker.token).faults(),
            Faults{"image_url:not_your_upload"});
  EXPECT_EQ(world().post(messages, {{"image_url", of_gig}}, seeker.token).faults(),
            Faults{"image_url:not_your_upload"});
  EXPECT_EQ(world().post(messages, {{"image_url", foreign}}, stranger.token).status, 404);
  EXPECT_EQ(world().sql("SELECT count(*) FROM upload_uses WHERE upload_id = $1::uuid", {id_of(foreign)}), "0");

  const std::string client_id = to_string(make_uuid());
  const Answer sent = world().post(messages, {{"image_url", url}, {"client_id", client_id}}, seeker.token);
  ASSERT_EQ(sent.status, 201) << sent.text;
  EXPECT_EQ(sent.string_at("/type"), "IMAGE");
  EXPECT_EQ(sent.string_at("/image_url"), url);
  EXPECT_EQ(sent.string_at("/content"), "");
  EXPECT_EQ(world().post(messages, {{"image_url", url}, {"client_id", client_id}}, seeker.token).string_at("/id"),
            sent.string_at("/id"));
  EXPECT_EQ(world().get(messages + "?limit=1", helper.token).string_at("/messages/0/image_url"), url);
  EXPECT_EQ(world().del("/api/upload/" + id_of(url), seeker.token).code(), "upload_in_use");

  const Answer shown = world().get(url, helper.token);
  EXPECT_EQ(shown.status, 200);
  EXPECT_EQ(shown.header("Cache-Control"), "private, max-age=300");
  EXPECT_EQ(world().get(url + "/thumb", helper.token).status, 200);
  const Answer nothing = world().get("/files/" + to_string(make_uuid()), stranger.token);
  for (const Answer& refused : {world().get(url, stranger.token), world().get(url), world().get(url + "/thumb")}) {
    EXPECT_EQ(refused.status, 404);
    EXPECT_EQ(without_id(refused), without_id(nothing));
  }
  EXPECT_EQ(world().get(url, "nonsense").status, 404);
  EXPECT_EQ(world().get(uploaded(seeker), "nonsense").status, 200);

  const std::string link = "/api/upload/" + id_of(url) + "/link";
  EXPECT_EQ(world().get(link, stranger.token).status, 404);
  const Answer given = world().get(link, helper.token);
  ASSERT_EQ(given.status, 200) << given.text;
  EXPECT_EQ(world().get(given.string_at("/url")).status, 200);
  EXPECT_EQ(world().get(given.string_at("/thumbnail_url")).status, 200);
  std::string longer = given.string_at("/url"), bent = longer;
  longer.replace(longer.find("expires=") + 8, 1, "9");
  bent.back() = bent.back() == 'A' ? 'B' : 'A';
  const std::string query = given.string_at("/url").substr(given.string_at("/url").find('?'));
  for (const std::string& target : {longer, bent, uploaded(seeker, "chat") + query, url + query.substr(0, 20)}) {
    EXPECT_EQ(world().get(target).status, 404) << target;
  }
  world().restart([](Config& config) { config.file_link_s = 1; });
  const std::string brief = world().get(link, helper.token).string_at("/url");
  EXPECT_TRUE(world().until([&] { return world().get(brief).status == 404; }, std::chrono::seconds(10)));
  world().restart();
}

TEST_F(Uploads, AreSweptAndCollected) {
  World own;
  const Person someone = own.person();
  const auto made = [&](const std::string& category) {
    return id_of(upload(someone, picture("png"), category, own).string_at("/url"));
  };
  const std::string used = made("profile"), fresh = made("gig"), old = made("gig"), lost = made("gig");
  own.sql("UPDATE uploads SET unused_since = now() - interval '25 hours' WHERE id = ANY ($1::uuid[])",
          {"{" + old + "}"});
  own.wait(uploads::collect(own.house().uploads, own.desk().database));
  EXPECT_EQ(left_over(own), "1");
  // The server was killed right after the commit, for all that its files show.
  own.restart();
  remove_left_over(own);
  EXPECT_EQ(left_over(own), "0");
  EXPECT_EQ(own.sql("SELECT count(*) FROM uploads"), "3");
  EXPECT_EQ(own.sql("SELECT files::text FROM upload_sums"), "3");
  EXPECT_EQ(files(own).size(), 6U);

  const auto checked = [&] {
    const uploads::FilesCheck check = own.wait(uploads::check_files(*own.house().store, own.desk().database.reads()));
    return std::to_string(check.uploads) + " " + std::to_string(check.missing) + " " + std::to_string(check.damaged);
  };
  EXPECT_EQ(checked(), "3 0 0");

  // What two crashes would leave: a file without a row, half a file, a row without its file.
  fs::remove(path_of(lost, own));
  const std::string stray = to_string(make_uuid());
  fs::create_directories(path_of(stray, own).parent_path());
  std::ofstream(path_of(stray, own)) << "x";
  std::ofstream(own.files() / "incoming" / "half.in") << "x";
  const auto hour_ago = fs::file_time_type::clock::now() - std::chrono::hours(2);
  own.sql("UPDATE uploads SET created_at = now() - interval '2 hours'");
  for (const std::string& file : files(own)) fs::last_write_time(file, hour_ago);
  own.restart();
  own.wait(uploads::sweep(own.house().uploads, own.desk().database));
  settle(own);
  EXPECT_EQ(left_over(own), "2") << "of the stray and of the row that had none";
  remove_left_over(own);
  EXPECT_FALSE(fs::exists(path_of(stray, own)));
  EXPECT_FALSE(fs::exists(own.files() / "incoming" / "half.in"));
  EXPECT_EQ(own.sql("SELECT count(*) FROM uploads WHERE id = $1::uuid", {lost}), "0");
  EXPECT_TRUE(fs::exists(path_of(used, own)));
  EXPECT_TRUE(fs::exists(path_of(fresh, own)));
  // One that is in use stays a row: its file may come back.
  fs::remove(path_of(used, own));
  own.restart();
  own.wait(uploads::sweep(own.house().uploads, own.desk().database));
  EXPECT_EQ(own.sql("SELECT count(*) FROM uploads WHERE id = $1::uuid", {used}), "1");
  EXPECT_EQ(own.get("/files/" + used).status, 404);
  EXPECT_EQ(checked(), "2 1 0");
  // As long as it was, but other bytes; then shorter.
  {
    std::fstream file(path_of(fresh, own), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(10).put('!');
  }
  EXPECT_EQ(checked(), "2 1 1");
  fs::resize_file(path_of(fresh, own).string() + ".thumb", 1);
  EXPECT_EQ(checked(), "2 1 1");
}

class OnePiece final : public http::BodyReader {
 public:
  explicit OnePiece(std::string text) : text_(std::move(text)) {}
  http::Awaitable<std::string_view> read() override {
    co_return std::exchange(given_, true) ? std::string_view() : std::string_view(text_);
  }

 private:
  std::string text_;
  bool given_ = false;
};

/// Z08: the head comes, the account goes, the picture comes.
TEST_F(Uploads, APictureThatComesAfterItsOwnerHasLeftIsNotKept) {
  const std::string body = form(picture("png"));
  const auto begun = [&](const Person& who) {
    http::RequestHead head;
    head.method = http::Method::post;
    head.method_text = "POST";
    head.target = "/api/upload/profile";
    head.headers = {{"authorization", "Bearer " + who.token},
                    {"content-type", "multipart/form-data; boundary=" + std::string(boundary)}};
    head.content_length = body.size();
    http::Admitted admitted = world().wait(world().desk().pipeline.admit(std::move(head)));
    EXPECT_FALSE(admitted.refusal);
    return std::move(admitted.admission);
  };
  const auto ended = [&](std::unique_ptr<http::Admission> admission) {
    OnePiece reader(body);
    return world().wait(world().desk().pipeline.respond_streamed(std::move(admission), reader)).status;
  };
  const auto kept_of = [&](const Person& who) {
    return world().sql(
        "SELECT count(*) || coalesce(min(u.photo_url), '') FROM users u LEFT JOIN uploads f ON "
        "f.owner_id = u.id WHERE u.id = $1::uuid AND (f.id IS NOT NULL OR u.photo_url IS NOT NULL)",
        {to_string(who.id)});
  };
  const Person ann = world().person();
  auto admission = begun(ann);
  ASSERT_EQ(world().del("/api/users/me", ann.token).status, 204);
  EXPECT_EQ(ended(std::move(admission)), 401);
  EXPECT_EQ(kept_of(ann), "0");
  // Suspended by a server that this one has not heard of yet: the row has the last word.
  const Person bob = world().person();
  admission = begun(bob);
  world().sql("UPDATE users SET suspended_at = now() WHERE id = $1::uuid", {to_string(bob.id)});
  EXPECT_GE(ended(std::move(admission)), 401);
  EXPECT_EQ(kept_of(bob), "0");
  settle();
  EXPECT_TRUE(files(world(), "incoming").empty());
}

}  // namespace
}  // namespace hourz::harness
