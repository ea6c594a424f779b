"""`teramind-data manifest`: a brain's manifest from its folder, for people to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """Write a manifest from a folder of raw sections: their order, z, registrations.

Edit it (order, z_um, exclude: reason, registration.direction) and give it to `teramind-data ingest --manifest`.
Missing sections, uneven spacing and sections at the same z are shown.

Example:

  teramind-data manifest demo/phantom/raw/A -o manifest.yaml --section-spacing 100
"""


def manifest(
    raw: Annotated[Path, typer.Argument(help="Folder of one brain: one folder a section.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML to write.")] = Path("manifest.yaml"),
    section_spacing: Annotated[float, typer.Option(help="um between sections.")] = 100.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.ingest.manifest import discover, notes, write_manifest

    found = discover(raw, section_spacing)
    write_manifest(found, output, overwrite=overwrite)
    print(f"{'section':<24} {'z um':>10} {'transcripts':>14} {'images':>20}  registration")
    for entry in found.sections:
        registration = entry.registration if isinstance(entry.registration, str) else entry.registration.file
        transcripts, images = _sizes(raw / entry.folder)
        print(f"{entry.title:<24} {entry.z_um or 0:>10g} {transcripts:>14} {images:>20}  {registration}")
    for note in notes(found):
        print(f"note: {note}")
    print(f"{output}: {len(found.sections)} sections")


def _sizes(folder: Path) -> tuple[str, str]:
    """What a section folder holds: the size of its transcripts, number and size of its images."""
    from teramind_data.ingest.images import is_image
    from teramind_data.ingest.merscope import find_transcripts

    file = find_transcripts(folder)
    holders = [folder, folder / "images"]
    images = [path for holder in holders if holder.is_dir() for path in holder.iterdir() if is_image(path)]
    size = sum(
        part.stat().st_size
        for image in images
        for part in ([image] if image.is_file() else image.rglob("*"))
        if part.is_file()
    )
    return _megabytes(file.stat().st_size) if file else "none", (
        f"{len(images)}, {_megabytes(size)}" if images else "none"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("manifest", help=EXAMPLE)(manifest)
