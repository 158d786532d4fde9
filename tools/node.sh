#!/usr/bin/env bash
# node: runs the project's Node. `node.sh node FILE`, `node.sh npm ci`, `node.sh npx tsc`;
# `node.sh --check` prints which one it is and fails if there is none.
# The machine's Node is taken if it is of version 20 or newer, else the one in .deps/venv.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
least=20

major() {
    local version
    version=$("$1" --version 2>/dev/null) || version=v0
    version=${version#v}
    echo "${version%%.*}"
}

if command -v node >/dev/null && command -v npm >/dev/null &&
    [ "$(major "$(command -v node)")" -ge "$least" ]; then
    :
elif [ "$(major "$root/.deps/venv/bin/node")" -ge "$least" ]; then
    PATH="$root/.deps/venv/bin:$PATH"
    export PATH
else
    echo "node.sh: no Node of version $least or newer: run make deps" >&2
    exit 1
fi
# Browsers and prebuilt programs come from Debian, never from a package's own downloader.
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 PUPPETEER_SKIP_DOWNLOAD=1
if [ "${1:-}" = --check ]; then
    echo "$(command -v node) $(node --version)"
    exit 0
fi
exec "$@"
