"""Were two reports measured alike? Only then can a number of one be called better than the other's."""

from __future__ import annotations

from collections.abc import Callable

from teramind_eval.compare.reports import Report

#: Measures of distributions of Inception's features.
_OF_FEATURES = ("fid", "sfid", "kid")


def measured_alike(one: Report, other: Report, measure: str) -> bool:
    """Whether a measure, by its name, was taken alike in two reports over one brain: in all that its value depends on.

    What a report of an earlier version does not say counts as alike.
    """
    if (one.sections, one.inside) != (other.sections, other.inside):
        return False
    return all(same(one, other) for same in _conditions(measure))


def _conditions(measure: str) -> tuple[Callable[[Report, Report], bool], ...]:
    """What else a measure depends on, by its family."""
    if not measure.startswith(("nuclei_", "nuclear_", "centroid_")):
        return (_same_tiles, _same_weights) if measure in _OF_FEATURES else (_same_tiles,)
    if measure.endswith("_against_truth"):
        return _same_segmenter, same_truth
    return (_same_segmenter, _same_patches) if measure.startswith("nuclei_per_patch") else (_same_segmenter,)


def _same_tiles(one: Report, other: Report) -> bool:
    return one.sizes[0] == other.sizes[0]


def _same_patches(one: Report, other: Report) -> bool:
    return one.sizes[1] == other.sizes[1]


def _same_segmenter(one: Report, other: Report) -> bool:
    return one.nuclei == other.nuclei or not (one.nuclei and other.nuclei)


def _same_weights(one: Report, other: Report) -> bool:
    return one.inception == other.inception or not (one.inception and other.inception)


def same_truth(one: Report, other: Report) -> bool:
    """Whether sections that both reports have a truth of have the same one."""
    return all(one.truth[name].same_as(other.truth[name]) for name in one.truth.keys() & other.truth.keys())
