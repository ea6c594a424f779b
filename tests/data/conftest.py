"""Fixtures that the tests of teramind-data share."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def run_command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs ``teramind-data`` in this process: exit code, stdout, stderr."""
    from teramind_data.cli import app
    from teramind_data.console import run_cli

    def run(*words: object) -> tuple[int, str, str]:
        try:
            code = run_cli(app, [str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        done = capfd.readouterr()
        return int(code or 0), done.out, done.err

    return run
