"""Tiles scored by torch, as on a GPU, against `metrics.image.score_tiles`: on torch's CPU device, no GPU being here."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_eval.metrics import image_on_device
from teramind_eval.metrics.image import MS_SMALLEST, PSNR_CEILING_DB, score_tiles
from teramind_eval.metrics.image_on_device import DeviceScorer, pick_device, scorer

Pixels = NDArray[np.uint8]
SHAPE = (2, 420, 400)
WHOLE = [Box(0, 200, 0, 180), Box(200, 400, 0, 180), Box(0, 200, 180, 360)]
ODD = [Box(3, 14, 5, 16), Box(0, MS_SMALLEST - 1, 0, 200), Box(7, 420, 1, 400), Box(3, 14, 5, 17)]


@pytest.fixture(scope="module")
def pair() -> tuple[Pixels, Pixels]:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 200, (SHAPE[0], SHAPE[1] // 20, SHAPE[2] // 20), dtype=np.uint8)
    real = coarse.repeat(20, axis=1).repeat(20, axis=2) + rng.integers(0, 50, SHAPE, dtype=np.uint8)
    noise = rng.integers(-40, 40, SHAPE)
    noise[0, :100, :100] = 0  # a corner without any difference
    return real, np.clip(real.astype(int) + noise, 0, 255).astype(np.uint8)


def check(pair: tuple[Pixels, Pixels], tiles: Sequence[Box]) -> None:
    expected, found = score_tiles(*pair, tiles), DeviceScorer("cpu")(*pair, tiles)
    for measure in ("psnr", "ssim", "ms_ssim"):
        a, b = getattr(expected, measure), getattr(found, measure)
        assert b.shape == (len(tiles), SHAPE[0] + 1)
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9, err_msg=measure)


@pytest.mark.parametrize(
    "tiles", [WHOLE, ODD, WHOLE + ODD + WHOLE, []], ids=["alike", "odd", "mixed", "none"]
)
def test_the_numbers_are_the_same(pair: tuple[Pixels, Pixels], tiles: list[Box]) -> None:
    check(pair, tiles)


def test_however_many_are_scored_together(
    pair: tuple[Pixels, Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_on_device, "_AT_ONCE", 2 * 2 * 200 * 180)
    check(pair, WHOLE + ODD)


def test_a_tile_without_difference_has_the_ceiling(pair: tuple[Pixels, Pixels]) -> None:
    scores = DeviceScorer("cpu")(*pair, [Box(0, 100, 0, 100)])
    assert scores.psnr[0, 0] == PSNR_CEILING_DB and scores.ssim[0, 0] == pytest.approx(1)
    assert scores.psnr[0, 1] < 30


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == "cpu" and scorer("cpu") is score_tiles
    assert scorer("cuda:1") == DeviceScorer("cuda:1")
    for name in ("gpu", "cuda:x", "cuda:", "cpu:0", ""):
        with pytest.raises(InputError, match="unknown device"):
            pick_device(name)
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(image_on_device, "_usable", lambda device: True)
    assert (pick_device("auto"), pick_device("cuda:1")) == ("cuda", "cuda:1")
    with pytest.raises(InputError, match="no such device here"):
        pick_device("cuda:2")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        image_on_device, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    assert pick_device("auto") == "cpu"
    with pytest.raises(InputError, match="a GPU needs torch"):
        pick_device("cuda")


def test_a_gpu_that_does_not_work_is_not_chosen(
    pair: tuple[Pixels, Pixels], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    assert image_on_device._usable("cpu")
    fails: list[Exception] = [
        RuntimeError("no kernel image is available\nand more"),
        torch.OutOfMemoryError("out"),
    ]

    def scores(*pair: object) -> object:
        raise fails[0]

    monkeypatch.setattr(image_on_device, "_scores", scores)
    assert not image_on_device._usable("cpu")
    assert "scored on the CPU: no kernel image is available" in capsys.readouterr().err
    fails.pop(0)
    assert not image_on_device._usable("cpu")
    with pytest.raises(InputError, match=r"memory is full: cpu .* Use fewer --workers, or --device cpu"):
        DeviceScorer("cpu")(*pair, WHOLE)
