"""The noise schedule: T = 1000 steps, linear beta from 1e-4 to 2e-2."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from teramind_data.errors import InputError

TRAIN_STEPS = 1000
_BETA_FIRST, _BETA_LAST = 1e-4, 2e-2


@cache
def alpha_bar() -> NDArray[np.float64]:
    """Cumulative product of ``1 - beta``, ``(1000,)``: the share of signal left at each step."""
    values = np.cumprod(1.0 - np.linspace(_BETA_FIRST, _BETA_LAST, TRAIN_STEPS))
    values.setflags(write=False)
    return values


def ddim_timesteps(steps: int) -> tuple[int, ...]:
    """The ``steps`` training steps that DDIM visits, ascending.

    The smallest integer stride that leaves exactly ``steps`` of ``range(0, 1000, stride)``; 15 steps are
    0, 67, .., 938.

    Raises
    ------
    InputError
        Where no stride leaves that many (for example 501), naming the nearest counts that exist.
    """
    if steps >= 1:
        for stride in range(1, TRAIN_STEPS + 1):
            visited = range(0, TRAIN_STEPS, stride)
            if len(visited) == steps:
                return tuple(visited)
    possible = sorted({len(range(0, TRAIN_STEPS, stride)) for stride in range(1, TRAIN_STEPS + 1)})
    below = max((n for n in possible if n <= steps), default=possible[0])
    above = min((n for n in possible if n >= steps), default=possible[-1])
    nearest = f"{below} or {above}" if below != above else f"{below}"
    raise InputError(
        "no even stride gives that number of DDIM steps",
        found=steps,
        expected=f"1 .. {TRAIN_STEPS} with an even stride",
        remedy=f"Use {nearest} step{'s' * (above > 1)}.",
    )


def even_snr_timesteps(steps: int) -> tuple[int, ...]:
    """``steps`` different training steps from 0 to 999, ascending, as evenly spaced in log SNR as whole numbers allow.

    One step alone is 999. Log SNR changes fastest near 0, where neighbouring whole numbers may lie further apart than
    the spacing asked for.

    Raises
    ------
    InputError
        Where there are not that many.
    """
    if not 1 <= steps <= TRAIN_STEPS:
        raise InputError("number of steps is out of range", expected=f"1 .. {TRAIN_STEPS}", found=steps)
    a = alpha_bar()
    log_snr = np.log(a / (1 - a))
    wanted = np.linspace(log_snr[-1], log_snr[0], steps)[::-1]
    visited: list[int] = []
    for i, value in enumerate(wanted):
        nearest = int(np.abs(log_snr - value).argmin())
        least = visited[-1] + 1 if visited else 0
        visited.append(min(max(nearest, least), TRAIN_STEPS - (steps - i)))
    return tuple(visited)
