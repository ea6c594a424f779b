"""Images of sections: one thin reader a format behind ``ImageStack``, and what to take from them (``ImageSource``)."""

from __future__ import annotations

from teramind_data.ingest.images.protocol import ImageStack, Plane
from teramind_data.ingest.images.source import ImageSource, ZChoice, is_image, open_stack

__all__ = ["ImageSource", "ImageStack", "Plane", "ZChoice", "is_image", "open_stack"]
