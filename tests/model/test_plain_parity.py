"""The plain second implementation meets the reference figures, so it may judge the real network."""

from __future__ import annotations

import ast
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.model.plain_names import parameter_shapes
from tests.model.plain_reference import PlainModel
from tests.model.plain_steps import ddim_timesteps

Arrays = dict[str, torch.Tensor]

PARTS = {f"tests.model.plain_{part}" for part in ("reference", "steps", "names")}
"""The second implementation."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def parity(reference_dir: Path) -> Path:
    return reference_dir / "parity"


@pytest.fixture(scope="module")
def weights(parity: Path) -> dict[str, np.ndarray]:
    with np.load(parity / "state_dict.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def model(weights: dict[str, np.ndarray]) -> PlainModel:
    return PlainModel(weights)


@pytest.fixture(scope="module")
def io(parity: Path) -> Arrays:
    with np.load(parity / "io.npz", allow_pickle=False) as arrays:
        loaded = {name: arrays[name] for name in arrays.files}
    # torch does little with uint16; the counts are small whole numbers, exact in float32
    return {
        name: torch.from_numpy(array.astype(np.float32) if array.dtype == np.uint16 else array)
        for name, array in loaded.items()
    }


@pytest.fixture(scope="module")
def meta(parity: Path) -> dict[str, Any]:
    return json.loads((parity / "meta.json").read_text())


def largest_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


def test_stands_alone() -> None:
    """It can judge the packages only while it takes nothing from them."""
    imported = set()
    for name in PARTS:
        tree = ast.parse((Path(__file__).parent / f"{name.rpartition('.')[2]}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(node.module or "")
    outside = {name.partition(".")[0] for name in imported - PARTS}
    assert outside - set(sys.stdlib_module_names) == {"torch"}


def test_names_and_shapes(weights: dict[str, np.ndarray]) -> None:
    written_out = parameter_shapes(genes=12, channels=4)
    assert {name: array.shape for name, array in weights.items()} == written_out
    assert len(written_out) == 403


@pytest.mark.parametrize(("genes", "millions"), [(229, 213.8), (500, 243.7)])
def test_size_of_the_published_networks(genes: int, millions: float) -> None:
    count = sum(math.prod(shape) for shape in parameter_shapes(genes=genes).values())
    assert round(count / 1e6, 1) == millions


def test_reads_its_sizes_from_the_shapes(model: PlainModel) -> None:
    found = (model.genes, model.gene_slices, model.image_slices, model.stains, model.channels, model.patch)
    assert found == (12, 4, 2, 2, 4, 64)


def test_every_parameter_is_read(weights: dict[str, np.ndarray], io: Arrays) -> None:
    class Recorder(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            read.add(name)
            return super().__getitem__(name)

    read: set[str] = set()
    model = PlainModel(weights)
    model.w = Recorder(model.w)
    model.forward(io["fwd_x"][:4], io["fwd_t"][:1], io["fwd_counts"][:4])
    assert read == set(weights)


def test_forward(model: PlainModel, io: Arrays) -> None:
    eps_patch, eps_collage = model.forward(io["fwd_x"], io["fwd_t"], io["fwd_counts"])
    assert largest_difference(eps_patch, io["fwd_eps_patch"]) < 2e-5
    assert largest_difference(eps_collage, io["fwd_eps_collage"]) < 2e-5


def test_forward_in_float64_is_close_to_rounding(weights: dict[str, np.ndarray], io: Arrays) -> None:
    """What is left is rounding. The tolerance of `test_forward` alone would let shift_a and scale_a change
    places (1.4e-5: the softmax is nearly uniform under these weights); this one does not.
    """
    model = PlainModel(weights, dtype=torch.float64)
    eps_patch, eps_collage = model.forward(io["fwd_x"][:4], io["fwd_t"][:1], io["fwd_counts"][:4])
    assert eps_patch.dtype == torch.float64
    assert largest_difference(eps_patch, io["fwd_eps_patch"][:4]) < 8e-6
    assert largest_difference(eps_collage, io["fwd_eps_collage"][:1]) < 8e-6


@pytest.mark.parametrize(
    ("version", "slices"),
    [(0, (0, 1)), (1, (1, 2)), (2, (2, 3)), (3, (0, 1, 2, 3))],
    ids=["slices 0-1", "slices 1-2", "slices 2-3", "all"],
)
def test_attention(model: PlainModel, io: Arrays, version: int, slices: tuple[int, ...]) -> None:
    kept = torch.zeros_like(io["attn_counts"])
    kept[:, list(slices)] = io["attn_counts"][:, list(slices)]
    found = model.gene_gene_attention(kept)
    assert largest_difference(found, io["attn_prev_cur_next_all"][version]) < 1e-6


@pytest.mark.parametrize("block", [(0, 0), (1, 2), (3, 3)], ids=str)
def test_loss(model: PlainModel, io: Arrays, meta: dict[str, Any], block: tuple[int, int]) -> None:
    expected = meta["losses"][f"{block[0]},{block[1]}"]
    found = model.loss(io["loss_image"], io["loss_noise"], io["loss_counts"], io["loss_t"], block).item()
    assert found == pytest.approx(expected, rel=1e-5, abs=0)


def test_timesteps(meta: dict[str, Any]) -> None:
    assert ddim_timesteps(meta["ddim_steps"]) == meta["ddim_timesteps"]


def test_timesteps_take_the_smallest_stride() -> None:
    assert ddim_timesteps(1000) == list(range(1000))
    assert ddim_timesteps(2) == [0, 500]
    assert ddim_timesteps(1) == [0]
    with pytest.raises(ValueError, match="no integer stride leaves 999"):
        ddim_timesteps(999)


class Enough(Exception):
    """Raised to leave a loop that has gone far enough."""


@pytest.mark.parametrize("last", [1, pytest.param(15, marks=pytest.mark.soak)])
def test_canvas(model: PlainModel, io: Arrays, last: int) -> None:
    """Every step is the same lines of code: the first tells. The real network meets the last one too (`test_parity`),
    and both agree over several (`test_plain_agreement`)."""
    seen: dict[int, torch.Tensor] = {}

    def see(step: int, x: torch.Tensor) -> None:
        seen[step] = x
        if step == last:
            raise Enough

    with pytest.raises(Enough):
        model.sample(io["gen_x_T"], io["gen_counts"], steps=15, on_step=see)
    assert sorted(seen) == list(range(1, last + 1))
    for step, name, tolerance in ((1, "gen_x_1", 1e-4), (8, "gen_x_8", 5e-4), (15, "gen_x_0", 1e-3)):
        if step <= last:
            assert largest_difference(seen[step], io[name]) < tolerance
