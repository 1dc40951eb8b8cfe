#!/usr/bin/env bash
# Check deploy/prometheus, and run the tests of its alerts, by promtool: the machine's, or the one of
# Debian's package prometheus, which is taken out of it: installed, it would start a service.
#
# AMQPJOBS_CACHE       where promtool goes (default ~/.cache/amqpjobs; 50 MB)
set -euo pipefail

cache=${AMQPJOBS_CACHE:-$HOME/.cache/amqpjobs}
cd "$(dirname "${BASH_SOURCE[0]}")/../prometheus"

say() { printf 'alerts: %s\n' "$*"; }

building=
fetch() { # into the cache; apt verifies what it downloads
  if ! command -v apt-get >/dev/null; then
    say 'needs promtool: of https://prometheus.io/download, or on Debian of its package prometheus' >&2
    exit 1
  fi
  mkdir -p "$cache"
  building=$(mktemp -d "$cache/.promtool.XXXXXX")
  chmod 755 "$building" # apt downloads as a user of its own
  trap 'rm -rf "$building"' EXIT
  say "fetching Debian's package prometheus"
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  if [ "$(id -u)" = 0 ]; then
    chown _apt "$building" 2>/dev/null || true
    "${apt[@]}" update
  fi
  (cd "$building" && "${apt[@]}" download prometheus)
  dpkg-deb --fsys-tarfile "$building"/prometheus_*.deb | tar -x -C "$building" ./usr/bin/promtool
  mv -f "$building/usr/bin/promtool" "$cache/promtool"
}

promtool=$(command -v promtool || true)
if [ -z "$promtool" ]; then
  [ -x "$cache/promtool" ] || fetch
  promtool=$cache/promtool
fi

"$promtool" check config prometheus.yaml
"$promtool" check rules alerts.yaml
"$promtool" test rules alerts_test.yaml
