"""Whether a store is whole and says the truth of itself: ``validate`` lists what is wrong, with remedies.

Shallow checks read metadata, names of objects, offsets and the small table; deep ones every chunk, by its checksum,
each pyramid level against the one below, and bins, points and table against the molecules.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from teramind_data.elements import POINTS, TABLE
from teramind_data.errors import MissingInputError, TeramindError
from teramind_data.store import Brain, Location, open_brain
from teramind_data.store.metadata import read_root
from teramind_data.validate import metadata, pixels, tables
from teramind_data.validate.finding import READ_ERRORS, Finding, describe

__all__ = ["Finding", "skipped", "validate"]


def validate(
    url: str | os.PathLike[str], *, deep: bool = False, advance: Callable[[float], None] | None = None
) -> list[Finding]:
    """What is wrong with a store, in order of discovery; nothing where it is sound.

    Args:
        url: a store.
        deep: read every value as well.
        advance: told after each element.

    Raises:
        MissingInputError: where there is nothing.
    """
    location = Location(url)
    if not location.occupied():
        raise MissingInputError("store not found", where=location, remedy="Check the path")
    found: list[Finding] = []
    seen: set[str] = set()
    for finding in _findings(location, deep, advance or _nobody):
        if str(finding) not in seen:
            seen.add(str(finding))
            found.append(finding)
    return found


def _nobody(n: float) -> None:
    """Takes progress that nobody asked for."""


def skipped() -> list[str]:
    """Checks that this installation cannot make, each with what to install."""
    from importlib.util import find_spec

    libraries = {"spatialdata": "read by SpatialData", "ome_zarr_models": "OME-Zarr 0.5 by ome-zarr-models"}
    return [
        f"not checked: {what} (pip install {name.replace('_', '-')})"
        for name, what in libraries.items()
        if find_spec(name) is None
    ]


def _findings(location: Location, deep: bool, advance: Callable[[float], None]) -> Iterator[Finding]:
    yield from metadata.check_files(location)
    try:
        root = read_root(location)
        brain = open_brain(location.url, incomplete=True)
        if not brain.complete:
            # Says itself what is missing.
            open_brain(location.url)
    except TeramindError as error:
        yield Finding("zarr.json", _without_place(error), str(error.remedy or "Write the store again"))
        return
    except READ_ERRORS as error:
        yield Finding("zarr.json", f"metadata is damaged: {describe(error)}", "Write the store again")
        return
    root = root or {}
    if root.get("node_type") != "group":
        yield Finding(
            "zarr.json", "root is no Zarr group", "Restore it from a copy, or write the store again"
        )
        return
    usable = True
    for finding in metadata.check_block(root["attributes"]["teramind"], brain.spec):
        usable = usable and not isinstance(finding, metadata.Unusable)
        yield finding
    if not usable:
        return
    yield from metadata.check_provenance(brain.spec)
    yield from _guarded("zarr.json", metadata.check_consolidated(location, root))
    yield from _declared(brain)
    for name in (*brain.images, *brain.labels):
        yield from _guarded(brain.layout(name).image.path, _image(location, brain, name, deep))
        advance(1)
    yield from _guarded("molecules", _counted(location, brain, deep))
    advance(1)
    yield from _by_others(location, brain)
    advance(1)


def _guarded(element: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Findings of a check; damage that stops the check itself is one more."""
    try:
        yield from findings
    except READ_ERRORS as error:
        yield Finding(element, f"cannot be checked any further: {describe(error)}")


def _image(location: Location, brain: Brain, name: str, deep: bool) -> Iterator[Finding]:
    layout = brain.layout(name)
    sound = True
    for finding in pixels.check_image(location, layout):
        sound = sound and "/c/" in finding.element
        yield finding
    # Values of an array of another shape would be compared to nothing.
    if deep and sound:
        yield from pixels.check_values(brain, layout)


def _without_place(error: TeramindError) -> str:
    facts = [
        f"{word} {value}" for word, value in (("expected", error.expected), ("found", error.found)) if value
    ]
    told = f" ({', '.join(facts)})" if facts else ""
    return f"{error.what}{told}"


def _declared(brain: Brain) -> Iterator[Finding]:
    """Elements that this kind of store must have."""
    for image in brain.spec.required_images():
        if image.name not in brain.images:
            yield Finding(image.path, f"is not in this store, which is of kind {brain.kind}")
    if brain.spec.measured and not brain.has_molecules:
        yield Finding("molecules", f"are not in this store, which is of kind {brain.kind}")


def _counted(location: Location, brain: Brain, deep: bool) -> Iterator[Finding]:
    known = location.children("points"), location.children("tables")
    if brain.has_molecules:
        sound = True
        for finding in tables.check_molecules(location, brain, deep=deep):
            sound = False
            yield finding
        if deep and sound and "expression" in brain.images:
            yield from pixels.check_expression(brain)
        if not sound:
            # What is compared with them cannot be.
            return
    if POINTS in known[0]:
        yield from tables.check_points(location, brain, deep=deep)
    if TABLE in known[1]:
        yield from tables.check_table(location, brain, deep=deep)


def _by_others(location: Location, brain: Brain) -> Iterator[Finding]:
    """The store as other people's readers see it."""
    missing = skipped()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not any("ome-zarr-models" in text for text in missing):
            for name in (*brain.images, *brain.labels):
                group = brain.layout(name).array_group
                problem = _problem(partial(_ome_zarr, location, group))
                if problem:
                    yield Finding(group, f"ome-zarr-models does not accept it: {problem}")
        if not any("SpatialData" in text for text in missing):
            problem = _problem(partial(_spatialdata, location))
            if problem:
                yield Finding("zarr.json", f"SpatialData does not open the store: {problem}")


def _problem(read: Callable[[], Any]) -> str | None:
    try:
        read()
    except READ_ERRORS as error:
        return describe(error)
    return None


def _ome_zarr(location: Location, path: str) -> None:
    import ome_zarr_models
    import zarr

    store = location.zarr_store(read_only=True)
    ome_zarr_models.open_ome_zarr(zarr.open_group(store, path=path, mode="r", use_consolidated=False))


def _spatialdata(location: Location) -> None:
    from teramind_data.mirror import read_spatialdata

    read_spatialdata(location)
