"""A command line that does as it is told, in place of ours: its children start in a twentieth of a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from teramind_model.experiments import plan

CLI = """
import signal, sys, time
from pathlib import Path

def main():
    action, *rest = sys.argv[1:]
    print("told to", action, flush=True)
    if action == "make":
        Path(rest[0]).write_text(" ".join(rest))
    elif action == "fail":
        print("error: cannot do it: here", file=sys.stderr)
        sys.exit(2)
    elif action == "wait":
        def keep(number, frame):
            Path(rest[0] + ".kept").touch()
            sys.exit(143)
        signal.signal(signal.SIGTERM, keep)
        Path(rest[0] + ".begun").touch()
        while not Path(rest[0] + ".go").exists():
            time.sleep(0.02)
        Path(rest[0]).touch()
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``teramind-fake`` a program that plans may run."""
    package = folder / "lib" / "teramind_fake"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(CLI)
    monkeypatch.setenv("PYTHONPATH", str(folder / "lib"))
    monkeypatch.syspath_prepend(folder / "lib")
    monkeypatch.setattr(plan, "PROGRAMS", ("teramind-fake",))


def step(
    root: Path, name: str, action: str = "make", depends: tuple[str, ...] = (), *words: str
) -> plan.Step:
    """A step whose product is the file ``root/name``."""
    return plan.Step(name, ("teramind-fake", action, str(root / name), *words), root / name, depends)
