"""Stores that are not on this machine's disk: filesystems by URL, and what goes wrong on the way as one line.

S3 is set up as everywhere else, through the environment or ``~/.aws``: ``AWS_ENDPOINT_URL`` (MinIO and other servers),
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, ``AWS_PROFILE``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from zarr.storage import FsspecStore

from teramind_data.errors import AccessDeniedError, InputError, RemoteError
from teramind_data.store.location import UnconditionalError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = [
    "RemoteStore",
    "filesystem",
    "put_if",
    "remote_errors",
    "remote_store",
    "storage_options",
]

#: Packages that fsspec wants for what is common.
_NEEDS = {"s3": 'pip install "teramind-data[s3]"', "s3a": 'pip install "teramind-data[s3]"'}
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_ENDPOINT = "Check AWS_ENDPOINT_URL and that the server runs; run again to continue"


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL, and the path in it.

    Raises:
        InputError: where the URL is of no known kind, names no bucket, or needs a package that is not installed.
    """
    import fsspec

    with _url_errors(url):
        fs, path = fsspec.core.url_to_fs(url, **storage_options(url))
    return fs, str(path)


#: S3's words for an object that is not as a condition has it: there, gone, or being written at this moment.
_NOT_AS_ASKED = {
    *("PreconditionFailed", "412", "NoSuchKey", "404", "ConditionalRequestConflict", "409"),
    *("NotModified", "304"),  # of some servers, for If-None-Match
}


def put_if(fs: Any, path: str, data: bytes, tag: str | None) -> str | None:
    """Write one object where it is still that of ``tag``, or where there is none (None).

    S3's conditional writes: ``If-Match`` and ``If-None-Match`` of PutObject.

    Returns:
        Its new tag; None where the condition does not hold.

    Raises:
        UnconditionalError: where the filesystem, or the server, knows no such thing.
    """
    if "s3" not in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol):
        raise UnconditionalError
    bucket, key, _ = fs.split_path(path)
    condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    try:
        answer = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
    except OSError as error:
        if _code(error) in _NOT_AS_ASKED:
            return None
        if _code(error) in ("NotImplemented", "501"):
            raise UnconditionalError from error
        raise
    return str(answer["ETag"])


def remote_store(url: str, *, read_only: bool) -> RemoteStore:
    """The same place as a zarr store."""
    with _url_errors(url):
        opened = RemoteStore.from_url(url, storage_options=storage_options(url), read_only=read_only)
    store = cast(RemoteStore, opened)
    store.url = url
    return store


def storage_options(url: str) -> dict[str, Any]:
    """What is asked of a filesystem beyond its own defaults."""
    if not url.startswith(("s3://", "s3a://")):
        return {}
    # Other processes write below the same URL: a listing that is kept would hide their work.
    # And with more than one transfer an object, each is asked for its size before it is read.
    options: dict[str, Any] = {"use_listings_cache": False, "max_concurrency": 1}
    if not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & set(os.environ):
        # The default mode keeps at an endpoint that is not there for half a minute and more.
        options["config_kwargs"] = {"retries": {"mode": "standard", "max_attempts": 3}}
    if endpoint := s3_endpoint():
        # botocore would find it, too; but fsspec keeps filesystems by what they are asked for.
        options["endpoint_url"] = endpoint
    if region := s3_region():
        options["client_kwargs"] = {"region_name": region}
    return options


def s3_endpoint() -> str | None:
    """Where the environment says that S3 is, if not at Amazon."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def s3_region() -> str | None:
    """The region that the environment names; botocore knows but the first of its two variables."""
    return os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or None


@contextmanager
def _url_errors(url: str) -> Iterator[None]:
    protocol, _, rest = url.partition("://")
    if protocol in _NEEDS and (not rest or rest.startswith("/")):
        raise InputError("URL names no bucket", url, "s3://bucket/name.zarr", remedy="Name the bucket")
    try:
        yield
    except ImportError as error:
        remedy = _NEEDS.get(protocol, f"Install what it names: {error}")
        raise InputError(f"{protocol}:// needs a package that is not installed", url, remedy=remedy) from None
    except ValueError as error:
        # fsspec has no type of its own for it.
        if "Protocol not known" not in str(error):
            raise
        raise InputError(
            "URL is of no known kind", url, "a path, s3://, memory:// ...", protocol, "Check it"
        ) from None


def _code(error: BaseException) -> str:
    """S3's own word for what happened, or nothing."""
    cause = error if hasattr(error, "response") else error.__cause__
    response = getattr(cause, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


@contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """A scope in which failing requests are RemoteError. That an object is absent is no failure, and passes."""
    try:
        yield
    except _ABSENT as error:
        if _code(error) == "NoSuchBucket":
            remedy = "Make it first, or check the name and AWS_ENDPOINT_URL"
            raise RemoteError("bucket does not exist", url, remedy=remedy) from error
        raise
    except PermissionError as error:
        raise AccessDeniedError(
            "access denied", url, found=_code(error) or error, remedy=f"{_CREDENTIALS}; or ask for the right"
        ) from error
    except _failures() as error:
        raise _described(url, error) from error


def _failures() -> tuple[type[BaseException], ...]:
    # Where no S3 was spoken, its errors are not there to be caught.
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError,) if botocore is None else (OSError, botocore.BotoCoreError, botocore.ClientError)


def _described(url: str, error: BaseException) -> RemoteError:
    name = type(error).__name__
    if "Credential" in name or name in ("ProfileNotFound", "TokenRetrievalError", "SSOError"):
        return RemoteError("no credentials", url, found=error, remedy=_CREDENTIALS)
    if "Endpoint" in name or "Connect" in name or "Timeout" in name or "HTTPClient" in name:
        return RemoteError("server cannot be reached", url, found=error, remedy=_ENDPOINT)
    return RemoteError(
        "request to the store's server failed", url, found=f"{name}: {error}", remedy="Run again to continue"
    )


class RemoteStore(FsspecStore):
    """zarr's fsspec store whose failing requests say what and where (zarr itself takes absent objects for absent)."""

    url = ""

    def with_read_only(self, read_only: bool = False) -> RemoteStore:
        """See zarr."""
        store = cast(RemoteStore, super().with_read_only(read_only))
        store.url = self.url
        return store

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See zarr."""
        with remote_errors(self.url):
            return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """See zarr."""
        with remote_errors(self.url):
            return await super().get_partial_values(prototype, key_ranges)

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """See zarr."""
        with remote_errors(self.url):
            await super().set(key, value, byte_range)

    async def delete(self, key: str) -> None:
        """See zarr."""
        with remote_errors(self.url):
            await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """See zarr."""
        with remote_errors(self.url):
            await super().delete_dir(prefix)

    async def exists(self, key: str) -> bool:
        """See zarr."""
        with remote_errors(self.url):
            return await super().exists(key)

    async def list(self) -> AsyncIterator[str]:
        """See zarr."""
        with remote_errors(self.url):
            async for name in super().list():
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """See zarr."""
        with remote_errors(self.url):
            async for name in super().list_dir(prefix):
                yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """See zarr."""
        with remote_errors(self.url):
            async for name in super().list_prefix(prefix):
                yield name
