"""Weights of Cellpose networks: which names there are, where files lie, and whether one fits what is installed.

Cellpose takes another network without a word where it does not know a name (3.x: `cyto3`, 4.x: `cpsam`), and fetches
weights as it pleases. So names are checked here, files are found here, and nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from teramind_data.errors import InputError, MissingInputError

INSTALL = "pip install 'teramind-eval[cellpose]'"

#: A tensor that only networks of this major version of Cellpose have.
_MARKS = {3: "output.2.weight", 4: "W2"}


@dataclass(frozen=True, slots=True)
class Published:
    """A network that the authors of Cellpose publish: for which major version, its file in the cache, its source."""

    major: int
    file: str
    url: str


PUBLISHED = {
    "nuclei": Published(3, "nucleitorch_0", "https://www.cellpose.org/models/nucleitorch_0"),
    "cyto3": Published(3, "cyto3", "https://www.cellpose.org/models/cyto3"),
    "cpsam": Published(4, "cpsam", "https://huggingface.co/mouseland/cellpose-sam/resolve/main/cpsam"),
}

#: What is taken where no network is named, by major version.
DEFAULT = {3: "nuclei", 4: "cpsam"}


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file that fits the installed Cellpose; `name` is None for a file of somebody's own."""

    path: Path
    name: str | None
    version: str

    @property
    def major(self) -> int:
        """Major version of the installed Cellpose."""
        return int(self.version.partition(".")[0])

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        stat = self.path.stat()
        return _sha256(self.path, stat.st_size, stat.st_mtime_ns)


def find_weights(model: str | None) -> Weights:
    """The weights of a published network in Cellpose's cache, or those of a file.

    Args:
        model: `nuclei` or `cyto3` (Cellpose 3), `cpsam` (Cellpose 4), or a file; None for the version's usual one.

    Raises
    ------
    MissingInputError
        where Cellpose is not installed, or the weights are not on this machine; says what to put where.
    InputError
        for a name that the installed version does not have, or a file that holds no network of it.
    """
    installed = installed_version()
    major = int(installed.partition(".")[0])
    name = model or DEFAULT[major]
    if os.sep not in name and name in PUBLISHED:
        return Weights(_cached(name, installed), name, installed)
    path = Path(name).expanduser()
    if not path.is_file():
        if os.sep in name or path.suffix:
            raise MissingInputError(
                "no file of Cellpose weights", where=path, remedy="Check --cellpose-model"
            )
        raise InputError(
            "Cellpose has no such network",
            where="--cellpose-model",
            expected=f"{' or '.join(_names(major))} (Cellpose {installed}), or a file",
            found=name,
        )
    return Weights(_fitting(path.resolve(), installed), None, installed)


def installed_version() -> str:
    """Version of the Cellpose that is installed; the error says how to install one, or which are supported."""
    try:
        found = version("cellpose")
    except PackageNotFoundError:
        raise MissingInputError(
            "Cellpose is not installed",
            where="--segmenter cellpose",
            remedy=f"{INSTALL}, or --segmenter watershed",
        ) from None
    if found.partition(".")[0] not in {str(major) for major in _MARKS}:
        raise InputError("Cellpose of another age", expected="3.1 or 4.x", found=found, remedy=INSTALL)
    return found


def cache_folder() -> Path:
    """Where Cellpose keeps its networks."""
    return Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models")


def _names(major: int) -> list[str]:
    return [name for name, one in PUBLISHED.items() if one.major == major]


def _cached(name: str, installed: str) -> Path:
    wanted = PUBLISHED[name]
    if not installed.startswith(f"{wanted.major}."):
        names = " or ".join(_names(int(installed.partition(".")[0])))
        raise InputError(
            f"network {name} is of Cellpose {wanted.major}",
            where="--cellpose-model",
            expected=f"{names}, or a file",
            found=f"Cellpose {installed} installed",
            remedy=f"Install cellpose {wanted.major}.x, or name another network",
        )
    path = cache_folder() / wanted.file
    if not path.is_file():
        raise MissingInputError(
            f"weights of the Cellpose network {name} are not on this machine",
            where=path,
            remedy=f"Download {wanted.url} and put it there, or give --cellpose-model FILE; nothing is fetched unasked",
        )
    return _fitting(path, installed)


def _fitting(path: Path, installed: str) -> Path:
    """The path, if its file holds a network of the installed version's kind."""
    stat = path.stat()
    keys = _tensors(path, stat.st_size, stat.st_mtime_ns)
    major = int(installed.partition(".")[0])
    if _MARKS[major] in keys:
        return path
    others = [str(other) for other, mark in _MARKS.items() if mark in keys]
    raise InputError(
        "file holds no network of the installed Cellpose",
        where=path,
        expected=f"weights of Cellpose {installed}",
        found=f"weights of Cellpose {others[0]}" if others else "something else",
        remedy="Give the file of a network trained with that version",
    )


@lru_cache(maxsize=4)
def _tensors(path: Path, size: int, changed: int) -> frozenset[str]:
    """Names of the tensors in a file; size and time of change are there for the cache."""
    import pickle

    import torch

    try:
        # weights_only: nothing but tensors is unpickled. mmap: 1 GB is not read for its names.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            "file of Cellpose weights cannot be read",
            where=path,
            expected="a state dict as torch.save writes it",
            found=str(error).partition("\n")[0][:120],
            remedy="Download it again, or check --cellpose-model",
        ) from None
    return frozenset(map(str, found)) if isinstance(found, dict) else frozenset()


@lru_cache(maxsize=4)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
