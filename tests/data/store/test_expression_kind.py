"""Stores of kind ``expression``: a measured brain of which there are no images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from teramind_data.elements import write_points, write_sections_table
from teramind_data.errors import IncompleteStoreError, InputError, StoreError
from teramind_data.geometry import Box, windows
from teramind_data.store import Brain, BrainWriter, create_brain, open_brain, resume_brain


def begun(truth: Any, out: Path) -> BrainWriter:
    writer = create_brain(out, replace(truth.spec, kind="expression", stains=()))
    for z, box in writer.pending("expression"):
        writer.write("expression", z, box, truth.expression[(slice(None), z, *box.slices)])
    return writer


@pytest.fixture
def genes_only(truth: Any, tmp_path: Path) -> Brain:
    writer = begun(truth, tmp_path / "genes.zarr")
    writer.write_molecules(truth.molecules)
    write_points(writer.url)
    write_sections_table(writer.url)
    return writer.finish()


def test_holds_genes_and_no_image(truth: Any, genes_only: Brain) -> None:
    brain = open_brain(genes_only.url)
    assert (brain.kind, brain.stains, brain.images) == ("expression", (), ("expression",))
    np.testing.assert_array_equal(brain.expression[:], truth.expression)
    box = Box(16, 80, 32, 96)
    counts = brain.window_counts(windows(4, 4, 2)[0], box)
    np.testing.assert_array_equal(counts[1], truth.expression[(slice(None), 0, *box.coarsen(16).slices)])
    with pytest.raises(StoreError, match="no such image: .*expected morphology"):
        brain.morphology  # noqa: B018


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_spatialdata_opens_it(genes_only: Brain) -> None:
    spatialdata = pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    data = spatialdata.read_zarr(genes_only.url)
    assert set(data.images) == {"expression"}
    assert "transcripts" in data.points


def test_is_not_whole_without_molecules(truth: Any, tmp_path: Path) -> None:
    begun(truth, tmp_path / "genes.zarr")
    with pytest.raises(IncompleteStoreError, match="missing molecules"):
        open_brain(tmp_path / "genes.zarr")
    writer = resume_brain(tmp_path / "genes.zarr", replace(truth.spec, kind="expression", stains=()))
    writer.write_molecules(truth.molecules)
    assert writer.finish().complete


def test_stains_without_images_are_refused(truth: Any) -> None:
    with pytest.raises(InputError, match="stains do not fit the store: expression"):
        replace(truth.spec, kind="expression")
    with pytest.raises(InputError, match="needs a panel"):
        replace(truth.spec, kind="expression", stains=(), panel=None)
