"""`teramind-data phantom`: synthetic raw brains, written as an instrument would."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """Write synthetic brains as raw MERSCOPE section folders, with the truth beside them.

Example:

  teramind-data phantom demo/phantom --genes 64 --shared 40 --blanks 4

OUT/raw/<brain>/section_000 ... is what an instrument leaves, OUT/truth the nuclei and cells, OUT/phantom.json says
what was written. Run again, it does nothing; the same options always give the same files.
"""


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    from teramind_data.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"option {option} is no list of whole numbers",
            expected="such as 1,1,2",
            found=repr(text),
            remedy="Separate the numbers by commas",
        ) from None


def phantom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    brains: Annotated[str, typer.Option(help="Names of the brains, separated by commas.")] = "A,B,C",
    panels: Annotated[str, typer.Option(help="Gene panel (1 or 2) of each brain.")] = "1,1,2",
    seed: Annotated[int, typer.Option(help="Seed; each brain also goes by its name.")] = 0,
    sections: Annotated[int, typer.Option(help="Sections a brain.")] = 4,
    canvas: Annotated[
        str, typer.Option(help="Height,width of the registered plane in px, multiples of 256.")
    ] = "512,512",
    pixel_size: Annotated[float, typer.Option(help="Pixel size in um.")] = 0.432,
    spacing: Annotated[float, typer.Option(help="Distance between sections in um.")] = 100.0,
    genes: Annotated[int, typer.Option(help="Genes a panel.")] = 500,
    shared: Annotated[int, typer.Option(help="Genes that the two panels share, the first of both.")] = 229,
    blanks: Annotated[int, typer.Option(help="Blank barcodes a panel.")] = 10,
    transcripts: Annotated[
        float, typer.Option(help="Factor on the transcripts a cell (1: 120 to 300).")
    ] = 1.0,
    background: Annotated[float, typer.Option(help="Share of molecules outside any cell's program.")] = 0.01,
    noise: Annotated[float, typer.Option(help="Factor on the camera's noise.")] = 1.0,
    illumination: Annotated[float, typer.Option(help="Loss of light in the corners of a field.")] = 0.02,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a phantom that is there.")] = False,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.console import progress
    from teramind_data.phantom import PhantomConfig, is_written, write_phantom

    config = PhantomConfig(
        brains=tuple(brains.split(",")),
        panels=_numbers(panels, "--panels"),
        seed=seed,
        sections=sections,
        canvas=_pair(canvas),
        pixel_size_um=pixel_size,
        spacing_um=spacing,
        genes=genes,
        shared=shared,
        blanks=blanks,
        transcripts=transcripts,
        background=background,
        noise=noise,
        illumination=illumination,
    )
    if is_written(config, out, overwrite=overwrite):
        print(f"{out}: this phantom is there already, nothing to do")
        return
    with progress(len(config.brains) * sections, "phantom", "sections") as advance:
        write_phantom(config, out, advance, overwrite=overwrite)
    print(f"{out}: written")


def _pair(text: str) -> tuple[int, int]:
    """Height and width; one number means a square."""
    numbers = _numbers(text, "--canvas")
    return (numbers[0], numbers[-1]) if len(numbers) <= 2 else numbers  # type: ignore[return-value]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("phantom", help=EXAMPLE)(phantom)
