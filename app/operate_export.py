"""What the command export does: rows straight from the database become files in a folder."""

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.domain.interval import Grid
from app.domain.series import Series
from app.domain.span import Span
from app.exporting.export import Export, Exported
from app.exporting.plan import Split, check_format, planned, why_nothing
from app.filling.amounts import of_bytes
from app.node.exporting import due, rows_due, sources
from app.node.node import Node
from app.node.parts import Parts
from app.operate import OperateError, Target
from app.ports.errors import NotRecorded, StoreUnavailable
from app.ports.export import ExportError, Format
from app.settings import Settings
from infra.exporting.folder import Folder
from infra.process.folder_lock import FolderLock, FolderTaken
from infra.process.malloc import return_large_blocks

HOLES_SHOWN: Final = 20
"""Missing spans that the command prints; the manifest has all."""
LOCK_FOLDER: Final = ".klinenode"
_COLUMNS: Final = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


class ExportWish(NamedTuple):
    """The options of `klinenode export`."""

    target: Target
    folder: Path
    format: Format
    split: Split
    is_float: bool
    as_of_ms: int | None
    """The past time as of which rows are written; None: now."""
    arguments: Sequence[str]
    """The command line, for the manifest."""


def wish_of(
    target: Target, folder: Path, form: str, split: str, *, is_float: bool, as_of_ms: int | None = None
) -> ExportWish:
    """The wish of the command line's words."""
    return ExportWish(target, folder, Format(form), Split(split), is_float, as_of_ms, sys.argv[1:])


async def export(settings: Settings, wish: ExportWish, out: Console) -> Exported:
    """Write the rows of the target to files, beside a running node or without one. Raises OperateError."""
    return_large_blocks()
    node = Node(Parts(settings.without_exchange()))
    parts = node.parts
    try:
        await parts.load_for_reading()
        found = sources(parts, wish.as_of_ms)
        await found.check_recorded()
        asked, span = _asked(parts, wish)
        check_format(wish.format, list(asked))
        files = planned(asked, wish.format, wish.split, is_float=wish.is_float)
        if not files:
            now_ms = parts.clock.now_ms() if wish.as_of_ms is None else wish.as_of_ms
            raise OperateError(why_nothing(asked, span, now_ms, ("--start", "--end")))
        lock = _locked(wish.folder)
        try:
            folder = Folder(wish.folder)
            folder.clear()
            with Progress(*_COLUMNS, console=out) as progress:
                task = progress.add_task("rows", total=await rows_due(found, files))
                run = Export(found, folder, files, lambda rows: progress.advance(task, rows))
                return await run.run(version("klinenode"), wish.arguments, parts.clock)
        finally:
            lock.release()
    except OSError as error:
        raise OperateError(f"{error}; files with a name are whole, and the same command goes on from there") from error
    except (NotRecorded, StoreUnavailable, ExportError) as error:
        raise OperateError(str(error)) from error
    finally:
        await node.close()


def _locked(folder: Path) -> FolderLock:
    """The lock of a folder that is made if it is missing. Raises OperateError."""
    try:
        return FolderLock(folder / LOCK_FOLDER)
    except FolderTaken as error:
        raise OperateError(f"another export writes to {folder}: wait for it, or name another folder") from error
    except NotADirectoryError as error:
        raise OperateError(f"{folder} is a file, or lies in one: name a folder for the export") from error
    except OSError as error:
        raise OperateError(f"{folder} cannot be made or written to: {error.strerror}; name another folder") from error


def _asked(parts: Parts, wish: ExportWish) -> tuple[dict[Series, tuple[Grid, Span]], Span]:
    """The grid and the open times of each series of the target, and the span that was asked. Raises OperateError."""
    target = wish.target
    symbols = target.symbols or tuple(parts.symbols.wished)
    known = parts.holdings.names() | set(parts.symbols.listings) | set(parts.symbols.wished)
    if unknown := [name for name in symbols if name.partition("@")[0] not in known and name not in known]:
        raise OperateError(f"the database knows no {unknown[0]}: see the names in /v1/coverage")
    if not symbols:
        raise OperateError("the database has no symbols yet: start the node first, or name them with --symbol")
    now_ms = parts.clock.now_ms() if wish.as_of_ms is None else wish.as_of_ms
    span = target.span(parts.settings, now_ms)
    found = due(parts, target.series(symbols), span, wish.as_of_ms)
    if target.start_ms is not None:
        return found, span
    # the wish begins with an open time: the row that is stamped with it opened before, and nobody wishes it
    begun = {each: (grid, max(window.start_ms, span.start_ms), window.end_ms) for each, (grid, window) in found.items()}
    return {each: (grid, Span(first, max(first, end))) for each, (grid, first, end) in begun.items()}, span


def holes_of(exported: Exported) -> Iterator[str]:
    """What is missing, in words."""
    if not exported.missing:
        return
    when = "yet" if exported.as_of_ms is None else f"by {exported.as_of_ms}"
    yield f"{exported.missing:,} rows are missing: they are wished or asked for, and not fetched {when}"
    for piece, span in exported.holes[:HOLES_SHOWN]:
        yield f"  {piece.series}: {piece.rows(span.span()):,} rows from {span.start} to {span.end}"
    if len(exported.holes) > HOLES_SHOWN:
        yield f"  and {len(exported.holes) - HOLES_SHOWN:,} other spans, which manifest.json names"
    if exported.as_of_ms is None:
        yield "klinenode backfill fetches them; then the same export replaces the files that lack them"


def summary(exported: Exported, folder: Path) -> str:
    """What was written, in words."""
    kept = f", {exported.kept:,} of them kept from before" if exported.kept else ""
    return (
        f"{exported.rows:,} rows in {exported.files:,} files{kept}, {of_bytes(exported.bytes)}: {folder}/manifest.json"
    )
