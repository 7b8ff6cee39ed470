// Hourz's own version. CMakeLists.txt takes it from here for the packages.
#pragma once

namespace hourz {

inline constexpr const char* version = "0.1.0";

}  // namespace hourz
