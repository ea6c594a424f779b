"""`teramind-data view`: a store in the web browser."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from teramind_data.view import StoreServer

EXAMPLE = """Show a store in the web browser, and serve it to other viewers (napari, vizarr, neuroglancer).

The server listens on this machine only, reads only, and ends with Ctrl-C. Other web pages may read the store while it
runs, as web viewers must; --cors none stops them, --cors ORIGIN admits one.

Examples:

  teramind-data view demo/A.zarr

  teramind-data view demo/A.zarr --port 9000 --no-open

  teramind-data view s3://bucket/A.zarr
"""


def view(
    store: Annotated[str, typer.Argument(help="A store (path or URL).")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8117,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others than 127.0.0.1 let the network in.")
    ] = "127.0.0.1",
    cors: Annotated[str, typer.Option(help="Origin of pages that may read: *, an origin, or none.")] = "*",
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the web browser.")] = True,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.store import open_brain
    from teramind_data.view import StoreServer

    brain = open_brain(store, incomplete=True)
    with StoreServer(brain, host, port, cors=None if cors == "none" else cors) as server:
        _announce(store, server)
        if open_page and _has_screen():
            import webbrowser

            webbrowser.open(server.url)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            # The way to end it, and no error.
            print("\nended", flush=True)


def _announce(store: str, server: StoreServer) -> None:
    brain = server.brain
    height, width = brain.canvas
    state = "" if brain.complete else ", NOT COMPLETE: what is not written yet is shown black"
    print(f"{store}: {brain.kind} store, {brain.n_sections} sections of {height} x {width} px{state}")
    print(f"page: {server.url}")
    print("OME-Zarr 0.5 images for other viewers:")
    for name in (*brain.images, *brain.labels):
        print(f"  {server.image_url(brain.layout(name).array_group)}")
    if not server.loopback:
        print(f"warning: {server.host} lets other machines read this store", file=sys.stderr)
    print("Ctrl-C ends", flush=True)


def _has_screen() -> bool:
    """Whether a browser would be a window; a text browser would take over the terminal."""
    return sys.platform in ("darwin", "win32") or any(
        os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("view", help=EXAMPLE)(view)
