// A small checker of JSON against the schemas of an OpenAPI 3.1 document, for the keywords that the document uses. A
// keyword that it does not know is itself a fault, so that nothing is passed unseen. It runs after every exchange of
// the tests; a second opinion, by another implementation, is tests/check_exchanges.py at the end of a whole run.
#pragma once
#include <boost/json.hpp>
#include <string>
#include <vector>

namespace hourz::harness {

class SchemaChecker {
 public:
  /// The document must outlive the checker.
  explicit SchemaChecker(const boost::json::value& document) : document_(document) {}

  /// What is wrong, a line each with its place; empty when the value fits.
  std::vector<std::string> faults_of(const boost::json::value& schema, const boost::json::value& value) const;

 private:
  void check(const boost::json::value& schema, const boost::json::value& value, const std::string& at,
             std::vector<std::string>& faults) const;
  void check_object(const boost::json::object& schema, const boost::json::object& value, const std::string& at,
                    std::vector<std::string>& faults) const;
  const boost::json::value& document_;
};

}  // namespace hourz::harness
