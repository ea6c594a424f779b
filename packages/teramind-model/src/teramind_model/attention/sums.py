"""Sums of the whole attention matrix by region and by section: streamed, mergeable, kept over a restart.

For a group of patches p (a section of a region, say), with ``c_b`` the molecules of gene b in the patch and section:

- ``attention``: sum of ``Attn_gg[a, b]``, of the whole window;
- ``weighted``: sum of ``Attn_gg[a, b] * c_b``, whose ratio to the sum of ``c_b`` is what a molecule of b receives;
- ``score``: sum of the symmetric ``q_a q_b / d`` before the softmax;
- ``both``: sum of ``Attn_gg[a, b]`` over the patches where a and b each have a molecule, and the number of those: genes
  that a patch lacks all look the same to the network, and attend to each other for that alone.

A patch counts for a section where it holds a molecule there, of any gene of the panel. Batches are summed in float32 by
one product, everything above them in float64, always in the same order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teramind_data.store import Brain
from teramind_model.attention.kernel import Batch

__all__ = ["GroupSums", "MatrixSums", "RegionLabels", "UnitSums", "majority"]

_MATRICES = 5


@dataclass
class GroupSums:
    """Sums over the patches of one group.

    Attributes:
        matrices: attention, weighted, score, both, and the patches of the last; ``(5, n, n)`` float64.
        molecules: of each gene, ``(n,)`` float64.
        patches: their number.
    """

    matrices: NDArray[np.float64]
    molecules: NDArray[np.float64]
    patches: int = 0

    @classmethod
    def zeros(cls, genes: int) -> GroupSums:
        """Of no patch."""
        return cls(np.zeros((_MATRICES, genes, genes)), np.zeros(genes))

    def add(self, other: GroupSums) -> None:
        """Take in the patches of another."""
        self.matrices += other.matrices
        self.molecules += other.molecules
        self.patches += other.patches

    @property
    def attention(self) -> NDArray[np.float64]:
        """Mean attention ``(n, n)``: gene a (row) to gene b."""
        mean: NDArray[np.float64] = self.matrices[0] / self.patches
        return mean

    @property
    def weighted(self) -> NDArray[np.float64]:
        """Mean attention over molecules of b; NaN in the columns of genes without any."""
        seen = np.where(self.molecules > 0, self.molecules, np.nan)
        mean: NDArray[np.float64] = self.matrices[1] / seen
        return mean

    @property
    def score(self) -> NDArray[np.float64]:
        """Mean before the softmax, symmetric up to rounding."""
        mean: NDArray[np.float64] = self.matrices[2] / self.patches
        return mean

    @property
    def both(self) -> NDArray[np.float64]:
        """Mean attention over patches with molecules of a and of b; NaN for pairs that never meet."""
        seen = np.where(self.meetings > 0, self.meetings, np.nan)
        mean: NDArray[np.float64] = self.matrices[3] / seen
        return mean

    @property
    def meetings(self) -> NDArray[np.float64]:
        """Patches with molecules of a and of b."""
        return self.matrices[4]


class UnitSums:
    """Sums of one unit by (section, label), on the network's device."""

    def __init__(self) -> None:
        self._matrices: dict[tuple[int, int], Tensor] = {}
        self._molecules: dict[tuple[int, int], Tensor] = {}
        self._patches: dict[tuple[int, int], int] = {}

    @torch.inference_mode()
    def add(
        self, batch: Batch, molecules: Mapping[int, Tensor], labels: Mapping[int, NDArray[np.int64]]
    ) -> None:
        """Take in a batch.

        Args:
            batch: with scores and attention.
            molecules: section to the genes' molecules in each patch, ``(b, n)`` float32.
            labels: section to each patch's label ``(b,)``; -1 where it does not count there.
        """
        if batch.attention is None or batch.scores is None:
            raise TypeError("the batch was computed without its matrices")
        shape = batch.attention.shape[1:]
        for z, label in labels.items():
            values = np.unique(label[label >= 0])
            if not len(values):
                continue
            member = torch.from_numpy((label == values[:, None]).astype(np.float32)).to(batch.scores.device)
            sums = torch.stack(
                [member @ each.flatten(1) for each in _summed(batch.attention, batch.scores, molecules[z])],
                dim=1,
            )
            genes = (member @ molecules[z]).double()
            for row, value in enumerate(values.tolist()):
                key = (z, value)
                matrices = sums[row].double().unflatten(-1, shape)
                known = key in self._matrices
                self._matrices[key] = self._matrices[key] + matrices if known else matrices
                self._molecules[key] = self._molecules[key] + genes[row] if known else genes[row]
                self._patches[key] = self._patches.get(key, 0) + int((label == value).sum())

    def groups(self) -> dict[tuple[int, int], GroupSums]:
        """On the host, in order of section and label."""
        return {
            key: GroupSums(
                self._matrices[key].cpu().numpy(), self._molecules[key].cpu().numpy(), self._patches[key]
            )
            for key in sorted(self._matrices)
        }


def _summed(attention: Tensor, scores: Tensor, molecules: Tensor) -> Iterator[Tensor]:
    """What is summed over patches, ``(b, n, n)`` each and one at a time, in the order of ``GroupSums.matrices``."""
    present = (molecules > 0).float()
    yield attention
    yield attention * molecules[:, None, :]
    yield scores
    meeting = present[:, :, None] * present[:, None, :]
    yield attention * meeting
    yield meeting


class MatrixSums:
    """Sums by section (all regions) and by region (all sections)."""

    def __init__(self, genes: int) -> None:
        self.genes = genes
        self.sections: dict[int, GroupSums] = {}
        self.regions: dict[int, GroupSums] = {}

    def add(self, groups: Mapping[tuple[int, int], GroupSums]) -> None:
        """Take in a unit's groups, keyed by section and label."""
        for (z, label), sums in groups.items():
            self.sections.setdefault(z, GroupSums.zeros(self.genes)).add(sums)
            self.regions.setdefault(label, GroupSums.zeros(self.genes)).add(sums)

    def merge(self, other: MatrixSums) -> None:
        """Take in the patches of another, which must be others."""
        for mine, theirs in ((self.sections, other.sections), (self.regions, other.regions)):
            for key, sums in theirs.items():
                mine.setdefault(key, GroupSums.zeros(self.genes)).add(sums)

    def whole(self) -> GroupSums:
        """All sections together."""
        total = GroupSums.zeros(self.genes)
        for z in sorted(self.sections):
            total.add(self.sections[z])
        return total

    def save(self, path: Path, request: Mapping[str, Any], position: int) -> None:
        """Keep the sums of the first ``position`` units; whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {}
        for kind, groups in (("section", self.sections), ("region", self.regions)):
            for key, sums in groups.items():
                arrays[f"{kind}.{key}.matrices"] = sums.matrices
                arrays[f"{kind}.{key}.molecules"] = sums.molecules
                arrays[f"{kind}.{key}.patches"] = np.array(sums.patches)
        about = json.dumps({"request": request, "position": position, "genes": self.genes}, sort_keys=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as file:
            np.savez(file, about=np.array(about), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path, request: Mapping[str, Any], genes: int) -> tuple[MatrixSums, int]:
        """Sums and position of an earlier run of the same request; nothing and 0 where there are none."""
        sums = cls(genes)
        if not path.is_file():
            return sums, 0
        with np.load(path, allow_pickle=False) as data:
            about = json.loads(str(data["about"]))
            if about["request"] != json.loads(json.dumps(request)):
                return sums, 0
            for name in data.files:
                if name.endswith(".matrices"):
                    kind, key, _ = name.split(".")
                    stem = f"{kind}.{key}"
                    groups = sums.sections if kind == "section" else sums.regions
                    groups[int(key)] = GroupSums(
                        data[name], data[f"{stem}.molecules"], int(data[f"{stem}.patches"])
                    )
        return sums, int(about["position"])


def majority(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most frequent label of patches ``(..., g, g)``, the smallest of equals; negative ones do not vote.

    -1 where nobody votes.
    """
    flat = labels.reshape(*labels.shape[:-2], -1)
    values = np.unique(flat[flat >= 0])
    if not len(values):
        return np.full(flat.shape[:-1], -1, np.int64)
    votes = np.stack([(flat == value).sum(axis=-1) for value in values])
    return np.where(votes.any(axis=0), values[votes.argmax(axis=0)], -1)


@dataclass(frozen=True)
class RegionLabels:
    """By what patches are grouped: the atlas's regions, its tissue where it has none, or nothing.

    Attributes:
        element: label image read; None where the atlas has neither.
        names: of the values; others are numbered.
    """

    element: str | None
    names: Mapping[int, str]

    @classmethod
    def of(cls, atlas: Brain) -> RegionLabels:
        """What an atlas offers."""
        if "regions" in atlas.labels:
            return cls("regions", {0: "unannotated", **atlas.region_names})
        if "tissue" in atlas.labels:
            return cls("tissue", {0: "outside tissue", 1: "tissue"})
        return cls(None, {0: "unannotated"})

    def name(self, value: int) -> str:
        """Of a value."""
        return self.names.get(value, f"region {value}")

    @property
    def values(self) -> Sequence[int]:
        """Those that can be known beforehand."""
        return tuple(self.names)
