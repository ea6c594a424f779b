"""The contestants of the benchmark of generation: the same picture of one window, made in different ways."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from teramind_data.geometry import BIN_PX, Box
from teramind_model.diffusion.ddim import sample_canvas
from teramind_model.diffusion.noise import start_noise
from teramind_model.diffusion.steps import DDIMStep, ddim_steps
from teramind_model.generate.ready import compiled, settled
from teramind_model.network import NetworkConfig, TeraMind
from tests.benchmarks.generation_clock import CALLS, Calls, Span, counted_calls, peak_memory
from tests.benchmarks.generation_clock import stopwatch as timed
from tests.benchmarks.published_loop import PATCHES, PublishedLoop, TileFiles

__all__ = ["CONTESTANTS", "Contestant", "Result", "Task", "make_task", "random_network", "run_contestant"]


@dataclass(frozen=True)
class Task:
    """What all contestants do: network, counts ``(S, n, ...)`` with half a patch around, start noise, steps."""

    model: TeraMind
    counts: Tensor
    x_T: Tensor
    steps: tuple[DDIMStep, ...]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.x_T.device

    @property
    def tiles(self) -> Box:
        """All tiles, counted from the corner."""
        patch = self.model.config.patch
        return Box(0, self.x_T.shape[-2] // patch, 0, self.x_T.shape[-1] // patch)

    @property
    def tile_steps(self) -> int:
        """Tiles of P x P pixels times steps."""
        return self.tiles.area * len(self.steps)


def random_network(config: NetworkConfig, seed: int = 0) -> TeraMind:
    """A network whose every weight matters (as made, the last convolution of each block is zero), in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TeraMind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.7 / parameter[0].numel() ** 0.5)
    return model.requires_grad_(False)


def make_task(
    model: TeraMind, canvas: tuple[int, int], steps: int, device: torch.device, dtype: torch.dtype
) -> Task:
    """Counts about as sparse as real ones, and start noise by coordinate, for a canvas of whole 4 x 4 patches."""
    c = model.config
    rng = np.random.default_rng(1)
    bins = tuple((edge + c.patch) // BIN_PX for edge in canvas)
    counts = rng.poisson(0.1, (c.gene_slices, c.genes, *bins)).astype(np.float32)
    noise = start_noise(3, range(c.image_slices), range(c.stains), Box(0, canvas[0], 0, canvas[1]))
    return Task(
        model.to(device, dtype),
        torch.from_numpy(counts).to(device),
        torch.from_numpy(noise).flatten(0, 1).to(device),
        ddim_steps(steps),
    )


@dataclass(frozen=True)
class Result:
    """One run: the picture, all of its time, what storage took of it, calls of the network, bytes at the peak."""

    picture: Tensor
    total: Span
    storage: Span
    calls: Calls
    peak: int


Run = Callable[[Task, int], tuple[Tensor, Span, Span]]
"""``(task, batch) -> (picture, total, storage)``"""


@dataclass(frozen=True)
class Contestant:
    """A way to generate. ``settings`` apply to the network while it runs (or to a copy); ``warm`` asks for an untimed
    run before; ``cuda_only`` gives the reason, where there is one; ``seconds``: what its preparation may take."""

    name: str
    run: Run
    settings: Callable[[Task], AbstractContextManager[Task]]
    folded: bool = False
    cuda_only: str = ""
    seconds: float = 0.0


def published(task: Task, batch: int) -> tuple[Tensor, Span, Span]:
    """The baseline, through files."""
    edge = PATCHES * task.model.config.patch
    grid = (task.x_T.shape[-2] // edge, task.x_T.shape[-1] // edge)
    total = Span()
    loop = PublishedLoop(task.model, task.counts, task.steps, batch)
    with tempfile.TemporaryDirectory(prefix="teramind-bench-") as name:
        files = TileFiles(Path(name), grid)
        loop.begin(files, task.x_T)
        with timed(total, task.device):
            picture = loop.run(files)
    return picture, total, files.spent


def straightforward(task: Task, batch: int) -> tuple[Tensor, Span, Span]:
    """The whole canvas step by step, row of patches by row; ``batch`` is that of a row."""
    total = Span()
    with timed(total, task.device):
        picture = sample_canvas(task.model, task.counts, task.x_T, len(task.steps))
    return picture.cpu(), total, Span()


@dataclass(frozen=True)
class MemoryRows:
    """The rows a wavefront reads, from a task."""

    task: Task

    def counts(self, patch_row: int, columns: range) -> Tensor:
        """Raw counts under a row of patches."""
        bins = self.task.model.config.bins
        y, x = (slice(r.start * bins, r.stop * bins) for r in (range(patch_row, patch_row + 1), columns))
        return self.task.counts[..., y, x]

    def noise(self, tile_row: int, columns: range) -> Tensor:
        """Start noise of a row of tiles."""
        patch = self.task.model.config.patch
        y, x = (slice(r.start * patch, r.stop * patch) for r in (range(tile_row, tile_row + 1), columns))
        return self.task.x_T[..., y, x]

    def live(self, tile_row: int, columns: range) -> np.ndarray:
        return np.ones(len(columns), bool)


def wavefront(task: Task, batch: int) -> tuple[Tensor, Span, Span]:
    """All steps at once, down the canvas."""
    from teramind_model.generate.wavefront import Wavefront

    total = Span()
    height, width = task.x_T.shape[-2:]
    with timed(total, task.device):
        unit = Wavefront(
            task.model, MemoryRows(task), task.steps, task.tiles, task.tiles, (height, width), batch
        )
        picture = torch.cat([x for _, x in unit.rows()], dim=-2)
    return picture.cpu(), total, Span()


def _plain(task: Task) -> AbstractContextManager[Task]:
    return nullcontext(task)


@contextmanager
def _folded(task: Task) -> Iterator[Task]:
    """Slices as channels of 2-D convolutions: the same parameters in another order of sums."""
    folding = [module for module in task.model.modules() if isinstance(getattr(module, "fold", None), bool)]
    _set_fold(folding, True)
    try:
        yield task
    finally:
        _set_fold(folding, False)


def _set_fold(modules: Sequence[nn.Module], fold: bool) -> None:
    for module in modules:
        setattr(module, "fold", fold)  # noqa: B010  a plain assignment is a Module or Tensor to mypy


@contextmanager
def _channels_last(task: Task) -> Iterator[Task]:
    """3-D convolution weights with channels innermost, as the feature maps have them already."""
    weights = [p for p in task.model.parameters() if p.dim() == 5]
    before = [p.data for p in weights]
    for p in weights:
        p.data = p.data.contiguous(memory_format=torch.channels_last_3d)
    try:
        yield task
    finally:
        for p, data in zip(weights, before, strict=True):
            p.data = data


@contextmanager
def _compiled(task: Task, graphs: bool) -> Iterator[Task]:
    """As ``teramind-model generate --compile`` has it on a GPU. With CUDA graphs outputs live in the graph's own memory
    until its next call; the wavefront holds skips for longer, so they are copied."""
    made = _COMPILED.setdefault(task.model, {})
    if graphs not in made:
        made[graphs] = _compiled_copy(task, graphs)
    yield replace(task, model=made[graphs])


def _compiled_copy(task: Task, graphs: bool) -> TeraMind:
    cuda = task.device.type == "cuda"
    with _folded(task):
        model = settled(deepcopy(task.model))
    # The "eager" backend traces without generating code: a rehearsal where there is no device.
    options: dict[str, Any] = {} if cuda else {"backend": "eager"}
    if graphs and cuda:
        options["mode"] = "reduce-overhead"
    compiled(model, **options)
    if graphs:
        for name in CALLS[1:]:
            setattr(model, name, _copying(getattr(model, name), cuda))
    assert isinstance(model, TeraMind)
    return model


_COMPILED: WeakKeyDictionary[TeraMind, dict[bool, TeraMind]] = WeakKeyDictionary()
"""Copies of networks, with CUDA graphs and without: compiled once, whatever turns they take."""


def _copying(call: Callable[..., Any], cuda: bool) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        if cuda:
            torch.compiler.cudagraph_mark_step_begin()
        return pytree.tree_map_only(Tensor, Tensor.clone, call(*arguments))

    return called


_NO_COMPILE = "torch.compile takes minutes on a CPU for kernels that oneDNN has"
CONTESTANTS = (
    Contestant("published", published, _plain),
    Contestant("straightforward", straightforward, _plain),
    Contestant("wavefront", wavefront, _plain),
    Contestant("wavefront, folded", wavefront, _folded, folded=True),
    Contestant(
        "wavefront, folded, compiled",
        wavefront,
        lambda task: _compiled(task, graphs=False),
        folded=True,
        cuda_only=_NO_COMPILE,
        seconds=60,
    ),
    Contestant(
        "wavefront, folded, compiled, CUDA graphs",
        wavefront,
        lambda task: _compiled(task, graphs=True),
        folded=True,
        cuda_only="CUDA graphs need CUDA",
        seconds=60,
    ),
    Contestant(
        "wavefront, channels-last weights",
        wavefront,
        _channels_last,
        cuda_only="feature maps are channels-last already, and oneDNN reorders weights by itself",
    ),
)


def run_contestant(contestant: Contestant, task: Task, batch: int, *, warm: bool = False) -> Result:
    """Run once (settings made before the clock starts); with ``warm``, one step of it before, untimed."""
    with contestant.settings(task) as task:
        if warm:
            contestant.run(replace(task, steps=ddim_steps(1)), batch)
        with counted_calls(task.model, task.device) as calls, peak_memory(task.device) as peak:
            picture, total, storage = contestant.run(task, batch)
            return Result(picture, total, storage, calls, peak())
