#include <gtest/gtest.h>

#include "core/crypto.hpp"

int main(int count, char** values) {
  hourz::start_crypto();
  ::testing::InitGoogleTest(&count, values);
  return RUN_ALL_TESTS();
}
