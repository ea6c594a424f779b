"""Regions cut out of a 3-D atlas volume: the phantom's truth, whatever the file, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from teramind_data.errors import InputError, MissingInputError
from teramind_data.ingest.annotate import Annotation, read_annotation
from teramind_data.ingest.build import ingest
from teramind_data.ingest.manifest import discover
from teramind_data.ingest.measure import Measured, measure
from teramind_data.ingest.plan import IngestConfig, make_plan
from teramind_data.phantom import PhantomConfig
from teramind_data.phantom.atlas import ATLAS_IDS
from teramind_data.store import Brain
from teramind_data.workers import Serial

DEPTH = 50.0  # half a spacing: sections lie in the middle of the atlas's planes


@pytest.fixture(scope="module")
def raw(raw_brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny brain, to which tests add volumes and manifests (each its own)."""
    return Path(shutil.copytree(raw_brain, tmp_path_factory.mktemp("atlas") / "raw"))


@pytest.fixture(scope="module")
def volume(raw: Path) -> np.ndarray:
    """The phantom's volume (AP, DV, LR) by a stranger's reader."""
    import nrrd

    data, header = nrrd.read(str(raw / "annotation" / "atlas.nrrd"))
    assert data.dtype == np.uint32
    assert header["space directions"][0][0] == 100.0
    return data


@pytest.fixture(scope="module")
def measured(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The tiny brain up to its annotation, once for all tests."""
    plan = make_plan(IngestConfig(raw=raw, out="none.zarr"))
    return measure(plan, tmp_path_factory.mktemp("scratch"), "test", Serial())


Read = Callable[..., Annotation]


@pytest.fixture
def read(raw: Path, measured: Measured, tmp_path: Path) -> Read:
    """Read the annotation of the tiny brain with an atlas block; ``sections``: more keys of a section's entry."""

    def run(atlas: dict[str, Any], sections: dict[int, dict[str, Any]] | None = None) -> Annotation:
        config = IngestConfig(raw=raw, out="none.zarr", manifest=manifest_of(raw, tmp_path, atlas, sections))
        found = read_annotation(dataclasses.replace(measured, plan=make_plan(config)), tmp_path, Serial())
        assert found is not None
        return found

    return run


def manifest_of(
    raw: Path, folder: Path, atlas: dict[str, Any], sections: dict[int, dict[str, Any]] | None = None
) -> Path:
    plain = discover(raw).to_plain()
    plain.pop("regions", None)
    plain["atlas"] = {"names": "annotation/structures.csv", "depth_um": DEPTH, **atlas}
    for index, more in (sections or {}).items():
        plain["sections"][index].update(more)
    file = folder / "manifest.yaml"
    file.write_text(yaml.safe_dump(plain))
    return file


def ids(annotation: Annotation) -> np.ndarray:
    """The ids of all bins, through the labels that a store would hold."""
    rows = {row["label"]: row["id"] for row in annotation.attributes()["structures"]}
    planes = [
        annotation.legend.encode(section.rows.read(0, section.rows.shape[0]))
        for section in annotation.sections
    ]
    return np.vectorize(lambda label: rows.get(label, 0), otypes=[np.uint32])(np.stack(planes))


def truth(raw: Path) -> np.ndarray:
    return np.array(ATLAS_IDS, np.uint32)[tifffile.imread(raw / "annotation" / "regions.tif")]


def test_regions_of_the_phantoms_volume_are_its_truth(raw: Path, tmp_path: Path, ingested: Brain) -> None:
    manifest = manifest_of(raw, tmp_path, {"volume": "annotation/atlas.nrrd"})
    _, brain = ingest(IngestConfig(raw=raw, out=str(tmp_path / "A.zarr"), manifest=manifest))
    # Ids of up to 5e8 became small labels, in the order of the ids, with names and acronyms.
    assert sorted(brain.region_names) == list(range(9))
    assert list(brain.region_names.values()) == list(ingested.region_names.values())
    np.testing.assert_array_equal(np.asarray(brain.regions), np.asarray(ingested.regions))
    row = next(row for row in brain.image_attrs("regions")["structures"] if row["name"] == "thalamus")
    assert row["acronym"] == "TH"
    assert row["id"] == ATLAS_IDS[5] > 65535
    assert all(section.qc["transcripts_in_regions"] > 0.9 for section in brain.sections)
    files = {item["path"] for item in brain.provenance["inputs"]}
    assert {"annotation/atlas.nrrd", "annotation/structures.csv"} <= files


def nrrd_of(
    path: Path, data: np.ndarray, edges: tuple[float, float, float], encoding: str, **more: Any
) -> None:
    import nrrd

    header = {"space directions": np.diag(edges), "encoding": encoding, "space origin": np.zeros(3), **more}
    nrrd.write(str(path), data, header)


def edges_of(config: PhantomConfig) -> tuple[float, float, float]:
    edge = config.pixel_size_um * 16
    return config.spacing_um, edge, edge


KINDS = ["raw", "gzip", "bzip2", "big", "int64", "turned", "nii", "nii.gz", "tif", "tif-turned"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_of_the_same_volume(
    raw: Path, volume: np.ndarray, read: Read, tiny: PhantomConfig, kind: str
) -> None:
    edges = edges_of(tiny)
    more: dict[str, Any] = {}
    name = f"annotation/{kind.replace('.', '_')}.nrrd"
    if kind in ("raw", "gzip", "bzip2"):
        nrrd_of(raw / name, volume, edges, kind)
    elif kind == "big":
        nrrd_of(raw / name, volume.astype(">u4"), edges, "raw", endian="big")
    elif kind == "int64":
        nrrd_of(raw / name, volume.astype(np.int64), edges, "gzip")
    elif kind == "turned":
        # (LR, DV, AP), running left, inferior, anterior; in mm.
        other = volume.transpose(2, 1, 0)[::-1, :, ::-1]
        nrrd_of(
            raw / name, np.ascontiguousarray(other), tuple(e / 1e3 for e in edges[::-1]), "gzip",
            **{"space units": ["mm"] * 3},
        )  # fmt: skip
        more["orientation"] = "LIA"
    elif kind.startswith("nii"):
        import nibabel

        name = f"annotation/atlas.{kind}"
        # (LR, AP, DV) running right, anterior, superior, as NIfTI likes them; mm.
        other = volume.transpose(2, 0, 1)[:, ::-1, ::-1]
        affine = np.diag([edges[2] / 1e3, edges[0] / 1e3, edges[1] / 1e3, 1.0])
        affine[:3, 3] = (-1.7, 2.0, 3.0)  # where it says it lies does not count
        image = nibabel.Nifti1Image(other.astype(np.int32), affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, raw / name)
    elif kind == "tif":
        name = "annotation/atlas.tif"
        tifffile.imwrite(raw / name, volume, compression="zlib", photometric="minisblack")
        more["voxel_um"] = list(edges)
    else:
        name = "annotation/turned.tif"
        tifffile.imwrite(raw / name, volume.transpose(1, 2, 0)[::-1], photometric="minisblack")
        more |= {"voxel_um": [edges[1], edges[2], edges[0]], "orientation": "SRP"}
    np.testing.assert_array_equal(ids(read({"volume": name, **more})), truth(raw))


def slow_twin(pixel: float, volume: np.ndarray, matrix: np.ndarray, depths: list[float]) -> np.ndarray:
    """Bin by bin: where its centre lies in an atlas of 10 um."""
    out = np.zeros((2, 16, 32), np.uint32)
    for z, depth in enumerate(depths):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                place = np.array([(16 * j + 7.5) * pixel, (16 * i + 7.5) * pixel, depth, 1.0])
                at = np.floor(matrix @ place / 10.0).astype(int)
                if (at >= 0).all() and (at < volume.shape).all():
                    out[z, i, j] = volume[tuple(at)]
    return out


@pytest.fixture(scope="module")
def fine(raw: Path) -> tuple[np.ndarray, str]:
    """A CCF-like volume of isotropic voxels of 10 um and random ids, none of which is next to itself."""
    rng = np.random.default_rng(5)
    data = rng.choice(np.array(ATLAS_IDS[1:], np.uint32), (70, 16, 26))
    nrrd_of(
        raw / "annotation" / "fine.nrrd", data, (10.0, 10.0, 10.0), "gzip", space="left-posterior-superior"
    )
    return data, "annotation/fine.nrrd"


@pytest.mark.parametrize("oblique", [False, True])
def test_planes_straight_and_oblique(
    fine: tuple[np.ndarray, str], read: Read, tiny: PhantomConfig, oblique: bool
) -> None:
    data, name = fine
    matrix = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], float)
    more: dict[str, Any] = {"depth_um": 303.0}
    if oblique:
        matrix = np.array([[0.31, -0.2, 1.0, -0.020], [0.05, 0.9, 0.0, 0.004], [1.1, 0, 0, -0.012]])
        more["matrix"] = matrix.tolist()
    found = ids(read({"volume": name, **more}, {1: {"atlas_depth_um": 555.0}}))
    in_um = matrix * [1, 1, 1, 1e3]
    wanted = slow_twin(tiny.pixel_size_um, data, in_um, [303.0, 555.0])
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(wanted)) > 5
    assert ((wanted == 0).mean() > 0) == oblique


def test_a_registration_that_tells_its_depth(
    raw: Path, fine: tuple[np.ndarray, str], read: Read, tiny: PhantomConfig
) -> None:
    """Registrations as ABBA writes them, axes permuted, the slices leaning: the volume is cut where they lie."""
    data, name = fine
    lean = (-0.4, 0.3)  # of AP by x (LR) and y (DV)
    for index, at in enumerate((0.303, 0.555)):
        folder = raw / f"section_00{index}"
        whole = json.loads(next(folder.glob("ABBA-Transform-*.json")).read_text())
        first = {"affinetransform3d": [0, 0, 1, 0, 0, 1, 0, 0, 1, -lean[1], -lean[0], -at]}
        both = {
            "type": "RealTransformSequence",
            "size": 2,
            "realTransform_0": first,
            "realTransform_1": whole,
        }
        (folder / "leaning.json").write_text(json.dumps(both))
    leaning = {"registration": {"file": "leaning.json"}}
    found = ids(read({"volume": name}, {0: leaning, 1: leaning}))
    leans = np.array([[*lean, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], float)
    wanted = slow_twin(tiny.pixel_size_um, data, leans, [303.0, 555.0])
    np.testing.assert_array_equal(found, wanted)
    # What a person says of a section goes before it.
    flat = ids(read({"volume": name}, {0: leaning, 1: {**leaning, "atlas_depth_um": 400.0}}))
    straight = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], float)
    np.testing.assert_array_equal(flat[0], wanted[0])
    np.testing.assert_array_equal(flat[1], slow_twin(tiny.pixel_size_um, data, straight, [0.0, 400.0])[1])


def test_blocks_do_not_show(
    fine: tuple[np.ndarray, str], read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    from teramind_data.ingest import annotate, atlas

    matrix = [[0.31, -0.2, 1.0, -0.020], [0.05, 0.9, 0.0, 0.004], [1.1, 0.0, 0.0, -0.012]]
    block = {"volume": fine[1], "depth_um": 303.0, "matrix": matrix}
    whole = ids(read(block))
    monkeypatch.setattr(atlas, "_BLOCK", 5)
    monkeypatch.setattr(atlas, "_CHUNK", 8)
    monkeypatch.setattr(atlas, "_MOST_VOXELS", 10)
    monkeypatch.setattr(annotate, "_ROWS", 3)
    np.testing.assert_array_equal(ids(read(block)), whole)


def test_structure_graph_and_ids_without_a_name(raw: Path, fine: tuple[np.ndarray, str], read: Read) -> None:
    names = [{"id": number, "acronym": f"R{k}", "name": f"region {k}", "children": []} for k, number in
             enumerate(ATLAS_IDS[1:7], 1)]  # fmt: skip
    root = {"id": 997, "acronym": "root", "name": "root", "children": names}
    graph = raw / "annotation" / "graph.json"
    graph.write_text(json.dumps({"success": True, "msg": [root]}))
    block = {"volume": fine[1], "names": "annotation/graph.json", "depth_um": 303.0}
    found = read(block)
    lost = ATLAS_IDS[7:]
    note = next(line for line in found.notes(("a", "b")) if "not in the table" in line)
    assert all(str(number) in note for number in lost)
    rows = {row["id"]: row for row in found.attributes()["structures"]}
    # root is 1, then the others by id; those without a name come after all that have one.
    assert rows[997]["label"] == 1
    assert [rows[number]["label"] for number in ATLAS_IDS[1:]] == list(range(2, 10))
    assert rows[lost[0]]["name"] == f"region {lost[0]}"
    assert rows[ATLAS_IDS[1]]["acronym"] == "R1"


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ("orientation", {"orientation": "PIP"}, {}, ("orientation", "PIP", "PIR")),
    ("voxel size", {"voxel_um": 25.0}, {}, ("voxel size", "100 x 6.912 x 6.912 um", "25 x 25 x 25 um")),
    ("axes of another order", {"orientation": "IRP"}, {"z_um": 900.0}, ("section_001", "outside the atlas volume")),
    ("depth", {}, {"z_um": 900.0}, ("section_001", "outside the atlas volume", "AP within 0 .. 200 um")),
    ("own depth", {}, {"atlas_depth_um": -30.0}, ("section_001", "outside the atlas volume")),
    ("origin", {"origin_um": [0.0, 0.0, 9000.0]}, {}, ("section_000", "LR within", "outside the atlas volume")),
    ("no volume", {"volume": "annotation/none.nrrd"}, {}, ("annotation not found", "none.nrrd")),
    ("no kind", {"volume": "annotation/regions.csv"}, {}, ("unknown kind", ".nrrd")),
    ("out of the folder", {"volume": "../atlas.nrrd"}, {}, ("leads out",)),
    ("names", {"names": "annotation/regions.tif"}, {}, ("region names are not readable",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("atlas", "section", "words"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED]
)
def test_refused_before_the_store_is_begun(
    read: Read, atlas: dict[str, Any], section: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises((InputError, MissingInputError)) as caught:
        read({"volume": "annotation/atlas.nrrd", **atlas}, {1: section})
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_wrong_header_and_a_cut_file(
    raw: Path, volume: np.ndarray, read: Read, tiny: PhantomConfig
) -> None:
    import nibabel

    whole = (raw / "annotation" / "atlas.nrrd").read_bytes()
    cut = raw / "annotation" / "cut.nrrd"
    cut.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"truncated or damaged: .*cut\.nrrd"):
        read({"volume": "annotation/cut.nrrd"})
    cut.write_bytes(whole[:-6] + bytes(6))  # the checksum at its end
    with pytest.raises(InputError, match=r"truncated or damaged: .*cut\.nrrd"):
        read({"volume": "annotation/cut.nrrd"})
    edges = edges_of(tiny)
    affine = np.diag([edges[0] / 1e3, edges[1] / 1e3, edges[2] / 1e3, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.int32), affine), raw / "annotation" / "ras.nii")
    block = {"volume": "annotation/ras.nii", "orientation": "PIR"}
    with pytest.raises(InputError, match="not the one its file tells.*expected RAS, found PIR"):
        read(block)
    tifffile.imwrite(raw / "annotation" / "bare.tif", volume.astype(np.float32), photometric="minisblack")
    with pytest.raises(InputError, match="does not tell the size of its voxels"):
        read({"volume": "annotation/bare.tif"})
    half = (volume + 0.5).astype(np.float32)
    tifffile.imwrite(raw / "annotation" / "half.tif", half % 100, photometric="minisblack")
    with pytest.raises(InputError, match="no whole numbers"):
        read({"volume": "annotation/half.tif", "voxel_um": list(edges)})


def test_a_volume_that_lies_wrong_is_noticed(read: Read, tiny: PhantomConfig) -> None:
    edge = edges_of(tiny)[1]
    block = {"volume": "annotation/atlas.nrrd", "origin_um": [0.0, 0.0, 20 * edge]}
    assert any("of its transcripts lie in a region" in line for line in read(block).notes(("a", "b")))


def test_without_the_library(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nrrd", None)
    with pytest.raises(MissingInputError, match=r"pynrrd is not installed.*teramind-data\[atlas\]"):
        read({"volume": "annotation/atlas.nrrd"})
