"""Panels and gene programs: which genes there are, and how many transcripts of each a cell of a type holds.

Names and order of a panel are a pure function of its sizes. Named markers come first; the rest are fillers:
`Phan0001` .. shared by both panels, `Phan2001` .. of panel one alone, `Phan5001` .. of panel two alone. A
filler's program is a pure function of its number, so it means the same in every phantom.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from teramind_data.phantom.keys import generator

TYPES = (
    "glut_cortex",
    "glut_hippocampus",
    "glut_subcortex",
    "gaba_pvalb",
    "gaba_sst",
    "dopa",
    "astrocyte",
    "endothelial",
    "oligodendrocyte",
    "opc",
    "microglia",
)
TYPE_INDEX = {name: i for i, name in enumerate(TYPES)}

# Mean transcripts of the markers a cell, before a type's total is normalised. Slc17a6 and Slc17a7 are each
# expressed a little in the other's neurons, as in the border layers and nuclei of a real brain.
PROGRAMS: dict[str, dict[str, float]] = {
    "glut_cortex": {"Slc17a7": 38, "Slc17a6": 4, "Satb2": 16, "Cux2": 10, "Nrn1": 12},
    "glut_hippocampus": {"Slc17a7": 34, "Prox1": 22, "Nrn1": 10, "Slc17a6": 2},
    "glut_subcortex": {"Slc17a6": 40, "Tcf7l2": 16, "Slc17a7": 6, "Lef1": 10},
    "gaba_pvalb": {"Gad1": 26, "Gad2": 20, "Pvalb": 24, "Slc32a1": 12},
    "gaba_sst": {"Gad1": 22, "Gad2": 24, "Sst": 28, "Slc32a1": 12},
    "dopa": {"Th": 34, "Nr4a2": 22, "Slc6a3": 18, "Slc18a2": 14, "Slc17a6": 3},
    "astrocyte": {"Aqp4": 20, "Gja1": 22, "Gfap": 10, "Slc1a3": 14},
    "endothelial": {"Cldn5": 34, "Pecam1": 14, "Flt1": 18},
    "oligodendrocyte": {"Mog": 28, "Sox10": 12, "Mbp": 30, "Opalin": 10},
    "opc": {"Pdgfra": 28, "Sox10": 16, "Cspg4": 14},
    "microglia": {"Ctss": 32, "Csf1r": 16, "Cx3cr1": 16},
}
# The order of the shared part of both panels begins so; pathways (GLUT, DOPA, BLOD) first.
MARKERS = tuple(
    dict.fromkeys(
        ["Slc17a6", "Slc17a7", "Nr4a2", "Th", "Cldn5", "Aqp4", "Gad1", "Gad2", "Mog", "Sox10"]
        + [gene for program in PROGRAMS.values() for gene in program]
    )
)
# Mean transcripts of a typical cell of the type.
TOTALS = {
    "glut_cortex": 280,
    "glut_hippocampus": 220,
    "glut_subcortex": 290,
    "gaba_pvalb": 240,
    "gaba_sst": 220,
    "dopa": 300,
    "astrocyte": 170,
    "endothelial": 150,
    "oligodendrocyte": 160,
    "opc": 150,
    "microglia": 130,
}
NEURONS = ("glut_cortex", "glut_hippocampus", "glut_subcortex", "gaba_pvalb", "gaba_sst", "dopa")


def panel_genes(panel: int, genes: int, shared: int) -> tuple[str, ...]:
    """Names of panel 1 or 2, the `shared` genes first, in the same order in both."""
    common = list(MARKERS) + [f"Phan{i:04d}" for i in range(1, shared - len(MARKERS) + 1)]
    first = {1: 2001, 2: 5001}[panel]
    return tuple(common + [f"Phan{first + i:04d}" for i in range(genes - shared)])


def blank_genes(blanks: int) -> tuple[str, ...]:
    """Names of the blank barcodes, which count noise."""
    return tuple(f"Blank-{i}" for i in range(1, blanks + 1))


def _filler(name: str) -> np.ndarray:
    """Mean transcripts (types,) of a filler before normalisation: of one or two types, all neurons, or all."""
    rng = generator("filler", name)
    means = np.full(len(TYPES), 0.08)
    kind = rng.random()
    if kind < 0.6:
        first, second = rng.choice(len(TYPES), 2, replace=False)
        means[first] += rng.uniform(2, 8)
        means[second] += rng.uniform(0, 2)
    elif kind < 0.75:
        means[[TYPE_INDEX[t] for t in NEURONS]] += rng.uniform(0.5, 3)
    else:
        means += rng.uniform(0.2, 1.5)
    return means


@lru_cache(maxsize=16)
def mean_counts(panel: int, genes: int, shared: int) -> np.ndarray:
    """Mean transcripts (types, genes) of a typical cell.

    Shared and own genes are normalised apart, each to a fixed part of the type's total, so that a shared gene
    has the same mean whichever panel it was measured with.
    """
    names = panel_genes(panel, genes, shared)
    table = np.zeros((len(TYPES), genes))
    for g, name in enumerate(names):
        if name in MARKERS:
            table[:, g] = 0.05
            for t, program in PROGRAMS.items():
                table[TYPE_INDEX[t], g] += program.get(name, 0.0)
        else:
            table[:, g] = _filler(name)
    total = np.array([TOTALS[t] for t in TYPES], float)
    part = 0.5 + 0.5 * shared / genes
    for columns, share in ((slice(0, shared), part), (slice(shared, genes), 1.0 - part)):
        if table[:, columns].shape[1]:
            table[:, columns] *= (share * total / table[:, columns].sum(1))[:, None]
    table.setflags(write=False)
    return table


# Pairs of genes by what joins them; later measures of gene-gene attention can be held against these.
# Interaction: the second gene's mean in a cell rises with the first gene's program in and around that cell.
INTERACTING = (("Slc17a6", "Slc17a7"), ("Nr4a2", "Th"), ("Cldn5", "Aqp4"))
# Expressed in the same cells, independent given the cell's type, size and activity.
COEXPRESSED = (("Gad1", "Gad2"), ("Mog", "Mbp"), ("Csf1r", "Ctss"))
# Neither: different cells.
UNRELATED = (("Mog", "Gad1"), ("Ctss", "Satb2"), ("Th", "Prox1"))
INTERACTION_RANGE_PX = 35.0
INTERACTION_STRENGTH = 2.0
