#include "mail/sender.hpp"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace hourz::mail {
namespace {

class Outbox final : public Sender {
 public:
  Outbox(std::filesystem::path folder, std::string from) : folder_(std::move(folder)), from_(std::move(from)) {}

  /// Named by the mail's id: written twice it is still one file.
  Delivery send(const Message& message) override {
    const std::filesystem::path path = folder_ / (message.id + ".eml");
    const std::string text = render(message, from_, now());
    const std::string aside = path.string() + ".part";
    if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) return failed("cannot make " + folder_.string());
    const int file = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) return failed("cannot write " + aside);
    const bool whole = write_all(file, text) && ::fsync(file) == 0;
    const int cause = errno;
    ::close(file);
    if (!whole || ::rename(aside.c_str(), path.c_str()) != 0) {
      if (!whole) errno = cause;
      Delivery delivery = failed("cannot write " + path.string());
      ::unlink(aside.c_str());
      return delivery;
    }
    const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
      ::fsync(folder);
      ::close(folder);
    }
    return {Outcome::sent, path.string()};
  }

 private:
  static Delivery failed(const std::string& what) { return {Outcome::failed, what + ": " + std::strerror(errno)}; }
  static bool write_all(int file, std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(file, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return false;
      text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
  }
  std::filesystem::path folder_;
  std::string from_;
};

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

class Smtp final : public Sender {
 public:
  explicit Smtp(const Config& config)
      : url_(config.smtp_url), user_(config.smtp_user), password_(config.smtp_password), from_(config.mail_from) {
    static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    handle_ = code == CURLE_OK ? curl_easy_init() : nullptr;
    if (handle_ == nullptr) throw std::runtime_error("libcurl cannot start");
  }
  ~Smtp() override { curl_easy_cleanup(handle_); }

  void stop() override { stopping_ = true; }

  Delivery send(const Message& message) override {
    Source source{render(message, from_, now()), 0};
    const std::string sender = '<' + read_mailbox(from_)->address + '>';
    const std::unique_ptr<curl_slist, FreeList> recipients(
        curl_slist_append(nullptr, ('<' + message.to + '>').c_str()));
    std::array<char, CURL_ERROR_SIZE> cause{};
    curl_easy_reset(handle_);  // its connection stays
    curl_easy_setopt(handle_, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(handle_, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(handle_, CURLOPT_PROXY, "");  // settings are HOURZ_* alone
    curl_easy_setopt(handle_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle_, CURLOPT_CONNECTTIMEOUT_MS, 5'000L);
    curl_easy_setopt(handle_, CURLOPT_TIMEOUT_MS, 20'000L);
    curl_easy_setopt(handle_, CURLOPT_ERRORBUFFER, cause.data());
    // A password is sent over TLS or not at all; without one, TLS is used where the server has it.
    curl_easy_setopt(handle_, CURLOPT_USE_SSL, static_cast<long>(user_.empty() ? CURLUSESSL_TRY : CURLUSESSL_ALL));
    if (!user_.empty()) {
      curl_easy_setopt(handle_, CURLOPT_USERNAME, user_.c_str());
      curl_easy_setopt(handle_, CURLOPT_PASSWORD, password_.c_str());
    }
    curl_easy_setopt(handle_, CURLOPT_MAIL_FROM, sender.c_str());
    curl_easy_setopt(handle_, CURLOPT_MAIL_RCPT, recipients.get());
    curl_easy_setopt(handle_, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(handle_, CURLOPT_READFUNCTION, &Smtp::give);
    curl_easy_setopt(handle_, CURLOPT_READDATA, &source);
    bool about_this_mail = false;
    curl_easy_setopt(handle_, CURLOPT_VERBOSE, 1L);
    curl_easy_setopt(handle_, CURLOPT_DEBUGFUNCTION, &Smtp::watch);
    curl_easy_setopt(handle_, CURLOPT_DEBUGDATA, &about_this_mail);
    curl_easy_setopt(handle_, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle_, CURLOPT_XFERINFOFUNCTION, &Smtp::go_on);
    curl_easy_setopt(handle_, CURLOPT_XFERINFODATA, &stopping_);
    const CURLcode code = curl_easy_perform(handle_);
    if (code == CURLE_OK) return {Outcome::sent, {}};
    long reply = 0;
    curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &reply);
    // 55x to its recipient or to the mail itself is about this mail; to what comes before, it is about all of ours, and
    // other numbers are about the session or the server.
    const bool refused = about_this_mail && reply >= 550 && reply <= 559;
    return {refused ? Outcome::refused : Outcome::failed, cause[0] != '\0' ? cause.data() : curl_easy_strerror(code)};
  }

 private:
  struct Source {
    std::string text;
    std::size_t at;
  };
  static std::size_t give(char* bytes, std::size_t size, std::size_t count, void* user) {
    auto& source = *static_cast<Source*>(user);
    const std::size_t piece = source.text.copy(bytes, size * count, source.at);
    source.at += piece;
    return piece;
  }
  /// Notes which command it was that the server answered last.
  static int watch(CURL*, curl_infotype type, char* bytes, std::size_t size, void* about_this_mail) {
    const std::string_view command(bytes, size);
    if (type != CURLINFO_HEADER_OUT || command.starts_with("QUIT")) return 0;
    *static_cast<bool*>(about_this_mail) = command.starts_with("RCPT") || command.starts_with("DATA");
    return 0;
  }
  static int go_on(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<std::atomic<bool>*>(user)->load() ? 1 : 0;
  }

  std::string url_;
  std::string user_;
  std::string password_;
  std::string from_;
  CURL* handle_ = nullptr;
  std::atomic<bool> stopping_{false};
};

Delivery deliver(Sender& sender, const Message& message) {
  try {
    return sender.send(message);
  } catch (const std::invalid_argument& error) {
    return {Outcome::refused, error.what()};
  } catch (const std::exception& error) {
    return {Outcome::failed, error.what()};
  }
}

}  // namespace

std::unique_ptr<Sender> make_sender(const Config& config) {
  if (config.smtp_url.empty()) {
    return std::make_unique<Outbox>(std::filesystem::path(config.data_directory) / "outbox", config.mail_from);
  }
  return std::make_unique<Smtp>(config);
}

Post::Post(std::unique_ptr<Sender> sender)
    : sender_(std::move(sender)), thread_({.threads = 1, .queue = 16, .busy = "Too many mails are being sent."}) {}
Post::~Post() { stop(); }

boost::asio::awaitable<Delivery> Post::send(Message message) {
  co_return co_await thread_.run([sender = sender_.get(), one = std::move(message)] { return deliver(*sender, one); });
}

void Post::stop() {
  sender_->stop();
  thread_.stop();
}

}  // namespace hourz::mail
