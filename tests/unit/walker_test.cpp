// The walker: JSON in with every fault at once, queries, JSON out, schema; and the strictness of the parser below it.
#include "reflect/walk.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace hourz {
namespace {

enum class Colour { RED, GREEN };
BOOST_DESCRIBE_ENUM(Colour, RED, GREEN)

struct Inner {
  Text<1, 5> word;
  std::optional<Integer<1, 3>> number;
};
BOOST_DESCRIBE_STRUCT(Inner, (), (word, number))

struct Outer {
  Text<3, 5> title;
  Integer<-1, 10> count;
  Real<500, 24'000, 500> hours;
  Latitude latitude;
  Colour colour;
  bool flag;
  std::optional<Inner> inner;
  std::optional<List<Inner, 2>> list;
  std::optional<Uuid> id;
  std::optional<Timestamp> at;
  WithDefault<Integer<1, 100>, 20> limit;
};
BOOST_DESCRIBE_STRUCT(Outer, (), (title, count, hours, latitude, colour, flag, inner, list, id, at, limit))

struct Partial {
  Change<Text<1, 5>> name;
  Change<std::optional<Text<1, 5>>> bio;
  static void check(const Partial& p, std::vector<Fault>& faults) {
    if (p.name && p.name.to->value == "bad") faults.push_back({"name", "bad", "is bad"});
  }
};
BOOST_DESCRIBE_STRUCT(Partial, (), (name, bio))

struct Written {
  Text<1, 10> word;
  Real<0, 1'000> real;
  std::optional<Inner> inner;
  Colour colour;
  std::optional<Timestamp> at;
  WithDefault<Integer<1, 100>, 20> limit;
};
BOOST_DESCRIBE_STRUCT(Written, (), (word, real, inner, colour, at, limit))

struct Any {
  std::optional<Text<0, 1000>> a;
};
BOOST_DESCRIBE_STRUCT(Any, (), (a))

/// `field:code` of each fault, in order; or the problem's word.
template <class T>
std::vector<std::string> faults(const std::string& json) {
  try {
    reflect::read_json<T>(json);
    return {};
  } catch (const Problem& problem) {
    if (problem.faults.empty()) return {std::string(info_of(problem.code).word)};
    std::vector<std::string> all;
    for (const Fault& fault : problem.faults) {
      all.push_back(fault.field + ":" + fault.code);
      EXPECT_FALSE(fault.message.empty());
    }
    return all;
  }
}
using Faults = std::vector<std::string>;
const Faults malformed{"malformed_json"};

const std::string good = R"({"title":"abc","count":0,"hours":1.5,"latitude":0,"colour":"RED","flag":true})";

TEST(Walker, ReadsWhatIsSound) {
  const auto value = reflect::read_json<Outer>(
      R"({"title":" abc ","count":10,"hours":24,"latitude":-90,"colour":"green","flag":false,
          "inner":{"word":"x","number":3},"list":[{"word":"y"},{"word":"z","number":null}],"id":null})");
  EXPECT_EQ(value.title.value, "abc");
  EXPECT_EQ(value.count.value, 10);
  EXPECT_EQ(value.colour, Colour::GREEN);
  EXPECT_EQ(value.inner->number->value, 3);
  EXPECT_EQ(value.list->values.size(), 2U);
  EXPECT_FALSE(value.id);
  EXPECT_EQ(value.limit.value.value, 20);
  EXPECT_TRUE(faults<Outer>(good).empty());
}

TEST(Walker, TellsEveryFaultAtOnceWithItsPath) {
  EXPECT_EQ(faults<Outer>("{}"), (Faults{"title:required", "count:required", "hours:required", "latitude:required",
                                         "colour:required", "flag:required"}));
  EXPECT_EQ(faults<Outer>(R"({"title":"ab","count":11,"hours":0.75,"latitude":90.0001,"colour":"blue","flag":1,
                              "inner":{"word":"","number":4,"x":1},"list":[{"word":"ok"},{"word":7}],"id":"no",
                              "at":"2026","limit":0,"titel":"abc"})"),
            (Faults{"title:too_short", "count:out_of_range", "hours:not_a_step", "latitude:out_of_range",
                    "colour:not_in_list", "flag:wrong_type", "inner.word:empty", "inner.number:out_of_range",
                    "inner.x:unknown_field", "list[1].word:wrong_type", "id:not_a_uuid", "at:not_a_time",
                    "limit:out_of_range", "titel:unknown_field"}));
  EXPECT_EQ(faults<Outer>("[]"), Faults{":wrong_type"});
  EXPECT_EQ(faults<Outer>("null"), Faults{":wrong_type"});
  EXPECT_EQ(
      faults<Outer>(R"({"title":null,"count":null,"hours":null,"latitude":null,"colour":null,"flag":null})").size(),
      6U);
}

TEST(Walker, BoundsAreTakenAndOnePastIsNot) {
  const auto with = [](const std::string& member, const std::string& value) {
    auto object = boost::json::parse(good).as_object();
    object[member] = boost::json::parse(value);
    return faults<Outer>(boost::json::serialize(object));
  };
  for (const char* fine : {"-1", "10", "3.0", "1e1", "-0"}) EXPECT_TRUE(with("count", fine).empty()) << fine;
  for (const char* wrong : {"-2", "11", "9223372036854775807", "9223372036854775808", "1e300"}) {
    EXPECT_EQ(with("count", wrong).size(), 1U) << wrong;
  }
  EXPECT_EQ(with("count", "1.5"), Faults{"count:wrong_type"});
  EXPECT_EQ(with("count", "\"1\""), Faults{"count:wrong_type"});
  for (const char* fine : {"0.5", "1", "23.5", "24"}) EXPECT_TRUE(with("hours", fine).empty()) << fine;
  for (const char* wrong : {"0.4", "0", "24.5", "-1", "1.25", "0.5000001"})
    EXPECT_FALSE(with("hours", wrong).empty()) << wrong;
  for (const char* fine : {"-90", "90", "0", "-0", "90.0", "1e-300"})
    EXPECT_TRUE(with("latitude", fine).empty()) << fine;
  for (const char* wrong : {"90.0001", "-90.0001", "1e5", "\"0\""})
    EXPECT_FALSE(with("latitude", wrong).empty()) << wrong;
  EXPECT_TRUE(with("list", R"([{"word":"a"},{"word":"b"}])").empty());
  EXPECT_EQ(with("list", R"([{"word":"a"},{"word":"b"},{"word":"c"}])"), Faults{"list:too_many"});
  EXPECT_TRUE(with("list", "[]").empty());
  EXPECT_EQ(with("list", "{}"), Faults{"list:wrong_type"});
}

TEST(Walker, PartialBodiesTellAbsentFromNull) {
  const auto absent = reflect::read_json<Partial>("{}");
  EXPECT_FALSE(absent.name);
  EXPECT_FALSE(absent.bio);
  const auto cleared = reflect::read_json<Partial>(R"({"bio":null})");
  EXPECT_TRUE(cleared.bio);
  EXPECT_FALSE(cleared.bio.to->has_value());
  EXPECT_EQ(faults<Partial>(R"({"name":null})"), Faults{"name:wrong_type"});
  EXPECT_EQ(faults<Partial>(R"({"name":"bad"})"), Faults{"name:bad"});
  EXPECT_EQ(faults<Partial>(R"({"name":"bad","x":1})"), Faults{"x:unknown_field"});  // rules only over sound members
}

TEST(Walker, TheParserIsStrict) {
  for (const std::string& bad : {std::string(),
                                 std::string(" "),
                                 std::string("{"),
                                 std::string("{}x"),
                                 std::string("{} {}"),
                                 std::string("{},"),
                                 std::string("\xef\xbb\xbf{}"),
                                 std::string("{\"a\":NaN}"),
                                 std::string("{\"a\":Infinity}"),
                                 std::string("{/* */}"),
                                 std::string("{}// x"),
                                 std::string("{\"a\":1,}"),
                                 std::string("{a:1}"),
                                 std::string("{'a':1}"),
                                 std::string("{\"a\":\"\\ud800\"}"),
                                 std::string("{\"a\":\"\\udc00\"}"),
                                 std::string("{\"a\":\"\\ud800\\u0041\"}"),
                                 std::string("{\"a\":\"\xff\"}"),
                                 std::string("{\"a\":\"\xc0\xaf\"}"),
                                 std::string("{\"a\":\"\xed\xa0\x80\"}"),
                                 std::string("{\"a\":\"\n\"}"),
                                 std::string("{\"a\":\"\t\"}"),
                                 std::string("{\"a\":\"\\x41\"}"),
                                 std::string("{\"a\":01}"),
                                 std::string("{\"a\":+1}"),
                                 std::string("{\"a\":.5}"),
                                 std::string("{\"a\":1.}"),
                                 std::string("{\"a\":tru}"),
                                 std::string("{\"a\":\"x\0\"}", 9),
                                 std::string("\0{}", 3),
                                 std::string("{\"a\" 1}"),
                                 std::string("[1 2]")}) {
    EXPECT_EQ(faults<Any>(bad), malformed) << bad;
  }
  EXPECT_TRUE(faults<Any>(" \t\r\n{ \"a\" : \"\\u0e01\\ud83d\\ude00\" } \n").empty());
  EXPECT_EQ(faults<Any>(R"({"a":"x\u0000y"})"), Faults{"a:forbidden_character"});
}

TEST(Walker, NamesThatStandTwiceAreRefusedAtAnyDepth) {
  EXPECT_EQ(faults<Any>(R"({"a":"1","a":"2"})"), malformed);
  EXPECT_EQ(faults<Any>(R"({"a":"1","\u0061":"2"})"), malformed);
  EXPECT_EQ(faults<Any>(R"({"x":{"b":1,"b":1}})"), malformed);
  EXPECT_EQ(faults<Any>(R"({"x":[{"b":1,"c":[{"d":1,"d":2}]}]})"), malformed);
  EXPECT_EQ(faults<Any>(R"({"a":"1","A":"2"})"), Faults{"A:unknown_field"});
}

TEST(Walker, HostileSizesAreRefusedFast) {
  const auto timed = [](const std::string& json) {
    const auto start = std::chrono::steady_clock::now();
    const auto found = faults<Any>(json);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    return found;
  };
  EXPECT_EQ(timed(std::string(100'000, '[')), malformed);
  EXPECT_EQ(timed(std::string(100'000, '[') + std::string(100'000, ']')), malformed);
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"a\":";
  EXPECT_EQ(timed(deep), malformed);
  std::string keys = "{";
  for (int i = 0; i < 1'000'000; ++i) keys += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":0";
  EXPECT_EQ(timed(keys + "}"), malformed);
  std::string nested = "1";
  for (int i = 0; i < 31; ++i) nested = "[" + nested + "]";
  EXPECT_EQ(timed("{\"a\":" + nested + "}"), Faults{"a:wrong_type"});
  EXPECT_EQ(timed("{\"a\":[" + nested + "]}"), malformed);
  EXPECT_EQ(timed("{\"" + std::string(2000, 'k') + "\":1}"), malformed);
  EXPECT_EQ(timed("{\"a\":\"" + std::string(2 << 20, 'x') + "\"}"), malformed);
  // A long unknown name is not handed back whole.
  const auto named = timed("{\"" + std::string(1000, 'k') + "\":1}");
  ASSERT_EQ(named.size(), 1U);
  EXPECT_LE(named[0].size(), 64U + 14U);
}

TEST(Walker, WritesAndReadsBackTheSame) {
  const auto value = reflect::read_json<Written>(R"({"word":"é😀","real":0.1,"inner":{"word":"x"},"colour":"red"})");
  const std::string once = reflect::to_json(value);
  EXPECT_EQ(once,
            R"({"word":"é😀","real":0.1,"inner":{"word":"x","number":null},"colour":"RED","at":null,"limit":20})");
  EXPECT_EQ(reflect::to_json(reflect::read_json<Written>(once)), once);
  std::string quoted;
  append_json_string(quoted, "a\"\\\n\t\x01\x7f<é😀");
  EXPECT_EQ(boost::json::parse(quoted).as_string(), "a\"\\\n\t\x01\x7f<é😀");
  EXPECT_EQ(quoted.find('\x7f'), std::string::npos);
}

TEST(Walker, SchemaSaysWhatIsChecked) {
  reflect::SchemaBook book;
  reflect::schema_of<Outer>(book);
  const auto& outer = book.at("Outer");
  EXPECT_EQ(outer.at("additionalProperties"), false);
  EXPECT_EQ(outer.at("required").as_array().size(), 6U);
  const auto& properties = outer.at("properties").as_object();
  EXPECT_EQ(properties.at("title").at("minLength"), 3);
  EXPECT_EQ(properties.at("title").at("maxLength"), 5);
  EXPECT_EQ(properties.at("hours").at("multipleOf"), 0.5);
  EXPECT_EQ(properties.at("latitude").at("maximum"), 90);
  EXPECT_EQ(properties.at("limit").at("default"), 20);
  EXPECT_NO_THROW(book.at("Inner"));
}

struct Named {
  std::vector<Colour> colours;
};
BOOST_DESCRIBE_STRUCT(Named, (), (colours))

namespace elsewhere {

struct Named {
  std::int64_t size = 0;
};
BOOST_DESCRIBE_STRUCT(Named, (), (size))

}  // namespace elsewhere

TEST(Walker, TwoTypesOfOneNameAreRefused) {
  reflect::SchemaBook book;
  reflect::schema_of<Named>(book);
  EXPECT_NO_THROW(reflect::schema_of<Named>(book));
  EXPECT_THROW(reflect::schema_of<elsewhere::Named>(book), std::logic_error);
}

// --- queries ---------------------------------------------------------------------------------------------------------

std::string query_fault(const std::string& text) {
  try {
    reflect::parse_query(text);
    return "";
  } catch (const Problem& problem) {
    return std::string(info_of(problem.code).word);
  }
}

TEST(Queries, AreSplitAndDecoded) {
  const auto pairs = reflect::parse_query("a=1&b=x%20y+z&c&d=&e=%E0%B8%81&f=a=b&&g=%2B");
  const reflect::Pairs expected{{"a", "1"}, {"b", "x y z"}, {"c", ""}, {"d", ""}, {"e", "ก"}, {"f", "a=b"}, {"g", "+"}};
  EXPECT_EQ(pairs, expected);
  EXPECT_TRUE(reflect::parse_query("").empty());
}

TEST(Queries, WhatIsBrokenIsRefused) {
  for (const char* bad : {"a=%", "a=%1", "a=%zz", "%=1", "a=%00", "a=%ff", "a=%c0%af", "%00=1", "a=%ed%a0%80"}) {
    EXPECT_EQ(query_fault(bad), "malformed_request") << bad;
  }
  EXPECT_EQ(query_fault("limit=1&limit=9"), "duplicate_parameter");
  EXPECT_EQ(query_fault("limit=1&li%6dit=9"), "duplicate_parameter");
  std::string many;
  for (int i = 0; i < 101; ++i) many += "p" + std::to_string(i) + "=1&";
  EXPECT_EQ(query_fault(many), "malformed_request");
}

struct Asked {
  Latitude latitude;
  std::optional<Colour> colour;
  WithDefault<bool, false> flag;
  WithDefault<Real<100, 100'000>, 5'000> radius_km;
  std::optional<Integer<1, 100>> limit;
};
BOOST_DESCRIBE_STRUCT(Asked, (), (latitude, colour, flag, radius_km, limit))

Faults asked(const std::string& query) {
  try {
    reflect::read_pairs<Asked>(reflect::parse_query(query));
    return {};
  } catch (const Problem& problem) {
    Faults all;
    for (const Fault& fault : problem.faults) all.push_back(fault.field + ":" + fault.code);
    return all;
  }
}

TEST(Queries, ValuesAreHeldToTheirTypes) {
  EXPECT_TRUE(asked("latitude=-90&colour=red&flag=true&radius_km=0.1&limit=100").empty());
  EXPECT_EQ(asked("colour=blue&flag=yes&radius_km=0&limit=0&x=1"),
            (Faults{"latitude:required", "colour:not_in_list", "flag:wrong_type", "radius_km:out_of_range",
                    "limit:out_of_range", "x:unknown_parameter"}));
  for (const char* bad :
       {"NaN", "Infinity", "inf", "1e400", "", "0x1p3", "1,5", "%2B1", "1%20", "--1", "1e", "90.0001"}) {
    EXPECT_EQ(asked("latitude=" + std::string(bad)).size(), 1U) << bad;
  }
  for (const char* fine : {"0", "-0", "90", "-90", "1e1", "13.7563"}) {
    EXPECT_TRUE(asked("latitude=" + std::string(fine)).empty()) << fine;
  }
  for (const char* bad : {"101", "1e9", "99999999999999999999", "1.5", "", "x"}) {
    EXPECT_EQ(asked("latitude=0&limit=" + std::string(bad)).size(), 1U) << bad;
  }
}

}  // namespace
}  // namespace hourz
