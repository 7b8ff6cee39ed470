// Settings: every fault a line, nothing unknown, no secret shown.
#include "core/config.hpp"
#include "temporary_folder.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "core/crypto.hpp"

namespace hourz {
namespace {

const std::string random_secret = "kM3vQ9xT7bN2wL5zR8cY1pF4hJ6dG0sA";

std::vector<std::string> faults(const Variables& variables) {
  try {
    load_config(variables);
    return {};
  } catch (const ConfigError& error) {
    std::vector<std::string> lines;
    std::string text = error.what();
    for (std::size_t end = text.find('\n'); !text.empty(); end = text.find('\n')) {
      lines.push_back(text.substr(0, end));
      text.erase(0, end == std::string::npos ? text.size() : end + 1);
    }
    return lines;
  }
}

TEST(ConfigTest, DefaultsAreSound) {
  const Config config = load_config({});
  EXPECT_EQ(config.listen_address, "127.0.0.1");
  EXPECT_EQ(config.listen_port, 8000);
  EXPECT_GE(config.hash_memory_kib, 19456);
  EXPECT_GE(config.hash_passes, 2);
  EXPECT_EQ(config.rate_limit, "on");
}

TEST(ConfigTest, EveryFaultIsALine) {
  const auto lines = faults({{"HOURZ_LISTEN_PORT", "65536"},
                             {"HOURZ_HASH_PASSES", "1"},
                             {"HOURZ_HASH_MEMORY_KIB", "19455"},
                             {"HOURZ_LOG_LEVEL", "loud"},
                             {"HOURZ_LISTEN_PROT", "8000"},
                             {"HOURZ_ENVIRONMENT", "prod"},
                             {"HOURZ_THREADS", "two"},
                             {"HOURZ_SECRET", "short"},
                             {"HOURZ_REDIS_URL", "rediss://h"},
                             {"HOURZ_RATE_AUTH", "5/minute"},
                             {"HOURZ_TRUSTED_PROXIES", "10.0.0.1/8"},
                             {"HOURZ_CORS_ORIGINS", "*"},
                             {"HOURZ_TOKEN_KEYS", "nocolon"}});
  EXPECT_EQ(lines.size(), 13U);
  std::set<std::string> named;
  for (const std::string& line : lines) named.insert(line.substr(0, line.find(':')));
  EXPECT_EQ(named.size(), 13U);
  for (const char* bad : {"", " 8000", "8000 ", "+8000", "-1", "8e3", "0x50", "99999999999999999999"}) {
    EXPECT_EQ(faults({{"HOURZ_LISTEN_PORT", bad}}).size(), 1U) << bad;
  }
  EXPECT_TRUE(faults({{"HOURZ_TEST_ANYTHING", "1"}}).empty());
  // A value is not repeated: it may be a secret in the wrong place.
  for (const std::string& line : faults({{"HOURZ_SECRET", "hunter2"}}))
    EXPECT_EQ(line.find("hunter2"), std::string::npos);
}

TEST(ConfigTest, OriginsAreAsBrowsersSendThem) {
  EXPECT_TRUE(faults({{"HOURZ_CORS_ORIGINS", ""}}).empty());
  EXPECT_TRUE(faults({{"HOURZ_CORS_ORIGINS", "https://app.example, http://localhost:5173,http://[::1]:8080"}}).empty());
  for (const char* wrong :
       {"*", "null", "app.example", "https://app.example/", "https://app.example/x", "https://APP.example",
        "https://app.example:443", "http://app.example:80", "https://", "https://:1", "ws://app.example",
        "https://*.example", "https://user@app.example", "https://a https://b"}) {
    EXPECT_EQ(faults({{"HOURZ_CORS_ORIGINS", wrong}}).size(), 1U) << wrong;
  }
}

TEST(ConfigTest, ProductionNeedsRealSecretsAndSaysSoOfLimits) {
  const auto production = [](Variables more) {
    more.emplace("HOURZ_ENVIRONMENT", "production");
    return faults(more).size();
  };
  EXPECT_EQ(production({{"HOURZ_SECRET", random_secret}}), 0U);
  EXPECT_EQ(production({}), 1U);
  EXPECT_EQ(production({{"HOURZ_SECRET", ""}}), 1U);
  EXPECT_EQ(production({{"HOURZ_SECRET", random_secret.substr(1)}}), 1U);
  for (const std::string& sample : {std::string(32, 'x'), std::string("change-me-change-me-change-me-change-me"),
                                    std::string("this-is-an-example-of-32-bytes-or-more"),
                                    std::string("my-very-secret-secret-of-32-bytes-or-so")}) {
    EXPECT_EQ(production({{"HOURZ_SECRET", sample}}), 1U) << sample;
  }
  EXPECT_EQ(production({{"HOURZ_SECRET", random_secret}, {"HOURZ_RATE_LIMIT", "off"}}), 1U);
  EXPECT_EQ(production({{"HOURZ_SECRET", random_secret}, {"HOURZ_RATE_LIMIT", "off-in-production-too"}}), 0U);
  EXPECT_EQ(production({{"HOURZ_SECRET", random_secret}, {"HOURZ_TOKEN_KEYS", "a:" + std::string(32, 'k')}}), 1U);
  EXPECT_EQ(production({{"HOURZ_SECRET", random_secret}, {"HOURZ_TOKEN_KEYS", "a:" + random_secret}}), 0U);
}

TEST(ConfigTest, TokenKeysAreAtMostTwoOfAtLeast32Bytes) {
  const std::string a = "a:" + random_secret, b = "b:" + random_secret + "x";
  EXPECT_TRUE(faults({{"HOURZ_TOKEN_KEYS", a}}).empty());
  EXPECT_TRUE(faults({{"HOURZ_TOKEN_KEYS", a + "," + b}}).empty());
  EXPECT_FALSE(faults({{"HOURZ_TOKEN_KEYS", a + "," + b + ",c:" + random_secret}}).empty());
  EXPECT_FALSE(faults({{"HOURZ_TOKEN_KEYS", ":" + random_secret}}).empty());
  EXPECT_FALSE(faults({{"HOURZ_TOKEN_KEYS", "a:" + random_secret.substr(1)}}).empty());
}

TEST(ConfigTest, SecretsAreNeverShown) {
  const Config config = load_config({{"HOURZ_SECRET", random_secret},
                                     {"HOURZ_TOKEN_KEYS", "a:" + random_secret},
                                     {"HOURZ_DATABASE_URL", "postgresql://ann:pa55word@db.example/hourz"},
                                     {"HOURZ_REDIS_URL", "redis://:pa55word@pa55word@redis.example:6379/1"},
                                     {"HOURZ_MIGRATION_URL", "host=db user=owner password=pa55word dbname=hourz"}});
  std::set<std::string_view> variables;
  for (const SettingInfo& setting : settings_of(config)) {
    EXPECT_TRUE(variables.insert(setting.variable).second) << setting.variable;
    EXPECT_FALSE(setting.meaning.empty()) << setting.variable;
    EXPECT_EQ(setting.current.find(random_secret), std::string::npos) << setting.variable;
    EXPECT_EQ(setting.current.find("pa55word"), std::string::npos) << setting.variable;
  }
  EXPECT_TRUE(variables.contains("HOURZ_SECRET"));
  EXPECT_GE(variables.size(), 30U);
}

class ConfigFile : public ::testing::Test {
 protected:
  void SetUp() override { folder = make_temporary_folder("config"); }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::string write(const std::string& text) {
    const std::string path = (folder / "hourz.conf").string();
    std::ofstream(path) << text;
    return path;
  }
  std::filesystem::path folder;
};

TEST_F(ConfigFile, GivesWhatTheEnvironmentDoesNot) {
  const std::string path = write("# a comment\n\nHOURZ_LISTEN_PORT=9000\nHOURZ_THREADS=3\n");
  const Config config = load_config({{"HOURZ_CONFIG", path}, {"HOURZ_THREADS", "5"}});
  EXPECT_EQ(config.listen_port, 9000);
  EXPECT_EQ(config.threads, 5);
  EXPECT_FALSE(faults({{"HOURZ_CONFIG", write("HOURZ_LISTEN_PROT=1\n")}}).empty());
  EXPECT_FALSE(faults({{"HOURZ_CONFIG", write("nonsense\n")}}).empty());
  EXPECT_FALSE(faults({{"HOURZ_CONFIG", (folder / "absent").string()}}).empty());
}

TEST_F(ConfigFile, TheDevelopmentSecretIsMadeOnceAndForItsOwnerOnly) {
  Config one, two;
  one.data_directory = two.data_directory = folder.string();
  ensure_secret(one);
  ensure_secret(two);
  EXPECT_GE(one.secret.size(), 32U);
  EXPECT_EQ(one.secret, two.secret);
  struct stat status {};
  ASSERT_EQ(stat((folder / "secret").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  std::ofstream(folder / "secret") << "short";
  Config three;
  three.data_directory = folder.string();
  EXPECT_THROW(ensure_secret(three), ConfigError);
  Config nowhere;
  nowhere.data_directory = (folder / "no" / "such").string();
  EXPECT_THROW(ensure_secret(nowhere), ConfigError);
}

TEST(ConfigTest, DerivedKeysServeOnePurposeEach) {
  Config config;
  config.secret = random_secret;
  const std::string blur = derive_key(config, "blur");
  EXPECT_EQ(blur.size(), 32U);
  EXPECT_EQ(blur, derive_key(config, "blur"));
  EXPECT_NE(blur, derive_key(config, "cursor:gigs"));
  config.secret += "x";
  EXPECT_NE(blur, derive_key(config, "blur"));
}

// --- the parts of crypto ---------------------------------------------------------------------------------------------

TEST(Crypto, Base64UrlHasOneSpelling) {
  EXPECT_EQ(to_base64url(""), "");
  EXPECT_EQ(to_base64url("f"), "Zg");
  EXPECT_EQ(to_base64url("foobar"), "Zm9vYmFy");
  EXPECT_EQ(to_base64url("\xff\xef"), "_-8");
  for (const std::string& bytes :
       {std::string(), std::string("a"), std::string("\0\0", 2), std::string(1000, '\xfe')}) {
    EXPECT_EQ(from_base64url(to_base64url(bytes)), bytes);
  }
  for (const char* bad : {"Zg==", "Zg=", "Zh", "Z", "Zm9 vYg", "Zm9v\n", "Zm+v", "Zm/v", "Zm9vY", "====", "Zg\0"}) {
    if (std::string_view(bad) == "Zg") continue;
    EXPECT_FALSE(from_base64url(bad)) << bad;
  }
}

TEST(Crypto, MacsAreTheStandards) {
  // RFC 4231, test case 2.
  EXPECT_EQ(to_hex(as_text(hmac_sha256("Jefe", "what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(to_hex(as_text(sha256("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "ab"));
  EXPECT_NE(random_bytes(16), random_bytes(16));
}

}  // namespace
}  // namespace hourz
