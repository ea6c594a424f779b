"""Genes changed before generation: what would the network draw, had this place other counts?

An edited picture is a hypothesis of the network, which knows how genes and morphology go together and nothing of cause.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingInputError, PanelError
from teramind_data.geometry import BIN_PX, Box, Window
from teramind_data.panel import Panel
from teramind_data.store import Brain
from teramind_model.controls import CountsSource
from teramind_model.generate.config import parse_roi

__all__ = [
    "Change",
    "Edit",
    "EditedCounts",
    "Edits",
    "Everywhere",
    "Place",
    "find_edits",
    "find_place",
    "parse_edit",
]

Operation = Literal["scale", "set", "add", "copy", "swap"]

_SHAPES = (
    "GENE*2.5 (scale), GENE=3 (set), GENE+1 (add), GENE+-1 (subtract), GENE=OTHER (take another's counts) "
    "or GENE<>OTHER (swap)"
)


@dataclass(frozen=True)
class Edit:
    """One change of one gene's counts in bins.

    Attributes:
        text: as it was given, without spaces.
        operation: what is done to ``gene``.
        operand: molecules or a factor, or the other gene.
    """

    text: str
    operation: Operation
    gene: str
    operand: float | str


def parse_edit(text: str) -> Edit:
    """``"Th*0"``, ``"Th=3"``, ``"Th+1"``, ``"Slc17a7=Slc17a6"`` or ``"Th<>Nr4a2"``; InputError naming these forms."""
    tight = "".join(text.split())
    match = re.fullmatch(r"([^*+=<>]+)(\*|\+|=|<>)([^*=<>]+)", tight)
    if match is None:
        raise InputError("edit cannot be read", where="--edit", expected=_SHAPES, found=repr(text))
    gene, sign, operand = match.groups()
    number = _number(operand)
    if sign == "<>" or (sign == "=" and number is None):
        return Edit(tight, "swap" if sign == "<>" else "copy", gene, operand)
    if number is None or not math.isfinite(number) or (number < 0 and sign != "+"):
        raise InputError(
            "edit has no usable number",
            where=f"--edit {tight}",
            expected="a finite number" if sign == "+" else "a finite number, not negative",
            found=operand,
        )
    operation: Operation = "scale" if sign == "*" else "add" if sign == "+" else "set"
    idle = {"scale": 1, "add": 0}.get(operation)
    if idle is not None and np.float32(number) == idle:  # as counts are
        raise InputError(
            "edit changes nothing",
            where=f"--edit {tight}",
            expected=f"another number than {idle}",
            found=operand,
        )
    return Edit(tight, operation, gene, number)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class Place(Protocol):
    """Where edits apply."""

    def bins(self, section: int, box: Box) -> NDArray[np.bool_]:
        """Which bins of a section are edited: ``(h, w)`` of ``box`` in bins, inside the brain."""
        ...

    def describe(self) -> dict[str, Any]:
        """All that decides which bins, for the store."""
        ...


@dataclass(frozen=True)
class Everywhere:
    """All of the brain."""

    def bins(self, section: int, box: Box) -> NDArray[np.bool_]:
        """See :class:`Place`."""
        return np.ones(box.shape, np.bool_)

    def describe(self) -> dict[str, Any]:
        """See :class:`Place`."""
        return {"everywhere": True}


@dataclass(frozen=True)
class _InBox:
    """The bins that a box of pixels touches, in every section."""

    box: Box

    def bins(self, section: int, box: Box) -> NDArray[np.bool_]:
        """See :class:`Place`."""
        out = np.zeros(box.shape, np.bool_)
        common = self.box.cover(BIN_PX).coarsen(BIN_PX).intersect(box)
        if common is not None:
            out[common.shift(-box.y0, -box.x0).slices] = True
        return out

    def describe(self) -> dict[str, Any]:
        """See :class:`Place`."""
        b = self.box
        return {"box": [b.y0, b.y1, b.x0, b.x1]}


@dataclass(frozen=True)
class _InLabel:
    """One of the atlas's annotated regions."""

    brain: Brain
    value: int

    def bins(self, section: int, box: Box) -> NDArray[np.bool_]:
        """See :class:`Place`."""
        return self.brain.read("regions", section, box) == self.value

    def describe(self) -> dict[str, Any]:
        """See :class:`Place`."""
        return {"label": self.value, "name": self.brain.region_names.get(self.value, "")}


@dataclass(frozen=True)
class _InMask:
    """A mask over bins from a file, ``(y, x)`` for every section or ``(z, y, x)``."""

    mask: NDArray[np.bool_]
    """Memory-mapped."""

    def bins(self, section: int, box: Box) -> NDArray[np.bool_]:
        """See :class:`Place`."""
        plane = self.mask if self.mask.ndim == 2 else self.mask[section]
        return plane[box.slices]

    def describe(self) -> dict[str, Any]:
        """See :class:`Place`. The mask's content decides, not its file's name."""
        digest, bins = hashlib.sha256(), 0
        for row in self.mask.reshape(-1, self.mask.shape[-1]):
            digest.update(np.packbits(row).tobytes())
            bins += int(row.sum())
        return {"mask_sha256": digest.hexdigest(), "bins": bins}


def find_place(text: str | None, brain: Brain) -> Place:
    """Where edits apply, from what the user gave: nothing (everywhere), a box, a mask's file, or a region.

    Args:
        text: ``y0:y1,x0:x1`` in canvas pixels; a ``.npy`` file of a boolean mask over bins, ``(y, x)`` or
            ``(z, y, x)``; or a name or number of the atlas's ``labels/regions``.
        brain: the atlas.

    Raises:
        InputError, MissingInputError: where there is no such region, or the mask does not fit.
    """
    if text is None:
        return Everywhere()
    if text.endswith(".npy"):
        return _InMask(_read_mask(Path(text), brain))
    if ":" in text and "," in text:
        box = parse_roi(text)
        if not Box.from_shape(brain.canvas).contains(box):
            raise InputError(
                "edited region is not on the canvas", brain.url, f"inside {Box.from_shape(brain.canvas)}", box
            )
        return _InBox(box)
    return _InLabel(brain, _label(text, brain))


def _label(text: str, brain: Brain) -> int:
    if "regions" not in brain.labels:
        raise MissingInputError(
            "atlas has no annotated regions",
            where=brain.url,
            expected="labels/regions",
            found=f"--edit-region {text}",
            remedy="Give a box y0:y1,x0:x1 or a .npy mask",
        )
    names = {name.casefold(): value for value, name in brain.region_names.items()}
    if text.casefold() in names:
        return names[text.casefold()]
    numbered = text.isascii() and text.isdigit() and int(text) > 0
    if numbered and (not names or int(text) in brain.region_names):
        return int(text)
    known = list(brain.region_names.values())
    shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    raise InputError(
        "atlas has no such region", where=brain.url, expected=shown or "a region's number", found=text
    )


def _read_mask(file: Path, brain: Brain) -> NDArray[np.bool_]:
    if not file.is_file():
        raise MissingInputError("mask not found", where=file, remedy="Check the path")
    try:
        # Memory-mapped: what a header claims is not allocated, and compared with the canvas before it is read.
        mask = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            "mask cannot be read", where=file, expected="a .npy array", found=str(error)
        ) from error
    plane = tuple(n // BIN_PX for n in brain.canvas)
    expected = (plane, (brain.n_sections, *plane))
    if mask.dtype != np.bool_ or mask.shape not in expected:
        raise InputError(
            "mask does not fit the atlas's bins",
            where=file,
            expected=f"bool {expected[0]} or {expected[1]}",
            found=f"{mask.dtype} {mask.shape}",
        )
    return mask


@dataclass(frozen=True)
class Change:
    """One edit and where its genes stand among the network's; ``other`` is -1 where it has one gene only."""

    edit: Edit
    gene: int
    other: int

    def make(self, counts: NDArray[np.float32], where: NDArray[np.bool_]) -> None:
        """Change ``counts (n, h, w)`` in place where ``where (h, w)`` says so."""
        old = counts[self.gene].copy()
        counts[self.gene] = np.where(where, self._new(old, counts), old)
        if self.edit.operation == "swap":
            counts[self.other] = np.where(where, old, counts[self.other])

    def _new(self, old: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32] | np.float32:
        if isinstance(self.edit.operand, str):
            return counts[self.other]
        value = np.float32(self.edit.operand)
        if self.edit.operation == "set":
            return value
        return old * value if self.edit.operation == "scale" else np.maximum(old + value, np.float32(0))


@dataclass(frozen=True)
class Edits:
    """Changes, made one after the other, and where."""

    changes: tuple[Change, ...]
    place: Place

    def describe(self) -> dict[str, Any]:
        """All that decides them, for a store's request and provenance."""
        return {"edits": [change.edit.text for change in self.changes], "edited": self.place.describe()}


@dataclass(frozen=True)
class EditedCounts:
    """Another source's counts with edits made.

    Counts become float32 and are not rounded: the network takes them raw, and half a molecule is between none and one.
    Outside brain and canvas counts stay zero.

    Attributes:
        inner: whose counts.
        edits: what is changed, and where.
        canvas: ``(height, width)`` in pixels.
        sections: number of the brain's.
    """

    inner: CountsSource
    edits: Edits
    canvas: tuple[int, int]
    sections: int

    def window_counts(self, window: Window, box: Box) -> NDArray[Any]:
        """See :class:`teramind_model.controls.CountsSource`."""
        counts = self._unedited(window, box)
        self._edit(counts, window, box)
        return counts

    def changed(self, section: int, box: Box) -> NDArray[np.bool_]:
        """Which bins of a section have other counts than before the edits: ``(h / 16, w / 16)`` of a 16-aligned box."""
        window = Window(0, (section,), (section,))
        before = self._unedited(window, box)
        after = before.copy()
        self._edit(after, window, box)
        return np.asarray((before != after).any(axis=(0, 1)))

    def _unedited(self, window: Window, box: Box) -> NDArray[np.float32]:
        return np.asarray(self.inner.window_counts(window, box)).astype(np.float32)

    def _edit(self, counts: NDArray[np.float32], window: Window, box: Box) -> None:
        """Make the edits in ``counts (S, n, h / 16, w / 16)`` of a window's box."""
        bins = box.coarsen(BIN_PX)
        inside = bins.intersect(Box.from_shape((self.canvas[0] // BIN_PX, self.canvas[1] // BIN_PX)))
        if inside is None:
            return
        into = inside.shift(-bins.y0, -bins.x0).slices
        for slot, z in enumerate(window.gene):
            if 0 <= z < self.sections:
                where = self.edits.place.bins(z, inside)
                for change in self.edits.changes:
                    change.make(counts[(slot, slice(None), *into)], where)  # a view

    def provenance(self) -> dict[str, Any]:
        """See :class:`teramind_model.controls.CountsSource`."""
        return {**self.inner.provenance(), **self.edits.describe()}


def find_edits(texts: Sequence[str], place: str | None, panel: Panel, brain: Brain) -> Edits:
    """Edits as users write them, for a network and an atlas.

    Args:
        texts: see :func:`parse_edit`; made in this order.
        place: see :func:`find_place`.
        panel: the network's genes, in the order of the counts.
        brain: the atlas.

    Raises:
        InputError, MissingInputError, PanelError: where an edit, a gene or the place does not fit.
    """
    changes = []
    for text in texts:
        edit = parse_edit(text)
        gene = _position(edit, edit.gene, panel)
        other = _position(edit, edit.operand, panel) if isinstance(edit.operand, str) else -1
        if gene == other:
            raise InputError(
                "edit changes nothing", where=f"--edit {edit.text}", expected="two genes", found="one"
            )
        changes.append(Change(edit, gene, other))
    return Edits(tuple(changes), find_place(place, brain))


def _position(edit: Edit, gene: str, panel: Panel) -> int:
    try:
        return int(panel.positions([gene])[0])
    except PanelError:
        raise PanelError(
            "edited gene is none of the network's",
            where=f"--edit {edit.text}",
            expected=f"one of the {len(panel)} genes of the checkpoint",
            found=gene,
            remedy="List them with teramind-model info CHECKPOINT --genes",
        ) from None
