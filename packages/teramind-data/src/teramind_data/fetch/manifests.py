"""Lists of files that somebody wrote down: tables, JSON, and the inventories of two archives.

=======================  =========================================================================================
CSV, TSV                 header with ``url`` (or ``download_url``); ``path``, ``size`` and ``checksum`` (or a column
                         named md5, sha1, sha256 or sha512) where known
JSON                     a list of such rows, or an object with one under ``files``
Brain Image Library      ``inventory/datasets/JSON/<id>.json.gz``: rows under ``manifest`` (relativepath,
                         download_url, size, md5)
Allen Brain Cell Atlas   ``releases/<date>/manifest.json``: a tree under ``file_listing`` whose leaves hold
                         relative_path, url, size and file_hash (md5)
checksum files           as md5sum and sha256sum write them: digits, blanks, path
=======================  =========================================================================================
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from teramind_data.errors import InputError, MissingInputError
from teramind_data.fetch.checksum import LENGTHS, Checksum, parse_checksum
from teramind_data.fetch.http import Client
from teramind_data.fetch.listing import Listing, RemoteFile, Wanted

__all__ = ["Manifest", "add_checksums", "parse_manifest", "read_text"]

_LARGEST = 1 << 30
_URL = ("url", "download_url")
_PATH = ("path", "relativepath", "relative_path")


@dataclass(frozen=True)
class Manifest:
    """A list of files, at a path or an address."""

    where: str
    notes: tuple[str, ...] = ()

    def listing(self, client: Client, wanted: Wanted) -> Listing:
        """Read it; relative addresses are relative to its own.

        Raises:
            InputError: it cannot be understood; the entry is named.
        """
        text, base = read_text(self.where, client)
        return Listing(self.where, tuple(parse_manifest(text, self.where, base)), self.notes)


def read_text(where: str, client: Client) -> tuple[str, str | None]:
    """Text at a path or an address, and the address that others in it are relative to."""
    if "://" in where:
        page = client.page(where, limit=_LARGEST)
        data, base = page.data, page.url
    else:
        path = Path(where)
        if not path.is_file():
            raise MissingInputError("file not found", where=where, remedy="Check the path")
        if path.stat().st_size > _LARGEST:
            raise InputError("file is too large to be a listing", where, f"at most {_LARGEST >> 20} MiB")
        data, base = path.read_bytes(), None
    try:
        return data.decode("utf-8-sig"), base
    except UnicodeDecodeError as error:
        raise InputError("listing is no text", where=where, expected="UTF-8", found=str(error)) from error


def parse_manifest(text: str, where: object, base: str | None = None) -> Iterator[RemoteFile]:
    """The files of a listing in any of the layouts above."""
    if not text.lstrip().startswith(("{", "[")):
        yield from _rows(_table(text, where), where, base)
        return
    try:
        data: object = json.loads(text)
    except ValueError as error:
        raise InputError("listing is no JSON", where=where, found=str(error)) from error
    if isinstance(data, dict) and isinstance(data.get("file_listing"), dict):
        yield from _rows(_leaves(data["file_listing"]), where, base, hash_key="file_hash")
        return
    if isinstance(data, dict):
        data = data.get("manifest", data.get("files"))
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise InputError(
            "listing is of no layout that is known",
            where=where,
            expected="a list of objects, or one under files, manifest or file_listing",
            remedy="Write a CSV with columns url, path, size, checksum",
        )
    yield from _rows(iter(data), where, base)


def _table(text: str, where: object) -> Iterator[Mapping[str, Any]]:
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in head else ",", strict=True)
    names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    if not set(names) & set(_URL):
        raise InputError(
            "listing has no column url",
            where=where,
            expected="url[,path][,size][,checksum]",
            found=head[:80].strip() or "an empty file",
        )
    reader.fieldnames = names
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(
            "listing is no table", where=f"{where}, line {reader.line_num}", found=error
        ) from error


def _leaves(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The file entries of an Allen Brain Cell Atlas tree, however deep."""
    if "url" in tree and "relative_path" in tree:
        yield tree
        return
    for value in tree.values():
        if isinstance(value, dict):
            yield from _leaves(value)


def _rows(
    rows: Iterator[Mapping[str, Any]], where: object, base: str | None, hash_key: str = "checksum"
) -> Iterator[RemoteFile]:
    for number, row in enumerate(rows, start=1):
        entry = f"{where}, entry {number}"
        address = str(_first(row, _URL) or "")
        if base is not None:
            address = urljoin(base, address)
        url = _escaped(address)
        path = str(_first(row, _PATH) or unquote(urlsplit(url).path.rpartition("/")[2]))
        yield RemoteFile(path, url, _size(row.get("size"), entry), _checksum(row, entry, hash_key))


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> object:
    return next((row[name] for name in names if not _absent(row.get(name))), None)


def _absent(value: object) -> bool:
    # Tables that went through pandas say NaN for what they do not know.
    return value in (None, "") or (isinstance(value, float) and math.isnan(value))


def _escaped(url: str) -> str:
    """Blanks and signs that no address may hold, escaped; escapes that are there stay."""
    return quote(url.strip(), safe="/:?#[]@!$&'()*+,;=%~")


def _size(value: object, where: str) -> int | None:
    if _absent(value):
        return None
    try:
        number = float(str(value))
        size = int(number) if number.is_integer() else -1
        size = int(str(value)) if str(value).isdigit() else size  # floats end at 2^53
    except (ValueError, OverflowError):
        size = -1
    if size < 0:
        raise InputError("size is no number of bytes", where=where, found=repr(value))
    return size


def _checksum(row: Mapping[str, Any], where: str, hash_key: str) -> Checksum | None:
    # The strongest that is given.
    for algorithm in ("sha512", "sha256", "md5", "sha1"):
        if not _absent(row.get(algorithm)):
            return parse_checksum(str(row[algorithm]), where, algorithm)
    value = row.get(hash_key)
    return None if _absent(value) else parse_checksum(str(value), where)


def add_checksums(listing: Listing, text: str, where: object) -> Listing:
    """The listing with the checksums of a checksum file; paths are the listing's, with or without ``./``.

    Raises:
        InputError: a line cannot be read, or no line is of a file of the listing.
    """
    known: dict[str, Checksum] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        digits, _, name = line.strip().partition(" ")
        known[name.strip().removeprefix("*").removeprefix("./")] = parse_checksum(
            digits, f"{where}, line {number}"
        )
    files = tuple(replace(file, checksum=known.get(file.path, file.checksum)) for file in listing.files)
    if not any(file.path in known for file in listing.files):
        raise InputError(
            "checksum file names none of the files",
            where=where,
            expected=f"lines of digits ({', '.join(LENGTHS)}) and a path such as {listing.files[0].path}"
            if listing.files
            else None,
            found=f"{len(known)} lines",
        )
    return replace(listing, files=files)
