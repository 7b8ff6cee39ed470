#include "rooms/chat/floor.hpp"

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "rooms/chat/seat.hpp"
#include "rooms/chat/wire_events.hpp"

namespace hourz::chat {

using realtime::Connection;
using realtime::Frame;
using Clock = std::chrono::steady_clock;

struct Floor::State : std::enable_shared_from_this<Floor::State> {
  /// One side's receipts as a connection has heard them.
  struct Receipts {
    std::int64_t told = 0;  ///< the marker, as this connection knows it
    std::int64_t held = 0;  ///< newer, while an answer is on its way that may say as much
    Frame frame{};          ///< of what is held
    bool waits = true;

    void hear(Connection& connection, std::int64_t seq, const Frame& news) {
      if (seq <= std::max(told, held)) return;
      if (waits) {
        held = seq;
        frame = news;
      } else {
        told = seq;
        connection.send(news);
      }
    }

    /// The answer was sent, and said `seq`.
    void go_on(Connection& connection, std::int64_t seq) {
      waits = false;
      told = std::max(told, seq);
      if (held > told) connection.send(std::move(frame));
      told = std::max(told, std::exchange(held, 0));
      frame = {};
    }
  };
  struct Place {
    Connection* connection;
    Uuid user;
    Seat<Frame> seat;
    Receipts own{}, other{};
    bool entered = false;   ///< a join has ended well, and presence knows
    int silences_then = 0;  ///< heard when the join under way began
  };
  struct Typist {
    Uuid user;
    Clock::time_point until;
    Clock::time_point said;  ///< when one of ours last said so
  };
  struct Here {
    std::vector<Place> places;
    std::vector<Typist> typing;
    bool silenced = false;  ///< a block stands between the two sides
    int silences = 0;       ///< how often a block was heard of
  };

  State(Parts& shared, boost::asio::io_context& io, std::size_t index) : parts(shared), shard(index), timer(io) {}

  Parts& parts;
  const std::size_t shard;
  boost::asio::steady_timer timer;  ///< runs while somebody types
  bool ticking = false;
  std::unordered_map<Uuid, Here> rooms;
  std::unordered_map<Connection*, std::vector<Uuid>> joined;
  std::unordered_map<Uuid, std::vector<Uuid>> online;  ///< who is present in which room, wherever

  Place* find(const Connection& connection, const Uuid& room) {
    const auto here = rooms.find(room);
    if (here == rooms.end()) return nullptr;
    for (Place& place : here->second.places) {
      if (place.connection == &connection) return &place;
    }
    return nullptr;
  }

  void add(Connection& connection, const Uuid& room) {
    auto [mine, first] = joined.try_emplace(&connection);
    if (mine->second.size() >= rooms_at_most) throw Problem(ErrorCode::too_many_rooms);
    if (first) {
      connection.on_close([weak = weak_from_this(), who = &connection] {
        if (const auto state = weak.lock()) state->forget(*who);
      });
    }
    mine->second.push_back(room);
    rooms[room].places.push_back({&connection, connection.user(), {}, {}, {}, false, 0});
    parts.interest.add(room);
  }

  /// Takes the seat away; the connection's list of rooms is the caller's.
  void remove(const Connection& connection, const Uuid& room) {
    const auto here = rooms.find(room);
    if (here == rooms.end()) return;
    auto& places = here->second.places;
    const auto place =
        std::find_if(places.begin(), places.end(), [&](const Place& one) { return one.connection == &connection; });
    if (place == places.end()) return;
    const bool entered = place->entered;
    const Uuid user = place->user;
    if (&*place != &places.back()) *place = std::move(places.back());
    places.pop_back();
    if (places.empty()) rooms.erase(here);
    parts.interest.remove(room);
    if (entered && parts.presence) parts.presence->leave(room, user);
  }

  void forget(Connection& connection) {
    const auto mine = joined.find(&connection);
    if (mine == joined.end()) return;
    const std::vector<Uuid> left = std::move(mine->second);
    joined.erase(mine);
    for (const Uuid& room : left) remove(connection, room);
  }

  static void send_to_others(const Here& here, const Uuid& user, const Frame& frame) {
    for (const Place& place : here.places) {
      if (place.entered && place.user != user) place.connection->send(frame);
    }
  }

  static Typist* typist(Here& here, const Uuid& user) {
    const auto found =
        std::find_if(here.typing.begin(), here.typing.end(), [&](const Typist& one) { return one.user == user; });
    return found == here.typing.end() ? nullptr : &*found;
  }

  void stop_typing(const Uuid& room, Here& here, const Uuid& user) {
    const auto erased = std::erase_if(here.typing, [&](const Typist& one) { return one.user == user; });
    if (erased != 0) send_to_others(here, user, realtime::frame_of(typing_shown, TypingShown{room, user, false}));
  }

  void set_silenced(const Uuid& room, Here& here, bool silenced) {
    if (here.silenced == silenced) return;
    while (!here.typing.empty()) stop_typing(room, here, Uuid(here.typing.back().user));
    here.silenced = silenced;
    const auto present = online.find(room);
    if (present == online.end()) return;
    for (const Uuid& user : present->second) {
      send_to_others(here, user, realtime::frame_of(presence_shown, PresenceShown{room, user, !silenced}));
    }
  }

  void tick_later() {
    if (ticking) return;
    ticking = true;
    timer.expires_after(std::chrono::milliseconds(250));
    timer.async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
      const auto state = weak.lock();
      if (!state) return;
      state->ticking = false;
      if (!ec) state->tick();
    });
  }

  void tick() {
    const auto now = Clock::now();
    bool more = false;
    for (auto& [room, here] : rooms) {
      std::vector<Uuid> over;
      for (const Typist& one : here.typing) {
        if (one.until <= now) over.push_back(one.user);
      }
      for (const Uuid& user : over) stop_typing(room, here, user);
      more = more || !here.typing.empty();
    }
    if (more) tick_later();
  }
};

Floor::Floor(Parts& parts, boost::asio::io_context& io, std::size_t shard)
    : state_(std::make_shared<State>(parts, io, shard)) {
  if (parts.floors.size() <= shard) parts.floors.resize(shard + 1);
  parts.floors[shard] = this;
}

Floor::~Floor() {
  state_->parts.floors[state_->shard] = nullptr;
  state_->timer.cancel();
}

void Floor::deliver(const Uuid& room, std::int64_t seq, const Frame& frame) {
  const auto here = state_->rooms.find(room);
  if (here == state_->rooms.end()) return;
  for (State::Place& place : here->second.places) {
    switch (place.seat.arrive(seq, frame)) {
      case Verdict::send:
        place.connection->send(frame);
        break;
      case Verdict::gap:
        place.connection->close(realtime::CloseCode::resume, "messages were missed: come back and resume");
        break;
      case Verdict::hold:
      case Verdict::drop:
        break;
    }
  }
}

void Floor::show_receipt(const Uuid& room, const Uuid& user, std::int64_t seq, const Frame& frame) {
  const auto here = state_->rooms.find(room);
  if (here == state_->rooms.end()) return;
  for (State::Place& place : here->second.places) {
    if (here->second.silenced && place.user != user) continue;
    (place.user == user ? place.own : place.other).hear(*place.connection, seq, frame);
  }
}

void Floor::begin_mark(const Connection& connection, const Uuid& room) {
  if (State::Place* place = state_->find(connection, room)) place->own.waits = true;
}

void Floor::end_mark(Connection& connection, const Uuid& room, std::int64_t seq) noexcept {
  State::Place* place = state_->find(connection, room);
  if (place != nullptr && place->entered) place->own.go_on(connection, seq);
}

void Floor::show_presence(const Uuid& room, const Uuid& user, bool online) {
  auto& present = state_->online[room];
  std::erase(present, user);
  if (online) present.push_back(user);
  if (present.empty()) state_->online.erase(room);
  const auto here = state_->rooms.find(room);
  if (here == state_->rooms.end() || here->second.silenced) return;
  if (!online) state_->stop_typing(room, here->second, user);
  State::send_to_others(here->second, user, realtime::frame_of(presence_shown, PresenceShown{room, user, online}));
}

void Floor::silence(const Uuid& room, bool silenced) {
  const auto here = state_->rooms.find(room);
  if (here == state_->rooms.end()) return;
  ++here->second.silences;
  state_->set_silenced(room, here->second, silenced);
}

void Floor::show_typing(const Uuid& room, const Uuid& user, bool is_typing) {
  const auto here = state_->rooms.find(room);
  if (here == state_->rooms.end() || here->second.silenced) return;
  if (!is_typing) {
    state_->stop_typing(room, here->second, user);
    return;
  }
  const auto until = Clock::now() + typing_lasts;
  if (State::Typist* known = State::typist(here->second, user)) {
    known->until = until;
  } else {
    here->second.typing.push_back({user, until, {}});
  }
  State::send_to_others(here->second, user, realtime::frame_of(typing_shown, TypingShown{room, user, true}));
  state_->tick_later();
}

void Floor::begin_join(Connection& connection, const Uuid& room) {
  if (state_->find(connection, room) == nullptr) state_->add(connection, room);
  State::Place& place = *state_->find(connection, room);
  place.seat.begin_reading();
  place.silences_then = state_->rooms.at(room).silences;
}

void Floor::end_join(Connection& connection, const Uuid& room, const Missed& missed, Frame joined) {
  State::Place* place = state_->find(connection, room);
  if (place == nullptr) return;
  State::Here& here = state_->rooms.at(room);
  // What was heard while it was read is no older than what was read.
  if (place->silences_then == here.silences) state_->set_silenced(room, here, missed.silenced);
  connection.send(std::move(joined));
  const auto present = state_->online.find(room);
  if (present != state_->online.end() && !here.silenced) {
    for (const Uuid& user : present->second) {
      if (user != place->user) connection.send(presence_shown, PresenceShown{room, user, true});
    }
  }
  if (!place->entered && state_->parts.presence) state_->parts.presence->enter(room, place->user);
  place->entered = true;
  place->own.go_on(connection, 0);
  place->other.go_on(connection, 0);
  auto rest = place->seat.end_reading(missed.last_seq);
  for (Frame& frame : rest.items) connection.send(std::move(frame));
  if (rest.gap) connection.close(realtime::CloseCode::resume, "messages were missed: come back and resume");
}

void Floor::cancel_join(Connection& connection, const Uuid& room) noexcept {
  State::Place* place = state_->find(connection, room);
  if (place == nullptr) return;
  if (!place->entered) {
    leave(connection, room);
    return;
  }
  auto rest = place->seat.end_reading(place->seat.last());
  for (Frame& frame : rest.items) connection.send(std::move(frame));
  if (rest.gap) connection.close(realtime::CloseCode::resume, "messages were missed: come back and resume");
}

void Floor::leave(Connection& connection, const Uuid& room) {
  state_->remove(connection, room);
  const auto mine = state_->joined.find(&connection);
  if (mine != state_->joined.end()) std::erase(mine->second, room);
}

void Floor::say_typing(Connection& connection, const Uuid& room, bool is_typing) {
  const State::Place* place = state_->find(connection, room);
  if (place == nullptr || !place->entered) throw Problem(ErrorCode::not_joined);
  const Uuid user = place->user;
  State::Here& here = state_->rooms.at(room);
  if (here.silenced) return;
  State::Typist* known = State::typist(here, user);
  const auto now = Clock::now();
  if (is_typing) {
    // Said again and again while keys are pressed; now and then is enough to keep it up.
    if (known != nullptr && now - known->said < typing_pause) return;
    if (known == nullptr) {
      here.typing.push_back({user, now + typing_lasts, now});
      state_->tick_later();
    } else {
      known->said = now;
    }
  } else if (known == nullptr) {
    return;
  }
  state_->parts.node->say("typing", reflect::to_json(TypingShown{room, user, is_typing}));
}

void Floor::wake() { state_->parts.node->wake(); }

}  // namespace hourz::chat
