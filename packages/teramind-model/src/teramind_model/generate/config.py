"""What a generation is asked to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_model.generate.parts import Hands

__all__ = [
    "Control",
    "Engine",
    "GenerateConfig",
    "Precision",
    "RunOptions",
    "SamplerName",
    "WatchOptions",
    "memory_of",
    "parse_memory",
    "parse_roi",
    "parse_sections",
]

Control = Literal["none", "shuffled", "neighbour"]
Precision = Literal["float32", "bfloat16"]
Engine = Literal["wavefront", "straightforward"]
SamplerName = Literal["ddim", "dpmpp-2m"]

GIB = 1 << 30
_GPU_PLACES = 64
_CPU_PLACES = 8
"""With the phantom network a place costs half as much again in batches of 4, with the paper's a third more in batches
of 16, of which a region's short rows also leave most idle (docs/evidence.md)."""
_OF_A_GPU = 0.75
"""The rest is for weights, the kernels' work space and the allocator's gaps, which the plan leaves out: an H200 took 7
to 18 % more than was planned."""
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": GIB, "t": 1 << 40}


@dataclass(frozen=True)
class RunOptions:
    """How to run; nothing here says what the image is, but ``precision`` and ``device`` round differently.

    Attributes:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
        precision: of the network; ``bfloat16`` runs it under autocast, on a GPU with weights of that type.
        threads: of the CPU; torch's own choice where None.
        memory: bytes that a window may take (see ``teramind_model.generate.budget``); by the device where None.
        overwrite: replace a store that is there already.
        engine: ``wavefront``: rows flow through all steps at once, memory does not grow with the height;
            ``straightforward``: one step of the whole canvas after the other. The same to rounding.
        batch: places of the wavefront's batches, by the device where None. Kernels round differently for other shapes,
            so it is part of what decides the bytes.
        compile: let ``torch.compile`` fuse what it can; rounds differently, too.
    """

    device: str = "auto"
    precision: Precision = "float32"
    threads: int | None = None
    memory: int | None = None
    overwrite: bool = False
    engine: Engine = "wavefront"
    batch: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise InputError("unknown engine", expected=" or ".join(get_args(Engine)), found=self.engine)
        if self.batch is not None and self.batch < 1:
            raise InputError("batch must be positive", expected=">= 1", found=self.batch)
        if self.precision not in get_args(Precision):
            raise InputError(
                "unknown precision", expected=" or ".join(get_args(Precision)), found=self.precision
            )
        if self.compile and self.engine == "straightforward":
            raise InputError(
                "--compile is for the wavefront, whose batches have one shape",
                expected="--engine wavefront",
                found=self.engine,
            )
        if self.threads is not None and self.threads < 1:
            raise InputError("threads must be positive", expected=">= 1", found=self.threads)
        if self.memory is not None and self.memory < 1:
            raise InputError("memory must be positive", expected="bytes > 0", found=self.memory)

    def on(self, device: str, memory: Callable[[], int] | None = None) -> RunOptions:
        """With what a device asks for where nothing was: 64 places a batch on a GPU, else 8; and memory: what
        ``memory`` says, or :func:`memory_of` the device."""
        room = self.memory or (memory_of(device) if memory is None else memory())
        places = self.batch or (_GPU_PLACES if device.startswith("cuda") else self.places)
        return replace(self, memory=room, batch=places)

    @property
    def room(self) -> int:
        """``memory``, or a CPU's 4 GiB."""
        return self.memory or memory_of("cpu")

    @property
    def places(self) -> int:
        """``batch``, or a CPU's 8."""
        return self.batch or _CPU_PLACES


@dataclass(frozen=True)
class WatchOptions:
    """What to look at while a brain is generated; changes no byte of it.

    Attributes:
        preview: JPEG that grows as shards come in; none where None.
        compare_with: store of the real brain, for figures as rows finish; none where None.
    """

    preview: str | None = None
    compare_with: str | None = None


@dataclass(frozen=True)
class GenerateConfig:
    """One brain, or a part of it, to generate.

    Attributes:
        atlas: store whose genes are read.
        checkpoint: checkpoint folder, run folder, or ``phantom`` for the shipped one.
        out: store to write.
        seed: of the start noise, and of the shuffle where there is one.
        draws: brains drawn, from the noise of ``seed``, ``seed`` + 1, ...; with two or more the store also holds
            their mean and standard deviation.
        steps: denoising steps (the paper's 15, with DDIM).
        sampler: ``ddim``, or ``dpmpp-2m`` (DPM-Solver++ 2M, arXiv 2211.01095), which needs fewer steps.
        sections: half-open range of the atlas's sections; all where None.
        roi: part of the canvas to generate, grown to whole tiles; black outside. The whole canvas where None.
        roi_exact: also compute the tiles around the region that it depends on, so that it equals that part of the whole
            brain; else the image is -1 around it at every step, as published.
        tissue_only: leave tiles without tissue in themselves or their neighbours black, -1 at every step (see
            ``teramind_model.generate.tissue``).
        control: ``none``: each place's own genes; ``shuffled``: those of another tile of the same region and
            density; ``neighbour``: those of the next section.
        edits: changes of genes' counts before generation (``teramind_model.edits``), after the control, in this order.
        edit_region: where; everywhere if None.
        control_tile: edge of the shuffled tiles in pixels, a multiple of 16; the patch edge where None.
        strata: density strata of a region, within which tiles are shuffled.
        run, watch, hands: how to run, what to look at meanwhile, who makes which units; none says what the image is.
    """

    atlas: str
    checkpoint: str
    out: str
    seed: int = 0
    draws: int = 1
    steps: int = 15
    sampler: SamplerName = "ddim"
    sections: tuple[int, int] | None = None
    roi: Box | None = None
    roi_exact: bool = False
    tissue_only: bool = False
    control: Control = "none"
    edits: tuple[str, ...] = ()
    edit_region: str | None = None
    control_tile: int | None = None
    strata: int = 4
    run: RunOptions = field(default_factory=RunOptions)
    watch: WatchOptions = field(default_factory=WatchOptions)
    hands: Hands = field(default_factory=Hands)

    def __post_init__(self) -> None:
        if self.hands.part is not None and self.run.overwrite:
            raise InputError(
                "--overwrite is not for --units: each part would remove what the others made",
                remedy="Remove the store first, or choose another name",
            )
        if self.draws < 1:
            raise InputError("draws must be positive", expected=">= 1", found=self.draws)
        if not 0 <= self.seed <= (1 << 64) - self.draws:
            raise InputError("seed is out of range", expected=f"0 .. 2^64 - {self.draws}", found=self.seed)
        if self.edit_region is not None and not self.edits:
            raise InputError("--edit-region is for --edit", remedy="Give --edit too, or leave it out")
        if self.roi_exact and self.roi is None:
            raise InputError("--roi-exact is for a region", remedy="Give --roi too, or leave it out")
        if self.control not in get_args(Control):
            raise InputError("unknown control", expected=", ".join(get_args(Control)), found=self.control)
        if self.strata < 1:
            raise InputError("strata must be positive", expected=">= 1", found=self.strata)


def memory_of(device: str) -> int:
    """Bytes that work on a device may take where nobody says: three quarters of a GPU's, else 4 GiB."""
    if not device.startswith("cuda"):
        return 4 * GIB
    import torch

    return int(_OF_A_GPU * torch.cuda.get_device_properties(device).total_memory)


def parse_sections(text: str) -> tuple[int, int]:
    """``"2:5"`` as (2, 5): sections 2, 3 and 4."""
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise InputError("sections cannot be read", expected="FIRST:END, for example 2:5", found=repr(text))
    return int(match[1]), int(match[2])


def parse_roi(text: str) -> Box:
    """``"y0:y1,x0:x1"`` in canvas pixels."""
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*", text)
    if match is None:
        raise InputError(
            "region cannot be read", expected="y0:y1,x0:x1, for example 0:512,256:768", found=repr(text)
        )
    return Box(*(int(edge) for edge in match.groups()))


def parse_memory(text: str) -> int:
    """``"4GiB"``, ``"512M"`` or a number of bytes; units count in 1024s."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    if match is None:
        raise InputError("memory cannot be read", expected="for example 4GiB or 800MiB", found=repr(text))
    return int(float(match[1]) * _UNITS[match[2]])
