#include "rooms/uploads/picture_process.hpp"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "core/log.hpp"
#include "core/problem.hpp"
#include "core/process.hpp"
#include "rooms/uploads/uploads.hpp"

namespace hourz::uploads {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::chrono::seconds longest{120};
constexpr rlim_t processor_s = 30;

// What the child says: an object with `made`, `problem` or `cause`.

json::object to_json(const MadeFile& file) { return {{"size", file.size}, {"sha256", file.sha256}}; }

json::object to_json(const MadePicture& made) {
  return {{"type", static_cast<int>(made.type)},
          {"width", made.width},
          {"height", made.height},
          {"picture", to_json(made.picture)},
          {"thumbnail", to_json(made.thumbnail)}};
}

json::object to_json(const Problem& problem) {
  json::array faults;
  for (const Fault& fault : problem.faults) faults.push_back({fault.field, fault.code, fault.message});
  return {{"code", static_cast<int>(problem.code)}, {"detail", problem.detail}, {"faults", std::move(faults)}};
}

MadeFile to_file(const json::value& said) {
  return {said.at("size").to_number<std::uint64_t>(), std::string(said.at("sha256").as_string())};
}

MadePicture to_picture(const json::object& said) {
  return {static_cast<ImageType>(said.at("type").to_number<int>()), said.at("width").to_number<int>(),
          said.at("height").to_number<int>(), to_file(said.at("picture")), to_file(said.at("thumbnail"))};
}

Problem to_problem(const json::object& said) {
  Problem problem(static_cast<ErrorCode>(said.at("code").to_number<int>()), std::string(said.at("detail").as_string()));
  for (const json::value& each : said.at("faults").as_array()) {
    const auto& fault = each.as_array();
    problem.faults.push_back({std::string(fault.at(0).as_string()), std::string(fault.at(1).as_string()),
                              std::string(fault.at(2).as_string())});
  }
  return problem;
}

/// The line of JSON that the child ended with; whatever else it said came before.
json::object last_line(std::string_view output) {
  output = output.substr(0, output.find_last_not_of('\n') + 1);
  return json::parse(output.substr(output.find_last_of('\n') + 1)).as_object();
}

process::Outcome run_child(const fs::path& source, const fs::path& picture, const fs::path& thumbnail) {
  process::Command command;
  // Its own file, also where a newer version has taken its name meanwhile.
  command.arguments = {"/proc/self/exe", std::string(picture_command), source, picture, thumbnail};
  // Large pictures that lie on their side pass through a temporary file.
  if (const char* folder = std::getenv("TMPDIR")) command.environment.push_back(std::string("TMPDIR=") + folder);
  return process::run(command, process::Identity{}, longest);
}

}  // namespace

MadePicture make_picture_apart(const fs::path& source, const fs::path& picture, const fs::path& thumbnail) {
  std::string cause;
  std::optional<Problem> problem;
  try {
    const process::Outcome outcome = run_child(source, picture, thumbnail);
    if (outcome.ok()) {
      const json::object said = last_line(outcome.output);
      if (const auto* made = said.if_contains("made")) return to_picture(made->as_object());
      if (const auto* refused = said.if_contains("problem")) {
        problem.emplace(to_problem(refused->as_object()));
      } else {
        cause = said.at("cause").as_string();
      }
    } else {
      cause = outcome.timed_out ? "took too long" : process::describe_exit(outcome.status);
    }
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    cause = error.what();
  }
  if (problem) throw std::move(*problem);
  log::Line(log::Level::warn, "picture.not_made").with("cause", cause);
  throw Problem(ErrorCode::service_unavailable, "Pictures cannot be made just now.").retry_after(2);
}

void make_picture_and_exit(const std::vector<std::string>& paths) {
  const rlimit time{processor_s, processor_s};
  setrlimit(RLIMIT_CPU, &time);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  // Where the machine runs out of memory, this goes and not the server or its database.
  std::ofstream("/proc/self/oom_score_adj") << 900;
  json::object said;
  try {
    if (paths.size() != 3) throw std::runtime_error("make-picture takes three paths");
    said["made"] = to_json(make_picture(paths[0], paths[1], paths[2]));
  } catch (const Problem& problem) {
    said["problem"] = to_json(problem);
  } catch (const std::exception& error) {
    said["cause"] = error.what();
  }
  const std::string line = "\n" + json::serialize(said) + "\n";
  const bool told = write(STDOUT_FILENO, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  _exit(told ? 0 : 1);  // nothing here is worth taking down in good order
}

}  // namespace hourz::uploads
