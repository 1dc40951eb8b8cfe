#!/usr/bin/env bash
# Install systemd-analyze, by which the tests check the units in deploy/systemd: Debian's package of
# systemd, of which nothing is started. Run as root; done before, it returns at once.
set -euo pipefail

say() { printf 'systemd-analyze: %s\n' "$*"; }

if ! command -v systemd-analyze >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "needs root on Debian: sudo $0" >&2
    exit 1
  fi
  say 'installing systemd'
  apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" update
  "${apt[@]}" install --no-install-recommends systemd
fi
say "$(systemd-analyze --version | head -n 1)"
