#!/usr/bin/env bash
# Opens Atelier's page; sets everything up on first use. ./gui.sh --help shows its options.
set -eu
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
"$here/setup.sh" --if-needed
export PYTHONUTF8=1
exec "$here/.venv/bin/python" "$here/gui.py" "$@"
