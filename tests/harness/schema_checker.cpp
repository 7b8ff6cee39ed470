#include "harness/schema_checker.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/ids.hpp"
#include "core/text.hpp"
#include "core/time.hpp"

namespace hourz::harness {
namespace {

namespace json = boost::json;

bool has_type(const json::value& value, std::string_view type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_bool();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  if (type == "integer") {
    return value.is_int64() || value.is_uint64() ||
           (value.is_double() && value.get_double() == std::floor(value.get_double()));
  }
  return false;
}

bool has_format(std::string_view text, std::string_view format) {
  if (format == "uuid") return parse_uuid(text).has_value();
  if (format == "date-time") return text.ends_with('Z') && parse_timestamp(text).has_value();
  if (format == "uri-reference") return text.find(' ') == std::string_view::npos;
  if (format == "email") return text.find('@') != std::string_view::npos;
  return format == "password";
}

const std::set<std::string_view> known_keywords{
    "$ref",   "type",     "enum",        "anyOf",   "required",   "properties", "additionalProperties",
    "items",  "maxItems", "minimum",     "maximum", "multipleOf", "minLength",  "maxLength",
    "format", "default",  "description", "const"};

}  // namespace

std::vector<std::string> SchemaChecker::faults_of(const json::value& schema, const json::value& value) const {
  std::vector<std::string> faults;
  check(schema, value, "$", faults);
  return faults;
}

void SchemaChecker::check_object(const json::object& schema, const json::object& value, const std::string& at,
                                 std::vector<std::string>& faults) const {
  if (const auto* required = schema.if_contains("required")) {
    for (const auto& name : required->as_array()) {
      if (!value.contains(name.as_string())) faults.push_back(at + ": lacks " + std::string(name.as_string()));
    }
  }
  const auto* properties = schema.if_contains("properties");
  for (const auto& pair : value) {
    const std::string here = at + "." + std::string(pair.key());
    const auto* property = properties != nullptr ? properties->as_object().if_contains(pair.key()) : nullptr;
    if (property != nullptr) {
      check(*property, pair.value(), here, faults);
    } else if (const auto* more = schema.if_contains("additionalProperties"); more != nullptr && more->is_bool()) {
      if (!more->as_bool()) faults.push_back(here + ": is not in the schema");
    }
  }
}

void SchemaChecker::check(const json::value& any, const json::value& value, const std::string& at,
                          std::vector<std::string>& faults) const {
  const json::object& schema = any.as_object();
  const auto fault = [&](const std::string& what) { faults.push_back(at + ": " + what); };
  for (const auto& pair : schema) {
    if (!known_keywords.contains(pair.key())) fault("the checker does not know " + std::string(pair.key()));
  }
  if (const auto* reference = schema.if_contains("$ref")) {
    std::string pointer(reference->as_string());
    boost::system::error_code error;
    const auto* target = document_.find_pointer(pointer.substr(1), error);
    if (target == nullptr) return fault("no such schema " + pointer);
    check(*target, value, at, faults);
  }
  if (const auto* options = schema.if_contains("anyOf")) {
    const bool fits = std::any_of(options->as_array().begin(), options->as_array().end(),
                                  [&](const json::value& option) { return faults_of(option, value).empty(); });
    if (!fits) fault("fits none of anyOf: " + json::serialize(value).substr(0, 200));
  }
  if (const auto* type = schema.if_contains("type")) {
    bool fits = false;
    if (type->is_string()) {
      fits = has_type(value, type->as_string());
    } else {
      for (const auto& one : type->as_array()) fits = fits || has_type(value, one.as_string());
    }
    if (!fits) return fault("is not of type " + json::serialize(*type) + ": " + json::serialize(value).substr(0, 100));
  }
  if (const auto* list = schema.if_contains("enum")) {
    const auto& values = list->as_array();
    if (std::find(values.begin(), values.end(), value) == values.end()) fault("not in enum: " + json::serialize(value));
  }
  if (const auto* exact = schema.if_contains("const"); exact != nullptr && *exact != value)
    fault("is not the constant");
  if (value.is_number()) {
    const double number = value.to_number<double>();
    if (const auto* minimum = schema.if_contains("minimum"); minimum && number < minimum->to_number<double>()) {
      fault("is below the minimum");
    }
    if (const auto* maximum = schema.if_contains("maximum"); maximum && number > maximum->to_number<double>()) {
      fault("is above the maximum");
    }
    if (const auto* step = schema.if_contains("multipleOf");
        step && std::remainder(number, step->to_number<double>()) != 0) {
      fault("is not a multiple");
    }
  } else if (value.is_string()) {
    const std::string_view text = value.get_string();
    const auto length = static_cast<std::int64_t>(count_code_points(text));
    if (const auto* minimum = schema.if_contains("minLength"); minimum && length < minimum->to_number<std::int64_t>()) {
      fault("is too short");
    }
    if (const auto* maximum = schema.if_contains("maxLength"); maximum && length > maximum->to_number<std::int64_t>()) {
      fault("is too long");
    }
    if (const auto* format = schema.if_contains("format"); format && !has_format(text, format->as_string())) {
      fault("is not of format " + std::string(format->as_string()) + ": " + std::string(text));
    }
  } else if (value.is_array()) {
    const auto& items = value.get_array();
    if (const auto* maximum = schema.if_contains("maxItems");
        maximum && items.size() > maximum->to_number<std::size_t>()) {
      fault("has too many items");
    }
    if (const auto* schema_of_items = schema.if_contains("items")) {
      for (std::size_t i = 0; i < items.size(); ++i) {
        check(*schema_of_items, items[i], at + "[" + std::to_string(i) + "]", faults);
      }
    }
  } else if (value.is_object()) {
    check_object(schema, value.get_object(), at, faults);
  }
}

}  // namespace hourz::harness
