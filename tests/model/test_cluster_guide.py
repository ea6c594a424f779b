"""The commands of docs/guides/cluster.md, run as far as a machine goes that has no SLURM, GPU or container."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from teramind_data.store import open_brain
from tests.model.test_generate import arrays, checkpoint
from tests.model.tiny import tiny_atlas, tiny_source
from tests.test_documented_commands import complaint

CHECKOUT = Path(__file__).resolve().parents[2]
GUIDE = CHECKOUT / "docs" / "guides" / "cluster.md"


def blocks(language: str) -> list[str]:
    """The guide's code blocks of a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def console(word: str) -> list[list[str]]:
    """The guide's commands that begin with a word."""
    lines = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(word + " ")]


STUBS = {
    # One task after the other, as the script's own #SBATCH line has it.
    "sbatch": (
        "last=$(sed -n 's/^#SBATCH --array=1-//p' \"${@: -1}\")\n"
        'for i in $(seq 1 "$last"); do\n'
        '    SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=$last bash "${@: -1}" || exit 1\n'
        "done\n"
    ),
    "srun": 'exec "$@"\n',
    # With fewer steps (the guide's command would take a minute here), and without what is for GPUs.
    "teramind-model": (
        f"exec {shlex.quote(sys.executable)} -m teramind_model.cli ${{@/#--compile/}} "
        "--precision float32 --steps 2 --batch 4\n"
    ),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an atlas and a checkpoint of the guide's names, and the stand-ins on the path."""
    monkeypatch.chdir(tmp_path)
    tiny_atlas(tmp_path / "C.zarr", canvas=(64, 64), sections=3)
    checkpoint(tmp_path / "RUN", tiny_source())
    (tmp_path / "bin").mkdir()
    for name, body in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def whole(place: Path) -> dict[str, bytes]:
    """The bytes of one process with one thread."""
    from teramind_model.generate import GenerateConfig, RunOptions, generate

    config = GenerateConfig("C.zarr", "RUN", "whole.zarr", steps=2, run=RunOptions(batch=4, threads=1))
    generate(config, say=lambda line: None)
    return arrays(place / "whole.zarr")


def shell(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_array_script_makes_the_store_of_one_run(place: Path) -> None:
    (script,) = (block for block in blocks("bash") if "#SBATCH" in block)
    # Two windows are two units, for as many tasks.
    (place / "generate.sbatch").write_text(script.replace("--array=1-8", "--array=1-2"))
    submit = next(block for block in blocks("console") if "sbatch --export=ALL generate.sbatch" in block)
    said = shell("\n".join(line.removeprefix("$ ") for line in submit.splitlines()))
    assert "part 1/2 is made" in said
    made = open_brain("G.zarr")
    assert [entry["part"] for entry in made.provenance["run"]["parts"]] == ["1/2", "2/2"]
    assert arrays(place / "G.zarr") == whole(place)


@pytest.mark.soak  # the same path as in test_executors.py, and slow to start
@pytest.mark.filterwarnings("ignore")
def test_the_python_recipe_on_a_local_cluster(place: Path) -> None:
    """dask-jobqueue's cluster is replaced by distributed's own, of processes too."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    (place / "dask_jobqueue.py").write_text(
        "from distributed import LocalCluster\n"
        "class SLURMCluster(LocalCluster):\n"
        "    def __init__(self, *, cores, processes, memory, walltime, job_extra_directives):\n"
        "        super().__init__(n_workers=0, threads_per_worker=cores, dashboard_address=None)\n"
        "    def scale(self, jobs):\n"
        "        super().scale(1)\n"
    )
    (recipe,) = (block for block in blocks("python") if "SLURMCluster" in block)
    for_gpus = 'RunOptions(precision="bfloat16", compile=True)'
    assert for_gpus in recipe and "hands=hands))" in recipe
    recipe = recipe.replace(for_gpus, "RunOptions(batch=4)")
    (place / "recipe.py").write_text(recipe.replace("hands=hands))", "hands=hands, steps=2))"))
    paths = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "recipe.py"], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert arrays(place / "G.zarr") == whole(place)


def test_containers_hold_what_is_there_and_run_what_exists() -> None:
    lines = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith("COPY "):
            assert (CHECKOUT / line.split()[1]).exists(), line
    installed = re.findall(r"/teramind/packages/([\w-]+)(?:\[([\w,]+)\])?", "\n".join(lines))
    assert {name for name, _ in installed} == {path.name for path in (CHECKOUT / "packages").iterdir()}
    for name, extras in installed:
        project = tomllib.loads((CHECKOUT / "packages" / name / "pyproject.toml").read_text())["project"]
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])
    installs = [line for line in lines if line.startswith("RUN")]
    assert any(" gcc " in line for line in installs), "--compile, which the guide advises, needs a C compiler"
    torch = next(re.search(r"torch==\S+", line) for line in lines if "torch==" in line)
    assert torch is not None
    assert torch[0] in (CHECKOUT / "constraints.txt").read_text().split()
    inside = [words for tool in ("docker run", "apptainer exec") for words in console(tool)]
    assert len(inside) == 2
    for words in inside:
        assert complaint(words[words.index("teramind-model") :]) is None


def test_other_launchers_start_what_exists() -> None:
    (words,) = console("torchrun")
    assert complaint(["teramind-model", *words[words.index("teramind_model.cli") + 1 :]]) is None
    (wrapped,) = (words for words in console("sbatch") if "--wrap" in words)
    assert complaint(shlex.split(wrapped[wrapped.index("--wrap") + 1])) is None
    for words in (["scheduler"], ["worker"]):
        (shown,) = (found for found in console("dask") if found[1:2] == words)
        options = {word for word in shown if word.startswith("--")}
        usage = subprocess.run(
            [sys.executable, "-m", "dask", *words, "--help"], capture_output=True, text=True, check=True
        ).stdout
        assert all(option in usage for option in options)
