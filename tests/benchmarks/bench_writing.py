"""Writing behind compute beside writing in turn, with as many threads of compute as there are cores.

A band is a shard of two stains and some convolutions, which take about as long as each other here: the hardest case. A
generation computes for much longer than it writes (no figure was taken).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import torch
from torch.nn import functional

from teramind_data import BrainSpec, BrainWriter, Panel, Section, create_brain
from teramind_data.geometry import Box
from teramind_model.generate.behind import WriteBehind
from tests.benchmarks.bench_store import STAINS, picture
from tests.benchmarks.measure import Case, best_seconds, compare

EDGE = 2048
BANDS = 6


class InTurn(WriteBehind):
    """Writes while its giver waits."""

    def put(self, job: Callable[[], None]) -> None:
        """Hand over, and wait."""
        super().put(job)
        self._finish()


def store(path: Path) -> BrainWriter:
    """One section of as many shards as there are bands, one below the other."""
    spec = BrainSpec(
        kind="generated",
        canvas=(BANDS * EDGE, EDGE),
        pixel_size_um=0.108,
        sections=(Section(0, "one", 0.0),),
        panel=Panel(("Gad1",)),
        stains=STAINS,
        shard=EDGE,
    )
    return create_brain(path, spec)


@torch.inference_mode()
def convolve(times: int) -> None:
    """What a network does."""
    x, weight = torch.ones(4, 64, 64, 64), torch.ones(64, 64, 3, 3) / 600
    for _ in range(times):
        x = functional.conv2d(x, weight, padding=1)


def main() -> None:
    """Rates in bands a second, best of three."""
    torch.set_num_threads(os.cpu_count() or 1)
    values = picture(0)[:, :EDGE, :EDGE]
    with tempfile.TemporaryDirectory() as folder:
        numbers = count()

        def fresh() -> BrainWriter:
            return store(Path(folder) / f"{next(numbers)}.zarr")

        def write(writer: BrainWriter, band: int) -> None:
            box = Box.from_shape((EDGE, EDGE), (band * EDGE, 0))
            writer.write("morphology", 0, box, values)

        def run(kind: type[WriteBehind], times: int, *, written: bool = True) -> None:
            writer = fresh() if written else None
            with kind() as behind:
                for band in range(BANDS):
                    convolve(times)
                    if writer is not None:
                        behind.put(partial(write, writer, band))

        run(InTurn, 1)  # imports, and threads begin
        writing = best_seconds(partial(run, InTurn, 0), 2) / BANDS
        times = max(1, round(writing / best_seconds(partial(convolve, 1), 3)))
        print(
            f"{writing * 1000:.0f} ms to write a band, {times} convolutions; {torch.get_num_threads()} threads"
        )
        compare(
            "Bands of 2048 x 2048 px, two stains, made and written",
            "bands",
            Case("written in turn", partial(run, InTurn, times), BANDS),
            Case("written behind", partial(run, WriteBehind, times), BANDS),
            Case("not written", partial(run, InTurn, times, written=False), BANDS),
            Case("not made", partial(run, InTurn, 0), BANDS),
        )


if __name__ == "__main__":
    main()
