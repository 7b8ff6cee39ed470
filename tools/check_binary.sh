#!/usr/bin/env bash
# Whether a binary carries the hardening that docs/security.md promises; prints what is missing and fails then.
# Usage: tools/check_binary.sh BINARY
set -euo pipefail
binary=${1:?a binary}
missing=0

# holds WHAT TEXT PATTERN: TEXT, of readelf, has a line that matches PATTERN.
holds() {
  grep -qE -- "$3" <<<"$2" && return
  printf '%s: %s\n' "$binary" "$1"
  missing=$((missing + 1))
}

header=$(readelf -hW "$binary")
segments=$(readelf -lW "$binary")
dynamic=$(readelf -dW "$binary")
symbols=$(readelf -W --dyn-syms "$binary")
holds 'is not position independent' "$header" 'Type: +DYN'
holds 'is not marked as position independent' "$dynamic" 'FLAGS_1.*PIE'
holds 'has no read-only relocations' "$segments" 'GNU_RELRO'
holds 'does not bind at start' "$dynamic" 'BIND_NOW|FLAGS_1.*NOW'
holds 'has an executable stack' "$segments" 'GNU_STACK.* RW +0x'
holds 'has no stack protector' "$symbols" '__stack_chk_fail'
holds 'was built without _FORTIFY_SOURCE' "$symbols" '__(memcpy|memmove|snprintf|vsnprintf|read|fdelt|strncpy|fprintf|recv|poll|pread64)_chk'
holds 'was built without _GLIBCXX_ASSERTIONS' "$symbols" '_ZSt2[01]__glibcxx_assert_fail|__glibcxx_assert_fail'
((missing == 0))
