"""The page really shows the store: pixels, names, and only the chunks that are in view. In headless Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from teramind_data.store import Brain, open_brain
from teramind_data.view import StoreServer
from tests.data.view.chromium import Chromium
from tests.data.view.conftest import EDGE, serving, write_store

PANEL = 300  # px of the controls at the left


def choose(browser: Chromium, field: str, value: str) -> None:
    """Set a field of the page as a person does."""
    browser.do(
        f"(() => {{ const field = document.getElementById('{field}'); field.value = '{value}';"
        " field.dispatchEvent(new Event('change')); })()"
    )


def names(browser: Chromium) -> list[str]:
    """The channels listed."""
    listed = browser.evaluate(
        "[...document.querySelectorAll('.channel .name')].map((node) => node.textContent)"
    )
    return [str(name) for name in listed]


def spots(browser: Chromium) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours of the two discs when the whole section is in view: left (DAPI), right (PolyT)."""
    picture = browser.picture()[:, PANEL:]
    scale = min(700, picture.shape[1]) * 2**-0.08 / EDGE
    middle = np.array(picture.shape[:2]) / 2
    out = []
    for x in (256, 768):
        row, column = (middle + np.array([0, x - EDGE / 2]) * scale).astype(int)
        out.append(picture[row - 20 : row + 20, column - 20 : column + 20].reshape(-1, 3).mean(axis=0))
    return out[0], out[1]


def test_both_stains_are_drawn_in_their_colours_and_named(browser: Chromium, server: StoreServer) -> None:
    browser.open(f"{server.url}#z=0")
    text = browser.text
    for word in (
        "front, 1 of 2, z 0 µm",
        "my brain#1.zarr",
        "DAPI",
        "PolyT",
        "0.5 µm",
        "1024 × 1024 px",
        "2 sections",
        "12 genes",
    ):
        assert word in text
    left, right = spots(browser)
    red, green, blue = range(3)
    assert left[blue] > 150 > left[green] > left[red]
    assert right[green] > 130 > right[blue]
    corner = browser.picture()[:5, PANEL:]
    assert corner.max() == 0, "around the section there is nothing"
    assert browser.evaluate("document.getElementById('warning').hidden")


def test_the_other_section_is_a_key_away_and_empty_shards_are_dark(
    browser: Chromium, server: StoreServer
) -> None:
    browser.open(f"{server.url}#z=0&zoom=0&x=256&y=400")
    assert browser.picture()[300:400, PANEL + 300 : PANEL + 400, 2].mean() > 150
    browser.do(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    )
    assert "back, 2 of 2, z 120 µm" in browser.text
    assert browser.picture()[300:400, PANEL + 300 : PANEL + 400].max() == 0
    assert browser.evaluate("document.getElementById('warning').hidden"), "empty on purpose is not missing"


def test_only_chunks_in_view_are_fetched(browser: Chromium, server: StoreServer) -> None:
    """At full zoom on a corner: four tiles of the 16, and the coarsest level behind them."""
    browser.open(f"{server.url}#z=0&zoom=2&x=128&y=128")
    chunks, total = int(browser.evaluate("document.body.dataset.chunks")), (EDGE // 64) ** 2
    coarsest = (EDGE // 4 // 64) ** 2
    assert 0 < chunks <= 4 * 16 + coarsest < total / 2
    stored = sum(
        file.stat().st_size
        for file in Path(server.brain.url, "images/morphology").rglob("*")
        if file.is_file()
    )
    assert int(browser.evaluate("document.body.dataset.bytes")) < stored / 4


def test_genes_maps_and_labels_can_be_switched_to(browser: Chromium, server: StoreServer) -> None:
    browser.open(f"{server.url}#z=0")
    choose(browser, "image", "expression")
    assert names(browser) == ["Gene3", "Gene5"], "genes with the most molecules, and none without"
    pixels = browser.picture()[:, PANEL:]
    assert (pixels[..., 0] > 150).any(), "its bins are drawn"
    choose(browser, "add", "gene0")
    assert names(browser) == ["Gene3", "Gene5", "Gene0"]
    choose(browser, "image", "attention_X")
    assert names(browser) == ["window"]
    left, right = spots(browser)
    assert np.allclose(left, right, atol=3) and left.max() > 100, "a flat map in one colour"
    choose(browser, "labels", "regions")
    left, right = spots(browser)
    assert np.abs(left - right).max() > 20, "the left half is a region, the right none"


def test_an_address_keeps_what_is_shown(browser: Chromium, server: StoreServer) -> None:
    browser.open(f"{server.url}#image=expression&channels=Gene5,Gene1&z=1&labels=regions")
    assert browser.evaluate("document.getElementById('image').value") == "expression"
    assert browser.evaluate("document.getElementById('labels').value") == "regions"
    assert names(browser) == ["Gene5", "Gene1"]
    browser.wait("location.hash.includes('Gene5') && location.hash.includes('zoom')")


def test_damage_and_loss_are_said_and_not_shown_as_background(
    browser: Chromium, shown: Brain, tmp_path: Path
) -> None:
    url = tmp_path / "hurt.zarr"
    shutil.copytree(shown.url, url)
    shards = url / "images/morphology/ome.zarr/0/c/0/0"
    (shards / "0/0").unlink()
    whole = bytearray((shards / "1/1").read_bytes())
    whole[100:200] = bytes(100)
    (shards / "1/1").write_bytes(whole)
    with serving(open_brain(url)) as server:
        browser.open(f"{server.url}#z=0&zoom=0.5&x=256&y=256")
        warning = browser.evaluate("document.getElementById('warning').textContent")
    assert "1 object(s) of the store are missing" in warning
    assert "images/morphology/ome.zarr/0/c/0/0/0/0" in warning
    assert "checksum does not match" in warning


@pytest.mark.soak
def test_an_incomplete_store_is_shown_with_a_word_on_it(browser: Chromium, tmp_path: Path) -> None:
    brain = write_store(tmp_path / "half.zarr", finish=False)
    with serving(brain) as server:
        browser.open(f"{server.url}#z=0&zoom=0&x=256&y=512")
        assert "not complete" in browser.text
        assert browser.picture()[300:400, PANEL + 300 : PANEL + 400, 2].mean() > 150


@pytest.mark.soak
@pytest.mark.parametrize("size", [(390, 780)])
def test_a_phone_shows_the_picture_above_the_controls(
    browser: Chromium, server: StoreServer, size: tuple[int, int]
) -> None:
    browser.resize(*size)
    try:
        browser.open(f"{server.url}#z=0")
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
        x, y, width, height = (
            browser.evaluate(f"document.getElementById('view').getBoundingClientRect().{side}")
            for side in ("x", "y", "width", "height")
        )
        assert (x, y, width) == (0, 0, size[0]) and height > 300
        assert browser.picture()[: int(height)].max() > 150
    finally:
        browser.resize(1000, 700)
