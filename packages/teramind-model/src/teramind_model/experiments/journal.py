"""What was done of a plan: one small file a step, and one log a step, beside its products."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from teramind_data.errors import InputError, StoreError
from teramind_model.experiments.plan import Step

__all__ = ["Journal", "Record"]


@dataclass(frozen=True)
class Record:
    """How a step went so far. ``seconds`` is the wall time of all ``attempts``; ``done`` whether the last succeeded."""

    fingerprint: str
    command: str
    seconds: float
    attempts: int
    done: bool


@dataclass(frozen=True)
class Journal:
    """Records below ``root/steps``, logs below ``root/logs``."""

    root: Path

    def log(self, step: Step) -> Path:
        """Where the step's output goes, attempt after attempt."""
        return self.root / "logs" / f"{_plain(step.name)}.log"

    def marker(self, step: Step) -> Path:
        """The step's record."""
        return self.root / "steps" / f"{_plain(step.name)}.json"

    def read(self, step: Step) -> Record | None:
        """The step's record, None where there is none; InputError where it cannot be read."""
        file = self.marker(step)
        try:
            return Record(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                "record of a step cannot be read",
                where=file,
                found=error,
                remedy="Remove it; the step then checks its product itself",
            ) from None

    def is_done(self, step: Step, fingerprint: str) -> bool:
        """Whether the step has succeeded with this command, after these steps, and its product is there.

        Raises:
            InputError: where the product was made by another command.
        """
        record = self.read(step)
        if record is None or not step.product.exists():
            return False
        if record.fingerprint != fingerprint:
            raise InputError(
                "a step was done with other options",
                where=f"{step.name} ({step.product})",
                expected=step.shown,
                found=record.command,
                remedy=f"Choose another --out, or remove {step.product} and {self.marker(step)}",
            )
        return record.done

    def write(self, step: Step, fingerprint: str, seconds: float, *, done: bool) -> Record:
        """Add an attempt to the step's record."""
        before = self.read(step)
        if before is not None and before.fingerprint != fingerprint:
            before = None
        record = Record(
            fingerprint,
            step.shown,
            round(seconds + (before.seconds if before else 0.0), 1),
            1 + (before.attempts if before else 0),
            done,
        )
        _write_whole(self.marker(step), json.dumps(asdict(record), indent=1) + "\n")
        return record

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folders and keep other processes out meanwhile.

        Raises:
            InputError: where another process runs a plan here now.
            StoreError: where the folder cannot be written.
        """
        try:
            for name in ("steps", "logs"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            handle = (self.root / ".lock").open("w")
        except OSError as error:
            raise StoreError(
                "folder cannot be written",
                where=self.root,
                found=error.strerror,
                remedy="Choose another --out, or check permissions",
            ) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    "another process is at work here",
                    where=self.root,
                    remedy="Wait for it, or choose another --out",
                ) from None
            yield


def _plain(name: str) -> str:
    return name.replace("/", "--")


def _write_whole(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
