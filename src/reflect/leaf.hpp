// How single values are read, written and described. `Leaf<T>` is the one place that knows a type's wire form: its
// range, its fault codes, its JSON, its schema. Parsing is validating; a value that exists is a valid one.
#pragma once
#include <boost/describe.hpp>
#include <boost/json.hpp>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/geo.hpp"
#include "core/ids.hpp"
#include "core/json_text.hpp"
#include "core/money.hpp"
#include "core/problem.hpp"
#include "core/text.hpp"
#include "core/time.hpp"

namespace hourz {

/// A whole number from Min to Max.
template <std::int64_t Min, std::int64_t Max>
struct Integer {
  std::int64_t value = Min;
};

/// A finite number from Min to Max thousandths: `Real<100, 100'000>` is 0.1 to 100. `Step` (thousandths) 0: any.
template <std::int64_t MinMilli, std::int64_t MaxMilli, std::int64_t StepMilli = 0>
struct Real {
  double value = MinMilli / 1000.0;
};

/// A member of a query or body that may be left out, and then has a value: `WithDefault<Integer<1, 100>, 20>`. The
/// default of a Real is in thousandths.
template <class T, std::int64_t Default>
struct WithDefault {
  T value;
};

/// A member of a partial body: absent means leave alone. `Change<std::optional<T>>` takes null to clear.
template <class T>
struct Change {
  std::optional<T> to;
  explicit operator bool() const { return to.has_value(); }
};

/// A member of an answer that is left out when empty (a plain optional is written as null).
template <class T>
struct Omit {
  std::optional<T> value;
};

/// A list of at most Max items in a body.
template <class T, std::size_t Max>
struct List {
  std::vector<T> values;
};

/// An email address: trimmed, case-folded (NFKC), one @, a host with a dot; at most 254 bytes (RFC 5321).
struct Email {
  std::string value;
};

/// A secret of Min..Max code points: never written out, never trimmed, taken in normal form C.
template <std::size_t Min, std::size_t Max>
struct Secret {
  std::string value;
};

/// A phone number: E.164, or Thai national (0 and 8 or 9 digits); kept as E.164.
struct Phone {
  std::string value;
};

namespace reflect {

namespace json = boost::json;

struct LeafFault {
  std::string_view code;
  std::string message;
};
using LeafResult = std::optional<LeafFault>;

void write_double(std::string& out, double value);

// The non-template halves of what follows.
LeafResult read_boolean(std::string_view text, bool& out);
LeafResult read_integer(const json::value& value, std::int64_t min, std::int64_t max, std::int64_t& out);
LeafResult read_integer(std::string_view text, std::int64_t min, std::int64_t max, std::int64_t& out);
LeafResult read_real(const json::value& value, double min, double max, double step, double& out);
LeafResult read_real(std::string_view text, double min, double max, double step, double& out);
LeafResult read_text(std::string_view text, std::size_t min, std::size_t max, std::string& out);
LeafResult read_line(std::string_view text, std::size_t min, std::size_t max, std::string& out);
LeafResult read_secret(std::string_view text, std::size_t min, std::size_t max, std::string& out);
LeafResult read_email(std::string_view text, std::string& out);
LeafResult read_phone(std::string_view text, std::string& out);
LeafResult read_money(const json::value& value, Money& out);
LeafResult read_money(std::string_view text, Money& out);
LeafResult read_uuid(std::string_view text, Uuid& out);
LeafResult read_time(std::string_view text, Timestamp& out);
json::object number_schema(double min, double max);
json::object string_schema(std::size_t min, std::size_t max);
json::object line_schema(std::size_t min, std::size_t max);

template <class T>
struct Leaf;

/// For leaves that are JSON strings: reading JSON is reading the text inside.
template <class T, class Self>
struct StringLeaf {
  static LeafResult read(const json::value& value, T& out) {
    if (!value.is_string()) return LeafFault{"wrong_type", "must be a string"};
    return Self::read_text(std::string_view(value.get_string()), out);
  }
};

template <>
struct Leaf<bool> {
  static LeafResult read(const json::value& value, bool& out) {
    if (!value.is_bool()) return LeafFault{"wrong_type", "must be true or false"};
    out = value.get_bool();
    return {};
  }
  static LeafResult read_text(std::string_view text, bool& out) { return read_boolean(text, out); }
  static void write(std::string& out, bool value) { out += value ? "true" : "false"; }
  static json::object schema() { return {{"type", "boolean"}}; }
};

template <class Int>
  requires(std::same_as<Int, std::int32_t> || std::same_as<Int, std::int64_t>)
struct Leaf<Int> {
  static void write(std::string& out, Int value) { out += std::to_string(value); }
  static json::object schema() { return {{"type", "integer"}}; }
};

template <>
struct Leaf<double> {
  static void write(std::string& out, double value) { write_double(out, value); }
  static json::object schema() { return {{"type", "number"}}; }
};

template <>
struct Leaf<std::string> : StringLeaf<std::string, Leaf<std::string>> {
  static LeafResult read_text(std::string_view text, std::string& out) {
    return reflect::read_text(text, 0, 65536, out);
  }
  static void write(std::string& out, const std::string& value) { append_json_string(out, value); }
  static json::object schema() { return {{"type", "string"}}; }
};

template <std::int64_t Min, std::int64_t Max>
struct Leaf<Integer<Min, Max>> {
  using T = Integer<Min, Max>;
  static LeafResult read(const json::value& value, T& out) { return read_integer(value, Min, Max, out.value); }
  static LeafResult read_text(std::string_view text, T& out) { return read_integer(text, Min, Max, out.value); }
  static void write(std::string& out, const T& value) { out += std::to_string(value.value); }
  static json::object schema() { return {{"type", "integer"}, {"minimum", Min}, {"maximum", Max}}; }
};

template <std::int64_t Min, std::int64_t Max, std::int64_t Step>
struct Leaf<Real<Min, Max, Step>> {
  using T = Real<Min, Max, Step>;
  static LeafResult read(const json::value& value, T& out) {
    return read_real(value, Min / 1000.0, Max / 1000.0, Step / 1000.0, out.value);
  }
  static LeafResult read_text(std::string_view text, T& out) {
    return read_real(text, Min / 1000.0, Max / 1000.0, Step / 1000.0, out.value);
  }
  static void write(std::string& out, const T& value) { write_double(out, value.value); }
  static json::object schema() {
    auto schema = number_schema(Min / 1000.0, Max / 1000.0);
    if (Step != 0) schema["multipleOf"] = Step / 1000.0;
    return schema;
  }
};

template <std::size_t Min, std::size_t Max>
struct Leaf<Text<Min, Max>> : StringLeaf<Text<Min, Max>, Leaf<Text<Min, Max>>> {
  using T = Text<Min, Max>;
  static LeafResult read_text(std::string_view text, T& out) { return reflect::read_text(text, Min, Max, out.value); }
  static void write(std::string& out, const T& value) { append_json_string(out, value.value); }
  static json::object schema() { return string_schema(Min, Max); }
};

template <std::size_t Min, std::size_t Max>
struct Leaf<Line<Min, Max>> : StringLeaf<Line<Min, Max>, Leaf<Line<Min, Max>>> {
  using T = Line<Min, Max>;
  static LeafResult read_text(std::string_view text, T& out) { return read_line(text, Min, Max, out.value); }
  static void write(std::string& out, const T& value) { append_json_string(out, value.value); }
  static json::object schema() { return line_schema(Min, Max); }
};

template <std::size_t Min, std::size_t Max>
struct Leaf<Secret<Min, Max>> : StringLeaf<Secret<Min, Max>, Leaf<Secret<Min, Max>>> {
  using T = Secret<Min, Max>;
  static LeafResult read_text(std::string_view text, T& out) { return read_secret(text, Min, Max, out.value); }
  static json::object schema() {
    auto schema = string_schema(Min, Max);
    schema["format"] = "password";
    return schema;
  }
};

template <>
struct Leaf<Email> : StringLeaf<Email, Leaf<Email>> {
  static LeafResult read_text(std::string_view text, Email& out) { return read_email(text, out.value); }
  static void write(std::string& out, const Email& value) { append_json_string(out, value.value); }
  static json::object schema() { return {{"type", "string"}, {"format", "email"}, {"maxLength", 254}}; }
};

template <>
struct Leaf<Phone> : StringLeaf<Phone, Leaf<Phone>> {
  static LeafResult read_text(std::string_view text, Phone& out) { return read_phone(text, out.value); }
  static void write(std::string& out, const Phone& value) { append_json_string(out, value.value); }
  static json::object schema() {
    return {{"type", "string"}, {"maxLength", 32}, {"description", "E.164, or Thai national; kept as E.164"}};
  }
};

template <>
struct Leaf<Uuid> : StringLeaf<Uuid, Leaf<Uuid>> {
  static LeafResult read_text(std::string_view text, Uuid& out) { return read_uuid(text, out); }
  static void write(std::string& out, const Uuid& id) {
    out += '"';
    out += to_string(id);
    out += '"';
  }
  static json::object schema() { return {{"type", "string"}, {"format", "uuid"}}; }
};

template <>
struct Leaf<Timestamp> : StringLeaf<Timestamp, Leaf<Timestamp>> {
  static LeafResult read_text(std::string_view text, Timestamp& out) { return read_time(text, out); }
  static void write(std::string& out, Timestamp time) {
    out += '"';
    out += to_string(time);
    out += '"';
  }
  static json::object schema() { return {{"type", "string"}, {"format", "date-time"}}; }
};

template <>
struct Leaf<Money> {
  static LeafResult read(const json::value& value, Money& out) { return read_money(value, out); }
  static LeafResult read_text(std::string_view text, Money& out) { return read_money(text, out); }
  static void write(std::string& out, Money amount) { out += to_string(amount); }
  static json::object schema() {
    auto schema = number_schema(0, Money::maximum_satang / 100);
    schema["description"] = "baht, at most two decimals";
    return schema;
  }
};

template <>
struct Leaf<Latitude> {
  static LeafResult read(const json::value& value, Latitude& out) { return read_real(value, -90, 90, 0, out.degrees); }
  static LeafResult read_text(std::string_view text, Latitude& out) { return read_real(text, -90, 90, 0, out.degrees); }
  static void write(std::string& out, Latitude value) { write_double(out, value.degrees); }
  static json::object schema() { return number_schema(-90, 90); }
};

template <>
struct Leaf<Longitude> {
  static LeafResult read(const json::value& value, Longitude& out) {
    return read_real(value, -180, 180, 0, out.degrees);
  }
  static LeafResult read_text(std::string_view text, Longitude& out) {
    return read_real(text, -180, 180, 0, out.degrees);
  }
  static void write(std::string& out, Longitude value) { write_double(out, value.degrees); }
  static json::object schema() { return number_schema(-180, 180); }
};

/// Described enums: capitals on the wire, any case in input.
template <class T>
  requires(std::is_enum_v<T> && boost::describe::has_describe_enumerators<T>::value)
struct Leaf<T> : StringLeaf<T, Leaf<T>> {
  static LeafResult read_text(std::string_view text, T& out) {
    bool found = false;
    std::string upper(text.substr(0, 64));
    for (char& c : upper) {
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    }
    std::string allowed;
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<T>>([&](auto enumerator) {
      if (upper == enumerator.name) {
        out = enumerator.value;
        found = true;
      }
      allowed += (allowed.empty() ? "" : ", ") + std::string(enumerator.name);
    });
    if (!found) return LeafFault{"not_in_list", "must be one of " + allowed};
    return {};
  }
  static void write(std::string& out, T value) {
    out += '"';
    out += boost::describe::enum_to_string(value, "");
    out += '"';
  }
  static json::object schema() {
    json::array names;
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<T>>(
        [&](auto enumerator) { names.emplace_back(enumerator.name); });
    return {{"type", "string"}, {"enum", std::move(names)}};
  }
};

/// Of answers alone: the stable word of the table.
template <>
struct Leaf<ErrorCode> {
  static void write(std::string& out, ErrorCode code) {
    out += '"';
    out += info_of(code).word;
    out += '"';
  }
  static json::object schema() {
    json::array words;
    for (const ErrorInfo& info : error_table) words.emplace_back(info.word);
    return {{"type", "string"},
            {"description", "Stable: go by this. /docs/errors says what each means."},
            {"enum", std::move(words)}};
  }
};

/// A leaf that can be read from text (a query, a path).
template <class T>
concept TextLeaf = requires(std::string_view text, T& out) { Leaf<T>::read_text(text, out); };

template <class T>
concept AnyLeaf = requires { Leaf<T>::schema(); };

}  // namespace reflect
}  // namespace hourz
