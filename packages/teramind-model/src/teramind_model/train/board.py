"""TensorBoard's copy of a run's curves and pictures: nothing resumes from it, so training goes on where it fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from teramind_data.console import note

__all__ = ["Board"]


class Board:
    """Curves and pictures in ``folder``, from step ``start`` on; none where TensorBoard is not installed, none more
    once they cannot be written."""

    def __init__(self, folder: Path, start: int) -> None:
        self._folder = folder
        self._writer: Any = None
        self._open = ExitStack()
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._open.enter_context(_threads_without_traceback())
            with self._writing():
                self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def scalars(self, named: Mapping[str, float], step: int) -> None:
        """Add a point to each of the named curves."""
        if self._writer is not None:
            with self._writing():
                for name, value in named.items():
                    self._writer.add_scalar(name, value, step)

    def picture(self, picture: Any, step: int) -> None:
        """Show a picture, uint8 ``(h, w)`` or ``(h, w, 3)``."""
        if self._writer is not None:
            with self._writing():
                self._writer.add_image(
                    "sample", picture, step, dataformats="HW" if picture.ndim == 2 else "HWC"
                )

    def close(self) -> None:
        """Write what is pending."""
        with self._open:
            if self._writer is not None:
                with self._writing():
                    self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            note(f"no more for TensorBoard, {self._folder} cannot be written ({error.strerror or error})")


@contextmanager
def _threads_without_traceback() -> Iterator[None]:
    """What the file system says to TensorBoard's thread reaches its caller, who notes it: no traceback as well."""
    usual = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        ours = type(failed.thread).__module__.startswith("tensorboard.")
        if not (ours and isinstance(failed.exc_value, OSError)):
            usual(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
