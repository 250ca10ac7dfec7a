#!/bin/sh
# Installs a lock (demo or test) and the checkout itself into .venv, which it makes, and builds the native transport in
# place if it can be built here; does nothing when all is there.
# PYTHON names the interpreter to make .venv with; otherwise the first python3 from 3.10 on is taken.
set -eu
cd "$(dirname "$0")/.."
name=$1
lock=requirements/$name.txt
venv=.venv

fail() {
    echo "error: $*" >&2
    exit 1
}

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        recent "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 or newer"
        echo "$PYTHON"
        return
    fi
    for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if recent "$python"; then
            echo "$python"
            return
        fi
    done
    fail "bitstore needs Python 3.10 or newer, and there is none on the PATH; name one with make PYTHON=/path/to/python3"
}

# What an installed .venv depends on: the pins, and what the package says of itself (dependencies, commands).
state() {
    cat "requirements/$1"*.txt pyproject.toml requirements/install.sh | cksum
}

# What the native transport depends on: its code, what is asked for, and what this machine has to build it with.
native_state() {
    {
        cat hatch_build.py bitstore/_transport/native/src/*
        echo "${BITSTORE_BUILD_NATIVE:-}|${BITSTORE_BUILD_STRICT:-}|${CC:-}|${CPPFLAGS:-}|${CFLAGS:-}|${LDFLAGS:-}"
        for each in cc gcc clang pkg-config; do command -v "$each" || :; done
        echo "${PKG_CONFIG_PATH:-}" && pkg-config --modversion openssl || :
        headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
        ls -d "$headers/Python.h" /usr/include/openssl/ssl.h bitstore/_transport/native/*.so || :
    } 2>/dev/null | cksum
}

# It is optional: where it cannot be built a line says why, which is an error with BITSTORE_BUILD_NATIVE=1.
build_native() {
    stamp=$venv/.installed-native
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$(native_state)" ]; then
        rm -f "$stamp"
        "$venv/bin/python" hatch_build.py
        native_state >"$stamp"
    fi
}

# The test lock holds all of the demo's, so either will do for the demo.
for kind in "$name" test; do
    stamp=$venv/.installed-$kind
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(state "$kind")" ] && recent "$venv/bin/python"; then
        if [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version "$venv/bin/python")" ]; then
            build_native
            exit 0
        fi
    fi
done

if [ -e "$venv" ] && recent "$venv/bin/python"; then
    if [ -n "${PYTHON:-}" ] && [ "$(version "$PYTHON")" != "$(version "$venv/bin/python")" ]; then
        fail "$venv has Python $(version "$venv/bin/python"), PYTHON is $(version "$PYTHON"): remove $venv first"
    fi
else
    [ -e "$venv" ] && fail "$venv holds no working Python 3.10 or newer: remove it first"
    python=$(find_python)
    echo "making $venv with Python $(version "$python")"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        fail "$python cannot make a virtual environment (some systems have that as a package of its own, python3-venv)"
    fi
fi

pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

rm -f "$venv/.installed-$name"
echo "installing $lock"
# Wheels only: a source distribution may need a compiler, and build tools that no lock pins.
pip_install --require-hashes --only-binary :all: -r "$lock"
# Pure Python that has no wheel: built by what is installed now.
if [ -f "requirements/$name-source.txt" ]; then
    pip_install --require-hashes --no-deps --no-build-isolation -r "requirements/$name-source.txt"
fi
# The checkout itself, likewise: no network. The native transport comes after it, as pip would hide what is said of it.
(
    export BITSTORE_BUILD_NATIVE=0
    pip_install --no-index --no-deps --no-build-isolation -e .
)
state "$name" >"$venv/.installed-$name"
build_native
