"""Tests of what judges a cluster: it would notice the faults that it looks for."""

import random
from collections import Counter
from typing import Any

import httpx
import orjson
import pytest

from app.domain.interval import MINUTE_MS
from infra.sandbox.exchange import Exchange
from infra.sandbox.universe import Universe
from tests.postgres_server import PostgresServer, execute, on_connection
from tests.programs.cluster.load import (
    ANSWERED,
    FAILED,
    REFUSED,
    WRONG,
    Load,
    Question,
    Questions,
    Reply,
    fault_of_live,
)
from tests.programs.cluster.verdict import Verdict
from tests.programs.cluster.watch import trespasses
from tests.sandbox.conftest import ManualClock

NOW_MS = 1_795_235_400_000 + 30_000


def test_a_commit_of_a_writer_that_was_deposed_is_noticed() -> None:
    assert trespasses([("a", 1), ("a", 1), ("b", 2), ("a", 3)]) == 0
    assert trespasses([("a", 1), ("b", 2), ("a", 2)]) == 1, "within the epoch of another"
    assert trespasses([("a", 1), ("b", 2), ("a", 1)]) == 1, "after it"


@pytest.mark.parametrize(
    ("mine", "found"),
    [
        ([(0, b"a"), (1, b"b"), (2, b"c")], (0, 0, 0)),
        ([(0, b"a"), (2, b"c")], (1, 0, 0)),
        ([(0, b"a"), (1, b"b"), (1, b"b"), (2, b"c")], (0, 1, 0)),
        ([(0, b"a"), (1, b"x"), (2, b"c"), (3, b"d")], (0, 0, 2)),
    ],
    ids=["whole", "lost", "doubled", "wrong"],
)
def test_rows_are_counted_that_are_lost_doubled_and_wrong(
    mine: list[tuple[int, bytes]], found: tuple[int, int, int]
) -> None:
    verdict = Verdict()
    verdict.add(mine, [(0, b"a"), (1, b"b"), (2, b"c")])
    assert (verdict.lost, verdict.doubled, verdict.wrong) == found
    assert verdict.is_good is (found == (0, 0, 0))


@pytest.mark.parametrize(
    ("last", "is_right"),
    [
        ([NOW_MS - 30_000, "2", "3", "1", "2"], True),
        ([NOW_MS - 30_000, "2", "3", "2.5", "2"], False),
        ([NOW_MS - 30_000 + MINUTE_MS, "2", "3", "1", "2"], False),
        ([NOW_MS - 30_000 - MINUTE_MS, "2", "3", "1", "2"], False),
    ],
    ids=["right", "impossible prices", "of the future", "of the past"],
)
def test_a_kline_in_progress_is_judged_by_a_rule(last: list[Any], is_right: bool) -> None:
    rows: list[list[Any]] = [[last[0] - MINUTE_MS], last]
    assert (fault_of_live(rows, NOW_MS, NOW_MS + 10) == "") is is_right


def test_every_kind_of_answer_is_compared() -> None:
    exchange = Exchange(ManualClock(NOW_MS), Universe(1, 1))
    questions = Questions(exchange, ["BTCUSDT"], random.Random(1))
    load = Load("http://127.0.0.1", questions, 1.0)
    made: dict[str, Question] = {}
    while len(made) < 4:
        question = questions.draw()
        made[question.kind] = question
    start_ms = int(made["history"].path.split("startTime=")[1].split("&")[0])
    right = orjson.dumps(exchange.rows("BTCUSDT", "1m", start_ms, start_ms + 200 * MINUTE_MS))
    newest = orjson.dumps(exchange.rows("BTCUSDT", "1m", NOW_MS - 30_000 - 50 * MINUTE_MS, NOW_MS))
    old = orjson.dumps(exchange.rows("BTCUSDT", "1m", NOW_MS - 30_000 - 51 * MINUTE_MS, NOW_MS - 30_000 - MINUTE_MS))
    ticker = orjson.dumps({"symbol": "BTCUSDT", "closeTime": NOW_MS})

    def judged(kind: str, status: int, body: bytes) -> str:
        return load._judge(made[kind], httpx.Response(status, content=body), NOW_MS, NOW_MS + 5)[0]

    assert judged("history", 200, right) == ANSWERED
    assert judged("history", 200, right.replace(b"1", b"2", 1)) == WRONG
    assert judged("history", 503, b"") == REFUSED
    assert judged("history", 500, b"") == FAILED
    assert judged("newest", 200, newest) == ANSWERED
    assert judged("newest", 200, old) == WRONG
    assert judged("market data", 200, ticker) == ANSWERED
    assert judged("market data", 200, ticker.replace(b"BTC", b"ETH")) == WRONG
    assert len(load.wrong) == 3


def test_the_longest_time_without_an_answer_has_no_gap_that_failures_fill() -> None:
    load = Load("http://127.0.0.1", Questions(Exchange(ManualClock(0), Universe(1, 1)), [], random.Random(1)), 1.0)
    load.replies += [Reply("a", 1, 2, ANSWERED), Reply("a", 2, 5, FAILED), Reply("a", 6, 7, ANSWERED)]
    load.replies += [Reply("a", 11, 12, ANSWERED)]
    asked = load.between(0, 10)
    assert asked.counts == Counter({ANSWERED: 2, FAILED: 1})
    assert asked.gap_s == 5


async def test_a_server_that_was_killed_or_stopped_at_once_has_what_was_committed() -> None:
    with PostgresServer(settings=("synchronous_commit=on",)) as server:
        await execute(server.url(), "CREATE TABLE seen (id int)")
        for number, is_killed in enumerate((True, False)):
            await execute(server.url(), f"INSERT INTO seen VALUES ({number})")
            if is_killed:
                server.kill()
            else:
                server.stop(is_immediate=True)
            server.start()
            count = await on_connection(server.url(), lambda each: each.fetchval("SELECT count(*) FROM seen"))
            assert count == number + 1
