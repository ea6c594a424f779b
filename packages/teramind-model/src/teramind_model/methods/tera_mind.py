"""The paper's method: the gene-morph U-Net with its patch path and boundary-aware path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from teramind_model.methods.two_paths import TwoPathMethod
from teramind_model.network import NetworkConfig, TeraMind

__all__ = ["METHOD", "TeraMindMethod"]


class TeraMindMethod(TwoPathMethod):
    """See :class:`teramind_model.methods.protocol.Method`."""

    name = "tera-mind"
    options = ("gene_slices", "patch", "channels", "gene_widths", "time_width", "dropout", "fold_z")

    def shape(self, values: Mapping[str, Any]) -> NetworkConfig:
        """The network's configuration."""
        return NetworkConfig.from_dict(values)

    def network(self, shape: NetworkConfig) -> TeraMind:
        """The paper's network."""
        return TeraMind(shape)


METHOD = TeraMindMethod()
