"""The network that generates, with what must be known of it to use it rightly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError, PanelError
from teramind_data.panel import Panel

if TYPE_CHECKING:
    from torch import nn

    from teramind_data.store import Brain
    from teramind_model.methods.protocol import Method, NetworkShape

__all__ = ["Source", "load_source", "pick_device"]

_PIXEL_TOLERANCE = 1e-3
"""Relative difference of pixel sizes that rounding in metadata may explain."""


@dataclass(frozen=True)
class Source:
    """A network with its panel and origin.

    Attributes:
        method: how it denoises.
        network: its shape.
        model: in eval mode, on the device it shall run on.
        panel: its genes, in the order of its channels.
        stains: names of its image channels.
        pixel_size_um: of the atlases it was trained on.
        path: where it was loaded from.
        sha256: of its weights file.
        training: the checkpoint's own account: configuration, steps, data, lineage.
    """

    method: Method
    network: NetworkShape
    model: nn.Module
    panel: Panel
    stains: tuple[str, ...]
    pixel_size_um: float
    path: str
    sha256: str
    training: Mapping[str, Any] = field(default_factory=dict)

    def check_pixel_size(self, brain: Brain) -> None:
        """InputError where the atlas is drawn at another scale: nuclei would come out at the wrong size."""
        if abs(brain.pixel_size_um / self.pixel_size_um - 1) > _PIXEL_TOLERANCE:
            raise InputError(
                "pixel size of the atlas is not the checkpoint's",
                where=brain.url,
                expected=f"{self.pixel_size_um:g} um ({self.path})",
                found=f"{brain.pixel_size_um:g} um",
                remedy="Ingest the atlas at the checkpoint's pixel size, or use another checkpoint",
            )

    def gene_positions(self, brain: Brain) -> NDArray[np.int64]:
        """Channels of the atlas's expression that are this network's genes, in its order.

        Raises:
            PanelError: naming the genes that the atlas lacks. One that has more is fine.
        """
        if brain.panel is None:
            raise PanelError("store has no panel", where=brain.url, remedy="Give an atlas with expression")
        try:
            return brain.panel.positions(self.panel)
        except PanelError as error:
            raise PanelError(
                "atlas lacks genes of the checkpoint's panel",
                where=f"{brain.url} for {self.path}",
                expected=f"all {len(self.panel)} genes",
                found=error.found,
                remedy="Use an atlas that measured them, or a checkpoint trained on the genes both have",
            ) from error

    def provenance(self) -> dict[str, Any]:
        """For the store: which network this was, and how it came to be."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "method": self.method.name,
            "network": self.network.to_dict(),
            "panel_fingerprint": self.panel.fingerprint,
            "training": dict(self.training),
        }


def pick_device(name: str) -> str:
    """``auto`` as a device that is there; InputError where the one named is not."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise InputError("unknown device", expected="auto, cpu, cuda or cuda:N", found=name) from None
    if kind not in ("cpu", "cuda"):
        raise InputError("unknown device", expected="auto, cpu, cuda or cuda:N", found=name)
    there = torch.cuda.device_count() if kind == "cuda" else 1
    if (torch.device(name).index or 0) >= there:
        raise InputError("no such device here", found=name, remedy="Use --device cpu")
    return name


def load_source(checkpoint: str, device: str = "cpu", kind: str = "") -> Source:
    """Load a checkpoint's weights for generation.

    Args:
        checkpoint: as ``teramind_model.checkpoint.load_checkpoint`` takes it.
        device: already resolved by :func:`pick_device`.
        kind: the device that the network is planned for, where it is another.
    """
    from teramind_model.checkpoint import load_checkpoint
    from teramind_model.methods.registry import find_method

    found = load_checkpoint(checkpoint)
    return Source(
        method=find_method(found.info.method),
        network=found.network,
        # 2-D convolutions over folded slices are what a GPU's matrix units take without a copy.
        model=found.build(device, fold_z=True if (kind or device).startswith("cuda") else None),
        panel=found.panel,
        stains=found.stains,
        pixel_size_um=found.pixel_size_um,
        path=str(found.path),
        sha256=found.digest,
        training=found.training,
    )
