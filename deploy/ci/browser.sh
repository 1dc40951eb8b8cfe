#!/usr/bin/env bash
# Install the Chromium that the tests look at web pages with: Debian's package. Run as root; done
# before, it returns at once. AMQPJOBS_TEST_BROWSER=/path/to/chromium names another one.
set -euo pipefail

say() { printf 'browser: %s\n' "$*"; }

browser=${AMQPJOBS_TEST_BROWSER:-$(command -v chromium || true)}
if [ -z "$browser" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "needs root on Debian: sudo $0; or set AMQPJOBS_TEST_BROWSER" >&2
    exit 1
  fi
  say 'installing chromium'
  apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" update
  "${apt[@]}" install --no-install-recommends chromium
  browser=$(command -v chromium)
fi
say "$("$browser" --version) in $browser"
