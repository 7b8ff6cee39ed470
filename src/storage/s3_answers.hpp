// What an S3-compatible store says in XML: a page of a listing, and the code of an error. Read by Expat, with every
// document type refused, so that nothing expands. Only the members that Hourz needs are kept; texts are bounded by the
// caller's limit on the whole answer.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "storage/storage.hpp"

namespace hourz::storage {

struct ListPage {
  std::vector<ObjectInfo> objects;
  std::string next;  ///< continuation token; empty on the last page
};

/// Nothing when it is no well-formed ListBucketResult with sound sizes and times.
std::optional<ListPage> read_list_page(std::string_view xml);

/// The <Code> of an <Error>, or nothing.
std::string read_error_code(std::string_view xml);

}  // namespace hourz::storage
