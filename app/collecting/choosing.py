"""From names as people write them to what an exchange lists: what can be followed, and every fault of the rest."""

from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple, TypeVar

from app.collecting.wish import Item
from app.domain.choice import (
    DERIVATIVES_ONLY,
    MARKETS_BY_DEFAULT,
    Choice,
    FeedType,
    parse_market,
    parse_symbol,
    parse_type,
)
from app.domain.followed import Market
from app.domain.instrument import Instrument
from app.domain.records import Feed

NEAR_MAX: Final = 3
NEAR_LIKENESS: Final = 0.6  # from here on a listed name is worth a hint: BTC-USTD for BTC-USDT has 0.88
HINTS_MAX: Final = 3  # unknown symbols of one request for which near names are looked up, which takes 30 ms each
SYMBOLS_MAX: Final = 1_000  # of one request: more than an exchange lists with one quote currency
TYPES_MAX: Final = 32  # of one request: there are five types beside the 15 intervals of klines

_T = TypeVar("_T")
Offers = Callable[[Feed], bool]
"""Whether the exchange has a feed."""


class Unwishable(Exception):
    """A request cannot be fulfilled; `faults` are all reasons, and nothing of it was done."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class Request(NamedTuple):
    """What a request names, as it was written; `market` None: it names none."""

    symbols: Sequence[str]
    data_types: Sequence[str]
    market: str | None = None


class Configured(NamedTuple):
    """What of the settings' choices an exchange has; `unlisted` are the choices whose symbol it does not list."""

    items: frozenset[Item]
    unlisted: tuple[Choice, ...]
    refused: tuple[str, ...]
    """Sentences about what an exchange lists but does not offer, for choices that were made for it alone."""


class Listing:
    """The instruments of one exchange by symbol and market."""

    def __init__(self, exchange: str, instruments: Collection[Instrument], offers: Offers) -> None:
        self.exchange = exchange
        self._offers = offers
        self._by_symbol: dict[str, dict[Market, Instrument]] = {}
        for each in instruments:
            self._by_symbol.setdefault(each.symbol, {}).setdefault(each.market, each)

    def __bool__(self) -> bool:
        return bool(self._by_symbol)

    def has(self, symbol: str) -> bool:
        """Whether a market of the exchange has the symbol."""
        return symbol in self._by_symbol

    def market_of(self, symbol: str, market: Market | None) -> Market | None:
        """`market`, or the default one of a symbol, if the exchange has it."""
        there = self._by_symbol.get(symbol, {})
        return next((each for each in ([market] if market else MARKETS_BY_DEFAULT) if each in there), None)

    def feed(self, item: Item) -> Feed | None:
        """The feed of an item; None: the exchange does not list it."""
        instrument = self._by_symbol.get(item.symbol, {}).get(item.market)
        return None if instrument is None else Feed(instrument, *item.type)

    def lacks(self, item: Item) -> str | None:
        """Why a listed item cannot be followed; None: it can."""
        if item.market is Market.SPOT and item.type.data_type in DERIVATIVES_ONLY:
            return f"a spot market has no {item.type}: {item.symbol}"
        feed = self.feed(item)
        assert feed is not None, f"{item} is not listed"
        return None if self._offers(feed) else f"{self.exchange} has no {item.type} of {item.market} {item.symbol}"

    def unknown(self, symbol: str, *, with_hint: bool = True) -> str:
        """The sentence about a symbol that the exchange does not list, with names that are near it."""
        near = self._near(symbol) if with_hint else []
        return f"{self.exchange} lists no {symbol}" + (f"; is {' or '.join(near)} meant?" if near else "")

    def _near(self, symbol: str) -> list[str]:
        wanted = symbol.replace("-", "")
        same = [each for each in self._by_symbol if each.replace("-", "") == wanted]
        return same[:NEAR_MAX] or get_close_matches(symbol, self._by_symbol, NEAR_MAX, NEAR_LIKENESS)


def configured(listing: Listing, choices: Iterable[Choice]) -> Configured:
    """What of the settings' choices can be followed; the rest is no error, since the listing may change any day."""
    items, unlisted, refused = set[Item](), list[Choice](), list[str]()
    for choice in choices:
        market = listing.market_of(choice.symbol, choice.market)
        if market is None:
            unlisted.append(choice)
            continue
        for each in (Item(market, choice.symbol, kind) for kind in choice.types):
            lack = listing.lacks(each)
            if lack is None:
                items.add(each)
            elif choice.is_own:
                refused.append(lack)
    return Configured(frozenset(items), tuple(unlisted), tuple(refused))


def to_follow(listing: Listing, request: Request) -> frozenset[Item]:
    """The items that a request wants to be followed. Raises Unwishable."""
    faults, symbols, types, market = _read(request)
    unlisted = [each for each in symbols if not listing.has(each)]
    faults += [listing.unknown(each, with_hint=number < HINTS_MAX) for number, each in enumerate(unlisted)]
    items = set[Item]()
    for symbol in (each for each in symbols if listing.has(each)):
        found = listing.market_of(symbol, market)
        if found is None:
            faults.append(f"{listing.exchange} has {symbol} in no {market} market")
            continue
        for each in (Item(found, symbol, kind) for kind in types):
            if (lack := listing.lacks(each)) is None:
                items.add(each)
            else:
                faults.append(lack)
    if faults:
        raise Unwishable(faults)
    return frozenset(items)


def to_leave(listing: Listing, request: Request, wished: Collection[Item]) -> frozenset[Item]:
    """The items among `wished` that a request wants to be followed no longer; no market: of all. Raises Unwishable.

    What is not followed is no fault; a symbol that the exchange does not list any more can still be left.
    """
    faults, symbols, types, market = _read(request)
    known = {each.symbol for each in wished}
    unlisted = [each for each in symbols if each not in known and not listing.has(each)]
    faults += [listing.unknown(each, with_hint=number < HINTS_MAX) for number, each in enumerate(unlisted)]
    if faults:
        raise Unwishable(faults)
    return frozenset(
        each for each in wished if each.symbol in symbols and each.type in types and market in (None, each.market)
    )


def _read(request: Request) -> tuple[list[str], list[str], list[FeedType], Market | None]:
    """The faults of a request's words, and its symbols, types and market as far as they can be read."""
    faults = []
    for what, texts, most in (("symbols", request.symbols, SYMBOLS_MAX), ("data_types", request.data_types, TYPES_MAX)):
        if not 1 <= len(texts) <= most:
            faults.append(f"{what} names {len(texts)}; name 1 to {most} at a time")
    symbols = _parsed(request.symbols[:SYMBOLS_MAX], parse_symbol, faults)
    types = _parsed(request.data_types[:TYPES_MAX], parse_type, faults)
    markets = [] if request.market is None else _parsed([request.market], parse_market, faults)
    return faults, symbols, types, markets[0] if markets else None


def _parsed(texts: Iterable[str], parse: Callable[[str], _T], faults: list[str]) -> list[_T]:
    """What the texts mean, each once; what means nothing is added to `faults`."""
    found: dict[_T, None] = {}
    for text in dict.fromkeys(texts):
        try:
            found[parse(text)] = None
        except ValueError as error:
            faults.append(str(error))
    return list(found)
