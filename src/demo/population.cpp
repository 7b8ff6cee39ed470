#include "demo/population.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "demo/demo.hpp"

namespace hourz::demo {
namespace {

constexpr std::int64_t second = 1'000'000;
constexpr std::int64_t minute = 60 * second;
constexpr std::int64_t hour = 60 * minute;
constexpr std::int64_t day = 24 * hour;
constexpr std::int64_t gig_days = 60;
constexpr std::int64_t people_days = 400;  ///< the oldest account is so much older than the oldest gig

constexpr std::uint64_t people_stream = 1;
constexpr std::uint64_t gigs_stream = 2;

std::uint64_t scramble(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

/// Version 7 with the time of the row and the generator's bits: in the order of creation as real ones are.
Uuid seeded_uuid(Random& random, Timestamp at) {
  Uuid id;
  const auto milliseconds = static_cast<std::uint64_t>(at.microseconds / 1000);
  for (std::size_t i = 0; i < 6; ++i) id.bytes[i] = static_cast<std::uint8_t>(milliseconds >> (40 - 8 * i));
  const std::uint64_t high = random.next();
  const std::uint64_t low = random.next();
  id.bytes[6] = static_cast<std::uint8_t>(0x70 | (high & 0x0f));
  id.bytes[7] = static_cast<std::uint8_t>(high >> 8);
  for (std::size_t i = 0; i < 8; ++i) id.bytes[8 + i] = static_cast<std::uint8_t>(low >> (8 * i));
  id.bytes[8] = static_cast<std::uint8_t>(0x80 | (id.bytes[8] & 0x3f));
  return id;
}

/// The n-th of `count` moments that follow each other over `span`, ending before `end`.
Timestamp moment(Random& random, std::int64_t index, std::int64_t count, Timestamp end, std::int64_t span) {
  const std::int64_t slot = std::max<std::int64_t>(span / std::max<std::int64_t>(count, 1), 1);
  return {end.microseconds - span + index * slot + random.below(slot)};
}

template <typename T>
const T& weighted(Random& random, std::span<const T> all) {
  std::int64_t sum = 0;
  for (const T& each : all) sum += each.weight;
  std::int64_t left = random.below(sum);
  for (const T& each : all) {
    left -= each.weight;
    if (left < 0) return each;
  }
  return all.front();
}

template <typename T>
const T& any(Random& random, std::span<const T> all) {
  return all[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(all.size())))];
}

/// Crowded in the middle and never past the radius: the mean of three uniforms stands in for a bell curve.
Point around(Random& random, const Place& place) {
  constexpr double metres_a_degree = 111'320;
  const auto offset = [&random] { return (random.unit() + random.unit() + random.unit()) / 1.5 - 1; };
  const double north = offset() * place.radius_m / metres_a_degree;
  const double shrink = std::cos(place.centre.latitude * std::numbers::pi / 180);
  const double east = offset() * place.radius_m / (metres_a_degree * shrink);
  return {std::round((place.centre.latitude + north) * 1e6) / 1e6,
          std::round((place.centre.longitude + east) * 1e6) / 1e6};
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

/// Percent of the gigs of an age in each status: young ones are open, old ones done. A quarter of all is open.
struct Mix {
  std::int64_t younger_than_days;
  std::array<int, 5> percent;  ///< in the order of Status
};
constexpr std::array mixes{
    Mix{2, {70, 12, 8, 5, 5}},
    Mix{14, {60, 12, 3, 15, 10}},
    Mix{gig_days + 1, {14, 0, 0, 72, 14}},
};

Status status_at_age(Random& random, std::int64_t age) {
  const auto mix = std::find_if(mixes.begin(), mixes.end() - 1,
                                [age](const Mix& each) { return age < each.younger_than_days * day; });
  std::int64_t left = random.below(100);
  for (std::size_t i = 0; i < mix->percent.size(); ++i) {
    left -= mix->percent[i];
    if (left < 0) return static_cast<Status>(i);
  }
  return Status::pending;
}

}  // namespace

Random::Random(std::uint64_t seed, std::uint64_t stream, std::uint64_t index)
    : state_(scramble(scramble(scramble(seed + 0x9e3779b97f4a7c15ULL) ^ stream) ^ (index * 0xd1342543de82ef95ULL))) {}

std::uint64_t Random::next() {
  state_ += 0x9e3779b97f4a7c15ULL;
  return scramble(state_);
}

std::int64_t Random::below(std::int64_t bound) {
  if (bound < 1) return 0;
  // The bias of the remainder is below 2^-20 for every bound used here.
  return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(bound));
}

std::int64_t Random::between(std::int64_t a, std::int64_t b) { return a + below(b - a + 1); }

double Random::unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

std::string_view word(Status status) {
  constexpr std::array<std::string_view, 5> words{"PENDING", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED"};
  return words[static_cast<std::size_t>(status)];
}

std::string_view word(Action action) {
  constexpr std::array<std::string_view, 6> words{"CREATE", "ACCEPT", "WITHDRAW", "START", "COMPLETE", "CANCEL"};
  return words[static_cast<std::size_t>(action)];
}

Timestamp Gig::time_of(Action action) const {
  for (int i = event_count - 1; i >= 0; --i) {
    const Event& event = events[static_cast<std::size_t>(i)];
    if (event.action == action) return event.at;
  }
  return {};
}

Population::Population(std::uint64_t seed, std::int64_t users, std::int64_t gigs, Timestamp base_time)
    : seed_(seed), gigs_(gigs), base_time_(base_time) {
  if (users < 10) throw std::invalid_argument("a demonstration needs at least 10 users");
  if (gigs < 0) throw std::invalid_argument("the number of gigs cannot be negative");
  people_.reserve(static_cast<std::size_t>(users));
  const Timestamp before_gigs{base_time.microseconds - (gig_days + 1) * day};
  for (std::int64_t i = 0; i < users; ++i) {
    Random random(seed_, people_stream, static_cast<std::uint64_t>(i));
    Person person;
    person.created_at = moment(random, i, users, before_gigs, people_days * day);
    person.id = seeded_uuid(random, person.created_at);
    const Name& given = any(random, given_names());
    const Name& family = any(random, family_names());
    person.name = random.chance(60) ? std::string(given.thai) + " " + std::string(family.thai)
                                    : std::string(given.latin) + " " + std::string(family.latin);
    person.email = lower(given.latin) + "." + lower(family.latin) + "." + std::to_string(i) + "@hourz.example";
    if (random.chance(45)) person.bio = any(random, biographies());
    constexpr std::array<std::string_view, 3> mobile{"+668", "+669", "+666"};
    person.phone_number = std::string(any(random, std::span<const std::string_view>(mobile))) +
                          std::to_string(random.between(10'000'000, 99'999'999));
    person.place = &any_place(random);
    person.has_location = random.chance(60);
    person.is_available = person.has_location && random.chance(60);
    if (i < 2) {  // the two to log in with
      person.email = i == 0 ? seeker_email : helper_email;
      person.place = i == 0 ? &dense_places()[1] : &dense_places()[0];
      person.has_location = true;
      person.is_available = i == 1;
    }
    person.home = around(random, *person.place);
    const auto city = static_cast<std::size_t>(person.place->city);
    residents_[city].push_back(i);
    if (person.has_location) helpers_[city].push_back(i);
    people_.push_back(std::move(person));
  }
}

const Place& Population::any_place(Random& random) const {
  return random.chance(60) ? weighted(random, dense_places()) : weighted(random, wide_places());
}

std::int64_t Population::other_helper(Random& random, City city, std::int64_t not_this) const {
  const auto& near = helpers_[static_cast<std::size_t>(city)];
  const auto count = static_cast<std::int64_t>(near.size());
  if (count >= 2) {
    const std::int64_t at = random.below(count);
    const std::int64_t found = near[static_cast<std::size_t>(at)];
    return found != not_this ? found : near[static_cast<std::size_t>((at + 1) % count)];
  }
  const auto all = static_cast<std::int64_t>(people_.size());
  return (not_this + 1 + random.below(all - 1)) % all;
}

Gig Population::gig(std::int64_t index) const {
  Random random(seed_, gigs_stream, static_cast<std::uint64_t>(index));
  Gig gig;
  const Timestamp newest{base_time_.microseconds - 10 * minute};
  gig.created_at = moment(random, index, gigs_, newest, gig_days * day - 10 * minute);
  gig.id = seeded_uuid(random, gig.created_at);

  gig.place = &any_place(random);
  gig.pin = around(random, *gig.place);
  gig.street = random.between(1, 60);
  const auto& locals = residents_[static_cast<std::size_t>(gig.place->city)];
  gig.seeker = locals.empty()
                   ? random.below(static_cast<std::int64_t>(people_.size()))
                   : locals[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(locals.size())))];

  gig.kind = &weighted(random, kinds());
  gig.wording = random.below(wordings);
  const auto place_number =
      gig.place >= dense_places().data() && gig.place < dense_places().data() + dense_places().size()
          ? gig.place - dense_places().data()
          : static_cast<std::int64_t>(dense_places().size()) + (gig.place - wide_places().data());
  const auto place_count = static_cast<std::int64_t>(dense_places().size() + wide_places().size());
  gig.text = ((gig.kind - kinds().data()) * wordings + gig.wording) * place_count + place_number;

  gig.half_hours = static_cast<int>(random.between(gig.kind->shortest_half_hours, gig.kind->longest_half_hours));
  const std::int64_t baht_an_hour = random.between(gig.kind->least_baht_an_hour, gig.kind->most_baht_an_hour);
  const std::int64_t tens = std::max<std::int64_t>((baht_an_hour * gig.half_hours / 2 + 5) / 10, 5);
  gig.budget_satang = tens * 10 * 100;

  live(gig, random);
  return gig;
}

/// Walks the gig from CREATE to where it stands at the base time.
void Population::live(Gig& gig, Random& random) const {
  const std::int64_t base = base_time_.microseconds;
  gig.status = status_at_age(random, base - gig.created_at.microseconds);
  std::int64_t clock = gig.created_at.microseconds;
  Status now = Status::pending;
  const auto happen = [&](Action action, Status to, std::int64_t actor) {
    gig.events[static_cast<std::size_t>(gig.event_count++)] = {action, now, to, actor, {clock}};
    now = to;
  };
  // Time passes, by at most `most`, and never to the base time.
  const auto wait = [&](std::int64_t most) { clock += 1 + random.below(std::min(most, (base - clock) * 2 / 5)); };

  happen(Action::create, Status::pending, gig.seeker);
  if (random.chance(4)) {  // somebody stepped back
    const std::int64_t first = other_helper(random, gig.place->city, gig.seeker);
    wait(12 * hour);
    happen(Action::accept, Status::accepted, first);
    wait(6 * hour);
    happen(Action::withdraw, Status::pending, first);
  }
  Status last_before_cancel = Status::pending;
  if (gig.status == Status::cancelled && random.chance(35)) {
    last_before_cancel = random.chance(70) ? Status::accepted : Status::in_progress;
  }
  const Status reached = gig.status == Status::cancelled ? last_before_cancel : gig.status;
  if (reached != Status::pending) {
    gig.helper = other_helper(random, gig.place->city, gig.seeker);
    wait(24 * hour);
    happen(Action::accept, Status::accepted, gig.helper);
  }
  if (reached == Status::in_progress || reached == Status::completed) {
    wait(48 * hour);
    happen(Action::start, Status::in_progress, random.chance(70) ? gig.helper : gig.seeker);
  }
  if (reached == Status::completed) {
    clock += std::min(gig.half_hours * 30 * minute + random.below(20 * minute), (base - clock) * 9 / 10);
    happen(Action::complete, Status::completed, random.chance(60) ? gig.helper : gig.seeker);
  }
  if (gig.status == Status::cancelled) {
    wait(24 * hour);
    if (now == Status::in_progress || random.chance(60)) gig.reason = any(random, cancel_reasons());
    happen(Action::cancel, Status::cancelled, gig.seeker);
  }

  // Whole quarters of an hour, as people choose them; an open gig's lie ahead of the base time.
  const auto quarter = [](std::int64_t time) { return Timestamp{(time / (15 * minute) + 1) * 15 * minute}; };
  if (gig.status == Status::pending) {
    if (random.chance(50)) gig.starts_at = quarter(base + 2 * hour + random.below(20 * day));
    if (random.chance(40)) {
      gig.expires_at = gig.starts_at.microseconds != 0 ? gig.starts_at : quarter(base + day + random.below(30 * day));
    }
  } else if (random.chance(50)) {
    gig.starts_at = quarter(gig.created_at.microseconds + hour + random.below(3 * day));
  }
}

std::int64_t Population::texts() {
  return static_cast<std::int64_t>(kinds().size()) * wordings *
         static_cast<std::int64_t>(dense_places().size() + wide_places().size());
}

Wording Population::words_of(const Gig& gig) {
  const bool thai = gig.wording % 2 == 0;
  const auto& jobs = thai ? gig.kind->thai_jobs : gig.kind->jobs;
  const Job& job = jobs[static_cast<std::size_t>(gig.wording / 2 % Kind::jobs_each)];
  const auto remark_number = static_cast<std::size_t>(gig.wording / 2 / Kind::jobs_each);
  const std::string_view remark = thai ? thai_remarks()[remark_number] : remarks()[remark_number];
  Wording words{std::string(job.title), std::string(job.description)};
  constexpr std::string_view hole = "{place}";
  if (const auto at = words.title.find(hole); at != std::string::npos) {
    words.title.replace(at, hole.size(), thai ? gig.place->thai_name : gig.place->name);
  }
  if (!remark.empty()) words.description += " " + std::string(remark);
  return words;
}

}  // namespace hourz::demo
