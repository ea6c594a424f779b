"""In what inputs and settings differ from those that an earlier folder was made of, in a few words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

#: So many differences are named; longer values are not shown.
_MOST, _LONGEST = 4, 40

#: Parts of a file's fingerprint whose values say nothing to people.
_BARE = ("bytes", "modified_ns")

_NOUNS = {"inputs": "input", "settings": "setting"}


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two folders' `inputs` and `settings`: `input G (root_sha256), setting seed 0, now 1`.

    The order alone where that is all (the first run is what a report is about), or else the version that made it.
    """
    found = [told for part, noun in _NOUNS.items() for told in _entries(noun, earlier.get(part), now[part])]
    if not found and list(earlier["inputs"]) == list(now["inputs"]):
        return "the same, made by another version of teramind-eval"
    if not found:
        return "the same inputs in another order"
    return ", ".join(found[:_MOST]) + (f", and {len(found) - _MOST} more" if len(found) > _MOST else "")


def _entries(noun: str, before: Any, now: dict[str, Any]) -> Iterator[str]:
    old = before if isinstance(before, dict) else {}
    for key in dict.fromkeys((*old, *now)):
        if key not in old:
            yield f"new {noun} {key}"
        elif key not in now:
            yield f"no more {noun} {key}"
        elif old[key] != now[key]:
            yield f"{noun} {key}{_change(old[key], now[key])}"


def _change(before: Any, now: Any) -> str:
    """Which parts of an entry differ; both values where they are short."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
        told = [key if key in _BARE else f"{key}{_change(before.get(key), now.get(key))}" for key in keys]
        return f" ({', '.join(told[:_MOST])})"
    words = [_word(value) for value in (before, now)]
    return "" if max(map(len, words)) > _LONGEST else f" {words[0]}, now {words[1]}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
