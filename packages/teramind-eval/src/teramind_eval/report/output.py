"""Folders that commands write: what may be replaced, what is current, and how one appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from teramind_data.errors import InputError, OutputExistsError, StoreError
from teramind_data.store import Location, is_url
from teramind_data.store.journal import JOURNAL
from teramind_data.store.metadata import read_root
from teramind_eval.report.differences import differences
from teramind_eval.results import SCHEMA_VERSION

PAGE, METRICS, TABLE, FIGURES = "report.html", "metrics.json", "metrics.parquet", "figures"

State = Literal["absent", "current", "other"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of folder of ours: how it is called, and the page and the JSON by which it is known.

    The JSON has `inputs` and `settings` at its top.
    """

    noun: str
    page: str
    numbers: str


REPORT = Kind("report", PAGE, METRICS)


def fingerprint(url: str, provenance: dict[str, Any]) -> dict[str, Any]:
    """What tells one version of a store from another: provenance and root metadata; of an unfinished one its shards.

    The root metadata is written last and rewritten whenever an image is added; while a store is being written only the
    list of its finished shards grows.
    """
    location = Location(url)
    found: dict[str, Any] = {"url": url, "provenance_sha256": _sha256(provenance)}
    root = read_root(location)
    if root is None:
        return found
    found["root_sha256"] = _sha256(root)
    if root.get("attributes", {}).get("teramind", {}).get("complete") is not True:
        found["shards_sha256"] = _sha256(sorted(location.keys(JOURNAL)))
    if location.is_local:  # the same metadata may have been written over other pixels
        found |= file_fingerprint(location.path / "zarr.json")
    return found


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_fingerprint(path: Path) -> dict[str, Any]:
    """Size and modification time of a file."""
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def table_fingerprint(path: Path) -> dict[str, Any]:
    """Those, and the hash of what is in it, by which it is known wherever it lies."""
    with path.open("rb") as file:
        return {**file_fingerprint(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def name_of(inputs: dict[str, Any], settings: dict[str, Any]) -> str:
    """A short name that tells one set of inputs, settings and version of this package from another."""
    # Their order tells too: the first run is the one that a report is about.
    told = [list(inputs.items()), settings, version("teramind-eval"), SCHEMA_VERSION]
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_ours(folder: Path, kind: Kind = REPORT) -> bool:
    """Whether a folder is a report of ours, or of another kind."""
    return (folder / kind.page).is_file() and _numbers(folder, kind).get("inputs") is not None


def _numbers(folder: Path, kind: Kind) -> dict[str, Any]:
    try:
        found = json.loads((folder / kind.numbers).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def state_of(
    folder: Path, inputs: dict[str, Any], settings: dict[str, Any], *, overwrite: bool, kind: Kind = REPORT
) -> State:
    """Whether a report (or another kind of folder) may be written to `folder`, or is there already.

    Raises
    ------
    InputError
        where no folder of its own is named.
    OutputExistsError
        where something else is there, or an older one and `overwrite` was not asked for.
    """
    _check_place(folder, kind)
    if not (folder.exists() or folder.is_symlink()) or (folder.is_dir() and not any(folder.iterdir())):
        return "absent"
    if not folder.is_dir() or not is_ours(folder, kind):
        raise OutputExistsError(
            f"output exists and is no {kind.noun} of ours",
            where=folder,
            expected=f"a new folder, or an earlier {kind.noun}",
            remedy="Give another --out, or remove it yourself",
        )
    earlier = _numbers(folder, kind)
    here = json.loads(json.dumps({"inputs": inputs, "settings": settings}))
    same = all(earlier.get(key) == value for key, value in here.items())
    # The first of several is what a report is about, or a comparison's baseline.
    if same and list(earlier["inputs"]) == list(here["inputs"]):
        return "current"
    if not overwrite:
        raise OutputExistsError(
            f"output holds a {kind.noun} of other inputs or settings",
            where=folder,
            found=differences(earlier, here),
            remedy="Give another --out, or --overwrite to replace it",
        )
    return "other"


def _check_place(folder: Path, kind: Kind) -> None:
    if is_url(folder):
        raise InputError(
            f"{kind.noun} cannot be written to a URL",
            where=folder,
            expected="a local folder",
            remedy=f"Give a path, and copy the {kind.noun} from there",
        )
    # It takes its place when it is whole: nobody should stand in it then.
    if folder.name in ("", ".."):
        raise InputError(
            f"a {kind.noun} is a folder of its own",
            where=folder,
            expected="a name",
            remedy=f"Name it, for example --out {kind.noun}",
        )


def unwritable(folder: Path, error: OSError) -> StoreError:
    """The error of an output that the system does not let us write."""
    return StoreError(
        "output cannot be written",
        where=folder,
        found=error.strerror,
        remedy="Give another --out, or check permissions",
    )


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well, and vanishes otherwise.

    Raises
    ------
    StoreError
        where no folder can be made there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield draft
        draft.chmod(0o755)
        for path in sorted(draft.rglob("*")):
            if path.is_file():
                _sync(path)
        old = draft.with_suffix(".old")
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
