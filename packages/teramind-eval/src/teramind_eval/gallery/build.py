"""Make a gallery: open, choose places, draw the sheets, write. `write_gallery` is what the command calls."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from teramind_data.console import progress
from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_eval.drawing.colour import MORPHOLOGY, Lights, colouring
from teramind_eval.drawing.stores import open_parts, titled
from teramind_eval.gallery.places import Shown, chosen_boxes, given_places, section_index, spread_sections
from teramind_eval.gallery.regions import REGIONS
from teramind_eval.gallery.sheets import Source, region_sheet, whole, zoom_sheet
from teramind_eval.part import Part
from teramind_eval.report.lock import claimed
from teramind_eval.report.output import Kind, fingerprint, state_of, written_whole
from teramind_eval.report.pictures import Picture

GALLERY = Kind("gallery", "index.html", "gallery.json")


@dataclass(frozen=True)
class GalleryRequest:
    """A gallery to be made.

    Attributes:
        store, beside: what is shown, and a second store beside it.
        out: folder to write.
        atlas: store whose regions are laid over; None: the first of the two that has any.
        boxes: `SECTION:y0:y1,x0:x1` each; empty: drawn by rule and seed.
        sections: names; empty: `most_sections`, evenly spread. Not with boxes, which name theirs.
        count, edge: of boxes drawn in each section, and their edge in px (None: by the canvas).
        most_sections: as many are shown where none are named.
        seed: draws the boxes.
        incomplete, overwrite: as for a report.
    """

    store: str
    out: Path
    beside: str | None = None
    atlas: str | None = None
    boxes: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    count: int = 4
    edge: int | None = None
    most_sections: int = 3
    seed: int = 0
    incomplete: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Sheet:
    """A picture of the gallery: file name, what it shows in words, size in px."""

    name: str
    caption: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class SectionSheets:
    """The sheets of one section."""

    title: str
    sheets: tuple[Sheet, ...]


@dataclass(frozen=True)
class GalleryPage:
    """All that the template needs."""

    title: str
    subtitle: str
    sections: Sequence[SectionSheets]
    rule: str
    command: str


@dataclass(frozen=True)
class _Opened:
    sources: tuple[Source, ...]
    # Regions, cut to the same sections; None where there are none.
    atlas: Part | None
    shown: tuple[Shown, ...] = field(default=())


def write_gallery(request: GalleryRequest) -> tuple[Path, bool]:
    """Write the gallery; returns its page and whether it was made anew.

    Raises
    ------
    InputError, MissingInputError, OutputExistsError, StoreError
        each naming the store, option or folder; nothing is then left under the output's name.
    """
    opened = _open(request)
    inputs = {
        str(part.url): fingerprint(str(part.url), part.provenance)
        for part in (*(source.part for source in opened.sources), *((opened.atlas,) if opened.atlas else ()))
    }
    settings = _settings(request, opened)
    page = request.out / GALLERY.page
    state = partial(state_of, request.out, inputs, settings, overwrite=request.overwrite, kind=GALLERY)
    with claimed(request.out, state) as wanted:
        if not wanted:
            return page, False
        with written_whole(request.out) as draft:
            _write(draft, request, opened, {"inputs": inputs, "settings": settings})
    return page, True


def _write(draft: Path, request: GalleryRequest, opened: _Opened, made_of: dict[str, Any]) -> None:
    """Everything into an empty folder."""
    listed = []
    with progress(len(opened.shown), "gallery", "sections") as advance:
        for shown in opened.shown:
            listed.append(_section(draft, opened, shown))
            advance()
    told = {**made_of, "shown": [_told(opened, one) for one in opened.shown]}
    (draft / GALLERY.numbers).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (draft / GALLERY.page).write_text(_render(_page(request, opened, listed)), encoding="utf-8")


def _settings(request: GalleryRequest, opened: _Opened) -> dict[str, Any]:
    return {
        # The inputs tell which stores were read, not what for.
        "stores": [str(source.part.url) for source in opened.sources],
        "atlas": str(opened.atlas.url) if opened.atlas else None,
        "boxes": list(request.boxes),
        "sections": list(request.sections),
        "count": request.count,
        "edge": request.edge,
        "most_sections": request.most_sections,
        "seed": request.seed,
    }


def _open(request: GalleryRequest) -> _Opened:
    if request.boxes and request.sections:
        raise InputError(
            "boxes name their sections", where="--section", remedy="Leave --section or --box out"
        )
    urls = [request.store, *((request.beside,) if request.beside else ())]
    named = [*urls, *((request.atlas,) if request.atlas else ())]
    parts = open_parts(named, incomplete=request.incomplete)
    for part in parts[: len(urls)]:
        if MORPHOLOGY not in part.images:
            raise InputError("store has no images of stains", where=part.url, found=f"kind {part.kind!r}")
    atlas = _with_regions(parts, request)
    first = parts[0]
    # Brightness can be compared only under one contrast: that of the first store.
    one = colouring(first, MORPHOLOGY, None, whole(first))
    sources = []
    for part in parts[: len(urls)]:
        same = one.of(part.stains) if isinstance(one, Lights) else None
        own = same or colouring(part, MORPHOLOGY, None, whole(part))
        sources.append(Source(part, own, titled(part)))
    return _Opened(tuple(sources), atlas, _shown(request, parts))


def _with_regions(parts: Sequence[Part], request: GalleryRequest) -> Part | None:
    if request.atlas is not None:
        if REGIONS not in parts[-1].brain.labels:
            raise InputError(
                "store has no regions", where=parts[-1].url, found=", ".join(parts[-1].brain.labels)
            )
        return parts[-1]
    return next((part for part in parts if REGIONS in part.brain.labels), None)


def _shown(request: GalleryRequest, parts: Sequence[Part]) -> tuple[Shown, ...]:
    first = parts[0]
    if request.boxes:
        return given_places(request.boxes, first)
    names = [section.name for section in first.sections]
    wanted = [section_index(name, names, "--section") for name in request.sections]
    # Molecules say where tissue is, whichever store has them.
    judge = next((part for part in parts if part.has_molecules), first)
    return tuple(
        Shown(section, chosen_boxes(judge, section, request.count, request.seed, request.edge))
        for section in wanted or spread_sections(len(names), request.most_sections)
    )


def _section(folder: Path, opened: _Opened, shown: Shown) -> SectionSheets:
    place = opened.sources[0].part.sections[shown.section]
    slug = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in place.name)
    stores = " beside ".join(source.title for source in opened.sources)
    # Names may differ in what a file name cannot have.
    head = f"{shown.section:03d}_{slug}"
    boxes = "; ".join(f"{number + 1}: {_box(box)}" for number, box in enumerate(shown.boxes))
    sheets = [
        _save(
            folder / f"{head}_zoom.png",
            zoom_sheet(opened.sources, shown),
            f"Boxes in canvas pixels: {boxes}." if boxes else "No place with molecules to enlarge.",
            f"{stores}: section {place.name} with {len(shown.boxes)} numbered boxes, and each box enlarged",
        )
    ]
    if opened.atlas is not None:
        sheets.append(
            _save(
                folder / f"{head}_regions.png",
                region_sheet(opened.sources, opened.atlas, shown.section),
                "The atlas's regions filled, then as contours. Colours repeat after eight; numbers do not.",
                f"{stores}: section {place.name} with the regions of the atlas, numbered",
            )
        )
    return SectionSheets(f"{place.name}, z {place.z_um:,g} µm", tuple(sheets))


def _box(box: Box) -> str:
    return f"y {box.y0} to {box.y1}, x {box.x0} to {box.x1}"


def _save(path: Path, picture: Picture, caption: str, alt: str) -> Sheet:
    from PIL import Image

    Image.fromarray(picture).save(path, "PNG")
    return Sheet(path.name, caption, alt, picture.shape[1], picture.shape[0])


def _told(opened: _Opened, shown: Shown) -> dict[str, Any]:
    name = opened.sources[0].part.sections[shown.section].name
    return {"section": name, "boxes": [[box.y0, box.y1, box.x0, box.x1] for box in shown.boxes]}


def _page(request: GalleryRequest, opened: _Opened, listed: Sequence[SectionSheets]) -> GalleryPage:
    first = opened.sources[0].part
    stains = " and ".join(first.stains)
    regions = "" if opened.atlas is not None else " No store here has regions of an atlas."
    drawn = (
        f"Boxes were drawn by seed {request.seed} among squares that hold at least the median "
        f"{'number of molecules' if _judged(opened) else 'brightness'}; nobody picked them."
    )
    return GalleryPage(
        title=" beside ".join(source.title for source in opened.sources),
        subtitle=(
            f"{len(listed)} of {len(first.sections)} sections, {stains}, every picture of a stain under one contrast "
            f"(that of the first store, where it has the stain).{regions}"
        ),
        sections=listed,
        rule="Boxes were given." if request.boxes else drawn,
        command=_command(request),
    )


def _judged(opened: _Opened) -> bool:
    parts = [*(source.part for source in opened.sources), *((opened.atlas,) if opened.atlas else ())]
    return any(part.has_molecules for part in parts)


def _command(request: GalleryRequest) -> str:
    words = ["teramind-eval", "gallery", request.store]
    words += ["--beside", request.beside] if request.beside else []
    words += ["--atlas", request.atlas] if request.atlas else []
    for box in request.boxes:
        words += ["--box", box]
    for section in request.sections:
        words += ["--section", section]
    if not request.boxes:
        words += ["--boxes", str(request.count), "--seed", str(request.seed)]
        words += [] if request.edge is None else ["--edge", str(request.edge)]
        words += [] if request.sections else ["--sections", str(request.most_sections)]
    words += ["--incomplete"] if request.incomplete else []
    return shlex.join([*words, "--out", str(request.out)])


def _render(page: GalleryPage) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = files("teramind_eval.gallery").joinpath("gallery.html.j2").read_text(encoding="utf-8")
    style = files("teramind_eval.report").joinpath("style.css").read_text(encoding="utf-8")
    return environment.from_string(text).render(page=page, style=style)
