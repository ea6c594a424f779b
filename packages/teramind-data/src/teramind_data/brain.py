"""A store opened for reading, with views for other libraries: what ``teramind_data.open_brain`` returns.

``teramind_data.store`` stands on zarr and numpy alone; the views need more, and are loaded when they are called.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from teramind_data import store

if TYPE_CHECKING:
    import spatialdata
    import xarray

__all__ = ["Brain", "open_brain"]


class Brain(store.Brain):
    """A store opened for reading; see ``teramind_data.store.Brain``."""

    def __init__(self, plain: store.Brain) -> None:
        super().__init__(plain._location, plain._block)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.url,)

    def to_spatialdata(self, section: int | None = None) -> spatialdata.SpatialData:
        """The same arrays as a lazy SpatialData object, or one section; see ``views.to_spatialdata``."""
        from teramind_data.views import to_spatialdata

        return to_spatialdata(self, section)

    def to_xarray(self) -> xarray.Dataset:
        """The same arrays as a lazy xarray Dataset; see ``teramind_data.views.to_xarray``."""
        from teramind_data.views import to_xarray

        return to_xarray(self)


def open_brain(url: str | os.PathLike[str], *, incomplete: bool = False) -> Brain:
    """``teramind_data.store.open_brain`` (arguments and errors are told there), with views for other libraries."""
    return Brain(store.open_brain(url, incomplete=incomplete))


def _reopen(url: str) -> Brain:
    return open_brain(url, incomplete=True)
