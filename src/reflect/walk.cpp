#include "reflect/walk.hpp"

#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <stdexcept>

namespace hourz::reflect {
namespace {

/// Builds the document and counts names, so that an object that lost one to a duplicate is noticed.
struct Builder {
  static constexpr std::size_t max_object_size = 4096;
  static constexpr std::size_t max_array_size = 65536;
  static constexpr std::size_t max_key_size = 1024;
  static constexpr std::size_t max_string_size = 1U << 20;

  json::value_stack stack;
  std::size_t names = 0;
  std::size_t parts = 0;

  using error_code = boost::system::error_code;
  using string_view = json::string_view;
  bool on_document_begin(error_code&) {
    stack.reset();
    return true;
  }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) { return true; }
  bool on_object_end(std::size_t count, error_code&) {
    names += count;
    stack.push_object(count);
    return true;
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(std::size_t count, error_code&) {
    stack.push_array(count);
    return true;
  }
  bool on_key_part(string_view text, std::size_t, error_code&) {
    stack.push_chars(text);
    return true;
  }
  bool on_key(string_view text, std::size_t, error_code&) {
    stack.push_key(text);
    return true;
  }
  bool on_string_part(string_view text, std::size_t, error_code&) {
    stack.push_chars(text);
    return true;
  }
  bool on_string(string_view text, std::size_t, error_code&) {
    stack.push_string(text);
    return true;
  }
  bool on_number_part(string_view, error_code&) {
    ++parts;  // never, since the whole text is there at once
    return true;
  }
  bool on_int64(std::int64_t number, string_view, error_code&) {
    stack.push_int64(number);
    return true;
  }
  bool on_uint64(std::uint64_t number, string_view, error_code&) {
    stack.push_uint64(number);
    return true;
  }
  /// Boost 1.81 rounds numbers of more than some 16 digits one step wrong now and then, and a cursor that comes back
  /// one step off repeats a row: its text is read again, to the nearest double there is.
  bool on_double(double number, string_view text, error_code&) {
    double exact = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exact);
    const bool whole = parts == 0 && error == std::errc{} && end == text.data() + text.size();
    stack.push_double(whole ? exact : number);
    return true;
  }
  bool on_bool(bool flag, error_code&) {
    stack.push_bool(flag);
    return true;
  }
  bool on_null(error_code&) {
    stack.push_null();
    return true;
  }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }
};

std::size_t count_names(const json::value& value) {
  std::size_t count = 0;
  if (const auto* object = value.if_object()) {
    count += object->size();
    for (const auto& pair : *object) count += count_names(pair.value());
  } else if (const auto* array = value.if_array()) {
    for (const auto& item : *array) count += count_names(item);
  }
  return count;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

json::value parse_json(std::string_view text) {
  if (text.empty()) throw Problem(ErrorCode::malformed_json, "The body is empty; a JSON object is expected.");
  json::parse_options options;
  options.max_depth = 32;
  json::basic_parser<Builder> parser(options);
  boost::system::error_code error;
  const std::size_t used = parser.write_some(false, text.data(), text.size(), error);
  if (!error && used < text.size()) error = json::error::extra_data;
  if (error) {
    throw Problem(ErrorCode::malformed_json,
                  "The body is not valid JSON at byte " + std::to_string(used) + ": " + error.message() + ".");
  }
  json::value document = parser.handler().stack.release();
  if (count_names(document) != parser.handler().names) {
    throw Problem(ErrorCode::malformed_json, "The body has an object with the same name twice.");
  }
  return document;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += plus_is_space && text[i] == '+' ? ' ' : text[i];
    }
  }
  if (out.find('\0') != std::string::npos || !is_utf8(out)) return std::nullopt;
  return out;
}

Pairs parse_query(std::string_view text) {
  Pairs pairs;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('&'), text.size());
    const std::string_view item = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (item.empty()) continue;
    const std::size_t equals = std::min(item.find('='), item.size());
    auto name = percent_decode(item.substr(0, equals), true);
    auto value = percent_decode(item.substr(std::min(equals + 1, item.size())), true);
    if (!name || !value) {
      throw Problem(ErrorCode::malformed_request, "A parameter holds a bad escape, NUL or bytes that are not UTF-8.");
    }
    for (const auto& pair : pairs) {
      if (pair.first == *name) {
        throw Problem(ErrorCode::duplicate_parameter, "The parameter '" + name->substr(0, 64) + "' stands twice.");
      }
    }
    if (pairs.size() == 100) throw Problem(ErrorCode::malformed_request, "There are more than 100 parameters.");
    pairs.emplace_back(std::move(*name), std::move(*value));
  }
  return pairs;
}

json::object nullable(json::object schema) {
  if (auto* type = schema.if_contains("type"); type != nullptr && type->is_string() && !schema.contains("enum")) {
    *type = json::array{*type, "null"};
    return schema;
  }
  return {{"anyOf", json::array{std::move(schema), json::object{{"type", "null"}}}}};
}

json::object described(json::object schema, std::string_view text) {
  if (!text.empty()) schema["description"] = text;
  return schema;
}

json::object reference_to(const std::string& name) { return {{"$ref", "#/components/schemas/" + name}}; }

json::object* SchemaBook::enter(const std::string& name, std::type_index type) {
  const auto [entry, is_new] = schemas_.try_emplace(name, type);
  if (is_new) return &entry->second.schema;
  if (entry->second.type != type) {
    throw std::logic_error("two types are " + name + " in the document: " + boost::core::demangle(type.name()) +
                           " and " + boost::core::demangle(entry->second.type.name()));
  }
  return nullptr;
}

json::object SchemaBook::take() {
  json::object all;
  for (auto& [name, entry] : schemas_) all[name] = std::move(entry.schema);
  schemas_.clear();
  return all;
}

}  // namespace hourz::reflect
