"""Named groups of genes whose attention is mapped (paper, section 4.4)."""

from __future__ import annotations

from dataclasses import dataclass

from teramind_data.errors import InputError

__all__ = ["PATHWAYS", "Pathway", "custom", "named", "pair"]


@dataclass(frozen=True)
class Pathway:
    """Genes mapped together, under a name that becomes part of the image's."""

    name: str
    genes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "_-." for c in self.name):
            raise InputError(
                "pathway name is not usable", expected="letters, digits, '_', '-', '.'", found=repr(self.name)
            )
        if not self.genes or len({gene.lower() for gene in self.genes}) != len(self.genes):
            raise InputError(
                "a pathway needs distinct genes",
                where=self.name,
                expected="at least one",
                found=list(self.genes),
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
            remedy="Or give --genes A,B,... with --name",
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
