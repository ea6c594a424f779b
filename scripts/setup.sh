#!/usr/bin/env bash
# Make .venv: the three packages (editable) and the tools, at the versions of constraints.txt.
# Reuses the .venv that is there when it was made whole from the same files; otherwise makes it anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TORCH="torch==2.13.0"
STAMP=.venv/teramind-stamp # written last, so that a half-made .venv is never taken for a whole one

fail() {
    echo "set-up: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer found on PATH; install one, or name it: make PYTHON=/path/to/python3.11"
}

# What a .venv is made from: pins, packages, this script, the interpreter, and the place (a .venv cannot be moved).
wanted_stamp() {
    "$1" - <<'PY'
import hashlib, pathlib, sys

files = ["constraints.txt", "requirements-dev.txt", "scripts/setup.sh"]
files += sorted(str(path) for path in pathlib.Path("packages").glob("*/pyproject.toml"))
digest = hashlib.sha256(f"{sys.version} {sys.prefix} {pathlib.Path.cwd()}".encode())
for name in files:
    digest.update(name.encode() + b"\0" + pathlib.Path(name).read_bytes())
print(digest.hexdigest())
PY
}

# Without --no-compile, 20,000 modules are compiled here, most of them never to be imported: two minutes of five.
pip_install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile -c constraints.txt "$@" ||
        fail "pip could not install: $*; its message is above"
}

# Two runs at once would pull .venv from under each other; the lock goes with the process.
if command -v flock >/dev/null; then
    mkdir -p build
    exec 9>build/setup.lock
    flock 9
fi

python=$(find_python)
stamp=$(wanted_stamp "$python")
if [ "$(cat "$STAMP" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

started=$SECONDS
echo "set-up: making .venv with $("$python" --version), once; about 3 minutes and 3 GB"
rm -f "$STAMP" # first, should the removal be interrupted
rm -rf .venv
"$python" -m venv .venv || fail "$python cannot make a virtual environment (on Debian: apt install python3-venv)"
echo "set-up 1/3: $TORCH"
pip_install "$TORCH"
echo "set-up 2/3: teramind-data, teramind-model, teramind-eval and what they need"
pip_install hatchling editables # the build back-end, so that it is the pinned one that builds
pip_install --no-build-isolation -e packages/teramind-data -e packages/teramind-model -e packages/teramind-eval
echo "set-up 3/3: tools for checks, tests and documentation"
pip_install -r requirements-dev.txt
.venv/bin/python -m pip check --disable-pip-version-check || fail "the installed versions do not agree; see above"
echo "$stamp" >"$STAMP"
echo "set-up: done in $((SECONDS - started)) s"
