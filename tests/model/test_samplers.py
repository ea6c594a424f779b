"""DPM-Solver++(2M) against DDIM, against its algorithm written out, and how its error falls with the steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log2

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from teramind_data.errors import InputError
from teramind_model.diffusion.schedule import TRAIN_STEPS, alpha_bar, even_snr_timesteps
from teramind_model.diffusion.steps import (
    DDIMStep,
    DPMStep,
    Step,
    carried,
    ddim_steps,
    dpm_steps,
    multistep,
    sampler_steps,
)
from tests.model.plain_steps import dpmpp_2m

MEAN, SD = 0.1, 0.25
"""Of the Gaussian data whose noise is known exactly; so narrow that no clean image is clamped."""


def share(t: int) -> float:
    return float(alpha_bar()[t])


def exact_noise(x: torch.Tensor, a: float) -> torch.Tensor:
    """Expected noise in ``x`` at a share of signal ``a``, for data of N(MEAN, SD^2)."""
    clean = (MEAN * (1 - a) + SD**2 * a**0.5 * x) / (SD**2 * a + 1 - a)
    return (x - a**0.5 * clean) / (1 - a) ** 0.5


def run(steps: Sequence[Step], x: torch.Tensor, shares: Sequence[float]) -> torch.Tensor:
    history: tuple[torch.Tensor, ...] = ()
    for step, a in zip(steps, shares, strict=True):
        assert len(history) == (0 if step is steps[0] else steps[0].kept)
        x, history = step.advance(x, exact_noise(x, a), history)
    return x


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 8, 15])
def test_its_first_order_is_ddim(steps: int) -> None:
    x, eps = normal(2, 8, 8), normal(2, 8, 8, seed=1)
    for ddim in ddim_steps(steps):
        found, (clean,) = DPMStep(ddim, ahead=0.0, kept=1).advance(x, eps, ())
        assert torch.equal(found, ddim.apply(x, eps))
        assert torch.equal(clean, ddim.clean(x, eps))


def test_first_and_last_step_are_of_first_order() -> None:
    steps = dpm_steps(6)
    assert [step.ahead > 0 for step in steps] == [False, True, True, True, True, False]
    assert steps[-1].ddim.a_next == 1
    assert [step.kept for step in steps] == [1, 1, 1, 1, 1, 0]
    assert (carried(steps), carried(dpm_steps(1)), carried(ddim_steps(6))) == (1, 0, 0)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 12])
def test_every_step_equals_algorithm_2(steps: int) -> None:
    """With noise wild enough that clean images are clamped."""

    def noise(x: torch.Tensor, t: int) -> torch.Tensor:
        return torch.sin(3 * x + t) + 0.3 * x

    x_T = normal(3, 16, 16, seed=2)
    seen: dict[int, torch.Tensor] = {}
    dpmpp_2m(noise, x_T, steps, seen.__setitem__)
    x, history, clamped = x_T, (), 0
    for done, step in enumerate(dpm_steps(steps), start=1):
        x, history = step.advance(x, noise(x, step.t), history)
        torch.testing.assert_close(x, seen[done], atol=1e-10, rtol=1e-9)
        clamped += sum(int((image.abs() == 1).sum()) for image in history)
    assert clamped or steps == 1


def continuous(count: int, first: float = -3.0, last: float = 3.0) -> tuple[DDIMStep, ...]:
    """First-order steps evenly spaced in log SNR from a lambda to another: no whole numbers, no step to 1."""
    edges = [1 / (1 + exp(-2 * (first + (last - first) * i / count))) for i in range(count + 1)]
    return tuple(DDIMStep(0, a, a_next) for a, a_next in pairwise(edges))


def error(steps: Sequence[Step], plain: Sequence[DDIMStep]) -> float:
    """Largest difference to the exact solution, in which every pixel keeps its place in the distribution."""
    a, b = plain[0].a, plain[-1].a_next
    x = normal(64)
    spread = [(SD**2 * share + 1 - share) ** 0.5 for share in (a, b)]
    exact = b**0.5 * MEAN + spread[1] * (x - a**0.5 * MEAN) / spread[0]
    return float((run(steps, x, [step.a for step in plain]) - exact).abs().max())


def test_the_error_falls_by_the_square_of_the_steps() -> None:
    counts = (40, 80, 160, 320)
    second = [error(multistep(continuous(n)), continuous(n)) for n in counts]
    first = [error(continuous(n), continuous(n)) for n in counts]
    orders = [[log2(coarse / fine) for coarse, fine in pairwise(errors)] for errors in (second, first)]
    assert all(1.8 < order < 2.3 for order in orders[0]), orders[0]
    assert all(0.8 < order < 1.2 for order in orders[1]), orders[1]
    assert second[0] < first[0] / 5


def test_few_steps_of_it_are_nearer_than_as_many_of_ddim() -> None:
    """On the network's own whole-number times, to the clean image: against many steps of DDIM."""
    x_T = normal(256, seed=4)

    def image(steps: Sequence[Step]) -> torch.Tensor:
        return run(steps, x_T, [share(step.t) for step in steps])

    many = image(ddim_steps(1000))
    # Not where they start: DDIM's fewer steps begin at an earlier t, and the exact solution is then another.
    same_times = [step.ddim for step in dpm_steps(8)]
    away = [(image(steps) - many).square().mean().sqrt().item() for steps in (dpm_steps(8), same_times)]
    assert away[0] < away[1] / 2


@given(st.integers(1, TRAIN_STEPS))
def test_times_are_different_and_reach_both_ends(steps: int) -> None:
    times = even_snr_timesteps(steps)
    assert len(times) == steps
    assert all(a < b for a, b in pairwise(times))
    assert times[-1] == TRAIN_STEPS - 1
    assert times[0] == (0 if steps > 1 else TRAIN_STEPS - 1)


def test_times_are_even_in_log_snr() -> None:
    times = even_snr_timesteps(9)
    levels = [torch.logit(torch.tensor(share(t), dtype=torch.float64)).item() for t in times]
    gaps = [a - b for a, b in pairwise(levels)]
    assert max(gaps) < 1.1 * min(gaps)


def test_times_that_there_are_not() -> None:
    with pytest.raises(InputError, match=r"number of steps is out of range .expected 1 .. 1000, found 1001"):
        sampler_steps("dpmpp-2m", 1001)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])
@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_too_few(sampler: str, steps: int) -> None:
    with pytest.raises(InputError, match=rf"steps must be at least 1 .expected >= 1, found {steps}"):
        sampler_steps(sampler, steps)


@pytest.mark.parametrize(("steps", "remedy"), [(501, "500 or 1000 steps"), (2000, "1000 steps")])
def test_steps_that_ddim_has_not(steps: int, remedy: str) -> None:
    with pytest.raises(InputError, match=rf"no even stride .*found {steps}.*\. Use {remedy}\.$"):
        sampler_steps("ddim", steps)


def test_samplers_go_by_name() -> None:
    assert sampler_steps("ddim", 15) == ddim_steps(15)
    assert sampler_steps("dpmpp-2m", 8) == dpm_steps(8)
    with pytest.raises(InputError, match=r"unknown sampler .expected ddim or dpmpp-2m, found euler"):
        sampler_steps("euler", 8)
