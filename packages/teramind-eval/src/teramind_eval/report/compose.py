"""The page from the evidence: which parts it has, and the words around them."""

from __future__ import annotations

from collections.abc import Sequence

from teramind_eval.pairs import Compared
from teramind_eval.part import Part
from teramind_eval.report.build import Evidence, command_line, shown_settings
from teramind_eval.report.charts import curve_charts
from teramind_eval.report.gene_charts import gene_charts
from teramind_eval.report.likeness_charts import likeness_charts
from teramind_eval.report.nuclei_charts import distribution_charts, nuclei_numbers, nuclei_table
from teramind_eval.report.nuclei_curves import nuclei_curves
from teramind_eval.report.page import AttentionPart, Card, Origin, Page
from teramind_eval.report.panels import montage_panels, stain_panels
from teramind_eval.report.pictures import choose_places
from teramind_eval.report.places import PLACES, places_of
from teramind_eval.report.provenance import flattened, genes_taken, sampling, stages
from teramind_eval.report.segmenter import segmenter_note
from teramind_eval.report.stacks import layers_of, points, space_of
from teramind_eval.report.tables import floor_numbers, summary
from teramind_eval.report.trend_charts import attention_part
from teramind_eval.report.trend_shown import Shown
from teramind_eval.report.verdict import verdict
from teramind_eval.results import SINGLE, TOGETHER, Results, StoreResult

_ROLES = {"real": "measured", "generated": "generated from genes", "control": "control"}

_LIMITS = (
    "Generated images are predictions, not measurements. They are for research only and must not inform "
    "the diagnosis or "
    "treatment of anyone.",
    "PSNR and SSIM compare pixels: a nucleus drawn well but two pixels aside costs as much as one drawn "
    "badly. Centroid F1 and "
    "the distributions tell the two apart.",
    "Attention shows what the model read, not what causes what.",
)

_FLOOR = (
    " The noise floor lays brains beside each other that differ in their seed alone (Δ: difference of their means): a "
    "model that drew from the true distribution would be as far from the real brain as its draws are from each other."
)

_PHANTOM_LIMIT = (
    "With a truth given, this brain is a phantom: simple, made-up biology in which genes decide "
    "morphology. Good numbers here show "
    "that the pipeline works, not that a real brain would come out as well."
)


def compose(evidence: Evidence) -> Page:
    """Everything on the page, drawn."""
    results, stores, sizes = evidence.results, evidence.stores, evidence.sizes
    real = stores[0].brain
    nuclei = evidence.config.nuclei.build()
    views = choose_places(real, evidence.config.seed, PLACES)
    places, of_places = places_of(stores, views, nuclei)
    stains, of_stains = stain_panels(stores, views[0], nuclei)
    montage, of_montage = montage_panels(stores)
    space = layers_of(
        stores, [one for related in evidence.attention.relations for one in related.maps.sources]
    )
    run = results.store("generated")[0]
    micrometres = f"{real.pixel_size_um:g} µm"
    return Page(
        title=f"{_title(run)} beside {_name(results.store('real')[0].url)}",
        subtitle=(
            f"{_brains(stores)}, laid over the measured one: "
            f"{_sections(len(real.sections))} of "
            f"{real.canvas[1]} × {real.canvas[0]} px at {micrometres} a pixel, stains "
            f"{' and '.join(real.stains)}."
        ),
        verdict=verdict(results),
        warnings=results.warnings,
        cards=_cards(results),
        stores=results.stores,
        rows=summary(results, real.stains, sizes.patch),
        places=places,
        stains=stains,
        montage=montage,
        space=space_of(space),
        curves=[*curve_charts(results.stores, sizes), *likeness_charts(results.stores)],
        nuclei=nuclei_table(results.stores, sizes, real.pixel_size_um, results.noise_floor),
        distributions=[
            *nuclei_curves(results.stores, sizes.patch),
            *distribution_charts(results.stores, evidence.measured, sizes, real.pixel_size_um),
        ],
        attention=_attention(evidence, views[0][0].section),
        genes=[] if evidence.genes is None else gene_charts(real, evidence.genes),
        origins=_origins(evidence),
        facts=shown_settings(evidence),
        limits=(*((_PHANTOM_LIMIT,) if evidence.config.truth else ()), segmenter_note(results), *_LIMITS),
        command=command_line(evidence.config, sizes),
        notes=_notes(evidence),
        parts=_parts(stores),
        floor=_floor(results),
        tables={
            "places": of_places + of_stains + of_montage,
            "nuclei_measures": nuclei_numbers(results.stores),
            "noise_floor": floor_numbers(results),
            **{f"space_{one.name}": points(one.sheets, real.sections) for one in space},
        },
    )


def _parts(stores: Sequence[Compared]) -> dict[str, str]:
    """What part each store plays: the first generated one is what the report is about."""
    runs = [one.label for one in stores if one.role == "generated"]
    words = {"real": "measured", "control": "control"}
    return {
        one.label: words.get(one.role) or ("this run" if one.label == runs[0] else "other run")
        for one in stores
    }


def _floor(results: Results) -> str:
    """Which draws are laid beside each other; nothing where there is but one."""
    found = results.noise_floor
    if found is None:
        return ""
    if len(found.draws) == 1:
        return f"draws inside {found.draws[0]}"
    several = len(found.draws) > 2
    return f"{len(found.draws)} seeds of {found.draws[0]}" if several else " beside ".join(found.draws)


def _title(run: StoreResult) -> str:
    return _name(run.url) if run.label == SINGLE else run.label


def _brains(stores: Sequence[Compared]) -> str:
    """What the runs are, naming those whose genes are not the brain's own."""
    runs = [one for one in stores if one.role == "generated"]
    taken = {one.label: genes_taken(one.brain.provenance) for one in runs}
    if len(runs) == 1:
        return f"A brain generated from {taken[runs[0].label] or 'its genes'}"
    others = [f"{label} from {genes}" for label, genes in taken.items() if genes]
    if others:
        return f"{len(runs)} generated brains ({'; '.join(others)})"
    return f"{len(runs)} brains generated from the same genes"


def _attention(evidence: Evidence, section: int) -> list[AttentionPart]:
    """A part a set of maps, each drawn in a section that was mapped."""
    stores = (*evidence.stores, *evidence.maps_only)
    parts = []
    for one in evidence.attention.relations:
        mapped = sorted(one.sections)
        if mapped:
            drawn = section if section in mapped else mapped[len(mapped) // 2]
            parts.append(attention_part(Shown(stores[0].brain, stores, one, drawn)))
    return parts


def _sections(count: int) -> str:
    return "1 section" if count == 1 else f"{count} sections"


def _name(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


def _cards(results: Results) -> list[Card]:
    run = results.store("generated")[0]
    truth = run.brain.nuclei.against_truth
    match = truth or run.brain.nuclei.against_real
    cards = []
    if match is not None:
        place = "true" if truth else "real"
        against = [_f1(one, truth is not None) for one in results.store("control")]
        cards.append(
            Card("Nuclei in the right place (F1)", f"{match.f1:.2f}", _beside(results, against, "{:.2f}"))
        )
        total = match.true_positive + match.false_negative
        cards.append(
            Card(f"Of the {place} nuclei found", f"{match.recall:.0%}", f"{match.true_positive} of {total}")
        )
    for title, measure, form in (("PSNR", "psnr_db", "{:.1f}"), ("SSIM", "ssim", "{:.2f}")):
        own = getattr(run.brain.image[TOGETHER], measure).mean
        rivals = [getattr(one.brain.image[TOGETHER], measure).mean for one in results.store("control")]
        if own is not None:
            unit = " dB" if measure == "psnr_db" else ""
            cards.append(Card(title, form.format(own) + unit, _beside(results, rivals, form)))
    return cards


def _f1(store: StoreResult, truth: bool) -> float | None:
    match = store.brain.nuclei.against_truth if truth else store.brain.nuclei.against_real
    return None if match is None else match.f1


def _beside(results: Results, values: Sequence[float | None], form: str) -> str:
    said = [
        f"{one.label} {form.format(value)}"
        for one, value in zip(results.store("control"), values, strict=True)
        if value is not None
    ]
    return ", ".join(said) or "no control given"


def _origins(evidence: Evidence) -> list[Origin]:
    out = []
    for one in (*evidence.stores, *evidence.maps_only):
        provenance = one.brain.provenance
        sentences = (*stages(provenance), sampling(provenance)) if one.role != "real" else ()
        said = tuple(sentence for sentence in sentences if sentence)
        role = "attention maps alone" if one in evidence.maps_only else _ROLES[one.role]
        out.append(Origin(one.label, role, str(one.brain.url), said, tuple(flattened(provenance))))
    return out


def _montage_note(real: Part) -> str:
    what = "Whole sections" if real.whole else "What is compared of each section"
    return f"{what} through the brain, in their order: anatomy should repeat in the generated row."


def _notes(evidence: Evidence) -> dict[str, str]:
    tile, patch = evidence.sizes.tile, evidence.sizes.patch
    return {
        "summary": (
            f"Mean ± standard deviation. PSNR and SSIM over {tile} px tiles that hold molecules, nuclei "
            f"over {patch} px patches. "
            f"▲ and ▼: {evidence.stores[1].label} is better or worse than the best of its controls, and "
            f"other runs are better or worse than {evidence.stores[1].label}. A control is the same model "
            "shown genes that do not belong there."
            + (_FLOOR if evidence.results.noise_floor is not None else "")
        ),
        "zooms": (
            "DAPI (nuclei) in blue, PolyT (cytoplasm) in amber, every store with the real brain's "
            f"brightness. Sections and places are drawn by seed {evidence.config.seed} among places with at "
            "least the median number of molecules of their section; nobody picked them. A frame is the next closer "
            "view. Drag over a picture to see more of one brain or of the other."
        ),
        "stains": "Look whether nuclei stand in the same places, at the same size and brightness; the "
        "control shows what chance gives.",
        "montage": _montage_note(evidence.stores[0].brain),
        "nuclei": (
            "Mean ± standard deviation; below it, of how many patches or nuclei, and where the mean lies in 95 % of a "
            "bootstrap over patches. W is the Wasserstein distance from the real brain's distribution, in the "
            "measure's unit, KS the Kolmogorov-Smirnov statistic (0 alike, 1 apart), each with its interval. The "
            "intervals tell what other places of the same brains would give, not what another seed would."
        ),
        "space": (
            "The sections where they lie in the brain; left, right and front are those of the sections as stored."
        ),
        "attention": (
            "While it draws, the model lets every gene look at every other. These maps show how "
            "strongly a pathway's genes look at each other in each place, beside where they are expressed. A map "
            "multiplies attention by expression and follows it by construction: what counts is what is left "
            "beyond uniform attention and beyond an untrained network. Blocks lie beside each other and are not "
            "independent, so the intervals are too narrow."
        ),
    }
