"""Inception weights from a file that is known: where it lies, whether it is the published one, and what is in it.

Nothing is downloaded. A file is read when its SHA-256 is that of a published one, or the one that the user names: a
network with other weights gives other distances, and a stranger's file is never opened. Two layouts are known:
torchvision's names (also pytorch-fid's and torch-fidelity's), and NVIDIA's TorchScript, which the paper's code uses.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teramind_data.errors import InputError, MissingInputError

if TYPE_CHECKING:
    from torch import Tensor

    from teramind_eval.metrics.inception import InceptionFeatures

#: What `--inception` says to take the file from the cache folder.
CACHED = "cache"


@dataclass(frozen=True, slots=True)
class Published:
    """A file of FID's weights."""

    name: str
    url: str
    sha256: str


#: Both hold the network of 2015-12-05; the first is the smaller download and opens without TorchScript.
PUBLISHED = (
    Published(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    Published(
        "inception-2015-12-05.pt",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    ),
)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights that may be opened: where it is, its SHA-256, and whether it is a published one."""

    path: Path
    sha256: str
    published: bool

    def open(self, device: str = "auto") -> InceptionFeatures:
        """The network with these weights; see `read_weights` for what may be wrong with them."""
        weights = read_weights(self)
        from teramind_eval.metrics.inception import InceptionFeatures

        return InceptionFeatures(weights, device)


def cache_folder() -> Path:
    """Where weights are looked for: `teramind` in `$XDG_CACHE_HOME`, or in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "teramind"


def find_weights(given: str, accept_sha256: str | None = None) -> WeightsFile:
    """The file that `--inception` names (or `"cache"`), checked to be a published one or the one accepted.

    Raises
    ------
    MissingInputError
        where it is not there; with the command that fetches it.
    InputError
        where its SHA-256 is another.
    """
    if given == CACHED:
        paths = [cache_folder() / one.name for one in PUBLISHED]
        path = next((one for one in paths if one.is_file()), paths[0])
    else:
        path = Path(given)
    if not path.is_file():
        raise MissingInputError(
            "Inception weights are a file, this is a folder" if path.is_dir() else "no Inception weights",
            where=path,
            remedy=f"Nothing is fetched unasked; {_fetch(PUBLISHED[0])}",
        )
    found = _sha256(path)
    if found == accept_sha256 or any(found == one.sha256 for one in PUBLISHED):
        return WeightsFile(path, found, any(found == one.sha256 for one in PUBLISHED))
    raise InputError(
        "not the published Inception weights",
        where=path,
        expected=f"SHA-256 {accept_sha256 or PUBLISHED[0].sha256}",
        found=found,
        remedy=f"{_fetch(PUBLISHED[0])}; if these weights are meant, add --inception-sha256 {found}",
    )


def _fetch(published: Published) -> str:
    target = cache_folder() / published.name
    return f"fetch them with: curl -L --create-dirs -o {target} {published.url} and give --inception {CACHED}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(file: WeightsFile) -> dict[str, Tensor]:
    """Tensors under the names of `inception.Inception`, float32.

    Raises
    ------
    InputError
        where torch is missing, or the file does not hold that network.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError(
            "FID and KID need torch", where="--inception", remedy="pip install 'teramind-eval[fid]'"
        ) from None
    from teramind_eval.metrics.inception import Inception

    with torch.device("meta"):
        wanted = Inception().state_dict()
    held = _plain_names(_tensors(file.path))
    # A layer's parameters are all there or the file is another network's; only counters of training may lack.
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    lacking = [name for name in wanted if name not in counters and name not in held]
    other = [name for name, one in held.items() if name in wanted and one.shape != wanted[name].shape]
    if lacking or other:
        raise _no_inception(
            file.path, f"no {lacking[0]}" if lacking else f"{other[0]} {tuple(held[other[0]].shape)}"
        )
    zero = torch.zeros((), dtype=torch.int64)
    return {name: zero if name in counters else held[name].float().contiguous() for name in wanted}


def _tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a state dict, or of a TorchScript archive, by name."""
    import torch

    try:
        found: Any
        if _is_torchscript(path):
            with warnings.catch_warnings():
                # torch would have such files exported anew; this one was published once.
                warnings.simplefilter("ignore", DeprecationWarning)
                found = torch.jit.load(path, map_location="cpu").state_dict()
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        raise _no_inception(path, str(error).splitlines()[0][:120] if str(error) else "nothing") from None
    if not isinstance(found, dict) or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise _no_inception(path, type(found).__name__)
    return dict(found)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _no_inception(path: Path, found: str) -> InputError:
    return InputError(
        "file holds no Inception network",
        where=path,
        expected="a state dict of inception_v3, or NVIDIA's inception-2015-12-05.pt",
        found=found,
        remedy=_fetch(PUBLISHED[0]),
    )


_STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
#: TensorFlow's towers, as NVIDIA's file names them, in torchvision's words; by kind of block.
_BRANCHES = {
    "A": {"conv": "branch1x1", "tower": "branch5x5", "tower_1": "branch3x3dbl", "tower_2": "branch_pool"},
    "B": {"conv": "branch3x3", "tower": "branch3x3dbl"},
    "C": {"conv": "branch1x1", "tower": "branch7x7", "tower_1": "branch7x7dbl", "tower_2": "branch_pool"},
    "D": {"tower": "branch3x3", "tower_1": "branch7x7x3"},
    "E": {
        "conv": "branch1x1",
        "tower_conv": "branch3x3_1",
        "tower_mixed_conv": "branch3x3_2a",
        "tower_mixed_conv_1": "branch3x3_2b",
        "tower_1_conv": "branch3x3dbl_1",
        "tower_1_conv_1": "branch3x3dbl_2",
        "tower_1_mixed_conv": "branch3x3dbl_3a",
        "tower_1_mixed_conv_1": "branch3x3dbl_3b",
        "tower_2_conv": "branch_pool",
    },
}
_KINDS = dict(zip(_BLOCKS, "AAABCCCCDEE", strict=True))
_LEAVES = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names for NVIDIA's, whose normalisation has no scale; others as they are."""
    import torch

    if "layers.conv.weight" not in tensors:
        return tensors
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer = _layer(name.split("."))
        if layer is None:
            continue
        named[f"{layer}.{_LEAVES[name.rpartition('.')[2]]}"] = tensor
        if name.endswith(".beta"):
            named[f"{layer}.bn.weight"] = torch.ones_like(tensor)
    return named


def _layer(parts: list[str]) -> str | None:
    """`layers.mixed_4.tower.conv_1.weight` is of `Mixed_6b.branch7x7_2`; None for what is none of the network's."""
    if parts[0] != "layers" or parts[-1] not in _LEAVES:
        return None
    place = parts[1:-1]
    if len(place) == 1:
        return _STEM.get(place[0])
    number = place[0].removeprefix("mixed").removeprefix("_")
    block = _BLOCKS[int(number) if number else 0]
    branch = _BRANCHES[_KINDS[block]].get(place[1])
    if branch is None:
        return None
    if len(place) == 3 and branch != "branch_pool":
        branch += f"_{int(place[2].removeprefix('conv').removeprefix('_') or 0) + 1}"
    return f"Mixed_{block}.{branch}"
