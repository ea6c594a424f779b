"""What the baselines' networks share: their sizes, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from teramind_data.errors import InputError

__all__ = ["BaselineShape", "shape_from"]

_SLICES = (1, 4, 8, 16)
_PATCHES = (32, 64, 128)


@dataclass(frozen=True)
class BaselineShape:
    """Sizes of a network.

    genes, gene_slices, stains, patch: as for the paper's network. channels: base width. time_width: of the time
    embedding. gene_width: channels that the gene counts are embedded in; 0 for a network without genes.
    """

    genes: int
    gene_slices: int = 4
    stains: int = 2
    patch: int = 64
    channels: int = 64
    time_width: int = 512
    gene_width: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("genes", "stains", "time_width"):
            _check(name, getattr(self, name) >= 1, ">= 1", getattr(self, name))
        _check("gene_slices", self.gene_slices in _SLICES, _SLICES, self.gene_slices)
        _check("patch", self.patch in _PATCHES, _PATCHES, self.patch)
        # The time embedding is half cosines, half sines.
        _check("channels", self.channels >= 2 and self.channels % 2 == 0, "2, 4, ...", self.channels)
        _check("gene_width", self.gene_width >= 0, ">= 0", self.gene_width)
        _check("dropout", 0 <= self.dropout < 1, "0 <= p < 1", self.dropout)

    @property
    def image_slices(self) -> int:
        """Image slices made by a window, Z."""
        return max(1, self.gene_slices // 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def _check(name: str, right: bool, expected: object, found: object) -> None:
    if not right:
        raise InputError(f"network.{name} is out of range", expected=expected, found=found)


Shape = TypeVar("Shape", bound=BaselineShape)


def shape_from(kind: type[Shape], values: Mapping[str, Any], *, genes: bool) -> Shape:
    """A shape of ``kind`` from plain values, with genes (embedded in ``channels`` unless said otherwise) or without.

    Raises:
        InputError: on a key that is not a field, or a value out of range.
    """
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError("network configuration has unknown keys", expected=known, found=unknown)
    plain = dict(values)
    width = plain.setdefault("gene_width", plain.get("channels", kind.channels) if genes else 0)
    if bool(width) != genes:
        raise InputError(
            "network.gene_width does not fit the method",
            expected="> 0" if genes else "0, for it sees no genes",
            found=width,
        )
    return kind(**plain)
