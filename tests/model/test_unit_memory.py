"""What a unit takes in the host: as planned, whatever the canvas's height, beside a network that does nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from teramind_data.geometry import BIN_PX
from teramind_data.panel import Panel
from teramind_data.store import Brain, BrainSpec, Section, create_brain
from teramind_model.generate import GenerateConfig, RunOptions, Source, execute
from teramind_model.generate.behind import WriteBehind
from teramind_model.generate.budget import unit_needs
from teramind_model.generate.draws import add_images
from teramind_model.generate.execute import make_units
from teramind_model.generate.job import layout_of, work_of
from teramind_model.generate.output import begin
from teramind_model.generate.record import provenance_of, spec_of
from teramind_model.generate.setting import prepare
from teramind_model.generate.units import units
from teramind_model.network.gene_gene import GeneFeatures
from teramind_model.network.unet import Encoded, PatchUNet, UNetShape
from tests.model.tiny import PIXEL_UM, tiny_source

STEPS = 2


class Nothing(PatchUNet):
    """Finds no noise, keeps nothing: all memory is the engine's."""

    def __init__(self, config: UNetShape) -> None:
        nn.Module.__init__(self)
        self.config, self.nothing = config, nn.Parameter(torch.zeros(1))

    def gene_features(self, counts: Tensor) -> GeneFeatures:
        none = counts.new_zeros((len(counts), 1))
        return none, none, none, none

    def encode(self, x: Tensor, t: Tensor, genes: GeneFeatures) -> Encoded:
        return Encoded(x.new_zeros((len(x), 1)), ())

    def decode(self, encoded: Encoded, t: Tensor, genes: GeneFeatures) -> Tensor:
        c = self.config
        return torch.zeros(len(encoded.middle), c.stains * c.image_slices, c.patch, c.patch)

    def collage_between(
        self, rows: tuple[Encoded, Encoded], genes: tuple[GeneFeatures, GeneFeatures]
    ) -> tuple[Encoded, GeneFeatures]:
        g_0, g_1, g_2, g_3 = (g[:-1] for g in genes[0])
        return Encoded(rows[0].middle[:-1], ()), (g_0, g_1, g_2, g_3)


def atlas_of(path: Path, canvas: tuple[int, int], shard: int, genes: int) -> Brain:
    """Two sections with a molecule of every gene in every bin."""
    spec = BrainSpec(
        kind="atlas",
        canvas=canvas,
        pixel_size_um=PIXEL_UM,
        sections=tuple(Section(i, f"s{i}", 100.0 * i) for i in range(2)),
        panel=Panel(tuple(f"G{i}" for i in range(genes))),
        chunk=256,
        shard=shard,
    )
    writer = create_brain(path, spec)
    bins = (canvas[0] // BIN_PX, canvas[1] // BIN_PX)
    for z in range(2):
        writer.write("morphology", z, None, np.ones((2, *canvas), np.uint8))
        writer.write("expression", z, None, np.ones((genes, *bins), np.uint8))
    writer.add_labels("tissue", array=np.ones((2, *bins), np.uint8))
    writer.write_molecules([])
    return writer.finish()


def source_of(patch: int, atlas: Brain) -> Source:
    """For all genes of the atlas."""
    tiny = tiny_source(patch=patch)
    assert atlas.panel is not None
    network = replace(tiny.model.config, genes=len(atlas.panel))  # type: ignore[arg-type]
    return replace(tiny, network=network, model=Nothing(network).eval(), panel=atlas.panel)


def host_peak(
    folder: Path, canvas: tuple[int, int], patch: int, *, shard: int = 256, genes: int = 5, draws: int = 1
) -> tuple[int, int]:
    """Bytes of arrays at the worst moment of a unit of the whole width, the second of its kind; as planned."""
    atlas = atlas_of(folder / "a.zarr", canvas, shard, genes)
    source = source_of(patch, atlas)
    for name in ("warm.zarr", "g.zarr"):  # caches are filled once
        run = RunOptions(batch=64, device="cpu")
        config = GenerateConfig(atlas.url, "", str(folder / name), steps=STEPS, draws=draws, run=run)
        setting = prepare(config, "cpu", source)
        provenance = provenance_of(config, source, atlas, setting.request, setting.counts)
        spec = spec_of(source, atlas, setting.job, provenance)
        writer = begin("create", config.out, spec, atlas, 0, overwrite=False)
        if draws > 1:
            add_images(writer, draws)
        layout = layout_of(source, atlas, setting.job)
        (unit,) = units(setting.job.windows, layout, layout.region.width)
        strips = setting.strips(lambda z, box, block: None)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        make_units(writer, strips, [unit], lambda n=1: None)  # type: ignore[misc]
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    need = unit_needs(work_of(config, source), len(unit.columns), layout.known.width, layout.band)
    return peak, draws * need.host


@pytest.mark.parametrize(
    ("canvas", "options"),
    [((768, 768), {}), ((1024, 512), {"shard": 512, "draws": 2}), ((768, 512), {"genes": 30})],
)
def test_arrays_are_as_planned(tmp_path: Path, canvas: tuple[int, int], options: dict[str, int]) -> None:
    measured, planned = host_peak(tmp_path, canvas, 128, **options)
    assert 0.85 * measured < planned < 1.15 * measured, (planned >> 10, measured >> 10)


class InTurn(WriteBehind):
    """Writes while its giver waits, so that no clock decides what is held at once."""

    def put(self, job: Callable[[], None]) -> None:
        super().put(job)
        self._finish()


def test_arrays_do_not_grow_with_the_height(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "WriteBehind", InTurn)
    # Five bands, so that the first has left before the last is begun. The rest is Python's own, which comes and goes:
    # a twentieth that grew with the canvas would add 15 %.
    low, high = (host_peak(tmp_path / str(bands), (bands * 256, 384), 128)[0] for bands in (5, 20))
    assert high < 1.12 * low, (low >> 10, high >> 10)
