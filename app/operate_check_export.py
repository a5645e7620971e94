"""What the command check-export does: a folder of exported files against its manifest, and against a node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.domain.kline import BadKline
from app.exporting.check import Asked, Check, Verdict
from app.exporting.manifest import NAME, manifest_of
from app.operate import OperateError
from app.ports.export import ExportError
from infra.exporting.folder import Folder
from infra.exporting.formats import read_rows

TIMEOUT_S: Final = 30.0
_COLUMNS: Final = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


class Comparison(NamedTuple):
    """The node that files are compared with, and how many pages of each file (None: all), chosen by `seed`."""

    url: str
    sample: int | None
    seed: int


async def check_export(path: Path, comparison: Comparison | None, out: Console) -> Verdict:
    """Check every file of the export in a folder. Raises OperateError when that is impossible."""
    folder = Folder(path)
    try:
        text = folder.manifest()
        if text is None:
            raise OperateError(f"{path} has no {NAME}: the export was stopped (run it again), or is in another folder")
        manifest = manifest_of(text)
        total = sum(entry.rows for entry in manifest.files)
        with Progress(*_COLUMNS, console=out) as progress:
            task = progress.add_task("rows", total=total)
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
                node = None if comparison is None else _Node(client, comparison.url.rstrip("/"))
                sample, seed = (None, 0) if comparison is None else comparison[1:]
                check = Check(folder, path, read_rows, node, sample, seed)
                return await check.run(manifest, lambda rows: progress.advance(task, rows))
    except (ExportError, OSError) as error:
        raise OperateError(str(error)) from error


class _Node:
    """A node's REST answers (app.exporting.check.NodeRows)."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def rows(self, asked: Asked) -> Sequence[Any]:
        """The node's rows, decoded. Raises ExportError when it does not answer with rows."""
        series, rest = asked.series, asked.series.kind.rest
        found: list[Any] = []
        first_ms = asked.first_ms
        while True:
            limit = min(rest.rows_max, asked.rows - len(found))
            end_ms = asked.end_ms - 1
            if rest.reach_ms is not None:  # such an answer has the newest rows of its window
                end_ms = min(end_ms, first_ms + (limit - 1) * series.interval.grid.step_ms)
            params: dict[str, str | int] = {
                rest.symbol: series.symbol,
                "startTime": first_ms + rest.stamp_ms,
                "endTime": end_ms + rest.stamp_ms,
                "limit": limit,
            }
            if asked.as_of_ms is not None:
                params["as_of"] = asked.as_of_ms
            if rest.interval:
                params[rest.interval] = series.interval.code
            page = await self._page(series.kind.rest.path, params, asked)
            found += page
            is_last = end_ms + 1 == asked.end_ms if rest.reach_ms is not None else len(page) < limit
            if is_last or len(found) >= asked.rows:
                return found
            first_ms = end_ms + 1 if rest.reach_ms is not None else page[-1].open_ms + 1

    async def _page(self, path: str, params: dict[str, str | int], asked: Asked) -> Sequence[Any]:
        series = asked.series
        try:
            answer = await self._client.get(self._url + path, params=params)
        except httpx.HTTPError as error:
            raise ExportError(f"the node at {self._url} does not answer: {error}") from error
        if answer.is_error:
            raise ExportError(f"the node refused {series} from {asked.first_ms} on: {answer.text[:300]}")
        try:
            return series.kind.rest.decode(answer.content, series.interval.grid, series.symbol)
        except BadKline as error:
            raise ExportError(f"the node's answer for {series} cannot be read: {error}") from error
