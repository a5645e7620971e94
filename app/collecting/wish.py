"""What requests have changed of what the settings wish: additions and removals, which survive restarts.

The wish is (configured − removed) + added. A request that says what the settings say anyway leaves no record, so that
settings that change later have their effect on everything that nobody has asked about. What was asked for stays until a
request says the opposite, whatever the settings become.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self

import msgspec

from app.domain.choice import FeedType, parse_market, parse_symbol, parse_type
from app.domain.followed import Market

VERSION: Final = 1
_HINT: Final = "move the file away to go on with what the settings say"


class WishFileError(Exception):
    """The file with the changes cannot be used; the message says what to do."""


class Item(NamedTuple):
    """One thing that may be followed on an exchange."""

    market: Market
    symbol: str
    type: FeedType

    def __str__(self) -> str:
        return f"{self.market}/{self.symbol}/{self.type}"


class Changes(NamedTuple):
    """What requests have changed for one exchange."""

    added: frozenset[Item] = frozenset()
    removed: frozenset[Item] = frozenset()


class _Lists(msgspec.Struct, forbid_unknown_fields=True):
    added: list[str]
    removed: list[str]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    exchanges: dict[str, _Lists]


class Wish:
    """The changes of all exchanges. Immutable."""

    def __init__(self, changes: Mapping[str, Changes] | None = None) -> None:
        self._changes = dict(changes or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wish) and self._changes == other._changes

    __hash__ = None  # type: ignore[assignment]  # never a key

    def changes(self, exchange: str) -> Changes:
        """What requests have changed for an exchange."""
        return self._changes.get(exchange, Changes())

    def items(self, exchange: str, configured: frozenset[Item]) -> frozenset[Item]:
        """What is wished of an exchange of which the settings wish `configured`."""
        added, removed = self.changes(exchange)
        return (configured - removed) | added

    def following(self, exchange: str, items: frozenset[Item], configured: frozenset[Item]) -> "Wish":
        """The wish after a request to follow `items`."""
        added, removed = self.changes(exchange)
        return self._with(exchange, Changes(added | (items - configured), removed - items))

    def leaving(self, exchange: str, items: frozenset[Item], configured: frozenset[Item]) -> "Wish":
        """The wish after a request to follow `items` no longer."""
        added, removed = self.changes(exchange)
        return self._with(exchange, Changes(added - items, removed | (items & configured)))

    def _with(self, exchange: str, changes: Changes) -> "Wish":
        others = {name: each for name, each in self._changes.items() if name != exchange}
        return Wish({**others, exchange: changes} if changes != Changes() else others)

    def encoded(self) -> bytes:
        """The content of the file."""
        lists = {name: _Lists(_texts(each.added), _texts(each.removed)) for name, each in sorted(self._changes.items())}
        return msgspec.json.format(msgspec.json.encode(_File(VERSION, lists)), indent=1) + b"\n"

    @classmethod
    def decoded(cls, content: bytes) -> Self:
        """The changes in the content of a file. Raises WishFileError."""
        try:
            file = msgspec.json.decode(content, type=_File)
            changes = {
                name: Changes(_items(lists.added), _items(lists.removed)) for name, lists in file.exchanges.items()
            }
        except (ValueError, RecursionError) as error:
            raise WishFileError(f"it is not what klinenode has written ({error}); {_HINT}") from error
        if file.version != VERSION:
            raise WishFileError(f"it was written by another version of klinenode ({file.version}); {_HINT}")
        return cls(changes)


def _texts(items: Iterable[Item]) -> list[str]:
    return sorted(map(str, items))


def _items(texts: Iterable[str]) -> frozenset[Item]:
    """The items of the file. Raises ValueError."""
    found = set()
    for text in texts:
        market, first, rest = text.partition("/")
        symbol, second, kind = rest.partition("/")
        if not first or not second:
            raise ValueError(f"{text[:80]!r} is no market/symbol/type")
        found.add(Item(parse_market(market), parse_symbol(symbol), parse_type(kind)))
    return frozenset(found)
