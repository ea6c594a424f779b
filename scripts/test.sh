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
# A file stays with one process, for its fixtures. One process more than cores: many tests wait for others of theirs.
check python -m pytest --numprocesses "${TEST_PROCESSES:-3}" --dist loadfile --durations 30 "$@"
