// One walker over described structs: JSON in with every fault at once, queries in, JSON out, schema.
//
// A struct is described with BOOST_DESCRIBE_STRUCT; its members are leaves (reflect/leaf.hpp), other described structs,
// or std::optional, WithDefault, Change, Omit, List and std::vector of those. A struct may have
// `static void check(const T&, std::vector<Fault>&)` for rules over several members, which runs when the members are
// sound, and `static constexpr std::array notes` of Note for the document.
#pragma once
#include <boost/core/demangle.hpp>
#include <boost/mp11.hpp>
#include <map>
#include <typeindex>

#include "core/problem.hpp"
#include "reflect/leaf.hpp"

namespace hourz {

/// A sentence about a member, for the document.
struct Note {
  std::string_view member;
  std::string_view text;
};

namespace reflect {

using Faults = std::vector<Fault>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

template <class T>
concept Described = boost::describe::has_describe_members<T>::value && !AnyLeaf<T>;

template <class T>
using MembersOf = boost::describe::describe_members<T, boost::describe::mod_public | boost::describe::mod_inherited>;

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_change = false;
template <class T>
inline constexpr bool is_change<Change<T>> = true;
template <class T>
inline constexpr bool is_omit = false;
template <class T>
inline constexpr bool is_omit<Omit<T>> = true;
template <class T>
inline constexpr bool is_default = false;
template <class T, std::int64_t D>
inline constexpr bool is_default<WithDefault<T, D>> = true;
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;
template <class T>
inline constexpr bool is_list = false;
template <class T, std::size_t Max>
inline constexpr bool is_list<List<T, Max>> = true;

template <class T, std::int64_t D>
T default_of(std::type_identity<WithDefault<T, D>>) {
  if constexpr (requires(T t) { t.value; }) {
    T made;
    if constexpr (std::is_floating_point_v<decltype(made.value)>) {
      made.value = D / 1000.0;
    } else {
      made.value = D;
    }
    return made;
  } else {
    return static_cast<T>(D);
  }
}

/// Where in a document the walker is; turned to text only when there is a fault to report.
struct Place {
  const Place* up = nullptr;
  std::string_view name;
  std::size_t index = 0;
  std::string text() const {
    std::string path = up != nullptr ? up->text() : std::string();
    if (up == nullptr) return path;
    if (name.empty()) return path + "[" + std::to_string(index) + "]";
    return path.empty() ? std::string(name) : path + "." + std::string(name);
  }
};

/// Parses strict JSON (RFC 8259): UTF-8, no duplicate names, at most 32 levels deep. Throws Problem malformed_json.
json::value parse_json(std::string_view text);

/// Splits and decodes `a=1&b=%20`. Throws Problem malformed_request for a bad escape, NUL or bytes that are not UTF-8,
/// duplicate_parameter for a name that stands twice. `+` is a space.
Pairs parse_query(std::string_view text);
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);

template <class T>
void read_value(const json::value& value, T& out, const Place& at, Faults& faults);

template <class T>
void read_object(const json::value& value, T& out, const Place& at, Faults& faults) {
  if (!value.is_object()) {
    faults.push_back({at.text(), "wrong_type", "must be an object"});
    return;
  }
  const json::object& object = value.get_object();
  const std::size_t before = faults.size();
  std::size_t known = 0;
  boost::mp11::mp_for_each<MembersOf<T>>([&](auto member) {
    auto& slot = out.*member.pointer;
    using Member = std::remove_cvref_t<decltype(slot)>;
    const Place here{&at, member.name};
    const auto found = object.find(member.name);
    if (found == object.end()) {
      if constexpr (is_default<Member>) {
        slot.value = default_of(std::type_identity<Member>{});
      } else if constexpr (!is_optional<Member> && !is_change<Member>) {
        faults.push_back({here.text(), "required", "is required"});
      }
      return;
    }
    ++known;
    read_value(found->value(), slot, here, faults);
  });
  if (known != object.size()) {
    for (const auto& pair : object) {
      bool mine = false;
      boost::mp11::mp_for_each<MembersOf<T>>([&](auto member) { mine = mine || pair.key() == member.name; });
      if (!mine) {
        const std::string_view key(pair.key());
        const std::string name(key.substr(0, 64));
        faults.push_back({Place{&at, name}.text(), "unknown_field", "is not a field of this request"});
      }
    }
  }
  if constexpr (requires { T::check(out, faults); }) {
    if (faults.size() == before) T::check(out, faults);
  }
}

template <class T>
void read_items(const json::value& value, std::vector<T>& out, std::size_t max, const Place& at, Faults& faults) {
  if (!value.is_array()) {
    faults.push_back({at.text(), "wrong_type", "must be an array"});
    return;
  }
  const json::array& array = value.get_array();
  if (array.size() > max) {
    faults.push_back({at.text(), "too_many", "must have at most " + std::to_string(max) + " items"});
    return;
  }
  for (std::size_t i = 0; i < array.size(); ++i) {
    T item{};
    read_value(array[i], item, Place{&at, {}, i}, faults);
    out.push_back(std::move(item));
  }
}

template <class T>
void read_value(const json::value& value, T& out, const Place& at, Faults& faults) {
  if constexpr (is_optional<T>) {
    if (!value.is_null()) read_value(value, out.emplace(), at, faults);
  } else if constexpr (is_change<T>) {
    read_value(value, out.to.emplace(), at, faults);
  } else if constexpr (is_default<T>) {
    read_value(value, out.value, at, faults);
  } else if constexpr (is_list<T>) {
    []<class U, std::size_t Max>(const json::value& v, List<U, Max>& list, const Place& p, Faults& f) {
      read_items(v, list.values, Max, p, f);
    }(value, out, at, faults);
  } else if constexpr (AnyLeaf<T>) {
    if (auto fault = Leaf<T>::read(value, out)) {
      faults.push_back({at.text(), std::string(fault->code), std::move(fault->message)});
    }
  } else {
    read_object(value, out, at, faults);
  }
}

/// A request body. Throws Problem: malformed_json, or validation_failed with every fault.
template <class T>
T read_json(std::string_view text) {
  const json::value document = parse_json(text);
  T out{};
  Faults faults;
  read_object(document, out, Place{}, faults);
  if (!faults.empty()) throw Problem(std::move(faults));
  return out;
}

/// A query, a form or the parameters of a path; `ignore_unknown` for forms whose other fields are not ours.
template <class T>
T read_pairs(const Pairs& pairs, bool ignore_unknown = false) {
  T out{};
  Faults faults;
  std::size_t known = 0;
  boost::mp11::mp_for_each<MembersOf<T>>([&](auto member) {
    auto& slot = out.*member.pointer;
    using Member = std::remove_cvref_t<decltype(slot)>;
    const auto found =
        std::find_if(pairs.begin(), pairs.end(), [&](const auto& pair) { return pair.first == member.name; });
    if (found == pairs.end()) {
      if constexpr (is_default<Member>) {
        slot.value = default_of(std::type_identity<Member>{});
      } else if constexpr (!is_optional<Member>) {
        faults.push_back({member.name, "required", "is required"});
      }
      return;
    }
    ++known;
    const auto read = [&](auto& target) {
      if (auto fault = Leaf<std::remove_cvref_t<decltype(target)>>::read_text(found->second, target)) {
        faults.push_back({member.name, std::string(fault->code), std::move(fault->message)});
      }
    };
    if constexpr (is_default<Member>) {
      read(slot.value);
    } else if constexpr (is_optional<Member>) {
      read(slot.emplace());
    } else {
      read(slot);
    }
  });
  if (!ignore_unknown && known != pairs.size()) {
    for (const auto& [name, value] : pairs) {
      bool mine = false;
      boost::mp11::mp_for_each<MembersOf<T>>([&](auto member) { mine = mine || name == member.name; });
      if (!mine) faults.push_back({name.substr(0, 64), "unknown_parameter", "is not a parameter of this request"});
    }
  }
  if constexpr (requires { T::check(out, faults); }) {
    if (faults.empty()) T::check(out, faults);
  }
  if (!faults.empty()) throw Problem(std::move(faults));
  return out;
}

// --- out -------------------------------------------------------------------------------------------------------------

template <class T>
void write_json(std::string& out, const T& value) {
  if constexpr (is_optional<T>) {
    if (value) {
      write_json(out, *value);
    } else {
      out += "null";
    }
  } else if constexpr (is_omit<T>) {
    write_json(out, *value.value);
  } else if constexpr (is_default<T>) {
    write_json(out, value.value);
  } else if constexpr (is_vector<T>) {
    out += '[';
    bool first = true;
    for (const auto& item : value) {
      if (!first) out += ',';
      first = false;
      write_json(out, item);
    }
    out += ']';
  } else if constexpr (AnyLeaf<T>) {
    Leaf<T>::write(out, value);
  } else {
    out += '{';
    bool first = true;
    boost::mp11::mp_for_each<MembersOf<T>>([&](auto member) {
      const auto& slot = value.*member.pointer;
      if constexpr (is_omit<std::remove_cvref_t<decltype(slot)>>) {
        if (!slot.value) return;
      }
      if (!first) out += ',';
      first = false;
      out += '"';
      out += member.name;
      out += "\":";
      write_json(out, slot);
    });
    out += '}';
  }
}

template <class T>
std::string to_json(const T& value) {
  std::string out;
  out.reserve(512);
  write_json(out, value);
  return out;
}

// --- schema ----------------------------------------------------------------------------------------------------------

/// Named schemas of a document; a type is entered once and referred to. Two types of one name would silently be one in
/// the document, so the second is refused (std::logic_error): every test that makes the document finds it.
class SchemaBook {
 public:
  /// Where the type's schema goes, or nullptr when it is entered already.
  json::object* enter(const std::string& name, std::type_index type);
  const json::object& at(const std::string& name) const { return schemas_.at(name).schema; }
  /// All of them by name. The book is empty afterwards.
  json::object take();

 private:
  struct Entry {
    std::type_index type;
    json::object schema;
  };
  std::map<std::string, Entry> schemas_;
};

/// An enum that a document shows by name, for clients that are generated from it, says which:
/// `constexpr std::string_view schema_name_of(std::type_identity<Status>) { return "GigStatus"; }` beside it.
template <class T>
concept NamedLeaf = AnyLeaf<T> && requires { schema_name_of(std::type_identity<T>{}); };

template <class T>
std::string schema_name() {
  std::string name = boost::core::demangle(typeid(T).name());
  const auto colon = name.rfind(':');
  return colon == std::string::npos ? name : name.substr(colon + 1);
}

template <class T>
json::object schema_of(SchemaBook& book);

template <class T>
std::string_view note_of(std::string_view member) {
  // A pointer to it is a plain one: a member of that name, as a buddy's notes, has a pointer to member.
  if constexpr (requires { requires std::is_pointer_v<decltype(&T::notes)>; }) {
    for (const Note& note : T::notes) {
      if (note.member == member) return note.text;
    }
  }
  return {};
}

/// A schema that takes null too.
json::object nullable(json::object schema);
json::object described(json::object schema, std::string_view text);
json::object reference_to(const std::string& name);

template <class T>
json::object schema_of(SchemaBook& book) {
  if constexpr (is_optional<T>) {
    return nullable(schema_of<typename T::value_type>(book));
  } else if constexpr (is_change<T>) {
    return schema_of<typename decltype(T::to)::value_type>(book);
  } else if constexpr (is_omit<T>) {
    return schema_of<typename decltype(T::value)::value_type>(book);
  } else if constexpr (is_default<T>) {
    auto schema = schema_of<decltype(T::value)>(book);
    std::string text;
    write_json(text, default_of(std::type_identity<T>{}));
    schema["default"] = json::parse(text);
    return schema;
  } else if constexpr (is_list<T>) {
    return []<class U, std::size_t Max>(std::type_identity<List<U, Max>>, SchemaBook& b) -> json::object {
      return {{"type", "array"}, {"items", schema_of<U>(b)}, {"maxItems", Max}};
    }(std::type_identity<T>{}, book);
  } else if constexpr (is_vector<T>) {
    return {{"type", "array"}, {"items", schema_of<typename T::value_type>(book)}};
  } else if constexpr (NamedLeaf<T>) {
    const std::string name(schema_name_of(std::type_identity<T>{}));
    if (auto* entry = book.enter(name, typeid(T))) *entry = Leaf<T>::schema();
    return reference_to(name);
  } else if constexpr (AnyLeaf<T>) {
    return Leaf<T>::schema();
  } else {
    const std::string name = schema_name<T>();
    if (auto* entry = book.enter(name, typeid(T))) {  // entered first, so that a struct may hold itself
      json::object properties;
      json::array required;
      boost::mp11::mp_for_each<MembersOf<T>>([&](auto member) {
        using Member = std::remove_cvref_t<decltype(std::declval<T&>().*member.pointer)>;
        properties[member.name] = described(schema_of<Member>(book), note_of<T>(member.name));
        if constexpr (!is_change<Member> && !is_omit<Member> && !is_default<Member>) {
          // In an answer an optional member is always there, as null; in a body it may be left out.
          if constexpr (!is_optional<Member> || requires { T::is_answer; }) required.emplace_back(member.name);
        }
      });
      constexpr bool takes_more = requires { T::ignores_others; };
      json::object schema{
          {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", takes_more}};
      if (!required.empty()) schema["required"] = std::move(required);
      *entry = std::move(schema);
    }
    return reference_to(name);
  }
}

}  // namespace reflect
}  // namespace hourz
