"""``teramind-model generate``."""

from __future__ import annotations

from typing import Annotated

import typer

from teramind_data.console import counted

__all__ = ["register"]

_HELP = """Generate the images of a brain from its genes, with a trained network.

Stopped anywhere, the same command goes on where it was. Run again when complete, it does nothing. With --overwrite it
begins anew: leave that out to go on.

Example:

    teramind-model generate --atlas C.zarr --checkpoint RUN --out G.zarr
    teramind-model generate --atlas C.zarr --checkpoint RUN --out G.zarr --units 1/8
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("generate", help=_HELP)(command)


def command(
    atlas: Annotated[str, typer.Option(help="Store whose genes are read (from teramind-data ingest).")],
    checkpoint: Annotated[
        str, typer.Option(help="Checkpoint, run folder, or 'phantom' for the shipped one.")
    ],
    out: Annotated[str, typer.Option(help="Store to write.")],
    steps: Annotated[int, typer.Option(help="Denoising steps; 15 as in the paper.")] = 15,
    sampler: Annotated[
        str,
        typer.Option(help="ddim as in the paper, or dpmpp-2m (DPM-Solver++ 2M): fewer --steps, such as 8."),
    ] = "ddim",
    seed: Annotated[int, typer.Option(help="Of the start noise, and of the shuffle.")] = 0,
    seeds: Annotated[
        int, typer.Option(help="Draws, of SEED, SEED + 1, ...; mean and SD of several beside the first.")
    ] = 1,
    sections: Annotated[
        str | None, typer.Option(help="Only these of the atlas's sections, FIRST:END.")
    ] = None,
    roi: Annotated[
        str | None, typer.Option(help="Only this part, y0:y1,x0:x1 px, grown to whole tiles.")
    ] = None,
    roi_exact: Annotated[
        bool,
        typer.Option(
            "--roi-exact", help="Compute what lies around --roi too: it then equals that part of the brain."
        ),
    ] = False,
    tissue_only: Annotated[
        bool, typer.Option("--tissue-only", help="Leave tiles without tissue in or beside them black.")
    ] = False,
    shuffle_genes: Annotated[
        bool, typer.Option("--shuffle-genes", help="Control: genes of other tiles, same region and density.")
    ] = False,
    genes_from: Annotated[
        str | None, typer.Option(help="Control: 'neighbour' takes the next section's.")
    ] = None,
    shuffle_tile: Annotated[
        int | None, typer.Option(help="Edge of shuffled tiles in px; the patch edge by default.")
    ] = None,
    strata: Annotated[
        int | None, typer.Option(help="Density strata a region is shuffled within; default: 4.")
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="What if: 'Th*0', 'Th=3', 'Th+1', 'Th=Gad1' (copy) or 'Th<>Gad1' (swap). Repeatable."
        ),
    ] = None,
    edit_region: Annotated[
        str | None,
        typer.Option(help="Where --edit applies: a region's name, y0:y1,x0:x1 px, or a .npy mask over bins."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="CPU threads; torch's choice by default.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="What the work may take, else refused: 4GiB, on a GPU 75 % of its own."),
    ] = None,
    engine: Annotated[str, typer.Option(help="wavefront or straightforward.")] = "wavefront",
    batch: Annotated[int | None, typer.Option(help="Tiles a batch of the wavefront: 8, on a GPU 64.")] = None,
    compile_: Annotated[
        bool,
        typer.Option("--compile", help="Fuse kernels with torch.compile: on a GPU, for long runs."),
    ] = False,
    preview: Annotated[str | None, typer.Option(help="JPEG that grows as the brain is made.")] = None,
    compare_with: Annotated[
        str | None, typer.Option(help="Real brain: PSNR and SSIM against it as rows finish.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store at OUT.")] = False,
    units: Annotated[
        str | None,
        typer.Option(help="Only part I of N of the work, I/N, as in a SLURM array; the last completes OUT."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes of this machine; --memory is of each.")] = 1,
    devices: Annotated[
        str | None, typer.Option(help="CUDA devices, 0,1 for example: one process each.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Work on the workers of a dask.distributed scheduler.")
    ] = None,
) -> None:
    """Parse, run, and say where the result is."""
    from teramind_data.errors import InputError
    from teramind_model.generate.config import (
        Control,
        GenerateConfig,
        RunOptions,
        WatchOptions,
        parse_memory,
        parse_roi,
        parse_sections,
    )
    from teramind_model.generate.parts import Hands, parse_devices, parse_part

    if genes_from not in (None, "neighbour"):
        raise InputError("--genes-from is unknown", expected="neighbour", found=genes_from)
    if shuffle_genes and genes_from:
        raise InputError("--shuffle-genes and --genes-from exclude each other", remedy="Give one of them")
    for option, value in (("--shuffle-tile", shuffle_tile), ("--strata", strata)):
        if value is not None and not shuffle_genes:
            raise InputError(f"{option} is for --shuffle-genes", remedy="Give both, or neither")
    control: Control = "shuffled" if shuffle_genes else "neighbour" if genes_from else "none"
    config = GenerateConfig(
        atlas=atlas,
        checkpoint=checkpoint,
        out=out,
        seed=seed,
        draws=seeds,
        steps=steps,
        sampler=sampler,  # type: ignore[arg-type]
        sections=None if sections is None else parse_sections(sections),
        roi=None if roi is None else parse_roi(roi),
        roi_exact=roi_exact,
        tissue_only=tissue_only,
        control=control,
        control_tile=shuffle_tile,
        strata=GenerateConfig.strata if strata is None else strata,
        edits=tuple(edit or ()),
        edit_region=edit_region,
        run=RunOptions(
            device,
            precision,  # type: ignore[arg-type]
            threads,
            None if memory is None else parse_memory(memory),
            overwrite,
            engine,  # type: ignore[arg-type]
            batch,
            compile_,
        ),
        watch=WatchOptions(preview, compare_with),
        hands=Hands(
            workers,
            () if devices is None else parse_devices(devices),
            scheduler,
            None if units is None else parse_part(units),
        ),
    )
    from teramind_model.generate.run import generate

    brain = generate(config)
    if not brain.complete:
        return
    height, width = brain.canvas
    print(
        f"{out}: {counted(brain.n_sections, 'section')} of {height} x {width} px, generated with seed {seed}"
    )
