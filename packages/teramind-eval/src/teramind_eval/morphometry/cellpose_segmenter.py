"""Nuclei by Cellpose (Stringer et al. 2021): 3.1 (`nuclei`, `cyto3`) and 4.x (`cpsam`) behind one `Segmenter`.

Cellpose scales the brightness of each picture it is shown by the picture's own percentiles, so a block's nuclei would
depend on how its section is cut. Here the window is the section's (1st and 99th percentile of its tissue blocks), and
Cellpose is told to leave the values alone. Its tiles still begin at a block's corner: nuclei of differently cut
sections agree closely, not to the pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from teramind_data.errors import StoreError
from teramind_data.geometry import Box
from teramind_eval.morphometry.cellpose_weights import Weights
from teramind_eval.morphometry.segmenter import DapiSection, LabelImage, Levels

#: Diameter of a mouse brain's nuclei, for networks that do not know the pixel size.
NUCLEUS_UM = 9.0

_LOW, _HIGH = 0.01, 0.99


@dataclass(frozen=True, slots=True)
class Cellpose:
    """A Cellpose network as a `Segmenter`; its levels are the brightness that becomes 0 and 1.

    Attributes:
        weights: the network.
        diameter_um: of the nuclei; None leaves a file of one's own at the scale it was trained at.
        min_area_um2: objects below are no nuclei.
        flow_threshold, cellprob_threshold: Cellpose's own, see its documentation.
        block_px: edge of the blocks that are segmented at a time.
    """

    weights: Weights
    diameter_um: float | None = None
    min_area_um2: float = 14.0
    flow_threshold: float = 0.4
    cellprob_threshold: float = 0.0
    block_px: int = 1536

    def halo_px(self, pixel_size_um: float) -> int:
        """Four nuclei around a block."""
        return int(np.ceil(4 * (self.diameter_um or NUCLEUS_UM) / pixel_size_um))

    def levels(self, section: DapiSection, cores: Iterable[Box]) -> Levels:
        """1st and 99th percentile of the pixels of all `cores`."""
        histogram = np.zeros(256, dtype=np.int64)
        for core in cores:
            histogram += np.bincount(section.read(core).ravel(), minlength=256)
        shares = np.cumsum(histogram) / max(1, histogram.sum())
        low, high = (float(np.searchsorted(shares, share)) for share in (_LOW, _HIGH))
        return low, high

    def segment(self, image: npt.NDArray[np.uint8], pixel_size_um: float, levels: Levels) -> LabelImage:
        """Label image of the nuclei in a block, `(y, x)` int32; none where the section has no contrast."""
        from skimage.segmentation import relabel_sequential

        low, high = levels
        if high <= low:
            return np.zeros(image.shape, dtype=np.int32)
        scaled = (image.astype(np.float32) - low) / (high - low)
        options: dict[str, Any] = {
            "normalize": False,
            "diameter": self._diameter_px(pixel_size_um),
            "flow_threshold": self.flow_threshold,
            "cellprob_threshold": self.cellprob_threshold,
            "min_size": max(1, round(self.min_area_um2 / pixel_size_um**2)),
        }
        if self.weights.major == 3:
            # Grey, and no second channel; 4.x takes up to three channels as they come and ignores the argument.
            options["channels"] = [0, 0]
        masks = load_network(self.weights.path, self.weights.major).eval(scaled, **options)[0]
        return relabel_sequential(np.asarray(masks).reshape(image.shape))[0].astype(np.int32)

    def _diameter_px(self, pixel_size_um: float) -> float | None:
        if self.diameter_um is None and self.weights.name is None:
            return None
        return (self.diameter_um or NUCLEUS_UM) / pixel_size_um

    def describe(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {
            "segmenter": "cellpose",
            "cellpose": self.weights.version,
            "model": self.weights.name or self.weights.path.name,
            "weights_sha256": self.weights.sha256,
            "diameter_um": self.diameter_um or (NUCLEUS_UM if self.weights.name else None),
            "min_area_um2": self.min_area_um2,
            "flow_threshold": self.flow_threshold,
            "cellprob_threshold": self.cellprob_threshold,
            "block_px": self.block_px,
        }


@lru_cache(maxsize=1)
def load_network(path: Path, major: int) -> Any:
    """The network on the GPU, where there is one; StoreError where Cellpose took another one than asked for."""
    import torch
    from cellpose import models

    model = models.CellposeModel(gpu=torch.cuda.is_available(), pretrained_model=str(path))
    if Path(str(model.pretrained_model)) != path:
        raise StoreError(
            "Cellpose loaded another network than it was given",
            where=path,
            found=model.pretrained_model,
            expected=f"the file, by Cellpose {major}",
        )
    return model
