// Ids, times, money: what they look like, what they refuse.
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "core/ids.hpp"
#include "core/money.hpp"
#include "core/time.hpp"
#include "reflect/walk.hpp"

namespace hourz {
namespace {

// --- ids -------------------------------------------------------------------------------------------------------------

TEST(Ids, AreVersion7AndCanonical) {
  const auto before = now().microseconds / 1000;
  const Uuid id = make_uuid();
  const auto after = now().microseconds / 1000;
  const std::string text = to_string(id);
  ASSERT_EQ(text.size(), 36U);
  EXPECT_EQ(text[14], '7');
  EXPECT_NE(std::string("89ab").find(text[19]), std::string::npos);
  for (const std::size_t dash : {8U, 13U, 18U, 23U}) EXPECT_EQ(text[dash], '-');
  EXPECT_EQ(text.find_first_not_of("0123456789abcdef-"), std::string::npos);
  std::int64_t milliseconds = 0;
  for (int i = 0; i < 6; ++i) milliseconds = milliseconds << 8 | id.bytes[static_cast<std::size_t>(i)];
  EXPECT_GE(milliseconds, before);
  EXPECT_LE(milliseconds, after + 1);
  EXPECT_EQ(parse_uuid(text), id);
}

TEST(Ids, OfOneThreadAreInOrderAndOfAllThreadsDistinct) {
  std::vector<std::vector<Uuid>> made(4);
  std::vector<std::thread> threads;
  for (auto& mine : made) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 20'000; ++i) mine.push_back(make_uuid());
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<Uuid> all;
  for (const auto& mine : made) {
    for (std::size_t i = 1; i < mine.size(); ++i) ASSERT_LT(mine[i - 1], mine[i]);
    all.insert(mine.begin(), mine.end());
  }
  EXPECT_EQ(all.size(), 80'000U);
}

TEST(Ids, OnlyTheCanonicalFormIsTaken) {
  const std::string good = "0190a0b0-c0d0-7e0f-8a0b-0c0d0e0f1011";
  EXPECT_TRUE(parse_uuid(good));
  EXPECT_EQ(parse_uuid("0190A0B0-C0D0-7E0F-8A0B-0C0D0E0F1011"), parse_uuid(good));
  for (const std::string bad : {"", "0190a0b0c0d07e0f8a0b0c0d0e0f1011", "{0190a0b0-c0d0-7e0f-8a0b-0c0d0e0f1011}",
                                "0190a0b0-c0d0-7e0f-8a0b-0c0d0e0f101", "0190a0b0-c0d0-7e0f-8a0b-0c0d0e0f10111",
                                "0190a0b0-c0d0-7e0f-8a0b-0c0d0e0f101g", "0190a0b0c-0d0-7e0f-8a0b-0c0d0e0f1011",
                                " 0190a0b0-c0d0-7e0f-8a0b-0c0d0e0f101", "0190a0b0_c0d0_7e0f_8a0b_0c0d0e0f1011"}) {
    EXPECT_FALSE(parse_uuid(bad)) << bad;
  }
}

// --- times -----------------------------------------------------------------------------------------------------------

std::string again(const char* text) {
  const auto time = parse_timestamp(text);
  return time ? to_string(*time) : "refused";
}

TEST(Times, AreReadAndWrittenInUtc) {
  EXPECT_EQ(to_string(Timestamp{0}), "1970-01-01T00:00:00Z");
  EXPECT_EQ(to_string(Timestamp{1}), "1970-01-01T00:00:00.000001Z");
  EXPECT_EQ(again("2026-11-23T06:05:28Z"), "2026-11-23T06:05:28Z");
  EXPECT_EQ(again("2026-11-23t06:05:28z"), "2026-11-23T06:05:28Z");
  EXPECT_EQ(again("2026-11-23T06:05:28.5Z"), "2026-11-23T06:05:28.500000Z");
  EXPECT_EQ(again("2026-11-23T06:05:28.000001Z"), "2026-11-23T06:05:28.000001Z");
  EXPECT_EQ(again("2026-11-23T06:05:28.120000Z"), "2026-11-23T06:05:28.120000Z");
  EXPECT_EQ(again("9999-12-31T23:59:59.999999Z"), "9999-12-31T23:59:59.999999Z");
}

TEST(Times, OffsetsMoveToUtc) {
  EXPECT_EQ(again("2026-11-23T06:05:28+07:00"), "2026-11-22T23:05:28Z");
  EXPECT_EQ(again("2026-12-31T23:30:00-01:30"), "2027-01-01T01:00:00Z");
  EXPECT_EQ(again("2026-01-01T00:00:00+00:01"), "2025-12-31T23:59:00Z");
  EXPECT_EQ(again("2026-01-01T00:00:00-00:00"), "2026-01-01T00:00:00Z");
}

TEST(Times, LeapYearsAreKnown) {
  EXPECT_EQ(again("2024-02-29T00:00:00Z"), "2024-02-29T00:00:00Z");
  EXPECT_EQ(again("2000-02-29T00:00:00Z"), "2000-02-29T00:00:00Z");
  EXPECT_EQ(again("2023-02-29T00:00:00Z"), "refused");
  EXPECT_EQ(again("2100-02-29T00:00:00Z"), "refused");
  EXPECT_EQ(again("2024-02-28T23:59:59-00:01"), "2024-02-29T00:00:59Z");
}

TEST(Times, WhatIsNoTimeIsRefused) {
  for (const char* bad : {"",
                          "2026",
                          "2026-11-23",
                          "2026-11-23T06:05:28",
                          "2026-11-23 06:05:28Z",
                          "2026-11-23T06:05Z",
                          "2026-11-23T24:00:00Z",
                          "2026-11-23T06:60:00Z",
                          "2026-11-23T06:05:60Z",
                          "2026-13-01T00:00:00Z",
                          "2026-00-01T00:00:00Z",
                          "2026-11-00T00:00:00Z",
                          "2026-11-31T00:00:00Z",
                          "2026-11-23T06:05:28.Z",
                          "2026-11-23T06:05:28.1234567Z",
                          "2026-11-23T06:05:28Zx",
                          "2026-11-23T06:05:28+7",
                          "2026-11-23T06:05:28+0700",
                          "2026-11-23T06:05:28+24:00",
                          "2026-11-23T06:05:28+07:60",
                          "1969-12-31T23:59:59Z",
                          "-2026-11-23T06:05:28Z",
                          "20261-11-23T06:05:28Z",
                          "2026-11-23T06:05:28,5Z",
                          "2026-11-23T 6:05:28Z",
                          " 2026-11-23T06:05:28Z"}) {
    EXPECT_EQ(again(bad), "refused") << bad;
  }
}

TEST(Times, StayWithinTheYearsThatCanBeWritten) {
  // An offset must not carry a time out of the years that can be read again.
  for (const char* edge : {"1970-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"}) {
    const std::string written = again(edge);
    if (written != "refused") EXPECT_EQ(again(written.c_str()), written) << edge;
  }
}

// --- money -----------------------------------------------------------------------------------------------------------

TEST(MoneyTest, IsWrittenWithoutTrailingZeros) {
  EXPECT_EQ(to_string(Money{0}), "0");
  EXPECT_EQ(to_string(Money{1}), "0.01");
  EXPECT_EQ(to_string(Money{10}), "0.1");
  EXPECT_EQ(to_string(Money{99}), "0.99");
  EXPECT_EQ(to_string(Money{35000}), "350");
  EXPECT_EQ(to_string(Money{35050}), "350.5");
  EXPECT_EQ(to_string(Money{35005}), "350.05");
  EXPECT_EQ(to_string(Money{1'000'000'000}), "10000000");
  EXPECT_EQ(to_string(Money{999'999'999}), "9999999.99");
  EXPECT_EQ(to_string(Money{-1}), "-0.01");
  EXPECT_EQ(to_string(Money{INT64_MIN}), "-92233720368547758.08");
}

struct Price {
  Money amount;
};
BOOST_DESCRIBE_STRUCT(Price, (), (amount))

/// The amount in satang, or the fault's code.
std::string money(const std::string& json) {
  try {
    return std::to_string(reflect::read_json<Price>("{\"amount\":" + json + "}").amount.satang);
  } catch (const Problem& problem) {
    return problem.faults.empty() ? std::string(info_of(problem.code).word) : problem.faults.at(0).code;
  }
}
std::string money_text(const std::string& text) {
  Money out;
  const auto fault = reflect::read_money(std::string_view(text), out);
  return fault ? std::string(fault->code) : std::to_string(out.satang);
}

TEST(MoneyTest, IsReadExactlyOrRefused) {
  EXPECT_EQ(money("350"), "35000");
  EXPECT_EQ(money("350.5"), "35050");
  EXPECT_EQ(money("350.50"), "35050");
  EXPECT_EQ(money("0.01"), "1");
  EXPECT_EQ(money("0.07"), "7");
  EXPECT_EQ(money("0.29"), "29");
  EXPECT_EQ(money("1.15"), "115");
  EXPECT_EQ(money("8.41"), "841");
  EXPECT_EQ(money("1e2"), "10000");
  EXPECT_EQ(money("1E+2"), "10000");
  EXPECT_EQ(money("12345e-2"), "12345");
  EXPECT_EQ(money("-0"), "0");
  EXPECT_EQ(money("-0.0"), "0");
  EXPECT_EQ(money("10000000"), "1000000000");
  EXPECT_EQ(money("10000000.00"), "1000000000");
  EXPECT_EQ(money("9999999.99"), "999999999");
  EXPECT_EQ(money("10000000.01"), "out_of_range");
  EXPECT_EQ(money("10000001"), "out_of_range");
  EXPECT_EQ(money("-0.01"), "out_of_range");
  EXPECT_EQ(money("-1"), "out_of_range");
  EXPECT_EQ(money("0.001"), "too_many_decimals");
  EXPECT_EQ(money("350.555"), "too_many_decimals");
  EXPECT_EQ(money("0.010000001"), "too_many_decimals");
  EXPECT_EQ(money("9007199254740993"), "out_of_range");
  EXPECT_EQ(money("9223372036854775808"), "out_of_range");
  EXPECT_EQ(money("18446744073709551616"), "out_of_range");
  const std::string huge = money("1e400");
  EXPECT_TRUE(huge == "malformed_json" || huge == "not_finite" || huge == "out_of_range") << huge;
  EXPECT_EQ(money("\"100\""), "wrong_type");
  EXPECT_EQ(money("true"), "wrong_type");
  EXPECT_EQ(money("null"), "wrong_type");
  EXPECT_EQ(money("[1]"), "wrong_type");
  for (const char* bad :
       {"NaN", "Infinity", "-Infinity", "+1", "01", "1.", ".5", "0x10", "1,5", "1_000", "1 000", "๓"}) {
    EXPECT_EQ(money(bad), "malformed_json") << bad;
  }
}

TEST(MoneyTest, EverySatangOfAThousandBahtAndAStretchUnderTheBoundComesBack) {
  for (std::int64_t satang = 0; satang < 100'000; ++satang) {
    ASSERT_EQ(money_text(to_string(Money{satang})), std::to_string(satang));
  }
  for (std::int64_t satang = Money::maximum_satang - 50'000; satang <= Money::maximum_satang; ++satang) {
    ASSERT_EQ(money_text(to_string(Money{satang})), std::to_string(satang));
  }
}

TEST(MoneyTest, InAQueryIsPlainDecimal) {
  EXPECT_EQ(money_text("350.5"), "35050");
  EXPECT_EQ(money_text("1e2"), "10000");
  for (const char* bad :
       {"", " 1", "1 ", "NaN", "nan", "inf", "Infinity", "0x1p3", "1,5", "+1", "1e400", "--1", "1e"}) {
    EXPECT_EQ(money_text(bad), "wrong_type") << bad;
  }
  EXPECT_EQ(money_text("0.001"), "too_many_decimals");
  EXPECT_EQ(money_text("-1"), "out_of_range");
}

}  // namespace
}  // namespace hourz
