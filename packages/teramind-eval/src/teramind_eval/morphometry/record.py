"""What was found in a block, as one small file of a store's journal, so that a run that was stopped goes on."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_data.geometry import Box
from teramind_data.store import Location
from teramind_eval.morphometry.segment import BlockNuclei, Nuclei


@dataclass(frozen=True, slots=True)
class Found:
    """Nuclei of a block and their pixels, cut to what they cover; `labels` are 1..n, `box` is None where n is 0."""

    nuclei: Nuclei
    labels: npt.NDArray[np.int32]
    box: Box | None

    @classmethod
    def of(cls, found: BlockNuclei) -> Found:
        """Cut to the pixels that are any nucleus's."""
        rows, columns = (np.flatnonzero(found.labels.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return cls(found.nuclei, np.zeros((0, 0), np.int32), None)
        box = Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        return cls(found.nuclei, found.labels[box.slices], box.shift(found.block.y0, found.block.x0))


class Records:
    """The files of an addition that is under way; they go with its journal."""

    def __init__(self, location: Location, prefix: str) -> None:
        self._location, self._prefix = location, prefix

    def _key(self, kind: str, section: int, box: Box) -> str:
        return f"{self._prefix}/{kind}/{section}_{box.y0}_{box.x0}.npz"

    def has(self, kind: str, section: int, box: Box) -> bool:
        """Whether a block's or shard's file is there."""
        return self._location.exists(self._key(kind, section, box))

    def _write(self, key: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        self._location.write(key, buffer.getvalue())

    def _read(self, key: str, names: tuple[str, ...]) -> list[npt.NDArray[Any]]:
        raw = self._location.read(key) or b""
        with np.load(io.BytesIO(raw), allow_pickle=False) as held:
            return [held[name] for name in names]

    def put_block(self, section: int, core: Box, found: Found) -> None:
        """Keep what a block holds."""
        box = found.box
        edges = np.array([] if box is None else [box.y0, box.y1, box.x0, box.x1], np.int64)
        columns = {field.name: getattr(found.nuclei, field.name) for field in fields(Nuclei)}
        self._write(self._key("blocks", section, core), {"labels": found.labels, "edges": edges, **columns})

    def nuclei(self, section: int, core: Box) -> Nuclei:
        """The nuclei of a block, without their pixels."""
        names = tuple(field.name for field in fields(Nuclei))
        return Nuclei(*self._read(self._key("blocks", section, core), names))

    def pixels(self, section: int, core: Box) -> tuple[npt.NDArray[np.int32], Box | None]:
        """The pixels of a block's nuclei, and where they are."""
        labels, edges = self._read(self._key("blocks", section, core), ("labels", "edges"))
        return labels.astype(np.int32), Box(*edges.tolist()) if len(edges) else None

    def put_counts(self, section: int, shard: Box, counts: npt.NDArray[np.int64]) -> None:
        """Keep the molecules counted in a shard: `(k, 3)` nucleus, gene, molecules."""
        self._write(self._key("counts", section, shard), {"counts": counts})

    def counts(self, section: int, shard: Box) -> npt.NDArray[np.int64]:
        """What `put_counts` kept."""
        return self._read(self._key("counts", section, shard), ("counts",))[0].astype(np.int64)
