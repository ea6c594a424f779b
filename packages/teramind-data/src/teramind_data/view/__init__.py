"""A store in the web browser: a loopback server with ranges and CORS, and the page that it serves."""

from __future__ import annotations

from teramind_data.view.describe import describe
from teramind_data.view.server import StoreServer

__all__ = ["StoreServer", "describe"]
