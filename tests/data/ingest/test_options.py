"""What manifest and options ask for reaches the store: other layouts, chosen planes, panels with gaps, notes, folds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from teramind_data.errors import PanelError
from teramind_data.ingest import build
from teramind_data.ingest.build import ingest
from teramind_data.ingest.manifest import discover, write_manifest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.store import Brain, store_state

Run = Callable[..., tuple[int, str, str]]


def sections(raw: Path) -> list[Path]:
    return sorted(path for path in raw.iterdir() if path.name.startswith("section"))


def test_spot_tables_with_other_names_and_files_give_the_same_brain(raw_copy: Path, ingested: Brain) -> None:
    for folder in sections(raw_copy):
        file = folder / "detected_transcripts.csv"
        pl.read_csv(file).rename({"gene": "target_molecule_name"}).write_parquet(folder / "spots.parquet")
        file.unlink()
        (folder / "images/mosaic_DAPI_z3.tif").rename(folder / "nuclei.tif")
    manifest = discover(raw_copy)
    path = raw_copy / "manifest.yaml"
    plain = manifest.to_plain() | {
        "transcripts": {"file": "spots.parquet", "columns": "allen"},
        "images": {"DAPI": {"file": "nuclei.tif"}},
    }
    path.write_text(json.dumps(plain))  # JSON is YAML
    _, brain = ingest(IngestConfig(raw=raw_copy, out=str(raw_copy.parent / "B.zarr")))
    assert brain.panel == ingested.panel
    np.testing.assert_array_equal(brain.expression[:], ingested.expression[:])
    np.testing.assert_array_equal(brain.morphology[:], ingested.morphology[:])


def test_chosen_planes_leave_the_others_out(raw_copy: Path, ingested: Brain) -> None:
    tables = [pl.read_csv(folder / "detected_transcripts.csv") for folder in sections(raw_copy)]
    kept = sorted(set(tables[0]["global_z"].to_list()))[:2]
    plain = discover(raw_copy).to_plain() | {"transcripts": {"z_planes": kept}}
    (raw_copy / "manifest.yaml").write_text(json.dumps(plain))
    _, brain = ingest(IngestConfig(raw=raw_copy, out=str(raw_copy.parent / "B.zarr")))
    for section, table in zip(brain.sections, tables, strict=True):
        chosen = table.filter(pl.col("global_z").is_in(kept))
        assert section.qc["transcripts_other_planes"] == table.height - chosen.height > 0
    assert brain.molecules.total < ingested.molecules.total


def test_genes_that_are_missing_are_refused_unless_allowed_and_then_recorded(
    raw_brain: Path, tmp_path: Path, run_command: Run
) -> None:
    panel, out = tmp_path / "panel.csv", tmp_path / "A.zarr"
    panel.write_text("gene\nTh\nVglut2\nNoSuchGene\n")
    code, _, err = run_command("ingest", raw_brain, out, "--panel", panel)
    assert code == 2
    assert "brain lacks genes of the panel: " in err
    assert "NoSuchGene" in err
    assert store_state(str(out)) == "absent"
    aliases = tmp_path / "aliases.csv"
    aliases.write_text("alias,gene\nVglut2,Slc17a6\n")
    code, _, err = run_command(
        "ingest", raw_brain, out, "--panel", panel, "--allow-missing", "--aliases", aliases
    )
    assert code == 0
    assert "note: the brain lacks 1 genes of the panel: NoSuchGene" in err
    from teramind_data import open_brain

    brain = open_brain(str(out))
    assert brain.panel is not None
    assert brain.panel.genes == ("Th", "Vglut2")
    assert brain.provenance["genes_missing"] == ["NoSuchGene"]
    assert int(np.asarray(brain.expression[1]).sum()) > 0, "the alias's molecules are there"


def _is_read(*_: object) -> None:
    raise KeyboardInterrupt


def _asks_for(tmp_path: Path, *genes: str) -> Path:
    panel = tmp_path / "panel.csv"
    panel.write_text("\n".join(("gene", *genes, "")))
    return panel


def test_genes_that_no_table_lists_are_refused_before_transcripts_are_read(
    raw_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "measure", _is_read)
    config = IngestConfig(
        raw=raw_copy, out=str(tmp_path / "A.zarr"), panel=_asks_for(tmp_path, "Th", "Sox99")
    )
    with pytest.raises(PanelError, match=r"panel\.csv.*found 1; missing Sox99"):
        ingest(config)
    with pytest.raises(KeyboardInterrupt):
        ingest(replace(config, allow_missing=True))
    assert "may lack" not in capsys.readouterr().err
    _asks_for(tmp_path, "Sox99")
    with pytest.raises(PanelError, match="of one species"):
        ingest(replace(config, allow_missing=True))

    # Without one of the tables it cannot be known: said at once, and reading goes on.
    _asks_for(tmp_path, "Th", "Sox99")
    first, second = sections(raw_copy)
    (second / "cell_by_gene.csv").unlink()
    with pytest.raises(KeyboardInterrupt):
        ingest(config)
    said = capsys.readouterr().err
    assert "note: the brain may lack 1 genes of the panel: Sox99 (" in said
    assert f"tells in {second.name})" in said
    assert first.name not in said


def test_a_gene_among_the_transcripts_only_is_not_refused(
    raw_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = sections(raw_copy)[1] / "detected_transcripts.csv"
    rows = pl.read_csv(table)
    last = pl.int_range(pl.len()) == pl.len() - 1
    rows.with_columns(pl.when(last).then(pl.lit("Sox99")).otherwise("gene").alias("gene")).write_csv(table)
    config = IngestConfig(
        raw=raw_copy, out=str(tmp_path / "A.zarr"), panel=_asks_for(tmp_path, "Th", "Sox99")
    )
    with monkeypatch.context() as patch:
        patch.setattr(build, "measure", _is_read)
        with pytest.raises(KeyboardInterrupt):
            ingest(config)
    assert "may lack" not in capsys.readouterr().err
    _, brain = ingest(config)
    assert int(np.asarray(brain.expression[1]).sum()) == 1


def test_what_is_odd_about_a_brain_is_said(raw_copy: Path, run_command: Run) -> None:
    first = sections(raw_copy)[0] / "detected_transcripts.csv"
    table = pl.read_csv(first)
    table = table.with_columns(
        pl.when(pl.int_range(pl.len()) < 3).then(float("nan")).otherwise(pl.col("global_x")).alias("global_x")
    )
    table.write_csv(first)
    manifest = discover(raw_copy)
    kept, torn = manifest.sections
    changed = {"sections": (kept, torn.model_copy(update={"exclude": "torn on the slide"}))}
    write_manifest(manifest.model_copy(update=changed), raw_copy / "manifest.yaml", overwrite=True)
    code, _, err = run_command("ingest", raw_copy, raw_copy.parent / "B.zarr")
    assert code == 0
    assert f"note: {torn.title} is left out: torn on the slide" in err
    assert f"note: {kept.title}: 3 of {table.height:,} rows without a finite place" in err


def test_a_registration_that_folds_is_refused_and_nothing_is_left(raw_copy: Path, run_command: Run) -> None:
    file = next(iter(sections(raw_copy)[1].glob("ABBA-Transform*.json")))
    content = json.loads(file.read_text())
    spline = _spline(content)
    assert spline is not None, "the second section of the tiny brain has a spline"
    # Two landmarks trade their targets: the plane is turned over between them.
    for axis in spline["tgtPts"]:
        axis[0], axis[-1] = axis[-1], axis[0]
    file.write_text(json.dumps(content))
    out = raw_copy.parent / "B.zarr"
    code, _, err = run_command("ingest", raw_copy, out)
    assert code == 2
    assert file.name in err
    assert len(err.strip().splitlines()) == 1 or "error:" in err.strip().splitlines()[-1]
    assert store_state(str(out)) == "absent"


def _spline(node: object) -> dict[str, list[list[float]]] | None:
    if isinstance(node, dict):
        if "tgtPts" in node:
            return node
        for value in node.values():
            found = _spline(value)
            if found is not None:
                return found
    return None
