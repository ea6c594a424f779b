"""What a sampler is to the engines that run it: steps, each pixel by pixel from x and its predicted noise.

A step may hand images on to the next one (its *history*). Engines carry them beside x, whatever they are, so that all
samplers share each engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Protocol

from torch import Tensor

from teramind_data.errors import InputError
from teramind_model.diffusion.schedule import alpha_bar, ddim_timesteps, even_snr_timesteps

__all__ = [
    "DDIMStep",
    "DPMStep",
    "History",
    "Step",
    "as_steps",
    "carried",
    "ddim_steps",
    "dpm_steps",
    "multistep",
    "sampler_steps",
]

History = tuple[Tensor, ...]
"""What a step hands on beside x: images of the same shape; none before the first step."""


class Step(Protocol):
    """One step from a share of signal to a larger one."""

    @property
    def t(self) -> int:
        """Training step at which the network is asked for the noise."""
        ...

    @property
    def kept(self) -> int:
        """Images in the history that it hands on."""
        ...

    def advance(self, x: Tensor, eps: Tensor, history: History) -> tuple[Tensor, History]:
        """``x`` at the next step and the history for it.

        Each pixel follows from the same pixel of ``x``, its predicted noise ``eps`` and what the step before handed on
        (all of one shape), so a step may be taken of any part of a canvas.
        """
        ...


@dataclass(frozen=True)
class DDIMStep:
    """DDIM (arXiv 2010.02502, equation 12; eta 0) from the share of signal ``a`` at ``t`` to ``a_next``."""

    t: int
    a: float
    a_next: float

    @property
    def kept(self) -> int:
        """It needs no history."""
        return 0

    def apply(self, x: Tensor, eps: Tensor) -> Tensor:
        """``x`` at the next step, from ``x`` and its predicted noise (any equal shapes)."""
        return self.towards(x, self.clean(x, eps))

    def advance(self, x: Tensor, eps: Tensor, history: History) -> tuple[Tensor, History]:
        """See :class:`Step`."""
        return self.apply(x, eps), ()

    def clean(self, x: Tensor, eps: Tensor) -> Tensor:
        """The clean image that ``x`` and its noise mean, clamped to -1 .. 1."""
        return ((x - (1 - self.a) ** 0.5 * eps) / self.a**0.5).clamp(-1, 1)

    def towards(self, x: Tensor, x0: Tensor) -> Tensor:
        """``x`` at the next step where the clean image is ``x0``."""
        # The noise that leads from the clamped x0 to x, not the one predicted.
        eps = (x - self.a**0.5 * x0) / (1 - self.a) ** 0.5
        return self.a_next**0.5 * x0 + (1 - self.a_next) ** 0.5 * eps


@dataclass(frozen=True)
class DPMStep:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2): DDIM's step towards a clean image extrapolated from two.

    ``ahead`` is the algorithm's 1 / (2 r): how far beyond the clean image predicted at ``ddim.t``, seen from the one
    before. At 0 the step is DDIM's, which is the solver's first order.
    """

    ddim: DDIMStep
    ahead: float
    kept: int

    @property
    def t(self) -> int:
        """See :class:`Step`."""
        return self.ddim.t

    def advance(self, x: Tensor, eps: Tensor, history: History) -> tuple[Tensor, History]:
        """See :class:`Step`; the history is the clean image."""
        x0 = self.ddim.clean(x, eps)
        aim = x0
        if self.ahead:
            (before,) = history
            aim = (1 + self.ahead) * x0 - self.ahead * before
        return self.ddim.towards(x, aim), (x0,) if self.kept else ()


def ddim_steps(steps: int) -> tuple[DDIMStep, ...]:
    """The steps from noise to image, in the order they are taken, evenly spaced in t."""
    return _between(ddim_timesteps(steps))


def dpm_steps(steps: int) -> tuple[DPMStep, ...]:
    """DPM-Solver++(2M) from noise to image, in the order the steps are taken, evenly spaced in log SNR."""
    return multistep(_between(even_snr_timesteps(steps)))


def multistep(steps: Sequence[DDIMStep]) -> tuple[DPMStep, ...]:
    """Second order over the times of first-order steps.

    The first has nothing before it and is of first order. So is one that ends in a share of 1: log SNR is infinite
    there, and the step is to the clean image itself.
    """
    found: list[DPMStep] = []
    for i, step in enumerate(steps):
        ahead = 0.0
        if i > 0 and step.a_next < 1:
            before = steps[i - 1]
            ahead = (_half_log_snr(step.a_next) - _half_log_snr(step.a)) / (
                2 * (_half_log_snr(before.a_next) - _half_log_snr(before.a))
            )
        found.append(DPMStep(step, ahead, kept=int(i < len(steps) - 1)))
    return tuple(found)


_SAMPLERS: dict[str, Callable[[int], tuple[Step, ...]]] = {"ddim": ddim_steps, "dpmpp-2m": dpm_steps}


def sampler_steps(sampler: str, steps: int) -> tuple[Step, ...]:
    """A sampler's steps by its name; InputError on an unknown one, or a number of steps that it has not."""
    if sampler not in _SAMPLERS:
        raise InputError("unknown sampler", expected=" or ".join(_SAMPLERS), found=sampler)
    if steps < 1:
        raise InputError("steps must be at least 1", expected=">= 1", found=steps)
    return _SAMPLERS[sampler](steps)


def as_steps(steps: int | Sequence[Step]) -> Sequence[Step]:
    """Steps as they are; for a number, so many of DDIM."""
    return ddim_steps(steps) if isinstance(steps, int) else steps


def carried(steps: Sequence[Step]) -> int:
    """Most images that any step hands on beside x."""
    return max(step.kept for step in steps)


def _between(visited: Sequence[int]) -> tuple[DDIMStep, ...]:
    """First-order steps through training steps given in ascending order, the last one to a share of 1."""
    a = alpha_bar()
    shares = [1.0] + [float(a[t]) for t in visited]
    return tuple(
        DDIMStep(t=t, a=shares[i + 1], a_next=shares[i]) for i, t in reversed(list(enumerate(visited)))
    )


def _half_log_snr(a: float) -> float:
    """The paper's lambda, log(alpha / sigma)."""
    return log(a / (1 - a)) / 2 if a < 1 else inf
