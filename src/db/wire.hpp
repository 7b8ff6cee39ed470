// Between C++ values and PostgreSQL's binary format. `Wire<T>` gives a type's OID and its two directions; a described
// struct is a row, its members found by column name.
#pragma once
#include <libpq-fe.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/describe.hpp>
#include <boost/mp11.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/geo.hpp"
#include "core/ids.hpp"
#include "core/money.hpp"
#include "core/text.hpp"
#include "core/time.hpp"
#include "db/statement.hpp"

namespace hourz::db {

/// PostgreSQL's own numbers of its types (catalog/pg_type.dat), fixed for all versions.
namespace oid {
inline constexpr Oid boolean = 16, int8 = 20, int2 = 21, int4 = 23, text = 25, float8 = 701, timestamptz = 1184,
                     uuid = 2950, jsonb = 3802, bytea = 17, text_array = 1009, uuid_array = 2951, int8_array = 1016,
                     int4_array = 1007, float8_array = 1022, boolean_array = 1000, timestamptz_array = 1185;

/// The array type of an element type; 0 when there is none here.
constexpr Oid array_of(Oid element) {
  switch (element) {
    case text:
      return text_array;
    case uuid:
      return uuid_array;
    case int8:
      return int8_array;
    case int4:
      return int4_array;
    case float8:
      return float8_array;
    case boolean:
      return boolean_array;
    case timestamptz:
      return timestamptz_array;
    default:
      return 0;
  }
}
}  // namespace oid

/// Encoded parameters: one buffer, and for each its place in it, or null.
class Parameters {
 public:
  void reserve(std::size_t count) { items_.reserve(count); }
  void null(Oid type) { items_.push_back({type, 0, -1}); }
  /// Opens a value; the bytes appended to buffer() until finish() are it.
  std::string& buffer() { return bytes_; }
  void finish(Oid type, std::size_t start) {
    items_.push_back({type, start, static_cast<int>(bytes_.size() - start)});
    bytes_.push_back('\0');  // keeps an empty value's address valid and apart
  }
  std::size_t size() const { return items_.size(); }
  Oid type(std::size_t i) const { return items_[i].type; }
  const char* data(std::size_t i) const { return items_[i].length < 0 ? nullptr : bytes_.data() + items_[i].start; }
  int length(std::size_t i) const { return items_[i].length < 0 ? 0 : items_[i].length; }
  /// Reorders so that the parameter at `order[i]` comes i-th.
  void permute(std::span<const std::size_t> order) {
    std::vector<Item> sorted;
    sorted.reserve(order.size());
    for (const std::size_t from : order) sorted.push_back(items_[from]);
    items_ = std::move(sorted);
  }

 private:
  struct Item {
    Oid type;
    std::size_t start;
    int length;
  };
  std::string bytes_;
  std::vector<Item> items_;
};

/// Owns a PGresult of binary columns.
class Result {
 public:
  Result() = default;
  explicit Result(PGresult* raw) : raw_(raw) {}
  PGresult* get() const { return raw_.get(); }
  int rows() const { return raw_ ? PQntuples(raw_.get()) : 0; }
  int columns() const { return raw_ ? PQnfields(raw_.get()) : 0; }
  /// The bytes of a value, or nothing for NULL.
  std::optional<std::string_view> value(int row, int column) const {
    if (PQgetisnull(raw_.get(), row, column) != 0) return std::nullopt;
    return std::string_view(PQgetvalue(raw_.get(), row, column),
                            static_cast<std::size_t>(PQgetlength(raw_.get(), row, column)));
  }
  std::int64_t affected() const {
    const char* text = raw_ ? PQcmdTuples(raw_.get()) : "";
    return *text == '\0' ? 0 : std::strtoll(text, nullptr, 10);
  }

 private:
  struct Clear {
    void operator()(PGresult* raw) const { PQclear(raw); }
  };
  std::unique_ptr<PGresult, Clear> raw_;
};

/// Thrown when bytes do not fit their type: statement and struct disagree, which the statement test finds first.
struct WireError : std::exception {
  std::string text;
  explicit WireError(std::string what) : text(std::move(what)) {}
  const char* what() const noexcept override { return text.c_str(); }
};

template <class Int>
void put_int(std::string& out, Int value) {
  for (int shift = int(sizeof(Int)) * 8 - 8; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(static_cast<std::make_unsigned_t<Int>>(value) >> shift));
  }
}

template <class Int>
Int get_int(std::string_view bytes) {
  if (bytes.size() != sizeof(Int)) throw WireError("a number of another width");
  std::make_unsigned_t<Int> value = 0;
  for (const char c : bytes) {
    value = static_cast<std::make_unsigned_t<Int>>((static_cast<std::uint64_t>(value) << 8) |
                                                   static_cast<unsigned char>(c));
  }
  return static_cast<Int>(value);
}

template <class T>
struct Wire;  // type, encode(out, value), decode(bytes)

template <>
struct Wire<bool> {
  static constexpr Oid type = oid::boolean;
  static void encode(std::string& out, bool value) { out.push_back(value ? 1 : 0); }
  static bool decode(std::string_view bytes) { return get_int<std::int8_t>(bytes) != 0; }
};

template <class Int, Oid Type>
struct IntegerWire {
  static constexpr Oid type = Type;
  static void encode(std::string& out, Int value) { put_int(out, value); }
  static Int decode(std::string_view bytes) { return get_int<Int>(bytes); }
};
template <>
struct Wire<std::int16_t> : IntegerWire<std::int16_t, oid::int2> {};
template <>
struct Wire<std::int32_t> : IntegerWire<std::int32_t, oid::int4> {};
template <>
struct Wire<std::int64_t> : IntegerWire<std::int64_t, oid::int8> {};

template <>
struct Wire<double> {
  static constexpr Oid type = oid::float8;
  static void encode(std::string& out, double value) { put_int(out, std::bit_cast<std::int64_t>(value)); }
  static double decode(std::string_view bytes) { return std::bit_cast<double>(get_int<std::int64_t>(bytes)); }
};

template <>
struct Wire<std::string> {
  static constexpr Oid type = oid::text;
  static void encode(std::string& out, const std::string& value) { out += value; }
  static std::string decode(std::string_view bytes) { return std::string(bytes); }
};

template <std::size_t Min, std::size_t Max>
struct Wire<Text<Min, Max>> {
  static constexpr Oid type = oid::text;
  static void encode(std::string& out, const Text<Min, Max>& text) { out += text.value; }
  static Text<Min, Max> decode(std::string_view bytes) { return {std::string(bytes)}; }
};

template <std::size_t Min, std::size_t Max>
struct Wire<Line<Min, Max>> {
  static constexpr Oid type = oid::text;
  static void encode(std::string& out, const Line<Min, Max>& text) { out += text.value; }
  static Line<Min, Max> decode(std::string_view bytes) { return {std::string(bytes)}; }
};

template <>
struct Wire<Uuid> {
  static constexpr Oid type = oid::uuid;
  static void encode(std::string& out, const Uuid& id) {
    out.append(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
  }
  static Uuid decode(std::string_view bytes) {
    Uuid id;
    if (bytes.size() != id.bytes.size()) throw WireError("not a uuid");
    std::memcpy(id.bytes.data(), bytes.data(), bytes.size());
    return id;
  }
};

template <>
struct Wire<Timestamp> {
  static constexpr Oid type = oid::timestamptz;
  static constexpr std::int64_t epoch = 946'684'800'000'000;  ///< 2000-01-01, where PostgreSQL counts from
  static constexpr std::int64_t latest = std::numeric_limits<std::int64_t>::max() - epoch;
  static void encode(std::string& out, Timestamp time) { put_int(out, time.microseconds - epoch); }
  static Timestamp decode(std::string_view bytes) {
    const auto since = get_int<std::int64_t>(bytes);
    // PostgreSQL's two infinities lie here.
    if (since > latest || since == std::numeric_limits<std::int64_t>::min()) throw WireError("a time without end");
    return {since + epoch};
  }
};

template <>
struct Wire<Money> {
  static constexpr Oid type = oid::int8;
  static void encode(std::string& out, Money amount) { put_int(out, amount.satang); }
  static Money decode(std::string_view bytes) { return {get_int<std::int64_t>(bytes)}; }
};

template <>
struct Wire<Latitude> {
  static constexpr Oid type = oid::float8;
  static void encode(std::string& out, Latitude value) { Wire<double>::encode(out, value.degrees); }
  static Latitude decode(std::string_view bytes) { return {Wire<double>::decode(bytes)}; }
};
template <>
struct Wire<Longitude> {
  static constexpr Oid type = oid::float8;
  static void encode(std::string& out, Longitude value) { Wire<double>::encode(out, value.degrees); }
  static Longitude decode(std::string_view bytes) { return {Wire<double>::decode(bytes)}; }
};

/// Bytes that are not text: a hash, a fingerprint.
struct Bytes {
  std::string value;
  bool operator==(const Bytes&) const = default;
};
template <>
struct Wire<Bytes> {
  static constexpr Oid type = oid::bytea;
  static void encode(std::string& out, const Bytes& bytes) { out += bytes.value; }
  static Bytes decode(std::string_view bytes) { return {std::string(bytes)}; }
};

/// A one-dimensional array without NULLs, as array_send() writes it.
template <class T>
  requires requires { Wire<T>::type; }
struct Wire<std::vector<T>> {
  static constexpr Oid element = Wire<T>::type;
  static constexpr Oid type = oid::array_of(element);
  static_assert(type != 0, "no array type for this element");
  static void encode(std::string& out, const std::vector<T>& values) {
    put_int<std::int32_t>(out, values.empty() ? 0 : 1);  // dimensions
    put_int<std::int32_t>(out, 0);                       // no NULLs
    put_int<std::int32_t>(out, static_cast<std::int32_t>(element));
    if (values.empty()) return;
    put_int<std::int32_t>(out, static_cast<std::int32_t>(values.size()));
    put_int<std::int32_t>(out, 1);  // lower bound
    for (const T& value : values) {
      const std::size_t at = out.size();
      put_int<std::int32_t>(out, 0);
      Wire<T>::encode(out, value);
      const auto length = static_cast<std::uint32_t>(out.size() - at - 4);
      for (int i = 0; i < 4; ++i) out[at + static_cast<std::size_t>(i)] = static_cast<char>(length >> (24 - 8 * i));
    }
  }
  static std::vector<T> decode(std::string_view bytes) {
    const auto take = [&bytes](std::size_t count) {
      if (bytes.size() < count) throw WireError("an array cut short");
      const std::string_view front = bytes.substr(0, count);
      bytes.remove_prefix(count);
      return front;
    };
    std::vector<T> values;
    const auto dimensions = get_int<std::int32_t>(take(4));
    take(8);
    if (dimensions == 0) return values;
    if (dimensions != 1) throw WireError("an array of more dimensions");
    const auto count = get_int<std::int32_t>(take(4));
    take(4);
    values.reserve(std::min<std::size_t>(static_cast<std::size_t>(std::max(count, 0)), bytes.size() / 4));
    for (std::int32_t i = 0; i < count; ++i) {
      const auto length = get_int<std::int32_t>(take(4));
      if (length < 0) throw WireError("NULL in an array");
      values.push_back(Wire<T>::decode(take(static_cast<std::size_t>(length))));
    }
    return values;
  }
};

/// Described enums travel as their names, in text columns with a CHECK.
template <class T>
  requires(std::is_enum_v<T> && boost::describe::has_describe_enumerators<T>::value)
struct Wire<T> {
  static constexpr Oid type = oid::text;
  static void encode(std::string& out, T value) { out += boost::describe::enum_to_string(value, ""); }
  static T decode(std::string_view bytes) {
    T value{};
    const std::string name(bytes);
    if (!boost::describe::enum_from_string(name.c_str(), value)) throw WireError("no such enumerator: " + name);
    return value;
  }
};

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <class T>
struct Wire<std::optional<T>> {
  static constexpr Oid type = Wire<T>::type;
};

template <class T>
concept Row = boost::describe::has_describe_members<T>::value && !std::is_enum_v<T> && !requires { Wire<T>::type; };

template <class T>
void encode_parameter(Parameters& out, const T& value) {
  if constexpr (is_optional<T>) {
    if (value) {
      encode_parameter(out, *value);
    } else {
      out.null(Wire<T>::type);
    }
  } else {
    const std::size_t start = out.buffer().size();
    Wire<T>::encode(out.buffer(), value);
    out.finish(Wire<T>::type, start);
  }
}

template <class T>
T decode_value(const Result& result, int row, int column) {
  const auto bytes = result.value(row, column);
  if constexpr (is_optional<T>) {
    if (!bytes) return std::nullopt;
    return Wire<typename T::value_type>::decode(*bytes);
  } else {
    if (!bytes) throw WireError(std::string("NULL in column ") + PQfname(result.get(), column));
    return Wire<T>::decode(*bytes);
  }
}

template <class T>
using Members = boost::describe::describe_members<T, boost::describe::mod_public | boost::describe::mod_inherited>;

/// For each member in order, its column in the result.
template <class T>
using ColumnOrder = std::array<int, boost::mp11::mp_size<Members<T>>::value>;

template <class T>
ColumnOrder<T> column_order(const Result& result) {
  ColumnOrder<T> order{};
  int i = 0;
  boost::mp11::mp_for_each<Members<T>>([&](auto member) {
    // Most statements name their columns in the struct's order.
    const char* here = PQfname(result.get(), i);
    const int column =
        here != nullptr && std::strcmp(here, member.name) == 0 ? i : PQfnumber(result.get(), member.name);
    if (column < 0) throw WireError(std::string("no column ") + member.name);
    order[static_cast<std::size_t>(i++)] = column;
  });
  return order;
}

template <class T>
auto order_of(const Result& result) {
  if constexpr (Row<T>) {
    return column_order<T>(result);
  } else {
    return std::array<int, 0>{};
  }
}

template <class T>
T decode_row(const Result& result, int row, std::span<const int> order) {
  if constexpr (Row<T>) {
    T value{};
    std::size_t i = 0;
    boost::mp11::mp_for_each<Members<T>>([&](auto member) {
      using Member = std::remove_cvref_t<decltype(value.*member.pointer)>;
      value.*member.pointer = decode_value<Member>(result, row, order[i++]);
    });
    return value;
  } else {
    return decode_value<T>(result, row, 0);
  }
}

template <class T>
std::vector<T> decode_rows(const Result& result) {
  std::vector<T> rows;
  if (result.rows() == 0) return rows;
  rows.reserve(static_cast<std::size_t>(result.rows()));
  const auto order = order_of<T>(result);
  for (int i = 0; i < result.rows(); ++i) rows.push_back(decode_row<T>(result, i, order));
  return rows;
}

template <class T>
std::optional<T> decode_first(const Result& result) {
  if (result.rows() == 0) return std::nullopt;
  const auto order = order_of<T>(result);
  return decode_row<T>(result, 0, order);
}

/// For each parameter of the statement, the place of its name among the members. Throws WireError when a parameter has
/// no member; members that the statement does not take are left out.
std::vector<std::size_t> parameter_order(const Statement& statement, std::span<const std::string_view> members);

template <class T>
std::vector<std::string_view> member_names() {
  std::vector<std::string_view> names;
  boost::mp11::mp_for_each<Members<T>>([&](auto member) { names.emplace_back(member.name); });
  return names;
}

template <class... Ps>
Parameters encode_parameters(const Statement& statement, const Ps&... ps) {
  Parameters out;
  if constexpr (sizeof...(Ps) == 1 && (Row<Ps> && ...)) {
    const auto encode = [&](const auto& value) {
      using T = std::remove_cvref_t<decltype(value)>;
      // One order per struct and statement: a struct may serve several statements.
      thread_local std::vector<std::pair<const Statement*, std::vector<std::size_t>>> orders;
      auto found = std::find_if(orders.begin(), orders.end(), [&](const auto& o) { return o.first == &statement; });
      if (found == orders.end()) {
        const auto names = member_names<T>();
        orders.emplace_back(&statement, parameter_order(statement, names));
        found = orders.end() - 1;
      }
      out.reserve(found->second.size());
      boost::mp11::mp_for_each<Members<T>>([&](auto member) { encode_parameter(out, value.*member.pointer); });
      out.permute(found->second);
    };
    (encode(ps), ...);
  } else {
    out.reserve(sizeof...(Ps));
    (encode_parameter(out, ps), ...);
  }
  return out;
}

template <class... Ps>
std::vector<std::pair<std::string, Oid>> parameter_types(const Statement& statement) {
  std::vector<std::pair<std::string, Oid>> types;
  if constexpr (sizeof...(Ps) == 1 && (Row<Ps> && ...)) {
    const auto add = [&]<class T>(std::type_identity<T>) {
      boost::mp11::mp_for_each<Members<T>>([&](auto member) {
        using Member = std::remove_cvref_t<decltype(std::declval<T>().*member.pointer)>;
        types.emplace_back(member.name, Wire<Member>::type);
      });
      const auto names = member_names<T>();
      std::vector<std::pair<std::string, Oid>> sorted;
      for (const std::size_t from : parameter_order(statement, names)) sorted.push_back(types[from]);
      types = std::move(sorted);
    };
    (add(std::type_identity<Ps>{}), ...);
  } else {
    (types.emplace_back("", Wire<Ps>::type), ...);
  }
  return types;
}

template <class T>
std::vector<std::pair<std::string, Oid>> column_types() {
  std::vector<std::pair<std::string, Oid>> types;
  if constexpr (Row<T>) {
    boost::mp11::mp_for_each<Members<T>>([&](auto member) {
      using Member = std::remove_cvref_t<decltype(std::declval<T>().*member.pointer)>;
      types.emplace_back(member.name, Wire<Member>::type);
    });
  } else if constexpr (requires { Wire<T>::type; }) {
    types.emplace_back("", Wire<T>::type);
  }
  return types;
}

}  // namespace hourz::db
