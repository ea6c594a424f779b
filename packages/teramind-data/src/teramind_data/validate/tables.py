"""Molecules, transcripts as points, and the table of sections."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from teramind_data.elements import POINTS, TABLE, point_frames
from teramind_data.errors import TeramindError
from teramind_data.geometry import ceil_div
from teramind_data.store import TILE_PX, Brain, Location
from teramind_data.validate.finding import READ_ERRORS, Finding, describe

__all__ = ["check_molecules", "check_points", "check_table"]

_COLUMNS = {"y": "int32", "x": "int32", "gene": "uint16", "offsets": "int64"}
_SLICE = 1 << 20
_POINT_COLUMNS = ("x", "y", "z", "gene", "section")


def check_molecules(location: Location, brain: Brain, *, deep: bool) -> Iterator[Finding]:
    """``molecules/``: columns, lengths, offsets; deep: positions, genes and order of every molecule."""
    import zarr

    arrays: dict[str, Any] = {}
    for name, dtype in _COLUMNS.items():
        path = f"molecules/{name}"
        try:
            array = zarr.open_array(store=location.zarr_store(read_only=True), path=path, mode="r")
            shard = (array.shards or array.chunks)[0]
        except READ_ERRORS as error:
            yield Finding(path, f"cannot be opened: {describe(error)}")
            continue
        if array.dtype != np.dtype(dtype) or array.ndim != 1:
            yield Finding(path, f"is {array.dtype} {array.shape} instead of a column of {dtype}")
            continue
        missing = [n for n in range(ceil_div(array.shape[0], shard)) if not location.exists(f"{path}/c/{n}")]
        for number in missing:
            yield Finding(f"{path}/c/{number}", "shard is missing")
        if not missing:
            arrays[name] = array
    if len(arrays) < len(_COLUMNS):
        return
    lengths = {name: int(arrays[name].shape[0]) for name in ("y", "x", "gene")}
    if len(set(lengths.values())) > 1:
        yield Finding("molecules", f"columns differ in length: {lengths}")
        return
    try:
        problem = _offsets(brain, arrays, lengths["y"])
        if problem:
            yield Finding("molecules/offsets", problem)
        elif deep:
            yield from _molecule_values(brain, arrays, lengths["y"])
    except READ_ERRORS as error:
        yield Finding("molecules", f"cannot be read, a shard is damaged: {describe(error)}")


def _tiles(brain: Brain) -> tuple[int, int]:
    return ceil_div(brain.canvas[0], TILE_PX), ceil_div(brain.canvas[1], TILE_PX)


def _offsets(brain: Brain, arrays: dict[str, Any], total: int) -> str | None:
    rows, columns = _tiles(brain)
    expected = brain.n_sections * rows * columns + 1
    offsets = arrays["offsets"][:]
    if len(offsets) != expected:
        return f"has {len(offsets)} entries instead of {expected} (sections x tiles + 1)"
    if offsets[0] != 0 or np.any(np.diff(offsets) < 0):
        return "offsets do not rise from 0"
    if offsets[-1] != total:
        return f"ends at {offsets[-1]}, but there are {total} molecules"
    return None


def _molecule_values(brain: Brain, arrays: dict[str, Any], total: int) -> Iterator[Finding]:
    rows, columns = _tiles(brain)
    genes = 0 if brain.panel is None else len(brain.panel)
    offsets = arrays["offsets"][:]
    for start in range(0, total, _SLICE):
        stop = min(start + _SLICE, total)
        y, x, gene = (arrays[name][start:stop] for name in ("y", "x", "gene"))
        for values, name, limit in (
            (y, "y", brain.canvas[0]),
            (x, "x", brain.canvas[1]),
            (gene, "gene", genes),
        ):
            wrong = np.nonzero((values < 0) | (values >= limit))[0]
            if len(wrong):
                first = int(wrong[0])
                problem = f"{len(wrong)} out of range 0..{limit - 1}, the first is"
                yield Finding(f"molecules/{name}", f"{problem} number {start + first}: {values[first]}")
        number = np.searchsorted(offsets, np.arange(start, stop), side="right") - 1
        tile = (y.astype(np.int64) // TILE_PX) * columns + x // TILE_PX
        misplaced = np.nonzero(number % (rows * columns) != tile)[0]
        if len(misplaced):
            problem = f"{len(misplaced)} lie in another tile than the offsets say"
            yield Finding("molecules", f"{problem}, the first is number {start + misplaced[0]}")


def check_points(location: Location, brain: Brain, *, deep: bool) -> Iterator[Finding]:
    """``points/transcripts``: parts, columns, as many as there are molecules; deep: every position."""
    import pyarrow.parquet

    folder = f"points/{POINTS}/points.parquet"
    names = location.keys(folder)
    numbers = sorted(
        int(name.split(".")[1]) for name in names if name.startswith("part.") and name.endswith(".parquet")
    )
    if not numbers:
        yield Finding(folder, "there are no parts")
        return
    for missing in sorted(set(range(numbers[-1] + 1)) - set(numbers)):
        yield Finding(f"{folder}/part.{missing}.parquet", "part is missing")
    total = 0
    whole = len(numbers) == numbers[-1] + 1
    # The molecules once more, in the parts in which they were written.
    expected = point_frames(brain) if deep and whole and brain.has_molecules else iter(())
    for number in numbers:
        key = f"{folder}/part.{number}.parquet"
        try:
            file = pyarrow.parquet.ParquetFile(io.BytesIO(location.read(key) or b""))
            columns = [name for name in _POINT_COLUMNS if name not in file.schema_arrow.names]
            if columns:
                yield Finding(key, f"columns are missing: {', '.join(columns)}")
                whole = False
                continue
            total += file.metadata.num_rows
            if deep:
                frame = file.read(_POINT_COLUMNS).to_pandas()
                yield from _point_values(brain, key, frame)
                made = next(expected, None)
                if made is not None and len(made) == len(frame):
                    yield from _point_origin(key, made, frame)
        except READ_ERRORS as error:
            yield Finding(key, f"cannot be read: {describe(error)}")
            whole = False
    if whole and brain.has_molecules and total != brain.molecules.total:
        yield Finding(f"points/{POINTS}", f"has {total:,} transcripts, molecules {brain.molecules.total:,}")


def _point_values(brain: Brain, key: str, frame: Any) -> Iterator[Finding]:
    um = brain.pixel_size_um
    limits = {
        "x": brain.canvas[1] * um,
        "y": brain.canvas[0] * um,
        "z": brain.n_sections * brain.z_spacing_um,
    }
    for name, limit in limits.items():
        values = frame[name].to_numpy()
        wrong = int(np.count_nonzero(~((values >= 0) & (values <= limit * (1 + 1e-6)))))
        if wrong:
            yield Finding(key, f"{wrong} positions are not in 0..{limit:g} um along {name}, or no numbers")
    genes = set() if brain.panel is None else set(brain.panel)
    unknown = sorted(set(frame["gene"].dropna().unique()) - genes)
    if unknown or frame["gene"].isna().any():
        yield Finding(key, f"genes are not of the panel: {', '.join(map(str, unknown[:3])) or 'empty'}")
    if not frame["section"].between(0, brain.n_sections - 1).all():
        yield Finding(key, f"sections are not in 0..{brain.n_sections - 1}")


def _point_origin(key: str, made: Any, frame: Any) -> Iterator[Finding]:
    """Parquet of pyarrow carries no checksums: a part is compared with the molecules that it was made from."""
    wrong = np.zeros(len(frame), bool)
    for name in _POINT_COLUMNS:
        one, other = (f[name].astype(str) if name == "gene" else f[name] for f in (made, frame))
        # Not "==" alone: what is no number is told of elsewhere, and equals nothing.
        wrong |= (one.to_numpy() != other.to_numpy()) & ~other.isna().to_numpy()
    if wrong.any():
        yield Finding(key, f"{int(wrong.sum())} transcripts differ from the molecules")


def check_table(location: Location, brain: Brain, *, deep: bool) -> Iterator[Finding]:
    """``tables/sections``: a row a section, a column a gene; deep: the molecules of each."""
    import warnings

    import anndata
    import zarr

    element = f"tables/{TABLE}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = zarr.open_group(location.zarr_store(read_only=True), mode="r", use_consolidated=False)
            table = anndata.io.read_elem(root[element])
            rows, columns = list(table.obs_names), list(table.var_names)
            z = [float(value) for value in table.obs["z_um"]]
            [json.loads(text) for name in ("source", "registration", "qc") for text in table.obs[name]]
            values = None if table.X is None else np.asarray(table.X)
    except READ_ERRORS as error:
        yield Finding(element, f"cannot be read: {describe(error)}")
        return
    if rows != [section.name for section in brain.sections]:
        yield Finding(element, "rows are not the sections of the store")
    elif z != [float(section.z_um) for section in brain.sections]:
        yield Finding(element, "z differs from that of the store's sections")
    if brain.panel is not None and columns != list(brain.panel):
        yield Finding(element, "columns are not the genes of the panel in their order")
    if values is None:
        return
    if not np.isfinite(values).all() or values.min(initial=0) < 0:
        yield Finding(element, "counts are negative or no numbers")
    elif deep and brain.has_molecules and values.shape == (brain.n_sections, len(brain.panel or ())):
        try:
            totals = np.stack([brain.molecules.totals(s.index) for s in brain.sections])
        except (*READ_ERRORS, TeramindError):
            return
        if not np.array_equal(totals, values):
            yield Finding(
                element, f"counts differ from the molecules in {int((totals != values).sum())} cells"
            )
