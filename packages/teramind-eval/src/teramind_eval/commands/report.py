"""`teramind-eval report`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from teramind_eval.commands.segmenting import CellposeModel, NucleusUm, SegmenterName

_EPILOG = (
    "Example: teramind-eval report --real C.zarr --generated ours=G.zarr --generated baseline=B.zarr "
    "--control shuffled=S.zarr --truth truth/C --out report"
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command(epilog=_EPILOG)
    def report(
        real: Annotated[str, typer.Option(help="Atlas store that was measured.", metavar="STORE")],
        generated: Annotated[
            list[str],
            typer.Option(
                help="Store generated from that atlas; may be repeated for other runs, baselines, ablations. "
                "The report is about the first.",
                metavar="[LABEL=]STORE",
            ),
        ],
        out: Annotated[
            str, typer.Option(help="Folder of the report; written whole or not at all.", metavar="DIR")
        ],
        control: Annotated[
            Optional[list[str]],  # noqa: UP045 - typer reads it at run time
            typer.Option(help="A control to compare with; may be repeated.", metavar="NAME=STORE"),
        ] = None,
        truth: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(
                help="A phantom's truth: DIR/<section>/cells.csv with y, x, radius_px.", metavar="DIR"
            ),
        ] = None,
        tile_px: Annotated[
            Optional[int],  # noqa: UP045
            typer.Option(help="Edge of the tiles of image scores (256; less on a small canvas).", min=16),
        ] = None,
        patch_px: Annotated[
            Optional[int],  # noqa: UP045
            typer.Option(help="Edge of the patches of nuclei counts (1024; less on a small canvas).", min=16),
        ] = None,
        seam_px: Annotated[
            Optional[int],  # noqa: UP045
            typer.Option(help="Edge of the tiles that a store was made in, where it does not say.", min=2),
        ] = None,
        window: Annotated[
            Optional[int],  # noqa: UP045
            typer.Option(help="Sections that were made together, where a store does not say.", min=1),
        ] = None,
        inception: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(
                help="Weights for FID, sFID and KID: a file, or `cache` for the one in ~/.cache/teramind. Not "
                "measured without.",
                metavar="FILE",
            ),
        ] = None,
        inception_sha256: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(help="Accept weights of this SHA-256 too, besides published ones.", metavar="HASH"),
        ] = None,
        device: Annotated[
            str,
            typer.Option(
                help="Where tiles are scored: auto (a GPU where there is one), cpu, cuda or cuda:N; Cellpose chooses "
                "for itself."
            ),
        ] = "auto",
        workers: Annotated[
            int, typer.Option(help="Processes that measure sections side by side.", min=1)
        ] = 1,
        scheduler: Annotated[
            Optional[str],  # noqa: UP045
            typer.Option(help="Measure sections on a dask.distributed scheduler instead.", metavar="ADDRESS"),
        ] = None,
        segmenter: SegmenterName = "watershed",
        cellpose_model: CellposeModel = None,
        nucleus_um: NucleusUm = None,
        seed: Annotated[
            int, typer.Option(help="Draws the places shown, KID's tiles and the bootstrap.", min=0)
        ] = 0,
        incomplete: Annotated[
            bool,
            typer.Option(
                "--incomplete", help="Also take stores whose writing never finished; the page warns."
            ),
        ] = False,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace an earlier report of other inputs.")
        ] = False,
    ) -> None:
        """Compare a generated brain with the real one: a page to look at, metrics.json, metrics.parquet, figures."""
        from teramind_eval.config import parse_controls, parse_generated, report_config
        from teramind_eval.report.build import write_report

        config = report_config(
            real=real,
            generated=parse_generated(generated),
            out=out,
            controls=parse_controls(control or []),
            truth=truth,
            tile_px=tile_px,
            patch_px=patch_px,
            seam_px=seam_px,
            window=window,
            inception=inception,
            inception_sha256=inception_sha256,
            nuclei={"segmenter": segmenter, "cellpose_model": cellpose_model, "nucleus_um": nucleus_um},
            seed=seed,
            device=device,
            workers=workers,
            scheduler=scheduler,
            incomplete=incomplete,
            overwrite=overwrite,
        )
        page, made = write_report(config)
        if not made:
            typer.echo(f"{page.parent}: up to date, nothing to do", err=True)
        typer.echo(page)
