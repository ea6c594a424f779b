"""The gene panel of weights that do not name it: from a file, a store, a checkpoint, or the one list that fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from teramind_data.errors import MissingInputError, PanelError
from teramind_data.panel import Panel, read_panel

__all__ = ["fitting_panel"]

_LISTS = (".csv", ".txt")


def fitting_panel(sources: Sequence[str], genes: int, where: object) -> tuple[Panel, str]:
    """The panel of ``genes`` genes among ``sources``, and where it was found.

    Args:
        sources: panel files, folders of such files, stores (paths or URLs), checkpoints.
        genes: how many genes the weights have.
        where: the checkpoint, for errors.

    Raises:
        MissingInputError, PanelError: where a source cannot be read, none fits, or several that differ do.
    """
    found = [pair for source in sources for pair in _panels(source)]
    fitting = {panel.fingerprint: (panel, name) for panel, name in found if len(panel) == genes}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise PanelError(
            "several panels fit the weights",
            where=where,
            expected=f"one of {genes} genes",
            found=", ".join(name for _, name in fitting.values()),
            remedy="Give the one that it was trained on",
        )
    sizes = ", ".join(
        str(len(panel)) if len(found) == 1 else f"{name}: {len(panel)}" for panel, name in found
    )
    raise PanelError(
        "panel does not fit the weights",
        where=where,
        expected=f"{genes} genes",
        found=sizes or f"no panel in {', '.join(sources)}",
        remedy="Give the panel that it was trained on, in its order; "
        "'teramind-data panel intersect' makes the one that atlases share",
    )


def _panels(source: str) -> Iterator[tuple[Panel, str]]:
    """Every panel that ``source`` may mean, with its name."""
    path = Path(source)
    if "://" in source or (path / "zarr.json").is_file():
        from teramind_data.store import open_brain

        panel = open_brain(source).panel
        if panel is None:
            raise PanelError("store has no panel", where=source)
        yield panel, source
    elif (path / "config.json").is_file() or (path / "checkpoints").is_dir():
        from teramind_model.checkpoint import load_checkpoint

        yield load_checkpoint(path).panel, source
    elif path.is_dir():
        for file in sorted(p for p in path.iterdir() if p.suffix in _LISTS):
            try:
                yield read_panel(file), str(file)
            except PanelError:
                continue  # some other table of the folder
    elif path.exists():
        yield read_panel(path), source
    else:
        raise MissingInputError("panel not found", where=source, remedy="Check the path")
