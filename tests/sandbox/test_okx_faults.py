"""Every fault has its stated effect on OKX's sockets and REST, and none on other venues."""

import json

import pytest

from infra.sandbox.grid import SECOND_MS
from tests.sandbox.wire import BUSINESS, DERIBIT, PUBLIC, Floor, Wire, rows_of

SWAP = "BTC-USDT-SWAP"


@pytest.fixture
def floor() -> Floor:
    return Floor()


@pytest.fixture
def wire(floor: Floor) -> Wire:
    wire = Wire(floor, BUSINESS)
    wire.subscribe("trades-all", instId=SWAP)
    wire.run(SECOND_MS)
    return wire


def numbers(wire: Wire, duration_ms: int = 2 * SECOND_MS) -> list[int]:
    return [int(row["tradeId"]) for row in rows_of(wire.run(duration_ms), "trades-all")]


def expected(wire: Wire, floor: Floor) -> range:
    """The trades to come, up to those of two seconds later."""
    first = floor.truth.newest_trade("okx", SWAP, floor.now_ms) + 1
    return range(first, floor.truth.newest_trade("okx", SWAP, floor.now_ms + 2 * SECOND_MS) + 1)


def test_a_gap_leaves_out_as_many_trades_as_its_count(floor: Floor, wire: Wire) -> None:
    true = expected(wire, floor)
    numbers_before = list(true)[:5]
    floor.inject(kind="gap", venue="okx", stream="trades-all:*", count=5)
    assert numbers(wire) == list(true)[5:]
    history = floor.okx("market/history-trades", instId=SWAP, after=true[5], before=true[0] - 1)
    assert [int(row["tradeId"]) for row in history[::-1]] == numbers_before


def test_a_silent_stream_stays_connected_and_acknowledged(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="silence", venue="okx", symbol=SWAP)
    assert numbers(wire) == []
    assert wire.send("ping") == ["pong"]
    assert wire.subscribe("candle1m", instId=SWAP)[0]["event"] == "subscribe"
    assert wire.run(SECOND_MS) == []


def test_a_duplicated_frame_comes_twice(floor: Floor, wire: Wire) -> None:
    true = list(expected(wire, floor))
    floor.inject(kind="duplicate", venue="okx", count=2)
    assert numbers(wire) == sorted([*true, true[0], true[1]])


def test_reordered_frames_come_after_the_next_one(floor: Floor, wire: Wire) -> None:
    true = list(expected(wire, floor))
    floor.inject(kind="reorder", venue="okx", count=1)
    assert numbers(wire) == [true[1], true[0], *true[2:]]


def test_a_malformed_frame_is_cut_in_half(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="malformed_frame", venue="okx", count=1)
    with pytest.raises(json.JSONDecodeError):
        wire.run(SECOND_MS)


def test_a_refused_subscription_is_answered_with_an_error_and_stays_silent(floor: Floor) -> None:
    floor.inject(kind="error_answer", venue="okx", count=1, code=60012)
    wire = Wire(floor, PUBLIC)
    first, second = wire.subscribe("trades", "tickers", instId=SWAP)
    assert (first["event"], first["code"], second["event"]) == ("error", "60012", "subscribe")
    assert {frame["arg"]["channel"] for frame in wire.run(SECOND_MS)} == {"tickers"}


def test_a_cut_breaks_the_connection_without_a_close_frame(floor: Floor, wire: Wire) -> None:
    other = Wire(floor, DERIBIT)
    floor.inject(kind="cut", venue="okx", path="/ws/v5/*")
    assert (wire.peer.is_closed, wire.peer.close_code) == (True, 1006)
    assert wire.run(SECOND_MS) == []
    assert not other.peer.is_closed
    assert not Wire(floor, BUSINESS).peer.is_closed


def test_a_rotation_is_announced_by_notice_64008_and_closes_later(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="rotation", venue="okx", delay_s=3)
    frames = wire.run(2 * SECOND_MS)
    assert (frames[0]["event"], frames[0]["code"]) == ("notice", "64008")
    assert rows_of(frames[1:], "trades-all")
    assert not wire.peer.is_closed
    wire.run(2 * SECOND_MS)
    assert (wire.peer.is_closed, wire.peer.close_code) == (True, 1001)


def test_a_half_open_socket_says_nothing_more(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="half_open", venue="okx")
    assert wire.run(40 * SECOND_MS, every_ms=10 * SECOND_MS) == []
    assert wire.send("ping") == []
    assert not wire.peer.is_closed


def test_a_cut_with_a_probability_and_a_duration_also_hits_sockets_opened_later(floor: Floor) -> None:
    floor.inject(kind="cut", venue="okx", duration_s=10)
    wire = Wire(floor, PUBLIC)
    wire.run(SECOND_MS)
    assert wire.peer.is_closed


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": "error_answer"}, 200, "50026"),
        ({"kind": "error_answer", "code": 51001}, 200, "51001"),
        ({"kind": "http_429"}, 429, "50011"),
    ],
)
def test_rest_can_be_refused(floor: Floor, fault: dict[str, object], status: int, code: str) -> None:
    floor.inject(venue="okx", path="/api/v5/market/*", count=1, **fault)
    params = {"instId": SWAP}
    answer = floor.venues.answer("/api/v5/market/trades", params, floor.now_ms)
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
    assert floor.okx("market/trades", instId=SWAP)


def test_rest_can_fail_and_be_damaged(floor: Floor) -> None:
    floor.inject(kind="http_5xx", venue="okx", count=1, status=502)
    floor.inject(kind="malformed", venue="okx", count=1)
    answers = [floor.venues.answer("/api/v5/market/trades", {"instId": SWAP}, floor.now_ms) for _ in range(2)]
    assert answers[0].status == 502
    with pytest.raises(json.JSONDecodeError):
        json.loads(answers[1].body)
