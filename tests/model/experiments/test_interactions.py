"""Attention of pairs: the numbers against their definitions, patch by patch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from teramind_data.errors import InputError, MissingInputError
from teramind_model.attention_matrix import gene_gene_attention
from teramind_model.checkpoint import ModelInfo, save_checkpoint
from teramind_model.experiments.interaction_report import InteractionConfig, read_pairs, write_interactions
from teramind_model.experiments.interactions import (
    Pair,
    beyond_untrained,
    measure,
    partial_correlation,
    tissue_patches,
    untrained,
)
from teramind_model.network import TeraMind
from tests.model.tiny import GENES, PIXEL_UM, tiny_atlas, tiny_source

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

PAIRS = (Pair("interacting", ("Slc17a6", "Slc17a7")), Pair("unrelated", ("Th", "Cldn5")))
CHANNELS = ((0, 1), (2, 4))


def model() -> TeraMind:
    found = tiny_source().model
    assert isinstance(found, TeraMind)
    return found


def patches(n: int = 30) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.poisson(rng.gamma(1.0, 2.0, (n, 4, 5, 2, 2))).astype(np.float32)


def test_numbers_equal_their_definitions_patch_by_patch() -> None:
    counts = patches()
    scores, found = measure({"trained": [model()]}, counts, PAIRS, CHANNELS, batch=7)
    for i, (a, b) in enumerate(CHANNELS):
        relative, beyond = [], []
        for patch in counts:
            attention = gene_gene_attention(model(), torch.from_numpy(patch[None]))[0].double().numpy()
            relative.append(5 * (attention[a, b] + attention[b, a]) / 2)
            summed = patch.sum(axis=(0, 2, 3), dtype=np.float64)
            weighed = sum(attention[p, q] * summed[q] for p in (a, b) for q in (a, b))
            uniform = sum(summed[q] / 5 for p in (a, b) for q in (a, b))
            beyond += [np.log2(weighed / uniform)] if uniform else []
        np.testing.assert_allclose(found["trained"].relative[i], relative, rtol=1e-5)
        score = scores[i]
        assert score.relative == pytest.approx(np.mean(relative), rel=1e-5)
        assert score.map_beyond_sd == pytest.approx(np.std(beyond), rel=1e-4)
    assert np.all(found["trained"].matrix == found["trained"].matrix.T)


def test_uniform_attention_adds_nothing() -> None:
    scores, _ = measure({}, patches(), PAIRS, CHANNELS)
    for score in scores:
        assert (score.network, score.relative, score.map_beyond_sd, score.rank) == ("uniform", 1, 0, 0.5)
        assert np.isnan(score.partial)
        assert score.map_correlation > 0.98


def test_several_untrained_networks_are_averaged() -> None:
    counts, networks = patches(), [untrained(model().config, seed) for seed in (0, 1)]
    both, _ = measure({"untrained": networks}, counts, PAIRS, CHANNELS)
    each = [measure({"untrained": [one]}, counts, PAIRS, CHANNELS)[0] for one in networks]
    assert both[0].relative == pytest.approx((each[0][0].relative + each[1][0].relative) / 2)
    assert each[0][0].relative != each[1][0].relative


def test_untrained_networks_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (untrained(model().config, 1).state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_partial_correlation_equals_the_textbook_formula() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=200)
    x, y = z + rng.normal(size=200), z + rng.normal(size=200)
    r = np.corrcoef(np.stack([x, y, z]))
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert partial_correlation(x, y, z[None]) == pytest.approx(expected)
    assert abs(partial_correlation(x, y, z[None])) < abs(r[0, 1])
    assert np.isnan(partial_correlation(2 * z + 1, y, z[None]))


def test_what_untrained_networks_tell_is_taken_away() -> None:
    rng = np.random.default_rng(1)
    blank = np.exp(rng.normal(size=(6, 6)))
    blank = (blank + blank.T) / 2
    trained = blank**1.7
    assert np.isnan(beyond_untrained(trained, blank)).all()
    trained = trained * np.exp(0.01 * np.triu(rng.normal(size=(6, 6)), 1))
    trained[0, 1] *= 2
    found = beyond_untrained(np.triu(trained) + np.triu(trained, 1).T, blank)
    assert np.nanargmax(found) in (1, 6)
    assert np.nanstd(found) == pytest.approx(1)


def test_only_patches_with_molecules_are_drawn(tmp_path: Path) -> None:
    brain = tiny_atlas(tmp_path / "a.zarr", (64, 96), 3)
    config = model().config
    assert brain.panel is not None
    channels = brain.panel.positions(GENES)
    found = tissue_patches(brain, config, channels, 100)
    # Six patches a window, two windows; one of the patches is the quiet corner.
    assert found.shape == (10, 4, 5, 2, 2)
    assert found.any(axis=(1, 2, 3, 4)).all()
    few = tissue_patches(brain, config, channels, 4)
    assert len(few) == 4
    assert all(any(np.array_equal(one, other) for other in found) for one in few)


def test_the_report_of_a_checkpoint(tmp_path: Path) -> None:
    source = tiny_source()
    info = ModelInfo(source.network, source.panel, source.stains, PIXEL_UM)
    save_checkpoint(tmp_path / "model", info, source.model.state_dict())
    tiny_atlas(tmp_path / "a.zarr", (64, 96), 3)
    listed = {"interacting": [["Slc17a6", "Slc17a7"]], "unrelated": [["Th", "Cldn5"], ["Th", "Not measured"]]}
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": listed}))
    config = InteractionConfig(
        str(tmp_path / "a.zarr"),
        str(tmp_path / "model"),
        tmp_path / "pairs.json",
        tmp_path / "out",
        networks=2,
    )
    scores = write_interactions(config)
    assert {(s.pair.label, s.network) for s in scores} == {
        (label, network)
        for label in ("Slc17a6–Slc17a7", "Th–Cldn5")
        for network in ("trained", "untrained", "uniform")
    }
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "maps.png",
        "pairs.csv",
        "pairs.md",
        "pairs.png",
    ]


def test_bad_lists_of_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no list of pairs"):
        read_pairs(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"pairs": {"x": [["one"]]}}')
    with pytest.raises(InputError, match=r"pairs cannot be read.*bad\.json"):
        read_pairs(tmp_path / "bad.json")
