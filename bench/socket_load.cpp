// The load of ./dev bench on sockets. One mode a run; prints lines `OPEN {…}` and `RESULT {…}` for bench/sockets.py.
//
//   chat    sockets in rooms send to them: as fast as they are acknowledged (--in-flight), or at a rate (--rate)
//   idle    sockets are opened and left alone until standard input says a line
//   join    joins a room again and again, which has messages to be caught up on
//   alerts  sockets watch areas, while gigs are posted (--posts, a file as bench/load.py writes it)
//   match   no server: what 100,000 areas cost a gig in the index alone
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>
#include <unordered_map>
#include <unordered_set>

#include "rooms/alerts/area_index.hpp"
#include "socket_client.hpp"

namespace hourz::load {
namespace {

struct Options {
  std::string mode, plan, posts, arrivals;
  std::uint16_t port = 0;
  double seconds = 5, warm_up_s = 1, rate = 0, patience_s = 120;
  std::size_t in_flight = 16, sample = 1, count = 200, areas = 100'000;
};

Options read_options(int count, char** words) {
  if (count < 2) throw std::runtime_error("which mode?");
  Options options;
  options.mode = words[1];
  const std::map<std::string_view, std::function<void(const char*)>> known{
      {"--port", [&](const char* word) { options.port = static_cast<std::uint16_t>(std::atoi(word)); }},
      {"--plan", [&](const char* word) { options.plan = word; }},
      {"--posts", [&](const char* word) { options.posts = word; }},
      {"--arrivals", [&](const char* word) { options.arrivals = word; }},
      {"--seconds", [&](const char* word) { options.seconds = std::atof(word); }},
      {"--warm-up", [&](const char* word) { options.warm_up_s = std::atof(word); }},
      {"--rate", [&](const char* word) { options.rate = std::atof(word); }},
      {"--patience", [&](const char* word) { options.patience_s = std::atof(word); }},
      {"--in-flight", [&](const char* word) { options.in_flight = static_cast<std::size_t>(std::atoll(word)); }},
      {"--sample", [&](const char* word) { options.sample = static_cast<std::size_t>(std::atoll(word)); }},
      {"--count", [&](const char* word) { options.count = static_cast<std::size_t>(std::atoll(word)); }},
      {"--areas", [&](const char* word) { options.areas = static_cast<std::size_t>(std::atoll(word)); }}};
  for (int i = 2; i < count; i += 2) {
    const auto option = known.find(words[i]);
    if (option == known.end() || i + 1 == count) throw std::runtime_error("what is " + std::string(words[i]) + "?");
    option->second(words[i + 1]);
  }
  return options;
}

/// One line, of numbers and of words that need no escaping.
class Line {
 public:
  explicit Line(const char* what) : text_(std::string(what) + " {") {}
  Line& add(const char* name, double value) {
    char words[64];
    std::snprintf(words, sizeof words, "%.17g", value);
    return put(name, words);
  }
  Line& add(const char* name, std::string_view words) {
    std::string quoted = "\"";
    for (const char c : words) quoted += (c == '"' || c == '\\' || static_cast<unsigned char>(c) < 32) ? ' ' : c;
    return put(name, quoted + '"');
  }
  Line& add(const char* name, Samples& samples) {
    const std::string prefix = *name != 0 ? std::string(name) + "_" : "";
    add((prefix + "p50_ms").c_str(), samples.quantile(0.5));
    add((prefix + "p99_ms").c_str(), samples.quantile(0.99));
    return add((prefix + "max_ms").c_str(), samples.quantile(1));
  }
  void print() {
    std::printf("%s}\n", text_.c_str());
    std::fflush(stdout);
  }

 private:
  Line& put(const char* name, const std::string& value) {
    if (text_.back() != '{') text_ += ", ";
    text_ += '"' + std::string(name) + "\": " + value;
    return *this;
  }
  std::string text_;
};

// --- chat ------------------------------------------------------------------------------------------------------------

/// Sockets take turns in sending; each waits for its acknowledgement before it sends again.
class Chat {
 public:
  Chat(Client& client, const Options& options) : client_(client), options_(options) {
    std::unordered_map<std::string_view, std::uint32_t> rooms;
    for (Socket& socket : client.sockets) {
      const auto [room, added] = rooms.emplace(socket.plan->room, static_cast<std::uint32_t>(rooms.size()));
      socket.room = room->second;
      if (added) size_of_.push_back(0);
      ++size_of_[socket.room];
      free_.push_back(&socket);
    }
    client.on_text = [this](Socket& socket, std::string_view text, std::int64_t at) { take(socket, text, at); };
  }

  void run() {
    const std::int64_t start = now_ns(), from = start + ns(options_.warm_up_s), to = from + ns(options_.seconds);
    next_ = start;
    if (options_.rate <= 0) {
      for (std::size_t i = 0; i < options_.in_flight && !free_.empty(); ++i) send_next(now_ns());
    }
    const auto due = [this] { return sends_at_rate() ? next_ : std::numeric_limits<std::int64_t>::max(); };
    const auto turn = [this] {
      while (sends_at_rate() && next_ <= now_ns()) {
        planned_.push_back(next_);
        next_ += static_cast<std::int64_t>(gap_(random_) * 1e9 / options_.rate);
        send_planned();
      }
      return client_.closed != 0;
    };
    sending_ = true;
    client_.serve(from, turn, due);
    const std::uint64_t acked = acked_, delivered = delivered_;
    measured_from_ = from;
    const std::int64_t began = now_ns();
    client_.serve(to, turn, due);
    const double seconds = static_cast<double>(now_ns() - began) / 1e9;
    const std::uint64_t acks = acked_ - acked, deliveries = delivered_ - delivered;
    measured_to_ = now_ns();
    sending_ = false;
    client_.serve(now_ns() + ns(10),
                  [&] { return client_.closed != 0 || (planned_.empty() && on_way_ == 0 && delivered_ >= expected_); });
    Line("RESULT")
        .add("sockets", static_cast<double>(client_.sockets.size()))
        .add("rooms", static_cast<double>(size_of_.size()))
        .add("seconds", seconds)
        .add("messages_per_second", static_cast<double>(acks) / seconds)
        .add("deliveries_per_second", static_cast<double>(deliveries) / seconds)
        .add("acknowledged", static_cast<double>(acked_))
        .add("delivered", static_cast<double>(delivered_))
        .add("expected", static_cast<double>(expected_))
        .add("out_of_order", static_cast<double>(out_of_order_))
        .add("unacknowledged", static_cast<double>(on_way_ + planned_.size()))
        .add("closed", static_cast<double>(client_.closed))
        .add("errors", static_cast<double>(client_.errors))
        .add("fault", client_.first_fault)
        .add("", latency_)
        .add("ack", ack_latency_)
        .print();
  }

 private:
  static std::int64_t ns(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }
  bool sends_at_rate() const { return sending_ && options_.rate > 0; }

  void send_planned() {
    while (!planned_.empty() && !free_.empty()) {
      const std::int64_t planned = planned_.front();
      planned_.pop_front();
      send_next(planned);
    }
  }

  void send_next(std::int64_t planned) {
    Socket& socket = *free_.front();
    free_.pop_front();
    socket.sent_ns = planned;
    ++on_way_;
    const std::uint64_t a = random_(), b = random_();
    char text[400];
    const int size = std::snprintf(
        text, sizeof text,
        R"({"type":"send_message","id":7,"data":{"room_id":"%s","client_id":"%08x-%04x-4%03x-8%03x-%012llx",)"
        R"("content":"t=%020lld I am at the gate of the old market, see you at six."}})",
        socket.plan->room.c_str(), static_cast<unsigned>(a >> 32), static_cast<unsigned>(a >> 16 & 0xffff),
        static_cast<unsigned>(a & 0xfff), static_cast<unsigned>(b >> 48 & 0xfff),
        static_cast<unsigned long long>(b & 0xffffffffffff), static_cast<long long>(planned));
    client_.send_text(socket, {text, static_cast<std::size_t>(size)});
  }

  void take(Socket& socket, std::string_view text, std::int64_t at) {
    constexpr std::size_t type = 9;  // behind {"type":"
    if (text.size() < type + 4) return;
    if (text.compare(type, 3, "rec") == 0) {
      ++delivered_;
      if (socket.number % options_.sample != 0) return;
      const std::int64_t seq = number_after(text, "\"seq\":");
      if (seq != socket.last_seq + 1 && socket.last_seq != 0) ++out_of_order_;
      socket.last_seq = seq;
      const std::int64_t planned = number_after(text, "\"t=");
      if (planned >= measured_from_ && planned < measured_to_) latency_.add_ns(at - planned);
    } else if (text.compare(type, 4, "mess") == 0) {
      ++acked_;
      --on_way_;
      expected_ += size_of_[socket.room];
      if (socket.sent_ns >= measured_from_ && socket.sent_ns < measured_to_) ack_latency_.add_ns(at - socket.sent_ns);
      free_.push_back(&socket);
      if (options_.rate > 0) {
        send_planned();
      } else if (sending_) {
        send_next(now_ns());
      }
    }
  }

  Client& client_;
  const Options& options_;
  std::vector<std::uint64_t> size_of_;  // sockets of a room
  std::deque<Socket*> free_;            // whose turn it is to send
  std::deque<std::int64_t> planned_;    // messages that wait for a sender
  std::mt19937_64 random_{now_ns() > 0 ? static_cast<std::uint64_t>(now_ns()) : 1};
  std::exponential_distribution<double> gap_{1.0};
  bool sending_ = true;
  std::int64_t next_ = 0;
  std::int64_t measured_from_ = std::numeric_limits<std::int64_t>::max();
  std::int64_t measured_to_ = std::numeric_limits<std::int64_t>::max();
  std::uint64_t acked_ = 0, delivered_ = 0, expected_ = 0, on_way_ = 0, out_of_order_ = 0;
  Samples latency_, ack_latency_;
};

// --- idle ------------------------------------------------------------------------------------------------------------

/// Until standard input says a line, or has ended.
void wait_for_line(Client& client) {
  bool told = false;
  client.watch(STDIN_FILENO, [&] {
    char bytes[64];
    told = ::read(STDIN_FILENO, bytes, sizeof bytes) >= 0;
  });
  client.serve(now_ns() + std::int64_t{3600} * 1'000'000'000, [&] { return told; });
  client.unwatch(STDIN_FILENO);
}

Line& add_state(Line& line, Client& client) {
  return line.add("sockets", static_cast<double>(client.sockets.size()))
      .add("closed", static_cast<double>(client.closed))
      .add("errors", static_cast<double>(client.errors))
      .add("fault", client.first_fault);
}

void idle(Client& client) {
  Line open("OPEN");
  add_state(open, client).print();
  wait_for_line(client);
  Line result("RESULT");
  add_state(result, client).print();
}

// --- join ------------------------------------------------------------------------------------------------------------

void join(Client& client, const Options& options) {
  Samples latency;
  std::size_t bytes = 0, incomplete = 0, joined = 0;
  bool left = false;
  std::int64_t sent = 0;
  client.on_text = [&](Socket&, std::string_view text, std::int64_t) {
    if (text.starts_with(R"({"type":"room_joined")")) {
      latency.add_ns(now_ns() - sent);
      bytes = std::max(bytes, text.size());
      // What stands behind the messages; a message has it nowhere.
      if (text.substr(text.size() - std::min<std::size_t>(text.size(), 40)).find("\"complete\":true") ==
          std::string_view::npos) {
        ++incomplete;
      }
      ++joined;
    } else if (text.starts_with(R"({"type":"room_left")")) {
      left = true;
    }
  };
  const auto soon = [] { return now_ns() + std::int64_t{10} * 1'000'000'000; };
  for (std::size_t i = 0; i < options.count && client.closed == 0 && client.errors == 0; ++i) {
    Socket& socket = client.sockets[i % client.sockets.size()];
    const std::string room = R"("data":{"room_id":")" + socket.plan->room + '"';
    sent = now_ns();
    client.send_text(socket, R"({"type":"join_room","id":1,)" + room + ",\"after_seq\":" + socket.plan->after + "}}");
    client.serve(soon(), [&] { return joined > i || client.closed != 0 || client.errors != 0; });
    left = false;
    client.send_text(socket, R"({"type":"leave_room","id":2,)" + room + "}}");
    client.serve(soon(), [&] { return left || client.closed != 0 || client.errors != 0; });
  }
  Line line("RESULT");
  add_state(line, client)
      .add("joined", static_cast<double>(joined))
      .add("incomplete", static_cast<double>(incomplete))
      .add("bytes", static_cast<double>(bytes))
      .add("", latency)
      .print();
}

// --- alerts ----------------------------------------------------------------------------------------------------------

/// One connection that posts written requests, one at a time.
class Poster {
 public:
  Poster(Client& client, std::uint16_t port, const std::string& path) : client_(client) {
    std::ifstream file(path, std::ios::binary);
    std::size_t size = 0;
    while (file >> size && file.get() == '\n') {
      std::string request(size, 0);
      file.read(request.data(), static_cast<std::streamsize>(size));
      requests_.push_back(std::move(request));
    }
    sent_ns.resize(requests_.size());
    answered_ns.resize(requests_.size());
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(port);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
      throw std::runtime_error("the poster cannot connect: " + std::string(std::strerror(errno)));
    }
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client_.watch(fd_, [this] { readable(); });
  }
  ~Poster() {
    client_.unwatch(fd_);
    ::close(fd_);
  }
  Poster(const Poster&) = delete;
  Poster& operator=(const Poster&) = delete;

  std::size_t size() const { return requests_.size(); }
  bool waiting() const { return waiting_; }
  void send(std::size_t i) {
    current_ = i;
    waiting_ = true;
    sent_ns[i] = now_ns();
    if (::send(fd_, requests_[i].data(), requests_[i].size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(requests_[i].size())) {
      throw std::runtime_error("the poster cannot send");
    }
  }

  std::vector<std::int64_t> sent_ns, answered_ns;
  std::size_t refused = 0;

 private:
  void readable() {
    char bytes[16384];
    const ssize_t got = ::recv(fd_, bytes, sizeof bytes, 0);
    if (got <= 0) throw std::runtime_error("the poster's connection ended");
    const std::int64_t at = now_ns();
    answer_.append(bytes, static_cast<std::size_t>(got));
    const auto head = answer_.find("\r\n\r\n");
    if (head == std::string::npos) return;
    std::int64_t length = number_after(answer_, "Content-Length: ");
    if (length < 0) length = number_after(answer_, "content-length: ");
    if (answer_.size() < head + 4 + static_cast<std::size_t>(std::max<std::int64_t>(length, 0))) return;
    if (!answer_.starts_with("HTTP/1.1 201")) ++refused;
    answered_ns[current_] = at;
    answer_.clear();
    waiting_ = false;
  }

  Client& client_;
  int fd_ = -1;
  std::vector<std::string> requests_;
  std::size_t current_ = 0;
  bool waiting_ = false;
  std::string answer_;
};

void alerts(Client& client, const Options& options) {
  Line open("OPEN");
  add_state(open, client).print();
  wait_for_line(client);
  Poster poster(client, options.port, options.posts);
  struct Arrival {
    std::uint32_t socket;
    std::size_t gig;
    std::int64_t at_ns;
  };
  std::vector<Arrival> arrivals;
  std::int64_t last_ns = now_ns();
  client.on_text = [&](Socket& socket, std::string_view text, std::int64_t at) {
    if (!text.starts_with(R"({"type":"gig_nearby")")) return;
    const std::int64_t gig = number_after(text, "Bench alert ");
    if (gig < 0 || static_cast<std::size_t>(gig) >= poster.size()) return;
    arrivals.push_back({socket.number, static_cast<std::size_t>(gig), at});
    last_ns = at;
  };
  std::size_t next = 0;
  std::int64_t next_ns = now_ns();
  const auto turn = [&] {
    if (next < poster.size() && !poster.waiting() && now_ns() >= next_ns) {
      poster.send(next++);
      next_ns += static_cast<std::int64_t>(1e9 / options.rate);
    }
    const bool quiet = now_ns() - std::max(last_ns, next_ns) > std::int64_t{1'500'000'000};
    return client.closed != 0 || (next == poster.size() && !poster.waiting() && quiet);
  };
  const auto due = [&] {
    return poster.waiting() || next == poster.size() ? now_ns() + 100'000'000 : std::max(next_ns, now_ns());
  };
  client.serve(now_ns() + static_cast<std::int64_t>(options.patience_s * 1e9), turn, due);

  // For who knows when each gig was committed: its number and microseconds since 1970.
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t offset_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(since_1970).count() - now_ns();
  std::ofstream file(options.arrivals);
  for (const Arrival& arrival : arrivals) file << arrival.gig << ' ' << (arrival.at_ns + offset_ns) / 1000 << '\n';

  Samples from_sending, from_answer, answers;
  std::unordered_set<std::uint64_t> seen;
  std::size_t twice = 0;
  for (const Arrival& arrival : arrivals) {
    if (!seen.insert(std::uint64_t{arrival.socket} << 32 | arrival.gig).second) ++twice;
    from_sending.add_ns(arrival.at_ns - poster.sent_ns[arrival.gig]);
    from_answer.add_ns(arrival.at_ns - poster.answered_ns[arrival.gig]);
  }
  for (std::size_t i = 0; i < next; ++i) answers.add_ns(poster.answered_ns[i] - poster.sent_ns[i]);
  Line line("RESULT");
  add_state(line, client)
      .add("posted", static_cast<double>(next))
      .add("refused", static_cast<double>(poster.refused))
      .add("alerts", static_cast<double>(arrivals.size()))
      .add("twice", static_cast<double>(twice))
      .add("from_sending", from_sending)
      .add("from_answer", from_answer)
      .add("post", answers)
      .print();
}

// --- match -----------------------------------------------------------------------------------------------------------

/// Of this thread: what others take of the machine meanwhile is not ours.
double cpu_us() {
  timespec spent{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) * 1e6 + static_cast<double>(spent.tv_nsec) / 1e3;
}

/// Areas of 2 to 10 km all over Thailand's box: the same chances as bench/sockets.py takes.
void match(const Options& options) {
  std::mt19937_64 random{20261123};
  std::uniform_real_distribution<double> latitude(5.6, 20.4), longitude(97.4, 105.6), radius_m(2'000, 10'000);
  alerts::AreaIndex index;
  const double filled_from = cpu_us();
  for (std::size_t i = 0; i < options.areas; ++i) {
    index.insert(i, {latitude(random), longitude(random)}, radius_m(random));
  }
  const double fill_us = (cpu_us() - filled_from) / static_cast<double>(options.areas);
  constexpr std::size_t gigs = 20'000;
  std::vector<std::uint64_t> found;
  Samples each;
  std::size_t matches = 0;
  const double cpu_began = cpu_us();
  for (std::size_t i = 0; i < gigs; ++i) {
    const Point gig{latitude(random), longitude(random)};
    found.clear();
    const std::int64_t began = now_ns();
    index.find(gig, found);
    const std::int64_t took = now_ns() - began;
    matches += found.size();
    each.add_ns(took);
  }
  const double mean_us = (cpu_us() - cpu_began) / gigs;
  Line("RESULT")
      .add("areas", static_cast<double>(options.areas))
      .add("insert_us", fill_us)
      .add("mean_us", mean_us)
      .add("p50_us", each.quantile(0.5) * 1e3)
      .add("p99_us", each.quantile(0.99) * 1e3)
      .add("matches", static_cast<double>(matches) / gigs)
      .print();
}

int run(int count, char** words) {
  const Options options = read_options(count, words);
  if (options.mode == "match") {
    match(options);
    return 0;
  }
  const std::vector<Plan> plans = read_plan(options.plan);
  Client client(options.port, plans);
  client.open_all(options.mode != "join", options.patience_s);
  if (options.mode == "chat") {
    Chat(client, options).run();
  } else if (options.mode == "idle") {
    idle(client);
  } else if (options.mode == "join") {
    join(client, options);
  } else if (options.mode == "alerts") {
    alerts(client, options);
  } else {
    throw std::runtime_error("no such mode: " + options.mode);
  }
  return 0;
}

}  // namespace
}  // namespace hourz::load

int main(int count, char** words) {
  try {
    return hourz::load::run(count, words);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
