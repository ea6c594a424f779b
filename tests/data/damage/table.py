"""One row of the table of damages: what is done to a sound store or input, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Damage = Callable[[Path], Any]


@dataclass(frozen=True)
class StoreDamage:
    """A damage to a sound store; ``words``: a pattern of the finding. ``deep``: only reading everything shows it."""

    name: str
    damage: Damage
    words: str
    deep: bool = False


@dataclass(frozen=True)
class InputDamage:
    """A damage to sound inputs.

    damage: gets the folder that holds them. where: names the file or section at fault, a part of the line. words: a
    pattern of the line. options: further words of the command. warns: the command goes on and says so. soak: near to
    another row and slow, so run by `make soak` only.
    """

    name: str
    damage: Damage
    where: str
    words: str
    options: tuple[str, ...] = ()
    warns: bool = False
    soak: bool = False
