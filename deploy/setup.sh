#!/bin/sh
# Finds an interpreter, which then makes the virtual environment $2 what the locks of level $1 (run or dev) say.
# Needs Python 3.11 or newer; PYTHON names another interpreter than python3. deploy/setup.py does the work.
set -eu
level=$1
venv=$2

fail() {
    echo "$1" >&2
    exit 1
}

version() { # of interpreter $1, as text
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
}

supported() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [ -n "${PYTHON:-}" ]; then
    python=$PYTHON
    command -v "$python" >/dev/null || fail "PYTHON=$python: no such interpreter is found here. Name an installed one, for example: make PYTHON=python3.12 setup"
    found=$(version "$python" 2>&1) || fail "PYTHON=$python does not run as a Python interpreter: $found"
    supported "$python" || fail "klinenode needs Python 3.11 or newer, and PYTHON=$python is $found."
elif supported "$venv/bin/python"; then
    python=$venv/bin/python
else
    python=
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && supported "$name"; then
            python=$name
            break
        fi
    done
    if [ -z "$python" ]; then
        command -v python3 >/dev/null || fail "There is no python3 here. Install it, on Debian and Ubuntu: sudo apt-get install python3 python3-venv"
        found=$(version python3 2>&1) || fail "python3 does not run: $found"
        fail "klinenode needs Python 3.11 or newer, and python3 here is $found. Install a newer one and name it: make PYTHON=python3.12 setup"
    fi
fi

exec "$python" -I deploy/setup.py "$level" "$venv"
