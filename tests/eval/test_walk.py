"""Passes section by section: the same numbers in this process, in others, on a cluster, and when stopped in between."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from teramind_eval.attention.maps import map_sets
from teramind_eval.attention.relations import relate
from teramind_eval.config import report_config
from teramind_eval.evaluate import Sizes, Task
from teramind_eval.genes.statistics import gene_statistics
from teramind_eval.journal import Arrays, Journal, pack
from teramind_eval.pairs import Compared
from teramind_eval.report.build import gather, open_stores
from teramind_eval.walk import HERE, Walk, Workers, walk_sections
from tests.cluster import dask_cluster
from tests.eval.conftest import Stores


class _Stopped(Exception):
    pass


@dataclass
class _Squares:
    """Numbers, noting what was asked for; stops at one."""

    asked: list[int]
    stop: int = -1

    def __call__(self, section: int) -> tuple[int, ...]:
        self.asked.append(section)
        if section == self.stop:
            raise _Stopped
        return (section, section**2)


KIND = tuple[int, ...]


def test_a_pass_that_was_stopped_goes_on(tmp_path: Path) -> None:
    told: list[int] = []
    walk = Walk(tmp_path, done=lambda: told.append(1))
    plain = list(walk_sections(_Squares([]), KIND, 4, "a"))
    assert plain == [(0, 0), (1, 1), (2, 4), (3, 9)]
    with pytest.raises(_Stopped):
        list(walk_sections(_Squares([], stop=2), KIND, 4, "a", walk))
    assert Journal(tmp_path).names() == ["a_0000", "a_0001"]
    assert len(told) == 2
    (tmp_path / "a_0000.npz").write_bytes(b"torn")
    again = _Squares([])
    assert list(walk_sections(again, KIND, 4, "a", walk)) == plain
    assert again.asked == [0, 2, 3]
    assert len(told) == 2 + 4
    # Another pass in the same folder is another one.
    other = _Squares([])
    assert list(walk_sections(other, KIND, 4, "b", walk)) == plain
    assert other.asked == [0, 1, 2, 3]


def test_values_come_one_by_one_where_nothing_is_kept() -> None:
    squares = _Squares([])
    values = walk_sections(squares, KIND, 4, "a")
    assert next(values) == (0, 0)
    assert squares.asked == [0]


def _bits(value: Any) -> tuple[str, dict[str, bytes]]:
    arrays: Arrays = {}
    tree = json.dumps(pack(value, arrays))
    return tree, {name: array.tobytes() for name, array in arrays.items()}


def _sums(stores: tuple[Compared, ...], walk: Walk = HERE) -> Any:
    """All that the passes over attention and genes have, but for the stores themselves."""
    related = [
        (one.sections, one.regions, one.levels, one.octaves, one.without)
        for one in relate(stores[0].brain, map_sets(stores[1:]), 2, 0, walk)
    ]
    return _bits((related, gene_statistics(stores[0].brain, walk)))


def _config(stores: Stores, **changes: Any) -> Any:
    controls = {"shuffled": str(stores.shuffled)}
    return report_config(
        real=str(stores.real), generated=str(stores.good), controls=controls, out="r", **changes
    )


def test_attention_and_genes_are_the_same_in_workers_and_from_disk(stores: Stores, tmp_path: Path) -> None:
    opened = open_stores(_config(stores))
    plain = _sums(opened)
    assert plain[1]
    assert _sums(opened, Walk(tmp_path, Workers(2))) == plain
    names = Journal(tmp_path).names()
    assert names == ["attention_0000", "attention_0001", "genes_0000", "genes_0001"]
    before = [(tmp_path / f"{name}.npz").stat().st_mtime_ns for name in names]
    assert _sums(opened, Walk(tmp_path)) == plain
    assert [(tmp_path / f"{name}.npz").stat().st_mtime_ns for name in names] == before


def test_a_cluster_gives_the_numbers_of_one_process(stores: Stores, tmp_path: Path) -> None:
    def numbers(name: str, **changes: Any) -> tuple[str, Any]:
        config = _config(stores, **changes)
        opened = open_stores(config)
        task = Task(opened, Sizes.for_canvas(opened[0].brain.canvas), config.nuclei.build())
        found = gather(config, opened, task, tmp_path / name, ({}, config.measured()))
        return found.results.to_json(), _bits((found.measured, found.attention.scores, found.genes))

    here = numbers("here")
    with dask_cluster(tmp_path) as (address, _):
        there = numbers("there", scheduler=address)
    assert there == here
    assert Journal(tmp_path / "there").names() == Journal(tmp_path / "here").names()
