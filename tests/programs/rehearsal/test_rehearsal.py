"""Tests of the rehearsal: it runs on a small market, and it would notice the faults that it looks for."""

import asyncio
import io
import os
from pathlib import Path
from typing import Final

import orjson
import pytest

from infra.process.clock import SystemClock
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard
from infra.sandbox.universe import Universe
from tests.fakes import turn
from tests.programs.rehearsal import wire as wire_module
from tests.programs.rehearsal.crowd import Failure, faults_of
from tests.programs.rehearsal.exchange import BURST_MS, BurstHub
from tests.programs.rehearsal.page import KEPT, Journal, was_in_flight
from tests.programs.rehearsal.rehearsal import finish, rehearse
from tests.programs.rehearsal.stage import Kill, Size
from tests.programs.rehearsal.watch import Seen
from tests.programs.rehearsal.wire import Cut, Wire
from tests.sandbox.conftest import ManualClock
from tests.system.processes import until

CLOSES_AFTER_S: Final = 30  # after the beginning: the start of everything takes about as long
MINUTE_MS: Final = 60_000


async def test_a_small_rehearsal_loses_nothing_and_leaves_its_page(tmp_path: Path) -> None:
    shift_ms = (60 - CLOSES_AFTER_S) * 1000 - SystemClock().now_ms() % MINUTE_MS
    size = Size(
        minutes=0.6, symbols=4, herd=4, pollers=4, pagers=1, deep_days=3, backfilled=1, watched=4, shift_ms=shift_ms
    )
    figures = await rehearse(tmp_path, size)
    assert [figure for figure in figures if figure.part == KEPT and not figure.is_met] == []
    ours = {figure.name: figure.ours for figure in figures}
    for name in ("frames in", "pagers", "resident, the largest worker ever", "rows written", "take-over: lease"):
        assert ours[name] > 0, name
    assert finish(figures, size, [os.getloadavg()], 1.0, tmp_path / "page.json") == 0
    assert len(orjson.loads((tmp_path / "page.json").read_bytes())["figures"]) == len(figures)


def rows(*minutes: int) -> bytes:
    return orjson.dumps([[1_795_235_400_000 + minute * MINUTE_MS, "1", "2"] for minute in minutes])


@pytest.mark.parametrize(
    ("body", "first_ms", "is_right"),
    [
        (rows(0, 1, 2), None, True),
        (rows(0, 1, 2), 1_795_235_400_000, True),
        (rows(1, 2, 3), 1_795_235_400_000, False),
        (rows(0, 1), None, False),
        (rows(0, 1, 3), None, False),
        (b"[]", None, False),
        (b'{"code":-1001}', None, False),
    ],
    ids=["whole", "follows", "leaves out the first", "short", "hole", "empty", "error"],
)
def test_a_reader_sees_what_is_wrong_with_an_answer(body: bytes, first_ms: int | None, is_right: bool) -> None:
    assert (faults_of(body, 3, MINUTE_MS, first_ms) == "") is is_right


def test_only_what_was_under_way_at_the_kill_may_be_cut() -> None:
    kill = Kill(100.0)
    found = [
        was_in_flight(Failure(at_s, kind, ""), kill)
        for at_s, kind in ((99.9, "cut"), (100.2, "cut"), (106, "cut"), (100.2, "refused"))
    ]
    assert found == [False, True, False, False]


def test_lags_are_counted_from_the_sending_and_what_was_never_seen_is_not_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "exchange.log"
    file.write_text(
        "closed AUSDT 0 60300\ntick 60250 7 40 1\nclosed AUSDT 0 61000\nclosed BUSDT 0 60400\ntick 60500 0 60 2\n"
    )
    journal = Journal.of(file)
    lags = journal.lags(
        [Seen("AUSDT", 0, "writer", 60_310), Seen("BUSDT", 0, "writer", 0), Seen("CUSDT", 0, "reader", 60_400)]
    )
    assert lags["writer"][0][0] == 10
    assert lags["writer"][0][1] > MINUTE_MS
    assert not lags["reader"], "it was never sent"
    assert (journal.late_ms, journal.listeners, journal.bursts) == ([7, 0], 2, [100 / BURST_MS * 1000])


class Ear:
    """A subscriber."""

    def __init__(self) -> None:
        self.heard: list[bool] = []

    def deliver(self, stream: str, event: str) -> None:
        self.heard.append(orjson.loads(event)["k"]["x"])


async def test_a_close_comes_once_and_first_and_live_frames_many_times() -> None:
    clock = ManualClock(1_795_235_400_000 + 30_000)
    journal, ear = io.StringIO(), Ear()
    hub = BurstHub(Exchange(clock, Universe(1, 1)), FaultBoard(), 10, journal)
    hub.subscribe(ear, ["btcusdt@kline_1m"])
    hub.tick(clock.now_ms())
    assert ear.heard == [], "nothing flows yet"
    hub.is_live = True
    hub.tick(clock.now_ms())
    await turn()
    assert ear.heard == [False]
    clock.advance(MINUTE_MS - 29_000)
    hub.tick(clock.now_ms())
    assert ear.heard[1:] == [True], "on its way before the others are made"
    await turn()
    assert ear.heard[2:] == [False] * 10
    assert [line.split()[0] for line in journal.getvalue().splitlines()] == ["tick", "closed", "tick"]


async def test_a_wire_tells_a_connection_that_was_gone_from_one_that_ended_with_a_question_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [b'HTTP/1.1 200 OK\r\ncontent-length: 2\r\netag: "x"\r\n\r\n[]', b""]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers[0])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        wire = Wire(server.sockets[0].getsockname()[1])
        found = await wire.ask("/a")
        assert (found.status, found.etag, found.body) == (200, b'"x"', b"[]")

        async def has_left() -> bool:
            return not wire.is_open

        await until(has_left, "the server has left")
        assert (await wire.ask("/b")).status == 200, "nothing was under way"
        with monkeypatch.context() as patch:
            patch.setattr(wire_module, "IDLE_S", 0.0)
            assert (await wire.ask("/idle")).status == 200, "a connection that may be left any moment is not used again"
        answers.pop(0)
        with pytest.raises(Cut):
            await wire.ask("/c")
        wire.close()
