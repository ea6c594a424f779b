"""A brain is generated from an atlas on S3 to a store on S3 as it is locally."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import AccessDeniedError, InputError, OutputExistsError
from teramind_data.store import Brain, Location, lease, open_brain, resume_brain, store_state
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.lock import hold_output
from teramind_model.generate.parts import Hands, Part
from tests.model.test_generate import checkpoint
from tests.model.tiny import tiny_atlas, tiny_source
from tests.s3 import objects


def generated(atlas: Brain, out: str) -> Brain:
    return generate(GenerateConfig(atlas.url, "tiny", out, steps=2), tiny_source(), say=lambda line: None)


@pytest.mark.filterwarnings("ignore")
def test_generated_on_s3_as_locally(bucket: str, tmp_path: Path) -> None:
    local = generated(tiny_atlas(tmp_path / "atlas.zarr"), str(tmp_path / "out.zarr"))
    atlas = tiny_atlas(f"{bucket}/atlas.zarr")  # type: ignore[arg-type]
    out = f"{bucket}/out.zarr"
    remote = generated(atlas, out)
    assert store_state(out) == "complete"
    for z in range(local.n_sections):
        np.testing.assert_array_equal(remote.read("morphology", z), local.read("morphology", z))
    before = objects(out)
    # Complete: nothing to do.
    generated(atlas, out)
    assert objects(out) == before


@pytest.mark.filterwarnings("ignore")
def test_parts_on_s3(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part begins the store and others wait for it; the command without --units completes it."""
    from teramind_model.generate import run

    monkeypatch.setattr(run, "_GLANCE_S", 0.05)
    atlas = tiny_atlas(tmp_path / "atlas.zarr", sections=3)
    source = tiny_source()  # once: it is drawn from a random generator that threads share
    out = f"{bucket}/parts.zarr"

    def made(part: Part | None, url: str) -> Brain:
        config = GenerateConfig(
            atlas.url, "tiny", url, steps=1, run=RunOptions(batch=4), hands=Hands(part=part)
        )
        return generate(config, source, say=lambda line: None)

    monkeypatch.setattr(run, "_PATIENCE_S", 0.1)
    with pytest.raises(InputError, match="no part has begun this store.* Run --units 1/2"):
        made(Part(2, 2), out)
    assert store_state(out) == "absent"
    monkeypatch.setattr(run, "_PATIENCE_S", 60.0)
    second: list[bool] = []
    waiting = threading.Thread(target=lambda: second.append(made(Part(2, 2), out).complete))
    waiting.start()
    assert not made(Part(1, 2), out).complete
    waiting.join()
    assert second == [False], "no part knows that it is the last"
    remote = made(None, out)
    assert remote.complete
    assert remote.provenance["run"]["shards_written"] == 0
    local = made(None, str(tmp_path / "local.zarr"))
    for z in range(local.n_sections):
        np.testing.assert_array_equal(remote.read("morphology", z), local.read("morphology", z))


@pytest.mark.filterwarnings("ignore")
def test_who_may_write_on_s3(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    monkeypatch.setattr(lease, "LAPSE_S", 1.5)
    folder, lines = f"{bucket}/held", list[str]()
    out = f"{folder}/g.zarr"

    def refused(part: Part | None, by: str) -> None:
        found = rf"{out} .*found process {os.getpid()} on .*: {by}\)"
        with pytest.raises(OutputExistsError, match=found), hold_output(out, part, lines.append):
            pass

    with hold_output(out, None, lines.append) as hold:
        assert hold.become_last() and not hold.certain
        refused(None, "a whole run")
        refused(Part(1, 2), "a whole run")
    with hold_output(out, Part(1, 2), lines.append) as hold:
        refused(Part(1, 2), "part 1/2")
        refused(None, "part 1/2")
        with hold_output(out, Part(2, 2), lines.append) as other:
            assert not hold.become_last() and not other.become_last()
            hold.check()
    assert objects(folder) == {}
    # What the killed left is nobody's, and goes with the next of the other kind.
    for left, part in ((".g.zarr.lease-1-of-2", None), (".g.zarr.lease", Part(1, 2))):
        Location(folder).write(left, b"{}")
        with hold_output(out, part, lines.append):
            pass
        assert objects(folder) == {}

    def denied(self: Location, *rest: object) -> None:
        raise AccessDeniedError("access denied", where=self.url)

    with monkeypatch.context() as patch:
        patch.setattr(Location, "put_if", denied)
        lines.clear()
        with hold_output(out, None, lines.append) as hold:
            hold.check()
        assert lines == [
            f"{out}: no lease beside it, access denied; see to it yourself that no other run writes here"
        ]
    lines.clear()
    with hold_output(bucket, None, lines.append) as hold:
        assert hold.become_last()
    assert lines == [
        f"{bucket}: no conditional writes there; see to it yourself that no other run writes here"
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("run", "hands"),
    [
        (RunOptions(), Hands()),
        (RunOptions(engine="straightforward"), Hands()),
        (RunOptions(), Hands(workers=2)),
    ],
    ids=["wavefront", "straightforward", "workers"],
)
def test_a_run_that_lost_its_lease_stops(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: RunOptions, hands: Hands
) -> None:
    def lost(self: lease.Lease) -> None:
        raise OutputExistsError("lost", where=self.output)

    # One process is not asked for a network that only this one has.
    atlas, source = tiny_atlas(tmp_path / "atlas.zarr"), tiny_source()
    out = f"{bucket}/{uuid.uuid4().hex}.zarr"
    network = str(checkpoint(tmp_path / "run", source))
    config = GenerateConfig(atlas.url, network, out, steps=2, run=run, hands=hands)
    with monkeypatch.context() as patch:
        patch.setattr(lease.Lease, "check", lost)
        with pytest.raises(OutputExistsError, match="lost"):
            generate(config, say=lambda line: None)
    assert store_state(out) == "incomplete"
    pending = resume_brain(out).pending("morphology")
    assert len(pending) == len(list(open_brain(out, incomplete=True).layout("morphology").shards())), (
        "none is written"
    )
