"""How long the network takes on the device at hand, from some seconds of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from teramind_model.generate.counting import Counts
from teramind_model.generate.sampling import autocast
from teramind_model.network.unet import PatchUNet

__all__ = ["Pace", "measure_pace"]

_SECONDS = 1.0
_TIMES = 3


@dataclass(frozen=True)
class Pace:
    """Seconds of a batch: its gene features, its encoding, its cutting anew and decoding."""

    genes: float
    encode: float
    decode: float

    def seconds(self, counts: Counts) -> float:
        """Of a whole generation; reading and writing are beside it."""
        return (
            counts.gene_batches * self.genes
            + counts.encode_batches * self.encode
            + counts.decode_batches * self.decode
        )


@torch.inference_mode()
def measure_pace(model: PatchUNet, counts: tuple[int, int], batch: int, precision: str) -> Pace:
    """Run each part for about a second, at least three times after a first one; the median of each.

    Args:
        model: on its device, in eval mode.
        counts: genes and gene slices.
        batch: places of a batch.
        precision: as of the generation.
    """
    c, device = model.config, next(model.parameters()).device
    # Two rows of patches, from which a row of ``batch`` collage patches is cut.
    row = batch + 1
    x = torch.randn(batch, c.stains * c.image_slices, c.patch, c.patch, device=device)
    t = torch.full((batch,), 500, device=device)
    bins = torch.ones(batch, counts[1], counts[0], c.bins, c.bins, device=device)
    with autocast(device.type, precision):
        genes = model.gene_features(bins)
        encoded = model.encode(x, t, genes)
        pick = torch.arange(2 * row, device=device) % batch
        both = type(encoded)(encoded.middle[pick], tuple(skip[pick] for skip in encoded.skips))
        g_0, g_1, g_2, g_3 = (g[pick] for g in genes)

        def decode() -> object:
            cut, cut_genes = model.collage(both, (g_0, g_1, g_2, g_3), 2, row)
            return model.decode(cut, t, cut_genes)

        return Pace(
            _timed(lambda: model.gene_features(bins), device),
            _timed(lambda: model.encode(x, t, genes), device),
            _timed(decode, device),
        )


def _timed(call: Callable[[], object], device: torch.device) -> float:
    found: list[float] = []
    call()
    while len(found) < _TIMES or sum(found) < _SECONDS:
        _wait(device)
        began = time.perf_counter()
        call()
        _wait(device)
        found.append(time.perf_counter() - began)
    return median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
