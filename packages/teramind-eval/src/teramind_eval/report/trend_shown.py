"""What the charts of a set of attention maps are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teramind_eval.attention.maps import MapSet
from teramind_eval.attention.relations import Relations
from teramind_eval.pairs import Compared
from teramind_eval.part import Part

#: Panels of stores that a chart shows; the tables have all.
_MOST_STORES = 4


@dataclass(frozen=True)
class Shown:
    """What the charts of a set of maps are made from.

    Attributes:
        real: the atlas.
        stores: all of the report, in the order of their colours.
        relations: of the set.
        section: that is drawn, where it was mapped.
    """

    real: Part
    stores: Sequence[Compared]
    relations: Relations
    section: int

    @property
    def maps(self) -> MapSet:
        """The set."""
        return self.relations.maps

    @property
    def channel(self) -> str:
        """The version of the map that is shown where only one is: the last, the whole window."""
        return self.maps.which.channels[-1]

    @property
    def sources(self) -> tuple[str, ...]:
        """The stores that are shown."""
        return self.relations.variables.sources[:_MOST_STORES]

    @property
    def slug(self) -> str:
        """How its files begin."""
        stem = f"{self.maps.which.element}_{'_'.join(self.relations.variables.sources)}"
        return "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in stem)
