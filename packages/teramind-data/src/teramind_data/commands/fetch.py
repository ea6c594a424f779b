"""`teramind-data fetch`: published data and checkpoints to a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from teramind_data.fetch.listing import Listing
    from teramind_data.fetch.run import Outcome

EXAMPLE = """List what a source offers, then download it: resumed where it stopped, verified before a file gets its
name.

SOURCE is one of:

  tera-mind                     the paper's Zenodo record: checkpoints, results, gene tiles

  tera-mind-raw                 its training data in the Brain Image Library

  zenodo:RECORD                 any Zenodo record, also by DOI or address

  bil:ID                        a dataset of the Brain Image Library, with its published checksums

  https://HOST/FOLDER/          a folder that the server lists, and all below it

  https://HOST/FILE             one file; #md5=... or #sha256=... after it gives its checksum

  manifest:FILE or ADDRESS      a CSV or JSON of url, path, size, checksum, or an Allen Brain Cell Atlas manifest

Run again, it skips what is there and verified, and goes on with the rest.

Examples:

  teramind-data fetch tera-mind --list

  teramind-data fetch tera-mind published/ --include main.zip --yes

  teramind-data fetch https://HOST/FOLDER/ raw/ --include 'section_00*' --jobs 4
"""
_SHOWN = 40
_NAMED = 5  # as many unpacked files are named


def fetch(
    source: Annotated[str, typer.Argument(help="What to fetch; see above.")],
    out: Annotated[
        Path | None, typer.Argument(metavar="OUT_DIR", help="Folder for the files; not needed with --list.")
    ] = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Only list, in full; nothing is written.")
    ] = False,
    include: Annotated[
        list[str] | None, typer.Option(help="Only paths that match; * crosses folders. Repeatable.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not paths that match. Repeatable.")] = None,
    checksums: Annotated[
        str | None, typer.Option(help="File or address with lines as md5sum and sha256sum write them.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Files at once.")] = 2,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask after the listing.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash files that are there again, also those verified before.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Fetch files again that are there and differ.")
    ] = False,
    extract: Annotated[
        bool,
        typer.Option("--extract", help="Unpack the .zip files of the listing, each into a folder beside it."),
    ] = False,
    member: Annotated[
        list[str] | None, typer.Option(help="With --extract: only members that match. Repeatable.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="In a row, without a byte gained.")] = 6,
    retry_wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds before the first retry; doubles each time.")
    ] = 1.0,
) -> None:
    """Run the command (its help is `EXAMPLE`)."""
    from teramind_data.errors import InputError, MissingInputError
    from teramind_data.fetch.http import Client, HttpPolicy
    from teramind_data.fetch.listing import Wanted
    from teramind_data.fetch.run import FetchOptions
    from teramind_data.fetch.run import fetch as run
    from teramind_data.fetch.sources import resolve

    if out is None and not only_list:
        raise InputError("no folder to fetch into", remedy="Give OUT_DIR, or --list to look only")
    if member and not extract:
        raise InputError("--member is for --extract", remedy="Give --extract, or use --include for files")
    client = Client(HttpPolicy(retries=retries, wait_s=retry_wait))
    wanted = Wanted(tuple(include or ()), tuple(exclude or ()))
    listing = resolve(source).listing(client, wanted)
    if not listing.files:
        raise MissingInputError("nothing is offered", where=listing.source)
    offered = len(listing.files)
    listing = listing.only(wanted)
    if not listing.files:
        raise MissingInputError("none of the files is wanted", listing.source, found=f"{offered} files")
    if checksums is not None:
        from teramind_data.fetch.manifests import add_checksums, read_text

        listing = add_checksums(listing, read_text(checksums, client)[0], checksums)
    _show(listing, whole=only_list)
    if only_list or out is None:
        return
    if not yes:
        _ask(out)
    try:
        outcome = run(listing, out, FetchOptions(jobs, verify, overwrite), client)
    except KeyboardInterrupt:
        print("note: stopped; the same command goes on where it stopped", file=sys.stderr)
        raise
    _report(outcome, listing, out)
    if extract:
        _extract(listing, out, tuple(member or ()))


def _show(listing: Listing, *, whole: bool) -> None:
    from teramind_data.fetch.listing import size_text, total_text

    print(listing.source)
    for note in listing.notes:
        print(f"  {note}")
    shown = listing.files if whole else listing.files[:_SHOWN]
    for file in shown:
        size = "?" if file.size is None else ("" if file.exact else "~") + size_text(file.size)
        print(f"{size:>12}  {file.checksum or '-'!s:<36}  {file.path}")
    if len(shown) < len(listing.files):
        print(f"{'...':>12}  and {len(listing.files) - len(shown)} more (--list shows all)")
    published = sum(file.checksum is not None for file in listing.files)
    print(f"{total_text(listing.files)}; {published} with a published checksum")


def _ask(out: Path) -> None:
    from teramind_data.errors import InputError

    if not sys.stdin.isatty():
        raise InputError("nobody is there to say yes", where="the terminal", remedy="Give --yes to download")
    typer.confirm(f"Download to {out}?", abort=True)


def _report(outcome: Outcome, listing: Listing, out: Path) -> None:
    from teramind_data.errors import TransferError

    parts = [f"{len(outcome.fetched)} fetched", f"{len(outcome.present)} there already"]
    if outcome.unverified:
        parts.append(f"{len(outcome.unverified)} of them known by their size only")
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} failed")
    print(f"{out}: {', '.join(parts)}")
    if len(outcome.failed) == 1:
        raise next(iter(outcome.failed.values()))
    if outcome.failed:
        raise TransferError(
            f"{len(outcome.failed)} of {len(listing.files)} files failed",
            where=listing.source,
            found=f"first {min(outcome.failed)}: {outcome.failed[min(outcome.failed)].what}",
            remedy="Run the same command again; it goes on where it stopped",
        )


def _extract(listing: Listing, out: Path, members: tuple[str, ...]) -> None:
    from teramind_data.errors import InputError
    from teramind_data.fetch.extract import extract

    archives = [file for file in listing.files if file.path.lower().endswith(".zip")]
    if not archives:
        raise InputError("no .zip among the files", where=listing.source, remedy="Leave --extract out")
    for file in archives:
        folder, written, there = extract(out / file.path, members)
        print(f"{folder}: {len(written)} files unpacked, {there} there already")
        if len(written) <= _NAMED:
            print("".join(f"  {folder / name}\n" for name in written), end="")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("fetch", help=EXAMPLE)(fetch)
