"""What an attention run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_model.generate.config import GIB, Precision
from teramind_model.pathways import Pathway

__all__ = ["AttentionConfig"]


@dataclass(frozen=True)
class AttentionConfig:
    """Maps of pathways into one store, and the matrix of all genes into a table.

    Attributes:
        atlas, checkpoint: as for generation.
        out: a generated store, to which the images are added; or a name that is free, for a store of maps alone.
            None: no maps, only the matrix.
        pathways: whose attention; where None, the paper's three, without those whose genes the panel lacks.
        matrix: table to write, ``*.parquet`` or ``*.csv``; None: no matrix.
        sections: half-open range of the atlas's sections; maps of others are zero. All where None.
        roi: part of the canvas in pixels, grown to whole bins; maps are zero outside. The whole canvas where None.
        tissue_only: do not compute patches where the maps are zero by construction.
        batch: patches computed at once; chosen by what they take where None.
        device: ``auto``, ``cpu``, ``cuda``, ...
        precision: of the products of queries and keys; ``bfloat16`` halves what the device moves.
        threads: of the CPU; torch's own choice where None.
        memory: bytes that the job may take, weights apart.
        overwrite: replace images and tables of these names.
    """

    atlas: str
    checkpoint: str
    out: str | None
    pathways: tuple[Pathway, ...] | None = None
    matrix: str | None = None
    sections: tuple[int, int] | None = None
    roi: Box | None = None
    tissue_only: bool = True
    batch: int | None = None
    device: str = "auto"
    precision: Precision = "float32"
    threads: int | None = None
    memory: int = 4 * GIB
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.out is None and self.matrix is None:
            raise InputError(
                "nothing to write", remedy="Give --out for maps, --matrix for the table, or both"
            )
        if self.out is None and self.pathways:
            raise InputError("maps need a store", where="pathways", remedy="Give --out")
        if self.precision not in get_args(Precision):
            raise InputError(
                "unknown precision", expected=" or ".join(get_args(Precision)), found=self.precision
            )
        for name, value in (("batch", self.batch), ("threads", self.threads)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be positive", expected=">= 1", found=value)
