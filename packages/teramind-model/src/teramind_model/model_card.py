"""The model card beside a checkpoint's weights, made from its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teramind_model.checkpoint import ModelInfo

_LIMITS = """## Limits

- It learns which morphology goes with which molecules; it says nothing of cause.
- Sections lie 100 to 200 um apart. What lies between sections is not modelled, and neighbouring slices are related
  only through their genes.
- It knows the species, stains, pixel size and genes it was trained on (mouse brain, or synthetic phantoms). Phantoms
  have simple, made-up biology: a model of phantoms says nothing of real tissue.
- Generated images are not measurements. They must not be used for diagnosis, treatment or any decision about a patient.
"""

_AVERAGED = {
    True: "Weights are the exponential moving average.",
    False: "Weights are the last ones of training, not an average.",
    None: "The file that the weights come from does not say whether they are an average.",
}


def model_card(info: ModelInfo) -> str:
    """Markdown: what the network is, what it was trained on and for how long, and its limits."""
    n = info.network
    listed = ("genes", "stains", "gene_slices", "patch")
    shape = "; ".join(f"{key} {value}" for key, value in n.to_dict().items() if key not in listed)
    lines = [
        "# Tera-MIND checkpoint",
        "",
        "A patch diffusion model that generates stained sections from spatial gene expression (arXiv 2503.01220).",
        "",
        "| | |",
        "|---|---|",
        f"| genes | {n.genes} (panel fingerprint `{info.panel.fingerprint[:16]}`) |",
        f"| gene slices, image slices | {n.gene_slices}, {n.image_slices} |",
        f"| stains | {', '.join(info.stains)} |",
        f"| patch | {n.patch} px of {info.pixel_size_um:g} um |",
        f"| method | {info.method} |",
        f"| network | {shape} |",
        "",
        _AVERAGED[info.averaged],
        "",
        "## Training",
        "",
    ]
    lineage = info.training.get("lineage", [])
    lines += [stage_line(i, stage) for i, stage in enumerate(lineage, start=1)] or [
        "No training is recorded."
    ]
    return "\n".join([*lines, "", *_scores(info.training.get("scores", {})), _LIMITS])


def _scores(scores: dict[str, Any]) -> list[str]:
    if "held_out_loss" not in scores:
        return []
    by_time = ", ".join(
        f"{value:.4g} at t = {t}" for t, value in scores.get("held_out_loss_at_t", {}).items()
    )
    return [
        "## Scores",
        "",
        f"Loss on held-out tiles after {scores['step']} steps: {scores['held_out_loss']:.4g} ({by_time}); all parts of "
        "the objective, unweighted, with the same noise each time.",
        "",
    ]


def stage_line(number: int, stage: dict[str, Any]) -> str:
    """One stage of a checkpoint's lineage as a numbered line."""
    if "imported_from" in stage:
        return f"{number}. Converted from published weights ({stage['imported_from']})."
    names = ", ".join(atlas["name"] for atlas in stage.get("data", []))
    minutes = stage.get("seconds", 0) / 60
    return (
        f"{number}. {stage.get('steps', 0)} steps of {stage.get('batch')} crops from {names} "
        f"in {minutes:.0f} min on {stage.get('device', 'an unknown device')}."
    )
