"""Make a report: open, check, measure, draw, write. `write_report` is what the command calls."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teramind_data.console import progress
from teramind_data.errors import InputError, MissingInputError
from teramind_data.geometry import BIN_PX
from teramind_eval.attention.maps import holds_maps_only
from teramind_eval.attention.study import Study, study_attention, write_tables
from teramind_eval.cautions import warn_about, warn_of_few, warn_of_truth
from teramind_eval.evaluate import NUCLEAR_STAIN, Measured, Sizes, Task, store_results
from teramind_eval.floor import Between, draws_of, noise_floor
from teramind_eval.genes.scores import brain_scores, write_genes
from teramind_eval.genes.statistics import GeneStatistics, gene_statistics
from teramind_eval.journal import clear
from teramind_eval.metrics.image_on_device import check_name, pick_device
from teramind_eval.metrics.inception_weights import WeightsFile, find_weights
from teramind_eval.metrics.seam_scores import grids_of, seam_scores
from teramind_eval.metrics.seams import Grid
from teramind_eval.morphometry.truth import read_truth, truth_path
from teramind_eval.pairs import (
    Compared,
    check_comparable,
    open_store,
    same_place,
    same_sections,
)
from teramind_eval.report.lock import claimed
from teramind_eval.report.output import (
    FIGURES,
    METRICS,
    PAGE,
    TABLE,
    fingerprint,
    name_of,
    state_of,
    table_fingerprint,
    written_whole,
)
from teramind_eval.report.provenance import making
from teramind_eval.results import SINGLE, NoiseFloor, Results, long_table
from teramind_eval.sections import measure_brains
from teramind_eval.walk import Walk

if TYPE_CHECKING:
    from teramind_eval.config import ReportConfig
    from teramind_eval.part import Part

_PACKAGES = ("teramind-data", "teramind-eval", "numpy", "scipy", "scikit-image", "matplotlib")


@dataclass(frozen=True)
class Evidence:
    """All that the page is drawn from. `maps_only` are controls of attention that hold no images."""

    config: ReportConfig
    stores: tuple[Compared, ...]
    sizes: Sizes
    measured: Measured
    attention: Study
    genes: GeneStatistics | None
    results: Results
    maps_only: tuple[Compared, ...] = ()


def write_report(config: ReportConfig) -> tuple[Path, bool]:
    """Write the report that `config` describes; returns its page and whether it was made anew.

    A report of the same inputs and settings is left as it is. What was measured is kept in a hidden folder beside the
    output until the report is whole, so that the same call goes on where an earlier one was stopped.

    Raises
    ------
    InputError, MissingInputError, StoreError, IncompleteStoreError, OutputExistsError
        each naming the store, file or folder and what to do; nothing is then left under the output's name.
    """
    stores = open_stores(config)
    truth = check_truth(config, stores[0])
    sizes = Sizes.for_canvas(stores[0].brain.canvas, config.tile_px, config.patch_px)
    check_sizes(sizes, stores[0])
    check_name(config.device)
    if config.device != "auto" and config.scheduler is None:
        pick_device(config.device)  # of dask's workers only they know
    inception = None
    if config.inception is not None:
        inception = find_weights(config.inception, config.inception_sha256)
    inputs = _inputs(stores, truth, inception)
    segmenter = config.nuclei.build()
    settings = {
        **config.measured(),
        "nuclei": segmenter.describe(),
        "tile_px": sizes.tile,
        "patch_px": sizes.patch,
        "inside": _part(stores[0].brain),
    }
    out = Path(config.out)
    state = partial(state_of, out, inputs, settings, overwrite=config.overwrite)
    journals = out.with_name(f".{out.name}.journal")
    journal = journals / name_of(inputs, settings)
    with claimed(out, state) as wanted:  # before the work: a place that cannot be written is named
        if not wanted:
            return out / PAGE, False
        with written_whole(out) as draft:
            clear(journals, keep=journal.name)
            pictured = tuple(one for one in stores if not holds_maps_only(one.brain))
            grids = grids_of(pictured, _made(pictured), Grid(config.seam_px, config.window))
            draws = draws_of(pictured)
            task = Task(
                pictured, sizes, segmenter, truth, inception, config.seed, grids, draws, config.device
            )
            evidence = gather(config, stores, task, journal, (inputs, settings))
            write_into(draft, evidence)
        clear(journals)
    return out / PAGE, True


def open_stores(config: ReportConfig) -> tuple[Compared, ...]:
    """All stores of a report, the real one first, checked to be comparable with it."""
    real = open_store(config.real, "real", "real", incomplete=config.incomplete)
    others = [
        open_store(url, name, "generated", incomplete=config.incomplete)
        for name, url in config.generated.items()
    ]
    for name, url in config.controls.items():
        others.append(open_store(url, name, "control", incomplete=config.incomplete))
    if NUCLEAR_STAIN not in real.brain.stains:
        raise InputError(
            "the real store has no nuclear stain",
            where=config.real,
            expected=NUCLEAR_STAIN,
            found=", ".join(real.brain.stains) or "none",
            remedy=f"Ingest it with its {NUCLEAR_STAIN} mosaics",
        )
    check_pictured(others)
    check_named_apart((real, *others))
    comparable = [check_comparable(real.brain, one) for one in others]
    return same_place(same_sections((real, *comparable)))


def check_pictured(stores: Sequence[Compared]) -> None:
    """Raise InputError for a generated store that holds attention maps alone; such a one may be a control."""
    for one in stores:
        if one.role == "generated" and holds_maps_only(one.brain):
            raise InputError(
                "generated store holds attention maps only",
                where=one.brain.url,
                expected="images too",
                remedy="Give what `teramind-model generate` wrote as --generated, and this as --control NAME=STORE",
            )


def check_sizes(sizes: Sizes, real: Compared) -> None:
    """Raise InputError for tiles or patches of which the canvas holds less than half: all would be left out."""
    most = 2 * min(real.brain.canvas)
    for option, size in (("--tile-px", sizes.tile), ("--patch-px", sizes.patch)):
        if size > most:
            raise InputError(
                "no tile or patch of this size fits the canvas",
                where=option,
                expected=f"at most {most} px, twice the canvas's short side",
                found=size,
                remedy=f"Give a smaller one, or leave {option} out",
            )


def check_named_apart(stores: Sequence[Compared]) -> None:
    """Raise InputError for labels that give pictures one file name: one store would be shown as the other."""
    from teramind_eval.report.panels import slug

    seen: dict[str, str] = {}
    for one in stores:
        other = seen.setdefault(slug(one.label), one.label)
        if other != one.label:
            raise InputError(
                "labels of two stores are too alike",
                where=one.brain.url,
                expected="letters or digits that differ, whatever their case",
                found=f"{other!r} and {one.label!r}",
                remedy="Give one of them another label",
            )


def check_truth(config: ReportConfig, real: Compared) -> Path | None:
    """The truth's folder, every section's table read once so that a bad one is named before hours of work."""
    if config.truth is None:
        return None
    folder = Path(config.truth)
    if not folder.is_dir():
        raise MissingInputError(
            "no truth folder",
            where=folder,
            expected="<truth>/<section name>/cells.csv",
            remedy="Point --truth at the brain's folder in the phantom's truth, or leave it out",
        )
    for section in real.brain.sections:
        read_truth(folder, section.name, real.brain.canvas)
    return folder


def gather(
    config: ReportConfig,
    stores: tuple[Compared, ...],
    task: Task,
    journal: Path,
    described: tuple[dict[str, Any], dict[str, Any]],
) -> Evidence:
    """Measure everything: attention of all stores, the rest of those that `task` names.

    `journal` keeps what is measured; `described` are inputs and settings as they are to be recorded.
    """
    walk = Walk(journal, config.run_on())
    all_stores, maps_only = stores, tuple(one for one in stores if one not in task.stores)
    stores, sizes = task.stores, task.sizes
    sections = len(stores[0].brain.sections)
    with progress(sections, "measure sections", "sections") as advance:
        measured = measure_brains(task, replace(walk, done=advance))
    attention = study_attention(all_stores, max(1, sizes.tile // BIN_PX), config.seed, walk)
    with progress(sections, "gene statistics", "sections") as advance:
        genes = gene_statistics(stores[0].brain, replace(walk, done=advance))
    found = {label: [raw.seams for raw in raws] for label, raws in measured.by_store.items()}
    scores = store_results(stores, measured, config.seed)
    results = Results(
        settings=described[1],
        inputs=described[0],
        warnings=(
            *_warnings(stores, maps_only),
            *attention.warnings,
            *warn_of_truth(scores),
            *warn_of_few(scores),
        ),
        stores=scores,
        trends=attention.headlines.trends,
        beyond=attention.headlines.beyond,
        agreement=attention.headlines.agreement,
        genes=() if genes is None else tuple(brain_scores(genes)),
        versions={name: version(name) for name in _PACKAGES},
        made=_made(stores),
        seams=seam_scores(stores, task.grids, found),
        noise_floor=_floor(task, measured),
    )
    return Evidence(config, stores, sizes, measured, attention, genes, results, maps_only)


def _warnings(stores: Sequence[Compared], maps_only: Sequence[Compared]) -> list[str]:
    # Maps alone may be of an untrained network: another checkpoint than the run's makes them no worse a control.
    alone = [replace(one, role="real") for one in maps_only]
    return warn_about(stores[0].brain, (*stores[1:], *alone))


def _floor(task: Task, measured: Measured) -> NoiseFloor | None:
    if not task.draws:
        return None
    raws = {label: measured.brain(label) for label in task.draws}
    between = Between()
    for one in raws.values():
        between = between.merge(one.between)
    nuclei = {label: one.morphometry for label, one in raws.items()}
    return noise_floor(task.draws, between, nuclei, task.stores[0].brain.pixel_size_um, measured.apart)


def _made(stores: Sequence[Compared]) -> dict[str, dict[str, Any]]:
    return {one.label: making(one.brain.provenance) for one in stores if one.role != "real"}


def write_into(folder: Path, evidence: Evidence) -> None:
    """Write page, numbers and figures into an empty folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from teramind_eval.report.compose import compose
    from teramind_eval.report.gene_charts import write_full_heatmaps
    from teramind_eval.report.page import render, tell_size

    page = compose(evidence)
    (folder / METRICS).write_text(evidence.results.to_json(), encoding="utf-8")
    _write_table(folder / TABLE, evidence.results)
    write_tables(folder, evidence.attention)
    if evidence.genes is not None:
        write_genes(folder, evidence.genes)
        write_full_heatmaps(folder, evidence.stores[0].brain, evidence.genes)
    (folder / FIGURES).mkdir()
    for name, png in page.images().items():
        (folder / FIGURES / name).write_bytes(png)
    for name, table in page.numbers().items():
        columns = pa.table(table) if isinstance(table, Mapping) else pa.Table.from_pylist(list(table))
        pq.write_table(columns, folder / FIGURES / f"{name}.parquet")
    text = render(page)
    tell_size(text, PAGE)
    (folder / PAGE).write_text(text, encoding="utf-8")


def _write_table(path: Path, results: Results) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(long_table(results))
    kinds = (
        ("store", pa.string()),
        ("role", pa.string()),
        ("section", pa.int32()),
        ("name", pa.string()),
        ("measure", pa.string()),
        ("stain", pa.string()),
        ("region", pa.string()),
        ("mean", pa.float64()),
        ("sd", pa.float64()),
        ("n", pa.int64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kinds)), path)


def _part(real: Part) -> list[int] | None:
    """The part of the canvas compared, y0, y1, x0, x1; None for all of it."""
    inside = real.inside
    return None if real.whole else [inside.y0, inside.y1, inside.x0, inside.x1]


def _inputs(stores: Sequence[Compared], truth: Path | None, inception: WeightsFile | None) -> dict[str, Any]:
    """What the numbers depend on, with what tells a changed input from an unchanged one."""
    found: dict[str, Any] = {
        one.label: {"role": one.role, **fingerprint(str(one.brain.url), one.brain.provenance)}
        for one in stores
    }
    if truth is not None:
        tables = {s.name: table_fingerprint(truth_path(truth, s.name)) for s in stores[0].brain.sections}
        found["truth"] = {"url": str(truth), "tables": tables}
    if inception is not None:
        found["inception"] = {"sha256": inception.sha256, "published": inception.published}
    return found


def command_line(config: ReportConfig, sizes: Sizes) -> str:
    """The command that makes this report again."""
    words = ["teramind-eval", "report", "--real", config.real]
    for name, url in config.generated.items():
        words += ["--generated", url if list(config.generated) == [SINGLE] else f"{name}={url}"]
    for name, url in config.controls.items():
        words += ["--control", f"{name}={url}"]
    if config.truth is not None:
        words += ["--truth", config.truth]
    words += ["--tile-px", str(sizes.tile), "--patch-px", str(sizes.patch), "--seed", str(config.seed)]
    nuclei = config.nuclei
    if nuclei.segmenter != "watershed":
        words += ["--segmenter", nuclei.segmenter]
    given: tuple[tuple[str, object], ...] = (
        ("--cellpose-model", nuclei.cellpose_model),
        ("--nucleus-um", nuclei.nucleus_um),
        ("--seam-px", config.seam_px),
        ("--window", config.window),
        ("--inception", config.inception),
        ("--inception-sha256", config.inception_sha256),
    )
    for option, value in given:
        words += [] if value is None else [option, str(value)]
    if config.incomplete:
        words.append("--incomplete")
    return shlex.join([*words, "--out", config.out])


def shown_settings(evidence: Evidence) -> list[tuple[str, str]]:
    """The report's own facts, for its page."""
    nuclei = evidence.config.nuclei.build().describe()
    name = nuclei.pop("segmenter")
    return [
        ("tiles of PSNR, SSIM and MS-SSIM", f"{evidence.sizes.tile} px"),
        *_inception_facts(evidence.results.inputs),
        ("patches of nuclei counts", f"{evidence.sizes.patch} px"),
        ("nuclei", f"{name}: " + ", ".join(f"{key} {value}" for key, value in nuclei.items())),
        ("seed of the places shown", str(evidence.config.seed)),
        *((f"version of {name}", number) for name, number in evidence.results.versions.items()),
    ]


def _inception_facts(inputs: dict[str, Any]) -> list[tuple[str, str]]:
    used = inputs.get("inception")
    if used is None:
        return []
    kind = (
        "the published ones" if used["published"] else "NOT the published ones: FID compares with no other's"
    )
    return [("Inception weights, SHA-256", f"{used['sha256']} ({kind})")]
