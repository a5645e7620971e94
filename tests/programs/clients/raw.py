"""The node's answers over plain HTTP, with which the answers of clients are compared."""

import json
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

TRIES_MAX: Final = 300  # until the node's answer does not change during a client's request
MOVING: Final = frozenset({"E", "T", "time", "closeTime"})  # the moment of an answer, not its content

CLOSES_MAX: Final = 2_000  # tries until the node serves a kline that a stream delivered: some seconds

T = TypeVar("T")


class Raw:
    """The node at `address`."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}"

    def get(self, path: str, **query: object) -> Any:
        """GET a path and decode the answer; any status but 200 raises."""
        text = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        with urllib.request.urlopen(f"{self._url}{path}?{text}", timeout=30) as answer:
            return json.load(answer)

    def klines(self, symbol: str, interval: str, **query: object) -> Any:
        """Rows of klines."""
        return self.get("/fapi/v1/klines", symbol=symbol, interval=interval, **query)

    def comes_to_serve(self, row: list[Any], symbol: str, interval: str) -> bool:
        """Whether the node serves `row`, now or within seconds: a client's stream may deliver a close earlier."""
        served = (self.klines(symbol, interval, startTime=row[0], limit=1) for _ in range(CLOSES_MAX))
        return any(found[0][: len(row)] == row for found in served)

    def closed(self, symbol: str, interval: str, rows: int) -> Any:
        """The newest closed klines."""
        return self.klines(symbol, interval, limit=rows + 1)[:-1]

    def still(self, path: str, ask: Callable[[], T], **query: object) -> tuple[Any, T]:
        """The node's answer and the client's; retried until the node's is the same before and after the client's."""
        for _ in range(TRIES_MAX):
            before = _content(self.get(path, **query))
            mine = ask()
            if _content(self.get(path, **query)) == before:
                return before, mine
        raise AssertionError(f"{path} never stood still")

    async def still_async(self, path: str, ask: Callable[[], Awaitable[T]], **query: object) -> tuple[Any, T]:
        """The same as `still` for an async client."""
        for _ in range(TRIES_MAX):
            before = _content(self.get(path, **query))
            mine = await ask()
            if _content(self.get(path, **query)) == before:
                return before, mine
        raise AssertionError(f"{path} never stood still")


def floats(row: Any) -> list[float]:
    """A kline as most clients return it: open time, open, high, low, close, volume."""
    return [row[0], *map(float, row[1:6])]


def levels(side: Any) -> list[list[float]]:
    """A side of an order book as most clients return it: pairs of price and quantity."""
    return [[float(price), float(quantity)] for price, quantity in side]


def _content(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: value for name, value in answer.items() if name not in MOVING}
    return [_content(row) for row in answer] if isinstance(answer, list) else answer
