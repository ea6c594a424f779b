"""From atlas stores to samples: opened, checked against each other, their common genes chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from teramind_data.errors import InputError, PanelError
from teramind_data.panel import Panel, intersect
from teramind_data.store import Brain, open_brain
from teramind_model.data.crops import Atlas, CropSource, Geometry
from teramind_model.data.readers import memory_bytes, open_reader
from teramind_model.data.tissue import TissueIndex

__all__ = ["Atlases", "choose_panel", "open_atlases"]


@dataclass(frozen=True)
class Atlases:
    """Brains of one pixel size that all hold the stains and genes asked for."""

    brains: tuple[Brain, ...]
    panel: Panel
    stains: tuple[str, ...]

    @property
    def pixel_size_um(self) -> float:
        """Edge of a pixel in um, the same for all."""
        return self.brains[0].pixel_size_um

    def source(
        self, geometry: Geometry, seed: int, cache_bytes: float, *, held_out: float = 0.0
    ) -> CropSource:
        """Their samples. Brains are held in memory, in order, while they fit into ``cache_bytes``."""
        atlases = []
        for brain in self.brains:
            reader = open_reader(
                brain, _positions(brain, self.panel), self._stain_positions(brain), cache_bytes
            )
            cost = memory_bytes(brain, len(self.stains))
            cache_bytes -= cost if cost <= cache_bytes else 0
            atlases.append(Atlas(_name(brain), brain.n_sections, brain.canvas, TissueIndex.of(brain), reader))
        return CropSource(atlases, geometry, seed, held_out=held_out)

    def _stain_positions(self, brain: Brain) -> np.ndarray:
        return np.array([brain.stains.index(stain) for stain in self.stains])

    def provenance(self) -> list[dict[str, Any]]:
        """What a checkpoint says of its data: names and sizes, no paths of this machine."""
        return [
            {
                "name": _name(brain),
                "sections": brain.n_sections,
                "canvas": list(brain.canvas),
                "genes": len(brain.panel or ()),
                "panel_fingerprint": brain.panel.fingerprint if brain.panel else None,
                "molecules": brain.molecules.total,
            }
            for brain in self.brains
        ]


def _name(brain: Brain) -> str:
    return Path(brain.url.rstrip("/")).name


def _positions(brain: Brain, panel: Panel) -> np.ndarray:
    if brain.panel is None:
        raise InputError(
            "store has no genes to train on", where=brain.url, expected="an atlas", found=brain.kind
        )
    try:
        return brain.panel.positions(panel)
    except PanelError as error:
        raise PanelError(
            "atlas lacks genes of the training panel",
            where=brain.url,
            expected=error.expected,
            found=error.found,
            remedy="Leave the atlas out, or give a --panel that all atlases hold (teramind-data panel intersect)",
        ) from None


def open_atlases(urls: Sequence[str], panel: Panel | None, stains: Sequence[str]) -> Atlases:
    """Open ``urls`` and check that they fit together.

    Args:
        urls: atlas stores.
        panel: genes to learn from, in this order; where None those common to all atlases.
        stains: image channels to learn, in this order.

    Raises:
        InputError, MissingInputError, PanelError, StoreError: naming the store that does not fit.
    """
    if not urls:
        raise InputError("no atlas to train on", expected="at least one --atlas")
    brains = tuple(open_brain(url) for url in urls)
    for brain in brains:
        if brain.kind != "atlas" or brain.panel is None:
            raise InputError("not an atlas", where=brain.url, expected="atlas", found=brain.kind)
        missing = [stain for stain in stains if stain not in brain.stains]
        if missing:
            raise InputError(
                "atlas lacks a stain",
                where=brain.url,
                expected=missing[0],
                found=", ".join(brain.stains) or "none",
            )
        if not np.isclose(brain.pixel_size_um, brains[0].pixel_size_um, rtol=1e-3):
            raise InputError(
                "atlases differ in pixel size",
                where=brain.url,
                expected=f"{brains[0].pixel_size_um:g} um",
                found=f"{brain.pixel_size_um:g} um",
                remedy="Ingest them at one pixel size",
            )
    chosen = choose_panel(brains) if panel is None else panel
    for brain in brains:
        _positions(brain, chosen)
    return Atlases(brains, chosen, tuple(stains))


def choose_panel(brains: Sequence[Brain]) -> Panel:
    """Genes common to all brains, in the order of the first; PanelError naming the stores where there are none."""
    try:
        return intersect([brain.panel for brain in brains if brain.panel is not None])
    except PanelError as error:
        names = ", ".join(_name(brain) for brain in brains)
        raise PanelError(
            error.what, where=names, expected=error.expected, found=error.found, remedy=error.remedy
        ) from None
