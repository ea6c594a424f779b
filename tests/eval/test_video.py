"""Films: the frames are read back and are what the stores hold; what fails leaves nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from teramind_data.errors import InputError, MissingInputError, OutputExistsError, StoreError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import BrainSpec, Section, open_brain
from teramind_data.store.layout import ImageLayout
from teramind_eval.drawing import marks
from teramind_eval.drawing.colour import Heat, Lights, colouring, lights_stretch, scale
from teramind_eval.drawing.planes import fitting, parse_box, read_place
from teramind_eval.drawing.stores import open_parts
from teramind_eval.part import Part
from teramind_eval.report.pictures import composite
from teramind_eval.video import encode
from teramind_eval.video.build import VideoRequest, write_video
from teramind_eval.video.frames import Layout, frames
from tests.eval.conftest import Stores
from tests.eval.drawn import CANVAS, PIXEL_UM, draw_section, spec_of, write_generated

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

#: Frames so high that a section of 256 px is shown pixel by pixel: two lines of 15 px and two gaps of 5 around it.
HEIGHT = 256 + 2 * 15 + 2 * 5
WHOLE = Box(0, CANVAS[0], 0, CANVAS[1])


def read_back(path: Path) -> tuple[str, list[np.ndarray]]:
    """What ffmpeg says of the film, and its frames."""
    # Not imageio_ffmpeg.read_frames: it leaves its pipes open.
    words = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-i",
        str(path),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    done = subprocess.run(words, capture_output=True, check=True)
    told = next(line for line in done.stderr.decode().splitlines() if "Video:" in line)
    size = re.search(r"(\d{2,})x(\d{2,})", told)
    assert size is not None
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, int(size[2]), int(size[1]), 3)
    return told, [one.astype(int) for one in frames]


def panel(frame: np.ndarray, number: int) -> np.ndarray:
    """The picture of one panel of a frame of height `HEIGHT`, but for the corner with the scale bar."""
    left = 5 + number * (256 + 5)
    cut = np.array(frame[35 : 35 + 256, left : left + 256])
    cut[180:, 120:] = 0
    return cut


def expected(url: Path, section: int, stretch: Any) -> np.ndarray:
    """A section of level 0, painted here."""
    picture = composite(open_brain(url).read("morphology", section), ("DAPI", "PolyT"), stretch).astype(int)
    picture[180:, 120:] = 0
    return picture


def test_frames_read_back_are_the_sections_of_both_stores(stores: Stores, tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    request = VideoRequest(str(stores.real), out, beside=str(stores.good), height=HEIGHT, fps=5)
    assert write_video(request) == 2
    told, found = read_back(out)
    assert re.search(rf"h264.*yuv420p.*bt709.*528x{HEIGHT}.* 5 fps", told)
    assert len(found) == 2
    stretch = lights_stretch([Part(open_brain(stores.real))], WHOLE)
    for section, frame in enumerate(found):
        for number, url in enumerate((stores.real, stores.good)):
            own = np.abs(panel(frame, number) - expected(url, section, stretch)).mean()
            other = np.abs(panel(frame, number) - expected(url, 1 - section, stretch)).mean()
            assert own < 4 < 20 < other
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_blended_frames_are_the_mean_of_their_neighbours_and_only_on_request(
    stores: Stores, tmp_path: Path
) -> None:
    part = Part(open_brain(stores.real))
    from teramind_eval.video.frames import Panel

    panels = [Panel(part, "morphology", colouring(part, "morphology", None, WHOLE), "C")]
    layout = Layout.fitting(HEIGHT, WHOLE, 1, legend=False)
    assert layout.picture == (256, 256)
    plain = [panel(one, 0) for one in frames(panels, WHOLE, layout)]
    smooth = [panel(one, 0) for one in frames(panels, WHOLE, layout, between=1)]
    assert (len(plain), len(smooth)) == (2, 3)
    np.testing.assert_array_equal(smooth[0], plain[0])
    np.testing.assert_array_equal(smooth[2], plain[1])
    assert np.abs(smooth[1] - (plain[0].astype(int) + plain[1]) / 2).max() <= 0.5


def test_attention_is_shown_in_squares_on_one_scale(stores: Stores, tmp_path: Path) -> None:
    part = Part(open_brain(stores.good))
    colours = colouring(part, "attention_GLUT", None, WHOLE)
    assert isinstance(colours, Heat)
    assert colours.words[0].text == "attention_GLUT, window"
    maps = [part.read("attention_GLUT", section).astype(np.float32)[2] for section in (0, 1)]
    assert colours.top == max(one.max() for one in maps)
    out = tmp_path / "film.gif"
    height = HEIGHT + 15  # a third line, for the colour bar
    write_video(VideoRequest(str(stores.good), out, image="attention_GLUT", height=height))
    with Image.open(out) as film:
        assert film.n_frames == 2
        assert film.info["duration"] == 250
        for section in (0, 1):
            film.seek(section)
            shown = panel(np.asarray(film.convert("RGB")), 0)
            ramp = scale()[np.clip(maps[section] / colours.top * 255, 0, 255).astype(np.uint8)]
            squares = np.kron(ramp, np.ones((BIN_PX, BIN_PX, 1), int))
            squares[180:, 120:] = 0
            # A GIF has 256 colours a frame.
            assert np.abs(shown.astype(int) - squares).mean() < 2


def test_a_box_between_bins_is_cut_where_it_is(stores: Stores) -> None:
    part = Part(open_brain(stores.good))
    box = Box(40, 168, 24, 152)
    place = fitting(part, "attention_GLUT", box, 128)
    assert (place.level, place.box, place.inside) == (0, Box(2, 11, 1, 10), (0.5, 0.5, 8.5, 8.5))
    grey = np.repeat(np.arange(81, dtype=np.uint8).reshape(9, 9, 1) * 3, 3, axis=2)
    shown = marks.resized(grey, (128, 128), place.inside, steps=True)
    np.testing.assert_array_equal(shown, np.kron(grey, np.ones((16, 16, 1), np.uint8))[8:136, 8:136])


@pytest.mark.parametrize("height", [120, 700, 1080, 4320])
@pytest.mark.parametrize("canvas", [(512, 512), (73_216, 105_984), (4096, 16)])
def test_what_is_read_does_not_grow_with_the_canvas(canvas: tuple[int, int], height: int) -> None:
    spec = BrainSpec("generated", canvas, 0.108, (Section(0, "s", 0.0),))
    for image in (spec.morphology(), spec_of("atlas", canvas=canvas).expression()):
        layout = ImageLayout(image, spec)
        part: Any = SimpleNamespace(
            brain=SimpleNamespace(layout=lambda _, found=layout: found), complete=True
        )
        whole = Box(0, canvas[0], 0, canvas[1])
        place = fitting(part, "any", whole, height)
        rows = place.box.height
        assert rows <= 2 * height + 1 or place.level == len(layout.levels) - 1
        assert rows >= height or place.level == 0
        assert layout.levels[place.level].box.contains(place.box)


def test_a_scale_bar_is_as_long_as_it_says() -> None:
    shown = marks.bar(np.full((200, 300, 3), 90, np.uint8), 412.0, 12)
    white = np.all(shown == marks.INK, axis=2)
    length = marks.round_length(412.0)
    assert length == 100.0
    assert white.sum(axis=1).max() == round(300 * 100 / 412)
    assert [marks.said_length(value) for value in (0.5, 100, 1000, 2500)] == [
        "0.5 µm",
        "100 µm",
        "1 mm",
        "2.5 mm",
    ]


def test_sections_are_found_by_name_in_the_store_beside(stores: Stores, tmp_path: Path, capsys: Any) -> None:
    part = write_generated(
        tmp_path / "part.zarr", [draw_section(12).image], sections=(Section(0, "s1", 100.0),)
    )
    out = tmp_path / "film.mp4"
    assert write_video(VideoRequest(str(stores.real), out, beside=str(part), height=HEIGHT)) == 1
    assert "1 of 2 sections are not in the store beside" in capsys.readouterr().err
    frame = read_back(out)[1][0]
    stretch = lights_stretch([Part(open_brain(stores.real)).named(["s1"])], WHOLE)
    assert np.abs(panel(frame, 0) - expected(stores.real, 1, stretch)).mean() < 4
    assert np.abs(panel(frame, 1) - expected(part, 0, stretch)).mean() < 4


def test_without_the_extra_the_ffmpeg_on_path_is_taken(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    request = VideoRequest(str(stores.real), tmp_path / "film.mp4", height=120)
    with pytest.raises(MissingInputError, match=r"no ffmpeg.*teramind-eval\[video\].*\.gif"):
        write_video(request)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "ffmpeg").symlink_to(exe)
    assert write_video(request) == 2


@pytest.mark.parametrize(
    "script", ["echo disk is full >&2; exit 3", "cat >/dev/null; echo disk is full >&2; exit 3"]
)
def test_a_film_that_fails_leaves_what_was_there(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(encode, "find_ffmpeg", lambda: os.fspath(broken))
    out = tmp_path / "film.mp4"
    out.write_bytes(b"earlier")
    with pytest.raises(OutputExistsError, match=r"film\.mp4.*--overwrite"):
        write_video(VideoRequest(str(stores.real), out))
    with pytest.raises(StoreError, match="found disk is full"):
        write_video(VideoRequest(str(stores.real), out, overwrite=True))
    assert out.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ffmpeg", "film.mp4"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"out": "film.avi"}, r"film\.avi \(expected \.mp4 or \.gif"),
        ({"out": "no/film.gif"}, r"folder of the output does not exist"),
        (
            {"image": "attention_DOPA"},
            r"no such image.*expected.*morphology.*found attention_DOPA",
        ),
        ({"image": "attention_GLUT", "channel": "whole"}, r"no such channel.*previous-current.*found whole"),
        ({"box": "0:300,0:10"}, r"sticks out.*--box.*expected y0:y1,x0:x1 inside 0:256,0:256"),
        ({"box": "0:10"}, r"box cannot be read: --box"),
        ({"box": "9:3,0:10"}, r"box cannot be read: --box"),
        ({"beside_image": "morphology"}, r"nothing is beside"),
    ],
)
def test_what_cannot_be_shown_is_named(
    stores: Stores, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    values = {"out": "film.gif", **changes}
    out = tmp_path / values.pop("out")
    with pytest.raises((InputError, MissingInputError), match=what):
        write_video(VideoRequest(str(stores.good), out, **values))
    assert list(tmp_path.iterdir()) == []


def test_a_stain_has_the_first_store_s_contrast_in_any_order(stores: Stores) -> None:
    first = colouring(Part(open_brain(stores.good)), "morphology", None, Box(0, 256, 0, 256))
    assert isinstance(first, Lights) and len(first.stains) == 2
    swapped, one = first.of(first.stains[::-1]), first.of(first.stains[1:])
    assert swapped is not None and one is not None
    assert (swapped.stains, swapped.stretch.white) == (first.stains[::-1], first.stretch.white[::-1])
    assert (one.stains, one.stretch.black) == (first.stains[1:], first.stretch.black[1:])
    assert first.of((*first.stains, "GFP")) is None


def test_channels_that_are_no_stains_are_named(tmp_path: Path) -> None:
    url = write_generated(tmp_path / "odd.zarr", [draw_section(11).image] * 2)
    root = url / "zarr.json"
    text = json.loads(root.read_text())
    text["attributes"]["teramind"]["stains"] = ["DAPI"]
    root.write_text(json.dumps(text))
    with pytest.raises(StoreError, match=r"not as many channels as stains.*odd\.zarr.*found 2 channels"):
        open_parts([str(url)])


def test_stores_that_do_not_lie_on_one_canvas_are_named(stores: Stores, tmp_path: Path) -> None:
    image = np.pad(draw_section(11).image, ((0, 0), (0, 0), (0, 16)))
    other = write_generated(tmp_path / "wide.zarr", [image, image], canvas=(256, 272))
    with pytest.raises(InputError, match=r"canvas.*wide\.zarr"):
        write_video(VideoRequest(str(stores.good), tmp_path / "film.gif", beside=str(other)))
    images, size = [draw_section(11).image] * 2, PIXEL_UM
    coarse = write_generated(tmp_path / "coarse.zarr", images, pixel_size_um=size * 1.001)
    with pytest.raises(InputError, match=r"pixel size.*coarse\.zarr"):
        open_parts([str(stores.good), str(coarse)])
    rounded = write_generated(tmp_path / "rounded.zarr", images, pixel_size_um=size * (1 + 1e-9))
    assert len(open_parts([str(stores.good), str(rounded)])) == 2
    sections = (Section(0, "x", 0.0), Section(1, "y", 1.0))
    strange = write_generated(tmp_path / "strange.zarr", [draw_section(11).image] * 2, sections=sections)
    with pytest.raises(InputError, match=r"no section in common.*strange\.zarr"):
        write_video(VideoRequest(str(stores.good), tmp_path / "film.gif", beside=str(strange)))


def test_boxes_are_read(stores: Stores) -> None:
    part = Part(open_brain(stores.real))
    assert parse_box("16:32,0:256", part, "--box") == Box(16, 32, 0, 256)
    place = fitting(part, "morphology", Box(16, 32, 0, 256), 16)
    np.testing.assert_array_equal(
        read_place(part, "morphology", 1, place), part.read("morphology", 1)[:, 16:32]
    )
