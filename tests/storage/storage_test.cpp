// Every store keeps the same promises: a local folder, s3rver (bytes, but no signatures), and Ceph's object gateway,
// which checks signatures and takes some seconds to start: that one only with HOURZ_TEST_RGW=1.
#include "storage/storage.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <fstream>
#include <thread>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "storage/copy.hpp"
#include "storage/local.hpp"
#include "storage/s3.hpp"
#include "storage/s3_answers.hpp"
#include "temporary_folder.hpp"

namespace hourz::storage {
namespace {

namespace fs = std::filesystem;
constexpr const char* bucket = "hourz-test";

/// A server that prints one line of JSON when it serves, and ends when its standard input does.
class Server {
 public:
  explicit Server(std::vector<std::string> arguments) {
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    std::vector<char*> raw;
    for (std::string& one : arguments) raw.push_back(one.data());
    raw.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      execvp(raw[0], raw.data());
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    input_ = in[1];
    std::string line;
    for (char c = 0; read(out[0], &c, 1) == 1 && c != '\n';) line += c;
    close(out[0]);
    if (line.empty()) {
      end();
      throw std::runtime_error(arguments[0] + " " + arguments[1] + " does not start");
    }
    said = boost::json::parse(line).as_object();
  }
  ~Server() { end(); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string word(const char* name) const { return std::string(said.at(name).as_string()); }
  void freeze() const { kill(pid_, SIGSTOP); }
  void thaw() const { kill(pid_, SIGCONT); }
  void end() {
    if (pid_ <= 0) return;
    thaw();
    close(input_);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  boost::json::object said;
  pid_t pid_ = -1;
  int input_ = -1;
};

const std::string source = HOURZ_SOURCE_DIRECTORY;

/// One process's servers, started when first asked for, and its folder.
struct Place {
  fs::path folder = make_temporary_folder("storage");
  std::unique_ptr<Server> s3rver;
  std::unique_ptr<Server> rgw;

  ~Place() {
    s3rver.reset();
    rgw.reset();
    fs::remove_all(folder);
  }
  S3Options options(const std::string& kind) {
    std::unique_ptr<Server>& server = kind == "rgw" ? rgw : s3rver;
    if (!server) {
      fs::permissions(folder, fs::perms(0755));  // the gateway's daemons run as another user
      const std::string own = folder / kind;
      server = kind == "rgw"
                   ? std::make_unique<Server>(
                         std::vector<std::string>{"/usr/bin/python3", source + "/tests/storage/rgw.py", own, bucket})
                   : std::make_unique<Server>(std::vector<std::string>{
                         "node", "--openssl-legacy-provider", source + "/tests/storage/s3rver.mjs", own, bucket});
    }
    S3Options made;
    made.endpoint = server->word("endpoint");
    made.bucket = bucket;
    made.region = "us-east-1";
    made.access_key = server->word("access_key");
    made.secret_key = server->word("secret_key");
    return made;
  }
};

std::unique_ptr<Place> place;

template <class Work>
std::optional<Failure> failure_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.failure;
  }
  return std::nullopt;
}

std::string noise(std::size_t count) { return count == 0 ? std::string() : random_bytes(count); }

class Storage : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "rgw" && std::getenv("HOURZ_TEST_RGW") == nullptr) GTEST_SKIP() << "only with HOURZ_TEST_RGW=1";
    folder = make_temporary_folder("files");
    if (GetParam() == "local") {
      store = std::make_unique<LocalStore>(folder / "store");
    } else {
      store = std::make_unique<S3Store>(place->options(GetParam()));
      clear();
    }
  }
  void TearDown() override {
    if (!folder.empty()) fs::remove_all(folder);
  }
  void clear() const {
    for (const std::string& key : keys("")) store->remove(key);
  }
  fs::path made(const std::string& bytes, const std::string& name = "made") const {
    const fs::path path = folder / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  std::vector<std::string> keys(std::string_view prefix) const {
    std::vector<std::string> all;
    store->list(prefix, [&](const ObjectInfo& info) { all.push_back(info.key); });
    return all;
  }

  fs::path folder;
  std::unique_ptr<Store> store;
};

TEST_P(Storage, KeepsReadsAndRemoves) {
  store->check();
  EXPECT_FALSE(store->find("a/b").has_value());
  store->put("a/b", made("hello"), "image/png");
  EXPECT_EQ(store->read("a/b", 0, 100), "hello");
  EXPECT_EQ(store->read("a/b", 1, 3), "ell");
  EXPECT_EQ(store->read("a/b", 4, 3), "o");
  EXPECT_EQ(store->read("a/b", 5, 3), "");
  EXPECT_EQ(store->read("a/b", 500, 3), "");
  EXPECT_EQ(store->read("a/b", 2, 0), "");
  const auto found = store->find("a/b");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->key, "a/b");
  EXPECT_EQ(found->size, 5U);
  EXPECT_LT(std::chrono::abs(found->changed_at - std::chrono::system_clock::now()), std::chrono::seconds(30));
  store->put("a/b", made("other, and longer"), "image/png");
  EXPECT_EQ(store->read("a/b", 0, 100), "other, and longer");
  store->remove("a/b");
  store->remove("a/b");
  EXPECT_FALSE(store->find("a/b").has_value());
  EXPECT_EQ(failure_of([&] { store->read("a/b", 0, 1); }), Failure::not_found);
  EXPECT_EQ(failure_of([&] { store->read("a/b", 0, 0); }), Failure::not_found);
  EXPECT_FALSE(store->find("a").has_value()) << "what is above an object is none";
}

TEST_P(Storage, KeepsNothingAndMuch) {
  store->put("empty", made(""), "image/webp");
  ASSERT_TRUE(store->find("empty").has_value());
  EXPECT_EQ(store->find("empty")->size, 0U);
  // s3rver announces a byte of an empty object, and never sends it.
  if (GetParam() != "s3rver") EXPECT_EQ(store->read("empty", 0, 10), "");
  const std::string much = noise(10U << 20U);
  store->put("much", made(much), "image/jpeg");
  EXPECT_EQ(store->find("much")->size, much.size());
  EXPECT_EQ(store->read("much", 0, much.size()), much);
  EXPECT_EQ(store->read("much", 1'234'567, 70'000), much.substr(1'234'567, 70'000));
  EXPECT_EQ(store->read("much", much.size() - 10, 1000), much.substr(much.size() - 10));
}

TEST_P(Storage, ListsInTheOrderOfKeys) {
  EXPECT_TRUE(keys("").empty());
  std::vector<std::string> expected{"a-x/y", "a.x", "a/a.z", "a/a/z", "a/b", "b"};
  // s3rver goes by folders; the store refuses a listing that is out of order.
  if (GetParam() == "s3rver") expected = {"a/a.z", "a/b", "a/c/z", "b"};
  for (const std::string& key : expected) store->put(key, made("x"), "image/png");
  EXPECT_EQ(keys(""), expected);
  const auto under = [&](const std::string& prefix) {
    auto some = expected;
    std::erase_if(some, [&](const std::string& key) { return !key.starts_with(prefix); });
    return some;
  };
  EXPECT_EQ(keys("a/"), under("a/"));
  EXPECT_EQ(keys("a/a"), under("a/a"));
  EXPECT_TRUE(keys("c").empty());
  store->check();
  EXPECT_EQ(keys("").size(), expected.size()) << "a check leaves nothing to be listed";
}

TEST_P(Storage, ListsMoreThanAPage) {
  constexpr int count = 1'234;
  std::vector<std::string> expected;
  for (int i = 0; i < count; ++i) {
    char name[32];
    std::snprintf(name, sizeof name, "many/%02x/%05d.jpg", i % 7, i);
    expected.emplace_back(name);
  }
  std::atomic<int> next = 0;
  {
    std::vector<std::jthread> threads;
    for (int worker = 0; worker < 8; ++worker) {
      threads.emplace_back([&, worker] {
        for (int i = next++; i < count; i = next++) {
          store->put(expected[static_cast<std::size_t>(i)], made("x", "made" + std::to_string(worker)), "image/jpeg");
        }
      });
    }
  }
  std::ranges::sort(expected);
  EXPECT_EQ(keys("many/"), expected);
  std::erase_if(expected, [](const std::string& key) { return !key.starts_with("many/03/"); });
  EXPECT_EQ(keys("many/03/"), expected);
}

TEST_P(Storage, RefusesWhatIsNoKey) {
  for (const char* key : {"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", ".", "a/./b", "A", "a b", "a\\b", "a\n",
                          "\u0e01", "a?b", "a#b", "a%41"}) {
    EXPECT_EQ(failure_of([&] { store->find(key); }), Failure::refused) << key;
    EXPECT_EQ(failure_of([&] { store->put(key, made("x"), ""); }), Failure::refused) << key;
    EXPECT_EQ(failure_of([&] { store->read(key, 0, 1); }), Failure::refused) << key;
    EXPECT_EQ(failure_of([&] { store->remove(key); }), Failure::refused) << key;
  }
}

TEST_P(Storage, ServesManyThreadsAtOnce) {
  std::vector<std::jthread> threads;
  std::atomic<int> wrong = 0;
  for (int worker = 0; worker < 8; ++worker) {
    threads.emplace_back([&, worker] {
      const std::string key = "threads/" + std::to_string(worker);
      for (int round = 0; round < 10; ++round) {
        const std::string bytes = noise(static_cast<std::size_t>(1000 * worker + round + 1));
        store->put(key, made(bytes, std::to_string(worker)), "image/png");
        if (store->read(key, 0, 100'000) != bytes) ++wrong;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST_P(Storage, CopiesThereAndBackAndCanBeRepeated) {
  LocalStore here(folder / "here");
  const fs::path incoming = folder / "incoming";
  fs::create_directory(incoming);
  std::map<std::string, std::string> all;
  for (int i = 0; i < 600; ++i) {
    all["pictures/" + std::to_string(i % 10) + "/" + std::to_string(i) + ".jpg"] = noise(static_cast<std::size_t>(i));
  }
  all["pictures/large.png"] = noise(3'000'000);
  for (const auto& [key, bytes] : all) here.put(key, made(bytes), "image/jpeg");
  // As if a copy had been cut short: some are there, one with another size.
  store->put("pictures/0/10.jpg", made(all["pictures/0/10.jpg"]), "image/jpeg");
  store->put("pictures/0/20.jpg", made("half"), "image/jpeg");

  const Copied there = copy_objects(here, *store, incoming);
  EXPECT_EQ(there.seen, all.size());
  EXPECT_EQ(there.there, 1U);
  EXPECT_EQ(there.copied, all.size() - 1);
  const Copied again = copy_objects(here, *store, incoming);
  EXPECT_EQ(again.copied, 0U);
  EXPECT_EQ(again.there, all.size());

  LocalStore back(folder / "back");
  const Copied returned = copy_objects(*store, back, incoming);
  EXPECT_EQ(returned.copied, all.size());
  for (const auto& [key, bytes] : all) EXPECT_EQ(back.read(key, 0, 4'000'000), bytes) << key;
  EXPECT_TRUE(fs::is_empty(incoming));
}

INSTANTIATE_TEST_SUITE_P(Stores, Storage, testing::Values("local", "s3rver"),
                         [](const auto& info) { return info.param; });
INSTANTIATE_TEST_SUITE_P(Gateway, Storage, testing::Values("rgw"), [](const auto& info) { return info.param; });

// --- faults ----------------------------------------------------------------------------------------------------------

class S3Faults : public testing::Test {
 protected:
  S3Options options = place->options("s3rver");
};

TEST_F(S3Faults, WhoCannotBeReachedIsUnavailable) {
  options.endpoint = "http://127.0.0.1:1";
  options.tries = 2;
  S3Store store(options);
  EXPECT_EQ(failure_of([&] { store.find("a"); }), Failure::unavailable);
  EXPECT_EQ(failure_of([&] { store.check(); }), Failure::unavailable);
}

TEST_F(S3Faults, WhoDoesNotAnswerIsGivenUp) {
  options.total_timeout = std::chrono::milliseconds(300);
  options.tries = 2;
  S3Store store(options);
  store.check();
  place->s3rver->freeze();
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(failure_of([&] { store.find("a"); }), Failure::unavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(10));
  place->s3rver->thaw();
  EXPECT_EQ(failure_of([&] { store.check(); }), std::nullopt) << "it is used again as soon as it answers";
}

TEST_F(S3Faults, AnotherBucketOrKeyIdIsRefused) {
  S3Options other = options;
  other.bucket = "not-there";
  S3Store elsewhere(other);
  EXPECT_EQ(failure_of([&] { elsewhere.check(); }), Failure::refused);
  EXPECT_EQ(failure_of([&] { elsewhere.list("", [](const ObjectInfo&) {}); }), Failure::refused);
  EXPECT_EQ(failure_of([&] { elsewhere.read("a", 0, 1); }), Failure::refused);
  other = options;
  other.access_key = "SOMEBODY";
  S3Store stranger(other);
  EXPECT_EQ(failure_of([&] { stranger.check(); }), Failure::refused);
}

TEST(S3Gateway, ChecksWhatIsSigned) {
  if (std::getenv("HOURZ_TEST_RGW") == nullptr) GTEST_SKIP() << "only with HOURZ_TEST_RGW=1";
  const S3Options options = place->options("rgw");
  S3Store store(options);
  const fs::path folder = make_temporary_folder("signed");
  std::ofstream(folder / "made") << "a picture";
  store.put("signed/picture.png", folder / "made", "image/png");

  S3Options wrong = options;
  wrong.secret_key.back() = wrong.secret_key.back() == 'x' ? 'y' : 'x';
  S3Store forger(wrong);
  EXPECT_EQ(failure_of([&] { forger.check(); }), Failure::refused);
  EXPECT_EQ(failure_of([&] { forger.read("signed/picture.png", 0, 1); }), Failure::refused);
  EXPECT_EQ(failure_of([&] { forger.find("signed/picture.png"); }), Failure::refused);
  EXPECT_EQ(failure_of([&] { forger.remove("signed/picture.png"); }), Failure::refused);
  EXPECT_EQ(failure_of([&] { forger.list("", [](const ObjectInfo&) {}); }), Failure::refused);

  // With curl, as anybody would use a link.
  const auto fetched = [&](const std::string& url) {
    const std::string out = folder / "out";
    const std::string command =
        "curl -s --noproxy '*' -o " + out + " -w '%{http_code}' '" + url + "' >" + out + ".code";
    EXPECT_EQ(std::system(command.c_str()), 0);
    std::string code;
    std::ifstream(out + ".code") >> code;
    std::ifstream body(out);
    return code + " " + std::string(std::istreambuf_iterator<char>(body), {});
  };
  const std::string link = store.presigned_url("signed/picture.png", std::chrono::seconds(60));
  EXPECT_EQ(fetched(link), "200 a picture");
  std::string other = link;
  other.replace(other.find("picture.png"), 11, "another.png");
  EXPECT_TRUE(fetched(other).starts_with("403")) << "a link is for one object";
  EXPECT_TRUE(fetched(link.substr(0, link.find('?'))).starts_with("403"));
  EXPECT_TRUE(fetched(forger.presigned_url("signed/picture.png", std::chrono::seconds(60))).starts_with("403"));
  fs::remove_all(folder);
}

TEST(S3Answers, AreReadStrictly) {
  const auto page = read_list_page(
      "<?xml version='1.0'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Name>b</Name>"
      "<Contents><Key>a&amp;b</Key><LastModified>2026-11-23T11:00:00.000Z</LastModified><Size>12</Size>"
      "<Owner><ID>1</ID></Owner></Contents><NextContinuationToken>t+/=</NextContinuationToken></ListBucketResult>");
  ASSERT_TRUE(page.has_value());
  ASSERT_EQ(page->objects.size(), 1U);
  EXPECT_EQ(page->objects[0].key, "a&b");
  EXPECT_EQ(page->objects[0].size, 12U);
  EXPECT_EQ(page->next, "t+/=");
  for (const char* wrong :
       {"", "<html></html>", "<ListBucketResult>",
        "<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult></ListBucketResult>",
        "<ListBucketResult><Contents></Contents></ListBucketResult>",
        "<ListBucketResult><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></ListBucketResult>"}) {
    EXPECT_FALSE(read_list_page(wrong).has_value()) << wrong;
  }
  EXPECT_EQ(read_error_code("<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"), "NoSuchKey");
  EXPECT_EQ(read_error_code("<Error><Code>a\nb</Code></Error>"), "");
  EXPECT_EQ(read_error_code("busy"), "");
}

}  // namespace
}  // namespace hourz::storage

int main(int count, char** values) {
  hourz::start_crypto();
  hourz::log::start("error");
  ::testing::InitGoogleTest(&count, values);
  hourz::storage::place = std::make_unique<hourz::storage::Place>();
  const int code = RUN_ALL_TESTS();
  hourz::storage::place.reset();
  hourz::log::stop();
  return code;
}
