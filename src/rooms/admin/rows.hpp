// What the files of this room share. Nobody else includes this.
#pragma once
#include "rooms/admin/admin.hpp"

namespace hourz::admin {

void install_reports(http::Router& router, Deps& deps);

constexpr Uuid last_uuid() {
  Uuid id;
  id.bytes.fill(0xff);
  return id;
}

}  // namespace hourz::admin
