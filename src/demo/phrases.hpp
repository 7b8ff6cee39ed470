// What people in the demonstration ask for and what they are called: kinds of work with Thai and English titles,
// descriptions, usual lengths and hourly pay, and common names. `{place}` in a title stands for a neighbourhood; a
// remark that fits any work may follow a description. Texts come from these tables alone, so their search terms can be
// kept per combination instead of being worked out millions of times. Order is part of the face: the same seed picks by
// index.
#pragma once
#include <array>
#include <span>
#include <string_view>

namespace hourz::demo {

struct Job {
  std::string_view title;
  std::string_view description;
};

struct Kind {
  static constexpr int jobs_each = 4;

  std::string_view category;  ///< the slug in `gigs.category`
  int shortest_half_hours;
  int longest_half_hours;
  int least_baht_an_hour;
  int most_baht_an_hour;
  int weight;  ///< share among all gigs
  std::array<Job, jobs_each> jobs;
  std::array<Job, jobs_each> thai_jobs;
};

std::span<const Kind> kinds();

/// The first is empty.
inline constexpr int remarks_each = 4;
std::span<const std::string_view, remarks_each> remarks();
std::span<const std::string_view, remarks_each> thai_remarks();

struct Name {
  std::string_view latin;
  std::string_view thai;
};

std::span<const Name> given_names();
std::span<const Name> family_names();
std::span<const std::string_view> biographies();
std::span<const std::string_view> cancel_reasons();

}  // namespace hourz::demo
