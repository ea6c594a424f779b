"""Several draws of a brain: the first, and mean and spread of all, against draws made one by one."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from teramind_data.errors import InputError
from teramind_data.store import BrainWriter, open_brain
from teramind_model.generate import GenerateConfig, RunOptions, generate
from teramind_model.generate.config import parse_memory
from teramind_model.generate.draws import MEAN, SD, mean_and_sd
from teramind_model.generate.job import choose_width, plan_job
from tests.model.tiny import tiny_atlas, tiny_source

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Stopped(Exception):
    """Where a run was to stop."""


def quiet(line: str) -> None:
    pass


def test_mean_and_sd_pixel_by_pixel() -> None:
    rng = np.random.default_rng(0)
    draws = list(rng.integers(0, 256, (5, 2, 3, 4), dtype=np.uint8))
    draws[1][0, 0] = draws[0][0, 0]
    mean, sd = mean_and_sd(draws)
    for index in np.ndindex(2, 3, 4):
        values = [int(draw[index]) for draw in draws]
        assert mean[index] == np.float16(statistics.fmean(values))
        assert sd[index] == np.float16(statistics.stdev(values))


@pytest.mark.parametrize(("precision", "canvas"), [("float32", (80, 64)), ("bfloat16", (32, 32))])
def test_draws_are_those_of_their_seeds(tmp_path: Path, precision: str, canvas: tuple[int, int]) -> None:
    """In bfloat16 small and of one slice: a CPU without instructions for it takes a hundred times as long."""
    atlas = tiny_atlas(tmp_path / "a.zarr", canvas, 2 if precision == "float32" else 1)
    source = tiny_source() if precision == "float32" else tiny_source(gene_slices=1, channels=2)
    run = RunOptions(precision=precision, batch=4)  # type: ignore[arg-type]

    def config(name: str, **options: int) -> GenerateConfig:
        return GenerateConfig(atlas.url, "tiny", str(tmp_path / name), steps=2, run=run, **options)  # type: ignore[arg-type]

    alone = [
        generate(config(f"{seed}.zarr", seed=seed), source, say=quiet).morphology[:] for seed in (7, 8, 9)
    ]
    together = generate(config("k.zarr", seed=7, draws=3), source, say=quiet)
    assert np.array_equal(together.morphology[:], alone[0])
    mean, sd = mean_and_sd(alone)
    assert np.array_equal(together.image(MEAN)[:], mean)
    assert np.array_equal(together.image(SD)[:], sd)
    assert sd.any()
    assert not np.array_equal(alone[0], alone[1])
    assert together.provenance["request"]["draws"] == 3


def test_a_stopped_run_of_several_draws_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = tiny_atlas(tmp_path / "a.zarr", (128, 80), 2)
    config = {"steps": 2, "draws": 2}
    whole = generate(
        GenerateConfig(atlas.url, "tiny", str(tmp_path / "w.zarr"), **config), tiny_source(), say=quiet
    )
    written: list[str] = []
    write = BrainWriter.write

    def stop_after_a_mean(self: BrainWriter, name: str, *rest: object) -> None:
        write(self, name, *rest)  # type: ignore[arg-type]
        written.append(name)
        if written.count(MEAN) == 3:
            raise Stopped

    again = GenerateConfig(atlas.url, "tiny", str(tmp_path / "s.zarr"), **config)
    with monkeypatch.context() as patch:
        patch.setattr(BrainWriter, "write", stop_after_a_mean)
        with pytest.raises(Stopped):
            generate(again, tiny_source(), say=quiet)
    assert written.count("morphology") == 2
    generate(again, tiny_source(), say=quiet)
    stopped = open_brain(tmp_path / "s.zarr")
    for name in ("morphology", MEAN, SD):
        assert np.array_equal(stopped.image(name)[:], whole.image(name)[:])


def test_the_memory_that_a_refusal_asks_for_is_enough(tmp_path: Path) -> None:
    atlas, source = tiny_atlas(tmp_path / "a.zarr", (64, 64), 2), tiny_source()

    def width(draws: int, memory: int) -> int | None:
        run = RunOptions(memory=memory)
        config = GenerateConfig(atlas.url, "tiny", "unused", draws=draws, run=run)
        return choose_width(config, source, atlas, plan_job(config, source, atlas))

    limit, draws = 1 << 26, 100
    assert width(1, limit) == 1
    with pytest.raises(InputError, match=rf"{draws} draws .expected at most 0\.06 GiB") as error:
        width(draws, limit)
    asked = re.search(r"Pass --memory (\S+)", str(error.value))
    assert asked is not None
    assert width(draws, parse_memory(asked[1])) == 1


def test_only_the_wavefront_makes_several(tmp_path: Path) -> None:
    atlas = tiny_atlas(tmp_path / "a.zarr", (64, 64), 2)
    run = RunOptions(engine="straightforward")
    config = GenerateConfig(atlas.url, "tiny", str(tmp_path / "g.zarr"), steps=2, draws=2, run=run)
    with pytest.raises(InputError, match=r"only the wavefront makes several draws .*engine straightforward"):
        generate(config, tiny_source(), say=quiet)
    assert not (tmp_path / "g.zarr").exists()
    with pytest.raises(InputError, match=r"draws must be positive .expected >= 1, found 0"):
        GenerateConfig("a", "c", "o", draws=0)
    with pytest.raises(InputError, match=r"seed is out of range .expected 0 .. 2\^64 - 2"):
        GenerateConfig("a", "c", "o", seed=(1 << 64) - 1, draws=2)
