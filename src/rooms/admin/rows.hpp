// What the files of this room share. Nobody else includes this.
#pragma once
#include "rooms/admin/admin.hpp"

namespace hourz::admin {

void install_reports(http::Router& router, Deps& deps);

}  // namespace hourz::admin
