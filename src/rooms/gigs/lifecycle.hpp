// The life of a gig: who may take it from where to where. This table is the only place that says so: handlers ask it,
// the problem document's `allowed` and the documentation are made from it, and a test holds the database's own guard
// (gigs_guard in the migrations) against it.
#pragma once
#include <array>
#include <boost/describe.hpp>
#include <optional>
#include <string_view>
#include <vector>

namespace hourz::gigs {

enum class Status { PENDING, ACCEPTED, IN_PROGRESS, COMPLETED, CANCELLED };
BOOST_DESCRIBE_ENUM(Status, PENDING, ACCEPTED, IN_PROGRESS, COMPLETED, CANCELLED)
constexpr std::string_view schema_name_of(std::type_identity<Status>) { return "GigStatus"; }

enum class Action { CREATE, CHANGE, ACCEPT, WITHDRAW, START, COMPLETE, CANCEL, EXPIRE };
BOOST_DESCRIBE_ENUM(Action, CREATE, CHANGE, ACCEPT, WITHDRAW, START, COMPLETE, CANCEL, EXPIRE)
constexpr std::string_view schema_name_of(std::type_identity<Action>) { return "GigAction"; }

/// What somebody is to a gig. `stranger` is anybody who could accept it.
enum class Side { seeker, helper, stranger, clock };

struct Transition {
  Status from;
  Status to;
  Side who;
  Action action;
  bool reason_needed = false;
};

inline constexpr std::array transitions{
    Transition{Status::PENDING, Status::ACCEPTED, Side::stranger, Action::ACCEPT},
    Transition{Status::PENDING, Status::CANCELLED, Side::seeker, Action::CANCEL},
    Transition{Status::PENDING, Status::CANCELLED, Side::clock, Action::EXPIRE},
    Transition{Status::ACCEPTED, Status::PENDING, Side::helper, Action::WITHDRAW},
    Transition{Status::ACCEPTED, Status::IN_PROGRESS, Side::helper, Action::START},
    Transition{Status::ACCEPTED, Status::IN_PROGRESS, Side::seeker, Action::START},
    Transition{Status::ACCEPTED, Status::CANCELLED, Side::seeker, Action::CANCEL},
    Transition{Status::IN_PROGRESS, Status::COMPLETED, Side::helper, Action::COMPLETE},
    Transition{Status::IN_PROGRESS, Status::COMPLETED, Side::seeker, Action::COMPLETE},
    Transition{Status::IN_PROGRESS, Status::CANCELLED, Side::seeker, Action::CANCEL, true},
    Transition{Status::IN_PROGRESS, Status::CANCELLED, Side::helper, Action::CANCEL, true},
};

/// The transition, if this side may make it.
constexpr std::optional<Transition> find_transition(Status from, Status to, Side who) {
  for (const Transition& transition : transitions) {
    if (transition.from == from && transition.to == to && transition.who == who) return transition;
  }
  return std::nullopt;
}

/// Where this side may take a gig that is `from`.
inline std::vector<Status> allowed_from(Status from, Side who) {
  std::vector<Status> allowed;
  for (const Transition& transition : transitions) {
    if (transition.from == from && transition.who == who) allowed.push_back(transition.to);
  }
  return allowed;
}

}  // namespace hourz::gigs
