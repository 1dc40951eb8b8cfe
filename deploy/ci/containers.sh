#!/usr/bin/env bash
# Install what builds and runs images without a Docker engine: buildah and crun (Debian's packages),
# a base image of Debian 13 with its Python 3.13, and the Compose client, which reads
# deploy/compose.yaml. Run as root, on Debian 12; done before, it returns at once. No service is
# started.
#
# AMQPJOBS_CACHE       where base and client go (default ~/.cache/amqpjobs; about 250 MB)
# AMQPJOBS_DEBIAN      the Debian mirror to take them from (default: the one that apt uses)
set -euo pipefail

cache=${AMQPJOBS_CACHE:-$HOME/.cache/amqpjobs}/containers
release=trixie
base=$cache/$release.tar
compose=$cache/compose/usr/libexec/docker/cli-plugins/docker-compose

say() { printf 'containers: %s\n' "$*"; }
fail() { printf 'containers: %s\n' "$*" >&2; exit 1; }

programs_are_there() { # `command -v` of several is content with one
  command -v buildah >/dev/null && command -v crun >/dev/null && command -v debootstrap >/dev/null
}

install_packages() {
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  export DEBIAN_FRONTEND=noninteractive
  "${apt[@]}" update
  "${apt[@]}" install --no-install-recommends buildah ca-certificates crun debootstrap \
    debian-archive-keyring
}

debian_mirror() { # of `main`, whatever release this is; empty: debootstrap's own default
  # shellcheck disable=SC2016 # these are apt's variables
  printf '%s\n' "${AMQPJOBS_DEBIAN:-$(apt-get indextargets --format '$(COMPONENT) $(SITE) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "main" && $3 ~ /\/debian\/?$/ && !seen++ { print $3 }')}"
}

# As python:slim is: what Python needs, the certificates of authorities, and pip.
make_base() {
  local tree=$building/tree proxy=
  # debootstrap does not read apt's configuration.
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [ -z "$proxy" ] || export http_proxy=$proxy
  # In a mount namespace: what debootstrap mounts goes with it, also when it is interrupted.
  unshare --mount debootstrap --variant=minbase \
    --include=ca-certificates,python3,python3-pip,python3-venv \
    "$release" "$tree" "$(debian_mirror)" >"$building/log" 2>&1 ||
    { tail -n 20 "$building/log" >&2; fail 'debootstrap failed'; }
  fetch_compose "$tree"
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/* \
    "$tree"/usr/share/{doc,info,locale,man}/* "$tree"/etc/{hostname,resolv.conf}
  tar --create --file "$building/base.tar" --numeric-owner --one-file-system -C "$tree" .
  mv "$building/base.tar" "$base" # a file gets its name when it is complete
}

fetch_compose() { # a tree whose apt knows the release that the client is taken from
  local tree=$1
  (cd "$tree/tmp" && unshare --mount chroot "$tree" sh -c \
    'cd /tmp && apt-get -q update && apt-get -q download docker-compose') >>"$building/log" 2>&1 ||
    { tail -n 20 "$building/log" >&2; fail 'the Compose client cannot be fetched'; }
  dpkg-deb --extract "$tree"/tmp/docker-compose_*.deb "$building/compose"
  rm -rf "$tree"/tmp/docker-compose_*.deb "$cache/compose"
  mv -T "$building/compose" "$cache/compose"
}

if ! programs_are_there || [ ! -e "$base" ] || [ ! -x "$compose" ]; then
  [ "$(id -u)" = 0 ] || fail "run this as root: sudo AMQPJOBS_CACHE='${cache%/containers}' $0"
  command -v apt-get >/dev/null || fail 'needs Debian 12 (there is no apt-get here)'
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9 # two test runs on a fresh machine
  if ! programs_are_there; then
    say 'installing buildah and crun'
    install_packages
  fi
  if [ ! -e "$base" ] || [ ! -x "$compose" ]; then
    say "building Debian $release with Python (a minute or two)"
    building=$(mktemp -d "$cache/.building.XXXXXX")
    trap 'rm -rf --one-file-system "$building"' EXIT
    make_base
  fi
fi

say "$(buildah --version), $(crun --version | head -n 1), $("$compose" version)"
