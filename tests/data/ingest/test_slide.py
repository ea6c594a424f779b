"""Tiled reading: the pixels asked for, and only the tiles under them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from teramind_data.errors import InputError, MissingInputError
from teramind_data.geometry import Box
from teramind_data.ingest.images.tiff import TiffPlane
from teramind_data.ingest.slide import Slide

IMAGE = np.random.default_rng(0).integers(0, 65536, (300, 500), np.uint16)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (64, 128), "bigtiff": True},
        {"tile": (64, 64), "compression": "zlib", "predictor": True},
        {"tile": (256, 256), "compression": "lzw"},
        {"rowsperstrip": 17},
        {"rowsperstrip": 300, "compression": "zstd"},
        {"tile": (64, 64), "byteorder": ">"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_any_box_of_any_layout(tmp_path: Path, options: dict, dtype: str) -> None:
    image = IMAGE.astype(dtype)
    byteorder = options.pop("byteorder", None) if "byteorder" in options else None
    file = tmp_path / "a.tif"
    with tifffile.TiffWriter(file, bigtiff=options.get("bigtiff", False), byteorder=byteorder) as writer:
        rest = {key: value for key, value in options.items() if key != "bigtiff"}
        writer.write(image, photometric="minisblack", metadata=None, **rest)
    if byteorder:
        options["byteorder"] = byteorder
    padded = np.pad(image, 100)
    with Slide(file) as slide:
        assert slide.shape == image.shape
        assert slide.dtype == np.dtype(dtype)
        for box in (
            Box(0, 300, 0, 500),
            Box(10, 11, 480, 500),
            Box(63, 130, 127, 260),
            Box(-40, 20, 450, 560),
        ):
            expected = padded[box.y0 + 100 : box.y1 + 100, box.x0 + 100 : box.x1 + 100]
            np.testing.assert_array_equal(slide.read(box), expected)
        assert not slide.read(Box(1000, 1010, 0, 10)).any()


def test_only_tiles_under_the_box_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, IMAGE, tile=(64, 64), photometric="minisblack", metadata=None)
    decoded: list[int] = []
    original = TiffPlane.decode
    monkeypatch.setattr(
        TiffPlane,
        "decode",
        lambda self, row, column: (decoded.append(8 * row + column), original(self, row, column))[1],
    )
    with Slide(file, cache_bytes=4 * 64 * 64 * 2) as slide:
        slide.read(Box(70, 100, 130, 200))  # tile row 1, columns 2 and 3, of 8 columns
        assert decoded == [10, 11]
        slide.read(Box(64, 128, 128, 256))
        assert decoded == [10, 11]  # held
        slide.read(Box(0, 300, 0, 500))
        assert slide._stacks[0]._cache.held <= 4 * 64 * 64 * 2


@pytest.mark.parametrize("part", [0.999, 0.5, 0.01, 0.0001])
def test_cut_off(tmp_path: Path, part: float) -> None:
    file = tmp_path / "cut.tif"
    tifffile.imwrite(file, IMAGE, tile=(64, 64), photometric="minisblack", metadata=None, bigtiff=True)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=r"truncated or damaged.*cut\.tif.*Copy the file again"):
        Slide(file)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"image not found.*none\.tif"):
        Slide(tmp_path / "none.tif")
