# For the scripts beside it (sourced): steps with their durations, uv, and the project's .venv.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${AMQPJOBS_CACHE:-$HOME/.cache/amqpjobs}
cd "$root"
exec </dev/null # nothing here asks anybody anything

# A container may say so. Here hundreds of programs start, and each would compile all that it imports.
unset PYTHONDONTWRITEBYTECODE
export UV_PYTHON_DOWNLOADS=never # the machine's own Python; no downloads from elsewhere than PyPI
# A step that fails ends the script, so what is printed here is what failed.
step_name=
step_times=()
trap 'status=$?; [ "$status" = 0 ] || printf "\n== FAILED: %s (exit status %d)\n" "${step_name:-start}" "$status" >&2' EXIT

step() { # what it is called, then the command
  local started=$SECONDS
  step_name=$1
  shift
  printf '\n== %s\n' "$step_name"
  "$@"
  step_times+=("$((SECONDS - started)) s  $step_name")
  step_name=
}

step_summary() {
  printf '\n== durations\n'
  printf '%s\n' "${step_times[@]}" "$SECONDS s  in all"
}

python=
find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$(command -v "$candidate")
      return
    fi
  done
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    install_debian_python
    python=/usr/bin/python3
    return
  fi
  echo "Python 3.11 or newer is needed (on Debian 12: apt-get install python3-venv)" >&2
  return 1
}

install_debian_python() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q -y -o DPkg::Lock::Timeout=300 update
  apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends python3-venv
}

uv=
# A uv of 0.8 or newer: the machine's, or one from PyPI in a venv of its own, since Debian's Python
# takes no packages from elsewhere (PEP 668).
find_uv() {
  local candidate
  for candidate in uv "$cache/uv/bin/uv"; do
    if "$candidate" pip compile --help 2>/dev/null | grep -e --group >/dev/null; then # grep -q would break the pipe
      uv=$(command -v "$candidate")
      "$uv" --version
      return
    fi
  done
  find_python
  mkdir -p "$cache"
  rm -rf "$cache/uv"
  if ! "$python" -m venv "$cache/uv"; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      echo "$python has no venv module (on Debian: apt-get install python3-venv)" >&2
      return 1
    fi
    install_debian_python
    rm -rf "$cache/uv"
    "$python" -m venv "$cache/uv"
  fi
  "$cache/uv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
  uv=$cache/uv/bin/uv
  "$uv" --version
}

# .venv holds what deploy/requirements-dev.txt names, and the project as it is in this checkout.
make_venv() {
  find_python
  if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    "$uv" venv --quiet --clear --python "$python" .venv
  fi
  "$uv" pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes deploy/requirements-dev.txt
  # hatchling is in that file: with isolation, another one would come without a hash.
  "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
  .venv/bin/python --version
}
