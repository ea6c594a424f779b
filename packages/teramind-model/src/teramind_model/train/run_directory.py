"""A run on disk: its resolved configuration, its checkpoints, and what an earlier part left there."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_model.checkpoint import CONFIG, checkpoint_name, run_checkpoints

__all__ = ["RunDirectory", "replace_rows", "writing"]


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """What the file system refuses inside becomes a StoreError that names ``file``."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            "run cannot be written",
            where=file,
            found=error.strerror or error,
            remedy="Free space or check permissions, or choose another --out",
        ) from error


def replace_rows(file: Path, rows: Iterable[Iterable[str]]) -> None:
    """Write a CSV file anew, whole or not at all; StoreError where that fails."""
    temporary = file.with_name(f".{file.name}.tmp")
    with writing(file):
        with temporary.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle, lineterminator="\n").writerows(rows)
        temporary.replace(file)


@dataclass(frozen=True)
class RunDirectory:
    """``path`` holds config.json, log.csv, tensorboard/, samples/ and checkpoints/step-NNNNNNN/."""

    path: Path

    @property
    def log(self) -> Path:
        """One row a step."""
        return self.path / "log.csv"

    @property
    def samples(self) -> Path:
        """Pictures, real above generated."""
        return self.path / "samples"

    def check(
        self, config: Mapping[str, Any], free: frozenset[str], defaults: Mapping[str, Any] | None = None
    ) -> None:
        """Check that the run can be made here, or that the one that is there has this configuration.

        Writes nothing.

        Args:
            config: the resolved configuration, plain values; nested ones count by their dotted names.
            free: last parts of names that may differ.
            defaults: what a run that does not name an option was made with, by dotted names.

        Raises:
            OutputExistsError: where something else lies here.
            InputError: where a run lies here whose configuration differs, naming the keys.
        """
        file = self.path / CONFIG
        if (self.path.exists() or self.path.is_symlink()) and not file.is_file():
            if not self.path.is_dir() or any(self.path.iterdir()):
                raise OutputExistsError(
                    "output exists and is no training run", where=self.path, remedy="Choose another --out"
                )
        elif file.is_file():
            self._check_same(file, config, free, defaults or {})

    @contextmanager
    def opened(self, config: Mapping[str, Any]) -> Iterator[None]:
        """Make the run's folder, save its resolved configuration, and keep other processes out meanwhile.

        Raises:
            InputError: where another process trains here now.
            StoreError: where the folder or its configuration cannot be written.
        """
        with writing(self.path):
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    "another process is training here",
                    where=self.path,
                    remedy="Wait for it, or choose another --out",
                ) from None
            with writing(self.path / CONFIG):
                _write_json(self.path / CONFIG, config)
            for entry in (self.path / "checkpoints").glob(".step-*"):
                shutil.rmtree(entry, ignore_errors=True)  # what a killed part of this run was writing
            yield

    def _check_same(
        self, file: Path, config: Mapping[str, Any], free: frozenset[str], defaults: Mapping[str, Any]
    ) -> None:
        try:
            before = _flat(json.loads(file.read_text(encoding="utf-8")))
        except (UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
            raise InputError("the run's configuration cannot be read", where=file, found=error) from None
        if "options.steps" not in before:
            raise OutputExistsError(
                "output exists and is no training run", where=self.path, remedy="Choose another --out"
            )
        before = {**defaults, **before}
        now = {**defaults, **_flat(json.loads(json.dumps(config)))}
        keys = [
            key
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key) and key.rpartition(".")[2] not in free
        ]
        if keys:
            shown = "; ".join(f"{key} {before.get(key)!r} there, {now.get(key)!r} here" for key in keys[:6])
            raise InputError(
                "the run there was started with another configuration",
                where=self.path,
                found=shown,
                remedy="Give the same options to resume it, or another --out",
            )

    def newest(self) -> tuple[int, Path] | None:
        """Step and directory of the newest checkpoint."""
        found = run_checkpoints(self.path)
        return found[-1] if found else None

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after ``step`` steps belongs."""
        return self.path / "checkpoints" / checkpoint_name(step)

    def prune(self, keep: int, milestone_every: int) -> None:
        """Remove all checkpoints but the newest ``keep`` and those at multiples of ``milestone_every``."""
        for step, folder in run_checkpoints(self.path)[: -max(1, keep)]:
            if not milestone_every or step % milestone_every:
                # Renamed first: a half-removed directory must not look like a checkpoint.
                doomed = folder.with_name(f".{folder.name}.old")
                os.rename(folder, doomed)
                shutil.rmtree(doomed, ignore_errors=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            json.dump(values, handle, indent=1)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
