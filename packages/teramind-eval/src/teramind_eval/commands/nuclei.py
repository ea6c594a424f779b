"""`teramind-eval nuclei`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from teramind_eval.commands.segmenting import CellposeModel, NucleusUm, SegmenterName

_HELP = """Nuclei of a store, written into it: labels of pixels, and a table of nuclei and genes for scanpy and squidpy.

Adds labels/nuclei and tables/nuclei_table, to real and generated stores alike. Molecules are counted in each nucleus
where the store has any; a generated one has none: --atlas STORE takes them from the atlas it was generated from.
Stopped anywhere, the same command goes on where it was.

Examples:

    teramind-eval nuclei C.zarr

    teramind-eval nuclei G.zarr --atlas C.zarr --expand-um 2
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command(help=_HELP)
    def nuclei(
        store: Annotated[str, typer.Argument(help="Complete store to add to.", metavar="STORE")],
        section: Annotated[
            Optional[list[str]],  # noqa: UP045 - typer reads it at run time
            typer.Option(
                help="A section to look in, by name; may be repeated. Default: all.", metavar="NAME"
            ),
        ] = None,
        segmenter: SegmenterName = "watershed",
        cellpose_model: CellposeModel = None,
        nucleus_um: NucleusUm = None,
        atlas: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(help="Store whose molecules are counted, where STORE has none.", metavar="STORE"),
        ] = None,
        counts: Annotated[bool, typer.Option(help="Count molecules, where there are any.")] = True,
        expand_um: Annotated[
            float, typer.Option(help="Count molecules up to so far around a nucleus too.", min=0)
        ] = 0.0,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace the nuclei of an earlier run.")
        ] = False,
    ) -> None:
        from teramind_data.console import progress
        from teramind_data.store import open_brain
        from teramind_eval.config import nuclei_config
        from teramind_eval.morphometry.store import NucleiRequest, sections_named, work_of, write_nuclei

        how = nuclei_config(segmenter=segmenter, cellpose_model=cellpose_model, nucleus_um=nucleus_um)
        chosen = sections_named(open_brain(store), section) if section else None
        request = NucleiRequest(store, how.build(), chosen, atlas, counts, expand_um)
        with progress(work_of(request), "find nuclei", "blocks") as advance:
            found = write_nuclei(request, overwrite=overwrite, done=advance)
        sections = "1 section" if found.sections == 1 else f"{found.sections} sections"
        typer.echo(f"{store}: labels/nuclei and tables/nuclei_table, {found.nuclei:,} nuclei in {sections}")
        if found.molecules is not None:
            around = f" and up to {expand_um:g} um around them" if expand_um else ""
            typer.echo(f"counted: {found.molecules:,} molecules of {found.genes:,} genes in nuclei{around}")
        elif counts:
            typer.echo("no counts: the store has no molecules; --atlas STORE takes those of its atlas")
