"""Nuclei written into stores: what is in labels and table, against the plain way; stopped, refused, read by others."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import Box
from teramind_data.store import Brain, Location, open_brain
from teramind_data.validate import validate
from teramind_eval.cli import app
from teramind_eval.morphometry.segmenter import DapiSection
from teramind_eval.morphometry.store import NucleiRequest, write_nuclei
from teramind_eval.morphometry.watershed import NucleiSettings, Watershed
from teramind_eval.pairs import tissue_blocks
from teramind_eval.part import Part
from tests.eval.drawn import CANVAS, PANEL, PIXEL_UM, draw_section, write_generated, write_real

_SMALL = {"chunk": 64, "shard": 128}
_BLOCKS = Watershed(NucleiSettings(block_px=96))
_DRAWN = [draw_section(seed) for seed in (11, 12)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An annotated atlas of four shards a section, and one generated from it, without nuclei."""
    root = tmp_path_factory.mktemp("plain")
    write_real(root / "C.zarr", _DRAWN, regions=True, **_SMALL)
    write_generated(root / "G.zarr", [one.image for one in _DRAWN], **_SMALL)
    return root


@pytest.fixture(scope="module")
def written(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas with nuclei."""
    path = tmp_path_factory.mktemp("written") / "C.zarr"
    shutil.copytree(plain / "C.zarr", path)
    found = write_nuclei(NucleiRequest(str(path), _BLOCKS))
    assert (found.sections, found.genes) == (2, 3)
    assert found.molecules is not None and found.molecules > 0
    return path


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
    return image[box.slices]


def _table(path: Path) -> Any:
    import anndata
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.io.read_elem(zarr.open_group(path, mode="r")["tables/nuclei_table"])


def test_labels_are_those_of_a_whole_section_at_once(written: Path) -> None:
    labels = np.asarray(open_brain(written).label("nuclei"))
    for z, one in enumerate(_DRAWN):
        section = DapiSection(partial(_cut, one.image[0]), CANVAS, PIXEL_UM)
        levels = _BLOCKS.levels(section, tissue_blocks(Part(open_brain(written)), z, _BLOCKS.block_px))
        whole = Watershed().segment(one.image[0], PIXEL_UM, levels)
        assert len(np.unique(whole)) == len(np.unique(labels[z]))
        # Numbers differ, nuclei do not: each of one has one counterpart in the other.
        pairs = {(int(a), int(b)) for a, b in zip(whole.ravel(), labels[z].ravel(), strict=True) if a or b}
        assert len(pairs) == len(np.unique(whole)) - 1
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))


def test_the_table_is_what_a_plain_loop_counts(written: Path) -> None:
    labels = np.asarray(open_brain(written).label("nuclei"))
    table = _table(written)
    counts = np.zeros(table.shape, int)
    regions = np.asarray(open_brain(written).regions)
    for z, one in enumerate(_DRAWN):
        for y, x, gene in zip(*one.molecules, strict=True):
            if labels[z, y, x]:
                counts[labels[z, y, x] - 1, gene] += 1
    assert (table.X.toarray() == counts).all()
    assert list(table.var_names) == list(PANEL)
    assert table.obs["nucleus_id"].tolist() == list(range(1, labels.max() + 1))
    for row in range(0, len(table), 7):
        obs = table.obs.iloc[row]
        z = int(obs["section"])
        y, x = np.nonzero(labels[z] == obs["nucleus_id"])
        assert obs["area_um2"] == pytest.approx(len(y) * PIXEL_UM**2)
        centre = [(x.mean() + 0.5) * PIXEL_UM, (y.mean() + 0.5) * PIXEL_UM]
        assert table.obsm["spatial"][row] == pytest.approx(centre)
        annotated = regions[z, int(y.mean() + 0.5) // 16, int(x.mean() + 0.5) // 16]
        assert obs["region"] == ("", "left", "right")[annotated]
        assert obs["section_name"] == f"s{z}"
        pixels = _DRAWN[z].image[0][y, x]
        assert obs["mean_intensity"] == pytest.approx(pixels.mean())


def test_a_margin_counts_molecules_around_a_nucleus(plain: Path, tmp_path: Path) -> None:
    from skimage.segmentation import expand_labels

    shutil.copytree(plain / "C.zarr", tmp_path / "C.zarr")
    write_nuclei(NucleiRequest(str(tmp_path / "C.zarr"), _BLOCKS, sections=(1,), expand_um=2.0))
    labels = np.asarray(open_brain(tmp_path / "C.zarr").label("nuclei"))
    assert not labels[0].any()
    grown = expand_labels(labels[1], 2.0 / PIXEL_UM)
    table = _table(tmp_path / "C.zarr")
    counts = np.zeros(table.shape, int)
    for y, x, gene in zip(*_DRAWN[1].molecules, strict=True):
        if grown[y, x]:
            counts[grown[y, x] - 1, gene] += 1
    assert (table.X.toarray() == counts).all()
    made = json.loads(str(table.uns["nuclei"]["made"]))
    assert (made["segmenter"], made["expand_um"], made["sections"]) == ("watershed", 2.0, [1])


def test_others_read_it_and_it_is_sound(written: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = spatialdata.read_zarr(written)
        assert data["nuclei"].attrs or len(data["nuclei"].children)
        table = data.tables["nuclei_table"]
        element, joined = spatialdata.match_element_to_table(data, "nuclei", "nuclei_table")
    assert element
    assert len(joined) == len(table)
    assert table.obsm["spatial"].shape == (len(table), 2)
    assert validate(str(written), deep=True) == []


def test_a_generated_store_has_counts_from_its_atlas_or_none(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "G.zarr"
    shutil.copytree(plain / "G.zarr", path)
    assert write_nuclei(NucleiRequest(str(path), _BLOCKS)).molecules is None
    alone = _table(path)
    assert alone.X is None and alone.shape[1] == 0 and len(alone) > 80
    found = write_nuclei(NucleiRequest(str(path), _BLOCKS, atlas=str(plain / "C.zarr")), overwrite=True)
    assert found.molecules == int(_table(path).X.sum()) > 0
    assert set(_table(path).obs["region"]) == {"", "left", "right"}
    assert validate(str(path)) == []


def test_a_region_without_a_name_has_its_number(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "C.zarr"
    shutil.copytree(plain / "C.zarr", path)
    monkeypatch.setattr(Brain, "region_names", {1: "left"})
    write_nuclei(NucleiRequest(str(path), _BLOCKS, sections=(1,)))
    assert set(_table(path).obs["region"]) == {"", "left", "region 2"}


@dataclass
class Stopped:
    """A segmenter that fails after some blocks, and knows how many it did."""

    most: int
    done: int = 0
    inner: Watershed = field(default_factory=lambda: _BLOCKS)

    @property
    def block_px(self) -> int:
        return self.inner.block_px

    def halo_px(self, pixel_size_um: float) -> int:
        return self.inner.halo_px(pixel_size_um)

    def levels(self, section: Any, cores: Any) -> Any:
        return self.inner.levels(section, cores)

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()

    def segment(self, image: Any, pixel_size_um: float, levels: Any) -> Any:
        if self.done == self.most:
            raise KeyboardInterrupt
        self.done += 1
        return self.inner.segment(image, pixel_size_um, levels)


def test_stopped_anywhere_it_goes_on_to_the_same(plain: Path, written: Path, tmp_path: Path) -> None:
    path = tmp_path / "C.zarr"
    shutil.copytree(plain / "C.zarr", path)
    first = Stopped(5)
    with pytest.raises(KeyboardInterrupt):
        write_nuclei(NucleiRequest(str(path), first))
    assert "nuclei" not in open_brain(path).labels
    told = 0

    def stop() -> None:
        nonlocal told
        told += 1
        if told == 20:  # 18 blocks and two shards
            raise KeyboardInterrupt

    second = Stopped(99)
    with pytest.raises(KeyboardInterrupt):
        write_nuclei(NucleiRequest(str(path), second), done=stop)
    third = Stopped(0)
    write_nuclei(NucleiRequest(str(path), third))
    assert first.done + second.done == 18
    one, other = (_files(root) for root in (path, written))
    assert one == other


def _files(root: Path) -> dict[str, bytes]:
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for part in ("labels/nuclei", "tables/nuclei_table")
        for file in sorted((root / part).rglob("*"))
        if file.is_file()
    }


def test_nothing_is_replaced_unasked(written: Path, plain: Path, tmp_path: Path) -> None:
    before = _files(written)
    with pytest.raises(OutputExistsError, match=r"labels/nuclei.*--overwrite"):
        write_nuclei(NucleiRequest(str(written), _BLOCKS, sections=(0,)))
    assert _files(written) == before
    foreign = tmp_path / "C.zarr"
    shutil.copytree(plain / "C.zarr", foreign)
    Location(foreign).write("tables/nuclei_table/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(OutputExistsError, match="is not ours"):
        write_nuclei(NucleiRequest(str(foreign), _BLOCKS))


def test_what_does_not_fit_is_named(plain: Path) -> None:
    with pytest.raises(InputError, match="atlas holds no molecules"):
        write_nuclei(NucleiRequest(str(plain / "G.zarr"), _BLOCKS, atlas=str(plain / "G.zarr")))
    with pytest.raises(InputError, match=r"no such section.*0\.\.1"):
        write_nuclei(NucleiRequest(str(plain / "C.zarr"), _BLOCKS, sections=(7,)))


def test_the_command_says_what_it_did(plain: Path, tmp_path: Path, capsys: Any) -> None:
    from teramind_data.console import run_cli

    path = tmp_path / "G.zarr"
    shutil.copytree(plain / "G.zarr", path)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            run_cli(app, ["nuclei", str(path), *words])
        told = capsys.readouterr()
        return int(left.value.code or 0), told.out, told.err

    code, out, _ = run("--section", "s1")
    assert code == 0
    assert "nuclei in 1 section\nno counts: the store has no molecules; --atlas STORE" in out
    code, _, err = run("--section", "s9")
    assert code == 2
    assert err == f"error: no such section: {path} (expected s0, s1, found s9)\n"
    code, _, err = run("--segmenter", "cellpse")
    assert code == 2 and err.startswith("error: settings of the segmenter are not usable: segmenter")
    code, out, _ = run("--atlas", str(plain / "C.zarr"), "--overwrite", "--expand-um", "1")
    assert code == 0
    assert "molecules of 3 genes in nuclei and up to 1 um around them" in out
