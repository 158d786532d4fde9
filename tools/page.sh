#!/usr/bin/env bash
# page: builds the web page into build/web. Without Node or its packages the page is left out,
# which is legal: the program then serves a plain message that says how to get it.
set -eu
cd "$(dirname "$0")/.."

leave_out() {
    echo "  PAGE  left out: $1"
    rm -rf build/web
    exit 0
}

[ -f web/package.json ] || leave_out "web/package.json is not there"
tools/node.sh --check >/dev/null 2>&1 || leave_out "no Node of version 20 or newer (make deps)"
[ -d web/node_modules ] || leave_out "the packages of web/ are not installed (make deps)"
echo "  PAGE  build/web"
mkdir -p build
log=build/page.log
if ! (cd web && ../tools/node.sh npm run --silent build) >"$log" 2>&1; then
    cat "$log" >&2
    echo "page: the build of web/ failed (PAGE=no builds the program without it)" >&2
    exit 1
fi
if ! [ -f build/web/manifest.json ]; then
    echo "page: the build of web/ wrote no build/web/manifest.json" >&2
    exit 1
fi
