#!/bin/sh
# Puts into DIR/node_modules exactly what DIR/package-lock.json pins, running none of the packages' own scripts.
# Does nothing, and needs no network, when that is there already. Usage: web/install.sh DIR
set -eu
cd "$1"
exec 9>.install.lock
flock 9
stamp=node_modules/.installed-lock.json
if cmp -s package-lock.json "$stamp"; then
  exit 0
fi
echo "npm ci in $1" >&2
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 >&2 || {
  echo "npm could not fetch what $1/package-lock.json pins; this needs its registry once" >&2
  exit 1
}
cp package-lock.json "$stamp"
