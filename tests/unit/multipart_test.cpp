// The form of an upload: what it gives does not depend on how it was cut, and whatever is in doubt is refused.
#include "http/multipart.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hourz::http {
namespace {

struct Outcome {
  std::string file;
  std::string error;  ///< the problem's word; empty when it was well
  bool operator==(const Outcome&) const = default;
};

Outcome parse(const std::vector<std::string_view>& pieces, std::string_view boundary = "XX",
              std::uint64_t limit = 1'000'000) {
  Outcome outcome;
  try {
    Multipart form(boundary, limit);
    for (const std::string_view piece : pieces) {
      form.feed(piece, [&](std::string_view bytes) { outcome.file += bytes; });
    }
    form.finish();
  } catch (const Problem& problem) {
    outcome.error = problem.what();
  }
  return outcome;
}
Outcome parse(std::string_view whole) { return parse(std::vector<std::string_view>{whole}); }

std::string form(std::string_view file, std::string_view disposition = "form-data; name=\"file\"; filename=\"a.jpg\"") {
  return "--XX\r\nContent-Disposition: " + std::string(disposition) + "\r\nContent-Type: image/jpeg\r\n\r\n" +
         std::string(file) + "\r\n--XX--\r\n";
}

/// U05.
TEST(Multipart, GivesTheFileWhereverItIsCut) {
  using namespace std::string_literals;
  for (const std::string& file : {"hello"s, ""s, "\r\n--X"s, "\r\r\n--XY"s, "\r\n\r\n--X-\r\n"s, std::string(300, '\r'),
                                  "a\0b\r\n--"s, "--XX"s, "\r\n-"s, "\r"s}) {
    const std::string whole = form(file);
    const Outcome expected{file, ""};
    EXPECT_EQ(parse(whole), expected);
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
      const std::string_view view(whole);
      EXPECT_EQ(parse({view.substr(0, cut), view.substr(cut)}), expected) << cut;
    }
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < whole.size(); ++i) bytes.push_back(std::string_view(whole).substr(i, 1));
    EXPECT_EQ(parse(bytes), expected);
  }
  EXPECT_EQ(parse("\r\n" + form("x")).file, "x");
}

TEST(Multipart, RefusesWhatIsCutOff) {
  const std::string whole = form("hello");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    if (length == whole.size() - 2) continue;  // the CRLF behind the last boundary may be missing
    EXPECT_EQ(parse(std::string_view(whole).substr(0, length)).error, "malformed_request") << length;
  }
  EXPECT_EQ(parse(std::string_view(whole).substr(0, whole.size() - 2)).error, "");
}

/// U04.
TEST(Multipart, NamesOfFilesAreNotLookedAt) {
  for (const char* disposition :
       {R"(form-data; name="file")", R"(form-data; name=file; filename=x)",
        R"(FORM-DATA; NAME="file"; FileName="../../x")", R"(form-data; filename="C:\x"; name="file")",
        R"(form-data; name="file"; filename="a\"; name=\"other")",
        R"(form-data; name="file"; filename*=UTF-8''%2e%2e%2f)"}) {
    EXPECT_EQ(parse(form("x", disposition)), (Outcome{"x", ""})) << disposition;
  }
  EXPECT_EQ(parse(form("x", "form-data; name=\"file\"; filename=\"" + std::string(300, 'a') + "\"")).error, "");
  EXPECT_EQ(parse(form("x", std::string("form-data; name=\"file\"; filename=\"a\0b\"", 38))).error, "");
}

/// U05.
TEST(Multipart, RefusesEveryOtherForm) {
  for (const char* disposition :
       {"form-data", "form-data; name=\"other\"", "form-data; name=\"file\"; name=\"file\"",
        "attachment; name=\"file\"", "form-data; name=\"file", "form-data name=\"file\"", "form-data; =file",
        "form-data; name=\"file\" x", "form-data; name=\"file\"; filename=\"a.jpg\r\nX: y\"", ""}) {
    EXPECT_EQ(parse(form("x", disposition)).error, "malformed_request") << disposition;
  }
  const std::string header = "--XX\r\nContent-Disposition: form-data; name=\"file\"\r\n";
  const std::string end = "\r\n--XX--\r\n";
  for (const std::string& whole : {
           std::string("hello"),
           std::string("--XX--\r\n"),
           "preamble\r\n" + form("x"),
           form("x") + "epilogue",
           form("x") + form("y"),
           "--XX\r\n\r\nx" + end,
           header + header.substr(6) + "\r\nx" + end,
           header + "Content-Type: multipart/mixed; boundary=YY\r\n\r\nx" + end,
           header + "Content-Transfer-Encoding: base64\r\n\r\nx" + end,
           header + "No colon\r\n\r\nx" + end,
           header + " folded: x\r\n\r\nx" + end,
           header + "A: " + std::string(1'000'000, 'x') + "\r\n\r\nx" + end,
           header + "\r\nx\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ny" + end,
           header + "\r\nx\r\n--XXY\r\n" + end,
           header + "\r\nx\r\n--XX \r\n" + end,
           "--XX \r\n" + form("x"),
       }) {
    EXPECT_EQ(parse(whole).error, "malformed_request") << whole.substr(0, 200);
  }
  std::string many;
  for (int i = 0; i < 10'000; ++i) many += header + "\r\nx\r\n";
  EXPECT_EQ(parse(many + end).error, "malformed_request");
}

TEST(Multipart, StopsAtTheLimit) {
  const std::string whole = form(std::string(100, 'x'));
  EXPECT_EQ(parse({whole}, "XX", 100).error, "");
  EXPECT_EQ(parse({whole}, "XX", 99).error, "body_too_large");
}

/// U05.
TEST(Multipart, BoundariesAreTakenFromTheField) {
  EXPECT_EQ(boundary_in("multipart/form-data; boundary=abc"), "abc");
  EXPECT_EQ(boundary_in("multipart/form-data;charset=utf-8; Boundary=\"a b'()+_,-./:=?\""), "a b'()+_,-./:=?");
  EXPECT_EQ(boundary_in("multipart/form-data; boundary=" + std::string(70, 'a')).size(), 70U);
  for (const std::string& field :
       {std::string("multipart/form-data"), std::string("multipart/form-data; boundary="),
        std::string("multipart/form-data; boundary=\"\""), std::string("multipart/form-data; boundary=a; boundary=b"),
        std::string("multipart/form-data; boundary=\"a "), std::string("multipart/form-data; boundary=\"a \""),
        std::string("multipart/form-data; boundary=\"a\nb\""),
        "multipart/form-data; boundary=" + std::string(71, 'a')}) {
    EXPECT_THROW(boundary_in(field), Problem) << field;
  }
}

}  // namespace
}  // namespace hourz::http
