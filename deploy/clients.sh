#!/bin/sh
# Installs the exchange's real clients, which tests/programs/clients points at a node, and the TimescaleDB of
# tests/timescale_server.py, a package of Node.js, into $1 (.clients): each kind in an environment of its own, from lock files. $2 is the virtual environment of klinenode, whose uv does it. Idempotent.
# Node.js clients need node and npm 10 or newer; Debian and Ubuntu: sudo apt-get install nodejs npm.
set -eu
clients=$1
uv=$2/bin/uv
here=$(dirname "$0")/../tests/programs/clients

install() { # name
    lock=$here/$1.lock
    if cmp -s "$lock" "$clients/$1/installed.lock"; then return; fi
    "$uv" venv --quiet --clear --python "$2" "$clients/$1"
    "$uv" pip install --quiet --no-deps --require-hashes --python "$clients/$1/bin/python" -r "$lock"
    "$uv" pip check --quiet --python "$clients/$1/bin/python"
    cp "$lock" "$clients/$1/installed.lock"
}

mkdir -p "$clients"
install python "$2/bin/python"
install freqtrade "$2/bin/python"

if ! command -v npm >/dev/null; then
    echo "The Node.js clients and TimescaleDB are left out: there is no npm. Install it: sudo apt-get install nodejs npm" >&2
    exit 0
fi
if ! cmp -s "$here/package-lock.json" "$clients/node/installed.lock"; then
    mkdir -p "$clients/node"
    cp "$here/package.json" "$here/package-lock.json" "$clients/node/"
    (cd "$clients/node" && npm ci --no-audit --no-fund --ignore-scripts --silent)
    cp "$here/package-lock.json" "$clients/node/installed.lock"
fi
