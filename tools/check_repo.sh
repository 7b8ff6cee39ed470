#!/usr/bin/env bash
# Rules that hold for every file of the repository; prints each breach and fails when there is one.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
breaches=0

# breach RULE LINES: reports the lines, if any.
breach() {
  [[ $2 ]] || return 0
  printf '%s\n%s\n' "$1:" "$2" | sed '2,$s/^/  /'
  breaches=$((breaches + 1))
}

files() { git ls-files -z -co --exclude-standard -- "$@"; }
# search PATTERN PATH…: grep over the text of our own files, this one aside.
search() { git grep --untracked -nIE -e "$1" -- "${@:2}" ':!tools/check_repo.sh' ':!*package-lock.json'; }

breach 'an absolute path of this checkout' "$(git grep --untracked -nIF -e "$PWD/" -e "$(dirname "$PWD")/main/" -- .)"
breach 'unfinished by its own words' "$(search '\b(TO''DO|FIX''ME|XXX)\b|not implemented')"
breach 'a file over 1.5 MB: make it at build time' "$(files . | xargs -0 -r stat -c '%s %n' 2>/dev/null | awk '$1 > 1500000')"
breach 'a source file over 700 lines: split it by noun' "$(files src tools bench fuzz web/build.mjs dev ':!*package-lock.json' ':!bench/results' |
  xargs -0 -r wc -l 2>/dev/null | awk '$2 != "total" && $1 > 700')"
breach 'a Beast header outside src/net' "$(search '#include <boost/beast' src ':!src/net')"
breach 'npm versions that are not exact' "$(search '"[^"]+": "[\^~><*]' '*package.json')"
breach 'a lock file that names a registry' "$(git grep --untracked -nIF -e '"resolved"' -- '*package-lock.json')"
breach 'a script without a run bit' "$(git ls-files -s -- dev .ci/run tools/tour 'tools/*.sh' 'web/*.sh' | awk '$1 == "100644" {print $4}')"

# Keys, in the files and in all that they ever were. The one that AWS made up for its own documentation is none.
keys='-----BEGIN [A-Z ]*PRIVATE KEY-----|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[0-9A-Za-z-]{10,}'
breach 'a key' "$(search "$keys" . | grep -v 'AKIAIOSFODNN7EXAMPLE')"
breach 'a key in the history' "$(git log --all -p -E -G"$keys" -- . ':!tools/check_repo.sh' | grep -E '^[+-]' | grep -E -e "$keys" | grep -v 'AKIAIOSFODNN7EXAMPLE')"

((breaches == 0))
