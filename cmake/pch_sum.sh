#!/bin/sh
# Writes to OUT a checksum of what the precompiled header holds: its preprocessed text. Run in the source directory with
# relative paths, so that every checkout gives the same. Usage: pch_sum.sh OUT HEADER COMPILER FLAGS...
set -eu
out=$1 header=$2
shift 2
"$@" -Isrc -w -x c++ -E -MD -MF "$out.d" -MT "$out" "$header" >"$out.text"
sha256sum <"$out.text" >"$out"
rm -f "$out.text"
# The build reads the list of what it depends on from elsewhere: own files by their whole path there.
sed -i "s# \(cmake\|src\)/# $PWD/\1/#g" "$out.d"
