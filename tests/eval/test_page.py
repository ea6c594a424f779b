"""The page in a headless Chromium: it fits desk and phone, loads nothing, slider and viewer do what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from teramind_eval.report import embed as module
from teramind_eval.report.build import write_report
from teramind_eval.report.embed import embed, laid_over, lines_png, png_of
from tests.data.view.chromium import Chromium, find_chromium
from tests.eval.conftest import Stores, blank_plots
from tests.eval.test_report import config


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine")
    with Chromium(program, tmp_path_factory.mktemp("chromium"), (1280, 900)) as running:
        yield running


@pytest.fixture(scope="module")
def page(stores: Stores, browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of two runs and a control, as an address."""
    out = tmp_path_factory.mktemp("page") / "out"
    runs = {"ours": str(stores.good), "another run with a long name": str(stores.bad)}
    with blank_plots():
        path, _ = write_report(config(stores, out, generated=runs))
    return path.as_uri()


def load(browser: Chromium, address: str, width: int, scheme: str) -> None:
    browser._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.resize(width, 900)
    browser._call("Page.navigate", url="about:blank")
    browser._call("Page.navigate", url=address)
    browser.wait(
        "document.readyState === 'complete' && document.getElementById('viewer')?.dataset.drawn === '2'"
    )


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits(browser: Chromium, page: str, width: int, scheme: str) -> None:
    load(browser, page, width, scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert (
        browser.evaluate("[...document.images].filter((one) => !one.complete || !one.naturalWidth).length")
        == 0
    )
    assert (
        browser.evaluate(
            "performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length"
        )
        == 0
    )
    empty = (
        "[...document.querySelectorAll('main section')].filter((s) => s.offsetHeight < 120).map((s) => s.id)"
    )
    assert browser.evaluate(empty) == []
    background = browser.picture()[5, 5].astype(int).sum()
    assert background > 600 if scheme == "light" else background < 150


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_is_shaded_at_its_side(browser: Chromium, page: str, scheme: str) -> None:
    load(browser, page, 390, scheme)
    at = "document.querySelector('#summary .scroll')"
    browser.evaluate(f"{at}.scrollIntoView({{block: 'start', behavior: 'instant'}})")
    assert browser.evaluate(f"{at}.scrollWidth > {at}.clientWidth + 40")
    box: dict[str, float] = browser.evaluate(f"{at}.getBoundingClientRect().toJSON()")
    rows, right = slice(max(0, int(box["top"])) + 60, 800), int(box["right"])

    def shade() -> float:
        """How far the outermost pixels are from the panel's colour just outside."""
        picture = browser.picture()[rows].astype(int)
        return float(np.median(np.abs(picture[:, right - 2] - picture[:, right + 4]).mean(axis=-1)))

    assert shade() > 15
    browser.evaluate(f"{at}.scrollLeft = 10000")
    assert shade() < 3


def test_stores_are_chosen_by_their_labels(reported: Path) -> None:
    # The text of an option loses spaces that a label may have.
    text = (reported / "report" / "report.html").read_text()
    for side in ("left", "right"):
        options = re.search(f'id="places-{side}">(.*?)</select>', text)
        assert options is not None
        found = re.findall(r'<option value="([^"]*)"[^>]*>([^<]*)<', options[1])
        assert found == [(label, label) for label in ("real", "generated", "shuffled")]


def test_the_slider_shows_one_store_and_the_other(browser: Chromium, page: str) -> None:
    load(browser, page, 1280, "light")
    assert browser.evaluate("document.querySelectorAll('.slider').length") == 9
    at = "document.querySelector('.slider .shot')"
    browser.evaluate(f"{at}.scrollIntoView({{block: 'center', behavior: 'instant'}})")

    def picture(cut: int) -> np.ndarray:
        browser.evaluate(
            f"(() => {{ const range = {at}.querySelector('input'); range.value = {cut};"
            " range.dispatchEvent(new Event('input')); })()"
        )
        box: dict[str, float] = browser.evaluate(f"{at}.getBoundingClientRect().toJSON()")
        rows = slice(int(box["top"]) + 12, int(box["bottom"]) - 60)
        return browser.picture()[rows, int(box["left"]) + 12 : int(box["right"]) - 12].astype(int)

    left, right, half = picture(100), picture(0), picture(50)
    assert np.abs(left - right).mean() > 1
    middle = left.shape[1] // 2 - 30
    # The browser may scale what is clipped a little otherwise.
    np.testing.assert_allclose(half[:, :middle], left[:, :middle], atol=8)
    np.testing.assert_allclose(half[:, -middle:], right[:, -middle:], atol=8)
    before = browser.evaluate("document.querySelector('.pair').innerText")
    browser.evaluate(
        "(() => { const one = document.getElementById('places-right'); one.selectedIndex = 3;"
        " one.dispatchEvent(new Event('change')); })()"
    )
    assert "shuffled" not in before
    assert "shuffled" in browser.evaluate("document.querySelector('.pair').innerText")
    browser.evaluate("document.getElementById('places-outlines').click()")
    assert browser.evaluate("document.querySelectorAll('.slider .lines')[0].offsetWidth") > 100
    browser.evaluate("document.querySelector('[value=all]').click()")
    assert browser.evaluate("document.querySelector('.slider').offsetHeight") == 0
    assert browser.evaluate("document.querySelectorAll('.zoom figure').length") == 9 * 4


def test_the_viewer_turns_the_brain(browser: Chromium, page: str) -> None:
    load(browser, page, 1280, "light")
    state = "document.querySelector('#viewer output').value"
    pixels = "document.querySelector('#viewer canvas').toDataURL()"
    said, seen = browser.evaluate(state), browser.evaluate(pixels)
    assert said == "sections 1–2 of 2, z 0–100 µm; turned -40°, tilted 22°"
    browser.evaluate(
        "document.querySelector('#viewer canvas').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    )
    assert "turned -35°" in browser.evaluate(state)
    assert browser.evaluate(pixels) != seen
    browser.evaluate("document.querySelector('#viewer [name=reset]').click()")
    assert browser.evaluate(pixels) == seen
    browser.evaluate(
        "(() => { const last = document.querySelector('#viewer [name=last]'); last.value = 0;"
        " last.dispatchEvent(new Event('input')); })()"
    )
    assert browser.evaluate(state).startswith("sections 1–1 of 2")
    assert browser.evaluate("document.getElementById('viewer').dataset.drawn") == "1"


def test_the_printed_page_has_pictures_and_no_controls(browser: Chromium, page: str) -> None:
    load(browser, page, 1280, "light")
    browser._call("Emulation.setEmulatedMedia", media="print")
    shown = "[...document.querySelectorAll('{}')].filter((one) => one.offsetHeight > 0).length"
    assert browser.evaluate(shown.format(".tools, .slider, #viewer, nav")) == 0
    assert browser.evaluate(shown.format(".zoom figure")) == 9 * 4
    browser._call("Emulation.setEmulatedMedia", media="")


def test_pictures_are_compressed_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_BYTES", 0)
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    pictures = [(f"{index}.png", png_of(noise)) for index in range(3)]
    sizes = [sum(map(len, embed(pictures, budget).values())) for budget in (10**7, 10**5, 10**4)]
    assert sizes[0] > 10**5 > sizes[1] > 10**4 >= sizes[2]
    assert sizes[0] < 3 * len(pictures[0][1])
    # Where nothing fits the last step is given.
    assert sum(map(len, embed(pictures, 1).values())) <= sizes[2]


def test_plots_and_lines_count_towards_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from teramind_eval.report import page as pages

    monkeypatch.setattr(module, "_LEAST_BYTES", 0)
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    lines = lines_png(noise[..., 0] > 127, (255, 250, 245))
    chart = SimpleNamespace(light="x" * 20_000, dark="x" * 20_000)
    for overlay, charts in ((None, []), (lines, []), (None, [chart]), (lines, [chart])):
        shown = [SimpleNamespace(name="a.png", png=png_of(noise), overlay=overlay)]
        made: Any = SimpleNamespace(
            charts=lambda charts=charts: charts, micrographs=lambda shown=shown: shown
        )
        monkeypatch.setattr(pages, "PAGE_BYTES", 10**9)
        sizes = [len(uri) for one in pages.embedded(made) for uri in one.values()]
        whole = sum(sizes) + 40_000 * len(charts)
        monkeypatch.setattr(pages, "PAGE_BYTES", whole)
        assert [len(uri) for one in pages.embedded(made) for uri in one.values()] == sizes
        monkeypatch.setattr(pages, "PAGE_BYTES", whole - 1)
        smaller = [len(uri) for one in pages.embedded(made) for uri in one.values()]
        assert smaller[0] < sizes[0]
        assert smaller[1:] == sizes[1:]
    pages.tell_size("x" * module.MOST_BYTES, "report.html")
    assert capsys.readouterr().err == ""
    pages.tell_size("x" * (module.MOST_BYTES + 100_000), "report.html")
    assert "report.html has 25.1 MB, more than 25 MB" in capsys.readouterr().err


def test_lines_lie_over_a_picture_and_nowhere_else() -> None:
    picture: Any = np.full((20, 30, 3), 90, np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[4, 5:20] = True
    over = laid_over(png_of(picture), lines_png(mask, (255, 250, 245)))
    import io

    from PIL import Image

    found = np.asarray(Image.open(io.BytesIO(over)))
    assert (found[mask] == (255, 250, 245)).all()
    assert (found[~mask] == 90).all()
