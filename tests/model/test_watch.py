"""Watching a generation: the preview's pixels, and figures that agree with the report's."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from teramind_data.errors import InputError, MissingInputError, StoreError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.picture import jpeg, sheet
from teramind_data.store import Brain, create_brain, open_brain, resume_brain
from teramind_eval.metrics.image import score_tiles
from teramind_model.generate import GenerateConfig, generate
from teramind_model.generate.config import Engine, RunOptions, WatchOptions
from teramind_model.generate.parts import Hands, parse_part
from teramind_model.generate.watch import Likeness, Preview, image_likeness
from tests.model.tiny import tiny_atlas, tiny_source


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    """Edges that are no multiples of the shard (64)."""
    return tiny_atlas(tmp_path_factory.mktemp("atlas") / "atlas.zarr", canvas=(144, 208), sections=2)


def shards_of(brain: Brain) -> list[tuple[int, Box]]:
    return brain.layout("morphology").shards()


@pytest.mark.parametrize("edge", [16, 11, 40])
def test_figures_are_those_of_the_report(edge: int) -> None:
    rng = np.random.default_rng(edge)
    real, made = rng.integers(0, 256, (2, 2, edge, edge + 3), dtype=np.uint8)
    expected = score_tiles(real, made, [Box.from_shape((edge, edge + 3))])
    psnr, ssim = image_likeness(real, made)
    assert psnr == pytest.approx(expected.psnr[0, -1], abs=1e-9)
    assert ssim == pytest.approx(expected.ssim[0, -1], abs=1e-9)


def test_equal_images_score_the_ceiling() -> None:
    image = np.arange(2 * 16 * 16, dtype=np.uint8).reshape(2, 16, 16)
    assert image_likeness(image, image) == (100.0, pytest.approx(1.0))


def test_rows_are_told_as_they_finish_and_count_tissue_tiles_in_the_region(atlas: Brain) -> None:
    lines: list[str] = []
    region = Box(0, 128, 64, 208)
    likeness = Likeness(atlas, atlas.spec, region, lines.append)
    expected = []
    for z, box in shards_of(atlas):
        made = np.full((2, *box.shape), 100, np.uint8)
        likeness(z, box, made)
        counts = atlas.read("expression", z, box.coarsen(BIN_PX))
        if region.contains(box) and box.shape == (64, 64) and counts.any():
            real = atlas.read("morphology", z, box)
            expected.append(score_tiles(real, made, [Box.from_shape((64, 64))]))
    likeness.tell()
    assert len(expected) == likeness.all.tiles == 8
    assert likeness.all.psnr / 8 == pytest.approx(np.mean([e.psnr[0, -1] for e in expected]))
    assert likeness.all.ssim / 8 == pytest.approx(np.mean([e.ssim[0, -1] for e in expected]))
    assert len(lines) == 6
    assert lines[0].startswith("section 0, rows from 0 px: PSNR ")
    assert "(2 tiles); so far" in lines[0]
    assert lines[2].startswith("section 0, rows from 128 px: no tissue yet; so far PSNR ")


def test_a_brain_that_cannot_be_compared_is_refused(atlas: Brain, tmp_path: Path) -> None:
    whole = Box.from_shape(atlas.canvas)
    other = tiny_atlas(tmp_path / "other.zarr", canvas=(64, 96))
    with pytest.raises(InputError, match="canvas of the brain to compare with differs"):
        Likeness(other, atlas.spec, whole, print)
    longer = tiny_atlas(tmp_path / "longer.zarr", canvas=atlas.canvas, sections=3)
    with pytest.raises(InputError, match=r"lacks sections.*s02"):
        Likeness(atlas, longer.spec, whole, print)
    unfinished = create_brain(tmp_path / "nothing.zarr", atlas.spec)
    with pytest.raises(MissingInputError, match="no images to compare with"):
        Likeness(_without_images(open_brain(unfinished.url, incomplete=True)), atlas.spec, whole, print)


def _without_images(brain: Brain) -> Brain:
    class Bare:
        images: tuple[str, ...] = ()
        url = brain.url

    return Bare()  # type: ignore[return-value]


def test_the_preview_shows_means_of_squares(atlas: Brain, tmp_path: Path) -> None:
    preview = Preview(tmp_path / "p.jpg", atlas.spec, edge=52)
    planes = np.zeros((2, 2, 36, 52), np.float32)
    for z, box in shards_of(atlas):
        preview(z, box, atlas.read("morphology", z, box))
        for y in range(box.y0 // 4, -(-box.y1 // 4)):
            for x in range(box.x0 // 4, -(-box.x1 // 4)):
                square = atlas.read("morphology", z, Box(4 * y, 4 * y + 4, 4 * x, 4 * x + 4))
                planes[z, :, y, x] = square.mean((1, 2))
    preview.save()
    expected = Image.open(io.BytesIO(jpeg(sheet(planes, atlas.spec))))
    shown = Image.open(tmp_path / "p.jpg")
    assert np.array_equal(np.asarray(shown), np.asarray(expected))
    assert np.asarray(shown).std() > 10
    assert [file.name for file in tmp_path.iterdir()] == ["p.jpg"]


def test_a_run_that_goes_on_shows_what_was_there(atlas: Brain, tmp_path: Path) -> None:
    spec = atlas.spec
    writer = create_brain(tmp_path / "half.zarr", spec)
    shards = writer.shards("morphology")
    whole, resumed = (Preview(tmp_path / f"{name}.jpg", spec, edge=104) for name in ("whole", "resumed"))
    half = len(shards) // 2
    for number, (z, box) in enumerate(shards):
        # Flat squares, so that the pyramid's rounding to integers loses nothing.
        block = np.full((2, *box.shape), 10 * number, np.uint8)
        whole(z, box, block)
        if number < half:
            writer.write("morphology", z, box, block)
    again = resume_brain(tmp_path / "half.zarr", spec)
    pending = again.pending("morphology")
    done = [shard for shard in again.shards("morphology") if shard not in pending]
    assert len(done) == half
    resumed.catch_up(open_brain(again.url, incomplete=True), done)
    for number, (z, box) in enumerate(shards):
        if number >= half:
            resumed(z, box, np.full((2, *box.shape), 10 * number, np.uint8))
    for preview in (whole, resumed):
        preview.save()
    assert (tmp_path / "whole.jpg").read_bytes() == (tmp_path / "resumed.jpg").read_bytes()


@pytest.mark.parametrize("engine", ["wavefront", "straightforward"])
def test_generation_is_watched_and_not_changed(atlas: Brain, tmp_path: Path, engine: Engine) -> None:
    lines: list[str] = []
    watch = WatchOptions(str(tmp_path / "p.jpg"), atlas.url)
    plain = GenerateConfig(
        atlas.url, "tiny", str(tmp_path / "a.zarr"), steps=1, run=RunOptions(engine=engine)
    )
    watched = replace(plain, out=str(tmp_path / "b.zarr"), watch=watch)
    a = generate(plain, tiny_source(), say=lambda line: None)
    b = generate(watched, tiny_source(), say=lines.append)
    assert np.array_equal(a.morphology[:], b.morphology[:])
    last = [line for line in lines if "so far" in line][-1]
    tiles = [Box.from_shape((64, 64), (y, x)) for y in (0, 64) for x in (0, 64, 128)]
    scores = [score_tiles(atlas.read("morphology", z), b.read("morphology", z), tiles) for z in (0, 1)]
    psnr = np.mean([s.psnr[:, -1] for s in scores])
    ssim = np.mean([s.ssim[:, -1] for s in scores])
    assert last.endswith(f"so far PSNR {psnr:.2f} dB, SSIM {ssim:.3f} (12 tiles)")
    shown = Image.open(tmp_path / "p.jpg")
    planes = np.stack([b.read("morphology", z).astype(np.float32) for z in (0, 1)])
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(io.BytesIO(jpeg(sheet(planes, b.spec))))))


def test_a_brain_that_cannot_be_compared_stops_the_run_before_it_begins(atlas: Brain, tmp_path: Path) -> None:
    other = tiny_atlas(tmp_path / "other.zarr", canvas=(64, 96))
    watch = WatchOptions(compare_with=other.url)
    with pytest.raises(InputError, match="canvas of the brain to compare with differs"):
        generate(GenerateConfig(atlas.url, "tiny", str(tmp_path / "g.zarr"), watch=watch), tiny_source())
    assert not (tmp_path / "g.zarr").exists()


def test_a_preview_that_cannot_be_is_told_of_before_anything_is_made(atlas: Brain, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = str(tmp_path / "g.zarr")
    watch = WatchOptions(preview=str(tmp_path / "file" / "p.jpg"))
    with pytest.raises(StoreError, match=r"preview cannot be written.*Choose another --preview"):
        generate(GenerateConfig(atlas.url, "tiny", out, watch=watch), tiny_source())
    assert len(resume_brain(out).pending("morphology")) == len(shards_of(atlas))


def picture_of(brain: Brain) -> bytes:
    planes = np.stack([brain.read("morphology", z).astype(np.float32) for z in range(brain.n_sections)])
    return jpeg(sheet(planes, brain.spec))


def test_a_preview_that_fails_on_the_way_fails_the_run_once_the_store_is_made(
    atlas: Brain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = GenerateConfig(atlas.url, "tiny", str(tmp_path / "g.zarr"), steps=1)
    file = tmp_path / "p.jpg"
    lines: list[str] = []
    seen: list[Box] = []

    def fail(self: Preview, z: int, box: Box, block: object) -> None:
        seen.append(box)
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Preview, "__call__", fail)
        watch = WatchOptions(str(file), atlas.url)
        with pytest.raises(OSError, match="disk full"):
            generate(replace(config, watch=watch), tiny_source(), say=lines.append)
    assert len(seen) == 1
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "stops here" in line]
    assert "preview stops here; what is made goes on" in told and told.endswith("disk full")
    assert any("so far" in line for line in lines), "the comparison went on"
    made = open_brain(config.out)
    # The same command writes the picture that is missing, and nothing else.
    file.unlink()
    generate(replace(config, watch=WatchOptions(str(file))), tiny_source(), say=lines.append)
    assert lines[-1].endswith("up to date, nothing to do")
    assert file.read_bytes() == picture_of(made)


def test_the_last_part_s_preview_shows_what_all_parts_made(atlas: Brain, tmp_path: Path) -> None:
    config = GenerateConfig(
        atlas.url, "tiny", str(tmp_path / "g.zarr"), steps=1, watch=WatchOptions(str(tmp_path / "p.jpg"))
    )
    for part in ("1/2", "2/2"):
        made = generate(
            replace(config, hands=Hands(part=parse_part(part))), tiny_source(), say=lambda _: None
        )
    assert made.complete
    assert (tmp_path / "p.jpg").read_bytes() == picture_of(made)


def test_a_small_region_is_compared_in_smaller_tiles(atlas: Brain) -> None:
    """No tile of 64 px lies whole in it, and four of 32 px do."""
    lines: list[str] = []
    likeness = Likeness(atlas, atlas.spec, Box(32, 96, 32, 96), lines.append)
    for z, box in shards_of(atlas):
        likeness(z, box, np.full((2, *box.shape), 100, np.uint8))
    tiles = [Box(y, y + 32, x, x + 32) for y in (32, 64) for x in (32, 64)]
    tissue = [
        (z, tile) for z in (0, 1) for tile in tiles if atlas.read("expression", z, tile.coarsen(BIN_PX)).any()
    ]
    assert likeness.all.tiles == len(tissue) > 0


def test_a_complete_store_is_not_compared_and_that_is_said(atlas: Brain, tmp_path: Path) -> None:
    lines: list[str] = []
    config = GenerateConfig(atlas.url, "tiny", str(tmp_path / "g.zarr"), steps=1)
    for watch in (WatchOptions(), WatchOptions(compare_with=atlas.url)):
        generate(replace(config, watch=watch), tiny_source(), say=lines.append)
    assert "`teramind-eval report` compares what is there" in lines[-2]


def test_a_preview_is_a_jpeg_on_this_machine(atlas: Brain) -> None:
    for name in ("s3://bucket/p.jpg", "s3:/bucket/p.jpg"):
        with pytest.raises(InputError, match="preview is a local file"):
            Preview(Path(name), atlas.spec)
    with pytest.raises(
        InputError, match=r"preview is no JPEG .expected a name that ends in \.jpg, found p\.png"
    ):
        Preview(Path("p.png"), atlas.spec)
