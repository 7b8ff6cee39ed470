#include "rooms/gigs/gigs.hpp"

#include "core/geo.hpp"
#include "core/text.hpp"
#include "gigs_sql.hpp"
#include "http/cursor.hpp"
#include "rooms/gigs/rows.hpp"

namespace hourz::gigs {
namespace {

using http::Body;
using http::Call;
using http::Effect;
using http::Endpoint;
using http::Method;
using http::Path;
using http::Query;

// --- rows ------------------------------------------------------------------------------------------------------------

struct NewRow {
  Uuid id, viewer;
  std::string title, description;
  std::optional<std::string> category;
  double duration_hours;
  Money budget;
  double latitude, longitude, public_latitude, public_longitude;
  std::int32_t cell_x, cell_y;
  std::optional<std::string> address_text;
  std::vector<std::string> image_urls, terms;
  std::optional<Timestamp> starts_at, expires_at;
};
BOOST_DESCRIBE_STRUCT(NewRow, (),
                      (id, viewer, title, description, category, duration_hours, budget, latitude, longitude,
                       public_latitude, public_longitude, cell_x, cell_y, address_text, image_urls, terms, starts_at,
                       expires_at))

struct ChangeRow : NewRow {
  bool set_title, set_description, set_terms, set_category, set_duration_hours, set_budget, set_location,
      set_address_text, set_image_urls, set_starts_at, set_expires_at;
};
BOOST_DESCRIBE_STRUCT(ChangeRow, (NewRow),
                      (set_title, set_description, set_terms, set_category, set_duration_hours, set_budget,
                       set_location, set_address_text, set_image_urls, set_starts_at, set_expires_at))

struct TextsRow {
  std::string title, description;
};
BOOST_DESCRIBE_STRUCT(TextsRow, (), (title, description))

struct SidesRow {
  Uuid seeker_id;
  std::optional<Uuid> helper_id;
};
BOOST_DESCRIBE_STRUCT(SidesRow, (), (seeker_id, helper_id))

struct MineRow {
  Uuid viewer;
  std::optional<Status> status;
  Timestamp before;
  Uuid before_id;
  std::int64_t page;
};
BOOST_DESCRIBE_STRUCT(MineRow, (), (viewer, status, before, before_id, page))

struct MineCount {
  Uuid viewer;
  std::optional<Status> status;
  bool as_seeker, as_helper;
};
BOOST_DESCRIBE_STRUCT(MineCount, (), (viewer, status, as_seeker, as_helper))

struct EventPage {
  Uuid gig_id;
  std::int64_t after_version, page;
};
BOOST_DESCRIBE_STRUCT(EventPage, (), (gig_id, after_version, page))

struct Pair {
  Uuid one, other;
};
BOOST_DESCRIBE_STRUCT(Pair, (), (one, other))

struct OneAndOthers {
  Uuid one;
  std::vector<Uuid> others;
};
BOOST_DESCRIBE_STRUCT(OneAndOthers, (), (one, others))

struct Event {
  static constexpr bool is_answer = true;
  std::int64_t version;
  Action action;
  std::optional<Uuid> actor_id;
  std::optional<Status> from_status;
  Status to_status;
  std::optional<std::string> reason;
  Timestamp at;
};
BOOST_DESCRIBE_STRUCT(Event, (), (version, action, actor_id, from_status, to_status, reason, at))

const db::Query<CardRow, NewRow> insert_gig{sql::create};
const db::Query<CardRow, Viewed> select_gig{sql::by_id};
const db::Query<CardRow, ChangeRow> update_gig{sql::change};
const db::Query<TextsRow, Uuid> select_texts{sql::texts};
const db::Query<SidesRow, Viewed> select_sides{sql::sides};
const db::Query<Event, EventPage> select_events{sql::events};
const db::Query<bool, Pair> select_share{sql::share};
const db::Query<std::int64_t, OneAndOthers> select_completed_together{sql::completed_together};
const db::Query<CardRow, MineRow> select_of_seeker{sql::of_seeker};
const db::Query<CardRow, MineRow> select_of_helper{sql::of_helper};
const db::Query<CardRow, MineRow> select_of_both{sql::of_both};
const db::Query<std::int64_t, MineCount> count_mine{sql::count_mine};
const db::Query<bool> fold_lock{sql::fold_lock};
const db::Query<db::Nothing> fold{sql::fold_cells};
const db::Query<db::Nothing> drop_empty{sql::drop_empty_cells};

// --- posting ---------------------------------------------------------------------------------------------------------

struct CreateGig {
  static constexpr std::array notes{Note{"category", "kept in lower case"},
                                    Note{"image_urls", "`/files/{id}` of gig uploads of the seeker's"},
                                    Note{"expires_at", "when the gig, if nobody took it, is cancelled by the clock"}};
  Line<3, 120> title;
  Text<1, 4000> description;
  std::optional<Line<1, 40>> category;
  Real<500, 24'000, 500> duration_hours;
  Money budget;
  Latitude latitude;
  Longitude longitude;
  std::optional<Line<1, 300>> address_text;
  std::optional<List<Text<1, 300>, 5>> image_urls;
  std::optional<Timestamp> starts_at;
  std::optional<Timestamp> expires_at;
};
BOOST_DESCRIBE_STRUCT(CreateGig, (),
                      (title, description, category, duration_hours, budget, latitude, longitude, address_text,
                       image_urls, starts_at, expires_at))

constexpr Endpoint create_gig{.method = Method::post,
                              .path = "/api/gigs",
                              .name = "gigs.create",
                              .summary = "Post a gig",
                              .effect = Effect::change,
                              .status = 201};

void place(const Deps& deps, NewRow& row, const Uuid& seeker, Point point) {
  const Point shown = blurred(deps.blur_key, seeker, point, static_cast<double>(deps.config.location_blur_m));
  const Cell cell = cell_of(shown);
  row.latitude = point.latitude;
  row.longitude = point.longitude;
  row.public_latitude = shown.latitude;
  row.public_longitude = shown.longitude;
  row.cell_x = cell.x;
  row.cell_y = cell.y;
}

/// Pictures must be uploads of the caller's: these cannot be, whoever they might belong to.
std::vector<std::optional<Uuid>> images_in(const std::vector<std::string>& urls) {
  std::vector<std::optional<Uuid>> ids;
  for (const std::string& url : urls) ids.push_back(uploads::id_in(url));
  return ids;
}

Fault not_your_upload(std::size_t place) {
  return {"image_urls[" + std::to_string(place) + "]", "not_your_upload", "must be an upload of yours"};
}

void check_images(const std::vector<std::string>& urls, std::vector<Fault>& faults) {
  const auto ids = images_in(urls);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!ids[i]) faults.push_back(not_your_upload(i));
  }
}

/// The gig refers to these pictures from now on, and to no others. Throws validation_failed.
Awaitable<void> take_images(db::Executor& db, const Uuid& seeker, const Uuid& gig,
                            const std::vector<std::string>& urls) {
  std::vector<Uuid> ids;
  for (const auto& id : images_in(urls)) ids.push_back(id.value());
  const std::vector<Uuid> taken = co_await uploads::use(db, {seeker, uploads::Category::GIG, gig, ids});
  std::vector<Fault> faults;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (std::ranges::find(taken, ids[i]) == taken.end()) faults.push_back(not_your_upload(i));
  }
  if (!faults.empty()) throw Problem(std::move(faults));
}

void check_expiry(const std::optional<Timestamp>& expires_at, std::vector<Fault>& faults) {
  if (expires_at && *expires_at <= now()) faults.push_back({"expires_at", "in_the_past", "must be in the future"});
}

std::optional<std::string> folded(const std::optional<Line<1, 40>>& category) {
  if (!category) return std::nullopt;
  return lower_case(category->value);
}

template <std::size_t Max>
std::vector<std::string> values_of(const std::optional<List<Text<1, 300>, Max>>& list) {
  std::vector<std::string> values;
  if (list) {
    for (const auto& text : list->values) values.push_back(text.value);
  }
  return values;
}

Awaitable<Gig> post_gig(Deps& deps, Call& call, Body<CreateGig> body) {
  NewRow row{};
  row.id = make_uuid();
  row.viewer = call.user();
  row.image_urls = values_of(body->image_urls);
  std::vector<Fault> faults;
  check_images(row.image_urls, faults);
  check_expiry(body->expires_at, faults);
  if (!faults.empty()) throw Problem(std::move(faults));
  place(deps, row, call.user(), {body->latitude.degrees, body->longitude.degrees});
  row.title = body->title.value;
  row.description = body->description.value;
  row.terms = search_terms(row.title + "\n" + row.description);
  row.category = folded(body->category);
  row.duration_hours = body->duration_hours.value;
  row.budget = body->budget;
  row.address_text = value_of(body->address_text);
  row.starts_at = body->starts_at;
  row.expires_at = body->expires_at;
  if (!row.image_urls.empty()) co_await take_images(call.db(), call.user(), row.id, row.image_urls);
  auto made = co_await db::maybe_last(call.db(), insert_gig, std::move(row));
  if (!made) throw Problem(ErrorCode::session_ended);
  call.header("Location", "/api/gigs/" + to_string(made->id));
  co_return answer_with(call, std::move(*made));
}

// --- reading ---------------------------------------------------------------------------------------------------------

constexpr Endpoint read_gig{.method = Method::get,
                            .path = "/api/gigs/{id}",
                            .name = "gigs.read",
                            .summary = "Read a gig",
                            .errors = {ErrorCode::not_found},
                            .etag = true};

Awaitable<Gig> get_gig(Deps&, Call& call, Path<GigPath> path) {
  const Viewed viewed{path->id, call.user()};
  auto row = co_await db::maybe(call.db(), select_gig, viewed);
  if (!row) throw Problem(ErrorCode::not_found);
  co_return answer_with(call, std::move(*row));
}

struct EventList {
  static constexpr bool is_answer = true;
  std::vector<Event> events;
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(EventList, (), (events, next_cursor))

struct EventPosition {
  Uuid gig_id;
  Integer<0, 1'000'000'000'000> after_version;
};
BOOST_DESCRIBE_STRUCT(EventPosition, (), (gig_id, after_version))

constexpr Endpoint list_events{.method = Method::get,
                               .path = "/api/gigs/{id}/events",
                               .name = "gigs.events",
                               .summary = "The history of a gig, for its two sides, oldest first",
                               .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::invalid_cursor}};

Awaitable<EventList> get_events(Deps& deps, Call& call, Path<GigPath> path, Query<http::PageQuery> query) {
  const Viewed viewed{path->id, call.user()};
  const auto sides = co_await db::maybe(call.db(), select_sides, viewed);
  if (!sides) throw Problem(ErrorCode::not_found);
  if (sides->seeker_id != call.user() && sides->helper_id != call.user()) {
    throw Problem(ErrorCode::forbidden, "Only the two sides of a gig can read its history.");
  }
  EventPosition at{path->id, {0}};
  if (query->cursor) {
    at = http::from_cursor<EventPosition>(deps.cursor_key, call.user(), query->cursor->value);
    if (at.gig_id != path->id) throw Problem(ErrorCode::invalid_cursor, "The cursor belongs to another gig.");
  }
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  EventList list;
  const EventPage page{path->id, at.after_version.value, static_cast<std::int64_t>(limit) + 1};
  list.events = co_await db::all(call.db(), select_events, page);
  list.next_cursor =
      http::cut_page(list.events, limit, deps.cursor_key, call.user(), at,
                     [](EventPosition& end, const Event& last) { end.after_version.value = last.version; });
  co_return list;
}

enum class As { SEEKER, HELPER };
BOOST_DESCRIBE_ENUM(As, SEEKER, HELPER)

struct MyGigsQuery {
  static constexpr std::array notes{Note{"as", "which side; left out: both"}};
  std::optional<As> as;
  std::optional<Status> status;
  WithDefault<Integer<1, 100>, 20> limit;
  std::optional<Text<1, 4096>> cursor;
  WithDefault<bool, false> include_total;
};
BOOST_DESCRIBE_STRUCT(MyGigsQuery, (), (as, status, limit, cursor, include_total))

struct MyGigsPosition {
  Uuid user;
  std::optional<As> as;
  std::optional<Status> status;
  Timestamp before;
  Uuid before_id;
};
BOOST_DESCRIBE_STRUCT(MyGigsPosition, (), (user, as, status, before, before_id))

constexpr Endpoint my_gigs{.method = Method::get,
                           .path = "/api/gigs/my-gigs",
                           .name = "gigs.mine",
                           .summary = "The caller's own gigs, newest first",
                           .errors = {ErrorCode::invalid_cursor}};

Awaitable<GigList> get_my_gigs(Deps& deps, Call& call, Query<MyGigsQuery> query) {
  MyGigsPosition at{call.user(), query->as, query->status, {253402300799'000000}, http::last_uuid()};
  if (query->cursor) {
    const auto from = http::from_cursor<MyGigsPosition>(deps.cursor_key, call.user(), query->cursor->value);
    const bool fits = from.user == call.user() && (!query->as || query->as == from.as) &&
                      (!query->status || query->status == from.status);
    if (!fits) throw Problem(ErrorCode::invalid_cursor, "The cursor belongs to another list.");
    at = from;
  }
  const auto limit = static_cast<std::size_t>(query->limit.value.value);
  const MineRow wanted{call.user(), at.status, at.before, at.before_id, static_cast<std::int64_t>(limit) + 1};
  const auto& select = !at.as ? select_of_both : *at.as == As::SEEKER ? select_of_seeker : select_of_helper;
  auto rows = co_await db::all(call.db(), select, wanted);
  GigList list;
  list.next_cursor = http::cut_page(rows, limit, deps.cursor_key, call.user(), at);
  for (CardRow& row : rows) list.gigs.push_back(to_gig(std::move(row)));
  if (query->include_total.value) {
    const MineCount counted{call.user(), at.status, at.as != As::HELPER, at.as != As::SEEKER};
    list.total_count.value = co_await db::one(call.db(), count_mine, counted);
  }
  co_return list;
}

// --- changing --------------------------------------------------------------------------------------------------------

struct ChangeGig {
  Change<Line<3, 120>> title;
  Change<Text<1, 4000>> description;
  Change<std::optional<Line<1, 40>>> category;
  Change<Real<500, 24'000, 500>> duration_hours;
  Change<Money> budget;
  Change<Latitude> latitude;
  Change<Longitude> longitude;
  Change<std::optional<Line<1, 300>>> address_text;
  Change<std::optional<List<Text<1, 300>, 5>>> image_urls;
  Change<std::optional<Timestamp>> starts_at;
  Change<std::optional<Timestamp>> expires_at;

  static void check(const ChangeGig& change, std::vector<Fault>& faults) {
    if (bool(change.latitude) != bool(change.longitude)) {
      faults.push_back({change.latitude ? "longitude" : "latitude", "required", "comes with the other coordinate"});
    }
  }
};
BOOST_DESCRIBE_STRUCT(ChangeGig, (),
                      (title, description, category, duration_hours, budget, latitude, longitude, address_text,
                       image_urls, starts_at, expires_at))

constexpr Endpoint change_gig{.method = Method::put,
                              .path = "/api/gigs/{id}",
                              .name = "gigs.change",
                              .summary = "Change some fields of a pending gig of the caller's",
                              .description = "Fields that are left out stay; null clears.",
                              .effect = Effect::change,
                              .errors = {ErrorCode::not_found, ErrorCode::forbidden, ErrorCode::gig_not_editable},
                              .if_match = true};

/// The members that change, with a flag each.
ChangeRow to_row(const Deps& deps, const Call& call, Uuid id, const ChangeGig& change) {
  ChangeRow row{};
  row.id = id;
  row.viewer = call.user();
  if ((row.set_title = bool(change.title))) row.title = change.title.to->value;
  if ((row.set_description = bool(change.description))) row.description = change.description.to->value;
  if ((row.set_category = bool(change.category))) row.category = folded(*change.category.to);
  if ((row.set_duration_hours = bool(change.duration_hours))) row.duration_hours = change.duration_hours.to->value;
  if ((row.set_budget = bool(change.budget))) row.budget = *change.budget.to;
  if ((row.set_location = bool(change.latitude))) {
    place(deps, row, call.user(), {change.latitude.to->degrees, change.longitude.to->degrees});
  }
  if ((row.set_address_text = bool(change.address_text))) row.address_text = value_of(*change.address_text.to);
  if ((row.set_image_urls = bool(change.image_urls))) row.image_urls = values_of(*change.image_urls.to);
  if ((row.set_starts_at = bool(change.starts_at))) row.starts_at = *change.starts_at.to;
  if ((row.set_expires_at = bool(change.expires_at))) row.expires_at = *change.expires_at.to;
  row.set_terms = row.set_title || row.set_description;
  return row;
}

Awaitable<Gig> put_gig(Deps& deps, Call& call, Path<GigPath> path, Body<ChangeGig> body) {
  ChangeRow row = to_row(deps, call, path->id, body.value);
  std::vector<Fault> faults;
  check_images(row.image_urls, faults);
  check_expiry(row.expires_at, faults);
  if (!faults.empty()) throw Problem(std::move(faults));
  const LockedRow locked = co_await lock(call.db(), path->id, call.user());
  if (locked.seeker_id != call.user()) throw Problem(ErrorCode::forbidden, "Only the seeker can change a gig.");
  call.require_match(locked.version);
  if (locked.status != Status::PENDING) {
    throw Problem(ErrorCode::gig_not_editable).with("current_status", name_of(locked.status));
  }
  if (row.set_terms) {
    TextsRow texts = co_await db::one(call.db(), select_texts, path->id);
    if (row.set_title) texts.title = row.title;
    if (row.set_description) texts.description = row.description;
    row.terms = search_terms(texts.title + "\n" + texts.description);
  }
  if (row.set_image_urls) {
    co_await take_images(call.db(), call.user(), path->id, row.image_urls);
    std::vector<Uuid> kept;
    for (const auto& id : images_in(row.image_urls)) kept.push_back(id.value());
    co_await uploads::release(call.db(), path->id, std::move(kept));
  }
  auto changed = co_await db::maybe_last(call.db(), update_gig, std::move(row));
  co_return answer_with(call, std::move(changed.value()));
}

}  // namespace

Gig to_gig(CardRow&& row) {
  Gig gig;
  gig.id = row.id;
  gig.title = std::move(row.title);
  gig.description = std::move(row.description);
  gig.category = std::move(row.category);
  gig.duration_hours = row.duration_hours;
  gig.budget = row.budget;
  gig.currency = std::move(row.currency);
  gig.latitude = row.latitude;
  gig.longitude = row.longitude;
  gig.address_text = std::move(row.address_text);
  gig.image_urls = std::move(row.image_urls);
  gig.status = row.status;
  gig.starts_at = row.starts_at;
  gig.expires_at = row.expires_at;
  gig.created_at = row.created_at;
  gig.updated_at = row.updated_at;
  gig.accepted_at = row.accepted_at;
  gig.started_at = row.started_at;
  gig.completed_at = row.completed_at;
  gig.cancelled_at = row.cancelled_at;
  gig.cancel_reason = std::move(row.cancel_reason);
  gig.seeker = {row.seeker_id, std::move(row.seeker_name), std::move(row.seeker_photo_url), row.seeker_reputation_score,
                row.seeker_total_reviews};
  if (row.helper_id) {
    gig.helper = users::UserCard{*row.helper_id, std::move(row.helper_name), std::move(row.helper_photo_url),
                                 row.helper_reputation_score.value_or(5), row.helper_total_reviews.value_or(0)};
  }
  gig.version = row.version;
  return gig;
}

void install(http::Router& router, Deps& deps) {
  router.add(create_gig, post_gig, deps);
  install_search(router, deps);
  install_map(router, deps);
  router.add(my_gigs, get_my_gigs, deps);
  router.add(read_gig, get_gig, deps);
  router.add(change_gig, put_gig, deps);
  install_life(router, deps);
  router.add(list_events, get_events, deps);
}

Awaitable<std::optional<Gig>> find(db::Executor& db, Uuid id, Uuid viewer) {
  const Viewed viewed{id, viewer};
  auto row = co_await db::maybe(db, select_gig, viewed);
  if (!row) co_return std::nullopt;
  co_return to_gig(std::move(*row));
}

Awaitable<bool> share_a_gig(db::Executor& db, Uuid one, Uuid other) {
  const Pair pair{one, other};
  co_return co_await db::one(db, select_share, pair);
}

Awaitable<std::vector<std::int64_t>> completed_together(db::Executor& db, Uuid one, std::vector<Uuid> others) {
  const OneAndOthers asked{one, std::move(others)};
  co_return co_await db::all(db, select_completed_together, asked);
}

Awaitable<void> fold_cells(db::Client& database) {
  const auto transaction = database.begin();
  if (co_await db::one(*transaction, fold_lock)) {
    co_await db::run(*transaction, fold);
    co_await db::run(*transaction, drop_empty);
  }
  co_await transaction->commit();
}

}  // namespace hourz::gigs
