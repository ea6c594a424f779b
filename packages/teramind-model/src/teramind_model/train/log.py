"""The log of a run: a CSV row a step, and the same curves for TensorBoard where that is installed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from teramind_data.errors import InputError
from teramind_model.train.board import Board
from teramind_model.train.run_directory import replace_rows, writing

__all__ = ["Row", "TrainLog", "find_wandb"]


@dataclass(frozen=True)
class Row:
    """What is logged of a step: steps done with it, loss and its terms, learning rate, gradient norm before
    clipping, samples a second of this step, seconds trained so far."""

    step: int
    loss: float
    terms: tuple[float, ...]
    lr: float
    grad_norm: float
    samples_per_s: float
    seconds: float

    def values(self) -> tuple[float, ...]:
        """In the order of :func:`columns`."""
        rest = (self.lr, self.grad_norm, self.samples_per_s, self.seconds)
        return (self.step, self.loss, *self.terms, *rest)


def columns(terms: Sequence[str]) -> tuple[str, ...]:
    """Names of a row's values for a loss of these terms."""
    return ("step", "loss", *terms, "lr", "grad_norm", "samples_per_s", "seconds")


class TrainLog:
    """Appends rows. Opened at step ``start``, it drops what an interrupted part logged beyond it.

    Opening and adding raise StoreError where the CSV file cannot be written.
    """

    def __init__(
        self, csv_file: Path, tensorboard: Path, start: int, terms: Sequence[str], wandb: str | None = None
    ) -> None:
        self._columns = columns(terms)
        self._file = csv_file
        self._wandb = None if wandb is None else _open_wandb(wandb, csv_file.parent)
        kept = _rows_up_to(csv_file, start, len(self._columns))
        replace_rows(csv_file, [self._columns, *kept])
        with writing(csv_file):
            self._handle = csv_file.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._handle, lineterminator="\n")
        self._board = Board(tensorboard, start)

    def add(self, row: Row) -> None:
        """Log a step."""
        # repr of a float reads back as the same float: the curve of a resumed run can be compared bit for bit.
        with writing(self._file):
            self._writer.writerow([repr(value) for value in row.values()])
            self._handle.flush()
        self._board.scalars(self._named(row), row.step)
        if self._wandb is not None:
            self._wandb.log(self._named(row), step=row.step)

    def _named(self, row: Row) -> dict[str, float]:
        last_of_loss = 1 + len(row.terms)
        values = enumerate(zip(self._columns, row.values(), strict=True))
        return {
            f"{'loss' if place <= last_of_loss else 'training'}/{name}": value
            for place, (name, value) in values
            if name not in ("step", "seconds")
        }

    def scores(self, step: int, losses: Mapping[int, Mapping[str, float]]) -> None:
        """Log the losses on held-out tiles, by time."""
        named = {f"held out/t = {t}": sum(terms.values()) for t, terms in losses.items()}
        self._board.scalars(named, step)
        if self._wandb is not None:
            self._wandb.log(named, step=step)

    def picture(self, step: int, picture: Any) -> None:
        """Show a picture, uint8 ``(h, w)`` or ``(h, w, 3)``."""
        self._board.picture(picture, step)

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Rows are flushed as they come; one that could not be written has its error, and would give it again.
        with suppress(OSError):
            self._handle.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def find_wandb() -> Any:
    """The module of Weights & Biases; InputError where it is not installed."""
    try:
        return import_module("wandb")
    except ImportError:
        raise InputError(
            "Weights & Biases is not installed",
            expected="wandb",
            remedy="pip install wandb, or leave --wandb out",
        ) from None


def _open_wandb(project: str, run: Path) -> Any:
    """A Weights & Biases run, named as the run's folder; resumed where it was begun before in that folder."""
    wandb = find_wandb()
    # Folders of one name in other places are other runs: the name cannot be the id.
    kept = run / "wandb-id"
    if not kept.is_file():
        with writing(kept):
            kept.write_text(uuid4().hex, encoding="utf-8")
    known = kept.read_text(encoding="utf-8").strip()
    return wandb.init(project=project, name=run.name, dir=str(run), id=known, resume="allow")


def _rows_up_to(csv_file: Path, step: int, width: int) -> list[list[str]]:
    if step == 0 or not csv_file.is_file():
        return []
    with csv_file.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))[1:]
    # A killed process may have left half a row.
    return [row for row in rows if len(row) == width and int(row[0]) <= step]
