# Every check and test, in lanes that run at once (sourced). Changes when the tests are divided otherwise.
# shellcheck shell=bash
# Most of it is waited for: brokers that start, connections that are given up. The fault suite and
# the integration tests go by version, so that each of them has one node at a time. What takes the
# processor itself (unit, guide, conformance) comes behind another part.

scratch=$(mktemp -d)
folders=(faults integration conformance commands system)
lanes=('faults-3.10 system' 'faults python-3.14 python-3.13 python-3.12' 'integration-3.10 conformance'
  integration 'static others commands')
# What the newest version of Python runs: units of everything but the model of RabbitMQ, the commands
# and the web, and one file of integration tests on RabbitMQ 4.3. Those between it and the oldest run
# what asyncio may change.
python_tests=(tests/unit/{client,jobs,worker,state,telemetry} tests/unit/broker/rabbitmq tests/integration/test_worker.py)
between_tests=(tests/unit/{client,worker} tests/unit/broker/rabbitmq tests/integration/test_worker.py)
# What starts no program. By folders and not by pytest-xdist, whose processes would each collect all
# of it (10 s).
fast_lanes=('quick-worker quick-guide' 'static quick-conformance' quick-broker quick-rest)

arguments_of() { # a part; fills `arguments`
  case $1 in
    python-3.12 | python-3.13) arguments=("${between_tests[@]}" -k 'not rabbitmq-3.10' -m 'not programs') ;;
    python-*) arguments=("${python_tests[@]}" -k 'not rabbitmq-3.10' -m 'not programs') ;;
    *-3.10) arguments=("tests/${1%-3.10}" -k rabbitmq-3.10) ;;
    faults | integration) arguments=("tests/$1" -k 'not rabbitmq-3.10') ;;
    quick-rest) arguments=(tests/unit --ignore=tests/unit/{worker,broker}) ;;
    quick-worker | quick-broker) arguments=("tests/unit/${1#quick-}") ;;
    quick-*) arguments=("tests/${1#quick-}") ;;
    others) arguments=(tests "${folders[@]/#/--ignore=tests/}") ;; # unit, guide, and folders to come
    *) arguments=("tests/$1") ;;
  esac
}

run_part() {
  if [ "$1" = static ]; then
    run_static
    return
  fi
  local arguments=()
  arguments_of "$1"
  [[ $1 != quick-* ]] || arguments+=(-m 'not broker and not image and not programs')
  local venv=.venv
  if [[ $1 == python-* ]]; then
    venv=.venvs/${1#python-}
    [ -d "$venv" ] || { printf 'not run: no Python %s can be had here\n' "${1#python-}"; return; }
  fi
  "$venv/bin/python" -m pytest --durations=15 -o "cache_dir=$scratch/$1.cache" "${arguments[@]}"
}

# What failed beside the other lanes, by itself on a machine that is free: what a bound in seconds
# says depends on what else runs. A part passes if all of it passes three times in a row; more than a
# few failures are no accident. It is told in the end, since what fails now and then is to be looked at.
again=3
most_again=4

passes_alone() { # a part
  local ids=() round venv=.venv failed=$scratch/$1.cache/v/cache/lastfailed
  [ "$(cat "$scratch/$1.status")" = 1 ] || return 1 # 1 is pytest's own: it ran, and tests failed
  [ -s "$failed" ] || return 1
  [[ $1 != python-* ]] || venv=.venvs/${1#python-}
  mapfile -t ids < <("$venv/bin/python" -c 'import json, sys; print(*json.load(sys.stdin), sep="\n")' <"$failed")
  [ ${#ids[@]} -le "$most_again" ] || return 1
  for ((round = 1; round <= again; round++)); do
    printf '\n== %s, what failed, by itself (%s of %s)\n' "$1" "$round" "$again"
    "$venv/bin/python" -m pytest -p no:cacheprovider "${ids[@]}" || return 1
  done
  accidents+=("${ids[@]/#/$1: }")
}

run_static() { # all of them, whatever the others say
  local check status=0
  for check in 'ruff check' 'ruff format --check' lint-imports mypy pyright; do
    printf '\n== %s\n' "$check"
    # shellcheck disable=SC2086 # words
    $check || status=1
  done
  [ "$status" = 0 ] && printf 'static checks passed\n' || printf 'static checks FAILED\n'
  return "$status"
}

run_lane() { # its parts, one after the other; a part that fails holds no other back
  local part status
  trap 'exit 130' INT TERM # pytest ends well of one, and the next part would start
  for part; do
    status=0
    run_part "$part" >"$scratch/$part.log" 2>&1 || status=$?
    # Nothing to run: AMQPJOBS_TEST_BROKERS has no such version, and the other part has the rest.
    [ "$status" != 5 ] || status=0
    printf '%s\n' "$status" >"$scratch/$part.status"
    closing_of "$part"
  done
}

closing_of() {
  printf '%s: %s\n' "$1" "$(tail -n 1 "$scratch/$1.log")"
}

run_pytest() {
  .venv/bin/python -m pytest --durations=15 "$@"
}

run_tests() { # as pytest is told, or all
  if [ $# -gt 0 ]; then
    run_static
    run_pytest tests "$@"
    return
  fi
  run_lanes "${lanes[@]}"
}

run_fast() { # what needs no RabbitMQ, Chromium or image
  run_lanes "${fast_lanes[@]}"
}

run_lanes() {
  local lane part beside=() good=() bad=() accidents=()
  set -m # process groups of their own: Ctrl-C is passed on to them, which a shell else keeps back
  for lane; do
    # shellcheck disable=SC2086 # words
    run_lane $lane &
    beside+=($!)
  done
  set +m
  trap 'kill -INT -- "${beside[@]/#/-}"; wait; exit 130' INT TERM
  wait "${beside[@]}"
  trap - INT TERM
  # shellcheck disable=SC2048 # words
  for part in $*; do
    if [ "$(cat "$scratch/$part.status")" = 0 ]; then good+=("$part"); else bad+=("$part"); fi
  done
  for part in "${bad[@]}"; do
    ! passes_alone "$part" >"$scratch/$part.again" 2>&1 || printf '0\n' >"$scratch/$part.status"
    cat "$scratch/$part.again" >>"$scratch/$part.log"
  done
  for part in "${good[@]}" "${bad[@]}"; do # what failed is at the end, where one looks
    printf '\n== %s\n' "$part"
    cat "$scratch/$part.log"
  done
  printf '\n'
  for part in "${good[@]}" "${bad[@]}"; do closing_of "$part"; done
  if [ ${#accidents[@]} -gt 0 ]; then
    printf 'failed beside other lanes, passed %s times by itself:\n' "$again"
    printf '  %s\n' "${accidents[@]}"
  fi
  # shellcheck disable=SC2048 # words
  for part in $*; do [ "$(cat "$scratch/$part.status")" = 0 ] || return 1; done
}
