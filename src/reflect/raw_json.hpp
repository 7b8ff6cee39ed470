// JSON that is passed on as it is: written by the database or kept from before. Never parsed and never checked, so it
// must come from the service itself. Only for answers.
#pragma once
#include "reflect/leaf.hpp"

namespace hourz {

/// The text of a whole JSON object.
struct RawObject {
  std::string text = "{}";
};

namespace reflect {

template <>
struct Leaf<RawObject> {
  static void write(std::string& out, const RawObject& value) { out += value.text; }
  static json::object schema() { return {{"type", "object"}, {"additionalProperties", true}}; }
};

}  // namespace reflect
}  // namespace hourz
