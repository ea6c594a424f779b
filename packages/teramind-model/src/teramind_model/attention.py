"""Attention maps: where and how strongly a pathway's genes attend to each other (paper, section 4.4).

For genes G and image slice z of a window, the map of gene a at a bin is
``sum over b in G (a too) of Attn_gg[a, b] * count_b(z, bin)`` on the patches of grid A, and the pathway's map the
sum over a in G. Only the gene-gene block runs; nothing of the image network, and nothing is sampled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teramind_data.console import Advance, progress
from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import BIN_PX, Box, Window, window_sections
from teramind_data.store import (
    Brain,
    BrainSpec,
    ImageSpec,
    Section,
    append_image,
    create_brain,
    open_brain,
    store_state,
)
from teramind_data.store.layout import ImageLayout
from teramind_model.attention_matrix import gene_gene_attention
from teramind_model.generate.output import atlas_identity, software_versions
from teramind_model.generate.source import Source, load_source, pick_device

if TYPE_CHECKING:
    from teramind_model.network import TeraMind
    from teramind_model.pathways import Pathway

__all__ = ["CHANNELS", "AttentionConfig", "map_attention", "pathway_maps", "slots_kept", "write_attention"]

CHANNELS = ("previous-current", "current-next", "window")
"""The three versions, by which gene slices the block is fed; the others are zero."""

SCALE = "log2(n * map + 1)"
"""How maps are stored: readers look for ``log2`` at the beginning."""
FORMULA = "map = sum_{a in G} sum_{b in G} Attn_gg[a, b] * count_b(z, bin)"

_BATCH_NUMBERS = 1 << 26
"""Attention weights computed at once (256 MiB in float32)."""

Say = Callable[[str], None]


def slots_kept(slot: int, gene_slices: int) -> tuple[tuple[int, ...], ...]:
    """Gene slices of a window that each of :data:`CHANNELS` is fed, for the image slice at ``slot`` among them."""
    before = tuple(s for s in (slot - 1, slot) if s >= 0)
    after = tuple(s for s in (slot, slot + 1) if s < gene_slices)
    return before, after, tuple(range(gene_slices))


@torch.inference_mode()
def pathway_maps(model: TeraMind, counts: Tensor, slot: int, genes: Tensor) -> Tensor:
    """Maps of patches, before the logarithm.

    Args:
        model: the network.
        counts: raw counts of patches ``(b, S, n, g, g)``.
        slot: which of the S gene slices is the image slice mapped.
        genes: the pathway's genes, as channels of the network.

    Returns:
        ``(3, b, g, g)`` float32, the versions in the order of :data:`CHANNELS`.
    """
    counts = counts.float()
    expressed = counts[:, slot, genes]
    maps = []
    for kept in slots_kept(slot, counts.shape[1]):
        fed = torch.zeros_like(counts)
        fed[:, kept] = counts[:, kept]
        matrix = gene_gene_attention(model, fed)
        # Summed over the attending genes a first: one weight for each gene b attended to.
        weight = matrix[:, genes][:, :, genes].sum(dim=1)
        maps.append(torch.einsum("bg,bgyx->byx", weight, expressed))
    return torch.stack(maps)


def map_attention(
    model: TeraMind, brain: Brain, channels: NDArray[np.int64], genes: NDArray[np.int64], z: int, bins: Box
) -> NDArray[np.float16]:
    """Maps of a box of one section, as stored: ``log2(n * map + 1)``, ``(3, h, w)`` float16.

    Args:
        model: the network.
        brain: the atlas.
        channels: its expression channels in the network's order.
        genes: the pathway's genes, as channels of the network.
        z: section of the atlas.
        bins: in bins; edges anywhere.
    """
    config = model.config
    g = config.bins
    window = _window_of(z, brain.n_sections, config.gene_slices, config.image_slices)
    slot = window.gene.index(z)
    half = g // 2
    # Grid A lies half a patch up and left of the canvas's tiles; at odd g (none is) halves would not be bins.
    grid = bins.shift(half, half).cover(g).shift(-half, -half)
    out = np.empty((len(CHANNELS), *grid.shape), np.float32)
    device = next(model.parameters()).device
    index = torch.from_numpy(genes).to(device)
    columns = grid.width // g
    batch = max(1, _BATCH_NUMBERS // config.genes**2)
    for y in range(grid.y0, grid.y1, g):
        row = Box(y, y + g, grid.x0, grid.x1)
        counts = brain.window_counts(window, row.refine(BIN_PX), channels).astype(np.float32)
        patches = torch.from_numpy(counts).to(device).unflatten(-1, (columns, g)).movedim(-2, 0)
        maps = [pathway_maps(model, part, slot, index) for part in patches.split(batch)]
        joined = torch.cat(maps, dim=1).movedim(1, 2).flatten(-2)
        out[:, y - grid.y0 : y - grid.y0 + g] = joined.cpu().numpy()
    cropped = out[(slice(None), *bins.shift(-grid.y0, -grid.x0).slices)]
    stored: NDArray[np.float16] = np.log2(config.genes * cropped + 1).astype(np.float16)
    return stored


def _window_of(z: int, n_sections: int, gene_slices: int, image_slices: int) -> Window:
    return window_sections(z // image_slices, n_sections, gene_slices, image_slices)


@dataclass(frozen=True)
class AttentionConfig:
    """Maps of one pathway into one store.

    Attributes:
        atlas, checkpoint: as for generation.
        out: a generated store, to which the image is added; or a name that is free, for a store of maps alone.
        pathway: whose attention.
        device: ``auto``, ``cpu``, ``cuda``, ...
        overwrite: replace an image of this name.
    """

    atlas: str
    checkpoint: str
    out: str
    pathway: Pathway
    device: str = "auto"
    overwrite: bool = False


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def write_attention(config: AttentionConfig, source: Source | None = None, *, say: Say = _to_stderr) -> Brain:
    """Compute a pathway's maps and add them to a store as ``images/attention_<name>`` (c z y x, float16, bins).

    Raises:
        PanelError: where the atlas lacks genes of the checkpoint, or the checkpoint genes of the pathway.
        OutputExistsError: where there is another image of this name.
        InputError: where the store's canvas or sections are not the atlas's.
    """
    atlas = open_brain(config.atlas)
    source = load_source(config.checkpoint, pick_device(config.device)) if source is None else source
    model = _with_gene_attention(source)
    source.check_pixel_size(atlas)
    channels = source.gene_positions(atlas)
    genes = source.panel.positions(config.pathway.genes)
    image = _image_spec(config.pathway, source, atlas)
    created = store_state(config.out) in ("absent", "empty")
    # A store of maps alone is made only where there is none, and is begun once everything else has been checked.
    out = atlas if created else open_brain(config.out)
    sections = _atlas_sections(out, atlas)
    if not created and image.name in out.images and not config.overwrite:
        _check_same(out, image)
        say(f"{config.out}: {image.name} is up to date, skipped")
        return out
    if created:
        out = _create_maps_store(config.out, atlas, source)
    layout = ImageLayout(image, out.spec)
    patches = sum(-(-box.area // model.config.bins**2) for _, box in layout.shards())
    with progress(patches, image.name, "patches") as advance:
        blocks = _blocks(layout, model, atlas, (channels, genes), sections, advance)
        append_image(config.out, image, blocks, overwrite=config.overwrite)
    return open_brain(config.out)


def _with_gene_attention(source: Source) -> TeraMind:
    from teramind_model.network import TeraMind

    if not isinstance(source.model, TeraMind):
        raise InputError(
            "the method has no attention between genes",
            where=source.path,
            expected="a checkpoint of tera-mind",
            found=source.method.name,
        )
    return source.model


def _image_spec(pathway: Pathway, source: Source, atlas: Brain) -> ImageSpec:
    return ImageSpec(
        pathway.image,
        CHANNELS,
        "float16",
        BIN_PX,
        "mean",
        {
            "pathway": pathway.name,
            "genes": list(pathway.genes),
            "scale": SCALE,
            "formula": FORMULA,
            "n": len(source.panel),
            "patch_px": source.network.patch,
            "checkpoint": {"path": source.path, "sha256": source.sha256},
            "atlas": atlas_identity(atlas),
            "software": software_versions(),
        },
    )


def _check_same(out: Brain, image: ImageSpec) -> None:
    """OutputExistsError unless the image that is there was made from the same things."""
    there = out.image_attrs(image.name)
    for what, old, new in (
        ("genes", there.get("genes"), image.attrs["genes"]),
        ("scale", there.get("scale"), image.attrs["scale"]),
        ("checkpoint", _inner(there, "checkpoint", "sha256"), image.attrs["checkpoint"]["sha256"]),
        ("atlas", _inner(there, "atlas", "fingerprint"), image.attrs["atlas"]["fingerprint"]),
    ):
        if old != new:
            raise OutputExistsError(
                "image exists and was made from something else",
                where=f"{out.url}/images/{image.name}",
                found=f"another {what}",
                remedy="Pass --overwrite, or give --genes with another --name",
            )


def _inner(attrs: dict[str, Any], key: str, inner: str) -> Any:
    value = attrs.get(key)
    return value.get(inner) if isinstance(value, dict) else None


def _atlas_sections(out: Brain, atlas: Brain) -> tuple[int, ...]:
    """The atlas's section of each of the store's, by name; a store may hold a part of them."""
    index = {section.name: section.index for section in atlas.sections}
    missing = [section.name for section in out.sections if section.name not in index]
    if missing or out.canvas != atlas.canvas:
        raise InputError(
            "store does not fit the atlas",
            where=out.url,
            expected=f"canvas {atlas.canvas} and sections of {atlas.url}",
            found=f"canvas {out.canvas}"
            + (f", unknown sections {', '.join(missing[:5])}" if missing else ""),
            remedy="Give the store generated from this atlas, or a name that is free",
        )
    return tuple(index[section.name] for section in out.sections)


def _create_maps_store(url: str, atlas: Brain, source: Source) -> Brain:
    """A store for maps alone: the atlas's canvas and sections, and a morphology listed as empty on purpose."""
    spec = BrainSpec(
        kind="generated",
        canvas=atlas.canvas,
        pixel_size_um=atlas.pixel_size_um,
        sections=tuple(Section(s.index, s.name, s.z_um) for s in atlas.sections),
        panel=source.panel,
        stains=source.stains,
        provenance={
            "made_by": "teramind-model attention",
            "content": "attention maps only; morphology is empty on purpose",
            "checkpoint": source.provenance(),
            "atlas": atlas_identity(atlas),
            "software": software_versions(),
        },
        chunk=atlas.spec.chunk,
        shard=atlas.spec.shard_px,
    )
    writer = create_brain(url, spec)
    for z, box in writer.shards("morphology"):
        writer.write("morphology", z, box, np.zeros((len(spec.stains), *box.shape), np.uint8))
    return writer.finish()


def _blocks(
    layout: ImageLayout,
    model: TeraMind,
    atlas: Brain,
    genes: tuple[NDArray[np.int64], NDArray[np.int64]],
    sections: tuple[int, ...],
    advance: Advance,
) -> Iterator[tuple[int, Box, NDArray[np.float16]]]:
    for z, box in layout.shards():
        yield z, box, map_attention(model, atlas, *genes, sections[z], box)
        advance(-(-box.area // model.config.bins**2))
