"""Signals in the processes that tests start."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """Run in a child before its program: a shell's background jobs ignore SIGINT, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
