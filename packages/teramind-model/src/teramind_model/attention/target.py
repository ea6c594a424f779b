"""Where maps and matrix go: the store's image descriptions, and what becomes of what is there already."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from teramind_data.errors import InputError, OutputExistsError
from teramind_data.geometry import BIN_PX, Box
from teramind_data.store import (
    Brain,
    BrainSpec,
    ImageSpec,
    Section,
    create_brain,
    is_url,
    open_brain,
    resume_brain,
    store_state,
)
from teramind_data.store.lock import locked_folder
from teramind_model.attention.kernel import CHANNELS
from teramind_model.attention.sums import MatrixSums
from teramind_model.attention.table import table_kind
from teramind_model.generate.output import atlas_identity, software_versions
from teramind_model.generate.source import Source
from teramind_model.pathways import Pathway

__all__ = [
    "MatrixTarget",
    "Part",
    "atlas_sections",
    "existing_store",
    "image_spec",
    "maps_store",
    "up_to_date",
]

SCALE = "log2(n * map + 1)"
"""How maps are stored: readers look for ``log2`` at the beginning."""
FORMULA = "map = sum_{a in G} sum_{b in G} Attn_gg[a, b] * count_b(z, bin)"

_MADE_BY = "teramind-model attention"

_SNAPSHOT_SHARE = 20
"""Sums are kept whenever this many times what it takes has passed: at most a twentieth of the run."""


@dataclass(frozen=True)
class Part:
    """The part of the atlas that is asked for: sections ``first .. end - 1``, and pixels in whole bins."""

    first: int
    end: int
    region: Box

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        box = self.region
        return {"sections": [self.first, self.end], "region": [box.y0, box.y1, box.x0, box.x1]}


def image_spec(pathway: Pathway, source: Source, atlas: Brain, part: Part, precision: str) -> ImageSpec:
    """The image of a pathway, with all that decides its values."""
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
            "precision": precision,
            **part.to_dict(),
            "checkpoint": {"path": source.path, "sha256": source.sha256},
            "atlas": atlas_identity(atlas),
            "software": software_versions(),
        },
    )


def up_to_date(out: Brain, image: ImageSpec) -> bool:
    """Whether a store lists this very image; OutputExistsError where it lists another of this name."""
    if image.name not in out.images:
        return False
    there, wanted = out.image_attrs(image.name), image.attrs
    compared = {key: (there.get(key), wanted[key]) for key in ("genes", "scale")}
    compared["checkpoint"] = (_inner(there, "checkpoint", "sha256"), wanted["checkpoint"]["sha256"])
    compared["atlas"] = (_inner(there, "atlas", "fingerprint"), wanted["atlas"]["fingerprint"])
    # Images of earlier versions do not say these; they are of the whole brain, in float32.
    compared |= {
        key: (there[key], wanted[key]) for key in ("sections", "region", "precision") if key in there
    }
    for what, (old, new) in compared.items():
        if old != new:
            raise OutputExistsError(
                "image exists and was made from something else",
                where=f"{out.url}/images/{image.name}",
                found=f"another {what}",
                remedy="Pass --overwrite, or give --genes with another --name",
            )
    return True


def _inner(attrs: dict[str, Any], key: str, inner: str) -> Any:
    value = attrs.get(key)
    return value.get(inner) if isinstance(value, dict) else None


def atlas_sections(out: Brain, atlas: Brain) -> tuple[int, ...]:
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


def existing_store(url: str) -> Brain | None:
    """The store that maps join, where there is one: complete, or one for maps alone that was stopped at the start.

    Raises:
        StoreError, IncompleteStoreError: where something else is there.
        InputError: where it is an atlas.
    """
    if store_state(url) in ("absent", "empty"):
        return None
    there = open_brain(url, incomplete=True)
    if there.kind == "atlas":
        # Maps are a network's: what was measured stays what was measured.
        raise InputError(
            "maps do not go into an atlas",
            where=url,
            expected="a generated store, or a new name",
            remedy="Choose another --out",
        )
    begun = there.provenance.get("made_by") == _MADE_BY
    return there if there.complete or begun else open_brain(url)


def maps_store(url: str, atlas: Brain, source: Source) -> Brain:
    """The store for the maps: the one that is there, or a new one for maps alone (an unfinished one is finished).

    A new one has the atlas's canvas and sections, and a morphology listed as empty on purpose.
    """
    there = existing_store(url)
    if there is not None and there.complete:
        return there
    spec = BrainSpec(
        kind="generated",
        canvas=atlas.canvas,
        pixel_size_um=atlas.pixel_size_um,
        sections=tuple(Section(s.index, s.name, s.z_um) for s in atlas.sections),
        panel=source.panel,
        stains=source.stains,
        provenance={
            "made_by": _MADE_BY,
            "content": "attention maps only; morphology is empty on purpose",
            "checkpoint": source.provenance(),
            "atlas": atlas_identity(atlas),
            "software": software_versions(),
        },
        chunk=atlas.spec.chunk,
        shard=atlas.spec.shard_px,
    )
    writer = create_brain(url, spec) if there is None else resume_brain(url, spec)
    for z, box in writer.pending("morphology"):
        writer.write("morphology", z, box, np.zeros((len(spec.stains), *box.shape), np.uint8))
    return writer.finish()


class MatrixTarget:
    """The table of the matrix, and the sums towards it in a folder beside it that outlives a stop."""

    def __init__(self, path: str, request: Mapping[str, Any], genes: int) -> None:
        self.path = Path(path)
        table_kind(self.path)
        self._request = dict(request)
        self._genes = genes
        self._folder = self.path.with_name(f"{self.path.name}.part")
        self._saved = (0.0, 0.0)
        self.sums = MatrixSums(genes)
        self.position = 0

    def up_to_date(self, *, overwrite: bool) -> bool:
        """Whether the table is there and was made from this request.

        Raises:
            InputError: where no file can be at its name.
            OutputExistsError: where it was made from another, and is not to be replaced.
        """
        if is_url(self.path):
            raise InputError(
                "the matrix is a local file", where=self.path, remedy="Give a path, and copy it from there"
            )
        if not self.path.parent.is_dir():
            raise InputError(
                "folder of the matrix does not exist", where=self.path.parent, remedy="Make it first"
            )
        if overwrite or not self.path.exists():
            return False
        about = self.path.with_name(f"{self.path.name}.json")
        try:
            request = json.loads(about.read_text(encoding="utf-8")).get("request")
        except (FileNotFoundError, ValueError, AttributeError):
            request = None
        if request == json.loads(json.dumps(self._request)):
            return True
        raise OutputExistsError(
            "table exists and was made from something else",
            where=self.path,
            found="another request" if request else "no account of its making beside it",
            remedy="Pass --overwrite, or choose another name",
        )

    @property
    def request(self) -> dict[str, Any]:
        """What decides its values."""
        return self._request

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Hold the folder's lock, with the sums of an earlier run of the same request loaded."""
        self._folder.mkdir(exist_ok=True)
        with locked_folder(self._folder, "summing this matrix"):
            self.sums, self.position = MatrixSums.load(self._folder / "sums.npz", self._request, self._genes)
            yield

    def advance(self, position: int) -> None:
        """The sums now hold the first ``position`` units; they are kept where that is cheap."""
        self.position = position
        when, took = self._saved
        began = time.monotonic()
        if began - when < _SNAPSHOT_SHARE * took:
            return
        self.sums.save(self._folder / "sums.npz", self._request, position)
        self._saved = (time.monotonic(), time.monotonic() - began)

    def close(self) -> None:
        """The table is written: forget the sums."""
        shutil.rmtree(self._folder)
