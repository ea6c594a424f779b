"""What a network is: the numbers that fix every parameter's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX

LEVEL_MULTIPLIERS = (1, 2, 4, 8)
"""Channel multipliers at resolutions P, P/2, P/4, P/8 (paper, section 3.2)."""

ATTENTION_EDGE = 16
"""The level whose feature maps have this edge carries gene-morph attention, whatever the patch."""

_KERNEL_Z = {1: 1, 4: 3, 8: 5, 16: 9}
_PATCHES = (32, 64, 128)


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network. Defaults are the published main network's.

    Parameters
    ----------
    genes
        Genes in the panel, ``n``.
    gene_slices
        Gene slices seen by a window, ``S``: 1, 4, 8 or 16.
    stains
        Image channels, ``k``.
    patch
        Patch edge ``P`` in pixels: 32, 64 or 128.
    channels
        Base width ``C``; levels are 1, 2, 4, 8 times as wide.
    gene_widths
        Channels of the gene features at P/4, P/2 and P. The published network's are fixed at 128, 64, 32.
    time_width
        Width of the time embedding; 512 in the published network.
    dropout
        Dropout probability inside residual blocks.
    fold_z
        Compute 3 x 3 x 3 convolutions as exact 2-D ones with the image slices folded into channels. Changes
        speed and rounding, not parameters.
    """

    genes: int
    gene_slices: int = 4
    stains: int = 2
    patch: int = 64
    channels: int = 64
    gene_widths: tuple[int, int, int] = (128, 64, 32)
    time_width: int = 512
    dropout: float = 0.1
    fold_z: bool = False

    def __post_init__(self) -> None:
        for name in ("genes", "stains", "time_width"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"network.{name} is not positive", expected=">= 1", found=getattr(self, name)
                )
        if self.gene_slices not in _KERNEL_Z:
            raise InputError(
                "network.gene_slices is unknown", expected=sorted(_KERNEL_Z), found=self.gene_slices
            )
        if self.patch not in _PATCHES:
            raise InputError("network.patch is unknown", expected=list(_PATCHES), found=self.patch)
        if self.channels < 2 or self.channels % 2:
            # The time embedding is half cosines, half sines.
            raise InputError(
                "network.channels is not a positive even number", expected="2, 4, ...", found=self.channels
            )
        if len(self.gene_widths) != 3 or min(self.gene_widths) < 1:
            raise InputError(
                "network.gene_widths is malformed", expected="three widths >= 1", found=self.gene_widths
            )
        if not 0.0 <= self.dropout < 1.0:
            raise InputError("network.dropout is out of range", expected="0 <= p < 1", found=self.dropout)

    @property
    def image_slices(self) -> int:
        """Image slices made by a window, ``Z``: S/2, or 1 when S = 1."""
        return max(1, self.gene_slices // 2)

    @property
    def kernel_z(self) -> int:
        """Depth of the convolution that leaves ``Z`` of ``S`` gene slices."""
        return _KERNEL_Z[self.gene_slices]

    @property
    def bins(self) -> int:
        """Edge of a patch in gene bins, ``g`` = P / 16."""
        return self.patch // BIN_PX

    @property
    def halo(self) -> int:
        """Pixels around a tile (a collage patch) that its noise depends on, P / 2."""
        return self.patch // 2

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four levels."""
        return tuple(self.channels * m for m in LEVEL_MULTIPLIERS)

    @property
    def gene_channels(self) -> tuple[int, int, int, int]:
        """Channels of gene features ``g_0`` (P/8) .. ``g_3`` (P)."""
        return (self.genes, *self.gene_widths)

    def edge(self, level: int) -> int:
        """Edge in pixels of the feature maps at ``level``."""
        return self.patch >> level

    def has_attention(self, level: int) -> bool:
        """Whether ``level`` carries gene-morph attention."""
        return self.edge(level) == ATTENTION_EDGE

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "gene_widths": list(self.gene_widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """Inverse of :meth:`to_dict`; unknown keys are an error.

        Raises
        ------
        InputError
            On a key that is not a field, or a value out of range.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError("network configuration has unknown keys", expected=sorted(known), found=unknown)
        plain = dict(values)
        if "gene_widths" in plain:
            plain["gene_widths"] = tuple(plain["gene_widths"])
        return cls(**plain)
