"""What runs that make one store together leave for each other in its journal: how it was cut, and what each did."""

from __future__ import annotations

import json
from typing import Any

from teramind_data.errors import StoreError
from teramind_data.store import Location
from teramind_data.store.journal import JOURNAL
from teramind_model.generate.parts import Part

__all__ = ["Ledger"]

_FOLDER = f"{JOURNAL}/generate"
_BEGUN = f"{_FOLDER}/begun"


class Ledger:
    """The ledger of the store at ``out``; it goes with the journal when the store is complete."""

    def __init__(self, out: str) -> None:
        self._location = Location(out)

    def begin(self, strip: int) -> None:
        """Say that the store's metadata is whole, and how wide its strips are (in bands): parts must agree on that."""
        self._location.write(_BEGUN, json.dumps({"strip": strip}).encode())

    def strip(self) -> int | None:
        """The width that was agreed on; None where no part has begun the store."""
        raw = self._location.read(_BEGUN)
        return None if raw is None else int(self._parsed(_BEGUN, raw)["strip"])

    def record(self, part: Part, made: dict[str, Any]) -> None:
        """Keep what a part came to; parts write files of their own."""
        entry = {"part": str(part), **made}
        self._location.write(f"{_FOLDER}/{part.index}-of-{part.of}", json.dumps(entry).encode())

    def records(self) -> list[dict[str, Any]]:
        """What was kept."""
        names = sorted(name for name in self._location.children(_FOLDER) if "-of-" in name)
        keys = [f"{_FOLDER}/{name}" for name in names]
        return [self._parsed(key, raw) for key in keys if (raw := self._location.read(key)) is not None]

    def _parsed(self, key: str, raw: bytes) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(raw)
        except ValueError as error:
            raise StoreError("journal cannot be read", f"{self._location}/{key}", "JSON", error) from None
        return found
