"""The attention of a phantom's gene pairs as a folder of tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from teramind_data.console import counted
from teramind_data.errors import InputError, MissingInputError
from teramind_data.store import open_brain
from teramind_model.experiments.attention_pictures import map_picture, pair_maps
from teramind_model.experiments.figures import pair_plot
from teramind_model.experiments.interactions import (
    NETWORKS,
    Pair,
    PairScore,
    measure,
    tissue_patches,
    untrained,
)
from teramind_model.experiments.tables import csv_text, markdown, number, write_text
from teramind_model.generate.source import load_source
from teramind_model.network import TeraMind

__all__ = ["InteractionConfig", "read_pairs", "write_interactions"]

_CLAIM = """Relative attention is n times the mean of both directions, 1 where uniform; rank is the share of all pairs
of genes below it. Map and expression correlate by construction; what is left beyond it is in the last three columns:
the SD over patches of log2(map / uniform attention's map), in which a gene's attention to itself takes part; the pair's
residual where trained attention is told from untrained over all pairs of genes, in SDs; and the partial correlation of
relative attention with the pair's co-expression given each gene's expression and the total. Untrained: mean of
{networks} random networks.
"""


@dataclass(frozen=True)
class InteractionConfig:
    """What is measured.

    Attributes:
        atlas, checkpoint: as for generation; a checkpoint of the paper's method.
        pairs: JSON with ``pairs``: lists of two genes by kind, as ``phantom.json``.
        out: folder.
        patches: most that are looked at.
        networks: untrained ones beside it.
        seed: of the patches drawn and of the untrained networks.
    """

    atlas: str
    checkpoint: str
    pairs: Path
    out: Path
    patches: int = 4000
    networks: int = 5
    seed: int = 0


def read_pairs(file: Path) -> tuple[Pair, ...]:
    """The pairs of a phantom's description; MissingInputError or InputError where there are none."""
    try:
        kinds = json.loads(file.read_text(encoding="utf-8"))["pairs"]
        return tuple(Pair(kind, (str(a), str(b))) for kind, pairs in kinds.items() for a, b in pairs)
    except FileNotFoundError:
        raise MissingInputError(
            "no list of pairs", where=file, remedy="Give a phantom's phantom.json"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "pairs cannot be read",
            where=file,
            expected='{"pairs": {kind: [[gene, gene], ...]}}',
            found=repr(error),
        ) from None


def write_interactions(config: InteractionConfig) -> tuple[PairScore, ...]:
    """Measure the pairs and write ``pairs.csv``, ``pairs.md``, ``pairs.png`` and ``maps.png`` into ``out``.

    Raises:
        InputError, PanelError: where checkpoint, atlas and pairs do not fit.
    """
    brain, source = open_brain(config.atlas), load_source(config.checkpoint)
    if not isinstance(source.model, TeraMind):
        raise InputError("the method has no attention between genes", source.path, found=source.method.name)
    pairs = read_pairs(config.pairs)
    known = tuple(pair for pair in pairs if all(gene in source.panel for gene in pair.genes))
    if not known:
        raise InputError("no pair is in the checkpoint's panel", where=config.pairs, found=len(pairs))
    channels = source.gene_positions(brain)
    counts = tissue_patches(brain, source.model.config, channels, config.patches, config.seed)
    genes = [(int(a), int(b)) for a, b in (source.panel.positions(pair.genes) for pair in known)]
    blank = [untrained(source.model.config, config.seed + i) for i in range(config.networks)]
    scores, _ = measure({"trained": [source.model], "untrained": blank}, counts, known, genes)
    models = {"trained": source.model, "untrained": blank[0]}
    section = brain.n_sections // 2
    kinds = [pair.kind for pair in known]
    drawn = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
    maps = [pair_maps(models, brain, channels, known[i], genes[i], section) for i in drawn]
    text = _table(scores, brain.url, source.path) + "\n" + _CLAIM.format(networks=config.networks)
    write_text(config.out / "pairs.csv", csv_text([_plain(score) for score in scores]))
    write_text(config.out / "pairs.md", text)
    write_text(config.out / "pairs.png", pair_plot(scores))
    write_text(config.out / "maps.png", map_picture(maps))
    return tuple(scores)


def _plain(score: PairScore) -> dict[str, object]:
    numbers = (
        "relative",
        "relative_sd",
        "rank",
        "map_correlation",
        "map_beyond_sd",
        "beyond_untrained",
        "partial",
    )
    values = {key: getattr(score, key) for key in numbers}
    shown = {key: value if np.isfinite(value) else None for key, value in values.items()}
    head = {"kind": score.pair.kind, "first": score.pair.genes[0], "second": score.pair.genes[1]}
    return {**head, "network": score.network, "patches": score.patches, **shown}


def _table(scores: Sequence[PairScore], atlas: str, checkpoint: str) -> str:
    head = (
        "pair", "kind", "network", "relative attention", "SD", "rank", "map and expression, r",
        "map beyond uniform, SD (octaves)", "beyond untrained (SD)", "partial r given expression",
    )  # fmt: skip
    order = sorted(scores, key=lambda s: (s.pair.kind, s.pair.label, NETWORKS.index(s.network)))
    rows = [
        (
            score.pair.label,
            score.pair.kind,
            score.network,
            *(number(value, 3) for value in (score.relative, score.relative_sd)),
            f"{100 * score.rank:.0f} %",
            *(
                number(value if np.isfinite(value) else None, 3)
                for value in (
                    score.map_correlation,
                    score.map_beyond_sd,
                    score.beyond_untrained,
                    score.partial,
                )
            ),
        )
        for score in order
    ]
    patches = counted(scores[0].patches, "patch", "patches")
    title = f"Attention between genes: {Path(checkpoint).name} on {Path(atlas).name}, {patches}\n\n"
    return title + markdown(head, rows)
