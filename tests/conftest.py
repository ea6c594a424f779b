"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

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
