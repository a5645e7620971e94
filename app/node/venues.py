"""Which exchanges the collector follows: each one's language, the rule of its books, and how it is reached."""

from collections.abc import Callable
from typing import Final, NamedTuple

from app.binance.collector_venue import BinanceVenue
from app.collecting.book_chain import BookRule
from app.deribit.venue import DeribitVenue
from app.domain.venue import Request
from app.okx.venue import OkxVenue
from app.ports.errors import UpstreamError
from app.ports.exchange import Priority
from app.ports.venue import Venue
from app.ports.venue_io import Answer, VenueIo, VenueLost, VenueSocket
from app.runtime import Runtime
from app.settings import Settings
from infra.binance.rest import BinanceRest
from infra.venues.venue_io import NetVenueIo

BINANCE_LEVELS: Final = 1_000  # of a snapshot: what stands beyond a smaller one is missing within minutes
BINANCE_BOOKS: Final = BookRule(BINANCE_LEVELS, compare_ms=3_600_000)
"""Compared every hour with a snapshot of weight 20: of 500 books, a tenth of a minute's 2,400."""


class Exchange(NamedTuple):
    """What the collector is given of one exchange."""

    make: Callable[[], Venue]
    book_rule: BookRule
    rest_url: str
    """The setting with its REST address."""
    ws_url: str


EXCHANGES: Final = {
    "binance": Exchange(BinanceVenue, BINANCE_BOOKS, "binance_rest_url", "binance_ws_url"),
    "okx": Exchange(OkxVenue, BookRule(), "okx_rest_url", "okx_ws_url"),
    "deribit": Exchange(DeribitVenue, BookRule(is_delete_known=True), "deribit_rest_url", "deribit_ws_url"),
}


class BudgetedIo:
    """Binance, whose requests take part in the budget that everything behind this address shares."""

    def __init__(self, io: VenueIo, rest: BinanceRest) -> None:
        self._io = io
        self._rest = rest

    async def connect(self, route: str) -> VenueSocket:
        """Open a websocket at `route`. Raises VenueLost."""
        return await self._io.connect(route)

    async def get(self, request: Request) -> Answer:
        """Send a GET when the budget has room for it. Raises VenueLost, also during a stand-down."""
        priority = Priority.VERIFY if request.is_check else Priority.BACKFILL
        try:
            answer = await self._rest.ask(request.path, dict(request.params), request.weight, None, priority)
        except UpstreamError as error:
            raise VenueLost(str(error)) from error
        return Answer(answer.status, {}, answer.body)


def reach(name: str, settings: Settings, runtime: Runtime) -> NetVenueIo:
    """The connections to the exchange called `name`."""
    exchange = EXCHANGES[name]
    rest, sockets = (settings.destination(getattr(settings, each)) for each in (exchange.rest_url, exchange.ws_url))
    return NetVenueIo(rest, sockets, runtime)
