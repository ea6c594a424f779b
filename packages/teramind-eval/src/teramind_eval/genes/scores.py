"""Gene statistics as plain data: rows of `genes.parquet`, and the brain's for `metrics.json`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from teramind_eval.genes.statistics import GeneMoments, GeneStatistics

#: The table's file.
GENES = "genes.parquet"


@dataclass(frozen=True, slots=True)
class GeneScores:
    """One gene in the brain, a section or a region (both None: the brain).

    Attributes:
        gene: its name.
        section: index of the section.
        region: name of the region.
        n: bins of tissue.
        mean, sd: of log2(counts + 1) over those bins.
        transcripts: in them.
        bins: of them with any.
    """

    gene: str
    section: int | None
    region: str | None
    n: int
    mean: float | None
    sd: float | None
    transcripts: int
    bins: int


def gene_scores(found: GeneStatistics) -> Iterator[GeneScores]:
    """The brain's lines, then those of sections, then those of regions; each in the panel's order."""
    yield from brain_scores(found)
    for index in range(len(found.sections.n)):
        yield from _lines(found.genes, found.sections, index, section=index)
    for index, name in enumerate(found.region_names):
        yield from _lines(found.genes, found.regions, index, region=name)


def brain_scores(found: GeneStatistics) -> Iterator[GeneScores]:
    """The brain's lines alone."""
    yield from _lines(found.genes, found.brain, 0)


def _lines(
    genes: tuple[str, ...],
    moments: GeneMoments,
    index: int,
    *,
    section: int | None = None,
    region: str | None = None,
) -> Iterator[GeneScores]:
    n, sd = int(moments.n[index]), moments.sd[index]
    for number, gene in enumerate(genes):
        yield GeneScores(
            gene=gene,
            section=section,
            region=region,
            n=n,
            mean=float(moments.mean[index, number]) if n else None,
            sd=None if math.isnan(sd[number]) else float(sd[number]),
            transcripts=int(moments.transcripts[index, number]),
            bins=int(moments.bins[index, number]),
        )


def write_genes(folder: Path, found: GeneStatistics) -> None:
    """`genes.parquet` in a folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("gene", pa.string()),
            ("section", pa.int64()),
            ("region", pa.string()),
            ("n", pa.int64()),
            ("mean", pa.float64()),
            ("sd", pa.float64()),
            ("transcripts", pa.int64()),
            ("bins", pa.int64()),
        ]
    )
    rows = [asdict(one) for one in gene_scores(found)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / GENES)
