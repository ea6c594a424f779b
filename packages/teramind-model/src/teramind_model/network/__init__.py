"""The network of the Tera-MIND paper (arXiv 2503.01220): gene-gene attention feeding a gene-morph U-Net."""

from teramind_model.network.config import NetworkConfig
from teramind_model.network.unet import TeraMind

__all__ = ["NetworkConfig", "TeraMind"]
