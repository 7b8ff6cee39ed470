// Where the hosts of a connection string are. libpq would look names up itself, and hold up its thread, which is a
// shard's, for as long as the name servers take. Here Asio's own thread waits for them; libpq is given the names, which
// it holds certificates against, together with their addresses.
#pragma once
#include "db/connection.hpp"

namespace hourz::db {

using Settings = std::vector<std::pair<std::string, std::string>>;

/// The settings with `hostaddr` for every host that is a name: one entry for each of its addresses. Those without names
/// (sockets, addresses), or with a `hostaddr` already, stay as they are; a name without an address is left out. Error
/// `unavailable` when nothing is left, or not within `limit`.
Awaitable<Settings> with_addresses(boost::asio::io_context& io, Settings settings, std::chrono::milliseconds limit);

}  // namespace hourz::db
