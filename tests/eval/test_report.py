"""The report end to end on small drawn stores: numbers, page, what is refused and what is left behind."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.errors import (
    IncompleteStoreError,
    InputError,
    MissingInputError,
    OutputExistsError,
    StoreError,
)
from teramind_data.geometry import BIN_PX
from teramind_data.panel import Panel
from teramind_data.store import BrainSpec, ImageSpec, Section, append_image, create_brain, open_brain
from teramind_eval.compare.build import COMPARISON
from teramind_eval.config import parse_controls, parse_generated, report_config
from teramind_eval.gallery.build import GALLERY
from teramind_eval.report.build import write_report
from teramind_eval.report.output import REPORT, Kind, fingerprint, name_of, state_of
from tests.eval.conftest import Stores
from tests.eval.drawn import (
    CANVAS,
    PROVENANCE,
    draw_section,
    imitation,
    spec_of,
    write_generated,
    write_real,
)


def config(stores: Stores, out: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "real": str(stores.real),
        "generated": str(stores.good),
        "controls": {"shuffled": str(stores.shuffled)},
        "truth": str(stores.truth),
        "out": str(out),
    }
    return report_config(**{**values, **changes})


@pytest.fixture(scope="session")
def report(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the good imitation, with the bad one as a second control."""
    out = tmp_path_factory.mktemp("report") / "out"
    controls = {"shuffled": str(stores.shuffled), "noisy": str(stores.bad)}
    page, made = write_report(config(stores, out, controls=controls))
    assert made
    assert page == out / "report.html"
    return out


@pytest.fixture(scope="session")
def metrics(report: Path) -> dict[str, Any]:
    """`metrics.json`, stores by label."""
    found = json.loads((report / "metrics.json").read_text())
    found["by_label"] = {store["label"]: store for store in found["stores"]}
    return found


def test_better_images_score_better(metrics: dict[str, Any]) -> None:
    stores = metrics["by_label"]
    good, bad, shuffled = (stores[name]["brain"] for name in ("generated", "noisy", "shuffled"))
    for stain in ("DAPI", "PolyT", "together"):
        for measure in ("psnr_db", "ssim"):
            best = good["image"][stain][measure]["mean"]
            assert best > bad["image"][stain][measure]["mean"]
            assert best > shuffled["image"][stain][measure]["mean"]
    assert good["nuclei"]["against_truth"]["f1"] > 0.95
    assert good["nuclei"]["against_truth"]["f1"] > 2 * shuffled["nuclei"]["against_truth"]["f1"]
    assert stores["real"]["brain"]["nuclei"]["against_truth"]["f1"] > 0.95
    assert stores["real"]["brain"]["nuclei"]["against_real"] is None


def test_shapes_of_nuclei_with_intervals(metrics: dict[str, Any], report: Path) -> None:
    import pandas as pd

    real, run, noisy = (
        metrics["by_label"][name]["brain"]["nuclei"] for name in ("real", "generated", "noisy")
    )
    assert run["regions"] == {}
    for name, one in run["measures"].items():
        assert one["mean_interval"]["low"] <= one["value"]["mean"] <= one["mean_interval"]["high"]
        assert real["measures"][name]["to_real"] is None
        if name != "per_patch":
            assert one["value"]["n"] == run["count"]
    far, near = (one["measures"]["mean_intensity"]["to_real"]["wasserstein"] for one in (noisy, run))
    assert far > near > 0
    table = pd.read_parquet(report / "metrics.parquet")
    rows = table[
        (table["store"] == "generated") & (table["measure"] == "nuclear_solidity") & (table["section"] == -1)
    ]
    assert rows["region"].tolist() == [""]
    assert rows.iloc[0]["low"] == run["measures"]["solidity"]["mean_interval"]["low"]
    assert not table.duplicated(["store", "section", "measure", "stain", "region"]).any()


def test_the_page_shows_all_measures_of_nuclei(metrics: dict[str, Any], report: Path) -> None:
    import pandas as pd

    table = pd.read_parquet(report / "figures/nuclei_measures.parquet").set_index(["store", "measure"])
    page = (report / "report.html").read_text()
    shown = page[page.index('<section id="nuclei">') : page.index("How many nuclei, and how large")]
    assert shown.count('<tr><th scope="row">') == 6
    for store, names in metrics["by_label"].items():
        for name, one in names["brain"]["nuclei"]["measures"].items():
            row = table.loc[store, name]
            assert row[["mean", "sd"]].tolist() == [one["value"]["mean"], one["value"]["sd"]]
            assert row["mean_low"] == one["mean_interval"]["low"]
            if store == "real":
                assert np.isnan(row["wasserstein"])
            else:
                assert row["kolmogorov_smirnov_high"] == one["kolmogorov_smirnov_interval"]["high"]
                assert f"<small>KS {row['kolmogorov_smirnov']:.3f} (" in shown
    one = table.loc["noisy", "solidity"]
    assert f'<span class="number">{one["mean"]:.3f} ± {one["sd"]:.3f}</span>' in shown
    assert (
        f"<small>n {int(one['n']):,}, mean in {one['mean_low']:.3f}–{one['mean_high']:.3f}</small>" in shown
    )
    assert f"W {one['wasserstein']:.4f} ({one['wasserstein_low']:.4f}–" in shown
    shares = (
        pd.read_parquet(report / "figures/nuclei_shapes.parquet").groupby(["measure", "store"])["share"].sum()
    )
    assert len(shares) == 4 * 4
    assert ((shares > 0.9) & (shares < 1.0 + 1e-9)).all()


def test_the_page_says_what_found_the_nuclei_and_how_it_errs(metrics: dict[str, Any], report: Path) -> None:
    found = metrics["by_label"]["real"]["brain"]["nuclei"]["against_truth"]
    page = (report / "report.html").read_text()
    assert "Nuclei are found by the watershed." in page
    assert f"of {found['true_positive'] + found['false_negative']} true nuclei" in page
    assert f"centroid F1 {found['f1']:.3f}" in page
    assert metrics["settings"]["nuclei"]["segmenter"] == "watershed"
    assert "scikit-image" in metrics["settings"]["nuclei"]


def test_brain_pools_its_sections(metrics: dict[str, Any]) -> None:
    store = metrics["by_label"]["generated"]
    parts = [section["scores"]["image"]["DAPI"]["ssim"] for section in store["sections"]]
    whole = store["brain"]["image"]["DAPI"]["ssim"]
    assert whole["n"] == sum(part["n"] for part in parts)
    assert whole["mean"] == pytest.approx(sum(p["mean"] * p["n"] for p in parts) / whole["n"])


def test_section_scores_are_those_of_the_arrays(metrics: dict[str, Any], stores: Stores) -> None:
    from skimage.metrics import structural_similarity

    from teramind_data.store import open_brain

    real, good = open_brain(str(stores.real)), open_brain(str(stores.good))
    x, y = (np.asarray(one.read("morphology", 0))[0] for one in (real, good))
    size = metrics["settings"]["tile_px"]
    molecules = draw_section(11).molecules
    values = []
    for top in range(0, CANVAS[0], size):
        for left in range(0, CANVAS[1], size):
            inside = (molecules[0] // size == top // size) & (molecules[1] // size == left // size)
            if inside.any():
                cut = (slice(top, top + size), slice(left, left + size))
                values.append(
                    structural_similarity(
                        x[cut],
                        y[cut],
                        gaussian_weights=True,
                        sigma=1.5,
                        use_sample_covariance=False,
                        data_range=255,
                    )
                )
    found = metrics["by_label"]["generated"]["sections"][0]["scores"]["image"]["DAPI"]["ssim"]
    assert found["n"] == len(values)
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)


def test_trends_say_how_attention_follows_expression(metrics: dict[str, Any]) -> None:
    lines = [
        one
        for one in metrics["trends"]
        if one["channel"] == "window" and one["section"] is None and one["region"] is None
    ]
    assert len(lines) == 1
    assert lines[0]["genes"] == ["Slc17a7"]
    assert lines[0]["slope"] == pytest.approx(1.0, abs=0.1)
    assert lines[0]["correlation"] > 0.9


def test_page_stands_alone(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert not re.search(r"https?://", page), "the page names an address"
    assert not re.search(r"<(link|iframe)\b|<script[^>]* src", page)
    sources = re.findall(r'(?:src|srcset|href)="([^"]{0,40})', page)
    assert sources
    assert all(one.startswith(("data:image/png;base64,", "data:image/webp;base64,", "#")) for one in sources)
    assert "url(" not in page
    assert "default-src 'none'; img-src data:;" in page


def test_page_says_what_matters(report: Path) -> None:
    page = (report / "report.html").read_text()
    # The noisy control's nuclei are found nearly as well.
    assert "does not clearly beat shuffled and noisy in centroid F1. It wins in PSNR and SSIM." in page
    assert "Trained 5,000 steps of 8 crops on P.zarr, 2.0 h on cpu." in page
    assert "Trained 60 steps of 8 crops on A.zarr, 80 s on cpu." in page
    assert "Generated with 15 DDIM steps, seed 3." in page
    assert "teramind-eval report --real" in page
    assert all(
        f'id="{part}"' in page
        for part in ("summary", "pictures", "sections", "space", "nuclei", "attention", "made")
    )
    assert page.count("<img") == page.count('alt="') > 20


def test_every_picture_is_a_file_too(report: Path) -> None:
    files = sorted(path.name for path in (report / "figures").glob("*.png"))
    page = (report / "report.html").read_text()
    # A picture with outlines is two layers on the page, and two files: without and with them.
    assert len(files) == len(re.findall(r"data:image/(?:png|webp);base64,[^\"]+", page))
    assert all((report / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in files)
    expected = (
        "psnr_ssim_by_section",
        "psnr_ssim_by_section_dark",
        "place1_zoom3_real",
        "place1_zoom3_real_outlines",
    )
    assert {f"{name}.png" for name in expected} <= set(files)


def test_figures_have_their_numbers_beside_them(report: Path, metrics: dict[str, Any]) -> None:
    import pandas as pd

    curves = pd.read_parquet(report / "figures/psnr_ssim_by_section.parquet")
    curves = curves.set_index(["store", "section", "stain", "measure"])
    wanted = metrics["by_label"]["noisy"]["sections"][1]["scores"]["image"]["PolyT"]["ssim"]
    assert curves.loc["noisy", "s1", "PolyT", "ssim"][["mean", "sd", "n"]].to_dict() == wanted
    shares = pd.read_parquet(report / "figures/nuclei_distributions.parquet")
    totals = shares.groupby(["measure", "store"])["share"].sum()
    assert ((totals > 0.9) & (totals < 1.0 + 1e-9)).all()
    places = pd.read_parquet(report / "figures/places.parquet")
    # Of four stores: three places at three zooms, both stains and the nuclei of the first, two sections' montage.
    assert places.groupby("view").size().to_dict() == {
        "Montage": 8,
        "Nuclei": 3 * 4 + 2 * 4,
        "Region": 3 * 4 + 4,
        "Whole section": 3 * 4,
    }
    assert all((report / "figures" / name).is_file() for name in places["file"])
    assert places.groupby("place")["section"].nunique().eq(1).all()
    nuclei = pd.read_parquet(report / "figures/nuclei_by_section.parquet")
    nuclei = nuclei.set_index(["store", "section", "measure"])
    wanted = metrics["by_label"]["noisy"]["sections"][1]["scores"]["nuclei"]["measures"]["area_um2"]["value"]
    assert nuclei.loc["noisy", "s1", "area_um2"][["mean", "sd", "n"]].to_dict() == wanted
    tissue = pd.read_parquet(report / "figures/space_tissue_real.parquet")
    assert set(tissue["section"]) == {"s0", "s1"}
    assert tissue["y_um"].max() < CANVAS[0] * 0.432
    assert set(tissue["z_um"]) == {0.0, 100.0}


def test_table_holds_the_same_numbers(report: Path, metrics: dict[str, Any]) -> None:
    import pandas as pd

    table = pd.read_parquet(report / "metrics.parquet")
    table = table[table["region"] == ""].set_index(["store", "section", "measure", "stain"])
    row = table.loc["generated", -1, "psnr_db", "together"]
    assert row["mean"] == metrics["by_label"]["generated"]["brain"]["image"]["together"]["psnr_db"]["mean"]


def test_same_inputs_are_left_alone_and_others_refused(stores: Stores, report: Path) -> None:
    controls = {"shuffled": str(stores.shuffled), "noisy": str(stores.bad)}
    before = (report / "report.html").stat().st_mtime_ns
    assert write_report(config(stores, report, controls=controls))[1] is False
    with pytest.raises(
        OutputExistsError, match=r"other inputs or settings.*found setting seed 0, now 1\)"
    ) as error:
        write_report(config(stores, report, controls=controls, seed=1))
    assert "--overwrite" in str(error.value)
    assert (report / "report.html").stat().st_mtime_ns == before


def test_another_first_run_is_another_report(tmp_path: Path) -> None:
    inputs, settings = {"real": {}, "a": {"url": "A"}, "b": {"url": "B"}}, {"seed": 0}
    turned = {key: inputs[key] for key in ("real", "b", "a")}
    assert name_of(inputs, settings) != name_of(turned, settings)
    (tmp_path / "report.html").write_text("<html>")
    (tmp_path / "metrics.json").write_text(json.dumps({"inputs": inputs, "settings": settings}))
    assert state_of(tmp_path, inputs, settings, overwrite=False) == "current"
    assert state_of(tmp_path, turned, settings, overwrite=True) == "other"
    with pytest.raises(OutputExistsError, match=r"other inputs or settings.*same inputs in another order"):
        state_of(tmp_path, turned, settings, overwrite=False)


def test_what_differs_from_an_earlier_output_is_named(tmp_path: Path) -> None:
    inputs = {"real": {"url": "C", "root_sha256": "a" * 64, "modified_ns": 1}, "a": {"url": "A"}}
    settings = {"seed": 0, "tile_px": 64, "nuclei": {"segmenter": "watershed", "size": 2}, "inside": None}
    (tmp_path / "report.html").write_text("<html>")
    (tmp_path / "metrics.json").write_text(json.dumps({"inputs": inputs, "settings": settings}))
    written = {"real": {**inputs["real"], "root_sha256": "b" * 64, "modified_ns": 2}, "b": {"url": "B"}}
    with pytest.raises(OutputExistsError) as error:
        state_of(tmp_path, written, settings, overwrite=False)
    found = "input real (root_sha256, modified_ns), no more input a, new input b"
    assert f"(found {found})" in str(error.value)
    other = {"seed": 1, "tile_px": 32, "nuclei": {"segmenter": "cellpose", "size": 2}, "inside": [0, 1]}
    with pytest.raises(OutputExistsError) as error:
        state_of(tmp_path, {**inputs, "a": {"url": "A2"}}, other, overwrite=False)
    found = (
        "input a (url A, now A2), setting seed 0, now 1, setting tile_px 64, now 32, "
        "setting nuclei (segmenter watershed, now cellpose), and 1 more"
    )
    assert f"(found {found})" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"tile_px": 2 * max(CANVAS) + 16}, r"--tile-px.*at most \d+ px"),
        ({"patch_px": 2 * max(CANVAS) + 16}, r"--patch-px.*at most \d+ px"),
        ({"controls": {"a b": "S", "A-b": "S"}}, r"too alike.*'a b' and 'A-b'"),
    ],
)
def test_what_could_not_be_shown_is_named_before_any_work(
    stores: Stores, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    if "controls" in changes:
        changes = {"controls": dict.fromkeys(changes["controls"], str(stores.shuffled))}
    with pytest.raises(InputError, match=what):
        write_report(config(stores, tmp_path / "out", **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_others_is_never_replaced(stores: Stores, tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputExistsError, match="no report of ours"):
        write_report(config(stores, out, overwrite=True))
    assert (out / "thesis.txt").read_text() == "all of it"


@pytest.mark.parametrize("place", ["file/report", "link"])
def test_a_place_that_cannot_be_written_is_named(stores: Stores, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises((StoreError, OutputExistsError), match=f"{place}.*Give another --out"):
        write_report(config(stores, tmp_path / place))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def _images() -> list[np.ndarray]:
    return [draw_section(seed).image for seed in (11, 12)]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"canvas": (256, 272)}, "canvas"),
        ({"pixel_size_um": 0.108}, "pixel size of generated differs"),
        ({"stains": ("DAPI", "Other")}, "stains of generated are not those"),
        ({"sections": (Section(0, "s0", 0.0), Section(1, "elsewhere", 100.0))}, "section names"),
    ],
)
def test_stores_that_do_not_fit_are_named(
    stores: Stores, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    width = changes.get("canvas", CANVAS)[1] - CANVAS[1]
    images = [np.pad(image, ((0, 0), (0, 0), (0, width))) for image in _images()]
    other = write_generated(tmp_path / "other.zarr", images, **changes)
    with pytest.raises(InputError, match=what) as error:
        write_report(config(stores, tmp_path / "out", generated=str(other)))
    line = str(error.value)
    assert "other.zarr" in line
    assert f"Give a store that was generated from {stores.real}" in line
    assert "expected" in line
    assert "\n" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small")
def test_some_sections_are_compared_with_the_same_of_the_others(
    stores: Stores, metrics: dict[str, Any], tmp_path: Path
) -> None:
    # Section 0 of the generated store is section 1 of the atlas, the truth and the control.
    part = write_generated(
        tmp_path / "part.zarr",
        [imitation(draw_section(12).image, 4, 0)],
        provenance=PROVENANCE,
        sections=(Section(0, "s1", 100.0),),
    )
    page, _ = write_report(config(stores, tmp_path / "out", generated=str(part)))
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for one in found["stores"]:
        assert [section["name"] for section in one["sections"]] == ["s1"]
        whole = metrics["by_label"][one["label"]]["sections"][1]
        assert one["sections"][0]["scores"] == whole["scores"]
        assert one["sections"][0]["z_um"] == 100.0
    assert "Only 1 of 2 sections were generated and compared: s1." in found["warnings"]
    assert "Only 1 of 2 sections" in page.read_text()


def test_a_damaged_store_is_named(stores: Stores, tmp_path: Path) -> None:
    shutil.copytree(stores.good, tmp_path / "torn.zarr")
    chunk = next(
        path for path in (tmp_path / "torn.zarr/images/morphology/ome.zarr/0/c").rglob("*") if path.is_file()
    )
    content = bytearray(chunk.read_bytes())
    content[len(content) // 3] ^= 255
    chunk.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"morphology of section s\d is damaged: .*torn\.zarr .*Restore"
    ) as error:
        write_report(config(stores, tmp_path / "out", generated=str(tmp_path / "torn.zarr")))
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["torn.zarr"]


@pytest.mark.usefixtures("small")
def test_several_runs_are_told_from_each_other(stores: Stores, tmp_path: Path) -> None:
    # The baseline holds a third stain and its own order: what the real brain has is compared.
    images = [np.stack([np.zeros(CANVAS, np.uint8), image[1], image[0]]) for image in _images()]
    baseline = write_generated(tmp_path / "base.zarr", images, stains=("PolyA", "PolyT", "DAPI"))
    runs = {"noisy": str(stores.bad), "baseline": str(baseline), "ours": str(stores.good)}
    page, _ = write_report(config(stores, tmp_path / "out", generated=runs))
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["stores"]
    assert [(one["label"], one["role"]) for one in found] == [
        ("real", "real"),
        ("noisy", "generated"),
        ("baseline", "generated"),
        ("ours", "generated"),
        ("shuffled", "control"),
    ]
    assert found[2]["brain"]["image"]["together"]["psnr_db"]["mean"] == 100.0
    text = page.read_text()
    assert '▲ better<span class="hidden"> than noisy</span>' in text
    assert '▲ better<span class="hidden"> than shuffled</span>' in text
    assert f"--generated noisy={stores.bad} --generated baseline={baseline}" in text


def test_a_store_without_images_is_named(stores: Stores, tmp_path: Path) -> None:
    sections = tuple(Section(i, f"s{i}", 100.0 * i) for i in range(2))
    spec = BrainSpec("expression", CANVAS, 0.432, sections, Panel(("a", "b")), stains=())
    bare = create_brain(tmp_path / "bare.zarr", spec)
    for z, box in bare.pending("expression"):
        bare.write("expression", z, box, np.zeros((2, *box.shape), np.uint8))
    bare.write_molecules([(0, *np.zeros((3, 1), int))])
    bare.finish()
    with pytest.raises(
        InputError, match=r"generated has no images to compare: .*bare\.zarr .*teramind-model"
    ):
        write_report(config(stores, tmp_path / "out", generated=str(tmp_path / "bare.zarr")))


def test_a_control_without_a_section_is_named(stores: Stores, tmp_path: Path) -> None:
    other = write_generated(tmp_path / "other.zarr", _images()[:1], sections=(Section(0, "s0", 0.0),))
    with pytest.raises(InputError, match=r"section names of shuffled .*other\.zarr .*found no s1"):
        write_report(config(stores, tmp_path / "out", controls={"shuffled": str(other)}))
    assert not (tmp_path / "out").exists()


def test_an_incomplete_store_is_refused(stores: Stores, tmp_path: Path) -> None:
    half = _unfinished(tmp_path / "half.zarr")
    with pytest.raises(IncompleteStoreError, match=r"half\.zarr"):
        write_report(config(stores, tmp_path / "out", generated=half))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small")
def test_an_incomplete_store_asked_for_is_warned_about_and_replaces_a_report(
    stores: Stores, report: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(report, out)
    half = _unfinished(tmp_path / "half.zarr")
    page, made = write_report(
        config(stores, out, generated=half, controls={}, incomplete=True, overwrite=True)
    )
    assert made
    text = page.read_text()
    assert "half.zarr) is incomplete" in text
    assert "No control with images was given" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.zarr", "out"]


def test_a_store_that_is_still_being_written_is_another_at_every_shard(tmp_path: Path) -> None:
    # Remote stores have no time of modification; this one lies in memory.
    for url in (str(tmp_path / "G.zarr"), f"memory://{uuid.uuid4().hex}/G.zarr"):
        writer = create_brain(url, spec_of("generated"))
        seen = []

        def look(url: str = url, seen: list[Any] = seen) -> dict[str, Any]:
            brain = open_brain(url, incomplete=True)
            seen.append(name_of({"generated": fingerprint(url, brain.provenance)}, {}))
            return fingerprint(url, brain.provenance)

        look()
        for index, image in enumerate(_images()):
            writer.write("morphology", index, None, image)
            assert "shards_sha256" in look()
        writer.finish()
        assert "shards_sha256" not in look()
        maps = ImageSpec("attention_GLUT", ("window",), "float16", step=BIN_PX)
        bins = tuple(edge // BIN_PX for edge in CANVAS)
        append_image(url, maps, [(z, None, np.ones((1, *bins), np.float16)) for z in (0, 1)])
        last = look()
        assert len(set(seen)) == len(seen) == 5
        assert fingerprint(url, open_brain(url).provenance) == last


def test_the_part_compared_is_among_the_settings(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def stopped(config: Any, opened: Any, task: Any, journal: Path, described: Any) -> None:
        seen.append(described[1]["inside"])
        raise StoreError("stopped")

    monkeypatch.setattr("teramind_eval.report.build.gather", stopped)
    region = {"request": {"region": [0, 128, 64, 256]}}
    part = write_generated(tmp_path / "part.zarr", _images(), provenance=region)
    for generated in (part, stores.good):
        with pytest.raises(StoreError, match="stopped"):
            write_report(config(stores, tmp_path / "out", generated=str(generated)))
    assert seen == [[0, 128, 64, 256], None]


def test_what_was_measured_of_a_store_before_it_grew_is_not_gone_on_from(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def stopped(config: Any, opened: Any, task: Any, journal: Path, described: Any) -> None:
        seen.append(journal)
        raise StoreError("stopped")

    monkeypatch.setattr("teramind_eval.report.build.gather", stopped)
    half = tmp_path / "half.zarr"
    writer = create_brain(str(half), spec_of("generated"))
    for index in (0, None, 1):
        if index is not None:
            writer.write("morphology", index, None, _images()[index])
        with pytest.raises(StoreError, match="stopped"):
            write_report(config(stores, tmp_path / "out", generated=str(half), controls={}, incomplete=True))
    assert seen[0] == seen[1] != seen[2]


def _unfinished(path: Path) -> str:
    # All pixels are there, only the end is missing.
    writer = create_brain(str(path), spec_of("generated"))
    for index, image in enumerate(_images()):
        writer.write("morphology", index, None, image)
    return str(path)


def test_a_generated_store_is_no_real_one(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no molecules"):
        write_report(config(stores, tmp_path / "out", real=str(stores.good), generated=str(stores.bad)))


def test_truth_that_lacks_a_section_is_named(stores: Stores, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    shutil.copytree(stores.truth / "s0", truth / "s0")
    with pytest.raises(MissingInputError, match=r"s1/cells\.csv"):
        write_report(config(stores, tmp_path / "out", truth=str(truth)))
    (truth / "s1").mkdir()
    (truth / "s1" / "cells.csv").write_text("y,x\n1,2\n")
    with pytest.raises(InputError, match="lacks columns"):
        write_report(config(stores, tmp_path / "out", truth=str(truth)))
    (truth / "s1" / "cells.csv").write_bytes("y,x,radius_px,µ\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"cannot be read.*s1/cells\.csv.*UTF-8.*Save it as UTF-8") as error:
        write_report(config(stores, tmp_path / "out", truth=str(truth)))
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_refused_before_any_work(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such device here.*found cuda:7"):
        write_report(config(stores, tmp_path / "out", device="cuda:7"))
    assert not list(tmp_path.iterdir())


def test_a_real_store_without_nuclear_stain_is_refused(stores: Stores, tmp_path: Path) -> None:
    drawn = [draw_section(11)]
    sections = (Section(0, "s0", 0.0),)
    real = write_real(tmp_path / "R.zarr", drawn, stains=("PolyT", "PolyA"), sections=sections)
    with pytest.raises(InputError, match=r"no nuclear stain.*expected DAPI, found PolyT, PolyA"):
        write_report(config(stores, tmp_path / "out", real=str(real)))
    spec = BrainSpec("expression", CANVAS, 0.432, sections, Panel(("a", "b")), stains=())
    bare = create_brain(tmp_path / "bare.zarr", spec)
    bare.add_labels("tissue", array=np.ones((1, CANVAS[0] // 16, CANVAS[1] // 16), np.uint8))
    for z, box in bare.pending("expression"):
        bare.write("expression", z, box, np.zeros((2, *box.shape), np.uint8))
    bare.write_molecules([(0, *np.zeros((3, 1), int))])
    bare.finish()
    with pytest.raises(InputError, match=r"no nuclear stain.*expected DAPI, found none"):
        write_report(config(stores, tmp_path / "out", real=str(tmp_path / "bare.zarr")))


def test_generated_stores_are_named() -> None:
    assert parse_generated(["G.zarr"]) == {"generated": "G.zarr"}
    assert parse_generated(["runs/G.zarr/", "base=B.zarr"]) == {"G": "runs/G.zarr/", "base": "B.zarr"}
    odd = "s3://bucket/part=1/G.zarr"
    assert parse_generated([odd]) == {"generated": odd}
    assert parse_generated([f"a={odd}"]) == {"a": odd}
    for values in (["a=G.zarr", "a=H.zarr"], ["x/G.zarr", "y/G.zarr"], ["=G.zarr"], ["a="]):
        with pytest.raises(InputError, match="--generated"):
            parse_generated(values)


@pytest.mark.parametrize("values", [["shuffled"], ["=S.zarr"], ["a=S.zarr", "a=T.zarr"], ["a="]])
def test_controls_that_are_no_pairs(values: list[str]) -> None:
    with pytest.raises(InputError, match="--control"):
        parse_controls(values)


def test_settings_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same store") as error:
        report_config(real="C.zarr", generated="C.zarr", out=str(tmp_path))
    assert "\n" not in str(error.value)
    taken = [{"generated": {name: "G"}} for name in ("Real", "truth", "inception", "uniform")]
    for changes in ({"controls": {"real": "S"}}, {"controls": {"truth": "S"}}, *taken):
        with pytest.raises(InputError, match="may not be called"):
            report_config(**{"real": "C", "generated": "G", "out": "o", **changes})
    with pytest.raises(InputError, match="of a generated store and of a control"):
        report_config(real="C", generated={"a": "G"}, out="o", controls={"a": "S"})


@pytest.mark.parametrize(
    ("out", "what"),
    [
        ("s3://bucket/report", "cannot be written to a URL"),
        ("file:///tmp/report", "cannot be written to a URL"),
        (".", "a folder of its own"),
        ("", "a folder of its own"),
        ("runs/..", "a folder of its own"),
        ("/", "a folder of its own"),
    ],
)
@pytest.mark.parametrize("kind", [REPORT, COMPARISON, GALLERY], ids=lambda kind: kind.noun)
def test_an_output_that_is_no_local_folder_is_refused(kind: Kind, out: str, what: str) -> None:
    with pytest.raises(InputError, match=rf"{kind.noun} .*{what}|a {kind.noun} is {what}") as error:
        state_of(Path(out), {}, {}, overwrite=True, kind=kind)
    assert "\n" not in str(error.value)


def test_a_report_to_a_url_is_refused_before_anything_is_measured(stores: Stores) -> None:
    config = report_config(real=str(stores.real), generated=str(stores.good), out="s3://bucket/report")
    with pytest.raises(InputError, match="cannot be written to a URL"):
        write_report(config)


def test_command_line_exits_2_with_one_line(stores: Stores, tmp_path: Path, capsys: Any) -> None:
    from teramind_data.console import run_cli
    from teramind_eval.cli import app

    words = ["report", "--real", str(stores.real), "--generated", str(tmp_path / "none.zarr")]
    with pytest.raises(SystemExit) as stop:
        run_cli(app, [*words, "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "none.zarr" in lines[0]
    assert list(tmp_path.iterdir()) == []
