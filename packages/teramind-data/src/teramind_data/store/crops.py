"""Random crops of a brain, fast: pixels of some sections, and counts in bins from the crop's own corner.

Local stores and those on S3 are read through tensorstore where that is installed: it decodes chunks in threads of its
own, all chunks of a crop at once, and keeps some of them. Others are read through zarr. The values are the same, and so
is what is refused: a shard that is missing is never background.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import GeometryError, MissingInputError, StoreError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store.molecules import COLUMNS, binned
from teramind_data.store.reader import Brain
from teramind_data.store.remote import s3_endpoint, s3_region

__all__ = ["CropReader", "Limits"]

Pending = Callable[[], NDArray[Any]]
"""Waits for something that is being read."""

Read = Callable[[Any], Pending]
"""Begins to read a selection of an array."""


@dataclass(frozen=True)
class Limits:
    """What reading may take: bytes of decoded chunks that are kept, and threads that decode."""

    cache_bytes: int = 256 << 20
    threads: int = 2


class CropReader:
    """Reads crops of one brain; safe to share between threads.

    Args:
        brain: an open store.
        limits: memory and threads of tensorstore; zarr has its own.
        tensorstore: whether to read through it; None where it can.

    Raises:
        MissingInputError: where tensorstore is asked for and cannot be had.
    """

    def __init__(
        self, brain: Brain, *, limits: Limits | None = None, tensorstore: bool | None = None
    ) -> None:
        self._brain = brain
        self._arrays: dict[str, Read] = {}
        able = brain.url.startswith("s3://") or "://" not in brain.url
        able = able and find_spec("tensorstore") is not None
        if tensorstore and not able:
            raise MissingInputError(
                "tensorstore is not installed, or cannot read such a URL",
                brain.url,
                remedy='pip install "teramind-data[tensorstore]"',
            )
        self.fast = able if tensorstore is None else tensorstore
        self._context = _context(limits or Limits()) if self.fast else None

    def pixels(self, name: str, sections: Sequence[int], box: Box) -> NDArray[Any]:
        """Level 0 of an image, ``(c, section, h, w)``, labels ``(section, h, w)``.

        Args:
            name: image or label image.
            sections: indices inside the brain.
            box: in pixels of that image (bins for expression and labels), inside it.

        Raises:
            GeometryError: where a section or part of the box does not exist.
            MissingShardError: where a shard under the box is neither stored nor listed as empty.
            StoreError: where what is stored is damaged.
        """
        layout = self._brain.layout(name)
        self._brain.check_box(layout, sections, box)
        read = self._array(layout.array_path(0))
        pending = [read((..., int(z), *box.slices)) for z in sections]
        return np.stack([wait() for wait in pending], axis=-3)

    def counts(
        self, sections: Sequence[int], box: Box, genes: NDArray[np.int64] | None = None
    ) -> NDArray[np.uint16]:
        """Molecules in bins from the box's corner, ``(section, genes, h / 16, w / 16)``.

        Args:
            sections: indices; outside the brain counts are zero.
            box: canvas pixels, any corner, sides multiples of 16; outside the canvas counts are zero.
            genes: panel indices in the order wanted; all where None.

        Raises:
            GeometryError: where the sides are no multiples of 16.
            MissingShardError: where part of the molecules is missing.
            StoreError: where what is stored is damaged.
        """
        if box.height % BIN_PX or box.width % BIN_PX:
            raise GeometryError("box does not hold whole bins", None, f"sides of multiples of {BIN_PX}", box)
        molecules = self._brain.molecules
        total = len(self._brain.panel or ())
        chosen = np.arange(total) if genes is None else np.asarray(genes, np.int64)
        # All reading is begun before any of it is waited for.
        pending: list[list[list[Pending]]] = []
        for z in sections:
            runs = molecules.runs(z, box) if 0 <= z < self._brain.n_sections else ()
            pending.append([[self._column(name, *run) for name in COLUMNS] for run in runs])
        shape = (len(sections), len(chosen), box.height // BIN_PX, box.width // BIN_PX)
        out = np.zeros(shape, np.uint16)
        for slot, parts in enumerate(pending):
            if parts:
                y, x, gene = (np.concatenate([part[i]() for part in parts]) for i in range(len(COLUMNS)))
                out[slot] = binned(y, x, gene, box, chosen, total)
        return out

    def _column(self, name: str, start: int, stop: int) -> Pending:
        self._brain.molecules.check(name, start, stop)
        return self._array(f"molecules/{name}")(slice(start, stop))

    def _array(self, path: str) -> Read:
        if path not in self._arrays:
            self._arrays[path] = self._tensorstore(path) if self.fast else self._zarr(path)
        return self._arrays[path]

    def _zarr(self, path: str) -> Read:
        array: Any = self._brain.array(path)

        def read(selection: Any) -> Pending:
            return lambda: np.asarray(array[selection])

        return read

    def _tensorstore(self, path: str) -> Read:
        import tensorstore

        url = f"{self._brain.url}/{path}"
        # Of a store that is complete nothing changes; of another, what is there may be written again.
        recheck = {"recheck_cached_data": not self._brain.complete, "recheck_cached_metadata": "open"}
        spec = {"driver": "zarr3", "kvstore": _kvstore(url), **recheck}
        array = _waited(tensorstore.open(spec, read=True, context=self._context), url)

        def read(selection: Any) -> Pending:
            future = array[selection].read()
            return lambda: np.asarray(_waited(future, url))

        return read


def _waited(future: Any, url: str) -> Any:
    try:
        return future.result()
    except (ValueError, OSError, RuntimeError) as error:
        # tensorstore's own errors are these, with its word for the kind at the beginning.
        what = str(error).partition(" [")[0]
        raise StoreError(
            "stored data are damaged or cannot be read",
            url,
            found=what,
            remedy="Check it: teramind-data validate",
        ) from error


def _kvstore(url: str) -> dict[str, Any]:
    """Where tensorstore finds an array."""
    if "://" not in url:
        return {"driver": "file", "path": f"{url}/"}
    bucket, _, path = url.removeprefix("s3://").partition("/")
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": f"{path}/"}
    if endpoint := s3_endpoint():
        spec["endpoint"] = endpoint
    if region := s3_region():
        spec["aws_region"] = region
    # The environment comes first in the default order, too, which however looks for what it may not need and says so.
    spec["aws_credentials"] = {"type": "environment" if "AWS_ACCESS_KEY_ID" in os.environ else "default"}
    return spec


def _context(limits: Limits) -> Any:
    import tensorstore

    return tensorstore.Context(
        {
            "cache_pool": {"total_bytes_limit": limits.cache_bytes},
            "data_copy_concurrency": {"limit": limits.threads},
            "file_io_concurrency": {"limit": max(4, limits.threads)},
            "s3_request_concurrency": {"limit": 16},
            # Its own are 32 with pauses of up to half a minute.
            "s3_request_retries": {"max_retries": 4, "initial_delay": "200ms", "max_delay": "2s"},
        }
    )
