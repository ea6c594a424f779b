"""``teramind-model evidence``: parts of the experiments, on stores of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from teramind_data.console import counted

_PATCHES = """Generate without collage: the network's patch path alone, patches laid next to each other.

The control that shows what the boundary-aware path is worth, with the same weights, genes and start noise.

Example:

    teramind-model evidence patches-alone --atlas C.zarr --checkpoint RUN --out P.zarr
"""
_SEAMS = """Seam index of stores on tile borders, beside the real brain's, with a picture of such borders.

Example:

    teramind-model evidence seams --real C.zarr --store collage=G.zarr --store alone=P.zarr --patch 32 --out seams
"""
_INTERACTIONS = """Attention of named pairs of genes beside untrained networks and uniform attention.

Example:

    teramind-model evidence interactions --atlas C.zarr --checkpoint RUN --pairs phantom/phantom.json --out pairs
"""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="What the collage and the gene attention are worth: patches-alone, seams, interactions.",
    )
    group.command("patches-alone", help=_PATCHES)(patches_alone)
    group.command("seams", help=_SEAMS)(seams)
    group.command("interactions", help=_INTERACTIONS)(interactions)
    app.add_typer(group, name="evidence")


def patches_alone(
    atlas: Annotated[str, typer.Option(help="Store whose genes are read.")],
    checkpoint: Annotated[str, typer.Option(help="Checkpoint or run of tera-mind, or 'phantom'.")],
    out: Annotated[str, typer.Option(help="Store to write.")],
    steps: Annotated[int, typer.Option(help="DDIM steps; 15 as in the paper.")] = 15,
    seed: Annotated[int, typer.Option(help="Of the start noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    memory: Annotated[str, typer.Option(help="What a window may take; refused before any work.")] = "4GiB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store at OUT.")] = False,
) -> None:
    """Generate, and say where the result is."""
    from teramind_model.experiments.patches_alone import generate_patches_alone
    from teramind_model.generate.config import GenerateConfig, RunOptions, parse_memory

    run = RunOptions(device=device, memory=parse_memory(memory), overwrite=overwrite)
    brain = generate_patches_alone(GenerateConfig(atlas, checkpoint, out, seed=seed, steps=steps, run=run))
    print(f"{out}: {counted(brain.n_sections, 'section')} by patches alone, generated with seed {seed}")


def seams(
    real: Annotated[str, typer.Option(help="Atlas the stores were generated from.")],
    store: Annotated[list[str], typer.Option(help="LABEL=STORE; give once for each.")],
    patch: Annotated[int, typer.Option(min=2, help="Edge of the tiles in px.")],
    out: Annotated[Path, typer.Option(help="Folder of seams.csv, seams.md and borders.png.")],
) -> None:
    """Measure, and show the table."""
    from teramind_data.errors import InputError
    from teramind_model.experiments.seam_report import SeamConfig, write_seams

    stores: dict[str, str] = {}
    for value in store:
        label, equals, url = value.partition("=")
        if not label or not equals or not url or label in ("real", *stores):
            raise InputError(
                "store cannot be read", where="--store", expected="LABEL=STORE, each once", found=value
            )
        stores[label] = url
    write_seams(SeamConfig(real, stores, patch, out))
    print((out / "seams.md").read_text(encoding="utf-8"))


def interactions(
    atlas: Annotated[str, typer.Option(help="Store whose genes are read.")],
    checkpoint: Annotated[str, typer.Option(help="Checkpoint or run of tera-mind, or 'phantom'.")],
    pairs: Annotated[
        Path, typer.Option(help="JSON whose 'pairs' lists pairs of genes by kind: a phantom.json.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of pairs.csv, pairs.md, pairs.png and maps.png.")],
    patches: Annotated[int, typer.Option(min=10, help="Most patches that are looked at.")] = 4000,
    networks: Annotated[int, typer.Option(min=1, help="Untrained networks beside it.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the patches and the untrained networks.")] = 0,
) -> None:
    """Measure, and show the table."""
    from teramind_model.experiments.interaction_report import InteractionConfig, write_interactions

    write_interactions(InteractionConfig(atlas, checkpoint, pairs, out, patches, networks, seed))
    print((out / "pairs.md").read_text(encoding="utf-8"))
