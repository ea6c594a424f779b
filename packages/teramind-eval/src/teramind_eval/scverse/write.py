"""Write a report's scores into a store. `write_scores` is what the command calls."""

from __future__ import annotations

from pathlib import Path

from teramind_data.console import progress
from teramind_data.errors import InputError, MissingInputError, OutputExistsError
from teramind_eval.report.output import METRICS
from teramind_eval.report.saved import read_metrics
from teramind_eval.scverse.sections import check_report_of, section_scores
from teramind_eval.scverse.tiles import open_pair, tile_scores

SCORES, TILES = "scores", "tile_scores"


def write_scores(
    report: Path, url: str, *, tiles: bool = False, overwrite: bool = False
) -> dict[str, tuple[int, int]]:
    """Write `tables/scores`, and `tables/tile_scores` where asked for, into the store; shapes by the tables' names.

    Args:
        report: a folder of `teramind-eval report`.
        url: a complete store that it compared.
        tiles: also score every tissue tile, which reads that store and the real one again.
        overwrite: replace tables of these names.

    Raises
    ------
    InputError, MissingInputError, OutputExistsError, StoreError
        naming the report, store or table.
    """
    from teramind_data.elements import write_table
    from teramind_data.store import Location, open_brain

    if not (report / METRICS).is_file():
        raise MissingInputError(
            "no such report", where=report, remedy="Give the folder that `teramind-eval report --out` wrote"
        )
    brain = open_brain(url)
    metrics = read_metrics(report)
    label = check_report_of(metrics, brain, report)
    store = next(one for one in metrics.stores if one.label == label)
    if tiles and store.role == "real":
        raise InputError(
            "the real store has no likeness to itself",
            where="--tiles",
            found=url,
            remedy="Give a generated store of the report",
        )
    names = (SCORES, TILES) if tiles else (SCORES,)
    for name in names:
        # Before any work, and before one of two is written.
        if Location(url).exists(f"tables/{name}/zarr.json") and not overwrite:
            raise OutputExistsError(
                "table exists", f"{url}/tables/{name}", remedy="Pass --overwrite to replace it"
            )
    tables = {SCORES: section_scores(report, brain)}
    if tiles:
        pair = open_pair(metrics, store, url)
        with progress(len(pair[0].brain.sections), "score tiles", "sections") as advance:
            tables[TILES] = tile_scores(pair, metrics, report, advance)
    for name, table in tables.items():
        write_table(url, name, table, overwrite=overwrite)
    return {name: table.shape for name, table in tables.items()}
