"""`teramind-data info`: what is in a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from teramind_data.store import Brain

EXAMPLE = """A short summary of a store: sections, canvas, panel, elements and their sizes, where it came from.

--picture draws all sections, from a coarse level.

Examples:

  teramind-data info demo/A.zarr

  teramind-data info demo/A.zarr --picture A.png
"""


def info(
    store: Annotated[str, typer.Argument(help="A store (path or URL).")],
    picture: Annotated[Path | None, typer.Option(help="PNG of all sections to write.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture.")] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.store import open_brain

    brain = open_brain(store, incomplete=True)
    _summary(store, brain)
    _elements(brain)
    _sections(brain)
    if picture is not None:
        _draw(brain, picture, overwrite)


def _summary(store: str, brain: Brain) -> None:
    height, width = brain.canvas
    um = brain.pixel_size_um
    print(f"{store}: {brain.kind} store, {'complete' if brain.complete else 'NOT COMPLETE'}")
    print(
        f"canvas      {height} x {width} px of {um:g} um ({height * um / 1000:.3g} x {width * um / 1000:.3g} mm)"
    )
    print(f"stains      {', '.join(brain.stains)}")
    if brain.panel is not None:
        print(f"panel       {len(brain.panel)} genes, fingerprint {brain.panel.fingerprint[:16]}")
    if brain.has_molecules:
        print(f"transcripts {brain.molecules.total:,}")
    for line in _making(brain.provenance):
        print(line)


def _making(provenance: dict[str, Any]) -> Iterator[str]:
    """By what a store was made and from what; of a generated one what decides its pictures."""
    request = provenance.get("request")
    if "made_by" not in provenance or not isinstance(request, dict):
        tool = provenance.get("made_by") or provenance.get("tool", "unknown")
        # Of tiles an input is a whole folder.
        files = sum(item.get("files", 1) for item in provenance.get("inputs", ()))
        yield f"made by     {tool}" + (f" from {files:,} files" if files else "")
        return
    yield f"made by     {provenance['made_by']}{_version(provenance)}"
    yield f"checkpoint  {_checkpoint(provenance, request)}"
    draws = f", {request['draws']} draws" if "draws" in request else ""
    yield f"sampled     {request.get('sampler')}, {request.get('steps')} steps, seed {request.get('seed')}{draws}"
    control = request.get("control")
    if isinstance(control, dict) and control.get("kind", "none") != "none":
        how = [f"{key} {value}" for key, value in control.items() if key != "kind"]
        yield f"CONTROL     {control['kind']} genes" + (f" ({', '.join(how)})" if how else "")
    if request.get("edits"):
        yield f"EDITED      {', '.join(request['edits'])}{_place(request.get('edited') or {})}"


def _version(provenance: dict[str, Any]) -> str:
    """Of the package whose command made a store; nothing where it is not recorded."""
    software = provenance.get("software")
    package = str(provenance["made_by"]).partition(" ")[0]
    version = software.get(package) if isinstance(software, dict) else None
    return f" ({version})" if version else ""


def _checkpoint(provenance: dict[str, Any], request: dict[str, Any]) -> str:
    checkpoint = provenance.get("checkpoint")
    path = checkpoint.get("path") if isinstance(checkpoint, dict) else None
    sha256 = f"SHA-256 {str(request.get('checkpoint'))[:16]}"
    return f"{Path(path).name}, {sha256}" if path else sha256


def _place(edited: dict[str, Any]) -> str:
    """Where genes were edited: a region by its name, else as it stands; a mask's hash cut short."""
    if edited.get("everywhere"):
        return " everywhere"
    if edited.get("name"):
        return f" in {edited['name']}"
    if "mask_sha256" in edited:
        edited = {**edited, "mask_sha256": str(edited["mask_sha256"])[:16]}
    where = ", ".join(f"{key} {value}" for key, value in edited.items() if value != "")
    return f" in {where}" if where else ""


def _elements(brain: Brain) -> None:
    """One line an element: shape, type, levels, and what it takes stored (and would unpacked)."""
    print("elements")
    for name in (*brain.images, *brain.labels):
        layout = brain.layout(name)
        levels = layout.levels
        axes = "z y x" if layout.image.labels else "c z y x"
        shape = " x ".join(str(n) for n in layout.array_shape(levels[0]))
        plain = sum(array.nbytes for array in brain.levels(name))
        number = f"{len(levels)} level{'s' if len(levels) > 1 else ''}"
        text = f"{axes} {shape} {levels[0].dtype}, {number}"
        print(
            f"  {layout.image.path:<24} {text:<48} {_size(brain, layout.image.path)} (unpacked {_bytes(plain)})"
        )
    tables = ("sections", "cells", "scores", "tile_scores")
    for path in ("molecules", "points/transcripts", "shapes", *(f"tables/{name}" for name in tables)):
        if _exists(brain, path):
            print(f"  {path:<24} {'':<48} {_size(brain, path)}")


def _sections(brain: Brain) -> None:
    from teramind_data.qc.table import gaps

    print(f"sections    {brain.n_sections}")
    missing = gaps(brain)
    for section in brain.sections:
        if section.index in missing:
            print(f"      gap of {missing[section.index]:g} um, {brain.z_spacing_um:g} um is usual")
        quality = section.qc
        detail = ""
        if "transcripts" in quality:
            detail = f"  {quality['transcripts']:>12,} transcripts, {quality['transcripts_in_tissue']:.1%} in tissue"
        flagged = len(quality.get("flags", ()))
        if flagged:
            detail += f"  {flagged} flag{'s' if flagged > 1 else ''} (teramind-data qc)"
        print(f"  {section.index:>3} {section.name:<24} z {section.z_um:>9g} um{detail}")
    for left in brain.provenance.get("excluded", ()):
        print(f"  left out: {left['name']} ({left['reason']})")


def _draw(brain: Brain, picture: Path, overwrite: bool) -> None:
    from teramind_data.errors import InputError, OutputExistsError
    from teramind_data.picture import montage, png
    from teramind_data.store import Location

    if picture.exists() and not overwrite:
        raise OutputExistsError("picture exists", where=picture, remedy="Pass --overwrite to replace it")
    if not picture.parent.is_dir():
        raise InputError("folder of the picture does not exist", picture.parent, remedy="Make it first")
    Location(picture.parent).write(picture.name, png(montage(brain)))
    print(f"{picture}: written")


def _exists(brain: Brain, path: str) -> bool:
    from teramind_data.store import Location

    return Location(brain.url).exists(f"{path}/zarr.json")


def _size(brain: Brain, path: str) -> str:
    """Bytes below a path of the store, for people."""
    from teramind_data.store import Location

    return _bytes(Location(brain.url).size(path))


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("info", help=EXAMPLE)(info)
