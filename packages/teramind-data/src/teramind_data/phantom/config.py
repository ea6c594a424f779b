"""What a phantom is made of: the sizes and seeds that determine every byte of it."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

from teramind_data.errors import InputError
from teramind_data.phantom.genes import MARKERS

FORMAT_VERSION = 1


@dataclass(frozen=True)
class PhantomConfig:
    """Sizes and seeds of a phantom.

    brains: names; each brain's anatomy, cells and slides follow from (seed, name) alone.
    panels: which gene panel (1 or 2) each brain carries; both begin with the `shared` genes, in one order.
    canvas: (height, width) of the registered plane in pixels, multiples of 256.
    genes, shared, blanks: genes a panel, genes the two panels share, blank barcodes a panel.
    transcripts: factor on the mean transcripts a cell (1 gives 120 to 300 by type).
    background: share of all molecules that lie anywhere in the tissue, whatever the cells.
    noise: factor on camera noise; 0 renders without noise. illumination: falloff at a field's corner.

    Raises InputError naming the option, what it was and what it may be.
    """

    brains: tuple[str, ...] = ("A", "B", "C")
    panels: tuple[int, ...] = (1, 1, 2)
    seed: int = 0
    sections: int = 4
    canvas: tuple[int, int] = (512, 512)
    pixel_size_um: float = 0.432
    spacing_um: float = 100.0
    genes: int = 500
    shared: int = 229
    blanks: int = 10
    transcripts: float = 1.0
    background: float = 0.01
    noise: float = 1.0
    illumination: float = 0.02

    def __post_init__(self) -> None:
        self._check(
            "brains",
            self.brains,
            "one or more distinct plain names",
            bool(self.brains)
            and len(set(self.brains)) == len(self.brains)
            and all(n and n.replace("-", "").replace("_", "").isalnum() for n in self.brains),
        )
        self._check(
            "panels",
            self.panels,
            f"{len(self.brains)} numbers, each 1 or 2",
            len(self.panels) == len(self.brains) and set(self.panels) <= {1, 2},
        )
        self._check("seed", self.seed, "an integer of at least 0", self.seed >= 0)
        self._check("sections", self.sections, "at least 1", self.sections >= 1)
        self._check(
            "canvas",
            self.canvas,
            "two positive multiples of 256",
            len(self.canvas) == 2 and all(n > 0 and n % 256 == 0 for n in self.canvas),
        )
        self._check("pixel_size_um", self.pixel_size_um, "a positive number", self.pixel_size_um > 0)
        self._check("spacing_um", self.spacing_um, "a positive number", self.spacing_um > 0)
        self._check(
            "genes",
            self.genes,
            f"at least {len(MARKERS)} (the named markers)",
            self.genes >= len(MARKERS),
        )
        self._check(
            "shared",
            self.shared,
            f"{len(MARKERS)} (the named markers) to {self.genes} (genes)",
            len(MARKERS) <= self.shared <= self.genes,
        )
        self._check("blanks", self.blanks, "at least 0", self.blanks >= 0)
        self._check("transcripts", self.transcripts, "a positive number", self.transcripts > 0)
        self._check("background", self.background, "0 to 0.5", 0 <= self.background <= 0.5)
        self._check("noise", self.noise, "at least 0", self.noise >= 0)
        self._check("illumination", self.illumination, "0 to 0.5", 0 <= self.illumination <= 0.5)

    @staticmethod
    def _check(option: str, found: object, expected: str, good: bool) -> None:
        if not good:
            raise InputError(
                f"phantom option {option} is out of range",
                expected=expected,
                found=repr(found),
                remedy=f"Choose another {option}",
            )

    def panel_of(self, brain: str) -> int:
        """The panel (1 or 2) of a brain. A brain that is not listed carries panel 1."""
        return self.panels[self.brains.index(brain)] if brain in self.brains else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, format version included."""
        return {
            "format_version": FORMAT_VERSION,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()},
        }

    def fingerprint(self) -> str:
        """SHA-256 of the configuration: equal fingerprints write equal phantoms."""
        import json

        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
