"""Paths that people write in manifests, held inside their folder."""

from __future__ import annotations

from pathlib import Path

from teramind_data.errors import InputError


def inside(root: Path, relative: str, what: str) -> Path:
    """A manifest's path under its root; InputError where it leads out (absolute, ``..`` or a link)."""
    base = root.resolve()
    try:
        path = (base / relative).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # a zero byte, a name too long, links in a circle
        raise InputError(f"{what} is no path", relative, found=error, remedy="Correct its name") from error
    if Path(relative).is_absolute() or not path.is_relative_to(base):
        raise InputError(
            f"{what} leads out of its folder",
            where=relative,
            expected=f"a path inside {root}",
            found=path,
            remedy="Move the file into the folder and name it relative to it",
        )
    return root / relative
