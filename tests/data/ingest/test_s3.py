"""Stores on an S3 server: written, stopped, continued, read and exported as local ones are, with the same bytes."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from teramind_data import open_brain
from teramind_data.errors import (
    IncompleteStoreError,
    InputError,
    MissingShardError,
    OutputExistsError,
    RemoteError,
)
from teramind_data.geometry import Box
from teramind_data.ingest.build import ingest
from teramind_data.ingest.plan import IngestConfig
from teramind_data.ingest.scratch import scratch_folder
from teramind_data.panel import Panel
from teramind_data.store import (
    Brain,
    BrainSpec,
    CropReader,
    ImageSpec,
    Location,
    Section,
    append_image,
    create_brain,
    store_state,
)
from tests.data.faults import tree
from tests.data.ingest.test_resume import COMMAND
from tests.s3 import filesystem, free_port, objects

# Notices of other libraries are not ours to turn into errors.
pytestmark = pytest.mark.filterwarnings("ignore")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def local(ingested: Brain) -> dict[str, bytes]:
    """Files of the local store."""
    return tree(Path(ingested.url))


@pytest.fixture(scope="module")
def store(bucket: str, raw_brain: Path) -> str:
    """The tiny brain's store on S3; read only."""
    url = f"{bucket}/deep/er/A.zarr"
    outcome, brain = ingest(IngestConfig(raw=raw_brain, out=url))
    assert outcome == "written"
    assert brain.complete
    return url


def test_the_same_objects_as_a_local_store(
    store: str, local: dict[str, bytes], raw_brain: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert objects(store) == local
    outcome, _ = ingest(IngestConfig(raw=raw_brain, out=store))
    assert outcome == "up to date"


def test_values_are_those_of_the_local_store(store: str, ingested: Brain) -> None:
    remote = open_brain(store)
    assert remote.spec.to_dict() == ingested.spec.to_dict()
    box = Box(37, 165, 100, 356)
    for z in range(ingested.n_sections):
        for name in ("morphology", "expression", "tissue", "regions"):
            np.testing.assert_array_equal(remote.read(name, z), ingested.read(name, z))
        for mine, other in zip(remote.molecules.read(z, box), ingested.molecules.read(z, box), strict=True):
            np.testing.assert_array_equal(mine, other)
        np.testing.assert_array_equal(remote.molecules.counts(z, box), ingested.molecules.counts(z, box))


def test_crops_through_tensorstore(store: str, ingested: Brain) -> None:
    pytest.importorskip("tensorstore")
    crops = CropReader(open_brain(store))
    assert crops.fast
    box = Box(11, 139, 200, 328)
    pixels = crops.pixels("morphology", (0, 1), box)
    counts = crops.counts((0, 1), box)
    for z in range(2):
        np.testing.assert_array_equal(pixels[:, z], ingested.read("morphology", z, box))
        np.testing.assert_array_equal(counts[z], ingested.molecules.counts(z, box))


def test_views(store: str, ingested: Brain) -> None:
    import pandas as pd
    from spatialdata.transformations import get_transformation

    here, there = open_brain(ingested.url).to_spatialdata(), open_brain(store).to_spatialdata()
    assert {(kind, name) for kind, name, _ in there.gen_elements()} == {
        (kind, name) for kind, name, _ in here.gen_elements()
    }
    for name in ("morphology", "expression", "tissue", "regions", "transcripts"):
        assert get_transformation(there[name], get_all=True) == get_transformation(here[name], get_all=True)
    pd.testing.assert_frame_equal(there["transcripts"].compute(), here["transcripts"].compute())
    assert there["transcripts"].attrs["spatialdata_attrs"] == here["transcripts"].attrs["spatialdata_attrs"]
    pd.testing.assert_frame_equal(there["sections"].to_df(), here["sections"].to_df())
    for view in (there["morphology"]["scale0"]["image"], open_brain(store).to_xarray()["morphology"]):
        np.testing.assert_array_equal(view.data[:, 1, 10:40, 20:60], ingested.morphology[:, 1, 10:40, 20:60])
    assert open_brain(store).to_spatialdata(section=1)["tissue"].shape == ingested.tissue.shape[1:]


def test_commands(store: str, ingested: Brain, tmp_path: Path, run_command: Run) -> None:
    code, out, _ = run_command("info", store, "--picture", tmp_path / "A.png")
    assert code == 0
    assert out.replace(store, "X").partition("\n")[2].count("images/") == 2
    _, expected, _ = run_command("info", ingested.url, "--picture", tmp_path / "B.png")
    # The same sizes, too.
    assert out.splitlines()[1:-1] == expected.splitlines()[1:-1]
    assert (tmp_path / "A.png").read_bytes() == (tmp_path / "B.png").read_bytes()
    code, out, err = run_command("validate", "--deep", store)
    assert (code, out) == (0, f"{store}: sound\n"), err
    for number, url in enumerate((store, ingested.url)):
        assert run_command("export", url, "--section", 1, "--out", tmp_path / f"{number}.ome.tif")[0] == 0
        assert run_command("export", url, "--h5ad", tmp_path / f"{number}.h5ad")[0] == 0
    assert (tmp_path / "0.ome.tif").read_bytes() == (tmp_path / "1.ome.tif").read_bytes()
    import anndata

    tables = [anndata.read_h5ad(tmp_path / f"{number}.h5ad") for number in range(2)]
    np.testing.assert_array_equal(tables[0].X, tables[1].X)
    assert tables[0].obs.equals(tables[1].obs)


def killed_after_objects(raw: Path, url: str, count: int) -> bool:
    """Run the command and SIGKILL it once so many objects are there; whether it was in time."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "ingest", str(raw), url],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while process.poll() is None and len(objects_listed(url)) < count and time.monotonic() < end:
        time.sleep(0.01)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return process.wait(60) == -signal.SIGKILL


def objects_listed(url: str) -> list[str]:
    found: list[str] = filesystem().find(url)
    return found


@pytest.mark.parametrize(
    "count", [pytest.param(8, marks=pytest.mark.soak), 30, pytest.param(60, marks=pytest.mark.soak)]
)
def test_sigkill(bucket: str, raw_brain: Path, local: dict[str, bytes], run_command: Run, count: int) -> None:
    url = f"{bucket}/killed-{count}.zarr"
    assert killed_after_objects(raw_brain, url, count)
    assert store_state(url) == "incomplete"
    with pytest.raises(IncompleteStoreError, match="missing"):
        open_brain(url)
    assert run_command("validate", url)[0] != 0
    ingest(IngestConfig(raw=raw_brain, out=url))
    assert objects(url) == local


def test_overwrite_replaces_only_what_is_ours(bucket: str, raw_brain: Path) -> None:
    fs = filesystem()
    url = f"{bucket}/replaced.zarr"
    config = IngestConfig(raw=raw_brain, out=url, section_spacing_um=50.0, overwrite=True)
    fs.pipe_file(f"{url}/notes.txt", b"mine")
    with pytest.raises(OutputExistsError, match="no store of ours"):
        ingest(config)
    fs.rm_file(f"{url}/notes.txt")
    plane = np.ones((1, 256, 256), np.uint8)
    old = BrainSpec(kind="generated", canvas=(256, 256), pixel_size_um=1.0, sections=(Section(0, "one", 0.0),),
                    panel=Panel(("Gad1",)), stains=("DAPI",))  # fmt: skip
    writer = create_brain(url, old)
    writer.write("morphology", 0, None, plane)
    writer.finish()
    fs.pipe_file(f"{url}/notes.txt", b"mine")
    with pytest.raises(OutputExistsError, match="made from other inputs"):
        ingest(replace(config, overwrite=False))
    with pytest.raises(OutputExistsError, match="not ours"):
        ingest(config)
    fs.rm_file(f"{url}/notes.txt")
    create_brain(url, replace(old, stains=("PolyT",)), overwrite=True)
    assert store_state(url) == "incomplete"
    assert not [name for name in objects_listed(url) if "/c/" in name]
    with pytest.raises(OutputExistsError, match="unfinished store of other inputs"):
        ingest(replace(config, overwrite=False))


def test_a_second_run_on_this_machine_is_refused(bucket: str, raw_brain: Path) -> None:
    url = f"{bucket}/twice.zarr"
    with (
        scratch_folder(url) as folder,
        pytest.raises(OutputExistsError, match="another run is writing this output"),
    ):
        ingest(IngestConfig(raw=raw_brain, out=url))
    assert not folder.exists()
    # A store of the same name elsewhere is another store.
    with scratch_folder(url), scratch_folder(f"{bucket}/other/twice.zarr"):
        pass
    assert objects_listed(url) == []


def test_bad_input_leaves_nothing(bucket: str, raw_copy: Path) -> None:
    url = f"{bucket}/bad.zarr"
    image = sorted((raw_copy / "section_001" / "images").glob("mosaic_PolyT*"))[0]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    with pytest.raises(InputError):
        ingest(IngestConfig(raw=raw_copy, out=url))
    assert objects_listed(url) == []


def test_append_image(bucket: str) -> None:
    url = f"{bucket}/appended.zarr"
    spec = BrainSpec(kind="generated", canvas=(256, 512), pixel_size_um=1.0, sections=(Section(0, "one", 0.0),),
                     panel=Panel(("Gad1",)), stains=("DAPI",))  # fmt: skip
    writer = create_brain(url, spec)
    writer.write("morphology", 0, None, np.ones((1, 256, 512), np.uint8))
    with pytest.raises(IncompleteStoreError):
        open_brain(url)
    writer.finish()
    plane = np.random.default_rng(1).random((1, 16, 32)).astype(np.float16)
    image = ImageSpec("map", ("value",), "float16", 16, "mean")
    append_image(url, image, [(0, None, plane)])
    np.testing.assert_array_equal(open_brain(url).read("map", 0), plane)
    with pytest.raises(OutputExistsError, match="image exists"):
        append_image(url, image, [])
    append_image(url, image, [(0, None, -plane)], overwrite=True)
    np.testing.assert_array_equal(open_brain(url).read("map", 0), -plane)
    # A shard that is lost is no background.
    key = "images/map/ome.zarr/0/c/0/0/0/0"
    Location(url).delete(key)
    with pytest.raises(MissingShardError, match=key):
        open_brain(url).read("map", 0)


class _Denies(BaseHTTPRequestHandler):
    """Answers as S3 does to those who may not."""

    def _answer(self) -> None:
        body = (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = _answer

    def log_message(self, *words: object) -> None:
        """Nothing: requests are no news."""


@pytest.fixture
def denying() -> Iterator[str]:
    """The endpoint of a server that denies everything."""
    server = HTTPServer(("127.0.0.1", 0), _Denies)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refused(run_command: Run, *words: object) -> str:
    """The one line that a command ends with, which must not take long."""
    begin = time.monotonic()
    code, _, err = run_command(*words)
    assert code == 2, err
    assert time.monotonic() - begin < 30
    assert len(err.splitlines()) == 1, err
    return err


def test_errors_in_one_line(
    bucket: str, raw_brain: Path, denying: str, monkeypatch: pytest.MonkeyPatch,
    run_command: Run,
) -> None:  # fmt: skip
    def words(url: str) -> tuple[object, ...]:
        return "ingest", raw_brain, url

    assert "error: bucket does not exist: s3://no-such-bucket/A.zarr" in refused(
        run_command, *words("s3://no-such-bucket/A.zarr")
    )
    assert "error: URL names no bucket" in refused(run_command, *words("s3://"))
    assert "error: URL is of no known kind" in refused(run_command, *words("s4://bucket/A.zarr"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", denying)
    assert "error: access denied" in refused(run_command, *words(f"{bucket}/A.zarr"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert "error: server cannot be reached" in refused(run_command, *words(f"{bucket}/A.zarr"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    assert "error: no credentials" in refused(run_command, *words(f"{bucket}/A.zarr"))


def test_s3fs_is_an_extra(monkeypatch: pytest.MonkeyPatch, run_command: Run) -> None:
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # What was loaded before is kept.
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    line = refused(run_command, "info", "s3://bucket/A.zarr")
    assert 'pip install "teramind-data[s3]"' in line


def test_a_server_that_fails_on_the_way_leaves_what_can_be_continued(
    bucket: str, raw_brain: Path, local: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    real, puts = s3fs.S3FileSystem._call_s3, []

    async def failing(self: object, method: str, *rest: object, **options: object) -> object:
        puts.append(method)
        if puts.count("put_object") > 25:
            raise OSError(5, "We encountered an internal error. Please try again.")
        return await real(self, method, *rest, **options)

    url = f"{bucket}/failed.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_call_s3", failing)
        with pytest.raises(RemoteError, match="internal error"):
            ingest(IngestConfig(raw=raw_brain, out=url))
    assert store_state(url) == "incomplete"
    ingest(IngestConfig(raw=raw_brain, out=url))
    assert objects(url) == local
