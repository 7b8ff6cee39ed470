// Writing JSON strings by hand: for log lines and for the walker's answers.
#pragma once
#include <string>
#include <string_view>

namespace hourz {

/// Appends `text`, which must be UTF-8, quoted and escaped; DEL and the C0 controls too, so that a terminal that shows
/// a log is safe.
void append_json_string(std::string& out, std::string_view text);

}  // namespace hourz
