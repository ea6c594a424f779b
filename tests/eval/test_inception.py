"""The Inception network against one written out over TensorFlow's names, and its weights from files good and bad."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError, MissingInputError
from teramind_eval.metrics import inception_weights
from teramind_eval.metrics.inception_weights import PUBLISHED, Published, find_weights, read_weights
from tests.eval import plain_inception

torch = pytest.importorskip("torch")
from teramind_eval.metrics.inception import Inception, InceptionFeatures  # noqa: E402 - it needs torch


@pytest.fixture(scope="module")
def table() -> plain_inception.Table:
    """Random weights under NVIDIA's names."""
    return plain_inception.random_table(1)


@pytest.fixture(scope="module")
def archive(table: plain_inception.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """They as a TorchScript file."""
    path = tmp_path_factory.mktemp("inception") / "inception.pt"
    plain_inception.save_torchscript(table, path)
    return path


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_names_and_shapes_are_torchvisions() -> None:
    with torch.device("meta"):
        network = Inception()
    shapes = {name: tuple(one.shape) for name, one in network.state_dict().items()}
    by_hand = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_5d.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_6d.branch1x1.conv.weight": (192, 768, 1, 1),
        "Mixed_6e.branch7x7dbl_5.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.bn.weight": (192,),
        "Mixed_7b.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch1x1.conv.weight": (320, 2048, 1, 1),
    }
    assert {name: shapes[name] for name in by_hand} == by_hand
    # torchvision's inception_v3 has 23,834,568 parameters without its auxiliary head; 2048 x 1000 + 1000 are its end.
    assert sum(one.numel() for one in network.parameters()) == 23_834_568 - 2_049_000
    assert len([name for name in shapes if name.endswith("conv.weight")]) == 94


def test_features_equal_the_network_written_out(table: plain_inception.Table, archive: Path) -> None:
    rng = np.random.default_rng(2)
    tiles = [rng.integers(0, 256, (3, 299, 299), dtype=np.uint8) for _ in range(2)]
    found = InceptionFeatures(read_weights(find_weights(str(archive), _sha256(archive))), "cpu")(tiles)
    inputs = torch.from_numpy(np.stack(tiles).astype(np.float64)) / 127.5 - 1
    pooled, spatial = (one.numpy() for one in plain_inception.features(table, inputs))
    assert found.pooled.shape == (2, 2048)
    assert found.spatial.shape == (2, 2023) == (2, 7 * 17 * 17)
    assert pooled.std() > 0.05
    assert spatial.std() > 0.05
    assert np.abs(found.pooled - pooled).max() < 1e-4 * pooled.max()
    assert np.abs(found.spatial - spatial).max() < 1e-4 * spatial.max()


@pytest.mark.parametrize("edge", [256, 400])
def test_tiles_are_resized_as_pillow_does_it(edge: int) -> None:
    from PIL import Image

    with torch.device("meta"):
        network = Inception()
    features = InceptionFeatures(
        {name: torch.zeros_like(one, device="cpu") for name, one in network.state_dict().items()}
    )
    tile = np.random.default_rng(3).integers(0, 256, (3, edge, edge - 16), dtype=np.uint8)
    found = features._prepared(tile)[0].numpy()
    for channel, pixels in zip(found, tile, strict=True):
        sized = Image.fromarray(pixels.astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
        assert channel == pytest.approx(np.clip(np.asarray(sized), 0, 255) / 127.5 - 1, abs=1e-4)


def test_a_torchvision_file_is_read_with_its_heads_left_out(tmp_path: Path) -> None:
    with torch.device("meta"):
        wanted = Inception().state_dict()
    held = {
        name: torch.full(one.shape, index, dtype=torch.float16)
        for index, (name, one) in enumerate(wanted.items())
        if not name.endswith("num_batches_tracked")
    }
    more = {"fc.weight": torch.zeros(1008, 2048), "AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1)}
    path = tmp_path / "inception.pth"
    torch.save(held | more, path)
    found = read_weights(find_weights(str(path), _sha256(path)))
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], value.float()) for name, value in held.items())


def test_missing_weights_say_how_to_fetch_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for given in ("cache", str(tmp_path / "none.pth")):
        with pytest.raises(
            MissingInputError, match=r"no Inception weights: .*\.pth\. Nothing is fetched"
        ) as error:
            find_weights(given)
        assert f"curl -L --create-dirs -o {tmp_path}/teramind/{PUBLISHED[0].name} https://" in str(
            error.value
        )
    assert list(tmp_path.iterdir()) == []


def test_a_published_file_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "teramind" / "known.pt"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    known = Published("known.pt", "https://example.org/known.pt", _sha256(path))
    monkeypatch.setattr(inception_weights, "PUBLISHED", (*PUBLISHED, known))
    found = find_weights("cache")
    assert (found.path, found.sha256, found.published) == (path, known.sha256, True)


def test_pins_are_whole_and_agree_with_the_names() -> None:
    assert all(len(one.sha256) == 64 and one.url.endswith(one.name) for one in PUBLISHED)
    assert PUBLISHED[0].name == f"pt_inception-2015-12-05-{PUBLISHED[0].sha256[:8]}.pth"


def test_other_weights_are_taken_by_their_hash_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"other")
    with pytest.raises(InputError, match="not the published Inception weights") as error:
        find_weights(str(path))
    assert f"--inception-sha256 {_sha256(path)}" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="expected SHA-256 0000"):
        find_weights(str(path), "0" * 64)
    assert find_weights(str(path), _sha256(path)).published is False


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("run",))


@pytest.mark.parametrize("what", ["text", "pickle", "list", "little", "shape", "torchscript"])
def test_files_that_are_no_inception_are_named(
    tmp_path: Path, what: str, table: plain_inception.Table
) -> None:
    path = tmp_path / "bad.pth"
    if what == "text":
        path.write_text("<html>not found</html>")
    elif what == "torchscript":
        plain_inception.save_torchscript({"layers.conv.weight": torch.zeros(1)}, path)
    else:
        shapes = {"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}
        content = {
            "pickle": _Evil(),
            "list": [1, 2],
            "little": {"fc.weight": torch.zeros(1)},
            "shape": shapes,
        }
        torch.save(content[what], path)
    with pytest.raises(InputError, match=r"holds no Inception network: .*bad\.pth") as error:
        read_weights(find_weights(str(path), _sha256(path)))
    assert "\n" not in str(error.value)
