"""Make a film of a store: open, check, colour, write. `write_video` is what the command calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from teramind_data.console import progress
from teramind_data.errors import InputError
from teramind_data.geometry import Box
from teramind_eval.drawing.colour import MORPHOLOGY, Heat, Lights, colouring
from teramind_eval.drawing.planes import parse_box
from teramind_eval.drawing.stores import open_parts, titled
from teramind_eval.part import Part
from teramind_eval.video.encode import check_film, film
from teramind_eval.video.frames import Layout, Panel, frames


@dataclass(frozen=True)
class VideoRequest:
    """A film to be made.

    Attributes:
        store: whose sections are flown through.
        out: `.mp4` or `.gif`.
        image, channel: what of it is shown: morphology in the colours of its stains, or one channel of any image.
        beside: a second store, beside the first; None: one panel.
        beside_image: what of the second is shown; None: the same.
        box: `y0:y1,x0:x1` in canvas px; None: the whole canvas.
        height: of the frames, px.
        fps: frames a second.
        between: blended frames between two sections.
        incomplete: also take stores whose writing never finished.
        overwrite: replace a file.
    """

    store: str
    out: Path
    image: str = MORPHOLOGY
    channel: str | None = None
    beside: str | None = None
    beside_image: str | None = None
    box: str | None = None
    height: int = 720
    fps: float = 4.0
    between: int = 0
    incomplete: bool = False
    overwrite: bool = False


def write_video(request: VideoRequest) -> int:
    """Write the film and return its number of frames.

    Raises
    ------
    InputError, MissingInputError, OutputExistsError, StoreError
        naming the store, option or file; no part of a film is then left.
    """
    check_film(request.out, overwrite=request.overwrite)
    if request.beside is None and request.beside_image is not None:
        raise InputError("nothing is beside", where="--beside-image", remedy="Give --beside STORE too")
    parts = _parts(request)
    canvas = parts[0].canvas
    box = Box(0, canvas[0], 0, canvas[1])
    if request.box is not None:
        box = parse_box(request.box, parts[0], "--box")
    panels = _panels(request, parts, box)
    legend = any(isinstance(panel.colours, Heat) for panel in panels)
    layout = Layout.fitting(request.height, box, len(panels), legend=legend)
    count = len(parts[0].sections)
    total = count + (count - 1) * request.between
    with film(request.out, layout.size, request.fps) as add, progress(total, "video", "frames") as advance:
        for frame in frames(panels, box, layout, request.between):
            add(frame)
            advance()
    return total


def _parts(request: VideoRequest) -> list[Part]:
    stores = [request.store] if request.beside is None else [request.store, request.beside]
    return open_parts(stores, incomplete=request.incomplete)


def _panels(request: VideoRequest, parts: list[Part], box: Box) -> list[Panel]:
    images = (request.image, request.beside_image or request.image)
    panels: list[Panel] = []
    for number, (part, image) in enumerate(zip(parts, images, strict=False)):
        # A channel is the first image's; of another image beside it means nothing.
        channel = request.channel if image == request.image else None
        first = panels[0].colours if number else None
        # Brightness can be compared only under one contrast: that of the first.
        same = first.of(part.stains) if isinstance(first, Lights) and image == MORPHOLOGY else None
        colours = same or colouring(part, image, channel, box)
        panels.append(Panel(part, image, colours, titled(part)))
    return panels
