"""Training samples against a slow twin, and their independence of everything but their key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from teramind_data.errors import InputError, MissingShardError
from teramind_data.geometry import Box
from teramind_data.store import Brain, open_brain
from teramind_model.data.batches import batch_parts, batches, make_batch
from teramind_model.data.crops import Atlas, CropSource, Geometry, Place, turn
from teramind_model.data.readers import BlockReader, CachedReader, StoreReader, memory_bytes, open_reader
from teramind_model.data.tissue import TissueIndex
from teramind_model.diffusion.objective import block_loss, training_loss
from teramind_model.network import NetworkConfig, TeraMind
from tests.model.tiny import tiny_atlas

CANVAS = (288, 320)
SECTIONS = 3
GENES = np.array([5, 0, 2], dtype=np.int64)
STAINS = np.array([1, 0])


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Brain:
    return tiny_atlas(tmp_path_factory.mktemp("crops") / "atlas.zarr", canvas=CANVAS, sections=SECTIONS)


def source_of(
    brain: Brain, patch: int = 32, gene_slices: int = 4, reader: BlockReader | None = None
) -> CropSource:
    reader = CachedReader(brain, GENES, STAINS) if reader is None else reader
    atlas = Atlas("atlas", brain.n_sections, brain.canvas, TissueIndex.of(brain), reader)
    return CropSource([atlas], Geometry(patch, gene_slices, max(1, gene_slices // 2), 2), seed=5)


def whole_crop(brain: Brain, place: Place, g: Geometry) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Image ``(k * Z, E, E)`` and counts ``(S, n, E / 16, E / 16)`` of the whole crop, molecule by molecule."""
    y, x = slice(place.y, place.y + g.crop), slice(place.x, place.x + g.crop)
    image = np.asarray(brain.morphology[:, place.section : place.section + g.image_slices, y, x])[STAINS]
    counts = np.zeros((g.gene_slices, len(GENES), g.crop // 16, g.crop // 16), np.float32)
    first = place.section - (g.gene_slices - g.image_slices) // 2
    for slot, z in enumerate(range(first, first + g.gene_slices)):
        if 0 <= z < SECTIONS:
            molecules = zip(*brain.molecules.read(z, Box(y.start, y.stop, x.start, x.stop)), strict=True)
            for my, mx, gene in molecules:
                if gene in GENES:
                    counts[slot, list(GENES).index(gene), (my - y.start) // 16, (mx - x.start) // 16] += 1
    return (image.reshape(-1, g.crop, g.crop) / 127.5 - 1).astype(np.float32), counts


@pytest.mark.parametrize(("patch", "gene_slices"), [(32, 4), (64, 1), (128, 4)])
def test_a_sample_is_the_block_of_its_whole_crop(brain: Brain, patch: int, gene_slices: int) -> None:
    source = source_of(brain, patch, gene_slices)
    g = source.geometry
    assert g.blocks == (2 if patch == 128 else 4)
    for number in range(6):
        place = source.place(np.random.default_rng(number))
        image, mask, counts = source.read(place)
        crop, bins = whole_crop(brain, place, g)
        half, g_half = patch // 2, patch // 32
        padded = np.pad(crop, ((0, 0), (half, half), (half, half)))
        inside = np.pad(np.ones_like(crop[:1]), ((0, 0), (half, half), (half, half)))
        padded_bins = np.pad(bins, ((0, 0), (0, 0), (g_half, g_half), (g_half, g_half)))
        row, column = place.block
        pixels = (..., slice(row * patch, (row + 2) * patch), slice(column * patch, (column + 2) * patch))
        b = patch // 16
        cells = (..., slice(row * b, (row + 2) * b), slice(column * b, (column + 2) * b))
        np.testing.assert_allclose(image, turn(padded[pixels], place.symmetry), atol=1e-6)
        np.testing.assert_array_equal(mask, turn(inside[pixels], place.symmetry))
        np.testing.assert_array_equal(counts, turn(padded_bins[cells], place.symmetry))


def test_its_loss_is_the_whole_crops_loss(brain: Brain) -> None:
    source = source_of(brain)
    g = source.geometry
    torch.manual_seed(0)
    network = NetworkConfig(genes=3, patch=32, channels=2, gene_widths=(4, 2, 2), time_width=8, dropout=0.0)
    model = TeraMind(network).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    place = replace(source.place(np.random.default_rng(1)), symmetry=0, block=(0, 3))
    crop, bins = whole_crop(brain, place, g)
    noise = torch.randn(1, 4, g.crop + g.patch, g.crop + g.patch)
    block = make_batch(source, 0, range(1))
    image, mask, counts = (torch.from_numpy(a)[None] for a in source.read(place))
    block = block._replace(image=image, mask=mask, counts=counts, noise=noise[..., :64, 96:160])
    t = block.t
    with torch.no_grad():
        whole = training_loss(
            model, torch.from_numpy(crop)[None], noise, torch.from_numpy(bins)[None], t, (0, 3)
        )
        ours = block_loss(model, block).total
    assert ours.item() == pytest.approx(whole.item(), rel=1e-6)


def test_readers_give_the_same_arrays(brain: Brain) -> None:
    pytest.importorskip("tensorstore")
    readers = [
        CachedReader(brain, GENES, STAINS),
        StoreReader(brain, GENES, STAINS, tensorstore=True),
        StoreReader(brain, GENES, STAINS, tensorstore=False),
    ]
    rng = np.random.default_rng(0)
    for _ in range(8):
        y, x = int(rng.integers(CANVAS[0] - 64)), int(rng.integers(CANVAS[1] - 96))
        box, sections = Box.from_shape((64, 96), (y, x)), [int(rng.integers(SECTIONS - 1)), 2]
        beyond = box.shift(-40, 30)
        for reader in readers[1:]:
            np.testing.assert_array_equal(reader.image(sections, box), readers[0].image(sections, box))
            for place in (box, beyond):
                theirs, ours = reader.counts([-1, 0, 2, 3], place), readers[0].counts([-1, 0, 2, 3], place)
                np.testing.assert_array_equal(theirs, ours)
                assert not ours[0].any()
                assert ours[1].any()


def test_a_missing_shard_is_no_background(tmp_path: Path) -> None:
    pytest.importorskip("tensorstore")
    brain = tiny_atlas(tmp_path / "atlas.zarr", canvas=(64, 64), sections=2)
    array = tmp_path / "atlas.zarr" / brain.layout("morphology").array_path(0)
    shards = sorted(file for file in (array / "c").rglob("*") if file.is_file())
    shards[0].unlink()
    for fast in (True, False):
        reader = StoreReader(open_brain(brain.url), GENES, STAINS, tensorstore=fast)
        with pytest.raises(MissingShardError):
            reader.image([0], Box(0, 32, 0, 32))


def test_an_atlas_is_held_in_memory_only_within_the_budget(brain: Brain) -> None:
    need = memory_bytes(brain, 2)
    assert need >= 2 * SECTIONS * CANVAS[0] * CANVAS[1]
    assert isinstance(open_reader(brain, GENES, STAINS, need), CachedReader)
    assert isinstance(open_reader(brain, GENES, STAINS, need - 1), StoreReader)


class Recorder:
    """A reader that notes what is asked of it."""

    def __init__(self, inner: BlockReader) -> None:
        self.inner = inner
        self.boxes: list[Box] = []

    def image(self, sections: Sequence[int], box: Box) -> NDArray[np.uint8]:
        self.boxes.append(box)
        return self.inner.image(sections, box)

    def counts(self, sections: Sequence[int], box: Box) -> NDArray[np.uint16]:
        self.boxes.append(box)
        return self.inner.counts(sections, box)


def test_only_the_block_is_read(brain: Brain) -> None:
    recorder = Recorder(CachedReader(brain, GENES, STAINS))
    source = source_of(brain, reader=recorder)
    for number in range(40):
        source.sample(0, number)
    assert max(box.height for box in recorder.boxes) <= 64
    assert max(box.width for box in recorder.boxes) <= 64
    # Blocks at the rim of the padded grid read less than a block.
    assert min(box.height for box in recorder.boxes) == 48


def test_a_sample_depends_on_its_key_alone(brain: Brain) -> None:
    first, second = source_of(brain), source_of(brain)
    ahead = [second.sample(3, n) for n in (7, 1)]
    again = [first.sample(3, n) for n in (1, 7)][::-1]
    for a, b in zip(ahead, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.noise, b.noise)
        np.testing.assert_array_equal(a.counts, b.counts)
        assert a.t == b.t
    other = first.sample(4, 7)
    assert not np.array_equal(other.noise, ahead[0].noise)
    assert not np.array_equal(first.sample(3, 8).noise, ahead[0].noise)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_workers_or_parts(brain: Brain, workers: int) -> None:
    source = source_of(brain)
    got = list(batches(source, range(2, 7), batch_parts(4, 2), workers=workers))
    assert len(got) == 5
    for step, parts in zip(range(2, 7), got, strict=True):
        whole = make_batch(source, step, range(4))
        for name in whole._fields:
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(joined, getattr(whole, name))


def test_an_error_of_a_worker_reaches_the_loop(brain: Brain) -> None:
    class Broken(Recorder):
        def image(self, sections: Sequence[int], box: Box) -> NDArray[np.uint8]:
            raise MissingShardError("gone")

    source = source_of(brain, reader=Broken(CachedReader(brain, GENES, STAINS)))
    with pytest.raises(MissingShardError, match="gone"):
        next(batches(source, range(3), batch_parts(2, 1), workers=2))


def test_tissue_bins_are_numbered_once_each() -> None:
    rng = np.random.default_rng(3)
    masks = [rng.random((37, 50)) < share for share in (0.02, 0.0, 0.9)]
    index = TissueIndex.from_masks(masks)
    listed = [index[n] for n in range(len(index))]
    expected = {(z, *map(int, bin_)) for z, mask in enumerate(masks) for bin_ in np.argwhere(mask)}
    assert len(listed) == len(set(listed))
    assert set(listed) == expected
    with pytest.raises(IndexError):
        index[len(index)]


def test_crops_hold_tissue_and_stay_on_the_canvas(brain: Brain) -> None:
    mask = np.zeros((CANVAS[0] // 16, CANVAS[1] // 16), bool)
    only = mask.copy()
    only[0, 19] = True  # in a corner of the canvas
    atlas = Atlas(
        "a",
        SECTIONS,
        CANVAS,
        TissueIndex.from_masks([mask, only, mask]),
        Recorder(CachedReader(brain, GENES, STAINS)),
    )
    source = CropSource([atlas], Geometry(32, 4, 2, 2), seed=0)
    places = [source.place(np.random.default_rng(n)) for n in range(200)]
    for place in places:
        assert 0 <= place.y <= CANVAS[0] - 128
        assert 0 <= place.x <= CANVAS[1] - 128
        assert place.y < 16
        assert place.x + 128 > 19 * 16
    # Section 1 is seen in either slot of a window, in every block and symmetry.
    assert {place.section for place in places} == {0, 1}
    assert len({place.block for place in places}) == 16
    assert {place.symmetry for place in places} == set(range(8))


def test_atlases_are_drawn_by_their_tissue(brain: Brain) -> None:
    shape = (CANVAS[0] // 16, CANVAS[1] // 16)
    small, large = np.zeros(shape, bool), np.ones(shape, bool)
    small[4:8, 4:8] = True
    reader = CachedReader(brain, GENES, STAINS)
    pair = [
        Atlas(str(i), 3, CANVAS, TissueIndex.from_masks([m] * 3), reader)
        for i, m in enumerate((small, large))
    ]
    source = CropSource(pair, Geometry(32, 4, 2, 2), seed=0)
    share = np.mean([source.place(np.random.default_rng(n)).atlas for n in range(2000)])
    assert share == pytest.approx(large.sum() / (large.sum() + small.sum()), abs=0.02)


def test_symmetries_are_eight_and_move_bins_with_pixels() -> None:
    bins = np.arange(16, dtype=np.float32).reshape(4, 4)
    pixels = np.kron(bins, np.ones((16, 16), np.float32))
    turned = [turn(bins, s) for s in range(8)]
    assert len({array.tobytes() for array in turned}) == 8
    for symmetry, small in enumerate(turned):
        np.testing.assert_array_equal(turn(pixels, symmetry), np.kron(small, np.ones((16, 16), np.float32)))


def test_what_does_not_fit_is_refused(brain: Brain) -> None:
    low = Atlas("low", 3, (240, 1024), TissueIndex.of(brain), CachedReader(brain, GENES, STAINS))
    with pytest.raises(InputError, match=r"smaller than a training crop: low \(expected at least 256 px"):
        CropSource([low], Geometry(64, 4, 2, 2), seed=0)
    with pytest.raises(InputError, match="fewer sections than a window makes"):
        source_of(brain, gene_slices=8)
