from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from teramind_data.errors import MissingInputError, OutputExistsError, PanelError
from teramind_data.panel import Panel, canonical, intersect, is_control, read_panel, write_panel


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
