"""Text files as a stream of blocks of whole lines, plain or compressed, in memory that does not grow with the file.

gzip members may follow one another (as ``cat a.gz b.gz`` makes them), zstd frames as well. Checksums and declared
sizes are checked by the decoders as the end of each member is met; a member without its end is an error.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from teramind_data.errors import InputError

BLOCK_BYTES = 16 << 20
LONGEST_LINE = 1 << 20  # bytes; a longer one is no table (or a decompression bomb)
# Tables of numbers shrink to a third or a tenth; deflate cannot exceed 1032. Beyond this it is a bomb.
MOST_EXPANSION = 400
_SLACK = 64 << 20  # a small file may expand as it likes up to here


def is_compressed(file: Path) -> bool:
    """Whether a file is read through this module, by its suffix."""
    return file.suffix.lower() in (".gz", ".zst")


@contextmanager
def open_decompressed(file: Path) -> Iterator[IO[bytes] | Any]:
    """The decompressed bytes of a ``.gz`` or ``.zst`` file as a readable stream; another suffix is read as it is."""
    suffix = file.suffix.lower()
    if suffix == ".zst":
        import pyarrow as pa

        with pa.OSFile(str(file)) as raw, pa.CompressedInputStream(raw, "zstd") as stream:
            yield stream
    elif suffix == ".gz":
        with gzip.open(file) as stream:
            yield stream
    else:
        with file.open("rb") as plain:
            yield plain


def line_blocks(file: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The file as blocks of whole lines, about ``block_bytes`` each; a line feed within double quotes is no end.

    Raises:
        InputError: cut off, damaged, of another compression than its suffix says, or expanding beyond all measure.
    """
    limit = MOST_EXPANSION * file.stat().st_size + _SLACK
    rest, total = b"", 0
    try:
        with open_decompressed(file) as stream:
            while data := stream.read(block_bytes):
                total += len(data)
                if total > limit:
                    raise _broken(
                        file, f"at most {limit:,} bytes of {file.stat().st_size:,} compressed", "more"
                    )
                data = rest + data
                cut = _last_line_end(data)
                rest = data[cut:]
                if cut:
                    yield data[:cut]
                if len(rest) > LONGEST_LINE:
                    raise _broken(file, "lines", f"none within {len(rest):,} bytes")
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(file, "a whole compressed file", str(error) or type(error).__name__) from error
    if rest:
        yield rest


def _last_line_end(data: bytes) -> int:
    """Just after the last line feed outside quotes; 0 where there is none."""
    cut = data.rfind(b"\n") + 1
    while cut and data.count(b'"', 0, cut) % 2:
        cut = data.rfind(b"\n", 0, cut - 1) + 1
    return cut


def _broken(file: Path, expected: str, found: str) -> InputError:
    return InputError(
        "transcript file is truncated or damaged",
        where=file,
        expected=expected,
        found=found[:160],
        remedy="Copy the file again from its source",
    )
