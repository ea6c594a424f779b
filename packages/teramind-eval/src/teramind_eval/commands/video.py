"""`teramind-eval video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

_HELP = """Fly through a brain's sections: a film, a section a frame, with names, positions and a scale bar.

Morphology is shown in the colours of its stains; of another image (attention_*, expression) one channel on a
colour scale. All sections share one contrast. MP4 needs ffmpeg (pip install 'teramind-eval[video]'), GIF nothing.

Examples:

  teramind-eval video C.zarr --beside G.zarr --out C.mp4

  teramind-eval video G.zarr --image attention_GLUT --beside C.zarr --beside-image morphology --out GLUT.gif
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command(help=_HELP)
    def video(
        store: Annotated[str, typer.Argument(help="Store to fly through.", metavar="STORE")],
        out: Annotated[Path, typer.Option(help="Film to write: .mp4 or .gif.", metavar="FILE")],
        beside: Annotated[
            Optional[str],  # noqa: UP045 - typer reads it at run time
            typer.Option(help="A second store on the same canvas, to the right.", metavar="STORE"),
        ] = None,
        image: Annotated[str, typer.Option(help="What to show of the store.", metavar="NAME")] = "morphology",
        channel: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(help="Channel of the image: a stain, gene or map (the last).", metavar="NAME"),
        ] = None,
        beside_image: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(help="What to show of the second store (the same).", metavar="NAME"),
        ] = None,
        box: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(help="Part of the canvas, pixels (all of it).", metavar="Y0:Y1,X0:X1"),
        ] = None,
        height: Annotated[int, typer.Option(help="Of the frames, pixels.", min=120, max=4320)] = 720,
        fps: Annotated[float, typer.Option(help="Frames a second.", min=0.1, max=60)] = 4.0,
        between: Annotated[
            int,
            typer.Option(
                help="Frames blended between two sections: cosmetic, they show nothing that was measured.",
                min=0,
                max=100,
            ),
        ] = 0,
        incomplete: Annotated[
            bool, typer.Option("--incomplete", help="Also take stores whose writing never finished.")
        ] = False,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    ) -> None:
        from teramind_eval.video.build import VideoRequest, write_video

        request = VideoRequest(
            store=store,
            out=out,
            image=image,
            channel=channel,
            beside=beside,
            beside_image=beside_image,
            box=box,
            height=height,
            fps=fps,
            between=between,
            incomplete=incomplete,
            overwrite=overwrite,
        )
        count = write_video(request)
        typer.echo(f"{out}: {count} frames")
