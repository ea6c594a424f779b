"""Where files come from: what the user wrote, turned into something that can be listed.

Adding a kind of source is a class with ``listing`` and a line in `resolve`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from teramind_data.errors import InputError, MissingInputError
from teramind_data.fetch.checksum import parse_checksum
from teramind_data.fetch.http import Client, Refused
from teramind_data.fetch.index_page import HttpFolder
from teramind_data.fetch.listing import Listing, RemoteFile, Wanted, check_url
from teramind_data.fetch.manifests import Manifest

__all__ = ["NAMED", "Endpoints", "HttpFile", "Source", "ZenodoRecord", "resolve"]

_LARGEST_RECORD = 64 << 20
_ZENODO_DOI = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)?10\.5281/zenodo\.(\d+)", re.IGNORECASE)
#: A record's page, or the address of one of its files as its page gives it.
_ZENODO_PAGE = re.compile(r"/records?/(\d+)(?:/|/files/([^/]+))?")


class Source(Protocol):
    """Something that can say what it offers."""

    def listing(self, client: Client, wanted: Wanted) -> Listing:
        """All files; ``wanted`` only spares requests, the listing may hold more."""


@dataclass(frozen=True)
class Endpoints:
    """Where the archives answer; other addresses are for mirrors and tests."""

    zenodo: str = "https://zenodo.org"
    bil: str = "https://download.brainimagelibrary.org"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Endpoints:
        """TERAMIND_ZENODO_URL and TERAMIND_BIL_URL, else the archives themselves."""
        values = os.environ if environment is None else environment
        return cls(
            values.get("TERAMIND_ZENODO_URL", cls.zenodo).rstrip("/"),
            values.get("TERAMIND_BIL_URL", cls.bil).rstrip("/"),
        )


#: Names for the data of arXiv 2503.01220: the record and the folder that its authors' repository (CTPLab/Tera-MIND,
#: README) links for checkpoints and tiles, and for training data.
NAMED = {
    "tera-mind": "zenodo:14745019",
    "tera-mind-raw": "bil-path:64/a7/64a7615a166fc0c3/",
}


@dataclass(frozen=True)
class ZenodoRecord:
    """A record of Zenodo, by its number; all its files, or the one that is named."""

    record: str
    api: str
    file: str | None = None

    def listing(self, client: Client, wanted: Wanted) -> Listing:
        """Files of ``/api/records/ID``: key, size, ``md5:...``, links.self.

        Raises:
            MissingInputError: no such record. InputError: its files are not public, or the answer is not understood.
        """
        url = f"{self.api}/api/records/{self.record}"
        page = client.page(url, limit=_LARGEST_RECORD, accept="application/json")
        try:
            record = json.loads(page.data)
            files = tuple(_zenodo_file(entry, url) for entry in record.get("files") or ())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                "record is not understood",
                where=url,
                expected="a Zenodo record with files",
                found=repr(error)[:120],
            ) from error
        if not files:
            raise InputError(
                "record has no public files",
                where=url,
                remedy="Look at its page: it may be restricted or a stub",
            )
        if self.file is not None:
            files = tuple(file for file in files if file.path == self.file)
        if not files:
            raise MissingInputError("record has no such file", where=url, expected=self.file)
        return Listing(f"zenodo:{self.record}", files, self._notes(record))

    def _notes(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        about = record.get("metadata") or {}
        licence = about.get("license")
        notes = [
            unescape(str(about.get("title", ""))),
            f"DOI {record['doi']}" if record.get("doi") else "",
            f"licence {licence['id']}" if isinstance(licence, dict) and licence.get("id") else "",
        ]
        if str(record.get("id", self.record)) != self.record:
            notes.append(f"record {record['id']} is the newest version of {self.record}")
        return tuple(note for note in notes if note)


def _zenodo_file(entry: Mapping[str, Any], where: str) -> RemoteFile:
    checksum = entry.get("checksum")
    return RemoteFile(
        path=str(entry["key"]),
        url=str(entry["links"]["self"]),
        size=int(entry["size"]) if entry.get("size") is not None else None,
        checksum=parse_checksum(checksum, f"{where}, {entry['key']}") if checksum else None,
    )


@dataclass(frozen=True)
class HttpFile:
    """One file by its address; ``#md5=...`` or ``#sha256=...`` after it gives its checksum."""

    url: str

    def listing(self, client: Client, wanted: Wanted) -> Listing:
        """One HEAD request for the size; a server that refuses it leaves the size unknown."""
        address, _, fragment = self.url.partition("#")
        checksum = parse_checksum(fragment.replace("=", ":"), self.url) if fragment else None
        path = unquote(urlsplit(address).path.rpartition("/")[2])

        def head() -> int | None:
            with client.open(address, method="HEAD") as response:
                told = response.headers.get("Content-Length", "")
                return int(told) if told.isdigit() else None

        try:
            size = client.attempt(address, head)
        except Refused:
            size = None  # of HEAD; GET may be answered
        return Listing(address, (RemoteFile(path, address, size, checksum),))


def resolve(text: str, endpoints: Endpoints | None = None) -> Source:
    """The source that ``text`` names: see ``teramind-data fetch --help``.

    Raises:
        InputError: it names none.
    """
    ends = endpoints or Endpoints.from_environment()
    text = NAMED.get(text, text)
    kind, colon, rest = text.partition(":")
    if doi := _ZENODO_DOI.fullmatch(text):
        return ZenodoRecord(doi[1], ends.zenodo)
    if kind == "zenodo" and colon:
        if not rest.isdigit():
            raise InputError("not a Zenodo record", where=text, expected="zenodo: and its number")
        return ZenodoRecord(rest, ends.zenodo)
    if kind == "bil" and re.fullmatch("[a-z]+(-[a-z]+)*", rest):
        return Manifest(
            f"{ends.bil}/inventory/datasets/JSON/{rest}.json.gz", (f"Brain Image Library {rest}",)
        )
    if kind == "bil-path" and rest:
        return HttpFolder(f"{ends.bil}/{rest.strip('/')}/")
    if kind == "manifest" and rest:
        return Manifest(rest)
    if kind in ("http", "https"):
        return _from_address(text, ends)
    if Path(text).is_file():
        return Manifest(text)
    if "/" in text and not colon:
        raise MissingInputError(
            "no such manifest", where=text, remedy="Check the path, or begin with https://"
        )
    raise InputError(
        "not a source",
        where=text,
        expected=f"{', '.join(NAMED)}, zenodo:RECORD, bil:ID, manifest:FILE or an http(s) address",
    )


def _from_address(text: str, ends: Endpoints) -> Source:
    check_url(text.partition("#")[0])
    parts = urlsplit(text)
    zenodo_hosts = {"zenodo.org", "www.zenodo.org", urlsplit(ends.zenodo).netloc}
    if parts.netloc in zenodo_hosts and (page := _ZENODO_PAGE.fullmatch(parts.path)):
        return ZenodoRecord(page[1], ends.zenodo, unquote(page[2]) if page[2] else None)
    if parts.path.endswith("/") or not parts.path:
        return HttpFolder(text if parts.path else f"{text}/")
    return HttpFile(text)
