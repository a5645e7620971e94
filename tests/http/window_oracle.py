"""The right answer to any klines query, written from binance-facts sections 1.3 and 3 and nothing else.

It shares no code with the node or the sandbox: it is a third, independent reading of the same facts, and judges both.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

INTERVALS: Final = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
OURS: Final = ("symbol", "interval", "startTime", "endTime", "limit", "only_final", "allow_partial")
THEIRS: Final = OURS[:5]
TIME_MAX: Final = 2**53

Pair = tuple[str, str]
"""A parameter after decoding: name and value."""


class Row(NamedTuple):
    """A kline as the exchange prints it."""

    open_ms: int
    text: bytes


class Truth(NamedTuple):
    """All klines of a series: the closed ones in ascending order, and the one in progress."""

    closed: Sequence[Row]
    live: Row | None


class Asked(NamedTuple):
    """A valid query."""

    symbol: str
    interval: str
    start: int | None
    end: int | None
    limit: int
    only_final: bool


def window(truth: Truth, asked: Asked) -> bytes:
    """The answer: at most `limit` rows that open within both bounds, the oldest with startTime, else the newest."""
    rows = list(truth.closed)
    if truth.live is not None and not asked.only_final:
        rows.append(truth.live)
    if asked.start is not None:
        rows = [row for row in rows if row.open_ms >= asked.start]
    if asked.end is not None:
        rows = [row for row in rows if row.open_ms <= asked.end]
    rows = rows[: asked.limit] if asked.start is not None else rows[-asked.limit :]
    return b"[" + b",".join(row.text for row in rows) + b"]"


def understood(pairs: Sequence[Pair], symbols: Sequence[str]) -> Asked | int:
    """The valid query, or the error code that the node promises: its first complaint, in the documented order."""
    sent = {name: value for name, value in pairs if name in OURS}
    if len(sent) < sum(name in OURS for name, _ in pairs):
        return -1101
    if not sent.get("symbol") or not sent.get("interval"):
        return -1102
    if sent["symbol"].upper() not in symbols:
        return -1121
    if sent["interval"] not in INTERVALS:
        return -1120
    numbers: dict[str, int | None] = {}
    for name, least, most in (("startTime", 0, TIME_MAX), ("endTime", 0, TIME_MAX), ("limit", 1, 1500)):
        complaint = _complaint(sent.get(name), least, most)
        if complaint is not None:
            return complaint
        numbers[name] = int(sent[name]) if name in sent else None
    for name in OURS[5:]:
        if sent.get(name, "true").lower() not in ("true", "false", "1", "0"):
            return -1105 if sent[name] == "" else -1130
    start, end = numbers["startTime"], numbers["endTime"]
    if start is not None and end is not None and start > end:
        return -1023
    limit = 500 if numbers["limit"] is None else numbers["limit"]
    only_final = sent.get("only_final", "true").lower() in ("true", "1")
    return Asked(sent["symbol"].upper(), sent["interval"], start, end, limit, only_final)


def complaints(pairs: Sequence[Pair], symbols: Sequence[str]) -> set[int] | None:
    """Every error code that the exchange may give; None where the facts do not say what it does.

    They leave open what empty, repeated and very large values get, and which of several errors is reported.
    """
    mine = [(name, value) for name, value in pairs if name in THEIRS]
    sent = dict(mine)
    is_silent = len(sent) < len(mine) or any(value == "" or len(value) > 16 for value in sent.values())
    if is_silent or any(re.fullmatch("[0-9]+", value) and int(value) > TIME_MAX for value in sent.values()):
        return None
    found: set[int] = set()
    if "symbol" not in sent or "interval" not in sent:
        found.add(-1102)
    if sent.get("symbol", symbols[0]).upper() not in symbols:
        found.add(-1121)
    if sent.get("interval", INTERVALS[0]) not in INTERVALS:
        found.add(-1120)
    checked = {
        name: _complaint(sent.get(name), least, most)
        for name, least, most in (("startTime", 0, TIME_MAX), ("endTime", 0, TIME_MAX), ("limit", 1, 1500))
    }
    found |= {complaint for complaint in checked.values() if complaint is not None}
    has_both = "startTime" in sent and "endTime" in sent and not checked["startTime"] and not checked["endTime"]
    if has_both and int(sent["startTime"]) > int(sent["endTime"]):
        found.add(-1023)
    return found


def _complaint(value: str | None, least: int, most: int) -> int | None:
    if value is None:
        return None
    if value == "":
        return -1105
    if not re.fullmatch("-?[0-9]+", value):
        return -1102
    return None if least <= int(value) <= most and len(value) <= 16 else -1130
