"""Whole phantoms on disk: raw brains as an instrument leaves them, the truth beside them, all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from teramind_data.errors import OutputExistsError
from teramind_data.phantom.anatomy import REGIONS, Anatomy, region_bins
from teramind_data.phantom.atlas import write_atlas
from teramind_data.phantom.config import PhantomConfig
from teramind_data.phantom.genes import COEXPRESSED, INTERACTING, TYPES, UNRELATED, panel_genes
from teramind_data.phantom.registration_json import place_section
from teramind_data.phantom.render import SectionTruth, section_truth
from teramind_data.phantom.vendor import Microns, SectionFiles, write_section

DESCRIPTION = "phantom.json"


def section_name(section: int) -> str:
    """The folder of a section, e.g. ``section_003``."""
    return f"section_{section:03d}"


def _silent(n: float = 1) -> None:
    """Progress that nobody watches."""


def write_phantom(
    config: PhantomConfig,
    out: Path | str,
    progress: Callable[[float], None] = _silent,
    *,
    overwrite: bool = False,
) -> bool:
    """Write a phantom into the new folder `out`; `progress` is called once a section.

    Returns False, and writes nothing, where `out` already holds this very phantom. Memory holds one section.
    Raises OutputExistsError where `out` is something else: another phantom is replaced with `overwrite`
    only, what is no phantom never.
    """
    out = Path(out).absolute()
    if is_written(config, out, overwrite=overwrite):
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        partial.chmod(0o777 & ~_umask())
        for brain in config.brains:
            _write_brain(config, brain, partial, progress)
        _write_description(config, partial)
        _sync(partial)
        _exchange(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_written(config: PhantomConfig, out: Path | str, *, overwrite: bool = False) -> bool:
    """Whether `out` is this phantom, whole (never so with `overwrite`).

    Raises OutputExistsError where there is something that may not be replaced.
    """
    out = Path(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    described = _read_description(out)
    if described is None:
        raise OutputExistsError(
            "output exists and is no phantom",
            where=out,
            expected="a new folder",
            found="a file" if out.is_file() else f"a folder without a readable {DESCRIPTION}",
            remedy="Choose another folder",
        )
    if overwrite:
        return False
    if described.get("fingerprint") != config.fingerprint():
        raise OutputExistsError(
            "output holds a phantom of another configuration",
            where=out,
            expected=config.fingerprint()[:12],
            found=str(described.get("fingerprint"))[:12],
            remedy="Choose another folder or add --overwrite",
        )
    files = described.get("files", {})
    damaged = [
        name
        for name, size in files.items()
        if not (out / name).is_file() or (out / name).stat().st_size != size
    ]
    if damaged:
        raise OutputExistsError(
            "output holds this phantom, but not all of it",
            where=out / damaged[0],
            expected=f"{files[damaged[0]]} bytes",
            found=f"{len(damaged)} missing or changed files",
            remedy="Add --overwrite",
        )
    return True


def _read_description(out: Path) -> dict[str, Any] | None:
    """The description of the phantom in `out`; None where there is none."""
    try:
        described = json.loads((out / DESCRIPTION).read_text())
    except (OSError, ValueError):
        return None
    ours = isinstance(described, dict) and described.get("kind") == "teramind-phantom"
    return described if ours else None


def _write_brain(config: PhantomConfig, brain: str, root: Path, progress: Callable[[float], None]) -> None:
    raw = root / "raw" / brain
    for section in range(config.sections):
        truth = section_truth(config, brain, section)
        placement = place_section(config, brain, section)
        folder = raw / section_name(section)
        folder.mkdir(parents=True)
        write_section(
            folder, SectionFiles(config, brain, section, truth, placement, Microns.of(config, brain, section))
        )
        _write_truth(root / "truth" / brain / section_name(section), truth)
        progress(1)
    _write_annotation(config, brain, raw / "annotation")


def _write_annotation(config: PhantomConfig, brain: str, folder: Path) -> None:
    """`regions.tif`, uint16 (z, y, x) in bins of 16 px of the canvas, and the names of its numbers."""
    import tifffile

    folder.mkdir()
    stack = np.stack([region_bins(Anatomy.of(config, brain, z)) for z in range(config.sections)]).astype(
        np.uint16
    )
    tifffile.imwrite(folder / "regions.tif", stack, photometric="minisblack", metadata=None)
    rows = [f"{i},{name}\n" for i, name in enumerate(REGIONS)]
    (folder / "regions.csv").write_text("id,name\n" + "".join(rows))
    write_atlas(folder, stack, config)


def _write_truth(folder: Path, truth: SectionTruth) -> None:
    """`nuclei.tif` (int32 labels in the canvas plane) and `cells.csv`, one row a label."""
    import polars as pl
    import tifffile

    folder.mkdir(parents=True)
    tifffile.imwrite(
        folder / "nuclei.tif",
        truth.masks,
        tile=(256, 256),
        compression="zlib",
        photometric="minisblack",
        metadata=None,
    )
    cells, n = truth.cells, len(truth.cells)
    pl.DataFrame(
        {
            "cell_id": cells["cell_id"],
            "type": [TYPES[t] for t in cells["type"]],
            "region": [REGIONS[r] for r in cells["region"]],
            "y": cells["y"],
            "x": cells["x"],
            "radius_px": cells["radius"],
            "major_px": cells["a"],
            "minor_px": cells["b"],
            "angle_rad": cells["angle"],
            "area_px": np.bincount(truth.masks.ravel(), minlength=n + 1)[1 : n + 1],
            "dapi": cells["dapi"],
            "polyt": cells["polyt"],
            "transcripts": np.bincount(truth.molecules.cell, minlength=n + 1)[1 : n + 1],
        }
    ).write_csv(folder / "cells.csv", float_precision=4)


def _write_description(config: PhantomConfig, root: Path) -> None:
    """`phantom.json`: the configuration, panels, plane and every file with its size; written last."""
    from teramind_data import __version__

    files = {
        path.relative_to(root).as_posix(): path.stat().st_size
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    description = {
        "kind": "teramind-phantom",
        "fingerprint": config.fingerprint(),
        "version": __version__,
        "config": config.to_dict(),
        "sections": [
            {"name": section_name(z), "z_um": z * config.spacing_um} for z in range(config.sections)
        ],
        "registration": "atlas mm to slide pixels; atlas mm = canvas px * pixel_size_um / 1000; "
        "pixel i has its centre at coordinate i",
        "panels": {
            brain: list(panel_genes(config.panel_of(brain), config.genes, config.shared))
            for brain in config.brains
        },
        "pairs": {"interacting": INTERACTING, "coexpressed": COEXPRESSED, "unrelated": UNRELATED},
        "types": TYPES,
        "regions": REGIONS,
        "files": files,
    }
    (root / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")


def _sync(root: Path) -> None:
    """Have the bytes on disk before the name says they are."""
    for path in root.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _exchange(partial: Path, out: Path) -> None:
    """Put `partial` under its final name; an older phantom there leaves only once it is."""
    if not out.exists() or not any(out.iterdir()):
        partial.replace(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    out.replace(old)
    partial.replace(out)
    shutil.rmtree(old)
