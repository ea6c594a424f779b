"""What sources offer: records, folders, manifests, single files; listed first, and nothing downloaded by listing."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from teramind_data.errors import InputError, MissingInputError
from teramind_data.fetch.checksum import Checksum
from teramind_data.fetch.http import Client, HttpPolicy
from teramind_data.fetch.index_page import parse_index
from teramind_data.fetch.listing import Listing, RemoteFile, Wanted, check_path
from teramind_data.fetch.manifests import parse_manifest
from teramind_data.fetch.sources import NAMED, Endpoints, HttpFile, ZenodoRecord, resolve
from tests.data.fetch.conftest import files_in, noise
from tests.data.fetch.server import Server

Fetch = Callable[..., tuple[int, str, str]]
EVERYTHING = Wanted()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def client() -> Client:
    return Client(HttpPolicy(retries=1, wait_s=0.01))


@pytest.mark.parametrize(
    "text",
    [
        "zenodo:123",
        "10.5281/zenodo.123",
        "https://doi.org/10.5281/zenodo.123",
        "https://zenodo.org/records/123",
        "https://zenodo.org/record/123/",
    ],
)
def test_a_zenodo_record_may_be_named_in_many_ways(text: str) -> None:
    assert resolve(text, Endpoints()) == ZenodoRecord("123", "https://zenodo.org")


def test_a_file_of_a_record_is_taken_with_its_checksum(client: Client, server: Server) -> None:
    server.zenodo("9", {"main part.zip": b"a", "b.zip": b"b"})
    ends = Endpoints(zenodo=server.url)
    source = resolve(f"{server.url}/records/9/files/main%20part.zip?download=1", ends)
    assert source == ZenodoRecord("9", server.url, "main part.zip")
    assert [(f.path, str(f.checksum)) for f in source.listing(client, EVERYTHING).files] == [
        ("main part.zip", f"md5:{md5(b'a')}")
    ]
    with pytest.raises(MissingInputError, match="no such file"):
        resolve(f"{server.url}/records/9/files/c.zip", ends).listing(client, EVERYTHING)


def test_an_address_that_only_holds_a_doi_is_an_address() -> None:
    assert isinstance(resolve("https://mirror/10.5281/zenodo.123/f.zip", Endpoints()), HttpFile)


def test_the_papers_data_have_names() -> None:
    assert resolve("tera-mind", Endpoints()) == ZenodoRecord("14745019", "https://zenodo.org")
    raw = resolve("tera-mind-raw", Endpoints())
    assert raw.url == "https://download.brainimagelibrary.org/64/a7/64a7615a166fc0c3/"
    assert set(NAMED) == {"tera-mind", "tera-mind-raw"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("zenodo:abc", InputError),
        ("ftp://host/file", InputError),
        ("file:///etc/passwd", InputError),
        ("https://user:secret@host/file", InputError),
        ("https:///file", InputError),
        ("nonsense", InputError),
        ("no/such/manifest.csv", MissingInputError),
    ],
)
def test_what_is_no_source_is_refused(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        resolve(text, Endpoints())
    assert "secret" not in str(caught.value)


def test_a_record_is_listed_with_sizes_and_checksums_and_nothing_is_downloaded(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    files = {"main.zip": noise(3000), "gene tiles.zip": noise(5000, 2)}
    server.zenodo("77", files)
    code, out, err = run_fetch("zenodo:77", "--list")
    assert (code, err) == (0, "")
    assert "Tiles & weights" in out
    assert "DOI 10.5281/zenodo.77" in out
    assert "cc-by-4.0" in out
    for name, data in files.items():
        assert f"md5:{md5(data)}  {name}" in out
    assert "2 files, 7.8 KiB; 2 with a published checksum" in out
    assert [request.path for request in server.requests] == ["/api/records/77"]
    assert list(tmp_path.iterdir()) == []


def test_without_yes_and_a_terminal_nothing_is_downloaded(
    run_fetch: Fetch, server: Server, tmp_path: Path
) -> None:
    server.zenodo("77", {"a": noise(10)})
    code, out, err = run_fetch("zenodo:77", tmp_path / "out")
    assert code == 2
    assert "1 file, 10 B" in out
    assert "--yes" in err
    assert not (tmp_path / "out").exists()


def test_a_newer_version_of_a_record_is_said(run_fetch: Fetch, server: Server) -> None:
    server.zenodo("80", {"a": b"x"})
    server.put("/api/records/79", b"", fail=[(301, {"Location": "/api/records/80"})])
    code, out, _ = run_fetch("zenodo:79", "--list")
    assert code == 0
    assert "record 80 is the newest version of 79" in out


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "not understood"),
        (b'{"files": []}', "no public files"),
        (b'{"files": [{"key": "x"}]}', "not understood"),
        (
            b'{"files": [{"key": "x", "checksum": "md5:12", "links": {"self": "http://h/x"}}]}',
            "checksum is none",
        ),
        (b'{"files": [{"key": "x", "links": {"self": "file:///etc/passwd"}}]}', "not one to download from"),
    ],
)
def test_a_record_that_is_not_understood_is_one_line(
    run_fetch: Fetch, server: Server, body: bytes, words: str
) -> None:
    server.put("/api/records/5", body, media_type="application/json")
    code, _, err = run_fetch("zenodo:5", "--list")
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("style", ["apache", "nginx"])
def test_a_folder_is_walked(run_fetch: Fetch, server: Server, tmp_path: Path, style: str) -> None:
    tree = {
        "section 000/detected_transcripts.csv": noise(2000, 1),
        "section 000/images/mosaic_DAPI_z3.tif": noise(300_000, 2),
        "section #1/detected_transcripts.csv": noise(10, 3),
        "Größe+100%.txt": noise(20, 4),
    }
    for path, data in tree.items():
        server.put(f"/64/a7/{path}", data)
    server.put("/64/secret.txt", b"not below the folder")
    server.index("/64/a7/", style)
    code, out, err = run_fetch(f"{server.url}/64/a7/", tmp_path / "out", "--yes")
    assert code == 0, err
    assert files_in(tmp_path / "out") == tree
    # Apache rounds, and what is rounded is not held against the files.
    assert ("~293.0 KiB" in out) == (style == "apache")


def test_only_wanted_folders_are_asked_for(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    for name in ("a/1.csv", "a/raw/1.dax", "b/1.csv", "c/1.csv"):
        server.put(f"/d/{name}", name.encode())
    server.index("/d/")
    code, _, err = run_fetch(
        f"{server.url}/d/",
        tmp_path,
        "--yes",
        "--include",
        "a/*",
        "--include",
        "*b/*.csv",
        "--exclude",
        "*/raw/*",
    )
    assert code == 0, err
    assert set(files_in(tmp_path)) == {"a/1.csv", "b/1.csv"}
    assert not server.of("/d/a/raw/")
    for pattern in ("a/*", "a", "a/"):
        code, out, _ = run_fetch(f"{server.url}/d/", "--list", "--include", pattern)
        assert code == 0
        assert "2 files" in out
    assert len(server.of("/d/c/")) == 1, "a pattern with a beginning rules folders out"


def test_links_to_elsewhere_are_not_entries() -> None:
    page = """<a href="../">up</a> <a href="/">top</a> <a href="?C=S">Size</a> <a href="#x">x</a>
    <a href="https://other/d/f">f</a> <a href="//other/d/g">g</a> <a href="/d/sub/deep">deep</a>
    <a href="javascript:alert(1)">j</a> <a href="./ok.txt">ok.txt</a> 01-Mar-2022 12:00 7"""
    entries = parse_index(page, "https://host/d/")
    assert [(entry.name, entry.url, entry.size) for entry in entries] == [
        ("ok.txt", "https://host/d/ok.txt", 7)
    ]


@pytest.mark.parametrize("href", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "a%5c..%5cb", "x%00y", "%2fetc"])
def test_names_that_lead_out_of_the_folder_are_refused(
    run_fetch: Fetch, server: Server, tmp_path: Path, href: str
) -> None:
    server.put("/d/", f'<a href="{href}">x</a>'.encode(), media_type="text/html")
    code, _, err = run_fetch(f"{server.url}/d/", tmp_path / "out", "--yes")
    assert code == 2
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "", "C:/x", "a\\b", "a\nb", "x" * 300, "x.part"],
)
def test_paths_of_listings_are_checked(path: str) -> None:
    with pytest.raises(InputError):
        check_path(path, "a listing")
    with pytest.raises(InputError):
        Listing("a listing", (RemoteFile(path, "https://host/x"),))


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b")])
def test_paths_that_collide_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        Listing("a listing", tuple(RemoteFile(path, "https://host/x") for path in paths))


def test_a_page_that_is_no_index_is_refused(run_fetch: Fetch, server: Server) -> None:
    server.put("/d/", b"{}", media_type="application/json")
    code, _, err = run_fetch(f"{server.url}/d/", "--list")
    assert code == 2
    assert "no directory page" in err
    server.put("/d/", b"<p>welcome</p>", media_type="text/html")
    code, _, err = run_fetch(f"{server.url}/d/", "--list")
    assert code == 2
    assert "nothing is offered" in err


def test_a_table_is_a_manifest(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    one, two = noise(900), noise(800, 2)
    server.put("/f/one.bin", one)
    server.put("/f/two.bin", two)
    table = tmp_path / "list.csv"
    digest = hashlib.sha256(one).hexdigest()
    table.write_text(
        f"url,path,size,checksum\n{server.url}/f/one.bin,deep/1.bin,900,sha256:{digest}\n{server.url}/f/two.bin,,,\n"
    )
    code, _, err = run_fetch(table, tmp_path / "out", "--yes")
    assert code == 0, err
    assert files_in(tmp_path / "out") == {"deep/1.bin": one, "two.bin": two}


def test_layouts_of_manifests() -> None:
    row = {"url": "https://h/a b.csv", "size": "3", "md5": "0" * 32}
    expected = RemoteFile("a b.csv", "https://h/a%20b.csv", 3, Checksum("md5", "0" * 32))
    assert list(parse_manifest(json.dumps([row]), "m")) == [expected]
    assert list(parse_manifest(json.dumps({"files": [row]}), "m")) == [expected]
    # as pandas writes what it does not know, and counts beside it
    loose = '[{"url": "https://h/x", "size": 3.0, "md5": NaN, "sha256": null}, {"url": "https://h/y", "size": NaN}]'
    assert [(f.path, f.size, f.checksum) for f in parse_manifest(loose, "m")] == [
        ("x", 3, None),
        ("y", None, None),
    ]
    # as the Brain Image Library's own package writes them
    tsv = "URL\tmd5\nhttps://h/a b.csv\t" + "0" * 32 + "\n"
    assert [(f.path, f.checksum) for f in parse_manifest(tsv, "m")] == [("a b.csv", expected.checksum)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column url"),
        ("name,size\nx,1\n", "no column url"),
        ("{", "no JSON"),
        ('{"a": 1}', "no layout"),
        ("[1]", "no layout"),
        ("url,size\nhttps://h/x,-1\n", "entry 1"),
        ("url,size\nhttps://h/x,1.5\n", "no number of bytes"),
        ("url,md5\nhttps://h/x,zz\n", "checksum"),
        ('url\n"https://h/x', "line"),
    ],
)
def test_manifests_that_cannot_be_read_say_where(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(parse_manifest(text, "m"))


def test_the_brain_image_librarys_inventory(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(4000)
    server.put("/2f/x/section_1/t.csv", data)
    inventory = {
        "number_of_files": 1,
        "manifest": [
            {
                "filename": "t.csv",
                "relativepath": "section_1/t.csv",
                "download_url": f"{server.url}/2f/x/section_1/t.csv",
                "size": 4000,
                "md5": md5(data),
                "sha256": None,
            }
        ],
    }
    server.put("/inventory/datasets/JSON/act-bag.json.gz", gzip.compress(json.dumps(inventory).encode()))
    code, out, err = run_fetch("bil:act-bag", tmp_path, "--yes")
    assert code == 0, err
    assert "1 with a published checksum" in out
    assert files_in(tmp_path) == {"section_1/t.csv": data}


def test_an_allen_brain_cell_atlas_manifest(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    def leaf(relative: str, data: bytes) -> dict[str, object]:
        server.put(f"/{relative}", data)
        return {
            "version": "20230630",
            "relative_path": relative,
            "url": f"{server.url}/{relative}",
            "size": len(data),
            "file_hash": md5(data),
        }

    tree = {
        "version": "20230630",
        "resource_uri": "s3://allen-brain-cell-atlas/",
        "directory_listing": {
            "D": {"directories": {"metadata": {"url": "u", "relative_path": "metadata/D"}}}
        },
        "file_listing": {
            "D": {
                "metadata": {"gene": {"files": {"csv": leaf("metadata/D/20230630/gene.csv", b"g\n")}}},
                "expression_matrices": {
                    "D": {
                        "raw": {
                            "files": {"h5ad": leaf("expression_matrices/D/20230630/D-raw.h5ad", noise(99))}
                        }
                    }
                },
            }
        },
    }
    server.put("/releases/20230630/manifest.json", json.dumps(tree).encode())
    address = f"manifest:{server.url}/releases/20230630/manifest.json"
    code, _, err = run_fetch(address, tmp_path, "--yes", "--include", "metadata/*")
    assert code == 0, err
    assert files_in(tmp_path) == {"metadata/D/20230630/gene.csv": b"g\n"}


def test_a_bomb_of_a_listing_is_not_inflated(client: Client, server: Server) -> None:
    server.put("/bomb", gzip.compress(b"0" * (1 << 20)))
    with pytest.raises(InputError, match="too large"):
        client.page(f"{server.url}/bomb", limit=1 << 16)
    server.put("/long", b"0" * (1 << 17))
    with pytest.raises(InputError, match="too large"):
        client.page(f"{server.url}/long", limit=1 << 16)
    server.put("/cut", gzip.compress(noise(1000))[:-9])
    with pytest.raises(InputError, match="truncated"):
        client.page(f"{server.url}/cut", limit=1 << 16)


def test_a_single_file_with_its_checksum(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    data = noise(1234)
    server.put("/last.ckpt", data)
    digest = hashlib.sha256(data).hexdigest()
    code, out, err = run_fetch(f"{server.url}/last.ckpt#sha256={digest}", tmp_path, "--yes")
    assert code == 0, err
    assert "1 file, 1.2 KiB; 1 with a published checksum" in out
    assert files_in(tmp_path) == {"last.ckpt": data}


def test_a_server_without_head_leaves_the_size_open(client: Client, server: Server) -> None:
    server.put("/x", b"abc", fail_head=405)
    assert HttpFile(f"{server.url}/x").listing(client, EVERYTHING).files[0].size is None
    with pytest.raises(MissingInputError):
        HttpFile(f"{server.url}/y").listing(client, EVERYTHING)


def test_checksum_files_are_added(run_fetch: Fetch, server: Server, tmp_path: Path) -> None:
    server.put("/d/sub/a.bin", b"good")
    server.put("/d/b.bin", b"bad!")
    server.index("/d/")
    sums = tmp_path / "md5sums.txt"
    sums.write_text(f"{md5(b'good')}  ./sub/a.bin\n{md5(b'other')} *b.bin\n")
    code, out, err = run_fetch(f"{server.url}/d/", tmp_path / "out", "--yes", "--checksums", sums)
    assert code == 2
    assert f"expected md5:{md5(b'other')}, found md5:{md5(b'bad!')}" in err
    assert "2 with a published checksum" in out
    assert files_in(tmp_path / "out") == {"sub/a.bin": b"good"}
    sums.write_text(f"{md5(b'good')}  nothing.bin\n")
    code, _, err = run_fetch(f"{server.url}/d/", "--list", "--checksums", sums)
    assert code == 2
    assert "names none of the files" in err
