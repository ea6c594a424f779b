from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from teramind_data.errors import MissingInputError, OutputExistsError, PanelError
from teramind_data.panel import (
    Panel,
    canonical,
    choose,
    intersect,
    is_control,
    match,
    read_aliases,
    read_panel,
    write_panel,
)


def test_positions_ignore_case_and_keep_the_order_asked_for() -> None:
    panel = Panel(("Slc17a6", "Th", "Gad1"))
    assert panel.positions(["gad1", "SLC17A6"]).tolist() == [2, 0]
    assert "th" in panel
    assert "Aqp4" not in panel


def test_aliases_name_the_same_gene() -> None:
    assert canonical("March4") == canonical("MARCHF4")
    assert Panel(("Marchf4",)).positions(["March4"]).tolist() == [0]
    assert canonical("Old", {"OLD": "New"}) == "new"


def test_the_fingerprint_depends_on_genes_and_order_alone() -> None:
    assert Panel(("a", "b")).fingerprint == hashlib.sha256(b"a\nb").hexdigest()
    assert Panel(("a", "b")).fingerprint != Panel(("b", "a")).fingerprint


def test_missing_genes_are_named() -> None:
    with pytest.raises(PanelError, match=r"genes are missing from the panel.*missing Aqp4, Cldn5\)\. Use"):
        Panel(("Th",)).positions(["Th", "Aqp4", "Cldn5"])
    many = [f"g{i}" for i in range(20)]
    with pytest.raises(PanelError, match="g7 and 12 more"):
        Panel(("Th",)).positions(many)


@pytest.mark.parametrize(
    ("genes", "says"), [((), "empty"), (("a", "A"), "twice.*A after a"), (("a", " "), "blank name")]
)
def test_bad_panels_are_refused(genes: tuple[str, ...], says: str) -> None:
    with pytest.raises(PanelError, match=says):
        Panel(genes)


def test_intersection_keeps_the_first_order_and_spelling() -> None:
    assert intersect([Panel(("C", "a", "b")), Panel(("B", "c"))]).genes == ("C", "b")
    with pytest.raises(PanelError, match="no gene in common.*panels of 1, 2 genes"):
        intersect([Panel(("a",)), Panel(("b", "c"))])


@pytest.mark.parametrize(
    "name", ["Blank-1", "blank_33", "Blank", "NegControlProbe_00042", "UnassignedCodeword_1"]
)
def test_controls_are_recognised(name: str) -> None:
    assert is_control(name)


@pytest.mark.parametrize("name", ["Slc17a6", "Negr1", "Nego", "Blnk", "Antxr1"])
def test_genes_are_no_controls(name: str) -> None:
    assert not is_control(name)


def test_real_panels_share_229_genes(reference_dir: Path) -> None:
    main, supp, human = (
        read_panel(reference_dir / "panels" / f"{n}.csv") for n in ("main_500", "supp_500", "human_81")
    )
    assert (len(main), len(supp), len(human)) == (500, 500, 81)
    assert len(intersect([main, supp])) == 229
    assert len(intersect([human, supp])) == 81


def test_files_roundtrip_and_are_not_replaced_unasked(tmp_path: Path) -> None:
    file = tmp_path / "panel.csv"
    write_panel(file, Panel(("a", "b")))
    assert read_panel(file).genes == ("a", "b")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_panel(file, Panel(("c",)))
    assert read_panel(file).genes == ("a", "b")
    write_panel(file, Panel(("c",)), overwrite=True)
    assert read_panel(file).genes == ("c",)
    assert [p.name for p in tmp_path.iterdir()] == ["panel.csv"]


def test_plain_lists_other_columns_and_blanks_are_read(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("# mine\nTh\n\nBlank-3\nGad1\n")
    assert read_panel(file).genes == ("Th", "Gad1")
    file.write_text("id,Gene\n1,Th\n2,Gad1\n")
    assert read_panel(file).genes == ("Th", "Gad1")


def test_unreadable_panels_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="panel not found: .*none.csv"):
        read_panel(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_text("id,name\n1,Th\n")
    with pytest.raises(PanelError, match=r"no gene column: .*x\.csv .*'gene', found id, name\)"):
        read_panel(tmp_path / "x.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(PanelError, match="not a text file"):
        read_panel(tmp_path / "b.csv")
    (tmp_path / "e.csv").write_text("gene\n")
    with pytest.raises(PanelError, match=r"panel is empty: .*e\.csv"):
        read_panel(tmp_path / "e.csv")


def test_the_real_intersection_is_the_same_from_any_spelling(reference_dir: Path) -> None:
    main, supp = (read_panel(reference_dir / "panels" / f"{n}.csv") for n in ("main_500", "supp_500"))
    common = intersect([main, supp])
    assert list(common) == [gene for gene in main if gene in supp]
    assert common.fingerprint == intersect([main, Panel(tuple(g.upper() for g in supp))]).fingerprint
    assert set(map(canonical, common)) == set(map(canonical, intersect([supp, main])))
    fit = match(supp.genes, main)
    assert (len(fit.found), len(fit.missing), len(fit.extra)) == (229, 271, 271)


def test_a_match_says_what_is_dropped_and_why() -> None:
    panel = Panel(("Th", "Marchf4", "Gad1", "Aqp4"))
    fit = match(("gad1", "Blank-1", "March4", "Cldn5", "Th", "TH", "NegControlProbe_1"), panel)
    assert fit.found == {"Th": "Th", "Marchf4": "March4", "Gad1": "gad1"}
    assert fit.by_case == {"Gad1": "gad1"}
    assert fit.by_alias == {"Marchf4": "March4"}
    assert (fit.missing, fit.extra) == (("Aqp4",), ("Cldn5",))
    assert (fit.controls, fit.doubled) == (("Blank-1", "NegControlProbe_1"), ("TH",))


def test_missing_genes_are_left_out_only_where_allowed() -> None:
    own, wanted = Panel(("a", "b", "Old")), Panel(("New", "C", "B"))
    with pytest.raises(PanelError, match=r"brain lacks genes.*all 3.*missing New, C\)\..*--allow-missing"):
        choose(own, wanted)
    panel, missing = choose(own, wanted, allow_missing=True)
    assert (panel.genes, missing) == (("B",), ("New", "C"))
    panel, missing = choose(own, wanted, {"old": "New"}, allow_missing=True)
    assert (panel.genes, missing) == (("New", "B"), ("C",))
    with pytest.raises(PanelError, match="one species"):
        choose(own, Panel(("x",)), allow_missing=True)


def test_aliases_are_added_by_a_table(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("alias,gene,why\nOldOne,NewOne,renamed\n")
    table = read_aliases(file)
    assert canonical("OLDONE", table) == "newone"
    assert canonical("March4", table) == "marchf4"
    assert intersect([Panel(("NewOne", "b")), Panel(("oldone",))], table).genes == ("NewOne",)
    for text, says in (
        ("old,new\na,b\n", "lacks columns.*alias, gene"),
        ("", "lacks columns.*nothing"),
        ("alias,gene\na,\n", "empty name"),
        ("alias,gene\na,b\nA,c\n", "two genes"),
        ("alias,gene\na,b\nb,c\n", "from name to name.*a, b, c"),
    ):
        file.write_text(text)
        with pytest.raises(PanelError, match=says):
            read_aliases(file)
    with pytest.raises(MissingInputError):
        read_aliases(tmp_path / "none.csv")


def test_check_shows_sources_side_by_side(
    tmp_path: Path, run_command: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "a.csv").write_text("gene\nTh\nGad1\nBlank-1\nMarchf4\nOnlyA\n")
    (tmp_path / "b.txt").write_text("March4\nTH\nBlank-7\nBlank-8\ngad1\nRenamed\n")
    folder = tmp_path / "raw" / "s_000"
    (folder / "images").mkdir(parents=True)
    (folder / "cell_by_gene.csv").write_text("cell,Gad1,Th,March4,Blank-2\n")
    sources = [tmp_path / "a.csv", tmp_path / "b.txt", tmp_path / "raw"]
    code, out, err = run_command("panel", "check", *sources)
    assert (code, err) == (0, "")
    assert "a.csv: 5 names, 4 genes, 3 of 3" in out
    assert "b.txt: 6 names, 4 genes, 3 of 3" in out
    assert "raw: 4 names, 3 genes, 3 of 3" in out
    assert "  dropped as blanks and controls (2): Blank-7, Blank-8\n" in out
    assert "  dropped, not in all sources (1): OnlyA\n" in out
    assert "  matched in another case (2): TH = Th, gad1 = Gad1\n" in out
    assert "  matched by alias (1): March4 = Marchf4\n" in out
    (tmp_path / "aliases.csv").write_text("alias,gene\nRenamed,OnlyA\n")
    panel = sources[0]
    code, out, err = run_command(
        "panel", "check", *sources[:2], "--panel", panel, "--aliases", tmp_path / "aliases.csv"
    )
    assert (code, err) == (0, "")
    assert "Renamed = OnlyA" in out
    code, out, err = run_command("panel", "check", *sources, "--panel", panel)
    assert code == 2
    assert "  missing (1): OnlyA\n" in out
    assert err.count("\n") == 1
    assert "genes are missing from the panel" in err
    assert "b.txt" in err
    code, out, _ = run_command("panel", "intersect", *sources[:2], "--aliases", tmp_path / "aliases.csv")
    assert out.split() == ["Th", "Gad1", "Marchf4", "OnlyA"]
