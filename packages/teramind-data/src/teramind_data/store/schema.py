"""What a store says about itself: the ``teramind`` block, sections and the elements declared in it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import median_low
from typing import Any, Literal, get_args

import numpy as np

from teramind_data.errors import InputError, StoreError
from teramind_data.geometry import BIN_PX
from teramind_data.panel import Panel

__all__ = ["CELL_TABLE", "SCHEMA_VERSION", "BrainSpec", "ImageSpec", "Section", "cells_element"]

#: Raised when a reader of the earlier number would misread the store.
SCHEMA_VERSION = 1

#: Spacing in um of a brain of one section, where there is nothing to take a median of.
_DEFAULT_SPACING_UM = 200.0

#: Table of all cells, which annotates the outlines of every section.
CELL_TABLE = "cells"

Reduce = Literal["mean", "sum", "mode"]
Kind = Literal["atlas", "expression", "generated"]


def cells_element(section: int) -> str:
    """Name of the element with the outlines of a section's cells."""
    return f"cells_{section:03d}"


@dataclass(frozen=True)
class Section:
    """One kept section: its place in the store, its true z, and where it came from.

    ``index`` is its position along z in the arrays; ``z_um`` the true position, gaps included.
    """

    index: int
    name: str
    z_um: float
    source: dict[str, Any] = field(default_factory=dict)
    registration: dict[str, Any] | str = field(default_factory=dict)
    qc: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageSpec:
    """One image or label image of a store.

    Attributes:
        name: element name, e.g. ``attention_GLUT``.
        channels: one name a channel; empty for labels, which have no channel axis.
        dtype: of level 0 (levels made by sum are wider where needed).
        step: canvas pixels to one array pixel: 1, or 16 for bins.
        reduce: how 2 x 2 pixels make one of the next level: ``mean`` (integers rounded half up), ``sum``, or
            ``mode`` (most frequent, the smallest of equals).
        attrs: kept in the store beside the image.
        labels: whether it lies under ``labels/``.
    """

    name: str
    channels: tuple[str, ...]
    dtype: str
    step: int = 1
    reduce: Reduce = "mean"
    attrs: dict[str, Any] = field(default_factory=dict)
    labels: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(str(c) for c in self.channels))
        object.__setattr__(self, "dtype", np.dtype(self.dtype).name)
        if not self.name or any(not (c.isalnum() or c in "_-.") for c in self.name) or self.name[0] in "._":
            raise InputError(
                "image name is not usable",
                expected="letters, digits, '_', '-', '.', starting with a letter or digit",
                found=repr(self.name),
            )
        if self.step not in (1, BIN_PX):
            raise InputError("image step is not supported", self.name, f"1 or {BIN_PX}", self.step)
        if self.reduce not in ("mean", "sum", "mode"):
            raise InputError("unknown reduction", self.name, "mean, sum or mode", self.reduce)
        if self.labels == bool(self.channels):
            raise InputError(
                "image needs channels and labels have none", self.name, found=f"{len(self.channels)} channels"
            )
        if self.labels and np.dtype(self.dtype).kind != "u":
            raise InputError(
                "labels need an unsigned integer type", self.name, "uint8, uint16, ...", self.dtype
            )
        if np.dtype(self.dtype).kind not in "uif":
            raise InputError("image type is not numeric", self.name, "integer or float", self.dtype)

    @property
    def path(self) -> str:
        """Group of the element in the store (SpatialData's flavour lies here)."""
        return f"{'labels' if self.labels else 'images'}/{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; channels are in the image's own metadata and not repeated here."""
        data = asdict(self)
        data.pop("channels")
        return data


@dataclass(frozen=True)
class BrainSpec:
    """Everything about a store that is known before its first pixel.

    Attributes:
        kind: ``atlas`` (measured: morphology, expression and molecules), ``expression`` (measured, without images:
            expression and molecules) or ``generated`` (morphology).
        canvas: ``(height, width)`` in pixels, multiples of 16.
        pixel_size_um: edge of a pixel in um.
        sections: in order of z, ``index`` counting from 0.
        panel: genes of the expression array, or those a generating model used.
        stains: channels of the morphology image; none in an ``expression`` store.
        provenance: inputs, versions, configuration (JSON-like).
        expression_dtype: ``uint8``, or ``uint16`` where bins can hold more than 255 molecules of a gene.
        chunk: edge in pixels of what is read at once.
        shard: edge in pixels of what is written at once; a power of two times ``chunk``. Where None, the smallest
            that holds the canvas, at most 4096.
    """

    kind: Kind
    canvas: tuple[int, int]
    pixel_size_um: float
    sections: tuple[Section, ...]
    panel: Panel | None = None
    stains: tuple[str, ...] = ("DAPI", "PolyT")
    provenance: dict[str, Any] = field(default_factory=dict)
    expression_dtype: str = "uint8"
    chunk: int = 256
    shard: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "canvas", (int(self.canvas[0]), int(self.canvas[1])))
        object.__setattr__(self, "sections", tuple(self.sections))
        object.__setattr__(self, "stains", tuple(self.stains))
        if self.kind not in get_args(Kind):
            raise InputError("unknown kind of store", expected=" or ".join(get_args(Kind)), found=self.kind)
        if min(self.canvas) < BIN_PX or self.canvas[0] % BIN_PX or self.canvas[1] % BIN_PX:
            raise InputError(
                "canvas does not fit the bins", expected=f"multiples of {BIN_PX}", found=self.canvas
            )
        if not (math.isfinite(self.pixel_size_um) and self.pixel_size_um > 0):
            raise InputError("pixel size is not a length", expected="um > 0", found=self.pixel_size_um)
        if not self.sections or [s.index for s in self.sections] != list(range(len(self.sections))):
            raise InputError(
                "sections are not numbered in order",
                expected="0, 1, 2, ... and at least one",
                found=[s.index for s in self.sections],
            )
        if bool(self.stains) == (self.kind == "expression") or len(set(self.stains)) != len(self.stains):
            expected = "none without images" if self.kind == "expression" else "distinct names"
            raise InputError("stains do not fit the store", self.kind, expected, self.stains or "none")
        if self.measured and self.panel is None:
            raise InputError(
                "a measured brain needs a panel", self.kind, remedy="Give the genes of its expression array"
            )
        if self.expression_dtype not in ("uint8", "uint16"):
            raise InputError("expression type is not usable", None, "uint8 or uint16", self.expression_dtype)
        if self.chunk < BIN_PX or self.chunk % BIN_PX or self.chunk & (self.chunk - 1):
            raise InputError("chunk is not usable", None, "a power of two, at least 16", self.chunk)
        if self.shard is None:
            object.__setattr__(self, "shard", self._default_shard())
        ratio = self.shard_px // self.chunk
        if self.shard_px % self.chunk or ratio < 1 or ratio & (ratio - 1):
            raise InputError("shard is not usable", None, f"{self.chunk} times a power of two", self.shard)

    def _default_shard(self) -> int:
        shard = self.chunk
        while shard < max(self.canvas) and shard < 4096:
            shard *= 2
        return shard

    @property
    def shard_px(self) -> int:
        """Edge of a shard in canvas pixels."""
        return int(self.shard or 0)

    @property
    def n_sections(self) -> int:
        """Length of z."""
        return len(self.sections)

    @property
    def z_spacing_um(self) -> float:
        """Median distance of neighbouring sections in um, of two middle ones the lower; the scale of the arrays' z.

        A distance that occurs: of sections at 0, 100 and 300 um it is 100, and the gap is a gap.
        """
        steps = [abs(b.z_um - a.z_um) for a, b in zip(self.sections, self.sections[1:], strict=False)]
        spacing = median_low(steps) if steps else 0.0
        return float(spacing) if spacing > 0 else _DEFAULT_SPACING_UM

    def morphology(self) -> ImageSpec:
        """The stained image: uint8 (c, z, y, x)."""
        return ImageSpec("morphology", self.stains, "uint8")

    def expression(self) -> ImageSpec:
        """Counts in bins: (gene, z, y / 16, x / 16)."""
        if self.panel is None:
            raise StoreError("store has no panel and so no expression")
        return ImageSpec("expression", self.panel.genes, self.expression_dtype, BIN_PX, "sum")

    @property
    def measured(self) -> bool:
        """Whether the store must hold expression and molecules."""
        return self.kind != "generated"

    def required_images(self) -> tuple[ImageSpec, ...]:
        """The images that a store of this kind is not whole without."""
        morphology = () if self.kind == "expression" else (self.morphology(),)
        return (*morphology, *((self.expression(),) if self.measured else ()))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that is said here, inputs and their hashes included; images added later do not change it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without ``provenance`` renamed or lost."""
        return {
            "kind": self.kind,
            "canvas": list(self.canvas),
            "pixel_size_um": self.pixel_size_um,
            "z_spacing_um": self.z_spacing_um,
            "stains": list(self.stains),
            "sections": [asdict(section) for section in self.sections],
            "panel": None if self.panel is None else list(self.panel.genes),
            "panel_fingerprint": None if self.panel is None else self.panel.fingerprint,
            "expression_dtype": self.expression_dtype,
            "chunk": self.chunk,
            "shard": self.shard_px,
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> BrainSpec:
        """Back from ``to_dict``; StoreError naming ``where`` on anything else."""
        try:
            return cls(
                kind=data["kind"],
                canvas=(data["canvas"][0], data["canvas"][1]),
                pixel_size_um=float(data["pixel_size_um"]),
                sections=tuple(Section(**section) for section in data["sections"]),
                panel=None if data["panel"] is None else Panel(tuple(data["panel"])),
                stains=tuple(data["stains"]),
                provenance=dict(data["provenance"]),
                expression_dtype=data["expression_dtype"],
                chunk=int(data["chunk"]),
                shard=int(data["shard"]),
            )
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise StoreError(
                "store metadata is damaged",
                where=where,
                found=f"{type(error).__name__}: {error}",
                remedy="Write the store again",
            ) from error

    def same_layout(self, other: BrainSpec) -> bool:
        """Whether a store begun with one may be continued with the other: all but sections' notes and provenance."""
        bare = [
            replace(s, provenance={}, sections=tuple(_bare(x) for x in s.sections)) for s in (self, other)
        ]
        return bare[0] == bare[1]


def _bare(section: Section) -> Section:
    return Section(section.index, section.name, section.z_um)
