"""Pathways from YAML, CSV and GMT files, and what is said of those that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from teramind_data.errors import InputError, MissingInputError, PanelError
from teramind_data.panel import Panel
from teramind_model.pathway_files import read_pathways
from teramind_model.pathways import check_genes, distinct

FILES = {
    "p.yaml": "GABA: [Gad1, Gad2]\nMYELIN:\n  - Mbp\n  - Mog\n",
    "p.yml": "GABA: Gad1, Gad2\nMYELIN: [Mbp, Mog]\n",
    "wide.csv": "name,genes\nGABA,Gad1,Gad2\n\n# a note\nMYELIN,Mbp,Mog,\n",
    "packed.csv": "\ufeffpathway,genes\nGABA,Gad1;Gad2\nMYELIN,Mbp Mog\n",
    "long.csv": "name,gene\nGABA,Gad1\nMYELIN,Mbp\nGABA,Gad2\nMYELIN,Mog\n",
    "wide.tsv": "GABA\tGad1\tGad2\nMYELIN\tMbp\tMog\n",
    "p.gmt": "GABA\thttp://x\tGad1\tGad2\nMYELIN\t\tMbp\tMog\t\n",
}


@pytest.mark.parametrize("name", FILES)
def test_formats_agree(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(FILES[name], encoding="utf-8")
    assert [(p.name, p.genes) for p in read_pathways(file)] == [
        ("GABA", ("Gad1", "Gad2")),
        ("MYELIN", ("Mbp", "Mog")),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "GABA: [Gad1,\n  Gad1]", r"twice: .*a\.yaml line 2, pathway GABA \(found Gad1\)"),
        ("a.yaml", "GABA: {a: b}", r"line 1 \(expected a list of genes of GABA, found a mapping\)"),
        ("a.yaml", "A: [x]\nB: []", r"line 2 .*no genes of B"),
        ("a.yaml", "- GABA", "expected a mapping of names"),
        ("a.yaml", "GABA: [Gad1", r"no YAML: .*line 1"),
        ("a.yaml", "", "names no pathway"),
        ("a.csv", "name,gene\nGABA,Gad1\nMYELIN\n", r"a\.csv line 3 .*no genes of MYELIN"),
        ("a.csv", ",Gad1\n", r"line 1 .*no a name"),
        ("a.csv", "MY GROUP,Gad1\n", r"name is not usable: .*a\.csv line 1"),
        ("a.gmt", "GABA\tGad1\n", r"line 1 .*no genes of GABA"),
        ("a.txt", "GABA", "unknown format"),
    ],
)
def test_errors_name_line_and_gene(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_pathways(file)
    assert "\n" not in str(caught.value)


def test_a_gene_that_the_panel_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("GABA:\n - Gad1\n - Gda2\n")
    with pytest.raises(PanelError, match=r"a\.yaml line 3, pathway GABA .*found Gda2.*Did you mean Gad2\?"):
        check_genes(read_pathways(file), Panel(("gad1", "Gad2")), "RUN")


def test_genes_are_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("ODD: [No, 1e5, 1810034E14Rik]\n")
    assert read_pathways(file)[0].genes == ("No", "1e5", "1810034E14Rik")


def test_one_name_stands_for_one_pathway(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("A,Th\na,Cldn5\n")
    with pytest.raises(InputError, match=r"one name: .*a\.csv line 2"):
        distinct(read_pathways(file))
    assert len(distinct([*read_pathways(file)[:1], *read_pathways(file)[:1]])) == 1


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="not found"):
        read_pathways(tmp_path / "a.csv")
