"""HTTP over one store: GET, HEAD and OPTIONS, single ranges (RFC 9110), CORS, and the viewer's page.

Pages of other origins may read (CORS), or web viewers could not open the store; they reach it only by an address that
names this machine: a request whose Host is another name is turned away, which is what DNS rebinding needs.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import sys
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socketserver import TCPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from teramind_data.errors import InputError, MissingInputError, RemoteError
from teramind_data.store import Brain
from teramind_data.view.describe import PAGE_FOLDER, describe, mount_name
from teramind_data.view.objects import StoredObject, objects_at

__all__ = ["StoreServer"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
}
_PAGE_FILES = ("viewer.js", "viewer.css", "LICENSES.txt")
#: The page loads nothing from elsewhere. Its codecs are WebAssembly whose glue (Emscripten's embind) makes functions
#: from strings, hence unsafe-eval.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_IDLE_S = 60


class StoreServer(ThreadingHTTPServer):
    """Serves one store until ``shutdown``. ``url`` is the page's address, known once it is made."""

    daemon_threads = True

    def __init__(
        self, brain: Brain, host: str = "127.0.0.1", port: int = 0, *, cors: str | None = "*"
    ) -> None:
        self.brain = brain
        self.mount = mount_name(brain)
        self.objects = objects_at(brain.url)
        self.view = json.dumps(describe(brain)).encode()
        self.page = _read_page()
        self.cors = cors
        self.host = host
        self.loopback = _is_loopback(host)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise InputError(
                "cannot listen",
                where=f"{host}:{port}",
                found=error.strerror or error,
                remedy="Another program may use the port: give another --port, or 0 for any free one",
            ) from None

    def server_bind(self) -> None:
        """As HTTPServer does it, without asking a name server for our own name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, int(self.server_address[1])

    @property
    def url(self) -> str:
        """Address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_port}/"

    def image_url(self, path: str) -> str:
        """Address of something in the store, for other programs."""
        return f"{self.url}{quote(self.mount)}/{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that stopped listening is nothing to report; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    """The name in a Host header, without its port; empty where there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _read_page() -> dict[str, bytes]:
    folder = files("teramind_data.view") / "page"
    names = ("index.html", *_PAGE_FILES)
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise MissingInputError(
            "viewer page is not built",
            where=folder,
            expected=", ".join(lacking),
            found="none",
            remedy="Run `make viewer` in the repository, or install the package from its wheel",
        )
    return {name: (folder / name).read_bytes() for name in names}


class _Bytes:
    """What is in memory, as a stored object."""

    def __init__(self, data: bytes) -> None:
        import hashlib

        self.data = data
        self.size = len(data)
        self.tag = hashlib.sha256(data).hexdigest()[:16]

    def blocks(self, start: int, stop: int) -> Any:
        yield self.data[start:stop]

    def close(self) -> None:
        """Nothing to let go of."""


class _Handler(BaseHTTPRequestHandler):
    server: StoreServer
    protocol_version = "HTTP/1.1"
    server_version = "teramind"
    sys_version = ""
    timeout = _IDLE_S
    disable_nagle_algorithm = True

    # ---- methods

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_OPTIONS(self) -> None:
        if self._admitted():
            self._head(
                HTTPStatus.NO_CONTENT, {"Allow": "GET, HEAD, OPTIONS", "Access-Control-Max-Age": "86400"}
            )

    def _refuse(self) -> None:
        self.close_connection = True
        self._text(HTTPStatus.METHOD_NOT_ALLOWED, "this server only reads", {"Allow": "GET, HEAD, OPTIONS"})

    do_POST = do_PUT = do_DELETE = do_PATCH = _refuse

    def _answer(self, *, body: bool) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads would pass for the next request
        if not self._admitted():
            return
        try:
            found, kind = self._find()
        except ValueError as error:
            self._text(HTTPStatus.BAD_REQUEST, str(error))
            return
        except PermissionError:
            self._text(HTTPStatus.FORBIDDEN, "no permission to read this object")
            return
        except (OSError, RemoteError) as error:
            self._text(HTTPStatus.BAD_GATEWAY, f"the store could not be read: {error}")
            return
        if found is None:
            self._text(HTTPStatus.NOT_FOUND, "no such object", body=body)
            return
        try:
            self._send(found, kind, body=body)
        finally:
            found.close()

    # ---- what is asked for

    def _admitted(self) -> bool:
        """Whether the request came by a name of this machine. The port may differ: it may be forwarded."""
        if not self.server.loopback or _is_loopback(_host_name(self.headers.get("Host", ""))):
            return True
        self.close_connection = True
        self._text(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to localhost and 127.0.0.1 only")
        return False

    def _find(self) -> tuple[StoredObject | None, str]:
        """The object of the address and its type; ValueError where the address is none."""
        path = _decoded(urlsplit(self.path).path)
        segments = path.split("/")[1:]
        name = segments[-1]
        kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        if path in ("/", "/index.html"):
            return _Bytes(self.server.page["index.html"]), _TYPES["html"]
        if path == "/view.json":
            return _Bytes(self.server.view), _TYPES["json"]
        if segments[0] == PAGE_FOLDER:
            data = self.server.page.get(name) if len(segments) == 2 and name in _PAGE_FILES else None
            return (None if data is None else _Bytes(data)), kind
        if segments[0] != self.server.mount or any(part in ("", ".", "..") for part in segments[1:]):
            return None, kind
        if len(segments) < 2:
            return None, kind
        # Whatever a store may hold, it is data: nothing in it runs as a page of ours.
        safe = kind if kind == _TYPES["json"] else "application/octet-stream"
        return self.server.objects.open("/".join(segments[1:])), safe

    def _send(self, found: StoredObject, kind: str, *, body: bool) -> None:
        tag = f'"{found.tag}"'
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "no-cache"}
        if kind == _TYPES["html"]:
            headers["Content-Security-Policy"] = _POLICY
        if tag in [
            known.strip().removeprefix("W/") for known in self.headers.get("If-None-Match", "").split(",")
        ]:
            self._head(HTTPStatus.NOT_MODIFIED, headers)
            return
        wanted = self.headers.get("Range")
        if wanted is not None and self.headers.get("If-Range", tag) != tag:
            wanted = None
        span = None if wanted is None else _span(wanted, found.size)
        if span is not None and span[0] >= span[1]:
            headers["Content-Range"] = f"bytes */{found.size}"
            self._text(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "no such bytes", headers, body=body)
            return
        start, stop = span or (0, found.size)
        if span is not None:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
        headers["Content-Length"] = str(stop - start)
        self._head(HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT, headers)
        if body:
            self._write(found, start, stop)

    def _write(self, found: StoredObject, start: int, stop: int) -> None:
        try:
            for block in found.blocks(start, stop):
                self.wfile.write(block)
        except ConnectionError:
            self.close_connection = True  # nobody listens any more
        except (OSError, RemoteError) as error:
            # The length is announced: breaking off is the only way left to say that it went wrong.
            self.close_connection = True
            print(f"error: {self.path}: {error}", file=sys.stderr, flush=True)

    # ---- answers

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, **self._cors()}.items():
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def _cors(self) -> dict[str, str]:
        if self.server.cors is None:
            return {}
        return {
            "Access-Control-Allow-Origin": self.server.cors,
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": "Range, If-Range, If-None-Match, Content-Type",
            "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
            "Access-Control-Allow-Private-Network": "true",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }

    def _text(
        self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None, *, body: bool = True
    ) -> None:
        data = f"{text}\n".encode()
        self._head(
            status, {**(headers or {}), "Content-Type": _TYPES["txt"], "Content-Length": str(len(data))}
        )
        if body and self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """A viewer asks for thousands of chunks, many of them rightly absent: nothing to print."""


def _decoded(path: str) -> str:
    """A path without its percent signs; ValueError where no file system should see it."""
    text = unquote(path, errors="strict")
    if not text.startswith("/") or "\\" in text or any(ord(character) < 32 for character in text):
        raise ValueError("not an address of this server")
    return text


def _span(header: str, size: int) -> tuple[int, int] | None:
    """``(start, stop)`` of a Range header; empty where no such bytes exist, None where it is to be ignored.

    RFC 9110, 14.2: a header that is not understood, or that has several ranges, may be ignored.
    """
    match = _RANGE.match(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if first == "":
        return max(0, size - int(last)), size
    start = int(first)
    stop = size if last == "" else min(int(last) + 1, size)
    if last != "" and int(last) < start:
        return None
    return start, max(start, stop) if start < size else start
