#!/usr/bin/env bash
# Make .venvs/VERSION for each newer Python that the project promises to run on: the machine's own
# interpreter, pyenv's, or the one in the tree of Debian testing that brokers.sh has built. A version
# that cannot be had is named, and its tests do not run.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

versions=(3.12 3.13 3.14)
tree=$cache/forky

runs() { # an interpreter, a version
  [ -x "$1" ] && "$1" -c "import sqlite3, ssl, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

# Debian testing's interpreter runs outside of its tree once it loads the tree's own C library.
# RPATH and not RUNPATH, so that the libraries that it loads are looked for there too.
adopt() { # a version
  local binary=$tree/usr/bin/python$1 loader
  [ -x "$binary" ] || return 1
  loader=$(compgen -G "$tree/usr/lib*/ld-linux-*.so.*" | head -n 1)
  if ! runs "$binary" "$1"; then
    command -v patchelf >/dev/null || {
      [ "$(id -u)" = 0 ] && apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends patchelf
    } || return 1
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$tree/usr/lib/$(uname -m)-linux-gnu" "$binary"
  fi
  runs "$binary" "$1"
}

interpreter_of() { # a version; prints its path
  local candidate
  for candidate in "$(command -v "python$1" || true)" /usr/bin/python"$1" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python"$1"; do
    if runs "$candidate" "$1"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  adopt "$1" >&2 && printf '%s\n' "$tree/usr/bin/python$1"
}

make_python() { # a version
  local venv=.venvs/$1 interpreter
  if ! interpreter=$(interpreter_of "$1"); then
    printf 'pythons: no Python %s can be had here; its tests do not run\n' "$1" >&2
    return
  fi
  runs "$venv/bin/python" "$1" || "$uv" venv --quiet --clear --python "$interpreter" "$venv"
  "$uv" pip sync --quiet --python "$venv/bin/python" --require-hashes deploy/requirements-dev.txt
  "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
  printf 'pythons: %s in %s\n' "$("$venv/bin/python" --version)" "$venv"
}

find_uv >/dev/null
for version in "${versions[@]}"; do make_python "$version"; done
