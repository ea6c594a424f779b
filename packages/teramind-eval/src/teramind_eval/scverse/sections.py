"""The scores of a report by section: a row a section and store, a column a measure and stain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from teramind_data.errors import InputError
from teramind_eval.report.output import fingerprint
from teramind_eval.report.saved import BRAIN, SavedMetrics, read_metrics, read_rows

if TYPE_CHECKING:
    import anndata

    from teramind_data.store import Brain


def check_report_of(metrics: SavedMetrics, brain: Brain, report: Path) -> str:
    """Label that the store has in the report; InputError where the report is of other stores.

    A store is known by its provenance, so that it may have been moved.
    """
    own = fingerprint(brain.url, brain.provenance)["provenance_sha256"]
    alike = [
        store
        for store in metrics.stores
        # Only a measured store can be the real one, whatever its maker wrote down.
        if metrics.provenance_of(store.label) == own and (store.role == "real") == brain.has_molecules
    ]
    # Two stores may have been made alike; then the place tells them apart.
    for store in sorted(alike, key=lambda one: one.url != brain.url):
        return store.label
    raise InputError(
        "report is not of this store",
        where=report,
        expected=", ".join(f"{store.label} ({store.url})" for store in metrics.stores),
        found=brain.url,
        remedy="Give a store that the report compared, or make a report of this one",
    )


def section_scores(report: Path, brain: Brain) -> anndata.AnnData:
    """The report's scores by section, for a table of `brain`.

    `obs` has a row for each section and store of the report, named `<section>/<store>`, with `section`, `store`,
    `role`, `section_index` (in `brain`) and `z_um`; `var` a row for each measure and stain, named
    `<measure>:<stain>`. `X` holds means over tiles, patches or nuclei, the layers `sd` and `n` their standard
    deviations and numbers; NaN where a store has none (the real one has no likeness to itself).

    Raises
    ------
    InputError
        where the report cannot be read, is of other stores, or of sections that `brain` has not.
    """
    import anndata
    import pandas as pd

    metrics = read_metrics(report)
    check_report_of(metrics, brain, report)
    rows = [row for row in read_rows(report) if row["section"] != BRAIN]
    keys = list(dict.fromkeys((row["name"], row["store"]) for row in rows))
    columns = list(dict.fromkeys((row["measure"], row["stain"]) for row in rows))
    places = _places([name for name, _ in keys], brain, report)
    values = {part: np.full((len(keys), len(columns)), np.nan) for part in ("mean", "sd", "n")}
    at = {key: index for index, key in enumerate(keys)}, {key: index for index, key in enumerate(columns)}
    for row in rows:
        cell = at[0][row["name"], row["store"]], at[1][row["measure"], row["stain"]]
        for part, into in values.items():
            into[cell] = np.nan if row[part] is None else row[part]
    roles = {store.label: store.role for store in metrics.stores}
    labels = [store.label for store in metrics.stores]
    obs = pd.DataFrame(
        {
            "section": pd.Categorical(
                [name for name, _ in keys], list(dict.fromkeys(name for name, _ in keys))
            ),
            "store": pd.Categorical([label for _, label in keys], labels),
            "role": pd.Categorical([roles[label] for _, label in keys]),
            "section_index": np.array([places[name] for name, _ in keys], np.int32),
            "z_um": [float(brain.sections[places[name]].z_um) for name, _ in keys],
        },
        index=pd.Index([f"{name}/{label}" for name, label in keys], name="score"),
    )
    var = pd.DataFrame(
        {"measure": [measure for measure, _ in columns], "stain": [stain for _, stain in columns]},
        index=pd.Index([":".join(column) for column in columns], name="measure_stain"),
    )
    layers = {"sd": values["sd"], "n": values["n"]}
    return anndata.AnnData(X=values["mean"], obs=obs, var=var, layers=layers, uns=described(metrics, report))


def described(metrics: SavedMetrics, report: Path) -> dict[str, Any]:
    """Where scores come from, for a table's `uns`, as JSON: the report, its sizes, stores and versions."""
    told = {
        "report": str(report.resolve()),
        "settings": metrics.settings.model_dump(),
        "stores": {
            store.label: {
                "role": store.role,
                "url": store.url,
                "provenance_sha256": metrics.provenance_of(store.label),
            }
            for store in metrics.stores
        },
        "made": metrics.made,
        "versions": metrics.versions,
    }
    return {"report": json.dumps(told, sort_keys=True)}


def _places(names: Sequence[str], brain: Brain, report: Path) -> dict[str, int]:
    own = {section.name: section.index for section in brain.sections}
    lacking = sorted(set(names) - set(own))
    if lacking:
        raise InputError(
            "store lacks sections of the report",
            where=brain.url,
            expected=", ".join(lacking[:5]),
            found=", ".join(list(own)[:5]),
            remedy=f"Give a store of all sections of {report}",
        )
    return {name: own[name] for name in names}
