"""What the measures of a report are called, in which unit, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from teramind_data.errors import InputError
from teramind_eval.compare.reports import Key
from teramind_eval.results import TOGETHER

Better = Literal["higher", "lower", "near", ""]
"""`near`: to the real brain's value; empty: nobody has said."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A column: its key in the reports, its title with unit, digits shown, and which way is better."""

    key: Key
    title: str
    digits: int
    better: Better


_Told = tuple[str, int, Better]

#: By name of the measure: title, digits, better. Names are those of `metrics.parquet`.
_KNOWN: dict[str, _Told] = {
    "psnr_db": ("PSNR (dB)", 2, "higher"),
    "ssim": ("SSIM", 3, "higher"),
    "ms_ssim": ("MS-SSIM", 3, "higher"),
    "fid": ("FID", 2, "lower"),
    "sfid": ("sFID", 2, "lower"),
    "kid": ("KID", 4, "lower"),
    "centroid_f1_against_truth": ("Centroid F1, truth", 3, "higher"),
    "centroid_f1_against_real": ("Centroid F1, real image", 3, "higher"),
    "nuclei_per_patch": ("Nuclei a patch", 2, "near"),
    "nuclear_area_um2": ("Nuclear area (µm²)", 1, "near"),
    "nuclei_per_patch_wasserstein": ("Nuclei a patch, distance", 2, "lower"),
    "nuclear_area_um2_wasserstein": ("Nuclear area, distance (µm²)", 2, "lower"),
    "seam_index_tiles": ("Seam index, tiles", 2, "near"),
    "seam_index_windows": ("Seam index, windows", 2, "near"),
    "nuclei_per_patch_kolmogorov_smirnov": ("Nuclei a patch, KS", 3, "lower"),
    "nuclear_area_um2_kolmogorov_smirnov": ("Nuclear area, KS", 3, "lower"),
    "nuclear_area_px": ("Nuclear area (px)", 1, "near"),
    "centroid_precision_against_truth": ("Centroid precision, truth", 3, "higher"),
    "centroid_recall_against_truth": ("Centroid recall, truth", 3, "higher"),
    "centroid_precision_against_real": ("Centroid precision, real image", 3, "higher"),
    "centroid_recall_against_real": ("Centroid recall, real image", 3, "higher"),
}

#: Measures of nuclei by name: title, unit, digits.
_OF_NUCLEI: dict[str, tuple[str, str, int]] = {
    "nuclei_per_patch": ("Nuclei a patch", "", 2),
    "nuclear_area_um2": ("Nuclear area", " (µm²)", 1),
    "nuclear_eccentricity": ("Nuclear eccentricity", "", 3),
    "nuclear_solidity": ("Nuclear solidity", "", 3),
    "nuclear_mean_intensity": ("DAPI in nuclei", " (grey levels)", 1),
    "nuclear_neighbour_um": ("Nearest nucleus", " (µm)", 2),
}
for _name, (_title, _unit, _digits) in _OF_NUCLEI.items():
    _KNOWN.setdefault(_name, (f"{_title}{_unit}", _digits, "near"))
    _KNOWN[f"{_name}_sd"] = (f"{_title}, SD{_unit}", _digits, "near")
    _KNOWN[f"{_name}_wasserstein_to_real"] = (f"{_title}, Wasserstein{_unit}", _digits + 1, "lower")
    _KNOWN[f"{_name}_kolmogorov_smirnov_to_real"] = (f"{_title}, KS", 3, "lower")

#: Shown unless others are asked for, where the reports have them.
_SHOWN = (
    "psnr_db",
    "ssim",
    "ms_ssim",
    "fid",
    "sfid",
    "kid",
    "centroid_f1_against_truth",
    "centroid_f1_against_real",
    "nuclei_per_patch",
    "nuclear_area_um2",
    "nuclear_area_um2_wasserstein",
    "seam_index_tiles",
    "seam_index_windows",
)

#: Measures of nuclei are of this stain alone; it need not be said.
_NUCLEAR = "DAPI"


def all_measures(keys: Iterable[Key]) -> list[Measure]:
    """Every measure that is there: known ones first, in their order, then the others by name."""
    names = list(_KNOWN)
    found = sorted(set(keys), key=lambda key: (names.index(key[0]) if key[0] in names else len(names), key))
    return [_measure(key, found) for key in found]


def _measure(key: Key, found: list[Key]) -> Measure:
    name, stain = key
    title, digits, better = _KNOWN.get(name, (name.replace("_", " "), 3, ""))
    stains = [other for one, other in found if one == name]
    if len(stains) > 1 and stain != TOGETHER:
        title += f", {stain}"
    return Measure(key, title, digits, better)


def chosen_measures(measures: list[Measure], wanted: list[str]) -> list[Measure]:
    """Columns of the table: those of `wanted` (`NAME` or `NAME:STAIN`), or the usual ones.

    The usual ones are of all stains together where they are measured so, and those this version does not know.

    Raises
    ------
    InputError
        where one is in no report.
    """
    if not wanted:
        return [one for one in measures if _usual(one, measures)]
    out: list[Measure] = []
    for word in wanted:
        name, _, stain = word.partition(":")
        hits = [one for one in measures if one.key[0] == name and stain in ("", one.key[1])]
        if not hits:
            raise InputError(
                "no report has this measure",
                where="--measure",
                expected=", ".join(dict.fromkeys(one.key[0] for one in measures)),
                found=word,
            )
        out += [one for one in hits if one not in out]
    return out


def _usual(measure: Measure, measures: list[Measure]) -> bool:
    name, stain = measure.key
    if name not in _KNOWN:
        return True
    together = any(one.key == (name, TOGETHER) for one in measures)
    return name in _SHOWN and (stain == TOGETHER or not together)
