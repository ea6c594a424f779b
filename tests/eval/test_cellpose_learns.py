"""A Cellpose network trained from nothing on phantom nuclei finds those of another brain, through the adapter.

Three minutes of one core, so it is run by `make soak`; the network is kept in build/, by what it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from teramind_data.geometry import Box
from teramind_data.phantom import PhantomConfig, section_truth
from teramind_eval.config import NucleiConfig
from teramind_eval.morphometry.segment import blocks_of_nuclei, find_nuclei
from teramind_eval.morphometry.segmenter import DapiSection

pytestmark = [
    pytest.mark.soak,
    # torch warns of sparse tensors that Cellpose makes.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

_PHANTOM = PhantomConfig(genes=64, shared=40, blanks=4, seed=7)
_TRAINING = {"diam_mean": 12.0, "learning_rate": 0.003, "n_epochs": 100, "bsize": 64, "batch_size": 8}
_KEPT = Path(__file__).resolve().parents[2] / "build" / "test-cellpose"


def _section(brain: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """DAPI as a camera sees it, uint8, and its nuclei."""
    truth = section_truth(_PHANTOM, brain, index)
    rng = np.random.default_rng([ord(brain), index])
    noise = rng.normal(size=truth.image[0].shape) * np.sqrt(1.2**2 + 0.02 * truth.image[0])
    return np.clip(truth.image[0] + noise, 0, 255).astype(np.uint8), truth.masks


@pytest.fixture(scope="module")
def network() -> Path:
    pytest.importorskip("cellpose.models", reason="Cellpose is not installed")
    import torch
    from cellpose import models, train

    seen = [_section(brain, index) for brain in "AB" for index in range(4)]
    content = hashlib.sha256(json.dumps(_TRAINING, sort_keys=True).encode())
    for image, masks in seen:
        content.update(image.tobytes() + masks.tobytes())
    path = _KEPT / content.hexdigest()[:16]
    if path.is_file():
        return path
    _KEPT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - Cellpose draws its crops from it
    scaled = []
    for image, _ in seen:
        low, high = np.percentile(image, [1, 99])
        scaled.append(((image - low) / (high - low)).astype(np.float32))
    options = {key: value for key, value in _TRAINING.items() if key != "diam_mean"}
    model = models.CellposeModel(gpu=False, pretrained_model=False, diam_mean=_TRAINING["diam_mean"])
    train.train_seg(
        model.net,
        scaled,
        [masks.astype(np.int32) for _, masks in seen],
        channels=[0, 0],
        normalize=False,
        min_train_masks=1,
        nimg_per_epoch=8,
        save_path=str(_KEPT),
        model_name="draft",
        **options,
    )
    (_KEPT / "models" / "draft").replace(path)
    return path


def test_it_finds_the_nuclei_of_another_brain(network: Path) -> None:
    from cellpose.metrics import average_precision

    image, masks = _section("C", 0)
    segmenter = NucleiConfig(segmenter="cellpose", cellpose_model=str(network)).build()
    section = DapiSection(lambda box: image[box.slices], image.shape, _PHANTOM.pixel_size_um)
    labels = segmenter.segment(image, section.pixel_size_um, segmenter.levels(section, [_whole(image)]))
    found = average_precision([masks], [labels], threshold=[0.5, 0.75])[0][0]
    print(f"AP@0.5 {found[0]:.3f}, AP@0.75 {found[1]:.3f}: {labels.max()} of {masks.max()} nuclei")
    assert found[0] >= 0.8


def test_blocks_agree_closely_with_the_whole(network: Path) -> None:
    image, _ = _section("C", 1)
    how = NucleiConfig(segmenter="cellpose", cellpose_model=str(network))
    whole = find_nuclei(lambda box: image[box.slices], image.shape, _PHANTOM.pixel_size_um, how.build())
    cut = how.model_copy(update={"block_px": 256}).build()
    section = DapiSection(lambda box: image[box.slices], image.shape, _PHANTOM.pixel_size_um)
    parts = [nuclei for found in blocks_of_nuclei(section, cut) for nuclei in found.nuclei.centroids]
    near = np.linalg.norm(whole.centroids[:, None] - np.array(parts)[None], axis=2).min(axis=1)
    assert abs(len(parts) - len(whole)) <= 0.03 * len(whole)
    assert np.mean(near < 1.0) >= 0.97  # pixels


def _whole(image: np.ndarray) -> Box:
    return Box(0, image.shape[0], 0, image.shape[1])
