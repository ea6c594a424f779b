"""How long the network takes on the device at hand, from some seconds of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from teramind_model.generate.config import Precision
from teramind_model.generate.counting import Counts
from teramind_model.generate.ready import computing
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
def measure_pace(model: PatchUNet, counts: tuple[int, int], batch: int, precision: Precision) -> Pace:
    """Run each part for about a second, at least three times after a first one; the median of each.

    Args:
        model: on its device, in eval mode.
        counts: genes and gene slices.
        batch: places of a batch.
        precision: as of the generation.
    """
    c, device = model.config, next(model.parameters()).device
    x = torch.randn(batch, c.stains * c.image_slices, c.patch, c.patch, device=device)
    t = torch.full((batch,), 500, device=device)
    bins = torch.ones(batch, counts[1], counts[0], c.bins, c.bins, device=device)
    with computing(model, precision):
        genes = model.gene_features(bins)
        encoded = model.encode(x, t, genes)
        # A row of patches, with itself below, from which a row of ``batch`` collage patches is cut.
        pick = torch.arange(batch + 1, device=device) % batch
        row = type(encoded)(encoded.middle[pick], tuple(skip[pick] for skip in encoded.skips))
        g_0, g_1, g_2, g_3 = (g[pick] for g in genes)
        under = (g_0, g_1, g_2, g_3)

        def decode() -> object:
            cut, cut_genes = model.collage_between((row, row), (under, under))
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
