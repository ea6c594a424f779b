"""Every row of the table of damages: one line that names it, nothing half-written. The count is printed at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teramind_data.validate import validate
from tests.data.damage import (
    inputs_generated,
    inputs_images,
    inputs_manifest,
    inputs_panels,
    inputs_raw,
    inputs_registration,
    inputs_tiles,
    inputs_transcripts,
    stores_arrays,
    stores_root,
    stores_tables,
)
from tests.data.damage.scenes import SCENES
from tests.data.damage.store_tools import SHARD, flip
from tests.data.damage.table import InputDamage, StoreDamage
from tests.data.export.conftest import write_small

# Notices of other libraries are not ours to turn into errors.
pytestmark = pytest.mark.filterwarnings("ignore")

Run = Callable[..., tuple[int, str, str]]
Record = Callable[[str, object], None]

#: Seconds; most take a tenth of one.
LONGEST_S = 60

STORES = [*stores_root.DAMAGES, *stores_arrays.DAMAGES, *stores_tables.DAMAGES]
INPUTS: list[tuple[str, InputDamage]] = [
    (scene, damage)
    for scene, damages in (
        ("ingest", inputs_raw.DAMAGES),
        ("ingest", inputs_transcripts.DAMAGES),
        ("ingest", inputs_images.DAMAGES),
        ("ingest", inputs_registration.DAMAGES),
        ("ingest", inputs_manifest.DAMAGES),
        ("ingest", inputs_panels.DAMAGES),
        ("tiles", inputs_tiles.DAMAGES),
        ("generated", inputs_generated.GENERATED),
        ("images", inputs_generated.IMAGES),
        ("table of images", inputs_generated.TABLES),
    )
    for damage in damages
]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """No damage may keep a command busy for ever."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("the command does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound store; read only."""
    return Path(write_small(tmp_path_factory.mktemp("sound") / "brain.zarr").url)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The sound inputs of a scene, made when first asked for; read only."""
    made: dict[str, Path] = {}

    def scene(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("scene")
            SCENES[name].make(made[name])
        return made[name]

    return scene


def listing(folder: Path) -> list[bytes]:
    """Names below a folder, whatever their encoding; links are not followed."""
    return sorted(
        os.path.join(base, name)
        for base, folders, files in os.walk(os.fsencode(folder))
        for name in (*folders, *files)
    )


def test_the_table_is_long_and_each_row_another() -> None:
    names = [damage.name for damage in STORES] + [f"{scene} {damage.name}" for scene, damage in INPUTS]
    assert len(set(names)) == len(names) >= 200


def test_a_sound_store_has_no_findings(sound: Path) -> None:
    assert validate(sound) == []
    assert validate(sound, deep=True) == []


@pytest.mark.parametrize("scene", SCENES)
def test_sound_inputs_pass(
    scene: str, scenes: Callable[[str], Path], tmp_path: Path, run_command: Run
) -> None:
    """What the damages are done to is accepted without a word."""
    root = shutil.copytree(scenes(scene), tmp_path / "in")
    code, _, error = run_command(*SCENES[scene].command(root, ()))
    assert code == 0, error
    assert "error" not in error
    assert "note" not in error


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[StoreDamage], None]:
    """SpatialData and ome-zarr-models take most of the time; only damages that need them are shown to them."""

    def choose(damage: StoreDamage) -> None:
        if not re.search("SpatialData|OME|ome", damage.name):
            monkeypatch.setattr("teramind_data.validate._by_others", lambda location, brain: iter(()))

    return choose


@pytest.mark.parametrize("damage", STORES, ids=lambda damage: damage.name)
def test_damage_to_a_store(
    sound: Path,
    tmp_path: Path,
    damage: StoreDamage,
    quick: Callable[[StoreDamage], None],
    record_property: Record,
) -> None:
    quick(damage)
    root = tmp_path / "brain.zarr"
    shutil.copytree(sound, root)
    damage.damage(root)
    lines = [str(finding) for finding in validate(root, deep=damage.deep)]
    assert any(re.search(damage.words, line) for line in lines), lines
    for line in lines:
        assert "\n" not in line
        # Element, problem, remedy: "element: problem. Remedy".
        assert re.fullmatch(r"\S+: .+\. [A-Z].+", line), line
    record_property("damage", "stores")


@pytest.mark.parametrize(
    ("scene", "damage"),
    [
        pytest.param(
            scene, damage, id=f"{scene}: {damage.name}", marks=[pytest.mark.soak] if damage.soak else []
        )
        for scene, damage in INPUTS
    ],
)
def test_damage_to_inputs(
    scene: str,
    damage: InputDamage,
    scenes: Callable[[str], Path],
    tmp_path: Path,
    run_command: Run,
    record_property: Record,
) -> None:
    root = tmp_path / "in"
    shutil.copytree(scenes(scene), root)
    damage.damage(root)
    before = listing(tmp_path)
    code, _, error = run_command(*SCENES[scene].command(root, damage.options))
    lines = error.splitlines()
    assert "Traceback" not in error
    if damage.warns:
        assert code == 0, error
        said = [line for line in lines if line.startswith("note: ") and re.search(damage.words, line)]
        assert said, error
    else:
        assert code == 2, error
        said = [line for line in lines if line.startswith("error: ")]
        # Nothing under the final name, and no scratch beside it.
        assert listing(tmp_path) == before
        # What was expected or found, or what to do.
        assert re.search(r"\(.*(expected|found) |\. [A-Z]", said[0]), said
    assert len(said) == 1, error
    assert re.search(damage.words, said[0]), said
    assert damage.where in said[0], said
    assert said[0].isprintable()
    assert lines[-1] == said[0] or damage.warns, "the error is the last line"
    record_property("damage", "inputs")


def test_what_needs_depth_is_not_claimed_without(sound: Path, tmp_path: Path) -> None:
    """A flipped bit inside a chunk is seen by reading it, and only then."""
    root = tmp_path / "brain.zarr"
    shutil.copytree(sound, root)
    flip(SHARD, 0.5)(root)
    assert validate(root) == []
    assert validate(root, deep=True)


def test_command_exits_with_2_and_one_line_a_finding(sound: Path, tmp_path: Path, run_command: Run) -> None:
    code, out, _ = run_command("validate", sound, "--deep")
    assert code == 0
    assert out == f"{sound}: sound\n"
    root = tmp_path / "brain.zarr"
    shutil.copytree(sound, root)
    (root / SHARD).unlink()
    code, out, err = run_command("validate", root)
    assert code == 2
    assert out.count("\n") == 1
    assert out.startswith(f"{SHARD}: shard is missing")
    assert "1 finding" in err
    code, _, err = run_command("validate", tmp_path / "none.zarr")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: store not found")
