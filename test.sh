#!/usr/bin/env bash
# Checks everything: ruff, pyright, pytest. Sets up what is missing first, a browser for the browser tests too.
#   ./test.sh [--fast] [pytest's options]     --fast leaves out pyright, the slow and the browser tests
set -eu
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
cd -- "$here"
fast=
if [ "${1-}" = --fast ]; then
    fast=yes
    shift
fi

./setup.sh --dev --if-needed
py=$here/.venv/bin/python
export PYTHONUTF8=1 OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE # a hundred processes are started: each would compile all of Atelier again

# Chromium: Debian's package where apt and root are there; Playwright's own elsewhere. Ubuntu's package is only a
# pointer to a snap, which does not run everywhere.
if [ -z "$fast" ] && ! "$py" -m tests.browser >/dev/null 2>&1; then
    echo "The browser tests need Chromium; installing it (about 65 MB)."
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! grep -qs '^ID=ubuntu' /etc/os-release; then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && { apt-get install -q -y --no-install-recommends chromium-headless-shell ||
            apt-get install -q -y --no-install-recommends chromium; }; } >.venv/browser.log 2>&1 ||
            tail -n 5 .venv/browser.log
    fi
    "$py" -m tests.browser >/dev/null 2>&1 || "$py" -m playwright install chromium >>.venv/browser.log 2>&1 ||
        tail -n 5 .venv/browser.log
    "$py" -m tests.browser # says what is missing, and ends here, when there still is none
fi

echo "ruff"
"$py" -m ruff check .
set -- -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder "$@" # of two -n, pytest takes the last
if [ -n "$fast" ]; then
    echo "pytest"
    exec "$py" -m pytest -m "not slow and not browser" "$@"
fi
echo "pytest, pyright beside it"
types=$(mktemp)
trap 'rm -f "$types"' EXIT
"$py" -m pyright >"$types" 2>&1 &
checking=$!
found=0
"$py" -m pytest "$@" || found=$?
if ! wait "$checking"; then
    cat "$types"
    [ "$found" != 0 ] || found=1
fi
exit "$found"
