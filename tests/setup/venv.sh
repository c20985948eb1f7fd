#!/bin/sh
# venv.sh [EXTRA]: makes .venv with a Python of this machine, unless a usable one is there, and installs the checkout
# there, editable and compiled, with the optional dependencies EXTRA.
set -eu

# usable PYTHON MODULE: whether it is new enough and has the module that makes a virtual environment or is one's pip.
usable() {
    "$1" -c "import sys, $2; sys.exit(sys.version_info < (3, 11))" 2> /dev/null
}

find_python() {
    for name in python3 python3.13 python3.12 python3.11; do
        if usable "$name" ensurepip; then
            echo "$name"
            return
        fi
    done
    return 1
}

if ! usable .venv/bin/python pip; then
    # Debian keeps ensurepip in a package of its own.
    if ! python=$(find_python); then
        tests/setup/apt.sh python3 python3-venv
        if ! python=$(find_python); then
            echo "no Python >= 3.11 that can make a virtual environment: install one, on Debian python3-venv" >&2
            exit 1
        fi
    fi
    "$python" -m venv --clear .venv
fi
pip() {
    .venv/bin/python -m pip --quiet --disable-pip-version-check "$@"
}

pip install --editable ".${1:+[$1]}"
# As pip does for what is not editable: some environments (PYTHONDONTWRITEBYTECODE) would have it compiled at each start.
.venv/bin/python -m compileall -q src
if [ "${1:-}" = dev ]; then
    # Not what it depends on: http-parser does not compile for today's Python. tests/clients has what stands in for it.
    pip install --no-deps pymesos==0.3.15 || echo "pymesos is not installed: what needs it skips" >&2
fi
