"""Fixtures that every test may use."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import filesystem, s3_environment, s3_server

CHECKOUT = Path(__file__).resolve().parents[1]
REFERENCE = CHECKOUT.parent / "shared" / "reference"


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the repository."""
    return CHECKOUT


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Reference data beside the checkout: parity figures, real panels, a real registration. Skips without it."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference data beside the checkout (looked for {REFERENCE})")
    return REFERENCE


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server that runs while the tests do."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str) -> Iterator[str]:
    """``s3://NAME`` of a new bucket; the environment says where it is, and who we are."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(s3_endpoint).items():
            patch.setenv(name, value)
        name = f"test-{uuid.uuid4().hex}"
        filesystem().mkdir(name)
        yield f"s3://{name}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many damages of the table were done and named (``tests/data/damage``), whichever process did them."""
    passed = (
        report for report in terminalreporter.getreports("passed") if getattr(report, "when", None) == "call"
    )
    done = Counter(value for report in passed for name, value in report.user_properties if name == "damage")
    if done:
        parts = ", ".join(f"{number} of {kind}" for kind, number in sorted(done.items()))
        terminalreporter.write_line(f"{done.total()} ways to damage a store or an input, each named: {parts}")
