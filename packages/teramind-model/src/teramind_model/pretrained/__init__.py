"""Checkpoints shipped with the package."""

from __future__ import annotations

from pathlib import Path

from teramind_data.errors import MissingInputError


def shipped(name: str) -> Path:
    """Directory of the shipped checkpoint ``name``; MissingInputError where this installation has none."""
    folder = Path(__file__).parent / name
    if not (folder / "model.safetensors").is_file():
        raise MissingInputError(
            "this installation ships no such checkpoint",
            where=name,
            remedy="Make it: `make phantom-checkpoint`",
        )
    return folder
