"""``teramind-model perturb``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

_HELP = """What would the network draw from other genes? A brain and its edited twin from the same noise, compared.

Makes OUT/baseline.zarr, OUT/edited.zarr (its images/difference is edited minus baseline), OUT/perturb.png and
OUT/summary.json. Stopped anywhere, the same command goes on; with --overwrite it begins anew, so leave that out to go
on. It is no experiment on tissue: the network knows what goes together, not what causes what.

Example:

    teramind-model perturb --atlas C.zarr --checkpoint RUN --edit "Th*0" --roi 0:512,0:512 --out th-off
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("perturb", help=_HELP)(command)


def command(
    atlas: Annotated[str, typer.Option(help="Store whose genes are read (from teramind-data ingest).")],
    checkpoint: Annotated[
        str, typer.Option(help="Checkpoint, run folder, or 'phantom' for the shipped one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of both stores, picture and summary.")],
    edit: Annotated[
        list[str],
        typer.Option(
            help="'Th*0', 'Th=3', 'Th+1', 'Th=Gad1' (copy) or 'Th<>Gad1' (swap). Repeatable, in order."
        ),
    ],
    edit_region: Annotated[
        str | None,
        typer.Option(
            help="Where genes are edited: a region's name, y0:y1,x0:x1 px, or a .npy mask over bins."
        ),
    ] = None,
    sections: Annotated[
        str | None, typer.Option(help="Only these of the atlas's sections, FIRST:END.")
    ] = None,
    roi: Annotated[
        str | None, typer.Option(help="Generate only this part, y0:y1,x0:x1 px, grown to whole tiles.")
    ] = None,
    roi_exact: Annotated[
        bool,
        typer.Option("--roi-exact", help="Compute what lies around --roi too, as the whole brain has it."),
    ] = False,
    tissue_only: Annotated[
        bool, typer.Option("--tissue-only", help="Leave tiles without tissue in or beside them black.")
    ] = False,
    sampler: Annotated[str, typer.Option(help="ddim, or dpmpp-2m with fewer steps.")] = "ddim",
    steps: Annotated[int, typer.Option(help="Of the sampler; 15 as in the paper.")] = 15,
    seed: Annotated[int, typer.Option(help="Of the start noise, of both.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="CPU threads; torch's choice by default.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="What the work may take, else refused: 4GiB, on a GPU 75 % of its own."),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Tiles a batch of the wavefront: 8, on a GPU 64.")] = None,
    compile_: Annotated[
        bool,
        typer.Option("--compile", help="Fuse kernels with torch.compile: on a GPU, for long runs."),
    ] = False,
    nuclei: Annotated[
        bool, typer.Option("--nuclei/--no-nuclei", help="Count nuclei too, where teramind-eval is installed.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the stores in OUT.")] = False,
    workers: Annotated[int, typer.Option(help="Processes of this machine; --memory is of each.")] = 1,
) -> None:
    """Parse, run, and say where the result is."""
    from teramind_model.generate.config import (
        GenerateConfig,
        RunOptions,
        parse_memory,
        parse_roi,
        parse_sections,
    )
    from teramind_model.generate.parts import Hands
    from teramind_model.perturb.run import PerturbConfig, perturb

    edited = GenerateConfig(
        atlas=atlas,
        checkpoint=checkpoint,
        out=str(out / "edited.zarr"),
        seed=seed,
        sampler=sampler,  # type: ignore[arg-type]
        steps=steps,
        sections=None if sections is None else parse_sections(sections),
        roi=None if roi is None else parse_roi(roi),
        roi_exact=roi_exact,
        tissue_only=tissue_only,
        edits=tuple(edit),
        edit_region=edit_region,
        run=RunOptions(
            device,
            precision,  # type: ignore[arg-type]
            threads=threads,
            memory=None if memory is None else parse_memory(memory),
            batch=batch,
            compile=compile_,
            overwrite=overwrite,
        ),
        hands=Hands(workers),
    )
    summary = perturb(PerturbConfig(edited, out, nuclei))
    numbers = f"numbers in {out / 'summary.json'}"
    if summary["most_changed"] is None:
        print(f"no picture, as no pixel changed; {numbers}")
    else:
        print(f"{out / 'perturb.png'}: the place where most changed; {numbers}")
