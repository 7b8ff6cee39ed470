#include "reflect/leaf.hpp"

#include <charconv>
#include <cmath>
#include <limits>

namespace hourz::reflect {
namespace {

std::string shown(double value) {
  std::string text;
  write_double(text, value);
  return text;
}

LeafFault out_of_range(const std::string& min, const std::string& max) {
  return {"out_of_range", "must be from " + min + " to " + max};
}

/// Plain decimal notation only: no hexadecimal, no `inf`, no leading `+`.
bool parse_decimal(std::string_view text, double& out) {
  if (text.empty() || text.size() > 64 || text.find_first_not_of("0123456789.-eE+") != std::string_view::npos) {
    return false;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size() && std::isfinite(out);
}

LeafResult check_real(double value, double min, double max, double step, double& out) {
  if (!std::isfinite(value)) return LeafFault{"not_finite", "must be a finite number"};
  if (value < min || value > max) return out_of_range(shown(min), shown(max));
  if (step > 0 && std::remainder(value, step) != 0)
    return LeafFault{"not_a_step", "must be a multiple of " + shown(step)};
  out = value == 0 ? 0 : value;  // -0 is 0
  return {};
}

std::optional<double> number_in(const json::value& value) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  return std::nullopt;
}

}  // namespace

void write_double(std::string& out, double value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  out.append(text, error == std::errc{} ? end : text);
}

LeafResult read_boolean(std::string_view text, bool& out) {
  if (text == "true" || text == "1") {
    out = true;
  } else if (text == "false" || text == "0") {
    out = false;
  } else {
    return LeafFault{"wrong_type", "must be true or false"};
  }
  return {};
}

LeafResult read_integer(const json::value& value, std::int64_t min, std::int64_t max, std::int64_t& out) {
  std::int64_t number = 0;
  if (value.is_int64()) {
    number = value.get_int64();
  } else if (value.is_uint64()) {
    return out_of_range(std::to_string(min), std::to_string(max));
  } else if (value.is_double()) {
    const double real = value.get_double();
    if (real != std::floor(real) || std::fabs(real) > 9007199254740992.0) {
      return LeafFault{"wrong_type", "must be a whole number"};
    }
    number = static_cast<std::int64_t>(real);
  } else {
    return LeafFault{"wrong_type", "must be a whole number"};
  }
  if (number < min || number > max) return out_of_range(std::to_string(min), std::to_string(max));
  out = number;
  return {};
}

LeafResult read_integer(std::string_view text, std::int64_t min, std::int64_t max, std::int64_t& out) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) return out_of_range(std::to_string(min), std::to_string(max));
  if (error != std::errc{} || end != text.data() + text.size()) {
    return LeafFault{"wrong_type", "must be a whole number"};
  }
  if (number < min || number > max) return out_of_range(std::to_string(min), std::to_string(max));
  out = number;
  return {};
}

LeafResult read_real(const json::value& value, double min, double max, double step, double& out) {
  const auto number = number_in(value);
  if (!number) return LeafFault{"wrong_type", "must be a number"};
  return check_real(*number, min, max, step, out);
}

LeafResult read_real(std::string_view text, double min, double max, double step, double& out) {
  double number = 0;
  if (!parse_decimal(text, number)) return LeafFault{"wrong_type", "must be a number"};
  return check_real(number, min, max, step, out);
}

LeafResult read_text(std::string_view text, std::size_t min, std::size_t max, std::string& out) {
  if (!is_utf8(text)) return LeafFault{"not_utf8", "must be UTF-8"};
  if (find_forbidden(text)) {
    return LeafFault{"forbidden_character", "must not hold control characters or direction overrides"};
  }
  std::string normal = normalise(text);
  const std::size_t length = count_code_points(normal);
  if (length < min) {
    return LeafFault{length == 0 ? "empty" : "too_short", "must have at least " + std::to_string(min) + " characters"};
  }
  if (length > max) return LeafFault{"too_long", "must have at most " + std::to_string(max) + " characters"};
  out = std::move(normal);
  return {};
}

LeafResult read_line(std::string_view text, std::size_t min, std::size_t max, std::string& out) {
  std::string line;
  if (auto fault = read_text(text, min, max, line)) return fault;
  for (const std::string_view end : {"\n", "\t", "\u2028", "\u2029"}) {
    if (line.find(end) != std::string::npos) return LeafFault{"forbidden_character", "must be one line, without tabs"};
  }
  out = std::move(line);
  return {};
}

LeafResult read_secret(std::string_view text, std::size_t min, std::size_t max, std::string& out) {
  // Bounded before anything costs: a megabyte of password is refused without being looked at.
  if (text.size() > max * 16) return LeafFault{"too_long", "must have at most " + std::to_string(max) + " characters"};
  if (!is_utf8(text)) return LeafFault{"not_utf8", "must be UTF-8"};
  if (text.find('\0') != std::string_view::npos) return LeafFault{"forbidden_character", "must not hold NUL"};
  // Counted in normal form: the same password has one length, whichever way a keyboard spells its accents.
  std::string normal = normal_form_c(text);
  const std::size_t length = count_code_points(normal);
  if (length < min) return LeafFault{"too_short", "must have at least " + std::to_string(min) + " characters"};
  if (length > max) return LeafFault{"too_long", "must have at most " + std::to_string(max) + " characters"};
  out = std::move(normal);
  return {};
}

LeafResult read_email(std::string_view text, std::string& out) {
  const LeafFault wrong{"not_an_email", "must be an email address"};
  if (text.size() > 512 || !is_utf8(text) || find_forbidden(text)) return wrong;
  std::string folded = fold_case(normalise(text));
  const auto at = folded.find('@');
  if (folded.size() > 254 || at == std::string::npos || at == 0 || at > 64 ||
      folded.find('@', at + 1) != std::string::npos) {
    return wrong;
  }
  const std::string_view local = std::string_view(folded).substr(0, at);
  const std::string_view host = std::string_view(folded).substr(at + 1);
  // RFC 5321's dot-string: no quoted local parts, which no mail service hands out.
  for (const char c : local) {
    if (static_cast<unsigned char>(c) <= 0x20 || std::string_view("\"(),:;<>[\\]").find(c) != std::string_view::npos) {
      return wrong;
    }
  }
  if (local.front() == '.' || local.back() == '.' || local.find("..") != std::string_view::npos) return wrong;
  if (host.find('.') == std::string_view::npos) return wrong;
  std::size_t start = 0;
  while (start <= host.size()) {
    const std::size_t dot = std::min(host.find('.', start), host.size());
    const std::string_view label = host.substr(start, dot - start);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return wrong;
    for (const char c : label) {
      const bool fine =
          (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || static_cast<unsigned char>(c) >= 0x80;
      if (!fine) return wrong;
    }
    start = dot + 1;
  }
  out = std::move(folded);
  return {};
}

LeafResult read_phone(std::string_view text, std::string& out) {
  const LeafFault wrong{"not_a_phone_number", "must be E.164 (+66…) or Thai national (0 and 8 or 9 digits)"};
  if (text.size() > 32) return wrong;
  std::string digits;
  bool international = false;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      digits += c;
    } else if (c == '+' && digits.empty() && !international) {
      international = true;
    } else if (c != ' ' && c != '-' && c != '(' && c != ')') {
      return wrong;
    }
  }
  if (international) {
    if (digits.size() < 8 || digits.size() > 15 || digits.front() == '0' || digits.starts_with("660")) return wrong;
    out = "+" + digits;
  } else {
    if (digits.size() < 9 || digits.size() > 10 || digits[0] != '0' || digits[1] == '0') return wrong;
    out = "+66" + digits.substr(1);
  }
  return {};
}

namespace {

/// `text` is the shortest decimal that gives the number back, so a third decimal shows.
LeafResult money_from(double baht, Money& out) {
  if (!std::isfinite(baht)) return LeafFault{"not_finite", "must be a finite number"};
  if (baht < 0 || baht > static_cast<double>(Money::maximum_satang / 100)) return out_of_range("0", "10000000");
  const std::int64_t satang = std::llround(baht * 100);
  if (static_cast<double>(satang) / 100 != baht) {
    return LeafFault{"too_many_decimals", "must have at most two decimals"};
  }
  out.satang = satang;
  return {};
}

}  // namespace

LeafResult read_money(const json::value& value, Money& out) {
  const auto number = number_in(value);
  if (!number) return LeafFault{"wrong_type", "must be a number of baht"};
  return money_from(*number, out);
}

LeafResult read_money(std::string_view text, Money& out) {
  double number = 0;
  if (!parse_decimal(text, number)) return LeafFault{"wrong_type", "must be a number of baht"};
  return money_from(number, out);
}

LeafResult read_uuid(std::string_view text, Uuid& out) {
  const auto id = parse_uuid(text);
  if (!id) return LeafFault{"not_a_uuid", "must be a UUID"};
  out = *id;
  return {};
}

LeafResult read_time(std::string_view text, Timestamp& out) {
  const auto time = parse_timestamp(text);
  if (!time) return LeafFault{"not_a_time", "must be an RFC 3339 time with a zone and at most microseconds"};
  out = *time;
  return {};
}

json::object number_schema(double min, double max) {
  const auto plain = [](double value) -> json::value {
    if (value == std::floor(value) && std::fabs(value) < 1e15) return static_cast<std::int64_t>(value);
    return value;
  };
  return {{"type", "number"}, {"minimum", plain(min)}, {"maximum", plain(max)}};
}

json::object string_schema(std::size_t min, std::size_t max) {
  json::object schema{{"type", "string"}};
  if (min != 0) schema["minLength"] = min;
  schema["maxLength"] = max;
  return schema;
}

json::object line_schema(std::size_t min, std::size_t max) {
  json::object schema = string_schema(min, max);
  schema["pattern"] = R"(^[^\t\n\u2028\u2029]*$)";
  return schema;
}

}  // namespace hourz::reflect
