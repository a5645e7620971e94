"""GET /v1/export: a whole file or an error, one at a time, and nothing that stays behind."""

import asyncio
import base64
import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import Message

from app.domain.interval import DAY_MS, Grid
from app.domain.series import Series
from app.domain.span import Span
from app.events import Event, ExportEnded
from app.exporting import download
from app.exporting.download import Busy, Download, Downloads, Question, Reports, Scratch
from app.exporting.export import Sources
from app.exporting.progress import ExportProgress
from app.exporting.shapes import shape_of
from app.http import deadline
from app.http import export as http_export
from app.http.export import FileResponse
from app.ports.export import FileKind, Format, Lines
from infra.exporting.formats import read_rows
from infra.exporting.scratch import ScratchFolder
from infra.process.folder_lock import FolderTaken
from tests.exporting.held import HOURS, MINUTES, SPAN, Held, rows_of, sources_of
from tests.http.fakes import Node, served
from tests.patience import PATIENCE_S
from tests.sqlite.material import NOW_MS, FixedClock

HOURLY = f"/v1/export?symbols=ETHUSDT&intervals=1h&startTime={SPAN.start_ms}&endTime={SPAN.end_ms - 1}"
MINUTELY = HOURLY.replace("ETHUSDT", "btcusdt").replace("1h", "1m")


EVENTS: list[Event] = []
PROGRESS = ExportProgress()


@pytest.fixture(autouse=True)
def nothing_is_reported_yet() -> None:
    EVENTS.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def node(held: Held, folder: Path) -> Node:
    return node_of(lambda as_of_ms: sources_of(held.reader, as_of_ms), folder)


def node_of(
    sources: Callable[[int | None], Sources], folder: Path, observe: Callable[[Event], None] = EVENTS.append
) -> Node:
    def due(asked: Question) -> dict[Series, tuple[Grid, Span]]:
        grids = {each: each.interval.grid for each in asked.series}
        start_ms, end_ms = asked.span
        return {each: (grid, Span(grid.ceil(start_ms), grid.ceil(end_ms))) for each, grid in grids.items()}

    def scratch() -> Scratch:
        try:
            return ScratchFolder(folder)
        except FolderTaken as error:
            raise Busy("another export is under way") from error

    return Node(downloads=Downloads(sources, FixedClock(), due, scratch, Reports(PROGRESS, observe)))


def files_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.*"))


async def test_a_file_is_sent_whole_with_its_digest_and_deleted(node: Node, folder: Path, tmp_path: Path) -> None:
    async with node.client() as client:
        answer = await client.get(f"{HOURLY}&format=csv")
    assert answer.status_code == 200
    assert answer.headers["content-digest"] == f"sha-256=:{digest_of(answer.content)}:"
    assert answer.headers["x-klinenode-rows"] == "48"
    assert answer.headers["x-klinenode-coverage"] == "complete"
    (path := tmp_path / "sent.csv").write_bytes(answer.content)
    kind = FileKind(Format.CSV, shape_of(HOURS.kind), is_float=False)
    found = [row for batch in read_rows(path, kind, HOURS, SPAN) for row in batch.rows]
    assert [row[4] for row in found] == [row.close for row in rows_of(HOURS)]
    assert not files_in(folder)
    (ended,) = EVENTS
    assert ended == ExportEnded("done", 48, len(answer.content), 0.0)


def digest_of(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


async def test_an_arrow_file_may_have_several_series(node: Node, tmp_path: Path) -> None:
    async with node.client() as client:
        url = HOURLY.replace("ETHUSDT", "ETHUSDT,BTCUSDT").replace("1h", "1m,1h")
        answer = await client.get(f"{url}&format=arrow&allow_partial=true")
    assert answer.status_code == 200
    (path := tmp_path / "sent.arrow").write_bytes(answer.content)
    kind = FileKind(Format.ARROW, shape_of(HOURS.kind), is_float=False)
    for series, missing in ((HOURS, 0), (MINUTES, 10)):
        found = [row for batch in read_rows(path, kind, series, SPAN) for row in batch.rows]
        assert len(found) == len(rows_of(series)) - missing


async def test_a_hole_is_refused_unless_it_is_allowed(node: Node, folder: Path) -> None:
    async with node.client() as client:
        refused = await client.get(f"{MINUTELY}&format=csv")
        assert (refused.status_code, refused.headers["x-klinenode-reason"]) == (503, "not-whole")
        assert "10 rows are not held" in refused.text
        allowed = await client.get(f"{MINUTELY}&format=csv&allow_partial=true")
    assert allowed.headers["x-klinenode-coverage"] == "partial; klines_missing=10"
    assert len(allowed.content.splitlines()) == 1 + len(rows_of(MINUTES)) - 10
    assert not files_in(folder)
    assert [event.result for event in EVENTS if isinstance(event, ExportEnded)] == ["missing", "done"]


async def test_rows_as_of_a_past_time_are_sent_or_it_is_said_why_not(node: Node, folder: Path) -> None:
    async with node.client() as client:
        assert (await client.get(f"{HOURLY}&format=csv&as_of={NOW_MS}")).headers["x-klinenode-rows"] == "48"
        early = await client.get(f"{HOURLY}&format=csv&as_of={NOW_MS - 1}")
        assert (early.status_code, f"recorded from {NOW_MS} on" in early.text) == (400, True)
        refused = await client.get(f"{MINUTELY}&format=csv&as_of={NOW_MS}")
        assert (refused.status_code, refused.headers["x-klinenode-reason"]) == (503, "not-held")
        assert "retry-after" not in refused.headers, "no later try finds more"
    assert not files_in(folder)


async def test_a_second_export_is_asked_to_come_again(node: Node, folder: Path) -> None:
    first = ScratchFolder(folder)
    async with node.client() as client:
        busy = await client.get(HOURLY)
        assert (busy.status_code, busy.headers["x-klinenode-reason"]) == (503, "busy")
        first.release()
        assert (await client.get(f"{HOURLY}&format=csv")).status_code == 200


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (HOURLY.replace("ETHUSDT", "NOSUCH"), "lists no NOSUCH"),
        (HOURLY.replace("1h", "7m"), "No such interval: 7m"),
        (HOURLY + "&format=xls", "format"),
        (HOURLY.replace("ETHUSDT", "ETHUSDT,BTCUSDT@fundingRate"), "different columns"),
        (MINUTELY.replace(str(SPAN.start_ms), str(SPAN.start_ms - 9999 * DAY_MS)), "at most 5,000,000"),
        (HOURLY.replace("1h", "1M").replace(str(SPAN.start_ms), "0") + "&format=marketstore", "no timeframe for 1M"),
    ],
)
async def test_what_cannot_be_answered_is_refused_before_anything_is_built(
    node: Node, folder: Path, path: str, says: str
) -> None:
    async with node.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 400
    assert says in answer.text
    assert not files_in(folder)


async def test_a_span_without_a_row_is_refused_with_what_is_wrong_of_it(node: Node) -> None:
    start_ms = SPAN.start_ms
    between = HOURLY.replace(str(start_ms), str(start_ms + 1)).replace(str(SPAN.end_ms - 1), str(start_ms + 2))
    async with node.client() as client:
        answer = await client.get(between)
        assert (answer.status_code, "ask for a later endTime" in answer.text) == (400, True)
        early = await client.get(f"{between}&as_of=1")
        assert (early.status_code, f"recorded from {NOW_MS} on" in early.text) == (400, True)


class Hanging:
    """A file whose rows take as long to write as a disk that hangs, until `go_on`."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        path.touch()
        self._path = path
        self.writes = threading.Event()
        self.go_on = threading.Event()
        self.is_closed = False

    def write(self, series: Series, lines: Lines) -> None:
        self.writes.set()
        assert self.go_on.wait(PATIENCE_S)
        assert self._path.exists(), "the folder was deleted under a thread that writes"

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("leaves", ["its half", "the connection"])
async def test_a_client_that_has_gone_frees_the_next_export_at_once(held: Held, folder: Path, leaves: str) -> None:
    files: list[Hanging] = []
    ended = asyncio.Event()

    def open_rows(path: Path, kind: FileKind) -> Hanging:
        files.append(Hanging(path, kind))
        return files[-1]

    def observe(event: Event) -> None:
        EVENTS.append(event)
        ended.set()

    sources = replace(sources_of(held.reader, None), open_rows=open_rows)
    async with served(node_of(lambda _: sources, folder, observe).app) as port, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {HOURLY} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        while not files:
            await asyncio.to_thread(lambda: None)
        await asyncio.to_thread(files[0].writes.wait, PATIENCE_S)
        assert (PROGRESS.running, PROGRESS.series, PROGRESS.rows_due) == (1, 1, 48)
        writer.write_eof() if leaves == "its half" else writer.transport.abort()
        files[0].go_on.set()
        await ended.wait()
        if leaves == "its half":
            assert (await reader.read()).startswith(b"HTTP/1.1 499 ")
        writer.close()
    assert files[0].is_closed
    assert [event.result for event in EVENTS if isinstance(event, ExportEnded)] == ["cancelled"]
    assert not PROGRESS.running
    assert not files_in(folder)
    ScratchFolder(folder).release()


async def test_a_client_that_goes_while_it_receives_frees_the_next_export() -> None:
    freed, gone = asyncio.Event(), asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            gone.set()
            await asyncio.Event().wait()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    made = Download("BTCUSDT-1m.csv", 2, "00" * 32, 1, 0, io.BytesIO(b"ab"), freed.set)
    await FileResponse(made, Format.CSV)({"type": "http"}, receive, send)
    assert freed.is_set()


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time pass for all that waits in the running loop."""
    loop = asyncio.get_running_loop()
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + seconds)


@pytest.mark.parametrize("ends", ["by its own limit", "by the deadline of every answer"])
async def test_an_export_that_takes_too_long_says_what_to_do_and_leaves_nothing(
    held: Held, folder: Path, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_own = ends == "by its own limit"
    monkeypatch.setattr(download, "MADE_S_MAX", 2 * PATIENCE_S if is_own else 8 * PATIENCE_S)
    monkeypatch.setattr(deadline, "RESPONSE_S_MAX", 8 * PATIENCE_S if is_own else 2 * PATIENCE_S)
    files: list[Hanging] = []

    def open_rows(path: Path, kind: FileKind) -> Hanging:
        files.append(Hanging(path, kind))
        return files[-1]

    node = node_of(lambda as_of_ms: replace(sources_of(held.reader, as_of_ms), open_rows=open_rows), folder)
    async with node.client() as client, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(client.get(HOURLY))
        while not files:
            assert not asking.done(), asking.result().text
            await asyncio.to_thread(lambda: None)
        await asyncio.to_thread(files[0].writes.wait, PATIENCE_S)
        pass_time(monkeypatch, 4 * PATIENCE_S)
        for _ in range(3):
            await asyncio.to_thread(lambda: None)
        assert not asking.done(), "a thread that writes is waited for"
        files[0].go_on.set()
        answer = await asking
    assert (answer.status_code, answer.headers["x-klinenode-reason"]) == (503, "slow")
    if is_own:
        assert "ask for less at a time, or use klinenode export" in answer.text
    assert files[0].is_closed
    assert not files_in(folder)
    ScratchFolder(folder).release()


async def test_a_client_that_hardly_reads_is_cut_off_and_frees_the_next_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_export, "SENT_S_MIN", 0.05)
    sent: list[Message] = []
    freed = asyncio.Event()

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "http.request"}

    made = Download("BTCUSDT-1m.csv", 2, "00" * 32, 1, 0, io.BytesIO(b"ab"), freed.set)
    await FileResponse(made, Format.CSV)({"type": "http"}, receive, send)
    assert freed.is_set()
    assert [message.get("more_body") for message in sent] == [None, True], "the file does not end as if it were whole"
