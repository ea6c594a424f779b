"""Whether a brain has the genes of `--panel`, told before its transcripts are read where that can be known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from teramind_data.errors import PanelError
from teramind_data.ingest import merscope
from teramind_data.ingest.merscope import SectionFolder
from teramind_data.ingest.transcripts import GeneNames, TranscriptCount, stream_transcripts
from teramind_data.panel import Panel, canonical, choose, match


@dataclass(frozen=True)
class Wanted:
    """The genes asked for: panel, the file they come from, further names of genes, whether some may be lacking."""

    panel: Panel
    file: Path
    aliases: Mapping[str, str]
    allow_missing: bool = False

    def choose(self, own: Panel) -> tuple[Panel, tuple[str, ...]]:
        """Those that the brain has, in the order asked for, and those it lacks.

        Raises:
            PanelError: some are lacking and may not be, or all are; names the panel's file.
        """
        try:
            return choose(own, self.panel, self.aliases, allow_missing=self.allow_missing)
        except PanelError as error:
            raise PanelError(error.what, self.file, error.expected, error.found, error.remedy) from None

    def unmet(self, names: Iterable[str]) -> tuple[str, ...]:
        """Genes that none of the names is, where that would be refused; empty where it would not."""
        distinct = {canonical(name, self.aliases): name for name in names}
        fit = match(tuple(distinct.values()), self.panel, self.aliases)
        return () if self.allow_missing and fit.found else fit.missing


def foresee(folders: Sequence[SectionFolder], wanted: Wanted) -> tuple[str, ...]:
    """Refuse genes that the brain lacks before its transcripts are read, or say which it may lack, a line.

    The headers of the gene tables tell; what they do not list may still be among the first transcripts of a section
    (a batch of each is read). Without a table in each section nothing proves that a gene is absent, so that is said
    and no more.

    Raises:
        PanelError: every section has a gene table, and genes are neither in one nor in a section's first transcripts.
    """
    listed = [merscope.table_genes(folder) for folder in folders]
    names = [name for header in listed for name in header]
    if not wanted.unmet(names):
        return ()
    for folder in folders:
        names += _first_genes(folder)
        if not wanted.unmet(names):
            return ()
    silent = [folder.path.name for folder, header in zip(folders, listed, strict=True) if not header]
    if not silent:
        wanted.choose(merscope.collect_panel(listed, names, wanted.aliases))
    lacking = wanted.unmet(names)
    return (
        f"the brain may lack {len(lacking)} genes of the panel: {_shown(lacking)} (not in the first transcripts of any "
        f"section; no cell_by_gene.csv tells in {_shown(silent, 4)}). If so, it is refused once all are read",
    )


def _first_genes(folder: SectionFolder) -> list[str]:
    """Genes of the first batch of a section's transcripts."""
    names = GeneNames()
    next(stream_transcripts(folder.transcript_source, names, TranscriptCount()), None)
    return names.names


def _shown(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
