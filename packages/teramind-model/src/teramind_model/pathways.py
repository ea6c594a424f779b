"""Named groups of genes whose attention is mapped (paper, section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from teramind_data.errors import InputError, PanelError
from teramind_data.panel import Panel

__all__ = ["PATHWAYS", "Pathway", "check_genes", "custom", "distinct", "measured", "named", "pair"]


@dataclass(frozen=True)
class Pathway:
    """Genes mapped together, under a name that becomes part of the image's.

    ``origins`` says of each gene where it was read, for messages; empty where nobody read it from a file.
    """

    name: str
    genes: tuple[str, ...]
    origins: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "_-." for c in self.name):
            raise InputError(
                "pathway name is not usable",
                where=self.origins[0] if self.origins else None,
                expected="letters, digits, '_', '-', '.'",
                found=repr(self.name),
            )
        if not self.genes or len({gene.lower() for gene in self.genes}) != len(self.genes):
            raise InputError(
                "a pathway needs distinct genes",
                where=f"{self.name}{f', {self.origins[-1]}' if self.origins else ''}",
                expected="at least one, each once",
                found=", ".join(self.genes) or "none",
            )

    @property
    def image(self) -> str:
        """Name of its image in a store."""
        return f"attention_{self.name}"


PATHWAYS = {
    pathway.name: pathway
    for pathway in (
        Pathway("GLUT", ("Slc17a6", "Slc17a7")),
        Pathway("DOPA", ("Nr4a2", "Th")),
        Pathway("BLOD", ("Cldn5", "Aqp4")),
    )
}
"""The paper's: glutamatergic and dopaminergic neurons, and the blood-brain barrier."""


def named(name: str) -> Pathway:
    """One of :data:`PATHWAYS`, in any case."""
    try:
        return PATHWAYS[name.upper()]
    except KeyError:
        raise InputError(
            "unknown pathway",
            expected=", ".join(PATHWAYS),
            found=name,
            remedy="Or give --genes A,B,... with --name, or --pathways-file",
        ) from None


def pair(text: str) -> Pathway:
    """``"Slc17a6:Slc17a7"`` as a pathway of two genes, named ``Slc17a6_Slc17a7``."""
    genes = tuple(part.strip() for part in text.split(":"))
    if len(genes) != 2 or not all(genes):
        raise InputError("pair cannot be read", expected="GENE:GENE", found=repr(text))
    return Pathway("_".join(genes), genes)


def custom(genes: str, name: str | None) -> Pathway:
    """``"a,b,c"`` under ``name``."""
    if not name:
        raise InputError("genes need a name", where="--genes", remedy="Give --name, for example --name GABA")
    return Pathway(name, tuple(part.strip() for part in genes.split(",") if part.strip()))


def check_genes(pathways: Iterable[Pathway], panel: Panel, where: str) -> None:
    """PanelError naming the pathway, its gene and where that was read, unless ``panel`` has them all.

    Args:
        pathways: to look at.
        panel: the checkpoint's.
        where: whose panel this is.
    """
    for pathway in pathways:
        for number, gene in enumerate(pathway.genes):
            if gene in panel:
                continue
            origin = f"{pathway.origins[number]}, " if pathway.origins else ""
            names = {name.lower(): name for name in panel}
            near = get_close_matches(gene.lower(), names, n=1, cutoff=0.75)
            hint = f"Did you mean {names[near[0]]}? Else leave" if near else "Leave"
            raise PanelError(
                "gene of a pathway is not in the panel",
                where=f"{origin}pathway {pathway.name}",
                expected=f"one of the {len(panel)} genes of {where}",
                found=gene,
                remedy=f"{hint} the gene out, or use a checkpoint that was trained on it",
            )


def measured(panel: Panel) -> tuple[tuple[Pathway, ...], dict[str, tuple[str, ...]]]:
    """Those of :data:`PATHWAYS` whose genes ``panel`` has, and of the others which genes it lacks."""
    lacking = {
        name: tuple(gene for gene in pathway.genes if gene not in panel) for name, pathway in PATHWAYS.items()
    }
    there = tuple(PATHWAYS[name] for name, missing in lacking.items() if not missing)
    return there, {name: missing for name, missing in lacking.items() if missing}


def distinct(pathways: Iterable[Pathway]) -> tuple[Pathway, ...]:
    """The same without repetitions; InputError where one name stands for different genes."""
    found: dict[str, Pathway] = {}
    for pathway in pathways:
        # File systems that ignore case would put two such images in one place.
        there = found.setdefault(pathway.name.lower(), pathway)
        if (there.name, there.genes) != (pathway.name, pathway.genes):
            raise InputError(
                "two pathways have one name",
                where=pathway.origins[0] if pathway.origins else None,
                expected=f"{there.name}: {', '.join(there.genes)}",
                found=f"{pathway.name}: {', '.join(pathway.genes)}",
                remedy="Rename one of them",
            )
    return tuple(found.values())
