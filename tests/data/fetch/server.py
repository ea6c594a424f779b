"""An HTTP server of a test's own on loopback: it can do all that real ones do wrong, and counts what it sends."""

from __future__ import annotations

import hashlib
import html
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit


@dataclass
class Resource:
    """Bytes at a path, and how they are served.

    cut: the connection breaks after so many bytes of an answer, one entry an answer. fail: (status, headers) to
    answer with first, one entry an answer. ranges: whether Range is heeded. validators: ETag and Last-Modified are
    sent. careless: If-Range is not looked at. if_range: False answers it with the whole, always. length:
    Content-Length is sent. pause: called with the bytes sent so far. fail_head: status of all HEAD requests.
    """

    data: bytes
    cut: list[int] = field(default_factory=list)
    fail: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    validators: bool = True
    careless: bool = False
    if_range: bool = True
    length: bool = True
    media_type: str = "application/octet-stream"
    pause: Callable[[int], None] | None = None
    fail_head: int | None = None

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


@dataclass
class Request:
    """One request as it came, and the bytes of body that were sent for it."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


class Server:
    """Resources by path; ``requests`` is what was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.resources: dict[str, Resource] = {}
        self.requests: list[Request] = []

    def put(self, path: str, data: bytes, **how: object) -> Resource:
        """Serve ``data`` at ``path``."""
        self.resources[path] = Resource(data, **how)  # type: ignore[arg-type]
        return self.resources[path]

    def sent(self, path: str) -> int:
        """Bytes of body sent for a path."""
        return sum(request.sent for request in self.requests if request.path == path)

    def of(self, path: str) -> list[Request]:
        """GET requests for a path."""
        return [request for request in self.requests if request.path == path and request.method == "GET"]

    def index(self, folder: str, style: str = "apache") -> None:
        """Directory pages for ``folder`` and all below it, in the manner of a real server."""
        inside = [path for path in self.resources if path.startswith(folder) and path != folder]
        names = sorted(
            {path[len(folder) :].partition("/")[0] + "/" * ("/" in path[len(folder) :]) for path in inside}
        )
        page = {"apache": apache_page, "nginx": nginx_page}[style]
        sizes = {
            name: None if name.endswith("/") else len(self.resources[folder + name].data) for name in names
        }
        self.put(folder, page(folder, sizes).encode(), media_type="text/html;charset=UTF-8", validators=False)
        for name in names:
            if name.endswith("/"):
                self.index(folder + name, style)

    def zenodo(self, record: str, files: dict[str, bytes], **more: object) -> dict[str, object]:
        """A Zenodo-like record and its files; the record, which may be changed and put again."""
        entries = []
        for key, data in files.items():
            path = f"/api/records/{record}/files/{quote(key)}/content"
            self.put(path, data)
            entries.append(
                {
                    "id": "6d1d2a62-0000-4000-8000-000000000000",
                    "key": key,
                    "size": len(data),
                    "checksum": "md5:" + hashlib.md5(data, usedforsecurity=False).hexdigest(),
                    "links": {"self": self.url + path},
                }
            )
        body = {
            "id": int(record),
            "doi": f"10.5281/zenodo.{record}",
            "metadata": {"title": "Tiles &amp; weights", "license": {"id": "cc-by-4.0"}},
            "files": entries,
        } | more
        self.put(f"/api/records/{record}", json.dumps(body).encode(), media_type="application/json")
        return body


def apache_page(folder: str, sizes: dict[str, int | None]) -> str:
    """As mod_autoindex with HTMLTable and FancyIndexing: rounded sizes, sorting links, icons, a parent."""
    rows = [
        '<tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>',
        '<tr><td><img src="/icons/back.gif"></td><td><a href="/up/">Parent Directory</a></td><td>&nbsp;</td>'
        '<td align="right">  - </td></tr>',
    ]
    for name, size in sizes.items():
        shown = "  - " if size is None else rounded(size)
        rows.append(
            f'<tr><td><img src="/icons/x.gif"></td><td><a href="{quote(name)}">{html.escape(name)}</a></td>'
            f'<td align="right">2022-03-01 12:00  </td><td align="right">{shown}</td><td>&nbsp;</td></tr>'
        )
    return f"<html><head><title>Index of {folder}</title></head><body><table>{''.join(rows)}</table></body></html>"


def rounded(size: int) -> str:
    """As Apache prints sizes."""
    if size < 973:
        return f"{size} "
    for unit in "KMGT":
        size_in = size / 1024
        if size_in < 973:
            return f"{size_in:.1f}{unit}" if size_in < 9.95 else f"{size_in:.0f}{unit}"
        size = int(size_in)
    raise ValueError(size)


def nginx_page(folder: str, sizes: dict[str, int | None]) -> str:
    """As autoindex: one line a name, exact sizes."""
    lines = ['<a href="../">../</a>']
    for name, size in sizes.items():
        link = f'<a href="{quote(name)}">{html.escape(name)}</a>'
        lines.append(f"{link}{' ' * 20} 01-Mar-2022 12:00 {'-' if size is None else size:>19}")
    return f"<html><head><title>Index of {folder}</title></head><body><pre>{chr(10).join(lines)}</pre></body></html>"


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(send_body=False)

        def do_GET(self) -> None:
            self._answer(send_body=True)

        def _answer(self, send_body: bool) -> None:
            path = unquote(urlsplit(self.path).path) if self.path not in server.resources else self.path
            request = Request(self.command, path, {k.lower(): v for k, v in self.headers.items()})
            server.requests.append(request)
            resource = server.resources.get(path)
            if resource is None:
                self._plain(request, 404, {})
            elif not send_body and resource.fail_head:
                self._plain(request, resource.fail_head, {})
            elif send_body and resource.fail:
                self._plain(request, *resource.fail.pop(0))
            else:
                self._resource(request, resource, send_body)

        def _plain(self, request: Request, status: int, headers: dict[str, str]) -> None:
            request.status = status
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _resource(self, request: Request, resource: Resource, send_body: bool) -> None:
            begin = self._range(request, resource)
            whole = len(resource.data)
            if begin is not None and begin >= whole:
                self._plain(request, 416, {"Content-Range": f"bytes */{whole}"})
                return
            request.status = 200 if begin is None else 206
            data = resource.data[begin or 0 :]
            self.send_response(request.status)
            self.send_header("Content-Type", resource.media_type)
            if resource.validators:
                self.send_header("ETag", resource.etag)
            if begin is not None:
                self.send_header("Content-Range", f"bytes {begin}-{whole - 1}/{whole}")
            if resource.length:
                self.send_header("Content-Length", str(len(data)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            if send_body:
                self._send(request, resource, data)

        def _range(self, request: Request, resource: Resource) -> int | None:
            wanted = request.headers.get("range")
            if wanted is None or not resource.ranges:
                return None
            if "if-range" in request.headers and not resource.if_range:
                return None
            if not resource.careless and request.headers.get("if-range", resource.etag) != resource.etag:
                return None
            return int(wanted.removeprefix("bytes=").partition("-")[0])

        def _send(self, request: Request, resource: Resource, data: bytes) -> None:
            cut = resource.cut.pop(0) if resource.cut else None
            data = data if cut is None else data[:cut]
            for at in range(0, len(data), 65536):
                block = data[at : at + 65536]
                try:
                    self.wfile.write(block)
                except OSError:  # the client went away, as some tests mean it to
                    self.close_connection = True
                    return
                request.sent += len(block)
                if resource.pause is not None:
                    resource.pause(request.sent)
            if cut is not None:
                self.close_connection = True

    return Handler


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of loopback, until the block ends."""
    found = Server("")
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(found)) as http:
        http.daemon_threads = True
        found.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            http.shutdown()
            thread.join()
