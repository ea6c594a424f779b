"""Typed errors. Each is also the built-in a caller would expect, and each says in one line what to do."""

from __future__ import annotations

__all__ = [
    "GeometryError",
    "IncompleteStoreError",
    "InputError",
    "MissingInputError",
    "MissingShardError",
    "OutputExistsError",
    "PanelError",
    "RegistrationError",
    "RemoteError",
    "StoreError",
    "TeramindError",
    "TransferError",
]


def _one_line(value: object) -> str:
    """Text on one line; what cannot be printed (zero bytes, escapes, broken names of files) as its number."""
    text = " ".join(str(value).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TeramindError(Exception):
    """Base of all errors meant for the person at the keyboard.

    ``str(error)`` is one line: ``what: where (expected X, found Y). Remedy``. Parts that were not given are left
    out. Commands print it without a traceback and exit with code 2.
    """

    def __init__(
        self,
        what: object,
        where: object | None = None,
        expected: object | None = None,
        found: object | None = None,
        remedy: object | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(self._compose())

    def _compose(self) -> str:
        text = _one_line(self.what)
        if self.where is not None:
            text += f": {_one_line(self.where)}"
        pairs = (("expected", self.expected), ("found", self.found))
        facts = [f"{word} {_one_line(value)}" for word, value in pairs if value is not None]
        if facts:
            text += f" ({', '.join(facts)})"
        if self.remedy is not None:
            text += f". {_one_line(self.remedy)}"
        return text

    def __str__(self) -> str:
        # FileNotFoundError and FileExistsError would format themselves from errno, which we do not set.
        return self._compose()

    def __reduce__(self) -> tuple[object, ...]:
        # Workers in other processes send errors back pickled; the default would lose the keyword parts.
        return type(self), (self.what, self.where, self.expected, self.found, self.remedy)


class InputError(TeramindError, ValueError):
    """What was given is not usable: wrong content, shape, unit or combination."""


class MissingInputError(TeramindError, FileNotFoundError):
    """A file, folder, store or element that was named does not exist."""


class TransferError(TeramindError, ConnectionError):
    """A server did not give what was asked of it, or gave something else."""


class OutputExistsError(TeramindError, FileExistsError):
    """The output is there already and may not be replaced."""


class StoreError(TeramindError, RuntimeError):
    """A store breaks the contract: unknown schema, element missing or of the wrong kind."""


class IncompleteStoreError(StoreError):
    """A store whose writing never finished was opened as if it were whole."""


class MissingShardError(StoreError):
    """A shard is absent and not listed as empty on purpose, so it must not be read as background."""


class RemoteError(StoreError):
    """The server of a store cannot be reached or refuses; what the store holds is unknown, and as it was."""


class AccessDeniedError(RemoteError):
    """The server knows who asks, or nobody, and does not let them."""


class PanelError(InputError):
    """Genes are missing, repeated, or two panels do not fit together."""


class RegistrationError(InputError):
    """A registration cannot be read, inverted or applied."""


class GeometryError(InputError):
    """A box, grid or window makes no sense or is not aligned as needed."""
