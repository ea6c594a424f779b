"""Requests that follow redirects under our own rules, and that are tried again when that can help.

Proxies, certificates and ``~/.netrc`` are as `requests` finds them in the environment. No credentials are kept.
"""

from __future__ import annotations

import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from teramind_data.errors import InputError, MissingInputError, TransferError
from teramind_data.fetch.listing import check_url

if TYPE_CHECKING:
    import requests

__all__ = ["Client", "HttpPolicy", "Page", "Refused", "Retries", "Stopped", "Transient", "body"]

_REDIRECTS = 10
_BLOCK = 1 << 18
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
T = TypeVar("T")


@dataclass(frozen=True)
class HttpPolicy:
    """How patient a client is.

    retries: in a row, without a byte gained. wait_s: before the first retry; doubles each time. longest_wait_s: also
    the longest Retry-After that is obeyed. connect_s, read_s, page_s: silence that counts as a broken connection:
    while connecting, in a file, and before a listing, which servers make in full before they send its first byte.
    """

    retries: int = 6
    wait_s: float = 1.0
    longest_wait_s: float = 600.0
    connect_s: float = 30.0
    read_s: float = 60.0
    page_s: float = 600.0


class Transient(Exception):
    """Something that may be gone at the next attempt."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Refused(TransferError):
    """The server's answer was no, and asking again would not change it."""


class Stopped(Exception):
    """Another file's failure, or the user, ended the run."""


@dataclass(frozen=True)
class Page:
    """A small document: its bytes, the address it came from in the end, and its media type."""

    data: bytes
    url: str
    media_type: str


class Retries:
    """Counts attempts that gained nothing, and waits between them."""

    def __init__(self, policy: HttpPolicy, stop: threading.Event, note: Callable[[str], None]) -> None:
        self._policy = policy
        self._stop = stop
        self._note = note
        self._failed = 0

    def gained(self) -> None:
        """Bytes came: patience begins anew."""
        self._failed = 0

    def wait(self, trouble: Transient, url: str) -> None:
        """Wait before the next attempt.

        Raises:
            TransferError: there is no next attempt. Stopped: the run ended meanwhile.
        """
        policy = self._policy
        self._failed += 1
        wait = policy.wait_s * 2 ** (self._failed - 1)
        wait = min(wait, policy.longest_wait_s) if trouble.retry_after_s is None else trouble.retry_after_s
        if self._failed > policy.retries or wait > policy.longest_wait_s:
            patience = (
                f"asks to wait {wait:.0f} s, more than {policy.longest_wait_s:.0f} s"
                if wait > policy.longest_wait_s
                else f"{self._failed} attempts in a row"
            )
            raise TransferError(
                "download failed",
                where=url,
                found=f"{trouble.reason}; {patience}",
                remedy="Run the same command again later; it goes on where it stopped",
            )
        self._note(f"{url}: {trouble.reason}; attempt {self._failed + 1} in {wait:.3g} s")
        if self._stop.wait(wait):
            raise Stopped


class Client:
    """One session for all requests of a run; safe to use from several threads."""

    def __init__(self, policy: HttpPolicy | None = None, note: Callable[[str], None] | None = None) -> None:
        self.policy = policy or HttpPolicy()
        self.stop = threading.Event()
        self.note = note or (lambda text: print(f"note: {text}", file=sys.stderr, flush=True))
        self._local = threading.local()  # a requests.Session promises nothing to several threads

    def retries(self) -> Retries:
        """Patience for one file."""
        return Retries(self.policy, self.stop, self.note)

    def _session(self) -> requests.Session:
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            # Sizes and checksums are of the bytes as they are stored.
            self._local.session.headers.update({"Accept-Encoding": "identity", "User-Agent": "teramind-data"})
        session: requests.Session = self._local.session
        return session

    @contextmanager
    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        read_s: float | None = None,
    ) -> Iterator[requests.Response]:
        """The final response, its body unread, with a status of 200, 206 or 416.

        Raises:
            Transient: worth another attempt. MissingInputError: 404 or 410. TransferError: any other refusal.
            InputError: a redirect to another scheme, or from https to http.
        """
        response = self._follow(url, headers or {}, method, read_s or self.policy.read_s)
        try:
            _check_status(response, url)
            yield response
        finally:
            response.close()

    def _follow(self, url: str, headers: Mapping[str, str], method: str, read_s: float) -> requests.Response:
        import requests

        at = url
        for _ in range(_REDIRECTS + 1):
            try:
                response = self._session().request(
                    method,
                    at,
                    headers=dict(headers),
                    stream=True,
                    allow_redirects=False,
                    timeout=(self.policy.connect_s, read_s),
                )
            except requests.exceptions.SSLError as error:
                raise TransferError(
                    "certificate is not accepted", where=at, found=str(error)[:200]
                ) from error
            except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
                raise Transient(f"no connection ({_short(error)})") from error
            except requests.exceptions.RequestException as error:
                raise TransferError("request failed", where=at, found=_short(error)) from error
            if not response.is_redirect:
                return response
            target = urljoin(at, response.headers["Location"])
            response.close()
            _check_redirect(at, target)
            at = target
        raise TransferError("too many redirects", where=url, expected=f"at most {_REDIRECTS}")

    def attempt(self, url: str, action: Callable[[], T]) -> T:
        """``action()``, again as long as it raises `Transient` and patience lasts."""
        retries = self.retries()
        while True:
            try:
                return action()
            except Transient as trouble:
                retries.wait(trouble, url)

    def page(self, url: str, *, limit: int, accept: str = "*/*") -> Page:
        """A whole small document of at most ``limit`` bytes, also once inflated.

        Raises:
            InputError: larger. Else as `open`, but Transient only becomes TransferError.
        """
        return self.attempt(url, lambda: self._page(url, limit, accept))

    def _page(self, url: str, limit: int, accept: str) -> Page:
        with self.open(url, {"Accept": accept}, read_s=self.policy.page_s) as response:
            parts: list[bytes] = []
            size = 0
            for block in body(response):
                size += len(block)
                if size > limit:
                    raise _too_large(url, limit)
                parts.append(block)
            data = b"".join(parts)
            told = response.headers.get("Content-Length", "")
            if told.isdigit() and int(told) != size:
                raise Transient(f"connection closed after {size} of {told} bytes")
            media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            return Page(_inflated(data, url, limit), response.url, media)


def body(response: requests.Response) -> Iterator[bytes]:
    """The bytes of a response as they are sent, not decoded.

    Raises:
        Transient: the connection broke.
    """
    import urllib3

    try:
        yield from response.raw.stream(_BLOCK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Transient(f"connection broke ({_short(error)})") from error


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    if status in _AGAIN:
        raise Transient(f"server answered {status}", _retry_after(response.headers.get("Retry-After")))
    if status in (404, 410):
        raise MissingInputError(
            "not on the server",
            where=url,
            found=f"answer {status}",
            remedy="Check the address, or list its folder",
        )
    hint = "It asks for a login: ~/.netrc is used where it names the host" if status in (401, 403) else None
    raise Refused("server refused", where=url, found=f"answer {status} {response.reason}", remedy=hint)


def _check_redirect(origin: str, target: str) -> None:
    before, after = urlsplit(origin).scheme, urlsplit(target).scheme
    if after not in ("http", "https") or (before == "https" and after == "http"):
        raise InputError(
            "redirect is refused",
            where=origin,
            expected="https" if before == "https" else "http or https",
            found=f"{after}:",
            remedy="Do not trust this source, or give its new address",
        )
    check_url(target)


def _retry_after(text: str | None) -> float | None:
    if text is None:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _inflated(data: bytes, url: str, limit: int) -> bytes:
    if data[:2] != b"\x1f\x8b":
        return data
    machine = zlib.decompressobj(wbits=31)
    try:
        out = machine.decompress(data, limit + 1)
    except zlib.error as error:
        raise InputError("document is damaged", where=url, found=f"gzip: {error}") from error
    if len(out) > limit:
        raise _too_large(url, limit)
    if not machine.eof:
        raise InputError("document is truncated", where=url, expected="a whole gzip file")
    return out


def _too_large(url: str, limit: int) -> InputError:
    return InputError("document is too large to be a listing", url, f"at most {limit >> 20} MiB")


def _short(error: BaseException) -> str:
    """What went wrong at the bottom of errors that wrap one another."""
    inner: object = getattr(error, "reason", None) or (error.args[0] if error.args else None)
    if isinstance(inner, BaseException) and inner is not error:
        return _short(inner)
    text = " ".join((inner if isinstance(inner, str) else str(error)).split())
    return text[:160] or type(error).__name__
