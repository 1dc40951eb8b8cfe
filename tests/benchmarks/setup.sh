#!/bin/sh
# Makes the benchmarks' own environment in ${AMQPJOBS_CACHE:-~/.cache/amqpjobs}/bench: the peers at
# the versions of requirements.txt, amqpjobs itself from this working copy, and amqplib for Node.js.
# Needs uv; Node.js and npm only for amqplib, which is left out without them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${AMQPJOBS_CACHE:-$HOME/.cache/amqpjobs}/bench
amqplib=2.3.1

mkdir -p "$cache"
[ -x "$cache/venv/bin/python" ] || uv venv --quiet --python 3.11 "$cache/venv"
uv pip install --quiet --python "$cache/venv/bin/python" --requirements "$here/requirements.txt"
uv pip install --quiet --python "$cache/venv/bin/python" --constraints "$here/requirements.txt" \
    --editable "$repository[uvloop,sql]"

if command -v npm >/dev/null; then
    npm install --silent --no-save --no-package-lock --prefix "$cache" "amqplib@$amqplib"
else
    echo "npm is missing: Node.js amqplib will not be measured" >&2
fi

echo "ready: $cache/venv/bin/python $here/peers.py --url amqp://guest:guest@localhost/"
