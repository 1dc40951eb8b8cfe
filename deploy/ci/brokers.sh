#!/usr/bin/env bash
# Install the servers that the tests start: RabbitMQ 3.10 (Debian 12's package) and 4.3 (Debian
# testing's), PostgreSQL and libfaketime (Debian's). Run as root, on Debian 12; done before, it returns
# at once. No service is started. The tree of Debian testing also has its newest Python, for
# pythons.sh.
#
# AMQPJOBS_CACHE       where 4.3 goes (default ~/.cache/amqpjobs; about 500 MB)
# AMQPJOBS_DEBIAN      the Debian mirror to take it from (default: the one that apt uses)
set -euo pipefail

cache=${AMQPJOBS_CACHE:-$HOME/.cache/amqpjobs}
server=usr/lib/rabbitmq/bin/rabbitmq-server

say() { printf 'brokers: %s\n' "$*"; }
fail() { printf 'brokers: %s\n' "$*" >&2; exit 1; }

# Debian 12's own package is 3.10.8. Anywhere else, Debian 12 is put in the cache as well.
packaged_310() { compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.*' >/dev/null; }
complete() { # a tree gets its name when it is complete; one of an older script has no Python
  [ -e "$cache/$1/$server" ] && { [ "$1" != forky ] || [ -e "$cache/$1/usr/bin/python3.14" ]; }
}
on_debian_12() { grep -qx 'VERSION_CODENAME=bookworm' /etc/os-release && grep -qx 'ID=debian' /etc/os-release; }

install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  # Packages start their services when installed, unless this file forbids it.
  local policy=/usr/sbin/policy-rc.d own_policy=
  if [ ! -e "$policy" ]; then
    own_policy=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" update
  "${apt[@]}" install --no-install-recommends "${missing[@]}"
  if [ -n "$own_policy" ]; then
    rm -f "$policy"
    trap - EXIT
  fi
  if [[ " ${missing[*]} " == *" rabbitmq-server "* ]] && [ -d /run/systemd/system ]; then
    systemctl disable --quiet rabbitmq-server || true # nor at the next boot
  fi
}

debian_mirror() {
  local mirror=
  if [ -n "${AMQPJOBS_DEBIAN:-}" ]; then
    mirror=$AMQPJOBS_DEBIAN
  elif on_debian_12; then
    # shellcheck disable=SC2016 # these are apt's variables
    mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
      awk '$1 == "bookworm" && $2 == "main" && !seen++ { print $3 }')
  fi
  printf '%s\n' "$mirror" # empty: debootstrap's own default
}

build_tree() { # release, debootstrap's script for it, packages
  local release=$1 script=$2 packages=$3 mirror proxy= building
  mirror=$(debian_mirror)
  # debootstrap does not read apt's configuration.
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [ -z "$proxy" ] || export http_proxy=$proxy
  find "$cache" -mindepth 1 -maxdepth 1 -name ".$release.*" -exec rm -rf --one-file-system {} +
  building=$(mktemp -d "$cache/.$release.XXXXXX")
  chmod 755 "$building"
  say "building Debian $release with rabbitmq-server from ${mirror:-its own mirror} (a minute or two)"
  # In a mount namespace: what debootstrap mounts goes with it, also when it is interrupted.
  if ! unshare --mount debootstrap --variant=minbase --include="$packages" \
    "$release" "$building" "$mirror" "/usr/share/debootstrap/scripts/$script" >"$cache/$release.log" 2>&1; then
    tail -n 20 "$cache/$release.log" >&2
    fail "debootstrap failed; the whole log is $cache/$release.log"
  fi
  rm -rf "$building"/var/cache/apt/archives/*.deb "$building"/var/lib/apt/lists/*
  # Nodes are called NAME@localhost, and the tree has no other way to know what that is.
  printf '127.0.0.1 localhost\n' >"$building/etc/hosts"
  rm -rf --one-file-system "${cache:?}/$release"
  mv -T "$building" "$cache/$release"
}

need_310_tree() { ! packaged_310 && ! on_debian_12; }
packaged_faketime() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null; }
packaged_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
networks() { command -v ip >/dev/null; } # of clusters of nodes, for the fault tests
everything_is_there() { { packaged_310 || complete bookworm; } && complete forky && packaged_postgres && packaged_faketime && networks; }

if ! everything_is_there; then
  [ "$(id -u)" = 0 ] || fail "run this as root: sudo AMQPJOBS_CACHE='$cache' $0"
  command -v apt-get >/dev/null || fail "needs Debian 12 (there is no apt-get here); or set AMQPJOBS_TEST_URL"
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9 # two test runs on a fresh machine
  install_packages debootstrap debian-archive-keyring
  if on_debian_12; then
    install_packages rabbitmq-server
  fi
  if ! packaged_postgres; then
    # Its package would make a cluster of its own, and start it.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
      printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.conf
    install_packages postgresql
  fi
  packaged_faketime || install_packages faketime # clocks that differ, for the fault tests
  networks || install_packages iproute2
  if need_310_tree && ! complete bookworm; then
    build_tree bookworm bookworm rabbitmq-server
  fi
  # Debian 12's debootstrap does not know forky by name; it is built as sid is.
  complete forky || build_tree forky sid rabbitmq-server,python3.13,python3.14
fi

for file in /usr/lib/rabbitmq/lib/rabbitmq_server-* "$cache"/{bookworm,forky}/usr/lib/rabbitmq/lib/rabbitmq_server-*; do
  [ ! -d "$file" ] || say "RabbitMQ ${file##*-} in ${file%/usr/lib/*}/"
done
