"""`teramind-data info`: what is in a store."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLE = """A short summary of a store: sections, canvas, panel, elements, where it came from.

Example:

  teramind-data info demo/A.zarr
"""


def info(store: Annotated[str, typer.Argument(help="A store (path or URL).")]) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.store import open_brain

    brain = open_brain(store, incomplete=True)
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
    print(f"images      {', '.join(brain.images)}")
    print(f"labels      {', '.join(brain.labels) or 'none'}")
    tool = brain.provenance.get("tool", "unknown")
    print(f"made by     {tool} from {len(brain.provenance.get('inputs', ()))} files")
    print(f"sections    {brain.n_sections}")
    for section in brain.sections:
        quality = section.qc
        detail = ""
        if "transcripts" in quality:
            detail = f"  {quality['transcripts']:>12,} transcripts, {quality['transcripts_in_tissue']:.1%} in tissue"
        print(f"  {section.index:>3} {section.name:<24} z {section.z_um:>9g} um{detail}")
    for left in brain.provenance.get("excluded", ()):
        print(f"  left out: {left['name']} ({left['reason']})")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("info", help=EXAMPLE)(info)
