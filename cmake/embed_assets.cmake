# hourz_assets: the files of the /docs page and the list of common passwords inside the binary (src/http/assets.hpp).
# npm is asked only when web/node_modules is not what web/package-lock.json pins; from there on no network is needed.
# .incbin takes the two megabytes in milliseconds, where an array in C++ would take the compiler many seconds.

find_program(HOURZ_NODE node REQUIRED)
block()
set(web ${CMAKE_SOURCE_DIR}/web)
set(generated ${CMAKE_BINARY_DIR}/generated/assets)
file(GLOB page CONFIGURE_DEPENDS ${web}/docs/*)

add_custom_command(OUTPUT ${generated}/assets.S ${generated}/assets.cpp
  COMMAND ${web}/install.sh ${web}
  COMMAND ${HOURZ_NODE} ${web}/build.mjs ${generated}
  DEPENDS ${page} ${web}/build.mjs ${web}/install.sh ${web}/package.json ${web}/package-lock.json
  COMMENT "Vendoring the /docs page" VERBATIM)
add_custom_target(hourz_assets_made DEPENDS ${generated}/assets.S ${generated}/assets.cpp)

# The bytes apart from the table: compiler warnings and sanitizers are for C++, not for an assembler file.
add_library(hourz_asset_bytes OBJECT ${generated}/assets.S)
add_dependencies(hourz_asset_bytes hourz_assets_made)
add_library(hourz_assets STATIC ${generated}/assets.cpp $<TARGET_OBJECTS:hourz_asset_bytes>)
add_dependencies(hourz_assets hourz_assets_made)
target_link_libraries(hourz_assets PUBLIC hourz_flags)
endblock()
