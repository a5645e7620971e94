"""Which feeds are followed: what the settings wish and requests have changed, of what the exchanges list."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from app.collecting.choosing import Configured, Listing, Request, Unwishable, configured, to_follow, to_leave
from app.collecting.configured import Choices
from app.collecting.wish import Item, Wish, WishFileError
from app.collector_events import FeedsChanged
from app.domain.choice import Choice, FeedType
from app.domain.instrument import Instrument
from app.domain.records import Feed
from app.events import Observe
from app.ports.collector import CollectorControl
from app.ports.kept_file import KeptFile

FEEDS_MAX: Final = 5_000
"""Of one exchange: as many channels as all of them grant a handful of sockets, and 2 GB of books at the most."""
NAMED_MAX: Final = 20  # feeds that an event names, and symbols that a fault does


class NotYet(Exception):
    """Nothing can be changed at the moment, and nothing was; the message says why."""


class Outcome(NamedTuple):
    """What a request has changed, and what is followed of the exchange now."""

    added: tuple[Item, ...]
    removed: tuple[Item, ...]
    followed: tuple[Item, ...]


class _Known(NamedTuple):
    instruments: Collection[Instrument]
    choices: tuple[Choice, ...]
    listing: Listing
    told: Configured


class WishedFeeds:
    """Keeps the collector following what is wished. `apply` has to be called for each list of instruments read."""

    def __init__(self, control: CollectorControl, choices: Choices, file: KeptFile, observe: Observe) -> None:
        self._control = control
        self._choices = choices
        self._file = file
        self._observe = observe
        self._wish = Wish()
        self._known: dict[str, _Known] = {}
        self._changing = asyncio.Lock()

    def load(self) -> None:
        """Read what requests have changed. Blocks. Raises WishFileError."""
        try:
            content = self._file.read()
            if content is not None:
                self._wish = Wish.decoded(content)
        except OSError as error:
            raise WishFileError(f"{self._file.name} cannot be read: {error.strerror or error}") from error
        except WishFileError as error:
            raise WishFileError(f"{self._file.name}: {error}") from error

    def apply(self, exchange: str) -> None:
        """Follow what is wished of an exchange, as far as it lists it. Until its list was read, nothing changes."""
        listing = self._listing(exchange)
        if not listing:
            return
        before = self._control.followed(exchange)
        feeds = [listing.feed(each) for each in sorted(self._wished(listing))]
        after = frozenset([each for each in feeds if each is not None][:FEEDS_MAX])
        if after == before:
            return
        self._control.follow(exchange, after)
        added, removed = [sorted(map(_item, each)) for each in (after - before, before - after)]
        symbols = dict.fromkeys(each.symbol for each in (*added, *removed))
        self._observe(
            FeedsChanged(
                exchange, ",".join(list(symbols)[:NAMED_MAX]), _named(added), _named(removed), followed=len(after)
            )
        )

    async def configure(self, choices: Choices) -> None:
        """Take over other choices of the settings, for the exchanges that there are."""
        async with self._changing:
            self._choices = choices
            for exchange in self._control.exchanges():
                self.apply(exchange)

    async def follow(self, exchange: str, request: Request) -> Outcome:
        """Follow what a request names, from now on. Raises Unwishable, NotYet; LookupError for an unknown exchange."""

        def wish(listing: Listing, choices: frozenset[Item]) -> Wish:
            return self._wish.following(exchange, to_follow(listing, request), choices)

        return await self._change(exchange, wish)

    async def leave(self, exchange: str, request: Request) -> Outcome:
        """Follow what a request names no longer. Raises the same."""

        def wish(listing: Listing, choices: frozenset[Item]) -> Wish:
            wished = self._wish.items(exchange, choices)
            return self._wish.leaving(exchange, to_leave(listing, request, wished), choices)

        return await self._change(exchange, wish)

    def followed(self, exchange: str) -> tuple[Item, ...]:
        """What is followed of an exchange. Raises LookupError."""
        return tuple(sorted(map(_item, self._control.followed(exchange))))

    def faults(self) -> list[tuple[str, str]]:
        """By exchange: why something that is wished cannot be followed."""
        found: list[tuple[str, str]] = []
        listings = [listing for name in self._control.exchanges() if (listing := self._listing(name))]
        for listing in listings:
            told = self._configured(listing)
            missing = [each for each in told.unlisted if each.is_own or not _is_listed(each, listings)]
            found += [(listing.exchange, each) for each in told.refused]
            if missing:
                names = sorted({f"{each.market} {each.symbol}" if each.market else each.symbol for each in missing})
                found.append(
                    (listing.exchange, f"{listing.exchange} does not list {_some(names)}: correct the settings")
                )
            if gone := [each for each in self._wish.changes(listing.exchange).added if listing.feed(each) is None]:
                names = sorted({f"{each.market} {each.symbol}" for each in gone})
                text = f"{listing.exchange} does not list {_some(names)}, which a request wished: unsubscribe it"
                found.append((listing.exchange, text))
            if (wished := len(self._wished(listing))) > FEEDS_MAX:
                text = f"{listing.exchange}: {wished} feeds are wished, of which {FEEDS_MAX} are followed: wish fewer"
                found.append((listing.exchange, text))
        return found

    async def _change(self, exchange: str, changed: Callable[[Listing, frozenset[Item]], Wish]) -> Outcome:
        async with self._changing:
            listing = self._listing(exchange)
            if not listing:
                raise NotYet(f"The instruments of {exchange} have not been read yet; try again in a few seconds")
            told = self._configured(listing).items
            wish = changed(listing, told)
            if (wished := len(wish.items(exchange, told))) > FEEDS_MAX:
                raise Unwishable([f"{exchange} would have {wished} feeds; there may be {FEEDS_MAX}: name fewer"])
            before = self.followed(exchange)
            if wish != self._wish:
                try:
                    await asyncio.to_thread(self._file.write, wish.encoded())
                except OSError as error:
                    text = (
                        f"The wish cannot be written to {self._file.name}: {error.strerror or error}; nothing changed"
                    )
                    raise NotYet(text) from error
                self._wish = wish
            self.apply(exchange)
            after = self.followed(exchange)
        return Outcome(_without(after, before), _without(before, after), after)

    def _listing(self, exchange: str) -> Listing:
        return self._known_of(exchange).listing

    def _configured(self, listing: Listing) -> Configured:
        return self._known_of(listing.exchange).told

    def _known_of(self, exchange: str) -> "_Known":
        """What an exchange lists and the settings wish of it; made again when either is another object."""
        instruments, choices = self._control.instruments(exchange), self._choices.get(exchange, ())
        known = self._known.get(exchange)
        if known is None or known.instruments is not instruments or known.choices is not choices:
            listing = Listing(exchange, instruments, self._control.offers)
            known = self._known[exchange] = _Known(instruments, choices, listing, configured(listing, choices))
        return known

    def _wished(self, listing: Listing) -> frozenset[Item]:
        return self._wish.items(listing.exchange, self._configured(listing).items)


def _item(feed: Feed) -> Item:
    return Item(feed.instrument.market, feed.instrument.symbol, FeedType(feed.data_type, feed.interval))


def _is_listed(choice: Choice, listings: Iterable[Listing]) -> bool:
    return any(each.market_of(choice.symbol, choice.market) is not None for each in listings)


def _without(items: Iterable[Item], others: Iterable[Item]) -> tuple[Item, ...]:
    left = set(others)
    return tuple(each for each in items if each not in left)


def _named(items: list[Item]) -> tuple[str, ...]:
    more = len(items) - NAMED_MAX
    return (*map(str, items[:NAMED_MAX]), *([f"and {more} more"] if more > 0 else []))


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
