// Any bytes as a request body: what is not JSON of the right shape is a Problem and nothing else; what is, comes back
// the same when it is written and read again.
#include "fuzz.hpp"
#include "shapes.hpp"

namespace {

using namespace hourz;
using fuzz::require;

// List has a way in alone: bodies are never written. For the way back its items are compared one by one.
std::string written(const fuzz::Everything& all) {
  std::string out = R"({"flag":)";
  const auto add = [&out](std::string_view name, const auto& value) {
    out += ',';
    append_json_string(out, name);
    out += ':';
    reflect::write_json(out, value);
  };
  reflect::write_json(out, all.flag);
  add("count", all.count);
  add("hours", all.hours);
  add("number", all.number);
  add("title", all.title);
  add("free", all.free);
  add("budget", all.budget);
  add("email", all.email);
  add("phone", all.phone);
  add("when", all.when);
  add("colour", all.colour);
  add("place", all.place);
  add("places", all.places.values);
  add("words", all.words.values);
  add("limit", all.limit);
  return out + "}";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view data = fuzz::as_text(bytes, size);
  try {
    reflect::parse_json(data);
  } catch (const Problem& problem) {
    require(problem.code == ErrorCode::malformed_json);
    return 0;
  }
  require(is_utf8(data));
  try {
    const auto all = reflect::read_json<fuzz::Everything>(data);
    require(all.count.value >= -5 && all.count.value <= 1000 && !(all.count.value > 900 && !all.flag));
    require(all.hours.value >= 0.5 && all.hours.value <= 24 && all.limit.value.value >= 1);
    require(all.budget.satang >= 0 && all.budget.satang <= Money::maximum_satang);
    require(count_code_points(all.title.value) <= 40 && all.places.values.size() <= 3);
    const std::string once = written(all);
    require(written(reflect::read_json<fuzz::Everything>(once)) == once);
  } catch (const Problem& problem) {
    require(problem.code == ErrorCode::validation_failed);
  }
  try {
    const auto partial = reflect::read_json<fuzz::Partial>(data);
    if (partial.name) require(!partial.name.to->value.empty());
  } catch (const Problem& problem) {
    require(problem.code == ErrorCode::validation_failed);
  }
  return 0;
}
