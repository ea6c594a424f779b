"""Sound inputs of each command that reads other people's files: what the damages are done to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from teramind_data.panel import Panel
from teramind_data.phantom import PhantomConfig, write_phantom
from teramind_data.store import BrainSpec, Section, create_brain
from tests.data.imports.conftest import CELLS, SECTIONS, core_of, make_world, stem_of, write_zip, zarr_members

OUT = "out.zarr"
#: 34 genes and a blank, so that a gene can be taken away; the second section has a spline.
BRAIN = PhantomConfig(
    brains=("A",), panels=(1,), seed=7, sections=2, canvas=(256, 256), genes=34, shared=33, blanks=1
)
CANVAS = (256, 256)
NAMES = ("anterior", "posterior")
STAINS = ("DAPI", "PolyT")


@dataclass(frozen=True)
class Scene:
    """Sound inputs in a folder, and the command that reads them (``{}`` stands for the folder)."""

    make: Callable[[Path], object]
    words: tuple[str, ...]

    def command(self, root: Path, options: tuple[str, ...]) -> list[str]:
        """The command's words for a folder."""
        return [word.replace("{}", str(root)) for word in (*self.words, *options)]


def raw_brain(root: Path) -> None:
    """Two sections in the vendor's layout with registrations and annotation, a panel and an alias table."""
    write_phantom(BRAIN, root / "phantom")
    (root / "phantom" / "raw" / "A").rename(root / "raw")
    header = (root / "raw" / "section_000" / "cell_by_gene.csv").read_text().split("\n")[0].split(",")
    (root / "panel.csv").write_text("gene\n" + "\n".join(header[1:21]) + "\n")
    (root / "aliases.csv").write_text("alias,gene\nVglut1,Slc17a7\n")


def generated_tiles(root: Path) -> None:
    """The authors' generated tiles."""
    folder = root / "tiles"
    folder.mkdir()
    values = np.random.default_rng(4).uniform(-1, 1, (2 * SECTIONS, 256, 256)).astype(np.float16)
    for cell in CELLS:
        write_zip(folder / f"{stem_of(core_of(cell), 0)}.zip", zarr_members(values))


def images(root: Path) -> None:
    """An image a section and stain, a table of them, and the store they are to be compared with."""
    sections = tuple(Section(i, name, i * 100.0) for i, name in enumerate(NAMES))
    spec = BrainSpec("atlas", CANVAS, 0.5, sections, Panel(("Aa", "Bb")), chunk=64, shard=128)
    writer = create_brain(root / "like.zarr", spec)
    for name, edge in (("morphology", 1), ("expression", 16)):
        for z in range(2):
            writer.write(name, z, None, np.ones((2, *(n // edge for n in CANVAS)), np.uint8))
    writer.write_molecules([(0, np.array([3]), np.array([5]), np.array([1]))])
    writer.finish()
    (root / "src").mkdir()
    y, x = np.mgrid[: CANVAS[0], : CANVAS[1]]
    rows = ["section,stain,path"]
    for name in NAMES:
        for stain in STAINS:
            tifffile.imwrite(
                root / "src" / f"{name}_{stain}.tif", ((y + x) // 4).astype(np.uint8), tile=(64, 64)
            )
            rows.append(f"{name},{stain},src/{name}_{stain}.tif")
    (root / "images.csv").write_text("\n".join(rows) + "\n")


_IMPORT_IMAGES = ("--like", "{}/like.zarr", "--method", "x")
SCENES = {
    "ingest": Scene(raw_brain, ("ingest", "{}/raw", f"{{}}/{OUT}")),
    "tiles": Scene(
        make_world, ("import-tiles", "{}/gene", "{}/img", f"{{}}/{OUT}", "--panel", "{}/panel.csv")
    ),
    "generated": Scene(generated_tiles, ("import-tiles", "--generated", "{}/tiles", f"{{}}/{OUT}")),
    "images": Scene(images, ("import-images", "{}/src", f"{{}}/{OUT}", *_IMPORT_IMAGES)),
    "table of images": Scene(images, ("import-images", "{}/images.csv", f"{{}}/{OUT}", *_IMPORT_IMAGES)),
}
