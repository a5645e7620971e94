"""The books of the sandbox's OKX: snapshot and updates are the true book at every sequence number."""

from itertools import pairwise
from typing import Any

import pytest

from infra.sandbox.grid import MINUTE_MS, SECOND_MS
from tests.sandbox.wire import PUBLIC, Floor, Wire, rows_of

SWAP = "BTC-USDT-SWAP"
SIDES = ("bids", "asks")


class Copy:
    """A client's copy of a book."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[str, str]] = {side: {} for side in SIDES}
        self.removed = 0

    def apply(self, row: dict[str, Any]) -> None:
        for side in SIDES:
            for price, size, zero, orders in row[side]:
                assert zero == "0"
                if size == "0":
                    assert orders == "0"
                    del self.sides[side][price]  # a level that was never there is not removed
                    self.removed += 1
                else:
                    self.sides[side][price] = size

    def levels(self, side: str) -> list[list[str]]:
        levels = sorted(self.sides[side].items(), key=lambda level: float(level[0]), reverse=side == "bids")
        return [list(level) for level in levels]


@pytest.fixture
def floor() -> Floor:
    return Floor()


def follow(floor: Floor, name: str, duration_ms: int, every_ms: int = 100) -> list[dict[str, Any]]:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("books", instId=name)
    return wire.run(duration_ms, every_ms)


def is_true(floor: Floor, name: str, copy: Copy, sequence: int) -> bool:
    true = floor.truth.book("okx", name, sequence, 400, floor.now_ms)
    return all(copy.levels(side) == true[side] for side in SIDES)


@pytest.mark.parametrize("name", ["BTC-USDT", "BTC-USDT-SWAP", "BTC-USD-SWAP"])
def test_a_followed_book_has_the_400_best_levels_at_every_sequence_number(floor: Floor, name: str) -> None:
    copy, before, checked = Copy(), -1, 0
    for place, frame in enumerate(follow(floor, name, 20 * SECOND_MS)):
        (row,) = frame["data"]
        assert frame["action"] == ("update" if place else "snapshot")
        assert (row["prevSeqId"], row["checksum"]) == (before, 0)
        copy.apply(row)
        before = row["seqId"]
        if place % 10 == 0:
            assert is_true(floor, name, copy, before)
            checked += 1
    assert checked >= 20
    assert copy.removed > 0
    assert [len(copy.levels(side)) for side in SIDES] == [400, 400]


def test_a_client_that_is_served_late_gets_the_same_frames(floor: Floor) -> None:
    often, seldom = follow(floor, SWAP, 10 * SECOND_MS), follow(Floor(), SWAP, 10 * SECOND_MS, every_ms=2_500)
    assert often == seldom


def test_a_frame_with_equal_sequence_numbers_and_no_levels_comes_now_and_then(floor: Floor) -> None:
    rows = [frame["data"][0] for frame in follow(floor, SWAP, 20 * SECOND_MS)]
    idle = [row for row in rows if row["seqId"] == row["prevSeqId"]]
    assert idle
    assert all(row["bids"] == row["asks"] == [] for row in idle)


def test_updates_continue_a_snapshot_of_rest(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("books", instId=SWAP)
    wire.run(SECOND_MS)
    copy = Copy()
    (snapshot,) = floor.okx("market/books", instId=SWAP, sz=400)
    copy.apply(snapshot)
    assert is_true(floor, SWAP, copy, snapshot["seqId"])
    for frame in wire.run(3 * SECOND_MS):
        (row,) = frame["data"]
        assert row["prevSeqId"] >= snapshot["seqId"]
        copy.apply(row)
    assert is_true(floor, SWAP, copy, row["seqId"])
    assert len(floor.okx("market/books", instId=SWAP)[0]["bids"]) == 1
    assert len(floor.okx("market/books", instId=SWAP, sz=9_999)[0]["bids"]) == 400


@pytest.mark.parametrize(("channel", "levels"), [("bbo-tbt", 1), ("books5", 5)])
def test_small_books_are_the_true_best_levels_whenever_they_change(floor: Floor, channel: str, levels: int) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe(channel, instId=SWAP)
    rows = rows_of(wire.run(10 * SECOND_MS), channel)
    for row in rows:
        true = floor.truth.book("okx", SWAP, row["seqId"], levels, floor.now_ms)
        assert all([level[:2] for level in row[side]] == true[side] for side in SIDES)
    assert len({str(row["bids"] + row["asks"]) for row in rows}) > 1
    assert "checksum" not in rows[0]


def test_a_reset_makes_sequence_numbers_smaller_for_ever_and_loses_no_level(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("books", instId=SWAP)
    copy = Copy()
    for frame in wire.run(SECOND_MS):
        copy.apply(frame["data"][0])
    old = frame["data"][0]["seqId"]
    floor.inject(kind="reset", venue="okx", symbol=SWAP)
    rows = [frame["data"][0] for frame in wire.run(2 * SECOND_MS)]
    assert rows[0]["prevSeqId"] == old
    assert rows[0]["seqId"] < old
    for row in rows:
        copy.apply(row)
    assert is_true(floor, SWAP, copy, rows[-1]["seqId"])
    assert is_true_at(floor, old)
    assert floor.okx("market/books", instId=SWAP)[0]["seqId"] == rows[-1]["seqId"]
    other = follow(floor, "ETH-USDT-SWAP", SECOND_MS)
    assert all(frame["data"][0]["seqId"] > old for frame in other)


def test_a_book_can_begin_with_an_update_that_continues_what_rest_has(floor: Floor) -> None:
    floor.inject(kind="snapshot_missing", venue="okx", count=1)
    wire = Wire(floor, PUBLIC)
    wire.subscribe("books", instId=SWAP)
    (snapshot,) = floor.okx("market/books", instId=SWAP, sz=400)
    frames = wire.run(SECOND_MS)
    assert {frame["action"] for frame in frames} == {"update"}
    assert frames[0]["data"][0]["prevSeqId"] == snapshot["seqId"]
    assert follow(floor, SWAP, 0)[0]["action"] == "snapshot"


def test_a_gap_leaves_out_an_update_so_that_the_sequence_does_not_fit(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("books", instId=SWAP)
    last = wire.run(SECOND_MS)[-1]["data"][0]["seqId"]
    floor.inject(kind="gap", venue="okx", stream="books:*", count=1)
    rows = rows_of(wire.run(SECOND_MS), "books")
    assert rows[0]["prevSeqId"] > last
    assert all(after["prevSeqId"] == before["seqId"] for before, after in pairwise(rows))


def test_a_stream_that_was_not_served_for_long_goes_on_with_a_break(floor: Floor) -> None:
    wire = Wire(floor, PUBLIC)
    wire.subscribe("books", instId=SWAP)
    last = wire.run(SECOND_MS)[-1]["data"][0]["seqId"]
    for _ in range(5):
        floor.clock.advance(20 * SECOND_MS)
        wire.send("ping")
    first = wire.run()[0]["data"][0]
    assert first["prevSeqId"] > last
    assert int(first["ts"]) >= floor.now_ms - MINUTE_MS


def is_true_at(floor: Floor, sequence: int) -> bool:
    """Whether a sequence number from before a reset still has its book."""
    return bool(floor.truth.book("okx", SWAP, sequence, 1, floor.now_ms)["bids"])
