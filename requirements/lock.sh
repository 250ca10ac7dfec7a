#!/bin/sh
# Writes the locks again from pyproject.toml: one file each that serves every supported Python and platform, with the
# hashes of all files of each release. Pins that still fit are kept; `--upgrade` takes the newest of everything.
set -eu
cd "$(dirname "$0")/.."

if ! command -v uv >/dev/null 2>&1; then
    # uv is only needed here, so it is no part of the locks.
    spare=$(mktemp -d)
    trap 'rm -rf "$spare"' EXIT
    "${PYTHON:-python3}" -m venv "$spare"
    "$spare/bin/pip" install --quiet uv
    PATH="$spare/bin:$PATH"
fi

compile() {
    compile_for --universal "$@"
}

compile_for() {
    where=$1
    file=$2
    shift 2
    uv pip compile --quiet "$where" --python-version 3.10 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --no-header --output-file "$file" "$@"
    # Where packages come from is the business of the machine that installs them.
    if grep -nE '://|^ *--(index|extra-index|find-links|trusted)' "$file"; then
        echo "error: $file names an address (above)" >&2
        exit 1
    fi
    echo "$file: $(grep -c '==' "$file") pins"
}

compile requirements/test.txt pyproject.toml --extra all --group dev "$@"
compile requirements/fuzz.txt --group fuzz --no-deps "$@"
compile requirements/metrics.txt --group metrics --constraint requirements/test.txt "$@"
compile requirements/docs.txt --group docs "$@"
compile requirements/release.txt --group release "$@"
compile requirements/mutants.txt --group mutants --constraint requirements/test.txt "$@"
compile requirements/test-source.txt --group source --no-deps --constraint requirements/test.txt "$@"
compile requirements/demo.txt pyproject.toml --extra aws --extra cli --extra gcp --extra ray --group build --constraint requirements/test.txt

# For `make wheel-test`: the library at its lowest versions and the tools of its tests at today's, for Python 3.10 on
# Linux; the published library, to upgrade from; a second type checker.
linux=--python-platform=x86_64-unknown-linux-gnu
lowest=$(mktemp)
uv pip compile --quiet $linux --python-version 3.10 --resolution lowest-direct --only-binary :all: --no-emit-index-url \
    --no-emit-find-links --no-annotate --no-header pyproject.toml --extra all >"$lowest"
compile_for $linux requirements/lowest.txt pyproject.toml --extra all --group dev --constraint "$lowest" "$@"

# For `make matrix`: what takes the place of pins of test.txt. The middle Ray lies halfway between lowest and newest.
compile_lines() {
    file=$1
    shift
    lines=$(mktemp)
    cat >"$lines"
    compile "$file" "$lines" "$@"
    rm "$lines"
}

grep '^ray==' "$lowest" | compile_lines requirements/ray-lowest.txt --no-deps "$@"
echo 'ray==2.56.*' | compile_lines requirements/ray-middle.txt --no-deps "$@"
# pyarrow goes with NumPy 2 from 16 on. zarr is what else is particular about NumPy.
others=$(mktemp)
sed -n 's/ \\$//; /^[a-z].*==/p' requirements/test.txt | grep -vE '^(numcodecs|numpy|pandas|pyarrow|zarr)==' >"$others"
{ grep -E '^(pandas|pyarrow)==' "$lowest" && echo 'numpy<2' && echo zarr; } |
    compile_lines requirements/frames-lowest.txt --constraint "$others" "$@"
rm "$others"
# The lowest pyarrow that the newer Rays accept.
echo 'pyarrow==17.0.0' | compile_lines requirements/pyarrow-17.txt --no-deps "$@"
# The newest pandas that Rays before 2.55 work with, and what pandas 3 no longer needs.
printf '%s\n' 'pandas<3' pytz tzdata | compile_lines requirements/pandas-2.txt --no-deps "$@"
rm "$lowest"
compile requirements/upgrade.txt requirements/upgrade.in "$@"
compile requirements/pyright.txt --group pyright "$@"
