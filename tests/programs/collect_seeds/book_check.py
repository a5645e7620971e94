"""Whether the book that a reader has is the exchange's, at each of its numbers."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any, Final

from infra.sandbox.venue_truth import VenueTruth
from tests.programs.collect_seeds.reader import Body, ReadGap

WHOLE_EVERY: Final = 30
"""Records after which the whole book is compared again. In between its changes are; what a change leaves out is still
wrong then, because the sandbox draws a level again after 64 steps only."""
Side = dict[Decimal, Decimal]


@cache
def decimal(text: str) -> Decimal:
    """The number of a text."""
    return Decimal(text)


class TrueBook:
    """The exchange's book at a step. `levels`: how many levels a side it shows at most."""

    def __init__(self, truth: VenueTruth, venue: str, symbol: str, levels: int, now_ms: int) -> None:
        self._truth, self._venue, self._symbol, self._levels, self._now_ms = truth, venue, symbol, levels, now_ms

    def at(self, sequence: int) -> tuple[Side, Side]:
        """Both sides at one of the exchange's numbers. ValueError: it never had this number."""
        book: dict[str, Any] = self._truth.book(self._venue, self._symbol, sequence, self._levels, self._now_ms)
        bids, asks = ({decimal(price): decimal(size) for price, size in book[name]} for name in ("bids", "asks"))
        return bids, asks


def book_faults(
    records: Iterable[Body], gaps: list[ReadGap], true: TrueBook, *, is_windowed: bool, may_break: bool
) -> Iterator[str]:
    """What is wrong with the book of one instrument.

    `is_windowed`: only a part around the best prices is promised. `may_break`: records may have been dropped, or never
    published, because the stream was away or the collector was killed.
    """
    named = {gap.first for gap in gaps if gap.state == "open"}
    epoch = sequence = -1
    book: tuple[Side, Side] | None = None
    changed = 0
    for record in records:
        if record["epoch"] == epoch and record["sequence"] <= sequence:
            yield f"{record['sequence']} of epoch {epoch} comes after {sequence}"
            return
        joins = record["epoch"] == epoch and record["sequence"] == sequence + 1
        if record["epoch"] == epoch and not joins and not may_break:
            missing = set(range(sequence + 1, record["sequence"])) - named
            if missing or not record["is_snapshot"]:
                yield f"{record['sequence']} of epoch {epoch} follows {sequence}, and no gap names what is missing"
        if record["epoch"] < epoch:
            yield f"epoch {record['epoch']} comes after {epoch}"
        epoch, sequence = record["epoch"], record["sequence"]
        if record["is_snapshot"]:
            whole = tuple({decimal(row["price"]): decimal(row["amount"]) for row in record[name]} for name in _SIDES)
            if joins and book is not None and book != whole:
                yield f"the snapshot {sequence} is not what the records before it made"
            book, changed = (whole[0], whole[1]), WHOLE_EVERY
        elif not joins or book is None:
            book = None
            continue
        else:
            for side, name in zip(book, _SIDES, strict=True):
                yield from _apply(side, record[name], sequence)
            changed += 1
        if changed >= WHOLE_EVERY:
            changed = 0
            fault = _compare(book, true, record["native_sequence"], is_windowed=is_windowed)
            if fault:
                yield f"{fault} at {record['native_sequence']}, own {sequence} of epoch {epoch}"
                return


_SIDES: Final = ("bids", "asks")


def _apply(side: Side, rows: Iterable[Body], sequence: int) -> Iterator[str]:
    for row in rows:
        price, amount = decimal(row["price"]), decimal(row["amount"])
        if amount:
            if side.get(price) == amount:
                yield f"{sequence} changes {price} and changes nothing"
            side[price] = amount
        elif side.pop(price, None) is None:
            yield f"{sequence} deletes {price}, which is not in the book"


def _compare(book: tuple[Side, Side], true: TrueBook, native: int, *, is_windowed: bool) -> str:
    try:
        truth = true.at(native)
    except ValueError as error:
        return str(error)
    for held, real, best in zip(book, truth, (max, min), strict=True):
        if is_windowed:
            held, real = _in_both(held, real, is_bid=best is max)
        if held != real:
            wrong = sorted(set(held.items()) ^ set(real.items()))
            return f"the {'bids' if best is max else 'asks'} differ in {len(wrong)} levels: {wrong[:3]}"
    return ""


def _in_both(held: Side, real: Side, *, is_bid: bool) -> tuple[Side, Side]:
    """The levels that are within the reach of both; nothing of one that is empty."""
    if not held or not real:
        return held, {}
    if is_bid:
        worst = max(min(held), min(real))
        return {p: a for p, a in held.items() if p >= worst}, {p: a for p, a in real.items() if p >= worst}
    worst = min(max(held), max(real))
    return {p: a for p, a in held.items() if p <= worst}, {p: a for p, a in real.items() if p <= worst}
