"""The ASGI layer that answers market data requests without FastAPI, whose routing costs more than the answers."""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.binance.error_body import BinanceError
from app.http.deadline import READING
from app.http.errors import UNKNOWN_ERROR, binance_response, store_unavailable
from app.http.intake import is_oversize, without_body
from app.http.klines import PATH
from app.http.slow import SlowAnswers
from app.ports.errors import StoreUnavailable

BOUNDS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

Respond = Callable[[Scope], Awaitable[Response]]
"""Makes the response to a GET or HEAD. Raises BinanceError, StoreUnavailable."""


class Timings:
    """A histogram of the time it takes to make klines answers that were not cached; an entry costs less than 1 µs."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def note(self, elapsed_s: float) -> None:
        """Count one answer that took `elapsed_s`."""
        self.counts[bisect_left(BOUNDS_S, elapsed_s)] += 1
        self.total_s += elapsed_s


class Direct:
    """ASGI layer that answers the paths with a responder; other and oversize requests go to `app`."""

    def __init__(
        self, app: ASGIApp, responders: Mapping[str, Respond], timings: Timings, slow: SlowAnswers | None = None
    ) -> None:
        self._app = app
        self._responders = responders
        self._timings = timings
        self._slow = slow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        respond = self._responders.get(scope["path"]) if scope["type"] == "http" else None
        if respond is None or scope["method"] not in READING or is_oversize(scope):
            await self._app(scope, receive, send)
            return
        began_s = perf_counter()
        if scope["method"] == "HEAD":
            send = without_body(send)
        try:
            response = await respond(scope)
        except BinanceError as error:
            response = binance_response(error)
        except StoreUnavailable as error:
            response = store_unavailable(scope["path"], error)
        except Exception:
            await binance_response(UNKNOWN_ERROR)(scope, receive, send)
            raise  # the server logs it
        if self._slow is not None:  # before it is sent: that a client reads slowly is not the node's doing
            self._slow.note(scope, perf_counter() - began_s, response.status_code)
        await response(scope, receive, send)
        if scope["path"] == PATH:
            self._timings.note(perf_counter() - began_s)
