"""`teramind-data panel`: what genes there are, which are common, whether a panel fits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SHOW = """Show a panel: its genes in order and its fingerprint.

Example:

  teramind-data panel show demo/A.zarr
"""
INTERSECT = """Genes common to stores and panel files, in the order of the first.

Example:

  teramind-data panel intersect demo/A.zarr demo/B.zarr extra.csv --out shared.csv
"""
CHECK = """Show how stores, panel files and raw brains fit a panel: what is dropped from which, and why.

Blanks and controls, names that differ in case, names matched through the alias table, genes that are missing, genes
that are not in the panel. Without --panel, the panel is the genes that all sources share, in the order of the first.
Exit code 2 where a source lacks genes of --panel. --aliases FILE (CSV: alias,gene) adds to the alias table.

Example:

  teramind-data panel check demo/C.zarr --panel shared.csv

  teramind-data panel check A.zarr raw/B extra.csv --aliases renamed.csv
"""


def show(source: Annotated[str, typer.Argument(help="A store, or a CSV with a column gene.")]) -> None:
    """Run the command (its help is `SHOW`)."""
    from teramind_data.ingest.plan import load_panel

    panel = load_panel(source)
    print("\n".join(panel))
    typer.echo(f"{source}: {len(panel)} genes, fingerprint {panel.fingerprint[:16]}", err=True)


def intersect(
    sources: Annotated[list[str], typer.Argument(help="Stores and CSVs.")],
    out: Annotated[Path | None, typer.Option(help="CSV to write; else the genes are printed.")] = None,
    aliases: Annotated[Path | None, typer.Option(help="CSV (alias, gene) added to the alias table.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Run the command (its help is `INTERSECT`)."""
    from teramind_data.ingest.plan import load_panel
    from teramind_data.panel import intersect as common
    from teramind_data.panel import read_aliases, write_panel

    panels = [load_panel(source) for source in sources]
    panel = common(panels, None if aliases is None else read_aliases(aliases))
    if out is None:
        print("\n".join(panel))
    else:
        write_panel(out, panel, overwrite=overwrite)
    for source, one in zip(sources, panels, strict=True):
        typer.echo(f"{source}: {len(one)} genes, {len(one) - len(panel)} not common", err=True)
    typer.echo(f"{'common' if out is None else out}: {len(panel)} genes", err=True)


def check(
    sources: Annotated[list[str], typer.Argument(help="Stores, panel files, raw folders of brains.")],
    panel: Annotated[str | None, typer.Option(help="The panel they must have: a CSV or store.")] = None,
    aliases: Annotated[Path | None, typer.Option(help="CSV (alias, gene) added to the alias table.")] = None,
) -> None:
    """Run the command (its help is `CHECK`)."""
    from teramind_data.errors import PanelError
    from teramind_data.ingest.plan import load_panel
    from teramind_data.panel import Panel, is_control, match, read_aliases
    from teramind_data.panel import intersect as common

    table = None if aliases is None else read_aliases(aliases)
    names = [_names(source) for source in sources]
    if panel is None:
        wanted = common([Panel(_distinct(one, table)) for one in names], table)
        title = f"the {len(wanted)} genes that all share"
    else:
        wanted, title = load_panel(panel), panel
    lacking = []
    for source, one in zip(sources, names, strict=True):
        fit = match(one, wanted, table)
        genes = sum(not is_control(name) for name in one)
        print(f"{source}: {len(one)} names, {genes} genes, {len(fit.found)} of {len(wanted)} in {title}")
        for what, listed in (
            ("dropped as blanks and controls", fit.controls),
            ("dropped as doubled", fit.doubled),
            ("dropped, not in the panel" if panel is not None else "dropped, not in all sources", fit.extra),
            ("matched in another case", [f"{name} = {gene}" for gene, name in fit.by_case.items()]),
            ("matched by alias", [f"{name} = {gene}" for gene, name in fit.by_alias.items()]),
            ("missing", fit.missing),
        ):
            if listed:
                print(f"  {what} ({len(listed)}): {', '.join(listed)}")
        if fit.missing:
            lacking.append((source, fit))
    print(f"{title if panel is None else panel}: {len(wanted)} genes, fingerprint {wanted.fingerprint[:16]}")
    if lacking:
        source, fit = lacking[0]
        raise PanelError(
            "genes are missing from the panel",
            where=", ".join(name for name, _ in lacking),
            expected=f"all {len(wanted)} genes asked for",
            found=f"{len(fit.found)}; missing {', '.join(fit.missing[:8])}"
            + (f" and {len(fit.missing) - 8} more" if len(fit.missing) > 8 else ""),
            remedy="Use a store that measured them, name aliases, or a panel without them",
        )


def _names(source: str) -> tuple[str, ...]:
    """All names a source has, controls included where it keeps them."""
    from teramind_data.errors import MissingInputError
    from teramind_data.ingest.manifest import discover
    from teramind_data.ingest.merscope import table_names
    from teramind_data.ingest.plan import load_panel
    from teramind_data.panel import read_names
    from teramind_data.store import store_state

    path = Path(source)
    if "://" not in source and path.is_file():
        return read_names(path)
    if "://" in source or store_state(source) in ("complete", "incomplete"):
        return load_panel(source).genes
    found: dict[str, None] = {}
    for entry in discover(path).sections:
        found.update(dict.fromkeys(table_names(path / entry.folder / "cell_by_gene.csv")))
    if not found:
        raise MissingInputError(
            "raw brain has no gene tables",
            where=source,
            expected="cell_by_gene.csv in its section folders",
            remedy="Ingest it and check the store",
        )
    return tuple(found)


def _distinct(names: tuple[str, ...], aliases: dict[str, str] | None) -> tuple[str, ...]:
    """The genes among names, each once."""
    from teramind_data.panel import canonical, is_control

    genes: dict[str, str] = {}
    for name in names:
        if not is_control(name):
            genes.setdefault(canonical(name, aliases), name)
    return tuple(genes.values())


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Gene panels: show, intersect, check."
    )
    group.command("show", help=SHOW)(show)
    group.command("intersect", help=INTERSECT)(intersect)
    group.command("check", help=CHECK)(check)
    app.add_typer(group, name="panel")
