#!/usr/bin/env bash
# All checks, one after the other; stops at the first that fails. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check() {
    echo "== $*"
    "$@"
}

check ruff check --quiet .
check ruff format --quiet --check .
check mypy
check lint-imports
# Two cores are shared by torch and the tests' own processes: one thread each is the faster and the steadier way.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Without bytecode each of the hundreds of processes that tests start would compile all of torch again: 15 seconds.
unset PYTHONDONTWRITEBYTECODE
# Tests make and sync thousands of small files. In memory, where there is room, that takes a quarter of the time.
memory=/dev/shm
room=$(df --output=avail -k "$memory" 2>/dev/null | tail -n 1) || room=0
if [ -z "${TMPDIR:-}" ] && [ "$room" -gt $((8 << 20)) ]; then
    TMPDIR=$(mktemp -d "$memory/teramind-tests.XXXXXX")
    export TMPDIR
    trap 'rm -rf "$TMPDIR"' EXIT
fi
# A file stays with one process, for its fixtures. One process more than cores: many tests wait for others of theirs.
check python -m pytest --numprocesses "${TEST_PROCESSES:-3}" --dist loadfile --durations 30 "$@"
