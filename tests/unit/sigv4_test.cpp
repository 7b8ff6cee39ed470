// Signature Version 4 against the examples that AWS publishes: those of the S3 manual, and of the signing suite.
#include "storage/sigv4.hpp"

#include <gtest/gtest.h>

namespace hourz::storage::sigv4 {
namespace {

const Credentials bucket_owner{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1"};
const Time friday = std::chrono::sys_days(std::chrono::year(2013) / 5 / 24);
const Credentials suite{"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service"};
const Time sunday =
    std::chrono::sys_days(std::chrono::year(2015) / 8 / 30) + std::chrono::hours(12) + std::chrono::minutes(36);

std::string signature_in(const std::string& authorization) {
  return authorization.substr(authorization.find("Signature=") + 10);
}

/// One request of the S3 manual; the hash of its body is one of the headers.
std::string in_the_manual(std::string method, std::string path, Fields query, Fields headers, std::string_view hash) {
  headers.emplace_back("x-amz-date", "20130524T000000Z");
  headers.emplace_back("x-amz-content-sha256", hash);
  return authorization(
      bucket_owner,
      {std::move(method), "examplebucket.s3.amazonaws.com", std::move(path), std::move(query), std::move(headers)},
      friday, hash);
}

/// One request of the suite: a GET that signs host and date alone.
std::string in_the_suite(std::string path, Fields query) {
  return signature_in(authorization(
      suite, {"GET", "example.amazonaws.com", std::move(path), std::move(query), {{"x-amz-date", "20150830T123600Z"}}},
      sunday, hash_of_nothing));
}

TEST(SigV4, TheExamplesOfTheS3Manual) {
  EXPECT_EQ(in_the_manual("GET", "/test.txt", {}, {{"range", "bytes=0-9"}}, hash_of_nothing),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  EXPECT_EQ(signature_in(in_the_manual(
                "PUT", "/test$file.text", {},
                {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
  EXPECT_EQ(signature_in(in_the_manual("GET", "/", {{"lifecycle", ""}}, {}, hash_of_nothing)),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  EXPECT_EQ(signature_in(in_the_manual("GET", "/", {{"prefix", "J"}, {"max-keys", "2"}}, {}, hash_of_nothing)),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(SigV4, ThePresignedExampleOfTheS3Manual) {
  EXPECT_EQ(presigned_target(bucket_owner, {"GET", "examplebucket.s3.amazonaws.com", "/test.txt", {}, {}}, friday,
                             std::chrono::seconds(86400)),
            "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
            "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
            "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
            "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
            "&X-Amz-SignedHeaders=host");
}

TEST(SigV4, TheSigningSuite) {
  EXPECT_EQ(in_the_suite("/", {}), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
  // Sorted by name, however they were given.
  EXPECT_EQ(in_the_suite("/", {{"Param2", "value2"}, {"Param1", "value1"}}),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
  EXPECT_EQ(in_the_suite("/\u1234", {}), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
  EXPECT_EQ(in_the_suite("/", {{"\u1234", "bar"}}), "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04");
  EXPECT_EQ(in_the_suite("/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", {}),
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f");
  EXPECT_EQ(in_the_suite("/example space/", {}), "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741");
}

TEST(SigV4, Escapes) {
  EXPECT_EQ(escape("a/b c+d&e=f%~*'", true), "a/b%20c%2Bd%26e%3Df%25~%2A%27");
  EXPECT_EQ(escape("รูป/ก", false), "%E0%B8%A3%E0%B8%B9%E0%B8%9B%2F%E0%B8%81");
  EXPECT_EQ(target({"GET", "h", "/b/a b", {{"z", ""}, {"a", "1/2"}}, {}}), "/b/a%20b?a=1%2F2&z=");
}

}  // namespace
}  // namespace hourz::storage::sigv4
