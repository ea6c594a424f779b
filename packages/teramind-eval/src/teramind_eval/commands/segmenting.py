"""Options of every command that looks for nuclei."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

__all__ = ["CellposeModel", "NucleusUm", "SegmenterName"]

SegmenterName = Annotated[str, typer.Option(help="What finds nuclei: watershed or cellpose.", metavar="NAME")]
CellposeModel = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Option(help="nuclei or cyto3 (Cellpose 3), cpsam (4), or a weights file.", metavar="NAME|FILE"),
]
NucleusUm = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="Diameter of a nucleus, for Cellpose (9; of a file its own)."),
]
