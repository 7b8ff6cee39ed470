// Every setting of Hourz: one table gives each its environment variable, default, meaning and range. Settings come from
// HOURZ_* variables, or from the file that HOURZ_CONFIG names (`NAME=value` lines; variables win), and are checked at
// start: whatever is wrong is said at once, a line each. `hourz config` prints the table, secrets masked.
#pragma once
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/quota.hpp"

namespace hourz {

enum class Environment { development, production };

struct Config {
  Environment environment = Environment::development;
  std::string listen_address = "127.0.0.1";
  std::int64_t listen_port = 8000;
  std::string public_hosts;
  std::string data_directory;
  std::string files_directory;
  std::string storage = "local";
  std::string s3_endpoint;
  std::string s3_bucket;
  std::string s3_region = "us-east-1";
  std::string s3_access_key;
  std::string s3_secret_key;
  std::string s3_path_style = "on";
  std::string smtp_url;
  std::string smtp_user;
  std::string smtp_password;
  std::string mail_from = "Hourz <no-reply@hourz.invalid>";
  std::string public_url;
  std::string run_as = "postgres";
  std::string database_url;
  std::string migration_url;
  std::string postgres_bin;
  std::string redis_url;
  std::int64_t threads = 0;
  std::int64_t read_connections = 2;
  std::int64_t pool_connections = 16;
  std::int64_t statement_timeout_ms = 1500;
  std::int64_t answer_timeout_ms = 2000;
  std::int64_t pool_timeout_ms = 700;
  std::string secret;
  std::string token_keys;
  std::string token_issuer = "hourz";
  std::string token_audience = "hourz-api";
  std::int64_t access_token_s = 900;
  std::int64_t refresh_token_s = 30 * 24 * 3600;
  std::int64_t hash_memory_kib = 19456;
  std::int64_t hash_passes = 2;
  std::int64_t hash_threads = 0;
  std::int64_t hash_queue = 256;
  std::int64_t upload_quota_mb = 200;
  std::int64_t upload_quota_files = 500;
  std::int64_t image_threads = 0;
  std::int64_t image_queue = 64;
  std::int64_t file_link_s = 3600;
  std::int64_t location_blur_m = 200;
  std::int64_t fee_bps = 500;
  std::int64_t auto_release_h = 72;
  std::int64_t ledger_audit_h = 24;
  std::string rate_limit = "on";
  Quota rate_standard{300};
  Quota rate_auth{5};
  Quota rate_account{100, 3600};
  Quota rate_upload{10};
  std::string trusted_proxies;
  std::string cors_origins;
  std::int64_t hsts_s = 0;
  std::int64_t sockets_per_user = 20;
  std::int64_t ping_interval_ms = 30'000;
  std::int64_t overload_target_ms = 200;
  std::int64_t max_connections = 10'000;
  std::int64_t idle_timeout_ms = 60'000;
  std::int64_t header_timeout_ms = 10'000;
  std::int64_t body_timeout_ms = 15'000;
  std::int64_t write_timeout_ms = 15'000;
  std::int64_t drain_timeout_ms = 8'000;
  std::string log_level = "info";
  std::string demo = "off";
};

/// All that is wrong with the settings, a line each.
struct ConfigError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct SettingInfo {
  std::string_view variable;
  std::string_view meaning;
  std::string default_text;
  std::string current;  ///< masked when it is a secret
};

using Variables = std::map<std::string, std::string>;

/// The HOURZ_* variables of this process.
Variables environment_variables();

/// Reads and checks. Throws ConfigError. An unknown HOURZ_ variable is an error (a mistyped one must not be dropped in
/// silence), but for those that begin with HOURZ_TEST_.
Config load_config(const Variables& variables);

/// The settings without which HOURZ_STORAGE=s3 cannot be, a line each; empty when none is missing.
std::string missing_s3_settings(const Config& config);

/// The table, for `hourz config` and the documentation.
std::vector<SettingInfo> settings_of(const Config& config);

/// Keys derived from the one secret, so that none serves two purposes: HMAC-SHA-256 over the purpose's name.
std::string derive_key(const Config& config, std::string_view purpose);

/// In development without HOURZ_SECRET: the secret kept in the data directory, made on first use (mode 0600).
/// Throws ConfigError when it cannot be read or written.
void ensure_secret(Config& config);

}  // namespace hourz
