"""Methods by name, through the entry-point group ``teramind.models``."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from teramind_data.errors import InputError
from teramind_model.methods.protocol import Method

__all__ = ["DEFAULT_METHOD", "GROUP", "find_method", "method_names"]

GROUP = "teramind.models"
DEFAULT_METHOD = "tera-mind"

# The same as in pyproject.toml, for a source tree that is on the path without being installed.
_OURS = {
    "tera-mind": "teramind_model.methods.tera_mind:METHOD",
    "patch-dm": "teramind_model.baselines.patch_dm:METHOD",
    "patch-dm-genes": "teramind_model.baselines.patch_dm:WITH_GENES",
    "sinfusion": "teramind_model.baselines.sinfusion:METHOD",
    "sinfusion-genes": "teramind_model.baselines.sinfusion:WITH_GENES",
}

_PARTS = ("terms", "starts", "options", "shape", "build", "loss", "noise")


def method_names() -> tuple[str, ...]:
    """Names of all methods that are installed, ours first."""
    others = {point.name for point in entry_points(group=GROUP)} - set(_OURS)
    return (*_OURS, *sorted(others))


def find_method(name: str) -> Method:
    """The method ``name``.

    Raises:
        InputError: where none has this name, or several packages claim it, or the one that has it cannot be loaded.
    """
    point = _entry_point(name)
    try:
        method: Method = point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            "method cannot be loaded",
            where=f"{name} ({point.value})",
            found=error,
            remedy="Install its package again",
        ) from error
    lacking = [part for part in _PARTS if not hasattr(method, part)]
    if lacking or getattr(method, "name", None) != name:
        raise InputError(
            "not a method",
            where=f"{name} ({point.value})",
            expected=f"name {name!r} and all of the Method protocol",
            found=f"without {', '.join(lacking)}" if lacking else f"name {getattr(method, 'name', None)!r}",
        )
    return method


def _entry_point(name: str) -> EntryPoint:
    if name in _OURS:
        return EntryPoint(name, _OURS[name], GROUP)
    found = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise InputError("several packages claim this method", where=name, found=", ".join(sorted(found)))
    raise InputError(
        "unknown method",
        expected=", ".join(method_names()),
        found=name,
        remedy=f"Install the package that offers it in the entry-point group {GROUP}",
    )
