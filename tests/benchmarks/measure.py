"""Timing and printing for benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do the work: a name, the call, and how much work a call does, in `unit`."""

    name: str
    run: Callable[[], object]
    amount: float


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    """The least time of some calls, in seconds: the one that the rest of the machine disturbed least."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(title: str, unit: str, baseline: Case, *others: Case, repeats: int = 3) -> dict[str, float]:
    """Time all cases, print rates and ratios to the baseline, and return the ratios by name."""
    print(f"\n{title}")
    ratios: dict[str, float] = {}
    base_rate = 0.0
    for case in (baseline, *others):
        rate = case.amount / best_seconds(case.run, repeats)
        if case is baseline:
            base_rate = rate
        ratios[case.name] = rate / base_rate
        note = "baseline" if case is baseline else f"{ratios[case.name]:.2f} x baseline"
        print(f"  {case.name:<40} {rate:10.1f} {unit}/s   {note}")
    return ratios
