"""Pictures to a film, one after the other: MP4 by ffmpeg, GIF by Pillow. It bears its name only when it is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from teramind_data.errors import InputError, MissingInputError, OutputExistsError, StoreError
from teramind_eval.report.pictures import Picture

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".mp4", ".gif")

Add = Callable[[Picture], None]


def check_film(path: Path, *, overwrite: bool) -> None:
    """Raise, before any work, what would stop a film from being written there: its suffix, what is there, no ffmpeg."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            "film of this kind cannot be made", path, " or ".join(SUFFIXES), path.suffix or "no suffix"
        )
    if (path.exists() and not overwrite) or path.is_dir():
        remedy = "Give another --out" if path.is_dir() else "Give another --out, or --overwrite to replace it"
        raise OutputExistsError("output exists", where=path, remedy=remedy)
    if not path.parent.is_dir():
        raise MissingInputError("folder of the output does not exist", path.parent, remedy="Make it first")
    if path.suffix.lower() == ".mp4":
        find_ffmpeg()


def find_ffmpeg() -> str:
    """The ffmpeg of imageio-ffmpeg where that is installed, else the one on PATH; MissingInputError without either."""
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError:
        found = shutil.which("ffmpeg")
        if found is None:
            raise MissingInputError(
                "no ffmpeg to make an MP4 with",
                remedy="pip install 'teramind-eval[video]', put ffmpeg on PATH, or give --out with .gif",
            ) from None
        return found
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@contextmanager
def film(path: Path, size: tuple[int, int], fps: float) -> Iterator[Add]:
    """Yields what adds a picture of `size` (height, width; both even) to the film at `path`, replacing what is there.

    An MP4 is H.264 (8 bits, 4:2:0), encoded as pictures come. A GIF has at most 256 colours a picture, all of which
    are held, a byte a pixel, until the end.

    Raises
    ------
    StoreError
        where ffmpeg fails, with its last words. Nothing is then left of the film.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    make = _mp4 if path.suffix.lower() == ".mp4" else _gif
    try:
        with make(draft, size, fps) as add:
            yield add
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _mp4(path: Path, size: tuple[int, int], fps: float) -> Iterator[Add]:
    height, width = size
    # Colours are tagged as BT.709, or players guess by the size of the picture.
    tags = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
    words = [
        *(find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "pipe:0"),
        *("-an", "-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p"),
        *("-vf", "scale=out_color_matrix=bt709:out_range=tv", *tags),
        *("-movflags", "+faststart", "-f", "mp4", os.fspath(path)),
    ]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        assert process.stdin is not None
        pipe = process.stdin

        def add(picture: Picture) -> None:
            try:
                pipe.write(picture.tobytes())
            except BrokenPipeError:
                raise _failed(path, process.wait(), said) from None

        try:
            yield add
            with suppress(BrokenPipeError):
                pipe.close()
            code = process.wait()
            if code:
                raise _failed(path, code, said)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with suppress(BrokenPipeError):
                pipe.close()


def _failed(path: Path, code: int, said: IO[bytes]) -> StoreError:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return StoreError(
        "ffmpeg could not make the film",
        where=path.parent,
        found=lines[-1] if lines else f"exit code {code}",
        remedy="Check the disk, or give --out with .gif",
    )


@contextmanager
def _gif(path: Path, size: tuple[int, int], fps: float) -> Iterator[Add]:
    from PIL import Image as Pillow

    pictures: list[Image.Image] = []

    def add(picture: Picture) -> None:
        pictures.append(Pillow.fromarray(picture).quantize(256, method=Pillow.Quantize.MEDIANCUT))

    yield add
    first, *others = pictures
    assert first.size == size[::-1]
    # GIF counts hundredths of a second.
    duration = max(2, round(100 / fps)) * 10
    first.save(path, "GIF", save_all=True, append_images=others, duration=duration, loop=0, optimize=False)
