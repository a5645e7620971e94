"""The control endpoints of the sandbox under /sandbox, without weight, limits and faults."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.sandbox import truth
from infra.sandbox.answers.statistics import SERIES
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import BEFALLING_KINDS, MARKET_KINDS, Fault, FaultBoard, parse_fault
from infra.sandbox.grid import HOUR_MS, INTERVALS, SECOND_MS
from infra.sandbox.journal import Journal
from infra.sandbox.limits import WeightLimiter
from infra.sandbox.params import upper
from infra.sandbox.sockets import SocketServer
from infra.sandbox.statistics import PERIOD_MS
from infra.sandbox.venue_server import VenueSockets
from infra.sandbox.venue_truth import VenueTruth

TRUTH_ROWS_MAX = 20_000


@dataclass(slots=True)
class Control:
    """The ASGI application under /sandbox; tests call its methods."""

    exchange: Exchange
    limiter: WeightLimiter
    faults: FaultBoard
    journal: Journal
    sockets: SocketServer
    venue_sockets: VenueSockets

    def inject(self, fault: Fault) -> int:
        """Activate a fault and return its number. Raises ValueError if the market refuses it."""
        now_ms = self.exchange.clock.now_ms()
        if fault.kind in MARKET_KINDS:
            assert fault.symbol is not None, "market faults name a symbol"
            if fault.kind == "list_symbol":
                self.exchange.universe.list_symbol(fault.symbol, now_ms)
            elif fault.kind == "onboard_date":
                assert fault.from_ms is not None, "onboard_date names a time"
                self.exchange.universe.state_onboard(fault.symbol, fault.from_ms, now_ms)
            elif fault.kind == "relist_symbol":
                self.exchange.universe.relist_symbol(fault.symbol, now_ms, fault.in_s * SECOND_MS)
            else:
                self.exchange.universe.delist_symbol(fault.symbol, now_ms, now_ms + fault.in_s * SECOND_MS)
        if fault.kind == "reset":
            self.venue_sockets.venues.reset(fault, now_ms)
        number = self.faults.add(fault, now_ms)
        if fault.kind in BEFALLING_KINDS:
            self.sockets.befall(now_ms)
            self.venue_sockets.venues.befall(now_ms)
            self.venue_sockets.wake()
            if fault.count is None and fault.duration_s is None:
                self.faults.clear(number)
        return number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        head, _, rest = request.url.path.removeprefix("/sandbox/").partition("/")
        answers: dict[tuple[str, str], Callable[[Request, str], Awaitable[object]]] = {
            ("POST", "faults"): self._add,
            ("GET", "faults"): self._list,
            ("DELETE", "faults"): self._clear,
            ("GET", "requests"): self._requests,
            ("GET", "truth"): self._truth,
            ("GET", "status"): self._status,
        }
        answer = answers.get((request.method, head))
        status = 200
        try:
            body = await answer(request, rest) if answer else {"error": "no such endpoint"}
            status = 200 if answer else 404
        except (ValueError, KeyError) as error:
            status, body = 400, {"error": str(error.args[0] if error.args else error)}
        await Response(orjson.dumps(body), status, media_type="application/json")(scope, receive, send)

    async def _add(self, request: Request, rest: str) -> object:
        del rest
        wish = orjson.loads(await request.body())
        faults = [parse_fault(each) for each in (wish if isinstance(wish, list) else [wish])]
        numbers = [self.inject(fault) for fault in faults]
        return {"ids": numbers} if isinstance(wish, list) else {"id": numbers[0]}

    async def _list(self, request: Request, rest: str) -> object:
        del request, rest
        return {"faults": self.faults.describe(self.exchange.clock.now_ms())}

    async def _clear(self, request: Request, rest: str) -> object:
        del request
        self.limiter.pardon()
        return {"cleared": self.faults.clear(int(rest) if rest else None)}

    async def _requests(self, request: Request, rest: str) -> object:
        del rest
        since = int(request.query_params.get("since", "0"))
        return {"last": self.journal.written, "requests": [asdict(entry) for entry in self.journal.since(since)]}

    async def _truth(self, request: Request, rest: str) -> object:
        """The true rows of klines, or of `endpoint`: one of the statistics of 5 minutes, or fundingRate.

        Closed rows with startTime ≤ open time (or funding time) ≤ endTime, at most the first 20,000. With `venue`, what
        `_true_of_venue` tells.
        """
        del rest
        query = request.query_params
        if "venue" in query:
            return await asyncio.to_thread(self._true_of_venue, query)
        start_ms, end_ms, symbol = int(query["startTime"]), int(query["endTime"]) + 1, upper(query["symbol"])
        endpoint = query.get("endpoint")
        if endpoint is None:
            return await self._true_klines(query.get("interval", "1m"), symbol, start_ms, end_ms)
        if endpoint not in {*SERIES, "fundingRate"}:
            raise ValueError(f"endpoint must be fundingRate or one of {', '.join(SERIES)}")
        if endpoint == "fundingRate":
            end_ms = min(end_ms, start_ms + TRUTH_ROWS_MAX * HOUR_MS)
            return await asyncio.to_thread(truth.fundings, self.exchange, symbol, start_ms, end_ms)
        end_ms = min(end_ms, start_ms + TRUTH_ROWS_MAX * PERIOD_MS)
        return await asyncio.to_thread(truth.statistics, self.exchange, symbol, endpoint, start_ms, end_ms)

    def _true_of_venue(self, query: Mapping[str, str]) -> object:
        """`what`: trades (or aggregates) by first and last, book by sequence, fundings, openInterest by time."""
        told, now_ms = VenueTruth(self.venue_sockets.venues), self.exchange.clock.now_ms()
        venue, symbol = query["venue"], query["symbol"]
        match query.get("what"):
            case "trades":
                return told.trades(venue, symbol, int(query["first"]), int(query["last"]), now_ms)
            case "aggregates":
                return told.aggregates(symbol, int(query["first"]), int(query["last"]), now_ms)
            case "book":
                return told.book(venue, symbol, int(query["sequence"]), int(query.get("levels", "400")), now_ms)
            case "fundings":
                return told.fundings(venue, symbol, int(query["startTime"]), int(query["endTime"]) + 1, now_ms)
            case "openInterest":
                return told.open_interest(venue, symbol, int(query.get("time", now_ms)))
        raise ValueError("what must be trades, aggregates, book, fundings or openInterest")

    async def _true_klines(self, interval: str, symbol: str, start_ms: int, end_ms: int) -> object:
        if interval not in INTERVALS:
            raise ValueError("Invalid interval.")
        now_ms = self.exchange.clock.now_ms()
        item = self.exchange.universe.find(symbol, now_ms) or self.exchange.universe.find_ever(symbol, start_ms, end_ms)
        if item is None:
            raise ValueError("Invalid symbol.")
        grid = item.grid(interval)
        first = max(grid.index(item.onboard_ms), grid.index(start_ms - 1) + 1)
        end_ms = min(end_ms, grid.open_ms(first + TRUTH_ROWS_MAX))
        return await asyncio.to_thread(self.exchange.closed_rows, item, interval, start_ms, end_ms, now_ms)

    async def _status(self, request: Request, rest: str) -> object:
        del request, rest
        return {
            "now_ms": self.exchange.clock.now_ms(),
            "weight_limit": self.limiter.weight_limit,
            "weight_total": self.limiter.weight_total,
            "bucket_totals": self.limiter.bucket_totals,
            "used_weight_max": self.limiter.used_weight_max,
            "answers_429": self.limiter.answers_429,
            "answers_418": self.limiter.answers_418,
            "bans": self.limiter.bans,
            "requests_while_banned": self.journal.banned_requests,
            "requests": self.journal.written,
            "sockets": len(self.sockets.connections),
            "streams": self.sockets.hub.streams,
            "venue_sockets": len(self.venue_sockets.venues.peers),
            "venue_frames_sent": self.venue_sockets.frames_sent,
            "frames_sent": self.sockets.hub.frames_sent,
        }
