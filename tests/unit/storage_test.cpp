// The local store keeps what the face of a store promises.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <vector>

#include "storage/local.hpp"
#include "temporary_folder.hpp"

namespace hourz::storage {
namespace {

namespace fs = std::filesystem;

class LocalStorage : public testing::Test {
 protected:
  LocalStorage() : folder(make_temporary_folder("store")), store(folder / "files") {}
  ~LocalStorage() override { fs::remove_all(folder); }

  fs::path made(const std::string& bytes) {
    const fs::path path = folder / "made";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  std::vector<std::string> keys(std::string_view prefix) {
    std::vector<std::string> all;
    store.list(prefix, [&](const ObjectInfo& info) { all.push_back(info.key); });
    return all;
  }
  template <class Work>
  static std::optional<Failure> failure_of(const Work& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.failure;
    }
    return std::nullopt;
  }

  fs::path folder;
  LocalStore store;
};

TEST_F(LocalStorage, KeepsReadsAndRemoves) {
  EXPECT_EQ(store.find("a/b"), std::nullopt);
  store.put("a/b", made("hello"), "image/png");
  EXPECT_EQ(store.read("a/b", 0, 100), "hello");
  EXPECT_EQ(store.read("a/b", 1, 3), "ell");
  EXPECT_EQ(store.read("a/b", 5, 3), "");
  EXPECT_EQ(store.read("a/b", 500, 3), "");
  EXPECT_EQ(store.find("a/b")->size, 5U);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "files/objects/a/b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
  store.put("a/b", made("other"), "image/png");
  EXPECT_EQ(store.read("a/b", 0, 100), "other");
  store.remove("a/b");
  store.remove("a/b");
  EXPECT_EQ(failure_of([&] { store.read("a/b", 0, 1); }), Failure::not_found);
  EXPECT_EQ(store.find("a"), std::nullopt) << "a folder is no object";
  EXPECT_EQ(failure_of([&] { store.read("a", 0, 1); }), Failure::not_found);
}

TEST_F(LocalStorage, ListsInTheOrderOfKeys) {
  EXPECT_TRUE(keys("").empty());
  for (const char* key : {"a/b", "a.x", "a-x/y", "b", "a/a/z", "a/a.z"}) store.put(key, made("x"), "");
  EXPECT_EQ(keys(""), (std::vector<std::string>{"a-x/y", "a.x", "a/a.z", "a/a/z", "a/b", "b"}));
  EXPECT_EQ(keys("a/"), (std::vector<std::string>{"a/a.z", "a/a/z", "a/b"}));
  EXPECT_EQ(keys("a/a"), (std::vector<std::string>{"a/a.z", "a/a/z"}));
  EXPECT_TRUE(keys("c").empty());
}

TEST_F(LocalStorage, KeysCannotLeaveTheFolder) {
  for (const char* key :
       {"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", ".", "a/./b", "A", "a b", "a\\b", "a\n"}) {
    EXPECT_FALSE(is_key(key)) << key;
    EXPECT_EQ(failure_of([&] { store.find(key); }), Failure::refused) << key;
    EXPECT_EQ(failure_of([&] { store.put(key, made("x"), ""); }), Failure::refused) << key;
  }
  EXPECT_FALSE(is_key(std::string(201, 'a')));
  EXPECT_FALSE(is_key(std::string_view("a\0b", 3)));
  EXPECT_TRUE(is_key("uploads/0f/0198-a_b.thumb"));
  fs::create_symlink("/etc/hostname", folder / "link");
  store.put("a/b", made("x"), "");
  fs::create_symlink("/etc/hostname", folder / "files/objects/a/link");
  EXPECT_EQ(failure_of([&] { store.read("a/link", 0, 10); }), Failure::refused);
  EXPECT_EQ(store.find("a/link"), std::nullopt);
  EXPECT_EQ(keys(""), std::vector<std::string>{"a/b"});
}

TEST_F(LocalStorage, SaysWhatIsWrong) {
  EXPECT_EQ(failure_of([&] { store.check(); }), std::nullopt);
  EXPECT_EQ(failure_of([&] { store.put("a", folder / "nothing", ""); }), Failure::not_found);
  std::ofstream(folder / "plain") << "x";
  LocalStore blocked(folder / "plain");
  EXPECT_TRUE(failure_of([&] { blocked.check(); }).has_value());
  EXPECT_EQ(error_of(ENOSPC, "").failure, Failure::no_space);
  EXPECT_EQ(error_of(EDQUOT, "").failure, Failure::no_space);
  EXPECT_EQ(error_of(EIO, "").failure, Failure::unavailable);
}

TEST_F(LocalStorage, MovesAcrossFileSystems) {
  struct stat here {
  }, there{};
  const fs::path far = "/dev/shm/hourz-store-test-" + std::to_string(getpid());
  if (::stat("/dev/shm", &there) != 0 || ::stat(folder.c_str(), &here) != 0 || here.st_dev == there.st_dev) {
    GTEST_SKIP() << "one file system";
  }
  std::ofstream(far) << std::string(200'000, 'x');
  store.put("a", far, "");
  EXPECT_EQ(store.read("a", 0, 1'000'000), std::string(200'000, 'x'));
  EXPECT_TRUE(fs::is_empty(folder / "files/incoming"));
  fs::remove(far);
}

}  // namespace
}  // namespace hourz::storage
