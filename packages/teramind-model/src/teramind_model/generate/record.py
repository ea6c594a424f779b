"""What a generated store says of itself: the request that decides its bytes, where they came from, its metadata."""

from __future__ import annotations

from typing import Any

from teramind_data.store import Brain, BrainSpec, Section
from teramind_model.controls import CountsSource
from teramind_model.diffusion.steps import sampler_steps
from teramind_model.edits import Edits
from teramind_model.generate.config import GenerateConfig
from teramind_model.generate.job import Job
from teramind_model.generate.output import atlas_identity, software_versions
from teramind_model.generate.source import Source
from teramind_model.network.unet import PatchUNet

__all__ = ["provenance_of", "request_of", "spec_of"]


def request_of(
    config: GenerateConfig, source: Source, atlas: Brain, job: Job, device: str, edits: Edits | None = None
) -> dict[str, Any]:
    """All that decides the bytes of the result; threads apart, which only round differently."""
    control: dict[str, Any] = {"kind": config.control}
    if config.control == "shuffled":
        control |= {"tile": config.control_tile or source.network.patch, "strata": config.strata}
    # Only where asked for: stores made before there was a choice are not of another request.
    further: dict[str, Any] = {"draws": config.draws} if config.draws > 1 else {}
    if config.roi_exact:
        further["roi_exact"] = True
    if config.tissue_only:
        further["tissue_only"] = True
    if device.startswith("cuda") and isinstance(source.model, PatchUNet):
        further["slices"] = "folded"  # whatever the checkpoint says: see ``teramind_model.generate.ready``
    if config.run.compile:
        further["compiled"] = True
    if edits is not None:
        further |= edits.describe()
    return {
        **further,
        "checkpoint": source.sha256,
        "atlas": atlas_identity(atlas)["fingerprint"],
        "seed": config.seed,
        "steps": config.steps,
        "sampler": config.sampler,
        "sections": [job.first, job.end],
        "region": [job.inside.y0, job.inside.y1, job.inside.x0, job.inside.x1],
        "control": control,
        "precision": config.run.precision,
        "device": device.split(":")[0],
        "plan": {"engine": config.run.engine, "batch": config.run.places},
    }


def provenance_of(
    config: GenerateConfig, source: Source, atlas: Brain, request: dict[str, Any], counts: CountsSource
) -> dict[str, Any]:
    """Where a store comes from: request, checkpoint, atlas, genes and software."""
    return {
        "made_by": "teramind-model generate",
        "request": request,
        "checkpoint": source.provenance(),
        "atlas": atlas_identity(atlas),
        "seed": config.seed,
        "steps": config.steps,
        "sampler": _sampler(config, source),
        "control": counts.provenance(),
        "software": software_versions(),
    }


def _sampler(config: GenerateConfig, source: Source) -> dict[str, Any]:
    steps = sampler_steps(config.sampler, config.steps)
    told: dict[str, Any] = {"name": config.sampler, "eta": 0, "timesteps": [step.t for step in steps]}
    return {**told, "engine": config.run.engine, "method": source.method.name}


def spec_of(source: Source, atlas: Brain, job: Job, provenance: dict[str, Any]) -> BrainSpec:
    """The store's metadata: the atlas's canvas and the chosen sections."""
    sections = tuple(
        Section(
            index=z - job.first,
            name=atlas.sections[z].name,
            z_um=atlas.sections[z].z_um,
            source={"generated_from": atlas.url, "section": z},
        )
        for z in range(job.first, job.end)
    )
    return BrainSpec(
        kind="generated",
        canvas=atlas.canvas,
        pixel_size_um=atlas.pixel_size_um,
        sections=sections,
        panel=source.panel,
        stains=source.stains,
        provenance=provenance,
        chunk=atlas.spec.chunk,
        shard=atlas.spec.shard_px,
    )
