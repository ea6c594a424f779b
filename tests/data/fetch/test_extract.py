"""Archives that were fetched: unpacked beside themselves, and nothing of theirs gets anywhere else."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.fetch.conftest import files_in, noise
from tests.data.fetch.server import Server

Fetch = Callable[..., tuple[int, str, str]]
TILES = {"gene/0_256_0_256.npz": noise(3000), "gene/last.ckpt": noise(9000, 2), "README.md": b"tiles\n"}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file of these members, and a folder entry."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.mkdir("gene")
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_archives_are_unpacked_beside_themselves(
    run_fetch: Fetch, server: Server, tmp_path: Path, method: int
) -> None:
    data = zipped(TILES, method)
    server.zenodo("1", {"main.zip": data, "notes.txt": b"n"})
    code, out, err = run_fetch("zenodo:1", tmp_path, "--yes", "--extract")
    assert code == 0, err
    everything = {f"main/{name}": content for name, content in TILES.items()}
    assert files_in(tmp_path) == everything | {"main.zip": data, "notes.txt": b"n"}
    assert "3 files unpacked, 0 there already" in out
    # One is gone, as after a crash: only that one is unpacked again.
    (tmp_path / "main" / "README.md").unlink()
    code, out, err = run_fetch("zenodo:1", tmp_path, "--yes", "--extract")
    assert code == 0, err
    assert "1 files unpacked, 2 there already" in out
    assert files_in(tmp_path) == everything | {"main.zip": data, "notes.txt": b"n"}


def test_only_the_checkpoint(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    server.zenodo("1", {"main.zip": zipped(TILES)})
    code, out, err = run_fetch("zenodo:1", tmp_path, "--yes", "--extract", "--member", "*.ckpt")
    assert code == 0, err
    assert set(files_in(tmp_path)) == {"main.zip", "main/gene/last.ckpt"}
    assert str(tmp_path / "main" / "gene" / "last.ckpt") in out
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes", "--extract", "--member", "*.safetensors")
    assert code == 2
    assert "expected *.safetensors, found gene/0_256_0_256.npz, gene/last.ckpt, README.md" in err


def test_other_files_are_not_overwritten(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    server.zenodo("1", {"main.zip": zipped(TILES)})
    (tmp_path / "main").mkdir()
    for mine in (b"mine", b"tilez\n"):
        (tmp_path / "main" / "README.md").write_bytes(mine)
        code, _, err = run_fetch("zenodo:1", tmp_path, "--yes", "--extract")
        assert code == 2
        assert "differs from the archive's" in err
        assert set(files_in(tmp_path)) == {"main.zip", "main/README.md"}
        assert (tmp_path / "main" / "README.md").read_bytes() == mine


def link(name: str, target: str) -> bytes:
    """An archive with a symbolic link."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return out.getvalue()


def lying(declared: int) -> bytes:
    """An archive whose member declares another size than it has."""
    data = zipped({"x": noise(2000)}, zipfile.ZIP_STORED)
    real, claim = (2000).to_bytes(4, "little"), declared.to_bytes(4, "little")
    assert data.count(real) == 4
    at = data.rindex(real)  # uncompressed size in the central directory
    return data[:at] + claim + data[at + 4 :]


BAD = {
    "slip": (zipped({"../../evil": b"x"}), "leads out of the folder"),
    "absolute": (zipped({"/evil": b"x"}), "leads out of the folder"),
    "backslash": (zipped({"..\\evil": b"x"}), "leads out of the folder"),
    "link": (link("etc", "/etc"), "a link"),
    "cut": (zipped(TILES)[:-40], "archive is damaged"),
    "no zip": (b"<html>", "archive is damaged"),
    "more than declared": (lying(100), "archive is damaged"),
    "less than declared": (lying(5000), "archive is damaged"),
    "bomb": (lying(2**31), "claim to become"),
    "bit": (
        zipped(TILES, zipfile.ZIP_STORED).replace(TILES["gene/last.ckpt"][:9], b"123456789"),
        "Bad CRC-32",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_archives_are_one_line_and_leave_nothing_outside(
    run_fetch: Fetch, server: Server, tmp_path: Path, name: str
) -> None:
    data, words = BAD[name]
    server.zenodo("1", {"main.zip": data})
    out = tmp_path / "a" / "b"
    code, _, err = run_fetch("zenodo:1", out, "--yes", "--extract")
    assert code == 2
    assert words in err.strip().splitlines()[-1]
    outside = set(files_in(tmp_path)) - {"a/b/main.zip", "a/b/main/gene/0_256_0_256.npz"}
    assert not outside


def test_links_on_disk_are_not_unpacked_through(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    server.zenodo("1", {"main.zip": zipped(TILES)})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out = tmp_path / "out"
    (out / "main").mkdir(parents=True)
    (out / "main" / "gene").symlink_to(elsewhere)
    code, _, err = run_fetch("zenodo:1", out, "--yes", "--extract")
    assert code == 2
    assert "a link stands where" in err
    (out / "main" / "gene").unlink()
    (out / "main").rmdir()
    (out / "main").symlink_to(elsewhere)
    code, _, err = run_fetch("zenodo:1", out, "--yes", "--extract")
    assert code == 2
    assert list(elsewhere.iterdir()) == []


def test_member_and_extract_go_together(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    server.zenodo("1", {"a.txt": b"x"})
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes", "--member", "x")
    assert code == 2
    assert "--extract" in err
    code, _, err = run_fetch("zenodo:1", tmp_path, "--yes", "--extract")
    assert code == 2
    assert "no .zip among the files" in err
