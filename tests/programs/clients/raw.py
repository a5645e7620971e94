"""The node's answers without any client, to compare with."""

import json
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

TRIES_MAX: Final = 300  # until the node's answer stands still while a client asks
MOVING: Final = frozenset({"E", "T", "time", "closeTime"})  # the moment of an answer, not its content

CLOSES_MAX: Final = 2_000  # until the node serves what a stream has said: some seconds

T = TypeVar("T")


class Raw:
    """The node at `address`."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}"

    def get(self, path: str, **query: object) -> Any:
        """A decoded answer; anything but 200 is an error."""
        text = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        with urllib.request.urlopen(f"{self._url}{path}?{text}", timeout=30) as answer:
            return json.load(answer)

    def klines(self, symbol: str, interval: str, **query: object) -> Any:
        """Rows of klines."""
        return self.get("/fapi/v1/klines", symbol=symbol, interval=interval, **query)

    def comes_to_serve(self, row: list[Any], symbol: str, interval: str) -> bool:
        """Whether `row` is what the node says of a kline, or will say: another stream may tell of its close first."""
        served = (self.klines(symbol, interval, startTime=row[0], limit=1) for _ in range(CLOSES_MAX))
        return any(found[0][: len(row)] == row for found in served)

    def closed(self, symbol: str, interval: str, rows: int) -> Any:
        """The newest closed klines."""
        return self.klines(symbol, interval, limit=rows + 1)[:-1]

    def still(self, path: str, ask: Callable[[], T], **query: object) -> tuple[Any, T]:
        """The node's answer and the client's, made while the node's did not change."""
        for _ in range(TRIES_MAX):
            before = _content(self.get(path, **query))
            mine = ask()
            if _content(self.get(path, **query)) == before:
                return before, mine
        raise AssertionError(f"{path} never stood still")

    async def still_async(self, path: str, ask: Callable[[], Awaitable[T]], **query: object) -> tuple[Any, T]:
        """The same for a client that is awaited."""
        for _ in range(TRIES_MAX):
            before = _content(self.get(path, **query))
            mine = await ask()
            if _content(self.get(path, **query)) == before:
                return before, mine
        raise AssertionError(f"{path} never stood still")


def floats(row: Any) -> list[float]:
    """Open time and the five numbers of a kline as most clients give them."""
    return [row[0], *map(float, row[1:6])]


def levels(side: Any) -> list[list[float]]:
    """A side of a book as most clients give it."""
    return [[float(price), float(quantity)] for price, quantity in side]


def _content(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: value for name, value in answer.items() if name not in MOVING}
    return [_content(row) for row in answer] if isinstance(answer, list) else answer
