#!/bin/sh
# Creates the virtual environment named by $1 with the pinned dependencies and klinenode itself (editable).
# Needs python3 >= 3.11 and its venv module; Debian and Ubuntu ship the latter as python3-venv, which is installed
# here when this user may, and asked for otherwise. PYTHON names another interpreter.
set -eu
venv=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "klinenode needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Name another one: make PYTHON=python3.12 ..." >&2
    exit 1
}

if [ ! -x "$venv/bin/pip" ]; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "Installing $package, which this system keeps apart from python3 ..." >&2
            apt-get update -qq && apt-get install -y -qq "$package" >&2
        else
            echo "This python3 has no venv module. Install it and call make again: sudo apt-get install $package" >&2
            exit 1
        fi
    fi
    "$python" -m venv "$venv"
fi

"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
