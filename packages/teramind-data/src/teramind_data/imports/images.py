"""Other people's generated brains to a store: images one a section and stain, or one RGB a section.

Canvas, sections, panel and pixel size come from a reference store, so that the result can be laid over it.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from teramind_data.console import progress
from teramind_data.errors import InputError, MissingInputError
from teramind_data.imports.archives import inside
from teramind_data.imports.output import begun, check_output, key_of, software
from teramind_data.imports.rasters import SUFFIXES, Raster, open_raster
from teramind_data.store import Brain, BrainSpec, BrainWriter, Section, open_brain

__all__ = ["ImagesConfig", "import_images", "parse_rgb"]

_SAMPLES = {"r": 0, "g": 1, "b": 2}

#: (section, stain) -> file; stain "" where one file holds all.
Found = dict[tuple[int, str], Path]


@dataclass(frozen=True)
class ImagesConfig:
    """What to import.

    Attributes:
        source: a folder, or a CSV with columns section, stain, path.
        like: the store that the images are to be compared with.
        rgb: stain to sample of RGB images; grey images, one a stain, where None.
        stains: which of the reference's stains there are images of; all where None.
        method: name of what made the images.
    """

    source: Path
    like: str
    out: str
    method: str
    rgb: Mapping[str, int] | None = None
    stains: tuple[str, ...] | None = None
    overwrite: bool = False


def parse_rgb(text: str | None) -> dict[str, int] | None:
    """``DAPI=b,PolyT=g`` to ``{"DAPI": 2, "PolyT": 1}``; None where not given."""
    if text is None:
        return None
    out: dict[str, int] = {}
    for part in text.split(","):
        stain, _, letter = (word.strip() for word in part.partition("="))
        if not stain or letter.lower() not in _SAMPLES or stain in out:
            raise InputError("RGB mapping is not readable", "--rgb", "such as DAPI=b,PolyT=g", repr(text))
        out[stain] = _SAMPLES[letter.lower()]
    return out


def import_images(config: ImagesConfig) -> tuple[bool, Brain]:
    """Build a generated store; whether anything was done (not where it was there already), and the open store.

    Every image is opened and its size checked before the output is begun.

    Raises:
        TeramindError: one line naming the file and what to do; nothing is left of an output that this run began.
    """
    like = open_brain(config.like)
    stains = _stains(config, like)
    wanted = ("",) if config.rgb is not None else stains
    files = _from_table(config, like) if config.source.is_file() else _from_folder(config, like, wanted)
    _check_complete(config, like, files, wanted)
    for file in files.values():
        _check_image(file, like, rgb=config.rgb is not None)
    inputs = [
        {
            "section": like.sections[z].name,
            "stain": stain or None,
            "path": file.relative_to(_root(config)).as_posix(),
            "bytes": file.stat().st_size,
            "sha256": _sha256(file),
        }
        for (z, stain), file in sorted(files.items())
    ]
    spec = _spec(config, like, stains, inputs)
    key = key_of("import-images", inputs, spec.to_dict())
    if check_output(config.out, key, overwrite=config.overwrite):
        return False, open_brain(config.out)
    spec.provenance["key"] = key
    with begun(config.out, spec, overwrite=config.overwrite) as writer:
        _write(writer, files, config.rgb)
        return True, writer.finish()


def _root(config: ImagesConfig) -> Path:
    return config.source.parent if config.source.is_file() else config.source


def _stains(config: ImagesConfig, like: Brain) -> tuple[str, ...]:
    asked = tuple(config.rgb) if config.rgb is not None else config.stains or like.stains
    unknown = [stain for stain in asked if stain not in like.stains]
    if unknown or len(set(asked)) != len(asked) or not like.stains:
        raise InputError(
            "stains are not the reference's",
            where=config.like,
            expected=", ".join(like.stains) or "a store with images",
            found=", ".join(asked) or "none",
            remedy="Use its stains' names",
        )
    return tuple(stain for stain in like.stains if stain in asked)


def _section(name: str, like: Brain) -> int | None:
    """Index of a section by its name, else by its number."""
    for section in like.sections:
        if section.name == name:
            return section.index
    plain = name.isascii() and name.isdigit() and len(name) <= 6
    return int(name) if plain and int(name) < like.n_sections else None


def _from_folder(config: ImagesConfig, like: Brain, wanted: tuple[str, ...]) -> Found:
    """``<section>_<stain>.<suffix>`` or ``<section>/<stain>.<suffix>``; of RGB ``<section>.<suffix>``."""
    root = config.source
    if not root.is_dir():
        raise MissingInputError("folder or table of images not found", root, remedy="Check the path")
    found: Found = {}
    for file in sorted([*root.glob("*"), *root.glob("*/*")]):
        if file.name.startswith(".") or file.suffix.lower() not in SUFFIXES:
            continue
        stem = file.stem.removesuffix(".ome")
        if file.parent != root:
            stem = f"{file.parent.name}_{stem}"
        key = next(
            (
                (z, stain)
                for stain in wanted
                if not stain or stem.endswith(f"_{stain}")
                for z in (_section(stem.removesuffix(f"_{stain}") if stain else stem, like),)
                if z is not None
            ),
            None,
        )
        if key is None:
            raise InputError(
                "image's name says no section and stain of the reference",
                where=file,
                expected=f"{like.sections[0].name}{f'_{wanted[0]}' if wanted[0] else ''}{file.suffix}",
                found=file.name,
                remedy="Rename it, move it away, or give a CSV with columns section, stain, path",
            )
        _put(found, key, inside(root, file), like)
    return found


def _from_table(config: ImagesConfig, like: Brain) -> Found:
    """Rows of section, stain, path; paths are relative to the table's folder and stay in it."""
    table = config.source
    try:
        with table.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError("table of images is not readable", table, "CSV in UTF-8", error) from error
    needed = {"section", "path"} if config.rgb is not None else {"section", "stain", "path"}
    if not rows or not needed <= set(rows[0]):
        raise InputError(
            "table of images lacks columns",
            where=table,
            expected=", ".join(sorted(needed)),
            found=", ".join(str(name) for name in (rows[0] if rows else ())) or "no rows",
            remedy="Give a CSV with a header and one row an image",
        )
    found: Found = {}
    for number, row in enumerate(rows, start=2):
        z = _section((row["section"] or "").strip(), like)
        stain = "" if config.rgb is not None else (row["stain"] or "").strip()
        if z is None or (config.rgb is None and stain not in like.stains) or not (row["path"] or "").strip():
            raise InputError(
                "table names no section and stain of the reference",
                where=f"{table}, line {number}",
                expected=f"sections such as {like.sections[0].name}, stains {', '.join(like.stains)}, and a path",
                found=", ".join(str(row[name]) for name in sorted(needed)),
                remedy="Use the names of the reference store (teramind-data info)",
            )
        _put(found, (z, stain), inside(table.parent, table.parent / row["path"].strip()), like)
    return found


def _put(found: Found, key: tuple[int, str], file: Path, like: Brain) -> None:
    if key in found:
        raise InputError(
            "two images of one section and stain",
            where=file,
            expected=f"one of {like.sections[key[0]].name} {key[1]}".rstrip(),
            found=f"also {found[key].name}",
            remedy="Take one away",
        )
    found[key] = file


def _check_complete(config: ImagesConfig, like: Brain, found: Found, wanted: tuple[str, ...]) -> None:
    needed = [(z, stain) for z in range(like.n_sections) for stain in wanted]
    extra = sorted({stain for _, stain in found} - set(wanted))
    missing = [f"{like.sections[z].name} {stain}".rstrip() for z, stain in needed if (z, stain) not in found]
    if missing or extra:
        raise MissingInputError(
            "images are missing" if missing else "there are images of further stains",
            where=config.source,
            expected=f"{len(needed)} images: {like.n_sections} sections, {', '.join(wanted) or 'RGB'}",
            found=f"{len(needed) - len(missing)}; missing {', '.join(missing[:4])}"
            f"{' ...' if len(missing) > 4 else ''}"
            if missing
            else ", ".join(extra),
            remedy="Give one of every section and stain, or say which stains there are (--stains)",
        )


def _check_image(file: Path, like: Brain, *, rgb: bool) -> None:
    with open_raster(file) as raster:
        if raster.shape != like.canvas:
            raise InputError(
                "image has another size than the canvas",
                where=file,
                expected=f"{like.canvas[0]} x {like.canvas[1]} px",
                found=f"{raster.shape[0]} x {raster.shape[1]} px",
                remedy="Bring it to the reference's canvas and pixel size first",
            )
        if (raster.samples == 1) == rgb:
            raise InputError(
                "image is grey" if rgb else "image has several channels",
                where=file,
                expected="RGB" if rgb else "one channel",
                found=f"{raster.samples}",
                remedy="Leave --rgb out"
                if rgb
                else "Say which is which (--rgb DAPI=b,PolyT=g), or save it grey",
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _spec(
    config: ImagesConfig, like: Brain, stains: tuple[str, ...], inputs: list[dict[str, Any]]
) -> BrainSpec:
    sections = tuple(
        Section(s.index, s.name, s.z_um, {"images": [i["path"] for i in inputs if i["section"] == s.name]})
        for s in like.sections
    )
    provenance = {
        "tool": "teramind-data import-images",
        "method": config.method,
        "inputs": inputs,
        "software": software(),
        "like": {"store": config.like, "key": like.provenance.get("key")},
        "configuration": {"rgb": None if config.rgb is None else dict(config.rgb)},
    }
    return BrainSpec(
        "generated",
        like.canvas,
        like.pixel_size_um,
        sections,
        like.panel,
        stains,
        provenance,
        chunk=like.spec.chunk,
        shard=like.spec.shard_px,
    )


def _write(writer: BrainWriter, files: Found, rgb: Mapping[str, int] | None) -> None:
    stains = writer.spec.stains
    pending = sorted(writer.pending("morphology"))
    with progress(len(pending), "images", "shards") as advance, ExitStack() as stack:
        rasters: list[tuple[Raster, int]] = []
        opened = -1
        for z, box in pending:
            if z != opened:
                stack.close()
                opened = z
                if rgb is None:
                    rasters = [(stack.enter_context(open_raster(files[z, stain])), 0) for stain in stains]
                else:
                    one = stack.enter_context(open_raster(files[z, ""]))
                    rasters = [(one, rgb[stain]) for stain in stains]
            writer.write("morphology", z, box, np.stack([raster.read(box, s) for raster, s in rasters]))
            advance()
