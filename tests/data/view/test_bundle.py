"""The built page that the package ships is the one that its sources make."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE_FILES = {"LICENSES.txt", "index.html", "viewer.css", "viewer.js"}
MOST_BYTES = 4 * 2**20


@pytest.fixture
def sources(checkout: Path) -> Path:
    return checkout / "packages" / "teramind-data" / "viewer"


@pytest.fixture
def page(checkout: Path) -> Path:
    return checkout / "packages" / "teramind-data" / "src" / "teramind_data" / "view" / "page"


def build(sources: Path, out: Path) -> None:
    subprocess.run(["node", "build.mjs", str(out)], cwd=sources, check=True, capture_output=True, timeout=120)


def test_the_page_was_built_from_these_sources(sources: Path, page: Path) -> None:
    """Needs no node: the bundle names a hash of what it was made from."""
    names = ["build.mjs", "package.json", "package-lock.json"]
    names += sorted(f"src/{file.name}" for file in (sources / "src").iterdir())
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\n".encode() + (sources / name).read_bytes())
    banner = (page / "viewer.js").read_text(encoding="utf-8").partition("*/")[0]
    assert digest.hexdigest() in banner, "run `make viewer`"


def test_the_page_is_whole_and_small(page: Path) -> None:
    assert {file.name for file in page.iterdir()} == PAGE_FILES
    assert sum(file.stat().st_size for file in page.iterdir()) <= MOST_BYTES
    licences = (page / "LICENSES.txt").read_text(encoding="utf-8")
    for package in ("@vivjs/layers", "@deck.gl/core", "@luma.gl/core", "zarrita", "numcodecs"):
        assert f"\n{package} " in licences


def test_versions_are_pinned_and_no_registry_is_named(sources: Path) -> None:
    package = json.loads((sources / "package.json").read_text())
    for versions in (package["dependencies"], package["devDependencies"]):
        assert all(version.replace(".", "").isdigit() for version in versions.values())
    lock = json.loads((sources / "package-lock.json").read_text())
    assert all("resolved" not in entry for entry in lock["packages"].values())
    assert all("integrity" in entry for path, entry in lock["packages"].items() if path)


def test_a_rebuild_gives_the_same_bytes(sources: Path, page: Path, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    if not (sources / "node_modules").is_dir():
        pytest.skip("the viewer's libraries are not installed here (`make viewer` does it)")
    build(sources, tmp_path / "page")
    for name in sorted(PAGE_FILES):
        assert (tmp_path / "page" / name).read_bytes() == (page / name).read_bytes(), name


@pytest.mark.soak
def test_a_rebuild_from_nothing_gives_the_same_bytes(sources: Path, page: Path, tmp_path: Path) -> None:
    """With the libraries fetched anew."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine")
    copy = tmp_path / "viewer"
    shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(["npm", "ci"], cwd=copy, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0 and any(
        code in done.stderr for code in ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN")
    ):
        pytest.skip("no npm registry can be reached")
    assert done.returncode == 0, done.stderr
    build(copy, tmp_path / "page")
    for name in sorted(PAGE_FILES):
        assert (tmp_path / "page" / name).read_bytes() == (page / name).read_bytes(), name
