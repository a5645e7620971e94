"""Every fault has its stated effect on Deribit's sockets and REST."""

import json

import pytest

from infra.sandbox.grid import SECOND_MS
from tests.sandbox.wire import DERIBIT, PUBLIC, Floor, Wire, data_of

BTC = "BTC-PERPETUAL"
TRADES, BOOK = f"trades.{BTC}.100ms", f"book.{BTC}.100ms"


@pytest.fixture
def floor() -> Floor:
    return Floor()


@pytest.fixture
def wire(floor: Floor) -> Wire:
    wire = Wire(floor, DERIBIT)
    wire.call("subscribe", channels=[TRADES, BOOK])
    wire.run(SECOND_MS)
    return wire


def numbers(wire: Wire) -> list[int]:
    return [row["trade_seq"] for rows in data_of(wire.run(2 * SECOND_MS), TRADES) for row in rows]


def test_a_gap_leaves_out_a_frame_of_trades(floor: Floor, wire: Wire) -> None:
    first = floor.truth.newest_trade("deribit", BTC, floor.now_ms) + 1
    floor.inject(kind="gap", venue="deribit", stream="trades.*", count=1)
    found = numbers(wire)
    assert found[0] > first
    span = {"start_seq": first, "end_seq": found[0] - 1, "sorting": "asc"}
    missing = floor.deribit("get_last_trades_by_instrument", instrument_name=BTC, **span)["trades"]
    assert [row["trade_seq"] for row in missing] == list(range(first, found[0]))


def test_a_gap_leaves_out_a_change_of_a_book(floor: Floor, wire: Wire) -> None:
    before = data_of(wire.run(SECOND_MS), BOOK)[-1]["change_id"]
    floor.inject(kind="gap", venue="deribit", stream="book.*", count=1)
    assert data_of(wire.run(SECOND_MS), BOOK)[0]["prev_change_id"] > before


def test_a_reset_sends_a_new_snapshot_and_then_its_changes(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="reset", venue="deribit", symbol=BTC)
    frames = data_of(wire.run(SECOND_MS), BOOK)
    assert [frame["type"] for frame in frames] == ["snapshot"] + ["change"] * (len(frames) - 1)
    assert "prev_change_id" not in frames[0]
    assert frames[1]["prev_change_id"] == frames[0]["change_id"]


def test_a_silent_channel_stays_subscribed(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="silence", venue="deribit", stream="trades.*")
    frames = wire.run(2 * SECOND_MS)
    assert (data_of(frames, TRADES), data_of(frames, BOOK) != []) == ([], True)
    assert "result" in wire.call("test")


def test_a_duplicated_frame_comes_twice(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="duplicate", venue="deribit", stream="book.*", count=1)
    ids = [frame["change_id"] for frame in data_of(wire.run(SECOND_MS), BOOK)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == len(ids) - 1


def test_a_book_can_begin_with_a_change(floor: Floor) -> None:
    floor.inject(kind="snapshot_missing", venue="deribit", count=1)
    wire = Wire(floor, DERIBIT)
    wire.call("subscribe", channels=[BOOK])
    assert {frame["type"] for frame in data_of(wire.run(SECOND_MS), BOOK)} == {"change"}


def test_a_refused_request_is_answered_with_an_error_and_the_channels_go_on(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="error_answer", venue="deribit", count=1, code=11050)
    answer = wire.call("subscribe", channels=[f"ticker.{BTC}.100ms"])
    assert answer["error"]["code"] == 11050
    frames = wire.run(SECOND_MS)
    assert data_of(frames, BOOK)
    assert data_of(frames, f"ticker.{BTC}.100ms") == []


def test_answers_can_come_in_another_order_than_their_requests(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="reorder", venue="deribit", path="/public/get_time", count=1)
    assert wire.request("get_time") == []
    late = 2  # the second request of this socket
    assert "result" in wire.call("test")
    assert wire.run()[0]["id"] == late


def test_a_cut_breaks_the_connection_without_a_close_frame(floor: Floor, wire: Wire) -> None:
    other = Wire(floor, PUBLIC)
    floor.inject(kind="cut", venue="deribit")
    assert (wire.peer.is_closed, wire.peer.close_code, other.peer.is_closed) == (True, 1006, False)


def test_a_rotation_closes_later_and_nothing_announces_it(floor: Floor, wire: Wire) -> None:
    floor.inject(kind="rotation", venue="deribit", delay_s=2)
    assert {frame["method"] for frame in wire.run(SECOND_MS)} == {"subscription"}
    assert not wire.peer.is_closed
    wire.run(SECOND_MS)
    assert (wire.peer.is_closed, wire.peer.close_code) == (True, 1001)


def test_rest_can_be_refused_and_fail(floor: Floor) -> None:
    path, params = "/api/v2/public/ticker", {"instrument_name": BTC}
    for fault, status in (({"kind": "error_answer"}, 400), ({"kind": "http_429"}, 429)):
        floor.inject(venue="deribit", count=1, **fault)
        answer = floor.venues.answer(path, params, floor.now_ms)
        assert (answer.status, "error" in json.loads(answer.body)) == (status, True)
    floor.inject(kind="http_5xx", venue="deribit", count=1)
    assert floor.venues.answer(path, params, floor.now_ms).status == 503
    assert floor.venues.answer(path, params, floor.now_ms).status == 200
