# What every target of Hourz shares: warnings, hardening, sanitizers, the precompiled header, embedded files.

find_package(Threads REQUIRED)
set(Boost_NO_WARN_NEW_VERSIONS ON)
find_package(Boost 1.81 EXACT REQUIRED COMPONENTS json)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PQ REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
# As an archive, for its calls of mmap are bound when we link (rooms/auth/hash_memory.hpp); a shared one works too, slower.
find_library(SODIUM_ARCHIVE libsodium.a HINTS ${SODIUM_LIBRARY_DIRS})
if(SODIUM_ARCHIVE)
  set_property(TARGET PkgConfig::SODIUM PROPERTY INTERFACE_LINK_LIBRARIES ${SODIUM_ARCHIVE})
endif()
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
find_package(EXPAT REQUIRED)
find_package(fmt REQUIRED)
pkg_check_modules(HIREDIS REQUIRED IMPORTED_TARGET hiredis)
pkg_check_modules(ICU REQUIRED IMPORTED_TARGET icu-uc icu-i18n)
pkg_check_modules(VIPS REQUIRED vips)
# By hand, since its -pthread does not go with the shared precompiled header.
add_library(hourz_vips INTERFACE)
target_include_directories(hourz_vips SYSTEM INTERFACE ${VIPS_INCLUDE_DIRS})
target_link_libraries(hourz_vips INTERFACE ${VIPS_LINK_LIBRARIES})
find_package(prometheus-cpp REQUIRED CONFIG)
find_package(Python3 REQUIRED COMPONENTS Interpreter)

add_library(hourz_flags INTERFACE)
target_compile_options(hourz_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Werror
  -Wno-gnu-zero-variadic-macro-arguments
  # Libraries and programs alike, since they share one precompiled header: clang refuses one made with -fPIC for a program.
  -fPIE -fstack-protector-strong -fno-omit-frame-pointer -g1
  # The same input gives the same object file, wherever the checkout lies.
  "-ffile-prefix-map=${CMAKE_SOURCE_DIR}=." "-ffile-prefix-map=${CMAKE_BINARY_DIR}=build")
target_compile_definitions(hourz_flags INTERFACE
  _GLIBCXX_ASSERTIONS BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION
  BOOST_ASIO_NO_DEPRECATED BOOST_BEAST_USE_STD_STRING_VIEW BOOST_ASIO_DISABLE_BOOST_COROUTINE)
target_include_directories(hourz_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/generated)
target_link_libraries(hourz_flags INTERFACE Threads::Threads)
target_link_options(hourz_flags INTERFACE -fuse-ld=mold -pie -Wl,-z,relro,-z,now,-z,noexecstack)
if(HOURZ_SANITIZE)
  target_compile_options(hourz_flags INTERFACE -fsanitize=${HOURZ_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(hourz_flags INTERFACE -fsanitize=${HOURZ_SANITIZE})
else()
  target_compile_definitions(hourz_flags INTERFACE $<$<CONFIG:Release,RelWithDebInfo>:_FORTIFY_SOURCE=2>)
endif()
if(HOURZ_FUZZ)
  target_compile_options(hourz_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # Without it a precompiled header carries its time and ccache misses on every clean checkout.
  target_compile_options(hourz_flags INTERFACE "SHELL:-Xclang -fno-pch-timestamp")
endif()

# Boost's own sources are compiled once here: a file that only includes Asio then costs a third.
add_library(hourz_asio STATIC ${CMAKE_SOURCE_DIR}/cmake/boost_asio.cpp)
target_link_libraries(hourz_asio PUBLIC hourz_flags Boost::headers)
target_compile_options(hourz_asio PRIVATE -w)
add_library(hourz_beast STATIC ${CMAKE_SOURCE_DIR}/cmake/boost_beast.cpp)
target_link_libraries(hourz_beast PUBLIC hourz_asio)
target_compile_options(hourz_beast PRIVATE -w)

add_library(hourz_pch STATIC ${CMAKE_SOURCE_DIR}/cmake/pch.cpp)
target_link_libraries(hourz_pch PUBLIC hourz_asio Boost::json)
target_precompile_headers(hourz_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch.hpp)
# A precompiled header holds absolute paths, so each checkout makes its own, and ccache would take each for another
# input. With CCACHE_PCH_EXTSUM it looks at this checksum instead: a clean build of another checkout is all hits but one.
# CMake's own option also names the header by its absolute path, to no use once the precompiled one is there.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set(CMAKE_CXX_COMPILE_OPTIONS_USE_PCH -Xclang -include-pch -Xclang <PCH_FILE>)
  set(sum ${CMAKE_BINARY_DIR}/CMakeFiles/hourz_pch.dir/cmake_pch.hxx.pch.sum)
  separate_arguments(flags UNIX_COMMAND "${CMAKE_CXX_FLAGS} -std=c++20")
  if(HOURZ_SANITIZE)
    list(APPEND flags -fsanitize=${HOURZ_SANITIZE})
  endif()
  add_custom_command(OUTPUT ${sum}
    COMMAND ${CMAKE_SOURCE_DIR}/cmake/pch_sum.sh ${sum} cmake/pch.hpp ${CMAKE_CXX_COMPILER} ${flags}
            "-D$<JOIN:$<TARGET_PROPERTY:hourz_pch,COMPILE_DEFINITIONS>,;-D>"
    DEPENDS ${CMAKE_SOURCE_DIR}/cmake/pch.hpp ${CMAKE_SOURCE_DIR}/cmake/pch_sum.sh DEPFILE ${sum}.d
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} COMMAND_EXPAND_LISTS VERBATIM)
  add_custom_target(hourz_pch_sum DEPENDS ${sum})
  add_dependencies(hourz_pch hourz_pch_sum)
endif()

# hourz_library(NAME FILES... DEPENDS LIBS...): one folder, one library, one precompiled header for all.
function(hourz_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;SQL" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC hourz_flags hourz_asio Boost::json ${ARG_DEPENDS})
  target_precompile_headers(${name} REUSE_FROM hourz_pch)
  foreach(sql ${ARG_SQL})
    hourz_embed_sql(${name} ${sql})
  endforeach()
endfunction()

# A room's statements: gigs.sql becomes <generated>/gigs_sql.hpp with one constant a statement.
function(hourz_embed_sql target sql)
  get_filename_component(stem ${sql} NAME_WE)
  set(out ${CMAKE_BINARY_DIR}/generated/${stem}_sql.hpp)
  add_custom_command(OUTPUT ${out}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/embed_sql.py ${CMAKE_CURRENT_SOURCE_DIR}/${sql} ${out}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${sql} ${CMAKE_SOURCE_DIR}/tools/embed_sql.py VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
