// The pipeline on a real database: idempotency keys, problem documents, media types, conditional requests.
#include "harness/harness.hpp"
