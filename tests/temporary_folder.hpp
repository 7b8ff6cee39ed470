// A folder of a test's own. In /tmp, since PostgreSQL's user must be able to enter every folder above its data, and the
// path of a socket must be short. Whoever makes it removes it.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace hourz {

inline std::filesystem::path make_temporary_folder(const std::string& name) {
  std::string path = "/tmp/hourz-" + name + "-" + std::string(6, 'X');
  if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("no folder " + path);
  return path;
}

}  // namespace hourz
