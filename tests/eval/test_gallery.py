"""Galleries: boxes by rule and seed or as given, what is in the panels, regions where they lie, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import ImageSpec, Section, append_image, open_brain
from teramind_eval.drawing.colour import colouring
from teramind_eval.drawing.marks import COLOURS
from teramind_eval.gallery.build import GalleryRequest, write_gallery
from teramind_eval.gallery.places import Shown, chosen_boxes, given_places, spread_sections
from teramind_eval.gallery.regions import RegionMap, contoured, filled, legend, region_map
from teramind_eval.gallery.sheets import Source, picture_of, region_sheet, whole, zoom_sheet
from teramind_eval.part import Part
from tests.eval.conftest import Stores
from tests.eval.drawn import CANVAS, draw_section, write_generated, write_real


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn brain with two regions a section: 1 the left half, 3 a square on the right."""
    path = write_real(tmp_path_factory.mktemp("atlas") / "A.zarr", [draw_section(seed) for seed in (11, 12)])
    labels = np.zeros(tuple(edge // BIN_PX for edge in CANVAS), np.uint16)
    labels[:, :8] = 1
    labels[4:8, 10:14] = 3
    image = ImageSpec("regions", (), "uint16", step=BIN_PX, reduce="mode", labels=True)
    append_image(path, image, [(section, None, labels) for section in (0, 1)])
    return path


def test_boxes_are_drawn_by_rule_and_seed(stores: Stores) -> None:
    part = Part(open_brain(stores.real))
    boxes = chosen_boxes(part, 1, 4, seed=5)
    assert len(set(boxes)) == 4
    assert all(box.shape == (64, 64) and box.is_aligned(64) for box in boxes)
    assert list(boxes) == sorted(boxes)
    y, x, _ = draw_section(12).molecules
    held = np.zeros((4, 4), int)
    np.add.at(held, (y // 64, x // 64), 1)
    middle = np.median(held[held > 0])
    assert all(held[box.y0 // 64, box.x0 // 64] >= middle for box in boxes)
    assert chosen_boxes(part, 1, 4, seed=5) == boxes
    assert any(chosen_boxes(part, 1, 4, seed=seed) != boxes for seed in (6, 7))
    assert len(chosen_boxes(part, 1, 8, seed=5, edge=128)) <= 4


def test_boxes_of_a_store_without_molecules_follow_brightness(tmp_path: Path) -> None:
    image = np.full((2, *CANVAS), 3, np.uint8)
    image[0, 64:128, 128:192] = 200
    image[0, 192:256, 0:64] = 180
    part = Part(
        open_brain(write_generated(tmp_path / "bright.zarr", [image], sections=(Section(0, "s0", 0.0),)))
    )
    held = chosen_boxes(part, 0, 16, seed=0)
    # The others all hold the median.
    assert {Box(64, 128, 128, 192), Box(192, 256, 0, 64)} <= set(held)
    dark = write_generated(tmp_path / "dark.zarr", [np.zeros_like(image)], sections=(Section(0, "s0", 0.0),))
    assert chosen_boxes(Part(open_brain(dark)), 0, 4, seed=0) == ()


def test_given_boxes_are_kept_by_section(stores: Stores) -> None:
    part = Part(open_brain(stores.real))
    words = ["s1:0:64,10:74", "s0:1:2,3:4", "s1:100:200,0:256"]
    assert given_places(words, part) == (
        Shown(1, (Box(0, 64, 10, 74), Box(100, 200, 0, 256))),
        Shown(0, (Box(1, 2, 3, 4),)),
    )
    for word, what in (
        ("s1", "SECTION:y0:y1"),
        ("s9:0:1,0:1", "expected s0, s1"),
        ("s1:0:999,0:1", "inside 0:256,0:256"),
    ):
        with pytest.raises(InputError, match=f"--box.*{what}"):
            given_places([word], part)
    assert [spread_sections(9, 1), spread_sections(9, 3), spread_sections(2, 5)] == [[4], [0, 4, 8], [0, 1]]


def test_a_panel_holds_its_box(stores: Stores) -> None:
    part = Part(open_brain(stores.real))
    source = Source(part, colouring(part, "morphology", None, whole(part)), "C")
    shown = Shown(1, (Box(64, 128, 128, 192), Box(0, 64, 0, 128)))
    sheet = zoom_sheet([source], shown)
    # Below: two squares of `edge` px beside each other, in frames of their colours.
    frame = np.argwhere(np.all(sheet == COLOURS[0], axis=2))
    below = frame[frame[:, 0] > 620]
    top, left = below.min(axis=0)
    bottom, right = below.max(axis=0)
    edge = bottom - top + 1
    assert edge == right - left + 1 > 240
    inner = sheet[top + 30 : top + 170, left + 30 : left + 170]
    direct = picture_of(source, 1, Box(64, 128, 128, 192), (edge, edge))[30:170, 30:170]
    np.testing.assert_array_equal(inner, direct)
    # And what is shown there is that place of the store.
    small = np.asarray(Image.fromarray(picture_of(source, 1, Box(64, 128, 128, 192), (64, 64))))
    raw = source.colours.paint(part.read("morphology", 1, Box(64, 128, 128, 192)))
    np.testing.assert_array_equal(small, raw)


def test_regions_lie_where_the_atlas_says(atlas: Path) -> None:
    part = Part(open_brain(atlas))
    found = region_map(part, 0, Box(0, 256, 0, 256), (512, 512))
    twin = np.kron(np.asarray(part.brain.read("regions", 0)), np.ones((32, 32), int))
    np.testing.assert_array_equal(found.labels, twin)
    assert found.present == (1, 3)
    assert [text for text, _ in legend(found.names, found.present)] == ["1  region 1", "3  region 3"]
    # A box between bins, at a size of its own.
    cut = region_map(part, 0, Box(40, 200, 120, 220), (320, 200))
    np.testing.assert_array_equal(cut.labels, twin[80:400, 240:440])


def test_veils_and_contours() -> None:
    labels = np.zeros((40, 40), np.int64)
    labels[10:30, 10:30] = 2
    picture = np.full((40, 40, 3), 100, np.uint8)
    regions = RegionMap(labels, {2: "square"})
    veil = filled(picture, regions)
    assert np.all(veil[labels == 0] == 100)
    assert np.abs(veil[20, 20] - (100 * 0.58 + np.array(COLOURS[1]) * 0.42)).max() <= 0.5
    line = np.all(contoured(picture, regions) == COLOURS[1], axis=2)
    rim = np.zeros((40, 40), bool)
    rim[10:30, 10:30] = True
    rim[11:29, 11:29] = False
    np.testing.assert_array_equal(line, rim)


@pytest.fixture(scope="module")
def gallery(atlas: Path, stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gallery") / "out"
    page, made = write_gallery(GalleryRequest(str(atlas), out, beside=str(stores.good), most_sections=1))
    assert made
    return page


def test_gallery_is_written_whole_and_left_when_current(atlas: Path, stores: Stores, gallery: Path) -> None:
    folder = gallery.parent
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["001_s1_regions.png", "001_s1_zoom.png", "gallery.json", "index.html"]
    text = gallery.read_text()
    assert not re.search(r"https?://|<(script|link|iframe)\b", text)
    assert set(re.findall(r'src="([^"]+)"', text)) == set(names[:2])
    told = json.loads((folder / "gallery.json").read_text())
    assert [len(one["boxes"]) for one in told["shown"]] == [4]
    for box in told["shown"][0]["boxes"]:
        assert f"y {box[0]} to {box[1]}, x {box[2]} to {box[3]}" in text
    request = GalleryRequest(str(atlas), folder, beside=str(stores.good), most_sections=1)
    assert write_gallery(request) == (gallery, False)
    with pytest.raises(OutputExistsError, match="gallery of other inputs or settings"):
        write_gallery(GalleryRequest(str(atlas), folder))


def test_what_a_store_is_there_for_tells_galleries_apart(atlas: Path, stores: Stores, tmp_path: Path) -> None:
    out, box = tmp_path / "out", ("s0:0:64,0:64",)
    over = GalleryRequest(str(stores.good), out, atlas=str(atlas), boxes=box)
    beside = GalleryRequest(str(stores.good), out, beside=str(atlas), boxes=box, overwrite=True)
    page, _ = write_gallery(over)
    assert "beside" not in page.read_text()
    assert write_gallery(over) == (page, False)
    assert write_gallery(beside) == (page, True)
    assert "G, generated beside A, measured" in page.read_text()
    assert write_gallery(beside) == (page, False)


def test_regions_of_another_store_are_laid_over(atlas: Path, stores: Stores, tmp_path: Path) -> None:
    page, _ = write_gallery(
        GalleryRequest(str(stores.good), tmp_path / "out", atlas=str(atlas), boxes=("s0:0:64,0:64",))
    )
    part, beside = Part(open_brain(stores.good)), Part(open_brain(atlas))
    source = Source(part, colouring(part, "morphology", None, whole(part)), "G, generated")
    sheet = np.asarray(Image.open(page.parent / "000_s0_regions.png"))
    np.testing.assert_array_equal(sheet, region_sheet([source], beside, 0))
    plain, _ = write_gallery(GalleryRequest(str(stores.good), tmp_path / "plain", boxes=("s0:0:64,0:64",)))
    assert "No store here has regions" in plain.read_text()
    assert not (plain.parent / "000_s0_regions.png").exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"sections": ("s7",)}, "no such section: --section"),
        ({"sections": ("s0",), "boxes": ("s0:0:1,0:1",)}, "boxes name their sections"),
        ({"atlas": "real"}, "store has no regions"),
    ],
)
def test_what_cannot_be_shown_is_named(
    stores: Stores, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    if "atlas" in changes:
        changes = {"atlas": str(stores.real)}
    with pytest.raises(InputError, match=what):
        write_gallery(GalleryRequest(str(stores.good), tmp_path / "out", **changes))
    assert list(tmp_path.iterdir()) == []
