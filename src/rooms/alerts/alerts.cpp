#include "rooms/alerts/alerts.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <unordered_map>
#include <unordered_set>

#include "core/text.hpp"
#include "rooms/alerts/area_index.hpp"

namespace hourz::alerts {
namespace {

using gigs::News;
using gigs::Status;
using realtime::ClientEvent;
using realtime::Connection;
using realtime::Frame;
using realtime::Incoming;
using realtime::ServerEvent;
using realtime::Spread;

constexpr std::size_t most_announced = 1000;   // gigs that a watch remembers having announced
constexpr std::size_t most_versions = 20'000;  // gigs whose last news are remembered

struct AreaFilters {
  static constexpr std::array notes{
      Note{"q", "words of title and description, all of which must be there: as in the search of gigs"}};
  std::optional<Money> min_budget;
  std::optional<Money> max_budget;
  std::optional<Real<500, 24'000>> max_duration;
  std::optional<Text<1, 40>> category;
  std::optional<Text<1, 200>> q;
  std::optional<Timestamp> starts_after;
  std::optional<Timestamp> starts_before;

  static void check(const AreaFilters& filters, std::vector<Fault>& faults) {
    if (filters.min_budget && filters.max_budget && *filters.min_budget > *filters.max_budget) {
      faults.push_back({"filters.max_budget", "out_of_range", "must not be below min_budget"});
    }
    if (filters.starts_after && filters.starts_before && *filters.starts_after > *filters.starts_before) {
      faults.push_back({"filters.starts_before", "out_of_range", "must not be before starts_after"});
    }
    if (filters.q && search_terms(filters.q->value).empty()) {
      faults.push_back({"filters.q", "no_words", "must hold a word"});
    }
  }
};
BOOST_DESCRIBE_STRUCT(AreaFilters, (), (min_budget, max_budget, max_duration, category, q, starts_after, starts_before))

struct WatchArea {
  Latitude latitude;
  Longitude longitude;
  Real<100, 100'000> radius_km;
  std::optional<AreaFilters> filters;
};
BOOST_DESCRIBE_STRUCT(WatchArea, (), (latitude, longitude, radius_km, filters))

struct UnwatchArea {};
BOOST_DESCRIBE_STRUCT(UnwatchArea, (), ())

struct AreaWatched {
  static constexpr bool is_answer = true;
  double latitude, longitude, radius_km;
};
BOOST_DESCRIBE_STRUCT(AreaWatched, (), (latitude, longitude, radius_km))

struct AreaUnwatched {
  static constexpr bool is_answer = true;
};
BOOST_DESCRIBE_STRUCT(AreaUnwatched, (), ())

struct GigNews {
  static constexpr bool is_answer = true;
  gigs::Gig gig;
};
BOOST_DESCRIBE_STRUCT(GigNews, (), (gig))

/// What the other rooms have to say to a person, by these words in the outbox.
enum class NotificationKind { review_received, payment_held, payment_released, payment_refunded, payment_disputed };
BOOST_DESCRIBE_ENUM(NotificationKind, review_received, payment_held, payment_released, payment_refunded,
                    payment_disputed)

struct Notification {
  static constexpr bool is_answer = true;
  NotificationKind kind;
  Uuid gig_id;
};
BOOST_DESCRIBE_STRUCT(Notification, (), (kind, gig_id))

struct GigGone {
  static constexpr bool is_answer = true;
  Uuid gig_id;
};
BOOST_DESCRIBE_STRUCT(GigGone, (), (gig_id))

constexpr ServerEvent gig_nearby{"gig_nearby", "A gig has opened in the watched area and passes its filters"};
constexpr ServerEvent gig_gone{"gig_gone", "A gig in the watched area was taken, ended, or does not pass any more"};
constexpr ServerEvent gig_updated{"gig_updated", "A gig changed; told to its two sides"};
constexpr ServerEvent notification{
    "notification", "Something concerns the person: a review of them, or the payment of a gig of theirs"};
constexpr ServerEvent area_watched{"area_watched", "Answers a watch_area that has an id"};
constexpr ServerEvent area_unwatched{"area_unwatched", "Answers an unwatch_area that has an id"};

/// One connection's standing area.
struct Watch {
  Connection* connection;
  std::uint64_t key;
  Point middle;
  double radius_m;
  AreaFilters filters;
  std::vector<std::string> words;
  std::unordered_map<Uuid, std::uint64_t> announced;   // gig: which announcement
  std::deque<std::pair<Uuid, std::uint64_t>> order{};  // of announcing, some of them gone meanwhile
  std::uint64_t round = 0;                             // of telling in which it was concerned last
};

bool passes(const Watch& watch, const News& news) {
  const AreaFilters& filters = watch.filters;
  const gigs::Gig& gig = news.open_view;
  const auto contains = [&](const std::string& word) {
    return std::find(news.terms.begin(), news.terms.end(), word) != news.terms.end();
  };
  return (!filters.min_budget || gig.budget >= *filters.min_budget) &&
         (!filters.max_budget || gig.budget <= *filters.max_budget) &&
         (!filters.max_duration || gig.duration_hours <= filters.max_duration->value) &&
         (!filters.category || gig.category == filters.category->value) &&
         (!filters.starts_after || (gig.starts_at && *gig.starts_at >= *filters.starts_after)) &&
         (!filters.starts_before || (gig.starts_at && *gig.starts_at <= *filters.starts_before)) &&
         std::all_of(watch.words.begin(), watch.words.end(), contains);
}

/// The news of one gig with its frames, made once for all shards.
struct Told {
  News news;
  Frame updated, nearby, gone;
  bool is_open;
  bool has_just_left;         ///< was open before this, whether or not anybody was told so
  std::vector<Uuid> blocked;  ///< people to whom the gig does not exist
};

}  // namespace

struct Watches::State {
  explicit State(Metrics& metrics)
      : match_time(metrics.latency("hourz_alert_match_duration_seconds",
                                   "Time to find the standing areas that a gig's news concern, and to tell them.")),
        sent(metrics.counter("hourz_alerts_total", "Alerts for an area sent.")) {}

  AreaIndex index;
  std::unordered_map<std::uint64_t, std::unique_ptr<Watch>> watches;
  std::unordered_map<const Connection*, std::uint64_t> of_connection;
  std::unordered_set<const Connection*> hooked;                  // whose end is seen to already
  std::unordered_map<Uuid, std::unordered_set<Watch*>> told_of;  // gig: who was told that it opened
  std::uint64_t next_key = 1;
  std::uint64_t announcements = 0;
  std::uint64_t rounds = 0;
  std::vector<std::uint64_t> found;  // kept for its memory
  prometheus::Histogram& match_time;
  prometheus::Counter& sent;

  /// By value: the caller's id may be the very one that is erased.
  void forget(Watch& watch, Uuid gig) {
    watch.announced.erase(gig);
    const auto tellers = told_of.find(gig);
    if (tellers == told_of.end()) return;
    tellers->second.erase(&watch);
    if (tellers->second.empty()) told_of.erase(tellers);
  }

  void remove(const Connection* connection) {
    const auto key = of_connection.find(connection);
    if (key == of_connection.end()) return;
    Watch& watch = *watches.at(key->second);
    while (!watch.announced.empty()) forget(watch, watch.announced.begin()->first);
    index.erase(key->second);
    watches.erase(key->second);
    of_connection.erase(key);
  }

  void announce(Watch& watch, const Told& told) {
    const Uuid& gig = told.news.open_view.id;
    watch.announced[gig] = ++announcements;
    told_of[gig].insert(&watch);
    watch.order.emplace_back(gig, announcements);
    while (watch.order.size() > most_announced) {
      const auto [oldest, number] = watch.order.front();
      watch.order.pop_front();
      const auto known = watch.announced.find(oldest);
      if (known != watch.announced.end() && known->second == number) forget(watch, oldest);
    }
    watch.connection->send(told.nearby);
    sent.Increment();
  }

  void tell(const Told& told) {
    const gigs::Gig& gig = told.news.open_view;
    const auto may_know = [&](const Watch& watch) {
      const Uuid& user = watch.connection->user();
      return user != gig.seeker.id && std::find(told.blocked.begin(), told.blocked.end(), user) == told.blocked.end();
    };
    if (told.is_open || told.has_just_left) {
      found.clear();
      index.find({gig.latitude, gig.longitude}, found);
    } else {
      found.clear();
    }
    std::vector<Watch*> concerned;
    ++rounds;
    for (const std::uint64_t key : found) {
      Watch& watch = *watches.at(key);
      if (!passes(watch, told.news) || !may_know(watch)) continue;
      watch.round = rounds;
      concerned.push_back(&watch);
    }
    // Whoever was told of it: either it still concerns them, and they know, or it is gone for them.
    if (auto informed = told_of.extract(gig.id)) {
      std::unordered_set<Watch*> staying;
      for (Watch* watch : informed.mapped()) {
        const bool stays = told.is_open && watch->round == rounds;
        watch->round = 0;
        if (stays) {
          staying.insert(watch);
          continue;
        }
        watch->announced.erase(gig.id);
        watch->connection->send(told.gone);
        sent.Increment();
      }
      if (!staying.empty()) told_of.emplace(gig.id, std::move(staying));
    }
    for (Watch* watch : concerned) {
      if (watch->round != rounds) continue;
      if (told.is_open) {
        announce(*watch, told);
      } else {
        watch->connection->send(told.gone);
        sent.Increment();
      }
    }
  }
};

Watches::Watches(Metrics& metrics) : state_(std::make_unique<State>(metrics)) {}
Watches::~Watches() = default;

namespace {

constexpr ClientEvent watch_area{
    .name = "watch_area",
    .summary = "Hear of gigs that open in a circle and pass the filters; replaces the connection's area before",
    .answer = "area_watched",
    .errors = {ErrorCode::validation_failed}};
constexpr ClientEvent unwatch_area{
    .name = "unwatch_area", .summary = "Hear no more of gigs", .answer = "area_unwatched"};

Awaitable<void> take_watch(Watches& watches, Incoming& in, WatchArea area) {
  Watches::State& state = watches.state();
  state.remove(&in.from);
  auto watch = std::make_unique<Watch>();
  watch->connection = &in.from;
  watch->key = state.next_key++;
  watch->middle = {area.latitude.degrees, area.longitude.degrees};
  watch->radius_m = area.radius_km.value * 1000;
  if (area.filters) watch->filters = std::move(*area.filters);
  if (watch->filters.category) watch->filters.category->value = lower_case(watch->filters.category->value);
  if (watch->filters.q) watch->words = search_terms(watch->filters.q->value, 16);
  const std::uint64_t key = watch->key;
  state.index.insert(key, watch->middle, watch->radius_m);
  state.of_connection.emplace(&in.from, key);
  state.watches.emplace(key, std::move(watch));
  if (state.hooked.insert(&in.from).second) {
    in.from.on_close([&state, connection = &in.from] {
      state.remove(connection);
      state.hooked.erase(connection);
    });
  }
  if (!in.reply.empty()) {
    in.answer(area_watched, AreaWatched{area.latitude.degrees, area.longitude.degrees, area.radius_km.value});
  }
  co_return;
}

Awaitable<void> take_unwatch(Watches& watches, Incoming& in, UnwatchArea) {
  watches.state().remove(&in.from);
  if (!in.reply.empty()) in.answer(area_unwatched, AreaUnwatched{});
  co_return;
}

/// What was told last of each gig, so that two events that are read as one state are told once.
class Versions {
 public:
  enum class Was { unknown, open, gone };

  /// Nothing when this version is no news; else what the gig was before.
  std::optional<Was> note(const Uuid& gig, std::int64_t version, bool is_open) {
    if (known_.size() >= most_versions) known_.clear();
    const auto [entry, fresh] = known_.try_emplace(gig, Last{version, is_open});
    if (fresh) return Was::unknown;
    if (version <= entry->second.version) return std::nullopt;
    const Was was = entry->second.is_open ? Was::open : Was::gone;
    entry->second = {version, is_open};
    return was;
  }

 private:
  struct Last {
    std::int64_t version;
    bool is_open;
  };
  std::unordered_map<Uuid, Last> known_;
};

bool is_open(const News& news) { return news.open_view.status == Status::PENDING && !news.expired; }

Told told_of(News news, Versions::Was was) {
  Told told;
  const gigs::Gig& gig = news.open_view;
  told.is_open = is_open(news);
  // Where nothing is known of before, the state tells: these two come from PENDING alone.
  const bool comes_from_open = gig.status == Status::ACCEPTED || (gig.status == Status::CANCELLED && !gig.accepted_at);
  told.has_just_left =
      !told.is_open && (was == Versions::Was::open || (was == Versions::Was::unknown && comes_from_open));
  told.updated = realtime::frame_of(gig_updated, GigNews{news.own_view});
  told.nearby = realtime::frame_of(gig_nearby, GigNews{gig});
  told.gone = realtime::frame_of(gig_gone, GigGone{gig.id});
  told.news = std::move(news);
  return told;
}

/// What the feed's expander keeps. Of the first shard's thread.
struct Desk {
  realtime::Node* node;
  const std::vector<Watches*>* watches;
  Versions versions;
};

void tell_shard(const Desk& desk, std::size_t shard, const std::vector<Told>& all) {
  realtime::Hub& hub = desk.node->hub(shard);
  Watches::State& state = (*desk.watches)[shard]->state();
  for (const Told& told : all) {
    const gigs::Gig& gig = told.news.own_view;
    hub.to_user(gig.seeker.id, told.updated);
    if (gig.helper) hub.to_user(gig.helper->id, told.updated);
    if (state.watches.empty()) continue;
    const auto began = std::chrono::steady_clock::now();
    state.tell(told);
    state.match_time.Observe(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  }
}

constexpr std::size_t gigs_a_read = 500;

Awaitable<Spread> expand(std::shared_ptr<Desk> desk, db::Executor& db, std::vector<realtime::Event> events) {
  if (desk->node->sockets() == 0) co_return Spread();
  std::unordered_set<Uuid> seen;
  std::vector<Uuid> ids;
  for (const realtime::Event& event : events) {
    if (seen.insert(event.topic).second) ids.push_back(event.topic);
  }
  std::vector<News> found;
  for (std::size_t at = 0; at < ids.size(); at += gigs_a_read) {
    const std::size_t end = std::min(ids.size(), at + gigs_a_read);
    const auto first = ids.begin();
    for (News& news : co_await gigs::read_news(
             db, {first + static_cast<std::ptrdiff_t>(at), first + static_cast<std::ptrdiff_t>(end)})) {
      found.push_back(std::move(news));
    }
  }
  std::unordered_set<Uuid> seekers;
  for (const News& news : found) seekers.insert(news.open_view.seeker.id);
  std::unordered_map<Uuid, std::vector<Uuid>> blocks;
  for (const users::BlockedPair& pair : co_await users::blocks_of(db, {seekers.begin(), seekers.end()})) {
    blocks[pair.user_id].push_back(pair.other_id);
  }
  // Nothing is awaited from here on: what is noted is told.
  auto all = std::make_shared<std::vector<Told>>();
  for (News& news : found) {
    const auto was = desk->versions.note(news.open_view.id, news.open_view.version, is_open(news));
    if (!was) continue;
    Told told = told_of(std::move(news), *was);
    const auto blocked = blocks.find(told.news.open_view.seeker.id);
    if (blocked != blocks.end()) told.blocked = blocked->second;
    all->push_back(std::move(told));
  }
  if (all->empty()) co_return Spread();
  co_return [desk, all](std::size_t shard) { tell_shard(*desk, shard, *all); };
}

/// `person.told`: the topic is the person, the note a kind and a gig.
Awaitable<Spread> tell_people(realtime::Node* node, std::vector<realtime::Event> events) {
  std::vector<std::pair<Uuid, Frame>> frames;
  for (const realtime::Event& event : events) {
    const auto space = event.note.find(' ');
    Notification told{};
    const auto gig = parse_uuid(std::string_view(event.note).substr(space == std::string::npos ? 0 : space + 1));
    if (!gig || !boost::describe::enum_from_string(event.note.substr(0, space).c_str(), told.kind)) continue;
    told.gig_id = *gig;
    frames.emplace_back(event.topic, realtime::frame_of(notification, told));
  }
  if (frames.empty()) co_return Spread();
  co_return [node, frames = std::move(frames)](std::size_t shard) {
    for (const auto& [person, frame] : frames) node->hub(shard).to_user(person, frame);
  };
}

}  // namespace

void install_events(realtime::EventBook& book, Watches& watches) {
  book.on(watch_area, take_watch, watches);
  book.on(unwatch_area, take_unwatch, watches);
  book.sends<AreaWatched>(area_watched);
  book.sends<AreaUnwatched>(area_unwatched);
  book.sends<GigNews>(gig_nearby);
  book.sends<GigGone>(gig_gone);
  book.sends<GigNews>(gig_updated);
  book.sends<Notification>(notification);
}

void install_feed(realtime::Node& node, const std::vector<Watches*>& watches) {
  auto desk = std::make_shared<Desk>(Desk{&node, &watches, {}});
  node.on_event("gig.changed", [desk](db::Executor& db, std::vector<realtime::Event> events) {
    return expand(desk, db, std::move(events));
  });
  node.on_event("person.told", [&node](db::Executor&, std::vector<realtime::Event> events) {
    return tell_people(&node, std::move(events));
  });
}

}  // namespace hourz::alerts
