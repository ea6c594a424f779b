"""`teramind-data manifest`: a brain's manifest from its folder, for people to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """Write a manifest from a folder of raw sections: their order, z, registrations.

Edit it (order, z_um, exclude: reason, registration.direction) and give it to `teramind-data ingest --manifest`.

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
    from teramind_data.errors import InputError
    from teramind_data.ingest.manifest import discover, write_manifest
    from teramind_data.ingest.merscope import find_transcripts

    if not section_spacing > 0:
        raise InputError("section spacing is not a length", expected="um > 0", found=section_spacing)
    found = discover(raw, section_spacing)
    write_manifest(found, output, overwrite=overwrite)
    print(f"{'section':<24} {'z um':>10} {'transcripts':>14}  registration")
    for entry, z in zip(found.sections, found.z_positions(), strict=True):
        file = find_transcripts(raw / entry.folder)
        size = "none" if file is None else f"{file.stat().st_size / 1e6:,.1f} MB"
        registration = entry.registration if isinstance(entry.registration, str) else entry.registration.file
        print(f"{entry.title:<24} {z:>10g} {size:>14}  {registration}")
    print(f"{output}: {len(found.sections)} sections")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("manifest", help=EXAMPLE)(manifest)
