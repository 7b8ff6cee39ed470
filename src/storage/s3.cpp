#include "storage/s3.hpp"

#include <curl/curl.h>
#include <sodium.h>
#include <sys/stat.h>

#include <array>
#include <cstdio>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "core/crypto.hpp"
#include "core/log.hpp"
#include "storage/local.hpp"
#include "storage/s3_answers.hpp"
#include "storage/sigv4.hpp"

namespace hourz::storage {
namespace {

constexpr std::size_t max_answer_bytes = 8U << 20U;  ///< of what is read for its words: listings, errors
constexpr std::string_view probe = "READINESS";      ///< a name that is no key of ours, so it is never listed

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

File open_file(const std::filesystem::path& path) {
  File file(std::fopen(path.c_str(), "rbe"));
  if (!file) throw error_of(errno, "cannot read " + path.string());
  return file;
}

std::string hash_of(std::FILE* file, std::uint64_t& size) {
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  std::array<unsigned char, 65536> piece;
  size = 0;
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), file)) {
    crypto_hash_sha256_update(&state, piece.data(), got);
    size += got;
  }
  if (std::ferror(file) != 0) throw error_of(EIO, "cannot read a file to be stored");
  Mac hash;
  crypto_hash_sha256_final(&state, hash.data());
  return to_hex(as_text(hash));
}

void start_curl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (code != CURLE_OK) throw Error(Failure::unavailable, "libcurl cannot start");
}

}  // namespace

/// What a request carries to the store.
struct S3Store::Body {
  std::FILE* file = nullptr;
  std::uint64_t size = 0;
  std::string hash{sigv4::hash_of_nothing};
};

struct S3Store::Answer {
  long status = 0;
  std::string body;
  std::size_t body_limit = max_answer_bytes;
  std::uint64_t length = 0;  ///< as its head tells
  std::chrono::system_clock::time_point changed_at;
};

class S3Store::Client {
 public:
  explicit Client(S3Options options) : options_(std::move(options)) {
    start_curl();
    const auto slashes = options_.endpoint.find("://");
    const std::string authority = options_.endpoint.substr(slashes + 3);
    host_ = options_.path_style ? authority : options_.bucket + '.' + authority;
    base_ = options_.endpoint.substr(0, slashes + 3) + host_;
    credentials_ = {options_.access_key, options_.secret_key, options_.region};
  }
  ~Client() {
    for (CURL* handle : idle_) curl_easy_cleanup(handle);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// `key` empty: the bucket.
  sigv4::Request request(std::string method, std::string_view key) const {
    std::string path = options_.path_style ? '/' + options_.bucket : std::string();
    if (!key.empty() || path.empty()) path += '/';
    return {std::move(method), host_, path + std::string(key), {}, {}};
  }

  /// Asks until there is an answer that another try would not change. Throws Error for every answer but 2xx and 404.
  Answer ask(const sigv4::Request& request, Body body, std::size_t limit, int tries) {
    for (int attempt = 1;; ++attempt) {
      try {
        Answer answer = send(request, body, limit);
        judge(request, answer);
        return answer;
      } catch (const Error& error) {
        if (error.failure != Failure::unavailable || attempt >= tries) throw;
        log::Line(log::Level::warn, "storage.retried").with("cause", error.what()).with("attempt", attempt);
      }
      thread_local std::minstd_rand random(std::random_device{}());
      const int most = 100 << (2 * (attempt - 1));
      std::this_thread::sleep_for(std::chrono::milliseconds(std::uniform_int_distribution(most / 2, most)(random)));
    }
  }

  const S3Options& options() const { return options_; }
  const std::string& base() const { return base_; }
  const sigv4::Credentials& credentials() const { return credentials_; }

 private:
  /// A handle of the pool, which keeps its connection.
  class Borrowed {
   public:
    explicit Borrowed(Client& client) : client_(client) {
      const std::lock_guard lock(client_.mutex_);
      if (!client_.idle_.empty()) {
        handle_ = client_.idle_.back();
        client_.idle_.pop_back();
      } else {
        handle_ = curl_easy_init();
      }
      if (handle_ == nullptr) throw Error(Failure::unavailable, "libcurl has no handle");
    }
    ~Borrowed() {
      curl_easy_reset(handle_);
      const std::lock_guard lock(client_.mutex_);
      if (client_.idle_.size() < 16) {
        client_.idle_.push_back(handle_);
      } else {
        curl_easy_cleanup(handle_);
      }
    }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    operator CURL*() const { return handle_; }

   private:
    Client& client_;
    CURL* handle_ = nullptr;
  };

  static std::size_t take(char* bytes, std::size_t, std::size_t count, void* user) {
    auto& answer = *static_cast<Answer*>(user);
    if (answer.body.size() + count > answer.body_limit) return 0;  // more than was asked for: not what we talk to
    answer.body.append(bytes, count);
    return count;
  }
  static std::size_t give(char* bytes, std::size_t size, std::size_t count, void* user) {
    auto* file = static_cast<std::FILE*>(user);
    const std::size_t got = std::fread(bytes, 1, size * count, file);
    return got == 0 && std::ferror(file) != 0 ? CURL_READFUNC_ABORT : got;
  }
  static int rewind(void* user, curl_off_t offset, int origin) {
    return fseeko(static_cast<std::FILE*>(user), offset, origin) == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
  }

  Answer send(sigv4::Request request, const Body& body, std::size_t limit) {
    const Borrowed handle(*this);
    const auto time = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    request.headers.emplace_back("x-amz-date", sigv4::date_text(time));
    request.headers.emplace_back("x-amz-content-sha256", body.hash);
    std::unique_ptr<curl_slist, FreeList> fields;
    const auto add = [&](const std::string& line) {
      curl_slist* longer = curl_slist_append(fields.get(), line.c_str());
      if (longer == nullptr) throw std::bad_alloc();
      (void)!fields.release();
      fields.reset(longer);
    };
    for (const auto& [name, value] : request.headers) add(name + ": " + value);
    add("authorization: " + sigv4::authorization(credentials_, request, time, body.hash));
    add("accept:");
    add("expect:");
    if (body.file == nullptr) add("content-type:");

    Answer answer;
    answer.body_limit = limit;
    std::array<char, CURL_ERROR_SIZE> cause{};
    const std::string url = base_ + sigv4::target(request);
    curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
    curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(handle, CURLOPT_PROXY, "");  // settings are HOURZ_* alone
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(options_.total_timeout.count()));
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME,
                     std::max(1L, static_cast<long>(options_.stall_timeout.count() / 1000)));
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, cause.data());
    curl_easy_setopt(handle, CURLOPT_FILETIME, 1L);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, fields.get());
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &Client::take);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer);
    if (request.method == "PUT") {
      curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
      curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body.size));
      if (body.file != nullptr) {
        std::rewind(body.file);
        curl_easy_setopt(handle, CURLOPT_READFUNCTION, &Client::give);
        curl_easy_setopt(handle, CURLOPT_READDATA, body.file);
        curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, &Client::rewind);
        curl_easy_setopt(handle, CURLOPT_SEEKDATA, body.file);
      }
    } else if (request.method == "HEAD") {
      curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    } else {
      curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    }
    const CURLcode code = curl_easy_perform(handle);
    if (code != CURLE_OK) {
      const std::string why = cause[0] != '\0' ? cause.data() : curl_easy_strerror(code);
      const bool untrusted = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
      throw Error(untrusted ? Failure::refused : Failure::unavailable, what(request) + ": " + why);
    }
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &answer.status);
    curl_off_t number = -1;
    curl_easy_getinfo(handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &number);
    answer.length = number > 0 ? static_cast<std::uint64_t>(number) : 0;
    curl_easy_getinfo(handle, CURLINFO_FILETIME_T, &number);
    if (number > 0) answer.changed_at = std::chrono::system_clock::from_time_t(number);
    return answer;
  }

  static std::string what(const sigv4::Request& request) { return request.method + ' ' + request.path; }

  void judge(const sigv4::Request& request, Answer& answer) const {
    const long status = answer.status;
    if (status >= 200 && status < 300) return;
    const std::string code = read_error_code(answer.body);
    if ((status == 404 && code != "NoSuchBucket") || (status == 416 && request.method == "GET")) return;
    Failure failure = Failure::refused;
    if (status == 507 || code == "QuotaExceeded" || code == "XMinioStorageFull" || code == "InsufficientStorage") {
      failure = Failure::no_space;
    } else if (status >= 500 || status == 429 || status == 408 || code == "RequestTimeout" || code == "SlowDown" ||
               code == "OperationAborted" || code == "BadDigest" || code == "XAmzContentSHA256Mismatch") {
      failure = Failure::unavailable;
    }
    throw Error(failure, what(request) + ": " + std::to_string(status) + (code.empty() ? "" : " " + code));
  }

  S3Options options_;
  std::string host_;
  std::string base_;
  sigv4::Credentials credentials_;
  std::mutex mutex_;
  std::vector<CURL*> idle_;
};

S3Options s3_options(const Config& config) {
  if (const std::string missing = missing_s3_settings(config); !missing.empty()) throw ConfigError(missing);
  S3Options options;
  options.endpoint = config.s3_endpoint;
  options.bucket = config.s3_bucket;
  options.region = config.s3_region;
  options.access_key = config.s3_access_key;
  options.secret_key = config.s3_secret_key;
  options.path_style = config.s3_path_style == "on";
  return options;
}

namespace {

std::string_view checked(std::string_view key) {
  if (!is_key(key)) throw Error(Failure::refused, "not a key: " + std::string(key));
  return key;
}

Error no_object(std::string_view key) { return {Failure::not_found, "no object " + std::string(key)}; }

}  // namespace

S3Store::S3Store(S3Options options) : client_(std::make_unique<Client>(std::move(options))) {}
S3Store::~S3Store() = default;

void S3Store::put(std::string_view key, const std::filesystem::path& path, std::string_view content_type) {
  auto request = client_->request("PUT", checked(key));
  request.headers.emplace_back("content-type", content_type);
  const File file = open_file(path);
  Body body;
  body.file = file.get();
  body.hash = hash_of(file.get(), body.size);
  const Answer answer = client_->ask(request, body, max_answer_bytes, client_->options().tries);
  if (answer.status == 404) throw Error(Failure::refused, "PUT " + request.path + ": 404");
}

std::string S3Store::read(std::string_view key, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) {
    if (!find(key)) throw no_object(key);
    return {};
  }
  auto request = client_->request("GET", checked(key));
  const std::uint64_t last = offset + length < offset ? ~std::uint64_t{0} >> 1U : offset + length - 1;
  request.headers.emplace_back("range", "bytes=" + std::to_string(offset) + '-' + std::to_string(last));
  const auto limit = static_cast<std::size_t>(std::max<std::uint64_t>(length, 65536));
  Answer answer = client_->ask(request, {}, limit, client_->options().tries);
  if (answer.status == 404) throw no_object(key);
  if (answer.status == 416) return {};  // the object ends before
  // Some answer 200 for a range that is all of it, or for an empty object.
  if (answer.status == 200 && offset > 0) throw Error(Failure::refused, "the store does not know ranges");
  if (answer.body.size() > length) answer.body.resize(static_cast<std::size_t>(length));
  return std::move(answer.body);
}

std::optional<ObjectInfo> S3Store::find(std::string_view key) {
  const Answer answer = client_->ask(client_->request("HEAD", checked(key)), {}, 0, client_->options().tries);
  if (answer.status == 404) return std::nullopt;
  return ObjectInfo{std::string(key), answer.length, answer.changed_at};
}

void S3Store::remove(std::string_view key) {
  client_->ask(client_->request("DELETE", checked(key)), {}, max_answer_bytes, client_->options().tries);
}

void S3Store::list(std::string_view prefix, const std::function<void(const ObjectInfo&)>& each) {
  std::string token;
  std::string last;
  do {
    auto request = client_->request("GET", {});
    request.query = {{"list-type", "2"}, {"max-keys", "1000"}, {"prefix", std::string(prefix)}};
    if (!token.empty()) request.query.emplace_back("continuation-token", token);
    const Answer answer = client_->ask(request, {}, max_answer_bytes, client_->options().tries);
    const auto page = answer.status == 200 ? read_list_page(answer.body) : std::nullopt;
    if (!page) throw Error(Failure::refused, "the store's listing is not one: " + std::to_string(answer.status));
    for (const ObjectInfo& object : page->objects) {
      // A store that goes round in circles must not make us do so.
      if (object.key <= last) throw Error(Failure::refused, "the store lists " + object.key + " out of order");
      last = object.key;
      if (is_key(object.key) && object.key.starts_with(prefix)) each(object);
    }
    if (page->next == token && !token.empty()) throw Error(Failure::refused, "the store repeats a page");
    token = page->next;
  } while (!token.empty());
}

void S3Store::check() {
  const Answer answer = client_->ask(client_->request("PUT", probe), {}, max_answer_bytes, 1);
  if (answer.status == 404) throw Error(Failure::refused, "no bucket " + client_->options().bucket);
}

std::string S3Store::presigned_url(std::string_view key, std::chrono::seconds lifetime) const {
  const auto time = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return client_->base() +
         sigv4::presigned_target(client_->credentials(), client_->request("GET", checked(key)), time, lifetime);
}

}  // namespace hourz::storage
