"""A disk that fails: every operation that changes it counts, and at one of them it stops for good.

What a process leaves that is killed there, without killing one: after the operation nothing changes any more, so no
handler can tidy up. (Real kills are tested beside this.)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Disk:
    """Counts operations; ``at`` is the one before which the process ends, ``torn``: half of it is done."""

    root: Path
    at: int | None = None
    torn: bool = False
    done: int = 0
    log: list[str] = field(default_factory=list)

    def step(self, name: str, path: object) -> bool:
        """Count one operation on the store; True where it is to be torn. Raises where the disk has stopped."""
        if not str(path).startswith(str(self.root)):
            return False
        if self.at is not None and self.done >= self.at:
            self.done += 1
            if self.done == self.at + 1 and self.torn:
                return True
            raise Killed(f"{name} {path}")
        self.done += 1
        self.log.append(f"{name} {path}")
        return False


@contextmanager
def failing_disk(root: Path, at: int | None = None, torn: bool = False) -> Iterator[Disk]:
    """Within, operations below ``root`` count, and fail from the ``at``-th on."""
    disk = Disk(root, at, torn)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "remove"):
            _wrap(patch, disk, os, name)
        _wrap_sync(patch, disk)
        _wrap_tree(patch, disk)
        _wrap_write(patch, disk)
        yield disk


def _wrap(patch: pytest.MonkeyPatch, disk: Disk, module: Any, name: str) -> None:
    real: Callable[..., Any] = getattr(module, name)

    def wrapped(path: Any, *rest: Any, **options: Any) -> Any:
        # A relative name belongs to a folder handle: rmtree is counted as a whole.
        if options.get("dir_fd") is None and disk.step(name, os.fspath(path)):
            raise Killed(name)
        return real(path, *rest, **options)

    patch.setattr(module, name, wrapped)


def _wrap_sync(patch: pytest.MonkeyPatch, disk: Disk) -> None:
    real = os.fsync

    def fsync(handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        if disk.step("fsync", Path(f"/proc/self/fd/{number}").readlink()):
            raise Killed("fsync")
        real(handle)

    patch.setattr(os, "fsync", fsync)


def _wrap_tree(patch: pytest.MonkeyPatch, disk: Disk) -> None:
    real = shutil.rmtree

    def rmtree(path: Any, *rest: Any, **options: Any) -> None:
        if disk.step("rmtree", path):
            # Half of the files are gone.
            files = sorted(file for file in Path(path).rglob("*") if file.is_file())
            for file in files[: len(files) // 2]:
                os.truncate(file, 0)
                _unlink(file)
            raise Killed("rmtree")
        with pytest.MonkeyPatch.context() as inner:
            for name, function in _PLAIN.items():
                inner.setattr(os, name, function)
            real(path, *rest, **options)

    patch.setattr(shutil, "rmtree", rmtree)


_PLAIN = {name: getattr(os, name) for name in ("unlink", "rmdir", "remove")}


def _unlink(file: Path) -> None:
    _PLAIN["unlink"](file)


def _wrap_write(patch: pytest.MonkeyPatch, disk: Disk) -> None:
    """Files opened for writing: ours, and those of zarr's local store; half of the bytes arrive of the last."""
    real = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "r" in mode and "+" not in mode:
            return real(path, mode, *rest, **options)
        if disk.step("write", path):
            real(path, mode, *rest, **options).close()
            raise Killed("write")
        return real(path, mode, *rest, **options)

    patch.setattr(Path, "open", opened)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def sample(count: int, most: int) -> list[int]:
    """Stopping points spread over ``count`` operations: the first and the last few, and evenly between."""
    edges = {0, 1, 2, 3, *range(count - 5, count)}
    return sorted(edges | {round(i * (count - 1) / most) for i in range(most)})


def soak_kills(usual: int = 200) -> int:
    """How many processes the soak kills: TERAMIND_SOAK_KILLS, else as many as are ``usual``."""
    return int(os.environ.get("TERAMIND_SOAK_KILLS", str(usual)))


def soak_points(count: int) -> range:
    """The operations at which the soak stops: all of ``count``, or each TERAMIND_SOAK_EVERY-th."""
    return range(0, count, int(os.environ.get("TERAMIND_SOAK_EVERY", "1")))
