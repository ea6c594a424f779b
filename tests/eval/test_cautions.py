"""What a report warns of: stores given for what they are not, of other brains, networks or sections; other truths."""

from __future__ import annotations

import hashlib
import html
from dataclasses import replace
from pathlib import Path

import pytest

from teramind_data.errors import InputError
from teramind_data.store import Section
from teramind_eval.cautions import warn_about, warn_of_truth
from teramind_eval.config import report_config
from teramind_eval.pairs import open_store, same_sections
from teramind_eval.report.build import write_report
from teramind_eval.report.provenance import sampling
from teramind_eval.report.saved import read_metrics
from teramind_eval.results import MatchScores, NucleiScores, Role, Scores, Statistic, StoreResult
from tests.eval.conftest import Stores
from tests.eval.drawn import draw_section, write_generated

IMAGES = [draw_section(seed).image for seed in (11, 12)]


def test_runs_are_cut_to_their_common_sections(stores: Stores, tmp_path: Path) -> None:
    def run(name: str, section: str) -> Path:
        return write_generated(tmp_path / name, IMAGES[:1], sections=(Section(0, section, 0.0),))

    real = open_store(str(stores.real), "real", "real")
    whole = open_store(str(stores.good), "whole", "generated")
    part = open_store(str(run("part.zarr", "s1")), "part", "generated")
    cut = same_sections((real, whole, part))
    assert [one.brain.sections[0].name for one in cut] == ["s1", "s1", "s1"]
    found = warn_about(cut[0].brain, cut[1:])
    assert "whole has 1 more, which are left out: another run lacks them." in found
    first = open_store(str(run("first.zarr", "s0")), "first", "generated")
    with pytest.raises(InputError, match=r"no section in common: .*part\.zarr, .*first\.zarr .*found s1; s0"):
        same_sections((real, part, first))


def test_a_control_of_another_model_is_warned_about(stores: Stores, tmp_path: Path) -> None:
    provenance = {
        "checkpoint": {"sha256": "1" * 64},
        "request": {"region": [0, 64, 0, 64]},
        "atlas": {"url": "D.zarr", "panel_fingerprint": "2" * 64},
    }
    other = write_generated(tmp_path / "other.zarr", IMAGES, provenance=provenance)
    real = open_store(str(stores.real), "real", "real")
    run = open_store(str(stores.good), "generated", "generated")
    control = open_store(str(other), "shuffled", "control")
    found = warn_about(real.brain, (run, control))
    assert any("another checkpoint" in one for one in found)
    assert any("part of the canvas" in one for one in found)
    assert any("shuffled was made from another brain (D.zarr)" in one for one in found)
    assert warn_about(real.brain, (run, open_store(str(stores.shuffled), "shuffled", "control"))) == []


def test_stores_given_for_what_they_are_not_are_warned_about(stores: Stores, tmp_path: Path) -> None:
    real = open_store(str(stores.real), "real", "real")
    run = open_store(str(stores.good), "ours", "generated")
    (found,) = warn_about(real.brain, (replace(real, label="ours", role="generated"),))
    assert "ours" in found and "measured brain and was not generated" in found
    (found,) = warn_about(real.brain, (run, replace(run, label="same", role="control")))
    assert found == "same is the store of ours itself: it is no control of it."
    again, third = replace(run, label="again"), replace(run, label="third")
    (found,) = warn_about(real.brain, (run, again))
    assert found == "again is the store of ours itself: the two are one run, and equal in everything."
    assert [text.split()[0] for text in warn_about(real.brain, (run, again, third))] == ["again", "third"]
    made = {"request": {"control": {"kind": "shuffled"}}}
    shuffled = write_generated(tmp_path / "S.zarr", IMAGES, provenance=made)
    (found,) = warn_about(real.brain, (open_store(str(shuffled), "ours", "generated"),))
    assert "ours is a control (shuffled genes) and no run" in found
    assert sampling({"steps": 3, "seed": 0, **made}) == "Generated with 3 steps, seed 0, from shuffled genes."
    made = {"request": {"edits": ["Th*0"], "edited": {"everywhere": True}, "control": {"kind": "none"}}}
    edited = write_generated(tmp_path / "E.zarr", IMAGES, provenance=made)
    (found,) = warn_about(real.brain, (open_store(str(edited), "ours", "generated"),))
    assert "ours was generated from edited genes (Th*0)" in found
    assert sampling({"steps": 3, "seed": 0, **made}).endswith(", from edited genes (Th*0).")
    assert warn_about(real.brain, (run, open_store(str(shuffled), "shuffled", "control"))) == []


def test_a_store_made_from_another_atlas_is_warned_about(stores: Stores, tmp_path: Path) -> None:
    real = open_store(str(stores.real), "real", "real")
    panel = real.brain.brain.spec.panel
    assert panel is not None
    own = real.brain.brain.spec.fingerprint
    for name, stated, warned in (("own", own, False), ("other", "3" * 64, True), ("old", None, False)):
        # The same panel, so that only the fingerprint tells.
        atlas = {"url": "D.zarr", "panel_fingerprint": panel.fingerprint, "fingerprint": stated}
        made = write_generated(tmp_path / f"{name}.zarr", IMAGES, provenance={"atlas": atlas})
        found = warn_about(real.brain, (open_store(str(made), name, "generated"),))
        assert found == [] or "another store (D.zarr)" in found[0]
        assert len(found) == warned


def matched(role: Role, f1: float | None, true: int = 100, false: int = 0) -> StoreResult:
    none = Statistic(None, None, 0)
    match = None if f1 is None else MatchScores(f1, f1, f1, round(f1 * true), false, true - round(f1 * true))
    return StoreResult(
        role, role, "C.zarr", Scores({}, NucleiScores(0, none, none, none, None, None, match)), ()
    )


def test_a_truth_that_is_not_the_real_brains_is_warned_about() -> None:
    (found,) = warn_of_truth([matched("real", 0.21), matched("generated", 0.2)])
    assert "F1 of 0.21 only" in found
    for own in (matched("real", 0.9), matched("real", None), matched("real", 0.0, true=0)):
        assert warn_of_truth([own, matched("generated", 0.2)]) == []
    (found,) = warn_of_truth([matched("real", 0.0, true=0, false=1200), matched("generated", 0.0, true=0)])
    assert "no nuclei where 1,200 were found in its own images" in found


@pytest.mark.usefixtures("small")
def test_a_report_with_another_brains_truth_says_so(stores: Stores, tmp_path: Path) -> None:
    for name, own in (("s0", "s1"), ("s1", "s0")):
        (tmp_path / "truth" / name).mkdir(parents=True)
        table = (stores.truth / own / "cells.csv").read_text()
        (tmp_path / "truth" / name / "cells.csv").write_text(table)
    settings = report_config(
        real=str(stores.real),
        generated=str(stores.good),
        truth=str(tmp_path / "truth"),
        out=str(tmp_path / "r"),
    )
    write_report(settings)
    tables = read_metrics(tmp_path / "r").inputs["truth"].tables
    for name, one in tables.items():
        table = (tmp_path / "truth" / name / "cells.csv").read_bytes()
        assert (one.bytes, one.sha256) == (len(table), hashlib.sha256(table).hexdigest())
    assert tables.keys() == {"s0", "s1"}
    (found,) = [text for text in read_metrics(tmp_path / "r").warnings if "truth" in text]
    assert found.startswith("The truth does not fit the real brain")
    assert (
        html.escape(found, quote=True).replace("&#x27;", "&#39;")
        in (tmp_path / "r" / "report.html").read_text()
    )
