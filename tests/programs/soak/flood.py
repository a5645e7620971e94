"""A sandbox exchange whose kline streams carry many times the frames of the real market, as a process of its own.

Everything but the number of frames is the sandbox's: REST agrees with the sockets, closing frames come once and when
they are due. A live frame is encoded once a quarter of a second and sent as often as the rate asks: the node's work
with it is the same as with different ones.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Final

import uvicorn

from infra.process.clock import SystemClock
from infra.sandbox.candles import QUANTUM_MS
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard
from infra.sandbox.feeds import FeedHub, SymbolFeeds
from infra.sandbox.render import rest_row, stream_event
from infra.sandbox.server import HOST, SandboxApp, create_app

MARKET_FRAMES_A_SECOND: Final = 1.4
"""Of one 1m stream, the mean of all symbols.

Recorded daily trade counts (../shared/realdata, 480 traded symbols of June 2025) and one frame for each 250 ms with a
trade (binance-facts section 5.4) give 4·(1 − exp(−trades in 250 ms)), 1.40 on average: too many rather than too few,
for real trades come in bunches. The recorded socket capture (four symbols, July 2021) has 67 frames in 28.9 s: 0.58.
For 600 symbols 1.4 is 840 frames a second; the most there can be is 2,400.
"""

LATE_MS_MAX: Final = 1_000  # of frames made up for; more at once would be cut off as a slow reader's
SHARE_MAX: Final = 4.0  # of one symbol's frames sent for silent ones; right after a close nearly all are silent
WEIGHT_LIMIT: Final = 100_000  # a soak is about frames; its cold start need not take an hour of weight


class FloodHub(FeedHub):
    """Feeds that send each state of a live kline `rate` times as often as the market would, spread evenly.

    What a late tick did not send the next one does, and what symbols without trades do not send the others do: the rate
    is kept.
    """

    def __init__(self, exchange: Exchange, faults: FaultBoard, rate: float) -> None:
        super().__init__(exchange, faults)
        self._market = exchange.market
        self._frames_a_ms = MARKET_FRAMES_A_SECOND * rate / 1000
        self._due: dict[str, float] = {}
        self._ticked_ms = self._elapsed_ms = 0
        self._idle = self._busy = 0
        self._share = 1.0
        self._is_open = False

    def open(self) -> None:
        """Begin with the flood; until then live klines stand still and only closing frames come."""
        self._is_open = True

    def tick(self, now_ms: int) -> None:
        """Send what is due at `now_ms`."""
        self._elapsed_ms = min(now_ms - self._ticked_ms, LATE_MS_MAX)
        self._ticked_ms = now_ms
        self._share = 1 + self._idle / self._busy if self._busy else 1.0
        self._idle = self._busy = 0
        super().tick(now_ms)

    def _advance(self, feeds: SymbolFeeds, now_ms: int, *, faulty: bool) -> None:
        minute_ms = now_ms // 60_000 * 60_000
        if feeds.minute_ms != minute_ms:
            self._turn_minute(feeds, minute_ms, now_ms)
        item = feeds.item
        while item is not None and feeds.closing and feeds.closing[0].due_ms <= now_ms:
            self._send_closed(feeds, item, feeds.closing.popleft().minute_ms, now_ms, faulty=faulty)
        if not self._is_open:
            return
        minute = None
        if feeds.walk is not None and item is not None and not feeds.closing:
            minute = feeds.walk.candle_at(minute_ms, (now_ms - minute_ms) // QUANTUM_MS)
        if minute is None or item is None:
            self._idle += 1
            return
        self._busy += 1
        due = self._due.get(feeds.symbol, 0.0) + self._frames_a_ms * self._elapsed_ms * min(self._share, SHARE_MAX)
        self._due[feeds.symbol] = due - int(due)
        for feed in feeds.feeds.values():
            row = rest_row(item, minute, minute_ms + 59_999)
            event = stream_event(item, feed.interval, row, now_ms, closed=False)
            for subscriber in tuple(feed.subscribers):
                self.frames_sent += int(due)
                for _ in range(int(due)):
                    subscriber.deliver(feed.name, event)


def serve(app: SandboxApp, port: int) -> None:
    """Serve an exchange until SIGTERM."""
    uvicorn.run(
        app,
        host=HOST,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        lifespan="on",
        log_level="warning",
        access_log=False,
        date_header=False,
    )


def main(arguments: Sequence[str]) -> None:
    """Run until SIGTERM; the flood begins with SIGUSR1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--symbols", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    wish = parser.parse_args(arguments)
    app = create_app(SystemClock(), symbols=wish.symbols, weight_limit=WEIGHT_LIMIT)
    hub = app.sockets.hub = FloodHub(app.exchange, app.faults, wish.rate)
    signal.signal(signal.SIGUSR1, lambda _signal, _frame: hub.open())
    serve(app, wish.port)


if __name__ == "__main__":
    main(sys.argv[1:])
