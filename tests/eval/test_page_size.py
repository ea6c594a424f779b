"""The page of a whole brain's report: fifty sections, runs, controls and maps stay below what can be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.geometry import BIN_PX
from teramind_data.store import ImageSpec, Section, append_image, create_brain
from teramind_eval.config import report_config
from teramind_eval.report.build import write_report
from tests.eval.drawn import PANEL, draw_nuclei, spec_of

SECTIONS, EDGE = 50, 128
BINS = EDGE // BIN_PX
#: What a page may take.
MOST_BYTES = 25_000_000


def write(path: Path, kind: str, seed: int) -> None:
    """Sections of nuclei under noise that no picture format can compress, so that the page is as large as it gets."""
    rng = np.random.default_rng(seed)
    sections = tuple(Section(i, f"s{i:02d}", 200.0 * i) for i in range(SECTIONS))
    writer = create_brain(str(path), spec_of(kind, canvas=(EDGE, EDGE), sections=sections))
    molecules: list[Any] = []
    for z in range(SECTIONS):
        dapi, _ = draw_nuclei(z % 5, (EDGE, EDGE), 15)
        noisy = np.stack([dapi, 255 - dapi]) + rng.normal(scale=25, size=(2, EDGE, EDGE))
        writer.write("morphology", z, None, np.clip(noisy, 1, 255).astype(np.uint8))
        y, x = rng.integers(0, EDGE, (2, 3000))
        molecules.append((z, y, x, rng.integers(0, len(PANEL), 3000)))
        if kind == "atlas":
            counts = np.zeros((len(PANEL), BINS, BINS), np.uint8)
            np.add.at(counts, (molecules[-1][3], y // BIN_PX, x // BIN_PX), 1)
            writer.write("expression", z, None, counts)
    if kind == "atlas":
        labels = np.ones((SECTIONS, BINS, BINS), np.uint16)
        labels[:, :, BINS // 2 :] = 2
        writer.add_labels("regions", "uint16", array=labels, names={1: "left", 2: "right"})
        writer.write_molecules(molecules)
    writer.finish()


@pytest.mark.soak
def test_the_page_of_a_whole_brain_can_be_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate("CGHST"):
        write(tmp_path / f"{name}.zarr", "atlas" if name == "C" else "generated", seed)
    rng = np.random.default_rng(9)
    image = ImageSpec("attention_GLUT", ("window",), "float16", step=BIN_PX, attrs={"genes": ["Th"]})
    for name in "GH":
        blocks = [(z, None, rng.uniform(1, 9, (1, BINS, BINS)).astype(np.float16)) for z in range(SECTIONS)]
        append_image(str(tmp_path / f"{name}.zarr"), image, blocks)
    page, _ = write_report(
        report_config(
            real=str(tmp_path / "C.zarr"),
            generated={"ours": str(tmp_path / "G.zarr"), "baseline": str(tmp_path / "H.zarr")},
            controls={"shuffled": str(tmp_path / "S.zarr"), "neighbour": str(tmp_path / "T.zarr")},
            out=str(tmp_path / "report"),
        )
    )
    size = page.stat().st_size
    with capsys.disabled():
        print(f"report of {SECTIONS} sections, 2 generated, 2 controls: {size / 1e6:.1f} MB")
    assert 1_000_000 < size < MOST_BYTES
