"""The quality of all sections of a store: what is kept in it, or measured now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from teramind_data.qc.measures import measures_of
from teramind_data.qc.neighbours import neighbour_numbers
from teramind_data.qc.outliers import flags
from teramind_data.qc.section import MeasuredSection, measure_section
from teramind_data.store import Brain

__all__ = ["QC_VERSION", "assemble", "measure_brain", "stored"]

#: Raised when the numbers change their meaning: those of another version are measured again.
QC_VERSION = 1


#: Numbers of earlier versions that have another unit now.
_FORMER = {"tissue_um2", "density_per_um2"}


def stored(brain: Brain) -> list[dict[str, Any]] | None:
    """The sections' numbers as the store keeps them; None where any lacks them or has another version's."""
    if any(section.qc.get("qc_version") != QC_VERSION for section in brain.sections):
        return None
    return [dict(section.qc) for section in brain.sections]


def measure_brain(brain: Brain, advance: Callable[[], object] = lambda: None) -> list[dict[str, Any]]:
    """Measure all sections of a store now; what else is known of them (of reading their files) is kept.

    ``advance`` is called after each section.
    """
    measured = []
    for section in brain.sections:
        measured.append(measure_section(brain, section.index))
        advance()
    return assemble(brain, measured, [section.qc for section in brain.sections])


def assemble(
    brain: Brain, measured: Sequence[MeasuredSection], known: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """All of ``Section.qc``: what was known, the sections' own numbers, those against their neighbours, and flags."""
    against = neighbour_numbers(brain, list(measured))
    out: list[dict[str, Any]] = []
    for before, own, beside in zip(known, measured, against, strict=True):
        out.append(
            {
                **{key: value for key, value in before.items() if key not in _FORMER},
                **own.numbers,
                **(beside if len(measured) > 1 else {}),
                "tissue_from": own.mask,
                "residue_from": own.signal_of,
                "qc_version": QC_VERSION,
            }
        )
    for numbers, lines in zip(out, flags(out, measures_of(brain.stains)), strict=True):
        numbers["flags"] = lines
    return out
