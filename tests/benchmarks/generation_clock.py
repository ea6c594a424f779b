"""Clocks, memory and counts of calls for the benchmark of generation, on the CPU and on CUDA."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["Calls", "Span", "counted_calls", "matmul_peak", "peak_memory", "replaced", "stopwatch"]

CALLS = ("gene_features", "encode", "decode")


@dataclass
class Span:
    """Seconds by the wall and of this process's CPU (all threads)."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def stopwatch(into: Span, device: torch.device) -> Iterator[None]:
    """Adds the time of the scope, what the device still had to do being done before and after."""
    wall, cpu = _now(device)
    yield
    wall_end, cpu_end = _now(device)
    into.wall += wall_end - wall
    into.cpu += cpu_end - cpu


def _now(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


@dataclass
class Calls:
    """What was asked of the network, in places of batches, idle ones included; and how long it took."""

    places: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CALLS, 0))
    spans: dict[str, Span] = field(default_factory=lambda: {name: Span() for name in CALLS})


@contextmanager
def replaced(model: nn.Module, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A scope in which a method of one module is another function."""
    before = vars(model).get(name)
    setattr(model, name, function)
    try:
        yield
    finally:
        if before is None:
            delattr(model, name)
        else:
            setattr(model, name, before)


@contextmanager
def counted_calls(model: nn.Module, device: torch.device) -> Iterator[Calls]:
    """Counts and times the three calls of the network."""
    calls = Calls()

    marks: list[tuple[Span, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def marked(into: Span) -> Iterator[None]:
        """As the stopwatch, but nobody waits for the device, which then does one call while the next is prepared."""
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        cpu = time.process_time()
        began.record()
        yield
        ended.record()
        into.cpu += time.process_time() - cpu
        marks.append((into, began, ended))

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            first = arguments[0]
            calls.places[name] += len(first.middle if name == "decode" else first)
            span = calls.spans[name]
            with marked(span) if device.type == "cuda" else stopwatch(span, device):
                return function(*arguments)

        return call

    with ExitStack() as scopes:
        for name in CALLS:
            scopes.enter_context(replaced(model, name, counted(name, getattr(model, name))))
        yield calls
    if marks:
        torch.cuda.synchronize(device)
    for span, began, ended in marks:
        span.wall += began.elapsed_time(ended) / 1000


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """Bytes at the highest moment of the scope: of the allocator on CUDA, of the process's RSS elsewhere (which
    includes weights and libraries)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    # Linux resets the high-water mark on request; elsewhere it is that of the process since its start.
    control = Path("/proc/self/clear_refs")
    if control.exists():
        control.write_text("5")
    yield _rss_peak


def _rss_peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.5) -> tuple[float, float]:
    """FLOP a second of wall and of CPU time of a large matrix product: the best of some repetitions."""
    edge, repeats = (8192, 10) if device.type == "cuda" else (2048, 1)
    a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
    work = 2 * edge**3 * repeats
    best = (0.0, 0.0)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or not best[0]:
        span = Span()
        with stopwatch(span, device):
            for _ in range(repeats):
                a @ b
        best = (max(best[0], work / span.wall), max(best[1], work / max(span.cpu, 1e-9)))
    return best
