"""PSNR, SSIM and MS-SSIM against scikit-image and torchmetrics, and in tiles against one tile at a time."""

from __future__ import annotations

import numpy as np
import pytest

from teramind_data.geometry import Box, tiles
from teramind_eval.metrics.image import (
    MS_SMALLEST,
    MS_WEIGHTS,
    PSNR_CEILING_DB,
    ms_ssim,
    psnr,
    score_tiles,
    ssim,
)


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


@pytest.mark.parametrize("shape", [(2, 256, 256), (2, 176, 201)])
def test_ms_ssim_equals_torchmetrics(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    reference, image = _pair(7, shape)
    x, y = (torch.from_numpy(a.astype(np.float32))[:, None] for a in (reference, image))
    theirs = functional.multiscale_structural_similarity_index_measure(
        y, x, data_range=255.0, reduction="none"
    )
    assert ms_ssim(reference, image, windows="reflected") == pytest.approx(theirs.numpy(), abs=1e-4)
    noise = np.random.default_rng(8).integers(0, 256, shape, dtype=np.uint8)
    opposite = torch.from_numpy((255 - noise).astype(np.float32))[:, None]
    theirs = functional.multiscale_structural_similarity_index_measure(
        opposite,
        torch.from_numpy(noise.astype(np.float32))[:, None],
        data_range=255.0,
        reduction="none",
        normalize="relu",
    )
    assert ms_ssim(noise, 255 - noise, windows="reflected") == pytest.approx(theirs.numpy(), abs=1e-4)


def _plain_ms_ssim(reference: np.ndarray, image: np.ndarray) -> float:
    """One channel, written out: Gaussian windows by a two-dimensional correlation, at five scales."""
    from scipy.signal import correlate2d

    offsets = np.arange(-5, 6)
    line = np.exp(-0.5 * (offsets / 1.5) ** 2)
    window = np.outer(line, line) / np.outer(line, line).sum()
    x, y = reference.astype(float), image.astype(float)
    value = 1.0
    for scale, weight in enumerate(MS_WEIGHTS):
        if scale:
            x, y = (a[: a.shape[0] // 2 * 2, : a.shape[1] // 2 * 2] for a in (x, y))
            x, y = (a.reshape(a.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)) for a in (x, y))
        mx, my, xx, yy, xy = (correlate2d(a, window, mode="valid") for a in (x, y, x * x, y * y, x * y))
        contrast = (2 * (xy - mx * my) + 58.5225) / (xx - mx**2 + yy - my**2 + 58.5225)
        luminance = (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
        part = (luminance * contrast if scale == 4 else contrast).mean()
        value *= max(part, 0.0) ** weight
    return value


def test_ms_ssim_equals_its_definition() -> None:
    reference, image = _pair(9, (2, 190, 177))
    found = ms_ssim(reference, image)
    assert found == pytest.approx([_plain_ms_ssim(*pair) for pair in zip(reference, image, strict=True)])


def test_small_tiles_have_no_ms_ssim() -> None:
    reference, image = _pair(10, (2, 200, 200))
    scores = score_tiles(reference, image, [Box(0, MS_SMALLEST, 0, 200), Box(0, MS_SMALLEST - 1, 0, 200)])
    assert np.isfinite(scores.ms_ssim[0]).all()
    assert np.isnan(scores.ms_ssim[1]).all()
    assert np.isfinite(scores.ssim).all()
    with pytest.raises(ValueError, match="at least 176 px; found 175 x 200"):
        ms_ssim(reference[:, :175], image[:, :175])


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


def test_large_tiles_of_a_block_equal_tiles_alone() -> None:
    reference, image = _pair(11, (2, 400, 200))
    boxes = [Box(3, 203, 0, 200), Box(203, 400, 7, 200)]
    together = score_tiles(reference, image, boxes)
    for index, box in enumerate(boxes):
        cut = (slice(None), *box.slices)
        assert together.ssim[index, :2] == pytest.approx(ssim(reference[cut], image[cut]), abs=1e-12)
        alone = ms_ssim(reference[cut], image[cut])
        assert together.ms_ssim[index] == pytest.approx([*alone, alone.mean()], abs=1e-12)


def test_no_tile_gives_no_score() -> None:
    reference, image = _pair(6)
    assert score_tiles(reference, image, []).psnr.shape == (0, 3)
