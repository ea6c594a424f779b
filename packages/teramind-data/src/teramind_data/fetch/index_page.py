"""Directory pages of web servers (Apache mod_autoindex, nginx autoindex), and the tree below one.

Both print one link an entry, folders with a closing ``/``, and after it the date and the size: nginx in bytes (or
rounded, where it is told to), Apache rounded (``1.2M``). Sizes that are rounded are marked so.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from teramind_data.errors import InputError
from teramind_data.fetch.http import Client
from teramind_data.fetch.listing import Listing, RemoteFile, Wanted, check_path

__all__ = ["HttpFolder", "IndexEntry", "parse_index"]

_LARGEST_PAGE = 256 << 20
_DEEPEST = 32
_NOTE_EVERY_S = 10.0
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
#: Date of either server, then the size.
_COLUMNS = re.compile(
    r"\d{2,4}-\w{2,3}-\d{2,4}\s+\d{2}:\d{2}(?::\d{2})?\s+(?P<n>\d+(?:\.\d+)?)(?P<unit>[KMGTP]?)\b"
)


@dataclass(frozen=True)
class IndexEntry:
    """One line of a directory page; ``name`` without the closing slash."""

    name: str
    url: str
    folder: bool
    size: int | None
    exact: bool


class _Links(HTMLParser):
    """Links with the text that follows each."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, list[str]]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (href := dict(attrs).get("href")):
            self.links.append((href, []))
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self.links and not self._inside:
            self.links[-1][1].append(data)


def parse_index(text: str, url: str) -> list[IndexEntry]:
    """Entries of a directory page; links to anywhere else (parent, sorting, icons, other hosts) are none.

    Raises:
        InputError: a name that leads out of the folder once its escapes are undone.
    """
    parser = _Links()
    parser.feed(text)
    parser.close()
    base = urlsplit(url)
    found: dict[str, IndexEntry] = {}
    for href, after in parser.links:
        try:
            full = urljoin(url, href)
            parts = urlsplit(full)
        except ValueError:
            continue
        tail = parts.path.removeprefix(base.path)
        same_host = (parts.scheme, parts.netloc) == (base.scheme, base.netloc)
        if not same_host or parts.query or parts.fragment or not parts.path.startswith(base.path):
            continue
        if not tail or "/" in tail[:-1]:
            continue
        name = unquote(tail.removesuffix("/"), errors="strict") if _utf8(tail) else tail.removesuffix("/")
        if "/" in name:
            raise InputError(
                "listing names a path that leads out of the folder",
                where=url,
                found=repr(name),
                remedy="Do not trust this source",
            )
        check_path(name, url)
        columns = _COLUMNS.search(" ".join(" ".join(after).split()))
        size = None if columns is None else int(float(columns["n"]) * _UNITS[columns["unit"]])
        exact = columns is None or (columns["unit"] == "" and "." not in columns["n"])
        found[name] = IndexEntry(name, full, tail.endswith("/"), None if tail.endswith("/") else size, exact)
    return list(found.values())


def _utf8(tail: str) -> bool:
    try:
        unquote(tail, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class HttpFolder:
    """All files below an address that ends in ``/`` and answers with a directory page."""

    url: str
    notes: tuple[str, ...] = ()

    def listing(self, client: Client, wanted: Wanted) -> Listing:
        """Walk the tree, one request a folder; folders that cannot hold wanted files are not asked for.

        Raises:
            InputError: no directory page, unusable names, or folders nested deeper than 32.
        """
        files: list[RemoteFile] = []
        folders = [("", self.url, 0)]
        seen = 0
        noted = time.monotonic()
        while folders:
            prefix, url, depth = folders.pop()
            seen += 1
            for entry in self._entries(client, url):
                path = prefix + entry.name
                if not entry.folder:
                    files.append(RemoteFile(path, entry.url, entry.size, None, entry.exact))
                elif wanted.folder(path):
                    if depth >= _DEEPEST:
                        raise InputError("folders are nested too deeply", entry.url, f"at most {_DEEPEST}")
                    folders.append((f"{path}/", entry.url, depth + 1))
            if time.monotonic() - noted > _NOTE_EVERY_S:
                noted = time.monotonic()
                client.note(
                    f"{self.url}: {len(files)} files in {seen} folders so far, {len(folders)} to list"
                )
        return Listing(self.url, tuple(sorted(files, key=lambda file: file.path)), self.notes)

    @staticmethod
    def _entries(client: Client, url: str) -> list[IndexEntry]:
        page = client.page(url, limit=_LARGEST_PAGE, accept="text/html")
        if page.media_type not in ("text/html", "application/xhtml+xml"):
            raise InputError(
                "no directory page",
                where=url,
                expected="an HTML index",
                found=page.media_type or "no media type",
                remedy="Give a file's address without the closing slash, or a manifest",
            )
        base = page.url if page.url.endswith("/") else f"{page.url}/"
        return parse_index(page.data.decode("utf-8", errors="surrogateescape"), base)
