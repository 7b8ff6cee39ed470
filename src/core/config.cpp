#include "core/config.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <set>

#include "core/crypto.hpp"
#include "core/network.hpp"
#include "core/text.hpp"

extern char** environ;  // NOLINT: POSIX's name

namespace hourz {
namespace {

using Parse = std::function<std::optional<std::string>(Config&, std::string_view)>;
using Show = std::function<std::string(const Config&)>;

struct Setting {
  std::string_view variable;
  std::string_view meaning;
  Parse parse;  ///< gives what is wrong, or nothing
  Show show;
};

Setting text(std::string_view variable, std::string Config::*member, std::string_view meaning) {
  return {variable, meaning,
          [member](Config& config, std::string_view value) -> std::optional<std::string> {
            config.*member = value;
            return {};
          },
          [member](const Config& config) { return config.*member; }};
}

Setting secret(std::string_view variable, std::string Config::*member, std::string_view meaning) {
  Setting setting = text(variable, member, meaning);
  setting.show = [member](const Config& config) {
    return (config.*member).empty() ? std::string() : std::string("********");
  };
  return setting;
}

/// A connection string is shown but for its password.
Setting url(std::string_view variable, std::string Config::*member, std::string_view meaning) {
  Setting setting = text(variable, member, meaning);
  setting.show = [member](const Config& config) {
    std::string shown = config.*member;
    if (const auto at = shown.rfind('@'); at != std::string::npos) {
      const auto scheme = shown.find("://");
      const auto colon = shown.find(':', scheme == std::string::npos ? 0 : scheme + 3);
      if (colon != std::string::npos && colon < at) shown.replace(colon + 1, at - colon - 1, "********");
    }
    if (const auto word = shown.find("password="); word != std::string::npos) {
      shown.replace(word + 9, shown.find_first_of(" &", word) - word - 9, "********");
    }
    return shown;
  };
  return setting;
}

Setting redis_url_setting() {
  Setting setting = url("HOURZ_REDIS_URL", &Config::redis_url,
                        "redis://[:password@]host[:port][/database] to carry what servers tell each other and to "
                        "share rate limits; empty: the database carries it, and each server counts for itself");
  setting.parse = [](Config& config, std::string_view value) -> std::optional<std::string> {
    config.redis_url = value;
    if (value.empty() || value.starts_with("redis://")) return {};
    return "must be redis://[:password@]host[:port][/database]";
  };
  return setting;
}

Setting address(std::string_view variable, std::string Config::*member, std::string_view meaning) {
  Setting setting = text(variable, member, meaning);
  setting.parse = [member](Config& config, std::string_view value) -> std::optional<std::string> {
    config.*member = value;
    std::array<unsigned char, sizeof(in6_addr)> bytes{};
    const char* given = (config.*member).c_str();
    if (inet_pton(AF_INET, given, bytes.data()) == 1 || inet_pton(AF_INET6, given, bytes.data()) == 1) return {};
    return "must be an IPv4 or IPv6 address";
  };
  return setting;
}

Setting number(std::string_view variable, std::int64_t Config::*member, std::int64_t min, std::int64_t max,
               std::string_view meaning) {
  return {variable, meaning,
          [member, min, max](Config& config, std::string_view value) -> std::optional<std::string> {
            std::int64_t parsed = 0;
            const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
            if (error != std::errc{} || end != value.data() + value.size() || parsed < min || parsed > max) {
              return "must be a whole number from " + std::to_string(min) + " to " + std::to_string(max);
            }
            config.*member = parsed;
            return {};
          },
          [member](const Config& config) { return std::to_string(config.*member); }};
}

Setting choice(std::string_view variable, std::string Config::*member, std::vector<std::string> allowed,
               std::string_view meaning) {
  return {variable, meaning,
          [member, allowed](Config& config, std::string_view value) -> std::optional<std::string> {
            std::string list;
            for (const auto& one : allowed) {
              if (value == one) {
                config.*member = value;
                return {};
              }
              list += (list.empty() ? "" : ", ") + one;
            }
            return "must be one of " + list;
          },
          [member](const Config& config) { return config.*member; }};
}

/// A name of those characters, that neither begins nor ends with a sign.
Setting name(std::string_view variable, std::string Config::*member, std::string_view characters, std::size_t most,
             std::string_view meaning) {
  Setting setting = text(variable, member, meaning);
  setting.parse = [member, characters, most](Config& config, std::string_view value) -> std::optional<std::string> {
    config.*member = value;
    const auto sign = [](char c) { return c == '.' || c == '-'; };
    if (value.empty() || (value.size() <= most && value.find_first_not_of(characters) == std::string_view::npos &&
                          !sign(value.front()) && !sign(value.back()))) {
      return {};
    }
    return "must be a name of at most " + std::to_string(most) + " of " + std::string(characters);
  };
  return setting;
}

/// One of those schemes, a host and perhaps a port; nothing else. A slash at the end is dropped.
Setting host_url(std::string_view variable, std::string Config::*member, std::vector<std::string> schemes,
                 std::string_view meaning) {
  Setting setting = text(variable, member, meaning);
  setting.parse = [member, schemes](Config& config, std::string_view value) -> std::optional<std::string> {
    if (value.ends_with('/')) value.remove_suffix(1);
    config.*member = value;
    if (value.empty()) return {};
    std::string_view host;
    std::string forms;
    for (const std::string& scheme : schemes) {
      if (value.starts_with(scheme)) host = value.substr(scheme.size());
      forms += (forms.empty() ? "" : " or ") + scheme + "host[:port]";
    }
    if (!host.empty() &&
        host.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") ==
            std::string_view::npos) {
      return {};
    }
    return "must be " + forms + ", without a path";
  };
  return setting;
}

Setting mail_from_setting() {
  Setting setting = text("HOURZ_MAIL_FROM", &Config::mail_from, "who mails are from: `Name <address>`, or an address");
  setting.parse = [](Config& config, std::string_view value) -> std::optional<std::string> {
    config.mail_from = value;
    const auto open = value.find('<');
    std::string_view address = open == std::string_view::npos ? value : value.substr(open + 1);
    if (open != std::string_view::npos && address.ends_with('>')) address.remove_suffix(1);
    const auto at = address.find('@');
    const bool sound =
        at != std::string_view::npos && at > 0 && at + 1 < address.size() && is_utf8(value) && !find_forbidden(value) &&
        address.find_first_of(" \t\n\"(),:;<>[\\]") == std::string_view::npos &&
        address.find('@', at + 1) == std::string_view::npos && address.front() != '-' &&
        (open == std::string_view::npos ||
         (value.ends_with('>') && value.substr(0, open).find_first_of("\"\\>\t\n") == std::string_view::npos));
    if (sound) return {};
    return "must be `Name <address>` or an address";
  };
  return setting;
}

Setting quota(std::string_view variable, Quota Config::*member, std::string_view meaning) {
  return {variable, meaning,
          [member](Config& config, std::string_view value) -> std::optional<std::string> {
            const auto parsed = parse_quota(value);
            if (!parsed) return "must be N (a minute) or N/seconds, N from 1 to 1000000 and seconds to 86400";
            config.*member = *parsed;
            return {};
          },
          [member](const Config& config) { return to_text(config.*member); }};
}

Setting trusted_proxies_setting() {
  Setting setting = text("HOURZ_TRUSTED_PROXIES", &Config::trusted_proxies,
                         "addresses and networks, comma-separated (10.0.0.0/8, 2001:db8::7), of proxies whose "
                         "X-Forwarded-For is believed; empty: nobody's is");
  setting.parse = [](Config& config, std::string_view value) -> std::optional<std::string> {
    config.trusted_proxies = value;
    if (Networks::parse(value)) return {};
    return "must be addresses or networks parted by commas, as 10.0.0.0/8, without bits behind the prefix";
  };
  return setting;
}

/// As browsers write an origin: lower case, no path, and no port that the scheme has anyway.
bool is_origin(std::string_view text) {
  const bool https = text.starts_with("https://");
  if (!https && !text.starts_with("http://")) return false;
  const std::string_view host = text.substr(https ? 8 : 7);
  return !host.empty() && host.front() != ':' && !host.ends_with(https ? ":443" : ":80") && host.back() != ':' &&
         host.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-:[]_") == std::string_view::npos;
}

Setting cors_origins_setting() {
  Setting setting = text("HOURZ_CORS_ORIGINS", &Config::cors_origins,
                         "origins, comma-separated and exact (https://app.example), whose pages may read answers and "
                         "open sockets here; the server's own may always");
  setting.parse = [](Config& config, std::string_view value) -> std::optional<std::string> {
    config.cors_origins = value;
    for (const std::string_view origin : items_of(value)) {
      if (!is_origin(origin)) {
        return "must be origins as browsers send them (https://app.example, http://localhost:5173): no path, no *, "
               "no default port";
      }
    }
    return {};
  };
  return setting;
}

Setting environment_setting() {
  return {"HOURZ_ENVIRONMENT", "development or production; production refuses missing and sample secrets",
          [](Config& config, std::string_view value) -> std::optional<std::string> {
            if (value == "development") {
              config.environment = Environment::development;
            } else if (value == "production") {
              config.environment = Environment::production;
            } else {
              return "must be one of development, production";
            }
            return {};
          },
          [](const Config& config) {
            return config.environment == Environment::production ? "production" : "development";
          }};
}

const std::vector<Setting>& table() {
  static const std::vector<Setting> settings{
      environment_setting(),
      address("HOURZ_LISTEN_ADDRESS", &Config::listen_address, "IPv4 or IPv6 address to listen on"),
      number("HOURZ_LISTEN_PORT", &Config::listen_port, 0, 65535, "port to listen on; 0 takes a free one"),
      text("HOURZ_PUBLIC_HOSTS", &Config::public_hosts,
           "host names, comma-separated, that an absolute request target may name; empty: any"),
      text("HOURZ_DATA_DIRECTORY", &Config::data_directory,
           "where the private database, the development secret and files are kept; empty: /var/lib/hourz for root, "
           "else ~/.local/share/hourz"),
      text("HOURZ_FILES_DIRECTORY", &Config::files_directory,
           "where pictures are kept, or written before they are stored elsewhere; empty: `files` in the data "
           "directory"),
      choice("HOURZ_STORAGE", &Config::storage, {"local", "s3"},
             "where pictures are kept: in HOURZ_FILES_DIRECTORY, or in a bucket of an S3-compatible store"),
      host_url("HOURZ_S3_ENDPOINT", &Config::s3_endpoint, {"https://", "http://"},
               "the S3-compatible store; http only where nobody listens in between"),
      name("HOURZ_S3_BUCKET", &Config::s3_bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-", 63, "its bucket"),
      name("HOURZ_S3_REGION", &Config::s3_region, "abcdefghijklmnopqrstuvwxyz0123456789-", 63,
           "its region, as requests are signed for"),
      text("HOURZ_S3_ACCESS_KEY", &Config::s3_access_key,
           "the id of the key that may list, read, write and delete there"),
      secret("HOURZ_S3_SECRET_KEY", &Config::s3_secret_key, "that key's secret"),
      choice("HOURZ_S3_PATH_STYLE", &Config::s3_path_style, {"on", "off"},
             "on: the bucket is the first part of the path; off: it is in front of the host's name"),
      host_url("HOURZ_SMTP_URL", &Config::smtp_url, {"smtp://", "smtps://"},
               "the mail server, smtp://host[:port] or smtps://host[:port]; empty: mail is written to `outbox` in the "
               "data directory"),
      text("HOURZ_SMTP_USER", &Config::smtp_user, "who logs in there, over TLS alone; empty: nobody"),
      secret("HOURZ_SMTP_PASSWORD", &Config::smtp_password, "that user's password"),
      mail_from_setting(),
      host_url("HOURZ_PUBLIC_URL", &Config::public_url, {"https://", "http://"},
               "where the links of mails lead, https://host[:port]: the app's pages /verify-email and /reset-password; "
               "empty: mails hold the bare token"),
      text("HOURZ_RUN_AS", &Config::run_as, "the user that a server started by root becomes"),
      url("HOURZ_DATABASE_URL", &Config::database_url,
          "PostgreSQL to use, as libpq takes it; empty: a private one in the data directory"),
      url("HOURZ_MIGRATION_URL", &Config::migration_url,
          "the same database as its owner, for migrations; empty: HOURZ_DATABASE_URL"),
      text("HOURZ_POSTGRES_BIN", &Config::postgres_bin,
           "folder of the programs of PostgreSQL 15; empty: /usr/lib/postgresql/15/bin"),
      redis_url_setting(),
      number("HOURZ_THREADS", &Config::threads, 0, 256, "I/O threads; 0: one a core"),
      number("HOURZ_READ_CONNECTIONS", &Config::read_connections, 1, 16, "pipelined connections for reads, per thread"),
      number("HOURZ_POOL_CONNECTIONS", &Config::pool_connections, 1, 500,
             "connections for transactions, of the whole process"),
      number("HOURZ_STATEMENT_TIMEOUT_MS", &Config::statement_timeout_ms, 10, 60'000,
             "milliseconds after which the database gives up a statement"),
      number("HOURZ_ANSWER_TIMEOUT_MS", &Config::answer_timeout_ms, 10, 60'000,
             "milliseconds after which we give up a database that does not answer"),
      number("HOURZ_POOL_TIMEOUT_MS", &Config::pool_timeout_ms, 10, 60'000,
             "milliseconds to wait for a free connection"),
      secret("HOURZ_SECRET", &Config::secret,
             "at least 32 bytes of randomness that all keys are derived from; needed in production"),
      secret("HOURZ_TOKEN_KEYS", &Config::token_keys,
             "keys of access tokens, `kid:secret` comma-separated, at most two: the first signs, both are accepted; "
             "empty: one derived from HOURZ_SECRET"),
      text("HOURZ_TOKEN_ISSUER", &Config::token_issuer, "iss of access tokens"),
      text("HOURZ_TOKEN_AUDIENCE", &Config::token_audience, "aud of access tokens"),
      number("HOURZ_ACCESS_TOKEN_S", &Config::access_token_s, 1, 86'400, "seconds that an access token lasts"),
      number("HOURZ_REFRESH_TOKEN_S", &Config::refresh_token_s, 1, 31'536'000,
             "seconds that a session lasts without a refresh"),
      number("HOURZ_HASH_MEMORY_KIB", &Config::hash_memory_kib, 19456, 1'048'576, "Argon2id memory of one hash, KiB"),
      number("HOURZ_HASH_PASSES", &Config::hash_passes, 2, 20, "Argon2id passes"),
      number("HOURZ_HASH_THREADS", &Config::hash_threads, 0, 64, "threads that hash passwords; 0: half the cores"),
      number("HOURZ_HASH_QUEUE", &Config::hash_queue, 1, 100'000,
             "passwords that may wait to be hashed; past it the answer is 503"),
      number("HOURZ_UPLOAD_QUOTA_MB", &Config::upload_quota_mb, 1, 1'000'000,
             "megabytes (MiB) of pictures that an account may keep"),
      number("HOURZ_UPLOAD_QUOTA_FILES", &Config::upload_quota_files, 1, 1'000'000,
             "pictures that an account may keep"),
      number("HOURZ_IMAGE_THREADS", &Config::image_threads, 0, 64,
             "threads that decode and write pictures; 0: half the cores"),
      number("HOURZ_IMAGE_QUEUE", &Config::image_queue, 1, 10'000,
             "pictures that may wait to be decoded; past it the answer is 503"),
      number("HOURZ_FILE_LINK_S", &Config::file_link_s, 1, 86'400,
             "seconds that a signed address of a chat picture lasts"),
      number("HOURZ_LOCATION_BLUR_M", &Config::location_blur_m, 0, 5'000,
             "half the side, in metres, of the squares that the public points of gigs and helpers stand for (off by at "
             "most twice "
             "as much); 0 shows true points to everybody"),
      number("HOURZ_FEE_BPS", &Config::fee_bps, 0, 10'000, "fee of a payment, in basis points: 500 is 5 %"),
      number("HOURZ_AUTO_RELEASE_H", &Config::auto_release_h, 0, 8'760,
             "hours after a gig's completion until its payment is released by itself"),
      number("HOURZ_LEDGER_AUDIT_H", &Config::ledger_audit_h, 0, 8'760,
             "hours between two audits of the ledger in the background, the first at the start; 0: none"),
      choice("HOURZ_RATE_LIMIT", &Config::rate_limit, {"on", "off", "off-in-production-too"},
             "off lifts the rate limits; production takes only off-in-production-too for it"),
      quota("HOURZ_RATE_STANDARD", &Config::rate_standard,
            "requests of an account, or of an address where nobody is logged in: N a minute, or N/seconds"),
      quota("HOURZ_RATE_AUTH", &Config::rate_auth,
            "logins and the like of an address, and of an email address: N a minute, or N/seconds"),
      quota("HOURZ_RATE_ACCOUNT", &Config::rate_account,
            "logins to one email address from anywhere, right or wrong: N a minute, or N/seconds"),
      quota("HOURZ_RATE_UPLOAD", &Config::rate_upload, "uploads of an account: N a minute, or N/seconds"),
      trusted_proxies_setting(),
      cors_origins_setting(),
      number("HOURZ_HSTS_S", &Config::hsts_s, 0, 63'072'000,
             "seconds of Strict-Transport-Security, for servers reached by TLS alone; 0: the field is not sent"),
      number("HOURZ_SOCKETS_PER_USER", &Config::sockets_per_user, 1, 100'000, "open sockets of one account at most"),
      number(
          "HOURZ_PING_INTERVAL_MS", &Config::ping_interval_ms, 1000, 3'600'000,
          "milliseconds between two pings on a WebSocket, which is closed after two and a half times as long without "
          "a word"),
      number(
          "HOURZ_OVERLOAD_TARGET_MS", &Config::overload_target_ms, 0, 10'000,
          "milliseconds: when even the quickest of many requests take longer, new ones are refused with 503; 0: never"),
      number("HOURZ_MAX_CONNECTIONS", &Config::max_connections, 1, 1'000'000,
             "open client connections at most; past it new ones are told 503"),
      number("HOURZ_IDLE_TIMEOUT_MS", &Config::idle_timeout_ms, 10, 3'600'000,
             "milliseconds that a connection may wait between two requests"),
      number("HOURZ_HEADER_TIMEOUT_MS", &Config::header_timeout_ms, 10, 3'600'000,
             "milliseconds for a whole request head"),
      number("HOURZ_BODY_TIMEOUT_MS", &Config::body_timeout_ms, 10, 3'600'000, "milliseconds for a whole request body"),
      number("HOURZ_WRITE_TIMEOUT_MS", &Config::write_timeout_ms, 10, 3'600'000,
             "milliseconds for a client to take an answer, or each 256 KiB of a longer one"),
      number("HOURZ_DRAIN_TIMEOUT_MS", &Config::drain_timeout_ms, 0, 600'000,
             "milliseconds for requests in flight after SIGTERM"),
      choice("HOURZ_LOG_LEVEL", &Config::log_level, {"debug", "info", "warn", "error"}, "the least level logged"),
      choice("HOURZ_DEMO", &Config::demo, {"off", "small"}, "small: fill an empty database with demo data at start"),
  };
  return settings;
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// `NAME=value` lines; blank lines and those that begin with `#` are skipped, a value may stand in double quotes.
void read_file(const std::string& path, Variables& variables, std::string& faults) {
  std::ifstream file(path);
  if (!file) {
    faults += "HOURZ_CONFIG: cannot read " + path + "\n";
    return;
  }
  std::string line;
  std::set<std::string> seen;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line.front() == '#') continue;
    const auto equals = line.find('=');
    if (equals == std::string::npos) {
      if (!trimmed(line).empty()) faults += path + ":" + std::to_string(number) + ": is not NAME=value\n";
      continue;
    }
    const std::string name = trimmed(line.substr(0, equals));
    std::string value = trimmed(line.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    if (!seen.insert(name).second) faults += path + ":" + std::to_string(number) + ": " + name + " stands twice\n";
    variables.emplace(name, value);  // a variable of the process wins
  }
}

void check_secrets(const Config& config, std::string& faults) {
  const bool production = config.environment == Environment::production;
  const auto sample = [](std::string_view value) {
    return value.find("change") != std::string_view::npos || value.find("example") != std::string_view::npos ||
           value.find("secret") != std::string_view::npos ||
           value.find_first_not_of(value.substr(0, 1)) == std::string_view::npos;
  };
  if (production && config.secret.empty()) {
    faults += "HOURZ_SECRET: is needed in production (try: openssl rand -base64 48)\n";
  } else if (!config.secret.empty() && config.secret.size() < 32) {
    faults += "HOURZ_SECRET: must have at least 32 bytes\n";
  } else if (production && sample(config.secret)) {
    faults += "HOURZ_SECRET: is a sample value; production needs random bytes (try: openssl rand -base64 48)\n";
  }
  std::string_view keys = config.token_keys;
  int count = 0;
  while (!keys.empty()) {
    const auto end = std::min(keys.find(','), keys.size());
    const auto one = keys.substr(0, end);
    keys.remove_prefix(std::min(end + 1, keys.size()));
    const auto colon = one.find(':');
    ++count;
    if (colon == std::string_view::npos || colon == 0 || one.size() - colon - 1 < 32) {
      faults += "HOURZ_TOKEN_KEYS: each key must be `kid:secret` with at least 32 bytes of secret\n";
    } else if (production && sample(one.substr(colon + 1))) {
      faults += "HOURZ_TOKEN_KEYS: holds a sample value; production needs random bytes\n";
    }
  }
  if (count > 2) faults += "HOURZ_TOKEN_KEYS: takes at most two keys\n";
}

}  // namespace

Variables environment_variables() {
  Variables variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view pair = *entry;
    const auto equals = pair.find('=');
    if (pair.starts_with("HOURZ_") && equals != std::string_view::npos) {
      variables.emplace(pair.substr(0, equals), pair.substr(equals + 1));
    }
  }
  return variables;
}

Config load_config(const Variables& given) {
  Variables variables = given;
  std::string faults;
  if (const auto file = variables.find("HOURZ_CONFIG"); file != variables.end()) {
    const std::string path = file->second;
    variables.erase(file);
    if (!path.empty()) read_file(path, variables, faults);
  }
  Config config;
  for (const Setting& setting : table()) {
    const auto found = variables.find(std::string(setting.variable));
    if (found == variables.end()) continue;
    if (auto wrong = setting.parse(config, found->second)) {
      faults += std::string(setting.variable) + ": " + *wrong + "\n";
    }
    variables.erase(found);
  }
  for (const auto& [name, value] : variables) {
    if (!name.starts_with("HOURZ_TEST_")) faults += name + ": is not a setting (see `hourz config`)\n";
  }
  if (config.data_directory.empty()) {
    const char* home = std::getenv("HOME");
    config.data_directory =
        geteuid() == 0 || home == nullptr ? "/var/lib/hourz" : std::string(home) + "/.local/share/hourz";
  }
  if (config.migration_url.empty()) config.migration_url = config.database_url;
  if (config.environment == Environment::production && config.rate_limit == "off") {
    faults += "HOURZ_RATE_LIMIT: off is refused in production; off-in-production-too says it twice\n";
  }
  if (config.storage == "s3") {
    if (const std::string missing = missing_s3_settings(config); !missing.empty()) faults += missing + "\n";
  }
  if (config.smtp_user.empty() != config.smtp_password.empty()) {
    faults += "HOURZ_SMTP_USER: and HOURZ_SMTP_PASSWORD are set both or not at all\n";
  }
  check_secrets(config, faults);
  if (!faults.empty()) {
    faults.pop_back();
    throw ConfigError(faults);
  }
  return config;
}

std::string missing_s3_settings(const Config& config) {
  std::string missing;
  const auto need = [&missing](std::string_view variable, const std::string& value) {
    if (value.empty()) {
      missing += (missing.empty() ? "" : "\n") + std::string(variable) + ": is needed to keep files in an S3 store";
    }
  };
  need("HOURZ_S3_ENDPOINT", config.s3_endpoint);
  need("HOURZ_S3_BUCKET", config.s3_bucket);
  need("HOURZ_S3_REGION", config.s3_region);
  need("HOURZ_S3_ACCESS_KEY", config.s3_access_key);
  need("HOURZ_S3_SECRET_KEY", config.s3_secret_key);
  return missing;
}

std::vector<SettingInfo> settings_of(const Config& config) {
  static const Config defaults;
  std::vector<SettingInfo> infos;
  for (const Setting& setting : table()) {
    infos.push_back({setting.variable, setting.meaning, setting.show(defaults), setting.show(config)});
  }
  return infos;
}

std::string derive_key(const Config& config, std::string_view purpose) {
  return std::string(as_text(hmac_sha256(config.secret, "hourz:" + std::string(purpose))));
}

void ensure_secret(Config& config) {
  if (!config.secret.empty()) return;
  const std::string path = (std::filesystem::path(config.data_directory) / "secret").string();
  std::ifstream existing(path, std::ios::binary);
  if (existing) {
    std::getline(existing, config.secret);
  } else {
    // Written aside and linked, so that of two starting at once both read the same one, and never half of it.
    const std::string value = to_hex(random_bytes(32));
    const std::string aside = path + "." + to_hex(random_bytes(6));
    const int file = ::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) throw ConfigError("HOURZ_SECRET: not set, and " + path + " cannot be written");
    const bool written =
        ::write(file, value.data(), value.size()) == static_cast<ssize_t>(value.size()) && ::fsync(file) == 0;
    ::close(file);
    if (written) (void)!::link(aside.c_str(), path.c_str());
    ::unlink(aside.c_str());
    std::ifstream made(path, std::ios::binary);
    std::getline(made, config.secret);
  }
  if (config.secret.size() < 32) throw ConfigError("HOURZ_SECRET: not set, and " + path + " holds no secret");
}

}  // namespace hourz
