"""Cellpose behind the adapter: names, files, arguments of both ages. How well it finds nuclei: `test_cellpose_learns`.

Version 3.1 is installed and run. Version 4 cannot be installed beside it (it needs torchvision): a stand-in module with
its documented signatures takes its place, which tells whether the arguments fit, not whether the network works.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from teramind_data.errors import InputError, MissingInputError, StoreError
from teramind_data.geometry import Box
from teramind_eval.config import NucleiConfig
from teramind_eval.morphometry import cellpose_segmenter, cellpose_weights
from teramind_eval.morphometry.cellpose_segmenter import Cellpose, load_network
from teramind_eval.morphometry.cellpose_weights import find_weights
from teramind_eval.morphometry.segment import find_nuclei
from teramind_eval.morphometry.segmenter import DapiSection
from tests.eval.drawn import PIXEL_UM, draw_nuclei

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of Cellpose's, and no network kept from another test."""
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path / "cache"))
    load_network.cache_clear()
    yield tmp_path / "cache"
    load_network.cache_clear()


def _version(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setattr(cellpose_weights, "version", lambda name: number)


def _file(path: Path, *tensors: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: torch.zeros(3) for name in tensors}, path)
    return path


@pytest.mark.parametrize(
    ("installed", "model", "what"),
    [
        (
            "3.1.1.3",
            "cyto9",
            r"no such network: --cellpose-model \(expected nuclei or cyto3 .*, or a file, found cyto9\)",
        ),
        (
            "4.0.7",
            "cyto9",
            r"no such network: --cellpose-model \(expected cpsam .*, or a file, found cyto9\)",
        ),
        ("3.1.1.3", "cpsam", r"network cpsam is of Cellpose 4.*nuclei or cyto3.*3\.1\.1\.3 installed"),
        ("4.0.7", "cyto3", r"network cyto3 is of Cellpose 3.*expected cpsam.*4\.0\.7 installed"),
        ("2.2", "nuclei", r"Cellpose of another age.*found 2\.2"),
    ],
)
def test_names_that_an_age_does_not_have(
    monkeypatch: pytest.MonkeyPatch, installed: str, model: str, what: str
) -> None:
    _version(monkeypatch, installed)
    with pytest.raises(InputError, match=what) as error:
        find_weights(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("installed", "model", "file", "url"),
    [
        ("3.1.1.3", None, "nucleitorch_0", "https://www.cellpose.org/models/nucleitorch_0"),
        ("3.1.1.3", "cyto3", "cyto3", "https://www.cellpose.org/models/cyto3"),
        ("4.0.7", None, "cpsam", "https://huggingface.co/mouseland/cellpose-sam/resolve/main/cpsam"),
    ],
)
def test_weights_that_are_not_here_are_told_in_one_line_and_never_fetched(
    monkeypatch: pytest.MonkeyPatch, cache: Path, installed: str, model: str | None, file: str, url: str
) -> None:
    _version(monkeypatch, installed)
    with pytest.raises(MissingInputError) as error:
        find_weights(model)
    assert f"{cache / file}. Download {url} and put it there, or give --cellpose-model FILE" in str(
        error.value
    )
    assert not cache.exists()
    _file(cache / file, "output.2.weight" if installed < "4" else "W2")
    found = find_weights(model)
    assert (found.path, found.version) == (cache / file, installed)
    assert found.sha256 == hashlib.sha256((cache / file).read_bytes()).hexdigest()


def test_without_cellpose_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise cellpose_weights.PackageNotFoundError(name)

    monkeypatch.setattr(cellpose_weights, "version", missing)
    with pytest.raises(MissingInputError, match=r"pip install 'teramind-eval\[cellpose\]'.*watershed"):
        NucleiConfig(segmenter="cellpose").build()


def test_files_that_are_no_network_of_the_installed_age(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _version(monkeypatch, "3.1.1.3")
    new = _file(tmp_path / "new", "W2", "encoder.weight")
    with pytest.raises(
        InputError, match=r"expected weights of Cellpose 3\.1\.1\.3, found weights of Cellpose 4"
    ):
        find_weights(str(new))
    with pytest.raises(InputError, match="found something else"):
        find_weights(str(_file(tmp_path / "other", "weight")))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(InputError, match=r"text\.pt \(expected a state dict"):
        find_weights(str(tmp_path / "text.pt"))
    with pytest.raises(MissingInputError, match=r"gone\.pt"):
        find_weights(str(tmp_path / "gone.pt"))


def test_a_file_that_would_run_code_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "boom").write_text, ("ran",))

    _version(monkeypatch, "3.1.1.3")
    torch.save({"output.2.weight": Bomb()}, tmp_path / "bomb")
    (tmp_path / "plain").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb", "plain"):
        with pytest.raises(InputError, match="cannot be read"):
            find_weights(str(tmp_path / name))
    assert not (tmp_path / "boom").exists()


def test_options_of_cellpose_are_for_cellpose() -> None:
    with pytest.raises(ValueError, match="--segmenter cellpose"):
        NucleiConfig(cellpose_model="nuclei")


class _Stand:
    """What both ages' `CellposeModel` looks like from outside: it finds everything above the middle of the window."""

    def __init__(self, gpu: bool = False, pretrained_model: Any = "cpsam", **others: Any) -> None:
        self.pretrained_model = pretrained_model
        self.calls: list[dict[str, Any]] = []

    def _found(self, x: np.ndarray, given: dict[str, Any]) -> tuple[np.ndarray, list[Any], np.ndarray]:
        from skimage.measure import label

        self.calls.append({"x": x, **given})
        masks = label(x > 0.5)
        masks[(np.bincount(masks.ravel()) < given["min_size"])[masks]] = 0
        return masks.astype(np.uint16), [], np.zeros(0)


class _Stand3(_Stand):
    def eval(self, x: Any, batch_size: int = 8, resample: bool = True, channels: Any = None,
             channel_axis: Any = None, z_axis: Any = None, normalize: Any = True, invert: bool = False,
             rescale: Any = None, diameter: Any = None, flow_threshold: float = 0.4,
             cellprob_threshold: float = 0.0, do_3D: bool = False, anisotropy: Any = None,
             flow3D_smooth: int = 0, stitch_threshold: float = 0.0, min_size: int = 15,
             max_size_fraction: float = 0.4, niter: Any = None, augment: bool = False,
             tile_overlap: float = 0.1, bsize: int = 224, interp: bool = True, compute_masks: bool = True,
             progress: Any = None) -> Any:  # fmt: skip
        assert channels == [0, 0]
        return self._found(x, {"normalize": normalize, "diameter": diameter, "min_size": min_size})


class _Stand4(_Stand):
    def eval(self, x: Any, batch_size: int = 8, resample: bool = True, channels: Any = None,
             channel_axis: Any = None, z_axis: Any = None, normalize: Any = True, invert: bool = False,
             rescale: Any = None, diameter: Any = None, flow_threshold: float = 0.4,
             cellprob_threshold: float = 0.0, do_3D: bool = False, anisotropy: Any = None,
             flow3D_smooth: int = 0, stitch_threshold: float = 0.0, min_size: int = 15,
             max_size_fraction: float = 0.4, niter: Any = None, augment: bool = False,
             tile_overlap: float = 0.1, bsize: int = 256, compute_masks: bool = True,
             progress: Any = None) -> Any:  # fmt: skip
        # Given, it would only warn.
        assert channels is None
        return self._found(x, {"normalize": normalize, "diameter": diameter, "min_size": min_size})


def _installed(monkeypatch: pytest.MonkeyPatch, number: str, model: type[_Stand]) -> None:
    _version(monkeypatch, number)
    package, models = ModuleType("cellpose"), ModuleType("cellpose.models")
    models.CellposeModel = model  # type: ignore[attr-defined]
    package.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cellpose", package)
    monkeypatch.setitem(sys.modules, "cellpose.models", models)


@pytest.mark.parametrize(
    ("number", "model", "name", "file", "mark"),
    [
        ("3.1.1.3", _Stand3, "nuclei", "nucleitorch_0", "output.2.weight"),
        ("4.0.7", _Stand4, "cpsam", "cpsam", "W2"),
    ],
)
def test_both_ages_are_called_as_they_want_it(
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    number: str,
    model: type[_Stand],
    name: str,
    file: str,
    mark: str,
) -> None:
    _installed(monkeypatch, number, model)
    _file(cache / file, mark)
    segmenter = NucleiConfig(segmenter="cellpose", cellpose_model=name, nucleus_um=8.0).build()
    image, truth = draw_nuclei(0, (200, 200), 30)
    nuclei = find_nuclei(lambda box: image[box.slices], image.shape, PIXEL_UM, segmenter)
    assert 0.5 * len(truth) < len(nuclei) <= len(truth) + 3
    (call,) = load_network(cache / file, int(number[0])).calls
    assert call["normalize"] is False
    assert call["diameter"] == pytest.approx(8.0 / PIXEL_UM)
    assert call["min_size"] == round(14 / PIXEL_UM**2)
    # The section's 1st and 99th percentile are 0 and 1, and nothing is cut off.
    low, high = np.percentile(image, [1, 99], method="inverted_cdf").astype(float)
    assert call["x"] == pytest.approx((image - low) / (high - low))
    said = segmenter.describe()
    assert (said["segmenter"], said["cellpose"], said["model"]) == ("cellpose", number, name)
    assert said["weights_sha256"] == hashlib.sha256((cache / file).read_bytes()).hexdigest()


def test_another_network_taken_in_silence_is_noticed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    class Silent(_Stand4):
        def __init__(self, **given: Any) -> None:
            super().__init__(pretrained_model="somewhere/cpsam")

    _installed(monkeypatch, "4.0.7", Silent)
    _file(cache / "cpsam", "W2")
    segmenter = NucleiConfig(segmenter="cellpose").build()
    with pytest.raises(StoreError, match="another network than it was given"):
        segmenter.segment(np.arange(64, dtype=np.uint8).reshape(8, 8), PIXEL_UM, (0.0, 9.0))


def test_the_window_is_the_sections_and_not_the_blocks(cache: Path) -> None:
    image = np.random.default_rng(0).integers(0, 200, (64, 96)).astype(np.uint8)
    section = DapiSection(lambda box: image[box.slices], image.shape, PIXEL_UM)
    segmenter = Cellpose(cellpose_weights.Weights(cache / "none", None, "3.1.1.3"))
    whole = segmenter.levels(section, [Box(0, 64, 0, 96)])
    assert segmenter.levels(section, [Box(0, 64, 0, 32), Box(0, 64, 32, 96)]) == whole
    assert (segmenter.segment(image[:8, :8], PIXEL_UM, (7.0, 7.0)) == 0).all()


def test_the_stand_ins_have_the_installed_signature() -> None:
    models = pytest.importorskip(
        "cellpose.models", reason="Cellpose is not installed: its signature is unknown"
    )
    real, stand = (inspect.signature(one.eval) for one in (models.CellposeModel, _Stand3))
    assert list(real.parameters) == list(stand.parameters)
    assert [p.default for p in real.parameters.values()] == [p.default for p in stand.parameters.values()]


def test_an_untrained_network_runs(tmp_path: Path) -> None:
    models = pytest.importorskip("cellpose.models", reason="Cellpose is not installed")
    torch.manual_seed(0)
    models.CellposeModel(gpu=False, pretrained_model=False).net.save_model(str(tmp_path / "mine"))
    segmenter = NucleiConfig(segmenter="cellpose", cellpose_model=str(tmp_path / "mine")).build()
    image = draw_nuclei(0, (64, 64), 4)[0]
    labels = segmenter.segment(image, PIXEL_UM, (10.0, 200.0))
    assert labels.shape == image.shape
    assert labels.dtype == np.int32
    assert segmenter.describe()["model"] == "mine"
    assert cellpose_segmenter.NUCLEUS_UM == 9.0
    assert segmenter.describe()["diameter_um"] is None
