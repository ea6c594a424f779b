"""What every import does with its output: begin or continue it, leave nothing of a failed one, record the inputs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, OutputExistsError, RemoteError, TeramindError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import (
    BrainSpec,
    BrainWriter,
    create_brain,
    discard_store,
    open_brain,
    resume_brain,
    store_state,
)

if TYPE_CHECKING:
    from teramind_data.ingest.raster import Rows

__all__ = [
    "begun",
    "bin_means",
    "check_output",
    "key_of",
    "listing",
    "parse_canvas",
    "put_labels",
    "scratch",
    "software",
]


def key_of(*parts: object) -> str:
    """SHA-256 (hex) of anything JSON can write: what tells whether an output was made from the same inputs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def listing(folder: Path, files: Iterable[Path]) -> dict[str, Any]:
    """A folder of many files as one input: how many, their bytes, and a digest of names, sizes and times."""
    facts = [(file.name, info.st_size, info.st_mtime_ns) for file in files for info in (file.stat(),)]
    return {
        "folder": folder.resolve().name,
        "files": len(facts),
        "bytes": sum(size for _, size, _ in facts),
        "listing_sha256": key_of([(name, size) for name, size, _ in facts]),
        "key": key_of(facts),
    }


def software() -> dict[str, str]:
    """Versions of what the import ran with."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("teramind-data", "numpy", "zarr", "imagecodecs")},
    }


def check_output(out: str, key: str, *, overwrite: bool) -> bool:
    """Whether ``out`` is complete and made from the same inputs already, so that nothing is to be done.

    Raises:
        OutputExistsError: where what is there is something else.
    """
    state = store_state(out)
    if state in ("absent", "empty"):
        return False
    if state == "foreign":
        raise OutputExistsError(
            "output exists and is no store of ours",
            where=out,
            remedy="Choose another name; it is never replaced, not even with --overwrite",
        )
    if overwrite:
        return False
    found = open_brain(out, incomplete=True).provenance.get("key")
    if found != key:
        raise OutputExistsError(
            f"output exists and was {'made' if state == 'complete' else 'begun'} from other inputs or settings",
            where=out,
            expected=key[:12],
            found=str(found)[:12],
            remedy="Choose another name or pass --overwrite",
        )
    return state == "complete"


@contextmanager
def begun(out: str, spec: BrainSpec, *, overwrite: bool) -> Iterator[BrainWriter]:
    """The store, created or continued; where this run created it, bad input found on the way leaves nothing of it."""
    state = store_state(out)
    continued = state == "incomplete" and not overwrite
    if continued:
        writer = resume_brain(out, spec)
    else:
        writer = create_brain(out, spec, overwrite=overwrite)
    try:
        yield writer
    except RemoteError:
        raise
    except TeramindError:
        if not continued:
            discard_store(writer.url)
        raise


@contextmanager
def scratch(out: str) -> Iterator[Path]:
    """A scratch folder beside a local output (same disk), removed at the end."""
    parent = None
    if "://" not in out:
        parent = Path(out).absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{Path(out).name}.scratch-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_labels(writer: BrainWriter, name: str, planes: Iterable[Rows], dtype: str = "uint8") -> None:
    """Write a label image shard by shard, a section at a time; a continued run finds it declared already."""
    if name not in open_brain(writer.url, incomplete=True).labels:
        writer.add_labels(name, dtype)
    for z, plane in enumerate(planes):
        for _, box in (unit for unit in writer.shards(name) if unit[0] == z):
            writer.write(name, z, box, plane.read(box.y0, box.y1)[:, box.x0 : box.x1])


def bin_means(writer: BrainWriter, channel: int, section: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Mean of a stain in each bin, a row of shards at a time: its first row of bins, and ``(rows, x/16)``."""
    brain = open_brain(writer.url, incomplete=True)
    mine = (box for z, box in writer.shards("morphology") if z == section)
    for y0, boxes in groupby(mine, key=lambda box: box.y0):
        parts = []
        for box in boxes:
            bins = box.coarsen(BIN_PX)
            pixels = brain.read("morphology", section, box)[channel]
            parts.append(pixels.reshape(bins.height, BIN_PX, bins.width, BIN_PX).mean(axis=(1, 3)))
        yield y0 // BIN_PX, np.concatenate(parts, axis=1).astype(np.float32)


def parse_canvas(text: str | None) -> tuple[int, int] | None:
    """``height,width`` in pixels, multiples of 16; None where not given."""
    if text is None:
        return None
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) != 2 or not all(part.isascii() and part.isdigit() and int(part) for part in numbers):
        raise InputError("canvas is not a size", "--canvas", "height,width in px", repr(text))
    height, width = (int(part) for part in numbers)
    if height % BIN_PX or width % BIN_PX:
        raise InputError("canvas does not fit the bins", "--canvas", f"multiples of {BIN_PX}", repr(text))
    return Box.from_shape((height, width)).shape
