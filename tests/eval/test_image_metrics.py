"""PSNR and SSIM against scikit-image and torchmetrics, and in tiles against one tile at a time."""

from __future__ import annotations

import numpy as np
import pytest

from teramind_data.geometry import Box, tiles
from teramind_eval.metrics.image import PSNR_CEILING_DB, psnr, score_tiles, ssim


def _pair(seed: int, shape: tuple[int, ...] = (2, 96, 80)) -> tuple[np.ndarray, np.ndarray]:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), (0, 4, 4))
    reference = np.clip(90 + 900 * smooth, 0, 255)
    image = np.clip(0.8 * reference + rng.normal(scale=12, size=shape) + 10, 0, 255)
    return reference.astype(np.uint8), image.astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_scikit_image(seed: int) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    reference, image = _pair(seed)
    for stain, value in enumerate(ssim(reference, image)):
        expected = structural_similarity(
            reference[stain],
            image[stain],
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            win_size=11,
        )
        assert value == pytest.approx(expected, abs=1e-6)
    assert psnr(reference, image) == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=255))


def test_equals_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    reference, image = _pair(3)
    x, y = (torch.from_numpy(a.astype(np.float32))[:, None] for a in (reference, image))
    theirs = functional.structural_similarity_index_measure(y, x, data_range=255.0, reduction="none")
    assert ssim(reference, image, windows="reflected") == pytest.approx(theirs.numpy(), abs=1e-4)
    ratio = functional.peak_signal_noise_ratio(y, x, data_range=255.0)
    assert psnr(reference, image) == pytest.approx(float(ratio), abs=1e-4)


def test_tiles_of_a_block_equal_tiles_alone() -> None:
    reference, image = _pair(4, (2, 128, 96))
    boxes = list(tiles(Box(0, 128, 0, 96), 32))
    together = score_tiles(reference, image, boxes)
    for index, box in enumerate(boxes):
        cut = (slice(None), *box.slices)
        alone = ssim(reference[cut], image[cut])
        assert together.ssim[index, :2] == pytest.approx(alone, abs=1e-9)
        assert together.ssim[index, 2] == pytest.approx(alone.mean(), abs=1e-9)
        for stain in range(2):
            one = psnr(reference[cut][stain], image[cut][stain])
            assert together.psnr[index, stain] == pytest.approx(one)
        assert together.psnr[index, 2] == pytest.approx(psnr(reference[cut], image[cut]))


def test_identical_tiles_stay_finite() -> None:
    reference, _ = _pair(5)
    scores = score_tiles(reference, reference, [Box(0, 96, 0, 80)])
    assert (scores.psnr == PSNR_CEILING_DB).all()
    assert scores.ssim == pytest.approx(np.ones((1, 3)))


def test_no_tile_gives_no_score() -> None:
    reference, image = _pair(6)
    assert score_tiles(reference, image, []).psnr.shape == (0, 3)
