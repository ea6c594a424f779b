"""What a worker's memory must hold, stated: fixed parts, and strips whose height is chosen to fit.

No part grows with the canvas. Heights change nothing in the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from teramind_data.errors import InputError
from teramind_data.geometry import BIN_PX, ceil_div
from teramind_data.ingest.spill import BLOCK_PX, SORT_BYTES

MIB = 1 << 20
DEFAULT = 2048 * MIB
#: Interpreter and libraries. Measured: 130 MiB once a plan is made; with numba, pandas and anndata, which come later,
#: and what allocators keep, less than 300 MiB.
_LIBRARIES = 400 * MIB
#: Batches of a transcript file on their way. Measured: 195 MiB above the libraries at 21 million rows of parquet.
_TRANSCRIPTS = 300 * MIB
TILE_CACHE = 32 * MIB  # decoded tiles an open image holds
_PULL = 160 * MIB  # coordinates and source pixels of one block of 512 px
_BYTES_PER_BIN = 64  # planes of a strip of bins while tissue is found: floats, labels, masks
_STRIP_BINS = 1 << 18  # more at once is hardly faster


@dataclass(frozen=True)
class Limits:
    """How much is worked at once.

    bins: of a tissue strip. molecules: sorted together.
    """

    bins: int
    molecules: int

    def strip_rows(self, width: int) -> int:
        """Height of a strip of a plane of this width in bins."""
        return max(1, self.bins // max(1, width))


def limits(budget: int, stains: int, genes: int, itemsize: int = 1) -> Limits:
    """Choose how much is worked at once under ``budget`` bytes a worker.

    Raises:
        InputError: where even the least does not fit, with the least that does.
    """
    shard = BLOCK_PX * BLOCK_PX
    # The shard, what its first pyramid level is summed in (9/4), and its encoding.
    images = stains * (shard * 17 // 4 + TILE_CACHE) + _PULL
    bins = (BLOCK_PX // BIN_PX) ** 2
    counts = genes * bins * (itemsize * 2 + 2)
    strip = 1 << 16
    least = _LIBRARIES + max(images, counts, _TRANSCRIPTS, strip * _BYTES_PER_BIN)
    if least > budget:
        raise InputError(
            "memory is too little",
            where="--memory",
            expected=f"at least {ceil_div(least, MIB)} MiB a worker for {stains} stains and {genes} genes",
            found=f"{budget // MIB} MiB",
            remedy=f"Pass --memory {ceil_div(least, MIB)}MiB or more, with fewer workers if need be",
        )
    free = budget - _LIBRARIES
    return Limits(
        bins=min(_STRIP_BINS, free // _BYTES_PER_BIN),
        molecules=free // SORT_BYTES,
    )


def parse_bytes(text: str) -> int:
    """``2GiB``, ``800 MB``, ``1.5g``: bytes. InputError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(iB|i|B)?\s*", text, re.IGNORECASE)
    if not match:
        raise InputError("memory is no size", where=text, expected="such as 2GiB or 800MB")
    number, prefix, suffix = match.groups()
    base = 1000 if (suffix or "i").lower() == "b" else 1024
    return int(float(number) * base ** " kmgt".index(prefix.lower() or " "))
