"""What a manifest says of annotation: label images, an atlas volume, outlines of cells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Row = tuple[Finite, Finite, Finite, Finite]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RegionsEntry(_Strict):
    """Annotation drawn on sections: a TIFF or OME-Zarr stack (section, y, x), and a table of id, name.

    labels: relative to the brain's folder; sections may have files of their own (``regions``) instead. plane: of the
    canvas (its corner is 0), or of the atlas (its 0 is 0). Without pixel_size_um, in the canvas plane: the canvas's
    pixels or bins. origin_um: y, x of the image's corner.
    """

    labels: str | None = None
    names: str | None = None
    plane: Literal["canvas", "atlas"] = "canvas"
    pixel_size_um: Positive | None = None
    origin_um: tuple[Finite, Finite] = (0.0, 0.0)


class AtlasEntry(_Strict):
    """An atlas volume whose regions the sections take (``atlas`` module: conventions).

    volume, names: relative to the brain's folder. orientation: where each axis of the file runs to (CCF: PIR).
    voxel_um: where the file does not tell. origin_um: AP, DV, LR of the corner of the first voxel. plane: how sections
    lie, or matrix: (x, y, depth) of the plane to (AP, DV, LR), rows of 4, the last column in mm. depth_um: the atlas
    depth of z 0.
    """

    volume: str
    names: str | None = None
    orientation: str | None = None
    voxel_um: Positive | tuple[Positive, Positive, Positive] | None = None
    origin_um: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    plane: Literal["coronal", "sagittal", "horizontal"] = "coronal"
    matrix: tuple[Row, Row, Row] | None = None
    depth_um: Finite = 0.0


class CellsEntry(_Strict):
    """A section's cells: files relative to its folder (else the vendor's), and the z plane whose outlines count."""

    boundaries: str | None = None
    counts: str | None = None
    metadata: str | None = None
    z_index: Annotated[int, Field(ge=0)] | None = None
